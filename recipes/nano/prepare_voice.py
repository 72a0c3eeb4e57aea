"""Turn flite's utterances with phone times into codes and word-aligned phones, of one voice or several.

python recipes/nano/prepare_voice.py --speech runs/nano/speech --codec runs/nano/codec/model --out runs/nano/voice.pt
python recipes/nano/prepare_voice.py --speech runs/nano/speech runs/nano2/voices/* --codec runs/nano/codec/model \
    --voices flite:slt=default flite:awb=awb --out runs/nano2/voices.pt
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import torch
from speech_data import SpeechShards

from vivavoce.codecs.nano import NanoCodec
from vivavoce.models.voice.aligned import AlignedVoiceConfig
from vivavoce.models.voice.teaching import slot_frames
from vivavoce.models.voice.word_alignment import align_words


def read_names(pairs: list[str]) -> dict[str, str]:
    """Synthesizer's voice -> the name the model gives it, in order; the first must be ``default``."""
    names = dict(pair.split("=", 1) for pair in pairs)
    if next(iter(names.values())) != "default" or len(set(names.values())) != len(names):
        raise SystemExit(f"voices are {pairs}; name the first 'default' and no two alike.")
    return names


def read_times(timed: list[str]) -> list[tuple[str, float]]:
    """flite's "phone:end" items."""
    return [(phone, float(end)) for phone, _, end in (item.partition(":") for item in timed)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--speech", type=Path, nargs="+", required=True, help="folders of make_speech.py or make_voices.py"
    )
    parser.add_argument("--codec", type=Path, required=True)
    parser.add_argument("--voices", nargs="+", default=["flite:slt=default"], metavar="VOICE=NAME")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = read_names(args.voices)
    codec = NanoCodec.from_folder(args.codec)
    slots = AlignedVoiceConfig(text_size=1).slot_levels
    frame_s = codec.spec.frame_samples / codec.spec.sample_rate
    items, skipped, counts = [], 0, dict.fromkeys(names.values(), 0)
    for folder in args.speech:
        data = SpeechShards(folder, {"voice", "test_spoken"})
        for row in data.rows:
            if row["voice"] not in names:
                continue
            aligned = None
            if row.get("phones"):
                frames = slot_frames(codec.encode(torch.from_numpy(data.samples(row))[None, None]), slots)
                aligned = align_words(row["text"].split(), read_times(row["phones"]), len(frames), frame_s)
            if aligned is None:
                skipped += 1
                continue
            name = names[row["voice"]]
            counts[name] += row["split"] == "voice"
            item = {"text": row["text"], "split": row["split"], "voice": name, **asdict(aligned)}
            items.append({**item, "codes": frames.to(torch.int16)})
    torch.save(
        {"items": items, "codec": codec.spec.weights, "frame_s": frame_s, "voices": list(names.values())},
        args.out,
    )
    print(f"{counts} utterances to learn, {skipped} left out (no phones, or a word without one)")


if __name__ == "__main__":
    main()
