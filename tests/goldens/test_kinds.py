"""No golden case goes unchecked: unknown kinds and unread files fail, known gaps are skipped, all by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.goldens import discovery
from tests.goldens.discovery import CHECKS, NOT_YET, all_folders, kind_of, label, unchecked

FOLDERS = all_folders()
LATER = [
    (folder / entry, why)
    for folder in FOLDERS
    for entry, why in NOT_YET.get(kind_of(folder) or "", {}).items()
    if (folder / entry).exists()
]


def test_there_is_something_to_check() -> None:
    assert FOLDERS, f"no golden folder under {', '.join(map(str, discovery.ROOTS))}"


@pytest.mark.parametrize("folder", FOLDERS, ids=label)
def test_every_folder_has_a_check_that_reads_all_of_it(folder: Path) -> None:
    problems = unchecked(folder)
    assert not problems, "\n".join(problems)
    module = Path(__file__).parent / CHECKS[str(kind_of(folder))]
    assert module.is_file(), f"{folder} should be checked by {module.name}, which does not exist"


@pytest.mark.parametrize(("path", "why"), LATER, ids=[label(p) for p, _ in LATER])
def test_not_checked_yet(path: Path, why: str) -> None:
    pytest.skip(f"{path}: {why}")


def test_a_folder_of_an_unknown_or_unbuilt_kind_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(CHECKS, "snac")
    for name in ("whisper_vq", "snac"):
        (tmp_path / name).mkdir()
        [problem] = unchecked(tmp_path / name)
        assert str(tmp_path / name) in problem


def test_a_file_that_no_check_reads_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "jan_llama3"
    (folder / "adam_mini").mkdir(parents=True)
    (folder / "encodec_codes.json").touch()
    assert unchecked(folder) == []
    (folder / "whisper_codes.json").touch()
    [problem] = unchecked(folder)
    assert "whisper_codes.json" in problem


def test_a_folder_under_another_name_is_recognised(tmp_path: Path) -> None:
    folder = tmp_path / "set_b"
    folder.mkdir()
    assert kind_of(folder) is None
    (folder / "encodec_codes.json").touch()
    assert kind_of(folder) == "jan_llama3"
