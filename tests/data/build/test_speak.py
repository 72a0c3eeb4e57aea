"""`speak`: the same speech whatever the batches, who says what, levels, refusals, servers and reading back."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tests.data.build.stand_ins import (
    Humming,
    ask,
    assert_pure,
    check_settings,
    facts,
    needs,
    run,
    save_vits,
    server,
)

from vivavoce.base.errors import ConfigError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.pipeline import Pipeline
from vivavoce.data.build.run import build
from vivavoce.data.build.speech.loudness import bring_to_level, speech_level_db
from vivavoce.data.build.speech.reading_back import character_error_rate, edit_distance
from vivavoce.data.build.speech.voices import Setup, make_voices
from vivavoce.data.conversation import Audio, Conversation, Message, Text, read_conversation
from vivavoce.data.recordings import read_waveform

TONE = np.sin(np.arange(12_000) / 9).astype(np.float32)


class Deaf:
    """A service "asr" that always hears the same."""

    def __init__(self, name: str) -> None:
        self.name = name

    def transcribe(self, waveform: np.ndarray, sample_rate: int) -> str:
        assert waveform.dtype == np.float32 and sample_rate == 24_000
        return self.name


def context(**more: Any) -> Context:
    return Context(seed=5, services={"tts": Humming, "asr": Deaf}, **more)


def spoken(result: Any) -> Conversation:
    assert not isinstance(result, Fault), result
    assert len(result) == 1
    return result[0]


def wave(row: Conversation, number: int = 0) -> tuple[np.ndarray, int]:
    return read_waveform(list(row.audio_parts())[number], row)


QUESTIONS = "What is nine plus four?|Count to 3.|Who are you?|Is it late?|Hi!|One, two.|Go on.|Why".split("|")


def test_synthesizers_are_pure() -> None:
    needs("espeak", "flite")
    rows = [ask(i, q, f"Answer {i}.") for i, q in enumerate(QUESTIONS)]
    settings = {
        "voices": ["espeak", "flite"], "roles": ["user", "assistant"], "speed": [0.9, 1.2], "pitch": [0.8, 1.2],
    }  # fmt: skip
    made = [spoken(r) for r in assert_pure("speak", settings, Context(seed=5), rows, sizes=(1, 3))]
    other = [spoken(r) for r in run("speak", settings, Context(seed=6), rows[:4])]
    assert [r.content_hash() for r in other] != [r.content_hash() for r in made[:4]]
    speakers = [[p.speaker for p in row.audio_parts()] for row in made]
    assert all(user != assistant for user, assistant in speakers)
    assert {s.partition(":")[0] for pair in speakers for s in pair} == {"espeak", "flite"}
    for row, given in zip(made, rows, strict=True):
        user, assistant = row.messages
        assert user.text == "" and user.words == given.messages[0].text
        assert assistant.text == given.messages[1].text == assistant.audios[0].transcript
        assert [p.language for p in row.audio_parts()] == ["en", "en"]
        assert all(0.9 <= p.labels["speed"] <= 1.2 for p in row.audio_parts())
        assert (row.id, row.source, row.license, row.meta) == (
            given.id,
            given.source,
            given.license,
            given.meta,
        )
        for number in (0, 1):
            samples, rate = wave(row, number)
            assert rate == 24_000 and samples.size > 0.2 * rate
            assert speech_level_db(samples, rate) == pytest.approx(-23, abs=0.1)
        assert read_conversation(row.row()).content_hash() == row.content_hash()


def test_vits_is_pure_and_has_speakers(tmp_path: Path) -> None:
    folder = save_vits(tmp_path / "vits")
    texts = ["what is your name", "who are you then", "yes", "say the word", "a b c"]
    rows = [ask(i, text, "no") for i, text in enumerate(texts)]
    settings = {"voices": [f"transformers:{folder}#1"], "speed": [0.8, 1.2], "sample_rate": 16_000}
    made = [spoken(r) for r in assert_pure("speak", settings, Context(seed=5), rows)]
    other = run("speak", {**settings, "voices": [f"transformers:{folder}#2"]}, Context(seed=5), rows)
    assert wave(made[0])[1] == 16_000
    assert not np.array_equal(wave(made[0])[0], wave(spoken(other[0]))[0])
    slow = spoken(run("speak", {**settings, "speed": [0.5, 0.5]}, Context(seed=5), rows)[0])
    quick = spoken(run("speak", {**settings, "speed": [2, 2]}, Context(seed=5), rows)[0])
    assert wave(slow)[0].size > 1.5 * wave(quick)[0].size
    fault = run("speak", settings, Context(seed=5), [ask(0, "the number 9")])[0]
    assert isinstance(fault, Fault) and fault.kind == "unspoken" and "spoken_form" in fault.reason
    row = spoken(
        run("speak", {**settings, "spoken_form": True}, Context(seed=5), [ask(0, "The number 9.")])[0]
    )
    part = next(row.audio_parts())
    assert part.transcript == "The number 9." and part.labels["spoken"] == "the number nine."
    with pytest.raises(ConfigError, match="has 3 speakers"):
        run("speak", {"voices": [f"transformers:{folder}#3"]}, Context(), [])


def test_a_model_runs_on_one_thread_and_leaves_the_generator_alone(tmp_path: Path) -> None:
    import torch

    setup, seen = Setup(Context()), set()
    voice = make_voices([f"transformers:{save_vits(tmp_path / 'vits')}#0"], setup)[0][0]
    voice.say("hello", 1)
    pipe = next(v for v in setup.loaded.values() if hasattr(v, "model"))
    pipe.model.register_forward_pre_hook(lambda *_: seen.add(torch.get_num_threads()))
    before, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        voice.say("hello", 2)
        assert seen == {1} and torch.get_num_threads() == 2 and torch.equal(state, torch.get_rng_state())
    finally:
        torch.set_num_threads(before)


def test_voices_differ_between_roles_and_stay_within_a_row() -> None:
    rows = []
    for i in range(24):
        row = ask(i, "first", "second")
        row.messages += ask(i, "third", "fourth").messages
        rows.append(row)
    settings = {"voices": ["service:m#a", "service:m#b", "service:m#c"], "roles": ["user", "assistant"]}
    seen = set()
    for result in run("speak", settings, context(), rows):
        one, two, three, four = (p.speaker for p in spoken(result).audio_parts())
        assert one == three and two == four and one != two
        seen.add((one, two))
    assert len(seen) == 6
    own = run("speak", {**settings, "assistant_voices": ["service:m#x"]}, context(), rows)
    assert {m.audios[0].speaker for r in own for m in spoken(r).messages if m.role == "assistant"} == {
        "service:m#x"
    }
    heard = ask(0, "", "so")
    heard.messages[0].parts = [Audio("a.wav", speaker="service:m#a")]
    settings["roles"] = ["assistant"]
    for seed in range(8):
        answer = spoken(run("speak", settings, Context(seed=seed, services={"tts": Humming}), [heard])[0])
        assert (
            answer.messages[1].audios[0].speaker != "service:m#a" and answer.messages[0] == heard.messages[0]
        )


def test_where_the_text_stays() -> None:
    settings = {"voices": ["service:m"], "roles": ["user", "assistant"], "keep_text": ["user"]}
    row = spoken(run("speak", settings, context(), [ask(0, " Hello ", "Good day")])[0])
    assert [type(p) for p in row.messages[0].parts] == [Text, Audio] and row.messages[0].text == " Hello "
    assert row.messages[0].audios[0].transcript == "Hello"
    assert [type(p) for p in row.messages[1].parts] == [Audio] and row.messages[1].words == "Good day"


def test_what_cannot_be_spoken_is_put_aside() -> None:
    rows = {
        "empty": ask(0, "  ... "),
        "too_long": ask(1, "word " * 300),
        "unspeakable": ask(2, "What is 你好?"),
        "unspoken": ask(3, "silence please"),
        "nothing_to_speak": Conversation("r", [Message("system", [Text("Be kind.")])]),
    }
    settings = {"voices": ["service:m"], "language": "en"}
    made = assert_pure("speak", settings, context(), [*rows.values(), ask(9, "fine")], elsewhere=False)
    assert [r.kind for r in made[:-1]] == list(rows) and spoken(made[-1])
    assert [r.filtered for r in made[:-1]] == [False, True, True, False, False]
    assert "'你'" in made[2].reason
    long = run("speak", {**settings, "max_seconds": 0.5}, context(), [ask(0, "x" * 80)])[0]
    assert (
        isinstance(long, Fault)
        and (long.kind, long.filtered) == ("too_long", True)
        and "1.0 s" in long.reason
    )


def test_what_is_heard_otherwise_is_garbled() -> None:
    rows = [ask(0, "It is 5 o'clock."), ask(1, "Never mind the weather.")]
    settings = {
        "voices": ["service:m"],
        "language": "en",
        "check": "it is five oh clock",
        "max_error_rate": 0.1,
    }
    good, bad = run("speak", settings, context(), rows)
    assert spoken(good)
    assert isinstance(bad, Fault) and (bad.kind, bad.filtered) == ("garbled", True)
    assert "'Never mind the weather.'" in bad.reason and "'it is five oh clock'" in bad.reason


def test_a_real_recogniser_tells_right_from_wrong() -> None:
    needs("flite")
    pocketsphinx = pytest.importorskip("pocketsphinx")

    class Sphinx:
        def __init__(self, name: str) -> None:
            self.decoder = pocketsphinx.Decoder(samprate=16_000, lm=None, cmn="batch", loglevel="FATAL")
            rule = "public <s> = (what is | say | count) (one | two | nine | four | plus)+;"
            self.decoder.add_jsgf_string(name, f"#JSGF V1.0;\ngrammar g;\n{rule}\n".encode())
            self.decoder.activate_search(name)

        def transcribe(self, waveform: np.ndarray, sample_rate: int) -> str:
            assert sample_rate == 16_000
            noise = np.random.default_rng(0).standard_normal(waveform.size + 9600) * 1e-4
            samples = np.clip((np.pad(4 * waveform, 4800) + noise) * 32767, -32767, 32767).astype(np.int16)
            self.decoder.start_utt()
            self.decoder.process_raw(samples.tobytes(), full_utt=True)
            self.decoder.end_utt()
            heard = self.decoder.hyp()
            return heard.hypstr if heard else ""

    rows = [
        ask(i, q)
        for i, q in enumerate(["What is nine plus four?", "Say one two", "Bring an umbrella tomorrow"])
    ]
    settings = {"voices": ["flite:slt"], "sample_rate": 16_000, "check": "g", "max_error_rate": 0.15}
    made = assert_pure("speak", settings, Context(services={"asr": Sphinx}), rows, elsewhere=False)
    assert spoken(made[0]) and spoken(made[1])
    assert isinstance(made[2], Fault) and made[2].kind == "garbled"


def wav(samples: np.ndarray, rate: int = 24_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def test_a_server_is_asked_once_and_its_faults_stay_in_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICE_KEY", "secret")
    count = 0

    def answer(path: str, body: Any) -> tuple[Any, ...]:
        nonlocal count
        assert path == "/v1/audio/speech" and body["model"] == "tts" and body["response_format"] == "wav"
        if "broken" in body["input"]:
            return 200, b"no recording"
        if "forbidden" in body["input"]:
            return 400, b'{"error": "not allowed"}'
        count += 1  # never the same twice
        return 200, wav(np.roll(TONE, count)[: 600 * len(body["input"])])

    rows = [ask(i, q) for i, q in enumerate(["one", "two", "broken", "forbidden", "three", "four", "one"])]
    with server(answer) as (url, answers):
        endpoint = {"url": url, "key_env": "VOICE_KEY", "wait_s": 0.01, "retries": 1}
        settings = {
            "voices": ["endpoint:tts#anna"],
            "endpoint": endpoint,
            "speed": [1.25, 1.25],
            "language": "en",
        }
        made = assert_pure("speak", settings, Context(seed=1, cache=tmp_path), rows, elsewhere=False)
        assert sum(body["input"] == "four" for _, body, _ in answers.asked) == 1
        assert {body["speed"] for _, body, _ in answers.asked} == {1.25}
        assert {headers["Authorization"] for _, _, headers in answers.asked} == {"Bearer secret"}
    assert [r.kind if isinstance(r, Fault) else "" for r in made] == [
        "",
        "",
        "unspoken",
        "unspoken",
        "",
        "",
        "",
    ]
    assert "no recording" in made[2].reason and "not allowed" in made[3].reason
    assert not any("secret" in str(fact) for fact in facts(made))
    again = run("speak", settings, Context(seed=1, cache=tmp_path), [rows[0], rows[4]])  # the server is gone
    assert facts(again) == facts([made[0], made[4]])
    with server(lambda path, body: (200, wav(TONE))) as (url, _):  # what was no recording was not kept
        settings["endpoint"] = {**endpoint, "url": url}
        Path(tmp_path / "speech").rename(tmp_path / "old")
        broken = Context(seed=1, cache=tmp_path)
        with server(lambda path, body: (200, b"no recording")) as (bad, _):
            run("speak", {**settings, "endpoint": {**endpoint, "url": bad}}, broken, rows[:1])
        assert not list(tmp_path.glob("speech/*/*"))
        assert spoken(run("speak", settings, broken, rows[:1])[0])
    gone = run("speak", settings, Context(seed=1), rows[:1])[0]
    assert isinstance(gone, Fault) and "2 tries" in gone.reason


def test_a_pipeline_makes_the_same_set_with_any_number_of_workers(tmp_path: Path) -> None:
    needs("espeak", "flite")
    pipeline = Pipeline(
        source={"type": "text", "texts": ["One.", "Two!", "...", "Three?"]},
        stages=[{"type": "speak", "voices": ["espeak", "flite"], "speed": [0.9, 1.1]}],
        block_rows=2,
        seed=4,
    )
    alone, two = (build(pipeline, tmp_path / str(n), workers=n).manifest for n in (0, 2))
    assert alone.content_hash == two.content_hash and alone.rows == 3
    assert alone.put_aside == {"speak: empty": 1} and alone.hours > 0


def test_settings_are_checked_before_work() -> None:
    check_settings("speak", {"voices": ["service:m"], "speed": [0.8, 1.2]})
    for settings, message in (
        ({"roles": ["system"]}, "roles has 'system'"),
        ({"speed": [0.1, 1]}, "within 0.5 and 2"),
        ({"pitch": [1.2, 0.8]}, r"pitch is \[1.2, 0.8\]"),
        ({"speeds": [1, 1]}, "did you mean 'speed'"),
        ({"level_db": 3}, "level_db"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_settings("speak", settings)
    for settings, message in (
        ({"voices": ["service:m"], "speed": [0.8, 1.2]}, "cannot change speed"),
        ({"voices": ["endpoint:a#b"]}, "needs the setting endpoint"),
        ({"voices": ["espeek:en"]}, "Did you mean 'espeak'"),
        ({"voices": ["transformers"]}, "wanted transformers:NAME"),
        ({"voices": ["endpoint:anna"]}, "wanted endpoint:MODEL#VOICE"),
        ({"voices": ["service:m"], "language": "vi", "spoken_form": True}, "is for English"),
        (
            {"voices": ["endpoint:a#b"], "endpoint": {"url": "http://x/v1", "key_env": "NO_SUCH_KEY"}},
            "NO_SUCH_KEY",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            run("speak", settings, context(), [])


def test_synthesizer_voices_are_checked_before_work() -> None:
    needs("espeak", "flite")
    for voice, language, message in (
        ("espeak:en-us+nobody", None, "no voice"), ("espeak:en-us", "vi", "speaks 'en-us'"),
        ("flite:x", None, "it has"), ("flite", "vi", "wanted flite:NAME"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            run("speak", {"voices": [voice], "language": language}, Context(), [])
    row = spoken(
        run("speak", {"voices": ["espeak"], "language": "vi"}, Context(), [ask(0, "Xin chào bạn.")])[0]
    )
    assert next(row.audio_parts()).language == "vi"


def test_loudness_ignores_pauses_and_keeps_peaks() -> None:
    tone = TONE * 0.2
    level = speech_level_db(tone, 24_000)
    assert level == pytest.approx(20 * np.log10(0.2 / np.sqrt(2)), abs=0.05)
    paused = np.concatenate([tone, np.zeros(120_000, np.float32), tone])
    assert speech_level_db(paused, 24_000) == pytest.approx(level, abs=0.05)
    assert speech_level_db(bring_to_level(paused, 24_000, -30.0), 24_000) == pytest.approx(-30, abs=0.01)
    click = tone.copy()
    click[100] = 1.0
    assert np.abs(bring_to_level(click, 24_000, -3.0)).max() <= 0.99
    assert not bring_to_level(np.zeros(100, np.float32), 24_000, -23.0).any()


def test_edit_distance_and_error_rate(rng: np.random.Generator) -> None:
    def slow(a: str, b: str) -> int:
        row = list(range(len(b) + 1))
        for i, x in enumerate(a, 1):
            row, before = [i], row
            for j, y in enumerate(b, 1):
                row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
        return row[-1]

    for _ in range(60):
        a, b = ("".join(rng.choice(list("abc"), int(rng.integers(0, 12)))) for _ in range(2))
        assert edit_distance(a, b) == slow(a, b)
    assert character_error_rate("It's 9 p.m., OK?", "its nine P M okay", "en") == 0
    assert character_error_rate("can not", "Cannot!") == 0
    assert character_error_rate("abcd", "") == 1.0
    assert character_error_rate("đường", "duong", "vi") == pytest.approx(3 / 5)
