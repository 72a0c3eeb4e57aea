"""Each effect of `augment` does what its label says, measured on the recording that it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.build.recorded_rows import RATE, heard, recorded, save_voices, voice
from tests.data.build.stand_ins import run

from vivavoce.audio.augment import rms, room_response
from vivavoce.audio.files import write_audio
from vivavoce.base.errors import ConfigError
from vivavoce.data.build.contract import Context
from vivavoce.data.build.sounds.backgrounds import ClipFolder
from vivavoce.data.build.speech.loudness import speech_level_db
from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.recordings import encode_flac


def apply(
    row: Conversation, root: Path = Path(), seed: int = 0, **effect: Any
) -> tuple[np.ndarray, dict[str, Any]]:
    """What an effect leaves of a row's recording, and what it says of itself."""
    ((made,),) = run("augment", {"effects": [effect]}, Context(seed=seed, root=root), [row])
    wave, part = heard(made)
    return wave, part.labels.get("augment", {}).get("effects", [{}])[0]


def db(ratio: float) -> float:
    return 20 * float(np.log10(ratio))


@pytest.mark.parametrize(
    "kind", ["white", "pink", "brown", "hum", "impulses", "chords", "babble", "recordings"]
)
@pytest.mark.parametrize("snr", [-3.0, 12.0, 30.0])
def test_the_asked_ratio_is_the_measured_one(kind: str, snr: float, tmp_path: Path) -> None:
    folder = {"folder": "voices"} if kind in ("babble", "recordings") else {}
    save_voices(tmp_path / "voices", seconds=0.7)
    for seed in range(3):
        row = recorded(seed, 0.2 * voice(1.5, 110 + 20 * seed))
        clean = heard(row)[0]
        for level, signal in (("clip", rms(clean)), ("speech", 10 ** (speech_level_db(clean, RATE) / 20))):
            noisy, told = apply(
                row, tmp_path, seed, type="noise", kinds=[kind], snr_db=[snr, snr], level=level, **folder
            )
            assert told["kind"] == kind and told["snr_db"] == snr
            assert db(signal / rms(noisy - clean)) == pytest.approx(snr, abs=0.2)


def test_a_drawn_ratio_is_told() -> None:
    found = set()
    for seed in range(10):
        row = recorded(0, 0.3 * voice(1.0))
        noisy, told = apply(row, seed=seed, type="noise", snr_db=[0, 20])
        assert db(rms(heard(row)[0]) / rms(noisy - heard(row)[0])) == pytest.approx(told["snr_db"], abs=0.2)
        found.add((told["kind"], told["snr_db"]))
    assert len(found) == 10 and len({kind for kind, _ in found}) > 2


def test_a_second_voice_of_a_folder_stands_at_its_place_and_level(tmp_path: Path) -> None:
    save_voices(tmp_path / "voices", seconds=0.4)
    clean = heard(recorded(0, 0.3 * voice(1.5)))[0]
    starts = set()
    for seed in range(8):
        mixed, told = apply(
            recorded(0, 0.3 * voice(1.5)), tmp_path, seed, type="mix", folder="voices", snr_db=[6, 6]
        )
        first, last = round(told["start"] * RATE), round(told["end"] * RATE)
        added = mixed - clean
        assert not added[:first].any() and not added[last:].any() and last - first == 0.4 * RATE
        assert db(rms(clean) / rms(added[first:last])) == pytest.approx(6, abs=0.2)
        starts.add((first, told["file"]))
    assert len({s for s, _ in starts}) > 4 and len({f for _, f in starts}) > 1


def test_a_second_voice_of_the_row_is_another_speaker() -> None:
    row = recorded(0, 0.3 * voice(1.0), speaker=None)
    row.audios.append({"bytes": encode_flac(voice(1.0, 220, 24_000), 24_000)})
    row.messages[1] = Message("assistant", [Text("Yes."), Audio(1, speaker="b")])
    clean = heard(row)[0]
    mixed, told = apply(row, type="mix", source="row", snr_db=[3, 3])
    assert db(rms(clean) / rms(mixed - clean)) == pytest.approx(3, abs=0.2) and told["start"] == 0
    alone = recorded(0, 0.3 * voice(1.0))
    assert np.array_equal(apply(alone, type="mix", source="row")[0], heard(alone)[0])
    row.messages[0].audios[0].speaker = "b"
    assert np.array_equal(apply(row, type="mix", source="row")[0], clean)


