"""What a bundle with an added language knows of it: heard, answered, refused, typed and spoken.

python recipes/add_language/measure_language.py --model nano --speech runs/german/speech --json runs/german/german.json

The new voice is read by pocketsphinx with its English model: a closed grammar of the questions, numbers opened, words
spelled in the English sounds that are nearest (language_judge.py). Its error on the synthesizer's originals stands
beside. What is left of the old language is measured by recipes/nano/evaluate.py on the same bundle.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1] / "nano"))
from evaluate import plain
from figures import Figure, print_table, share, word_error
from language_judge import LanguageJudge
from languages import LANGUAGES
from make_language_speech import record
from reading_back import through
from speech_data import RATE, SpeechShards

import vivavoce


def heard(model: Any, source: tuple[Any, int], language: Any) -> tuple[str, str]:
    """(transcript, answer) of a recording, folded; both empty if it was refused."""
    part = {"type": "audio", "audio": source[0], "sampling_rate": source[1]}
    reply = model.chat([{"role": "user", "content": [part]}])
    texts = (reply.transcript, reply.text) if reply.understood else ("", "")
    transcript, answer = (language.words_of(plain(text)) for text in texts)
    return transcript, answer


def hearing(model: Any, shards: SpeechShards, language: Any, limit: int) -> list[Figure]:
    """Sentences never heard, voices never heard, and what must be refused."""
    figures, new = (
        [],
        {language.words_of(i.question) for i in language.items() if i.fact in language.held_out_facts()},
    )
    for split, name in (
        ("test_sentence", "held-out sentences, known voices"),
        ("test_voice", "held-out voices"),
    ):
        rows = [row for row in shards.rows if row["split"] == split][:limit]
        found = [heard(model, (shards.samples(row), RATE), language) for row in rows]
        right = [answer == row["answer"] for row, (_, answer) in zip(rows, found, strict=True)]
        exact = [said == row["text"] for row, (said, _) in zip(rows, found, strict=True)]
        figures += [
            share(split, f"{name}: transcripts exact", exact),
            share(split, f"{name}: answers right", right),
        ]
        if split == "test_sentence":
            unseen = [ok for row, ok in zip(rows, right, strict=True) if row["text"] in new]
            figures.append(share(split, "... answers right on facts never trained", unseen))
    rows = [row for row in shards.rows if row["split"] == "test_unknown"][: limit // 2]
    refused = [not heard(model, (shards.samples(row), RATE), language)[0] for row in rows]
    return [*figures, share("refused", "sentences outside the domain refused", refused)]


def typed(model: Any, language: Any, limit: int) -> list[Figure]:
    """Typed questions, facts trained and never trained."""
    unseen, figures = language.held_out_facts(), []
    items = list({item.fact: item for item in language.items()}.values())
    for name, rows in (
        ("trained", [i for i in items if i.fact not in unseen][:: max(1, len(items) // limit)]),
        ("never trained", [i for i in items if i.fact in unseen]),
    ):
        answers = [language.words_of(plain(model.chat(i.question).text)) for i in rows]
        right = [answer == language.words_of(i.answer) for answer, i in zip(answers, rows, strict=True)]
        figures.append(share("typed", f"typed questions, facts {name}: answers right", right))
    return figures


def speaking(model: Any, shards: SpeechShards, language: Any, limit: int) -> list[Figure]:
    """Held-out questions by the new voice, the originals, and these through the codec, read by the judge."""
    judge, codec = LanguageJudge(language), model.processor.codec_out
    spelled = {language.words_of(i.question): i.question for i in language.items()}
    texts = sorted({row["text"] for row in shards.rows if row["split"] == "test_sentence"})[:limit]
    pairs: dict[str, list[tuple[str, str]]] = {}
    for text in texts:
        job = {"said": spelled[text], "voice": language.speaker, "language": language.name, "seed": 0}
        original = record(job)[1]
        assert original is not None
        said = model.say(text, voice=language.name)
        wave = original.astype("float32") / 32768
        sounds = {
            "originals": (wave, RATE),
            "originals through the codec": through(codec, wave),
            "the new voice": (said.audio, said.sample_rate),
        }
        for name, sound in sounds.items():
            pairs.setdefault(name, []).append((text, judge.read(*sound)))
    return [word_error("spoken", f"word error of {name}, by the judge", rows) for name, rows in pairs.items()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--no-voice", action="store_true", help="nothing is spoken")
    parser.add_argument("--speech", type=Path, default=Path("runs/german/speech"))
    parser.add_argument("--language", choices=LANGUAGES, default="german")
    parser.add_argument("--limit", type=int, default=150)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    language, shards, model = LANGUAGES[args.language], SpeechShards(args.speech), vivavoce.load(args.model)
    figures = [*hearing(model, shards, language, args.limit), *typed(model, language, args.limit)]
    if not args.no_voice:
        figures += speaking(model, shards, language, args.limit // 2)
    print_table(figures, args.model)
    if args.json:
        args.json.write_text(json.dumps([f.as_json() for f in figures], indent=1) + "\n")


if __name__ == "__main__":
    main()
