"""Texts to be read aloud: lists in the form of Seed-TTS-eval (``meta.lst``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp

from vivavoce.base.errors import DataError
from vivavoce.evaluation.results import Question
from vivavoce.evaluation.tasks.sources import HubSet, make
from vivavoce.evaluation.tasks.speaking import speak, voice_of
from vivavoce.evaluation.tasks.task import Case, Task, TaskOptions, ask_typed, safe_id

SEED_TTS = HubSet("zhaochenyang20/seed-tts-eval", "en", "meta.lst", licence="CC-BY-4.0", known="card")


def seed_tts(options: TaskOptions) -> Task:
    """Seed-TTS-style reading: the words of the answer are recognised and compared; ``config`` is "en" or "zh".

    Lines are ``id|prompt text|prompt recording|text[|recording of the text]``. The prompt's voice is not copied: models
    here speak in voices of their own.
    """
    language = options.config or "en"

    def cases() -> Iterator[Case]:
        fetch = _files(options, language)
        text = Path(fetch("meta.lst")).read_text(encoding="utf-8")
        rows = [line.strip().split("|") for line in text.splitlines() if line.strip()]
        if bad := [row for row in rows if len(row) not in (4, 5)]:
            raise DataError(f"meta.lst has a line of {len(bad[0])} fields; wanted id|text|recording|text.")
        for row in islice(rows, options.limit):
            said = row[3].strip()
            conversation = ask_typed(row[0], said)
            original = row[4] if len(row) == 5 else f"wavs/{row[0]}.wav"
            if (found := fetch.optional(original)) is not None:  # type: ignore[attr-defined]
                conversation.meta["original"] = str(found)
            yield Case(Question(safe_id(row[0]), (said,), said, language=language), conversation)

    metrics = [{"name": "cer" if language in ("zh", "ja") else "wer"}]
    return make("seed_tts", "speak", SEED_TTS, cases, metrics, options, "")


class _Folder:
    """Files of a set's folder, on the hub or here."""

    def __init__(self, get: Callable[[str], Path]) -> None:
        self._get = get

    def __call__(self, name: str) -> Path:
        return self._get(name)

    def optional(self, name: str) -> Path | None:
        """A file, or None where there is none."""
        try:
            path = self._get(name)
        except (OSError, ValueError):
            return None
        return path if path.is_file() else None


def _files(options: TaskOptions, language: str) -> _Folder:
    if options.source == "hub":
        from huggingface_hub import hf_hub_download

        def get(name: str) -> Path:
            found = hf_hub_download(
                SEED_TTS.path, f"{language}/{name}", repo_type="dataset", revision=options.revision
            )
            return Path(found)

        return _Folder(get)
    folder = Path(options.source)
    if options.source == "twin":
        folder = (options.cache or Path(mkdtemp(prefix="vivavoce-twin-"))) / "seed_tts"
        _write_twin(folder)
    if not (folder / "meta.lst").is_file():
        raise DataError(f"{folder} has no meta.lst; give the folder of one language of Seed-TTS-eval.")
    return _Folder(lambda name: folder / name)


def _write_twin(folder: Path) -> None:
    (folder / "wavs").mkdir(parents=True, exist_ok=True)
    lines = []
    for i, text in enumerate(("what is two plus three", "what comes after nine", "good morning")):
        (folder / "wavs" / f"twin{i}.wav").write_bytes(speak(text, voice_of("en", i))["bytes"])
        lines.append(f"twin{i}|hello there|wavs/twin{i}.wav|{text}")
    (folder / "meta.lst").write_text("\n".join(lines) + "\n", encoding="utf-8")
