"""Recordings of a flite voice as rows, as if a person had read sentences: what the curve of this recipe is made from.

python recipes/nano/make_voices.py --voice flite:rms --utterances 2000 --short 0.15 --out runs/add_voice/speech
python recipes/add_voice/make_recordings.py --speech runs/add_voice/speech --out runs/add_voice/rms
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "nano"))
from speech_data import RATE, SpeechShards

from vivavoce.audio.files import write_audio


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    (args.out / "clips").mkdir(parents=True, exist_ok=True)
    data, rows = SpeechShards(args.speech, {"voice"}), []
    for number, row in enumerate(data.rows):
        clip = f"clips/{number:05d}.wav"
        write_audio(args.out / clip, data.samples(row), RATE)
        part = {
            "type": "audio",
            "audio": clip,
            "transcript": row["text"],
            "language": "en",
            "speaker": row["voice"],
        }
        messages = [{"role": "assistant", "content": [part]}]
        rows.append({"id": f"{number:05d}", "task": "tts", "messages": messages})
    (args.out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"{len(rows)} recordings, {sum(r['samples'] for r in data.rows) / RATE / 60:.1f} minutes")


if __name__ == "__main__":
    main()
