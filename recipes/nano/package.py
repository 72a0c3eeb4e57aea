"""Put a trained run into the folder that the package ships.

python recipes/nano/package.py --lm runs/nano/lm --codec runs/nano/codec/model --tokenizer runs/nano/tokenizer \
    --out src/vivavoce/bundle/nano
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import checkpoint
from hearing import SILENCE_S
from network import Nano
from transformers import AutoTokenizer

from vivavoce.audio.files import write_audio
from vivavoce.audio.synthesis import synthesize
from vivavoce.base.records import write_record
from vivavoce.codecs.nano import NanoCodec
from vivavoce.models.config import SpeechLMConfig
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.speech_lm import SpeechLM
from vivavoce.models.voice.aligned import AlignedVoiceConfig
from vivavoce.tokens.phones import PHONES

QUESTION, QUESTION_VOICE = "what is seven plus five", "flite:awb"
GATE_FLOOR = -1.2  # log probability per token, by tune_gate.py
GATE_FLOORS = {"german": -1.4}  # of further languages
DESCRIPTION = (
    "Embedded bundle: closed-domain spoken questions and answers, repeats and digits, in English{more}."
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lm", type=Path, required=True)
    parser.add_argument("--codec", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--voices", nargs="+", default=["default"], help="names in the order of training")
    parser.add_argument(
        "--lexicons", type=Path, nargs="*", default=[], help="lexicon_VOICE.txt of voices in other languages"
    )
    parser.add_argument("--faint-ears", action="store_true", help="if it was trained so")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    trained = Nano(len(tokenizer), args.faint_ears)
    weights = checkpoint.weights(args.lm)
    weights = {key: value for key, value in weights.items() if not key.startswith("phone_head.")}
    speaks = any(key.startswith("voice.") for key in weights)
    phones = len(weights["voice.phone_embeddings.0.weight"]) - 1 if speaks else len(PHONES)
    voice = AlignedVoiceConfig(
        text_size=trained.language_model.config.hidden_size, num_phones=phones, voices=tuple(args.voices),
        own_pace="voice.durations.voice.weight" in weights,
    )  # fmt: skip
    if speaks:
        trained.add_voice(voice)
    trained.load_state_dict(weights)
    languages = [path.stem.removeprefix("lexicon_") for path in args.lexicons]
    config = SpeechLMConfig(
        text_config=trained.language_model.config,
        audio_in={
            "type": "embeddings",
            "encoder": {"type": "mel_ctc", **write_record(trained.encoder_config)},
            "connector": {"type": "stack", **write_record(trained.connector_config)},
            "audio_token_id": tokenizer.convert_tokens_to_ids("<|audio|>"),
            "silence_s": SILENCE_S,
            "transcript_first": True,
            "answer_from": "transcript",
            "gate": "joint",
            "gate_floor": GATE_FLOOR,
            "gate_floors": {name: GATE_FLOORS[name] for name in languages if name in GATE_FLOORS},
        },
        audio_out={
            "type": "tokens", "codec": "codec", "alignment": "phone", "speakers": list(voice.voices),
            "voice": {"type": "aligned", **write_record(voice)},
        } if speaks else None,
        text_form="spoken",
        refusal_text="Sorry, I did not understand.",
        description=DESCRIPTION.format(more="".join(f" and {name.capitalize()}" for name in languages)),
    )  # fmt: skip
    model = SpeechLM(config)
    model.load_state_dict(trained.state_dict(), strict=True)
    args.out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(args.out)
    SpeechProcessor.for_config(tokenizer, config).save_pretrained(args.out)
    shutil.rmtree(args.out / "codec", ignore_errors=True)
    for lexicon in args.lexicons:
        shutil.copy(lexicon, args.out)
    NanoCodec.from_folder(args.codec).save(args.out / "codec")
    waveform, rate = synthesize(QUESTION, QUESTION_VOICE)
    write_audio(args.out / "question.wav", waveform, rate)
    size = sum(f.stat().st_size for f in args.out.rglob("*") if f.is_file())
    print(f"{args.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