def test_rooms_of_a_folder_and_made_ones(tmp_path: Path) -> None:
    response = room_response(RATE, 0.25, np.random.default_rng(0), 3.0)
    write_audio(tmp_path / "hall.wav", np.concatenate([np.zeros(99, np.float32), 0.8 * response]), RATE)
    click = np.zeros(RATE, np.float32)
    click[2000] = 0.5
    wet, told = apply(recorded(0, click), tmp_path, type="room", folder=".")
    assert told["file"] == "hall.wav" and np.argmax(np.abs(wet)) == 2000
    assert np.allclose(wet[2000:6000] / wet[2000], response[:4000], atol=1e-3)
    wet, told = apply(recorded(0, click), type="room", rt60_s=[0.3, 0.3], direct_db=[0, 0])
    assert told == {"type": "room", "rt60_s": 0.3, "direct_db": 0.0}
    tail = wet[2001 : 2000 + round(0.3 * RATE)].astype(float)
    left = 10 * np.log10(np.cumsum(tail[::-1] ** 2)[::-1] + 1e-12)
    seconds = np.arange(len(left)) / RATE
    inside = (left < left[0] - 5) & (left > left[0] - 35)
    assert -60 / np.polyfit(seconds[inside], left[inside], 1)[0] == pytest.approx(0.3, rel=0.15)


def test_gain_is_exact_and_clips_only_when_asked() -> None:
    row = recorded(0, voice(1.0))
    wave = heard(row)[0]
    for wanted in (-20.0, -3.5, 6.0):
        out, told = apply(row, type="gain", db=[wanted, wanted])
        assert db(rms(out) / rms(wave)) == pytest.approx(wanted, abs=0.01) and told["db"] == wanted
    out, told = apply(row, type="gain", db=[20, 20])
    assert np.abs(out).max() <= 0.9901 and told["db"] == pytest.approx(db(0.99 / 0.3), abs=0.01)
    assert db(rms(out) / rms(wave)) == pytest.approx(told["db"], abs=0.01)
    out, told = apply(row, type="gain", db=[20, 20], clip=True)
    assert (np.abs(out) >= 0.999).mean() > 0.04 and told == {"type": "gain", "db": 20.0, "clipped": True}
    below = np.abs(wave * 10) < 0.99
    assert np.allclose(out[below], 10 * wave[below], atol=1e-4)


def test_clipping_by_decibels_band_codec_and_dropouts() -> None:
    row = recorded(0, voice(1.0))
    wave = heard(row)[0]
    out, told = apply(row, type="clip", over_db=[6, 6])
    assert np.abs(out).max() == pytest.approx(0.3 * 10 ** (-6 / 20), abs=1e-4) and told["over_db"] == 6
    noise = recorded(1, (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32))
    out, told = apply(noise, type="band", kinds=["telephone"])
    power = np.abs(np.fft.rfft(out * np.hanning(RATE))) ** 2
    assert power[:235].sum() + power[3800:].sum() < 1e-4 * power.sum() and told["kind"] == "telephone"
    for kind in ("mp3", "ogg", "opus", "mu-law", "low-rate"):
        out, told = apply(row, type="codec", kinds=[kind])
        assert told["kind"] == kind and 0.001 < rms(out - wave) / rms(wave) < 0.9
    out, told = apply(row, type="dropouts", per_s=[8, 8], length_s=[0.05, 0.05])
    assert told["count"] > 2 and told["seconds"] == pytest.approx(0.05 * told["count"])
    assert (wave[(out == 0)] != 0).sum() > 0.02 * RATE and not (out[wave == 0]).any()


def test_folders_are_read_in_parts_at_any_rate_and_refuse_silence(tmp_path: Path) -> None:
    write_audio(tmp_path / "long.wav", np.arange(1, 8001, dtype=np.float32) / 8001, 8000)
    folder = ClipFolder(tmp_path)
    starts = set()
    for seed in range(20):
        clip, name = folder.draw(8000, np.random.default_rng(seed), 100)
        assert len(clip) == 100 and name == "long.wav" and np.allclose(np.diff(clip), 1 / 8001, atol=1e-4)
        starts.add(round(float(clip[0] * 8001)))
    assert len(starts) == 20 and max(starts) < 7950
    assert len(folder.draw(16_000, np.random.default_rng(0))[0]) == RATE
    (tmp_path / "still").mkdir()
    write_audio(tmp_path / "still" / "a.wav", np.zeros(800, np.float32), 8000)
    with pytest.raises(ConfigError, match="silence"):
        ClipFolder(tmp_path / "still").draw(8000, np.random.default_rng(0))
    (tmp_path / "still" / "a.wav").write_bytes(b"no sound")
    with pytest.raises(ConfigError, match="cannot be used"):
        ClipFolder(tmp_path / "still").draw(8000, np.random.default_rng(0))
