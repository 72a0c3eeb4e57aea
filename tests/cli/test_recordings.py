"""One argument that names several recordings."""

from __future__ import annotations

import json

import pytest

from vivavoce.base.errors import AudioError, ConfigError
from vivavoce.cli.recordings import expand_recordings


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with recordings in it and in a folder below."""
    (tmp_path / "deep").mkdir()
    for name in ("a.wav", "b c.wav", "x,y.wav", "[z]", "deep/a.wav", "deep/d.wav"):
        (tmp_path / name).write_bytes(b"sound")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a.wav", ["a.wav"]),
        (" a.wav ", ["a.wav"]),
        ("b c.wav", ["b c.wav"]),
        ("a.wav,b c.wav , deep/d.wav", ["a.wav", "b c.wav", "deep/d.wav"]),
        ("a.wav,a.wav,", ["a.wav", "a.wav"]),
        ("x,y.wav", ["x,y.wav"]),
        ('["a.wav", "x,y.wav"]', ["a.wav", "x,y.wav"]),
        ("[z]", ["[z]"]),
        ("-", ["-"]),
        ("a.wav,-", ["a.wav", "-"]),
    ],
)
def test_paths_commas_and_arrays(text: str, wanted: list[str]) -> None:
    assert expand_recordings(text) == wanted


def test_a_list_is_relative_to_itself_and_then_to_here(folder) -> None:
    absolute = str(folder / "b c.wav")
    lines = ["# turns", "", "a.wav", "  d.wav ", "x,y.wav", absolute, "# end"]
    (folder / "deep" / "list.txt").write_text("\n".join(lines), encoding="utf-8-sig")
    wanted = ["deep/a.wav", "deep/d.wav", "x,y.wav", absolute]
    assert expand_recordings("@deep/list.txt") == expand_recordings(" @ deep/list.txt") == wanted
    (folder / "here.txt").write_bytes(b"a.wav\r\nb c.wav\r\n")
    assert expand_recordings("@here.txt") == ["a.wav", "b c.wav"]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("no.wav", AudioError, "no.wav does not exist"),
        ("a.wav,no.wav,nor.wav", AudioError, "no.wav, nor.wav do not exist"),
        ('["no.wav"]', AudioError, "no.wav does not exist"),
        ('["a.wav", 5]', ConfigError, "something else than paths"),
        ("[a.wav]", ConfigError, "no JSON array"),
        ("[]", ConfigError, "names no recording"),
        ("", ConfigError, "names no recording"),
        (" , ", ConfigError, "names no recording"),
        ("@none.txt", ConfigError, "the list none.txt cannot be read"),
        ("@deep", ConfigError, "cannot be read"),
        ("@empty.txt", ConfigError, "the list empty.txt names no recording"),
        ("@gb.txt", ConfigError, "not UTF-8"),
        ("@lost.txt", AudioError, r"q\.wav does not exist; looked in \. and in the current folder"),
        ("a" * 5000, AudioError, "does not exist"),
        (json.dumps(["\0"]), AudioError, "does not exist"),
    ],
)
def test_refusals_name_what_is_missing(folder, text: str, error: type, words: str) -> None:
    (folder / "empty.txt").write_text("# nothing\n\n", encoding="utf-8")
    (folder / "gb.txt").write_bytes("录音.wav".encode("gb18030"))
    (folder / "lost.txt").write_text("a.wav\nq.wav\n", encoding="utf-8")
    with pytest.raises(error, match=words):
        expand_recordings(text)
