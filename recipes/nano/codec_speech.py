"""Write the utterances that the codec learns as wav files.

python recipes/nano/codec_speech.py --speech runs/nano/speech --out runs/nano/codec_speech

The splits train, unknown and voice; what is held out stays out. Files that are there stay.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from speech_data import RATE, SpeechShards

from vivavoce.audio.files import write_audio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    data = SpeechShards(args.speech, {"train", "unknown", "voice"})
    for number, row in enumerate(data.rows):
        file = args.out / f"{number // 1000:03d}" / f"{number:06d}.wav"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_audio(file, data.samples(row), RATE)
    print(f"{len(data.rows)} utterances in {args.out}")


if __name__ == "__main__":
    main()
