"""Speech to text: LibriSpeech, Common Voice, FLEURS; and to text of another language: FLEURS, CoVoST 2."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from vivavoce.base.errors import ConfigError
from vivavoce.evaluation.results import Question
from vivavoce.evaluation.tasks.sources import HubSet, Row, hub_task, make, read_rows
from vivavoce.evaluation.tasks.speaking import speak, voice_of
from vivavoce.evaluation.tasks.task import Case, Task, TaskOptions, ask_aloud, safe_id

TRANSCRIBE = "Transcribe the speech."
LANGUAGES = {
    "ar": "Arabic", "ca": "Catalan", "de": "German", "en": "English", "es": "Spanish", "fr": "French", "hi": "Hindi",
    "it": "Italian", "ja": "Japanese", "nl": "Dutch", "pt": "Portuguese", "ru": "Russian", "sv": "Swedish",
    "tr": "Turkish", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
SENTENCES: dict[str, list[str]] = {
    "en": [
        "the ship left the harbour at noon",
        "he opened the window and looked out",
        "rain fell on the roof all night",
    ],
    "de": [
        "das schiff verließ am mittag den hafen",
        "er öffnete das fenster und sah hinaus",
        "es regnete die ganze nacht",
    ],
    "es": ["el barco salió del puerto al mediodía", "abrió la ventana y miró afuera", "llovió toda la noche"],
    "zh": ["船中午离开了港口", "他打开窗户向外看", "下了一整夜的雨"],
}
"""The same sentences in several languages, written for the twins."""


def language_of(code: str) -> str:
    """ISO 639-1 of codes such as "en_us", "cmn_hans_cn", "zh-CN" or "sv-SE"."""
    first = code.replace("-", "_").split("_")[0].lower()
    return {"cmn": "zh", "yue": "yue", "fil": "tl", "nb": "no"}.get(first, first)


def _spoken(language: str, number: int) -> tuple[str, dict[str, bytes]]:
    texts = SENTENCES.get(language, SENTENCES["en"])
    text = texts[number % len(texts)]
    return text, speak(text, voice_of(language, number))


def librispeech(part: str) -> Callable[[TaskOptions], Task]:
    """LibriSpeech, test-clean or test-other."""

    def view(row: Row, number: int) -> Case:
        text, speaker = row["text"].lower(), str(row["speaker_id"])
        asked = Question(safe_id(row["id"]), (text,), text, language="en", speaker=speaker)
        return Case(asked, ask_aloud(asked.id, row["audio"], text, "", "en", speaker))

    def twin() -> list[Row]:
        rows = []
        for i in range(4):
            text, audio = _spoken("en", i)
            about = {"file": f"{i}.flac", "audio": audio | {"path": f"{i}.flac"}, "text": text.upper()}
            rows.append({**about, "speaker_id": i % 2, "chapter_id": 1, "id": f"{i % 2}-1-{i:04d}"})
        return rows

    def made(options: TaskOptions) -> Task:
        hub = HubSet("openslr/librispeech_asr", part, "test", licence="CC-BY-4.0", known="memory")
        return hub_task(
            f"librispeech_{part}", "transcribe", hub, view, twin, [{"name": "wer"}], options, TRANSCRIBE
        )

    return made


librispeech_clean, librispeech_other = librispeech("clean"), librispeech("other")


def common_voice(options: TaskOptions) -> Task:
    """Common Voice, one language (``config``, English by default)."""
    language = language_of(options.config or "en")

    def view(row: Row, number: int) -> Case:
        text, speaker = row["sentence"], str(row["client_id"])[:12]
        asked = Question(f"cv{number:06d}", (text,), text, language=language, speaker=speaker)
        return Case(asked, ask_aloud(asked.id, row["audio"], text, "", language, speaker))

    def twin() -> list[Row]:
        rows = []
        for i in range(4):
            text, audio = _spoken(language, i)
            path = {"path": f"{i}.mp3"}
            rows.append(
                {
                    "client_id": f"speaker{i % 2}",
                    **path,
                    "audio": audio | path,
                    "sentence": text,
                    "locale": language,
                }
            )
        return rows

    # Mozilla took its own copies off the hub; this one keeps their columns
    hub = HubSet(
        "fixie-ai/common_voice_17_0", options.config or "en", "test", licence="CC0-1.0", known="memory"
    )
    return hub_task("common_voice", "transcribe", hub, view, twin, [{"name": "wer"}], options, TRANSCRIBE)


def _fleurs(config: str) -> HubSet:
    # its own branch needs a loading script, which current versions of datasets do not run; this branch is Parquet
    return HubSet(
        "google/fleurs", config, "test", revision="refs/convert/parquet", licence="CC-BY-4.0", known="card"
    )


def _fleurs_twin(config: str) -> Callable[[], list[Row]]:
    def twin() -> list[Row]:
        language, rows = language_of(config), []
        for i in range(3):
            text, audio = _spoken(language, i)
            row = {"id": i, "num_samples": 1, "path": f"{i}.wav", "audio": audio | {"path": f"{i}.wav"}}
            rows.append(
                {**row, "transcription": text, "raw_transcription": text, "gender": i % 2, "lang_id": 0}
            )
        return rows

    return twin


def fleurs(options: TaskOptions) -> Task:
    """FLEURS transcription, one language (``config``, "en_us" by default)."""
    config = options.config or "en_us"
    language = language_of(config)

    def view(row: Row, number: int) -> Case:
        text = row["transcription"]
        # several people read each sentence, which are not independent
        asked = Question(f"{row['id']}-{number}", (text,), text, language=language, cluster=str(row["id"]))
        return Case(asked, ask_aloud(asked.id, row["audio"], text, "", language))

    metrics = [{"name": "cer" if language in ("zh", "ja", "th", "lo", "my") else "wer"}]
    twin = _fleurs_twin(config)
    return hub_task("fleurs", "transcribe", _fleurs(config), view, twin, metrics, options, TRANSCRIBE)


def fleurs_translation(options: TaskOptions) -> Task:
    """FLEURS translation: ``config`` is "SOURCE-TARGET", "en_us-de_de" by default; ids join the sentences."""
    pair = options.config or "en_us-de_de"
    source, dash, target = pair.partition("-")
    if not dash:
        raise ConfigError(
            f"config of fleurs_translation is {pair!r}; wanted SOURCE-TARGET, such as en_us-de_de."
        )
    prompt = f"Translate the speech into {LANGUAGES.get(language_of(target), target)}."

    def rows_of(config: str) -> Iterator[Row]:
        own = options.source in ("hub", "twin")
        place = options.source if own else str(Path(options.source) / f"{config}.parquet")
        plain = dataclasses.replace(options, config=None, source=place)
        yield from read_rows(f"fleurs_{config}", _fleurs(config), _fleurs_twin(config), plain)

    def cases() -> Iterator[Case]:
        wanted: dict[Any, str] = {row["id"]: row["raw_transcription"] for row in rows_of(target)}
        rows = rows_of(source)
        both = ((n, row) for n, row in enumerate(rows) if row["id"] in wanted)
        for number, row in islice(both, options.limit):
            asked = Question(
                f"{row['id']}-{number}", (wanted[row["id"]],), row["raw_transcription"],
                language=language_of(target), cluster=str(row["id"]),
            )  # fmt: skip
            said = ask_aloud(asked.id, row["audio"], row["raw_transcription"], prompt, language_of(source))
            yield Case(asked, said)

    metrics = [{"name": "bleu"}, {"name": "chrf"}]
    return make("fleurs_translation", "listen", _fleurs(pair), cases, metrics, options, prompt)


def covost2(options: TaskOptions) -> Task:
    """CoVoST 2: ``config`` is "SOURCE_TARGET", "en_de" by default."""
    config = options.config or "en_de"
    source, _, target = config.partition("_")
    spoken, written = language_of(source), language_of(target)
    prompt = f"Translate the speech into {LANGUAGES.get(written, target)}."

    def view(row: Row, number: int) -> Case:
        speaker = str(row["client_id"])[:12]
        asked = Question(
            safe_id(row["id"]), (row["translation"],), row["sentence"], language=written, speaker=speaker
        )
        return Case(asked, ask_aloud(asked.id, row["audio"], row["sentence"], prompt, spoken, speaker))

    def twin() -> list[Row]:
        made = []
        for i in range(3):
            text, audio = _spoken(spoken, i)
            other = SENTENCES.get(written, SENTENCES["de"])[i]
            about = {"client_id": f"s{i}", "file": f"{i}.mp3", "audio": audio | {"path": f"{i}.mp3"}}
            made.append({**about, "sentence": text, "translation": other, "id": f"covost_{i}"})
        return made

    hub = HubSet("fixie-ai/covost2", config, "test", licence="CC-BY-NC-4.0 (CoVoST 2: CC0)", known="card")
    return hub_task(
        "covost2", "listen", hub, view, twin, [{"name": "bleu"}, {"name": "chrf"}], options, prompt
    )
