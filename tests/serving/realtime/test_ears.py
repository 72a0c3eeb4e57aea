"""Turns do not depend on how a stream is cut; formats are read as they are written."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from vivavoce.base.errors import MissingExtraError
from vivavoce.serving.realtime import ears as ears_module
from vivavoce.serving.realtime.ears import Ears, Silent, Started, Stopped
from vivavoce.serving.realtime.formats import Voice, decoded, encoded
from vivavoce.serving.realtime.outbox import Fault
from vivavoce.serving.realtime.settings import ServerVad

HERTZ = 24000


@pytest.fixture(params=["silero", "energy"])
def detector(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "silero":
        pytest.importorskip("silero_vad")
    else:

        def missing(*args: Any, **settings: Any) -> None:
            raise MissingExtraError("not installed")

        monkeypatch.setattr(ears_module, "SileroDetector", missing)
    return str(request.param)


def stream(spoken: np.ndarray) -> np.ndarray:
    quiet = 1e-4 * np.random.default_rng(5).standard_normal(HERTZ).astype(np.float32)
    return np.concatenate([quiet, spoken, quiet, spoken, quiet])


def events(ears: Ears, wave: np.ndarray, piece: int) -> tuple[list[Any], list[np.ndarray]]:
    found: list[Any] = []
    turns: list[list[np.ndarray]] = []
    for begin in range(0, len(wave), piece):
        for heard in ears.push(wave[begin : begin + piece]):
            if isinstance(heard, np.ndarray):
                turns[-1].append(heard)
            else:
                found.append(heard)
                if isinstance(heard, Started):
                    turns.append([])
    return found, [np.concatenate(turn) for turn in turns]


def test_turns_are_the_same_however_the_stream_is_cut(spoken: np.ndarray, detector: str) -> None:
    settings = ServerVad(type="server_vad", silence_duration_ms=400)
    wave = stream(spoken)
    whole, turns = events(Ears(HERTZ, settings), wave, len(wave))
    assert [type(event) for event in whole] == [Started, Stopped] * 2
    for begin, end, turn in zip(whole[::2], whole[1::2], turns, strict=True):
        assert np.array_equal(turn, wave[begin.at : end.at]), "a turn is a piece of the stream"
    for piece in (100, 480, 481, 5000):
        again, same = events(Ears(HERTZ, settings), wave, piece)
        assert again == whole
        assert all(np.array_equal(a, b) for a, b in zip(turns, same, strict=True))


def test_padding_and_silence(spoken: np.ndarray, detector: str) -> None:
    def turn(**fields: Any) -> tuple[int, int]:
        settings = ServerVad(type="server_vad", **fields)
        found, _ = events(Ears(HERTZ, settings), stream(spoken), 2400)
        return found[0].at * 1000 // HERTZ, found[1].at * 1000 // HERTZ

    begin, end = turn(prefix_padding_ms=0, silence_duration_ms=400)
    assert 900 <= begin <= 1300
    early, late = turn(prefix_padding_ms=300, silence_duration_ms=700)
    assert early == begin - 300
    assert 260 <= late - end <= 340


def test_padding_never_gives_audio_twice(spoken: np.ndarray, detector: str) -> None:
    settings = ServerVad(type="server_vad", silence_duration_ms=100, prefix_padding_ms=5000)
    found, _ = events(Ears(HERTZ, settings), stream(spoken), 2400)
    places = [event.at for event in found]
    assert len(places) >= 4 and places == sorted(places)


def test_the_clients_own_end_begins_anew(spoken: np.ndarray, detector: str) -> None:
    ears = Ears(HERTZ, ServerVad(type="server_vad"))
    wave = stream(spoken)[: HERTZ + 20_100]
    found, (turn,) = events(ears, wave, len(wave))
    rest = ears.end_turn()
    assert np.array_equal(np.concatenate([turn, rest]), wave[found[0].at :])
    assert ears.position == len(wave) and not ears.speaking
    found, _ = events(ears, stream(spoken), 2400)
    assert isinstance(found[0], Started) and found[0].at >= len(wave)


def test_long_silence(spoken: np.ndarray, detector: str) -> None:
    ears = Ears(HERTZ, ServerVad(type="server_vad", idle_timeout_ms=5000))
    assert events(ears, np.zeros(8 * HERTZ, np.float32), 2400)[0] == []
    ears.silent_from = ears.position + HERTZ  # an answer of a second
    (silent,) = ears.push(np.zeros(7 * HERTZ, np.float32))
    assert isinstance(silent, Silent)
    assert (silent.begin, silent.end) == (9 * HERTZ, 14 * HERTZ) and len(silent.samples) == 5 * HERTZ


def test_16_bits_are_exact() -> None:
    values = np.arange(-32768, 32768).astype("<i2")
    wave = decoded(base64.b64encode(values.tobytes()).decode(), "audio/pcm", "audio")
    assert encoded(wave, "audio/pcm") == values.tobytes()


@pytest.mark.parametrize(("form", "full"), [("audio/pcmu", 32124), ("audio/pcma", 32256)])
def test_telephone_formats(form: str, full: int) -> None:
    codes = base64.b64encode(bytes(range(256))).decode()
    levels = np.round(decoded(codes, form, "audio") * 32768).astype(int)
    assert (levels.min(), levels.max()) == (-full, full)
    same = np.frombuffer(encoded(decoded(codes, form, "audio"), form), np.uint8)
    again = decoded(base64.b64encode(same.tobytes()).decode(), form, "audio")
    assert np.array_equal(again, decoded(codes, form, "audio")), "a level is written as itself"
    values = np.arange(-32768, 32768, 7) / np.float32(32768)
    heard = decoded(base64.b64encode(encoded(values, form)).decode(), form, "audio")
    loud = np.abs(values) > 0.01
    assert (np.abs(heard - values)[loud] / np.abs(values)[loud]).max() < 0.07
    assert np.abs(heard - values).max() < 0.04


def test_telephone_formats_equal_libsndfile() -> None:
    import io

    import soundfile

    wave = np.linspace(-1, 0.999, 5000, dtype=np.float32)
    values = np.frombuffer(encoded(wave, "audio/pcm"), "<i2")
    for form, name in (("audio/pcmu", "ULAW"), ("audio/pcma", "ALAW")):
        file = io.BytesIO()
        soundfile.write(file, values, 8000, subtype=name, format="RAW")
        theirs = decoded(base64.b64encode(file.getvalue()).decode(), form, "")
        read, _ = soundfile.read(
            io.BytesIO(file.getvalue()),
            samplerate=8000,
            channels=1,
            subtype=name,
            format="RAW",
            dtype="float32",
        )
        assert np.array_equal(theirs, read)
        ours = decoded(base64.b64encode(encoded(wave, form)).decode(), form, "")
        assert np.abs(ours - theirs).max() <= 1024 / 32768 and np.mean(ours != theirs) < 0.05


@pytest.mark.parametrize(
    ("data", "code"), [("ä", "invalid_base64"), ("A", "invalid_base64"), ("AA==", "invalid_audio")]
)
def test_not_audio(data: str, code: str) -> None:
    with pytest.raises(Fault) as caught:
        decoded(data, "audio/pcm", "audio")
    assert (caught.value.code, caught.value.param) == (code, "audio")


@pytest.mark.parametrize("rate", [16000, 24000])
def test_an_answer_in_pieces_is_the_whole_answer(rate: int) -> None:
    wave = np.sin(np.arange(rate) / 20).astype(np.float32) / 2

    def made(piece: int) -> bytes:
        voice = Voice("audio/pcm", rate)
        texts = [voice.push(wave[i : i + piece]) for i in range(0, len(wave), piece)] + [voice.close()]
        assert voice.num_samples == HERTZ
        return b"".join(map(base64.b64decode, texts))

    assert made(rate) == made(333) and len(made(rate)) == 2 * HERTZ
