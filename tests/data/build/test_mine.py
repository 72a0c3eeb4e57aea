"""`mine`: rows are what the rules say, recordings are cut to the sample, counts add up, sources stay known."""

from __future__ import annotations

import json
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.build.stand_ins import assert_pure, check_settings, run
from tests.speech import Speech

from vivavoce.audio.files import read_audio, write_audio
from vivavoce.audio.speaker_turns import SpeakerTurn
from vivavoce.base.errors import ConfigError, DataError, MissingExtraError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.mining import mine
from vivavoce.data.build.mining.given_turns import GivenTurn, said_in
from vivavoce.data.build.mining.mine import Mine, MineConfig
from vivavoce.data.build.mining.recognisers import make_recogniser
from vivavoce.data.conversation import Audio, Conversation, Message, read_conversation
from vivavoce.data.convert import convert, read_any
from vivavoce.data.recordings import encode_flac
from vivavoce.data.shards import write_shard

RATE = 8000
GIVEN = {"diariser": "given", "transcripts": "given", "vad": "energy", "sample_rate": None}
TALK = [
    (0.5, 3.0, "ann", "Where is the museum, please?"),
    (3.25, 7.0, "bob", "Behind the church, on the left side."),
    (6.9, 9.0, "ann", "And when does it open today?"),
    (9.5, 13.5, "bob", "At ten in the morning, I believe."),
    (14.0, 14.5, "ann", "Great, thanks."),
]


def syllables(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise that swings as speech does, on the grid of 16 bits so that FLAC keeps it, float32 [S]."""
    size = round(seconds * RATE)
    noise = np.random.default_rng(seed).uniform(-0.4, 0.4, size)
    swing = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * np.arange(size) / RATE)
    return (np.rint(noise * swing**2 * 32768) / 32768).astype(np.float32)


def talk(
    turns: list[tuple[float, float, str, str]], number: int = 0, seconds: float = 16.0, words: bool = False
) -> Conversation:
    """A long recording and who speaks in it."""
    labels = [{"start": a, "end": b, "speaker": s, "text": t} for a, b, s, t in turns]
    for turn in labels if words else []:
        said = str(turn["text"]).split()
        edges = np.linspace(turn["start"], turn["end"], len(said) + 1)
        turn["words"] = [[w, float(a), float(b)] for w, a, b in zip(said, edges[:-1], edges[1:], strict=True)]
    part = Audio(0, language="en", labels={"turns": labels, "place": "Hanoi"})
    return Conversation(
        f"talk/{number}", [Message("user", [part])], [{"bytes": encode_flac(syllables(seconds, number), RATE)}],
        source="https://example.org/talk", license="cc-by-4.0", meta={"url": "https://example.org/talk.mp3"},
    )  # fmt: skip


def mined(row: Conversation, **more: Any) -> Any:
    return run("mine", {**GIVEN, **more}, Context(), [row])[0]


def counts(row: Conversation) -> tuple[int, int]:
    told = row.meta["mined"]
    return told["candidates"], told["kept"] + sum(told["left_out"].values())


def test_pairs_with_all_that_is_known() -> None:
    row = talk(TALK)
    first, second = mined(row)
    assert (first.id, second.id) == ("talk/0/0000", "talk/0/0001")
    whole, _ = read_audio(row.audios[0]["bytes"])
    for pair, (asked, answered) in ((first, TALK[:2]), (second, TALK[2:4])):
        assert (pair.license, pair.source) == ("cc-by-4.0", "https://example.org/talk")
        assert pair.meta["url"] == "https://example.org/talk.mp3"
        assert [m.role for m in pair.messages] == ["user", "assistant"]
        assert pair.messages[1].text == answered[3] and pair.messages[0].text == ""
        for message, (start_s, end_s, name, text) in zip(pair.messages, (asked, answered), strict=True):
            (part,) = message.audios
            assert (part.transcript, part.language, part.speaker) == (text, "en", f"talk/0#{name}")
            assert (part.labels["start_s"], part.labels["end_s"]) == (start_s, end_s)
            assert message.more["time"] == pytest.approx([start_s - asked[0], end_s - asked[0]])
            clip, rate = read_audio(pair.audios[part.audio]["bytes"])
            assert rate == RATE and np.array_equal(clip, whole[round(start_s * RATE) : round(end_s * RATE)])
        assert read_conversation(pair.row()).content_hash() == pair.content_hash()
    labels = [pair.messages[1].audios[0].labels for pair in (first, second)]
    assert [(x["gap_s"], x["overlap_s"]) for x in labels] == [(0.25, 0.1), (0.5, 0.1)]
    told = first.meta["mined"]
    assert (told["gap_s"], told["overlap_s"], told["start_s"], told["end_s"]) == (0.25, 0.1, 0.5, 7.0)
    assert told["labels"] == {"place": "Hanoi"} and told["recording"] == "talk/0" and told["speakers"] == 2
    # four pairs of neighbours: two kept, one whose turn was used, one whose answer is too short
    assert counts(first) == (4, 4) and told["left_out"] == {"answer_length": 1, "turn_used": 1}
    reused = mined(row, rules={"reuse_turns": True})
    assert [r.messages[0].words for r in reused] == [TALK[i][3] for i in (0, 1, 2)]


def test_results_hang_on_the_row_alone() -> None:
    rows = [talk(TALK, 0), talk(TALK[:1], 1), talk(TALK[1:], 2), Conversation("x", [Message("user", [])])]
    made = assert_pure("mine", GIVEN, Context(), rows)
    assert [r.kind if isinstance(r, Fault) else len(r) for r in made] == [2, "one_speaker", 1, "no_recording"]


def test_found_without_being_told() -> None:
    """Voice activity and diarisation on sound, not labels; the embedded one says nothing about overlap."""
    low, high = (np.sin(2 * np.pi * hz * np.arange(4 * RATE) / RATE) for hz in (110, 260))
    buzz = [np.sign(wave) * syllables(4.0, i) ** 2 * 4 for i, wave in enumerate((low, high))]
    rng = np.random.default_rng(1)
    pieces = [np.zeros(RATE // 2), buzz[0], np.zeros(RATE), np.diff(buzz[1], append=0), np.zeros(RATE)]
    sound = np.concatenate(pieces) + 1e-4 * rng.standard_normal(sum(map(len, pieces)))
    row = talk([])
    row.audios = [{"bytes": encode_flac(sound.astype(np.float32), RATE)}]
    options = {"diariser": "embedded", "transcripts": "none", "speakers": 2, "rules": {"min_swing_db": 0}}
    (pair,) = mined(row, **options)
    ask, answer = (part.labels for part in pair.audio_parts())
    assert ask["start_s"] == pytest.approx(0.5, abs=0.25) and answer["end_s"] == pytest.approx(9.5, abs=0.25)
    assert "overlap_s" not in answer and pair.messages[1].text == "" and answer["gap_s"] > 0.5
    assert mined(row, **options | {"speakers": 1}).kind == "one_speaker"
    row.messages[0].audios[0].start_s = 4.9  # behind the first voice
    assert mined(row, **options | {"speakers": 1}).kind == "one_speaker"
    row.messages[0].audios[0].start_s = 0.0
    row.audios = [{"bytes": encode_flac(np.zeros(RATE, np.float32), RATE)}]
    assert mined(row, **options).kind == "no_speech"


def test_what_is_no_speech_and_what_says_nothing() -> None:
    row = talk([(0.0, 3.0, "ann", "One two three."), (3.5, 8.0, "bob", "Four five six."),
                (8.5, 11.0, "ann", "Yeah, okay, right."), (11.2, 15.0, "bob", "Seven.")])  # fmt: skip
    made = mined(row)
    assert len(made) == 1 and made[0].meta["mined"]["left_out"] == {"backchannel": 2}
    assert counts(mined(row, rules={"min_words": 1})[0]) == (3, 3)
    sound, _ = read_audio(row.audios[0]["bytes"])
    hum = 0.2 * np.sin(2 * np.pi * 220 * np.arange(round(4.5 * RATE)) / RATE).astype(np.float32)
    sound[round(3.5 * RATE) : round(8 * RATE)] = hum
    row.audios = [{"bytes": encode_flac(sound, RATE)}]
    fault = mined(row)
    assert fault.kind == "nothing_left" and fault.filtered and "2 not_speech" in fault.reason
    assert len(mined(row, rules={"min_swing_db": 0})) == 1


WORDS = st.sampled_from(["one two three", "four five", "yes"])
TURN = st.tuples(st.floats(-0.5, 2.0), st.floats(0.5, 6.0), st.sampled_from("aaabbbc"), WORDS)
LISTS = st.lists(TURN, min_size=3, max_size=10)
FORMS = st.sampled_from(["pairs", "dialogue"])


@settings(max_examples=25)
@given(drawn=LISTS, form=FORMS, reuse=st.booleans())
def test_counts_add_up_and_rows_keep_the_rules(
    drawn: list[tuple[float, float, str, str]], form: str, reuse: bool
) -> None:
    turns, end_s = [], 1.0
    for gap_s, length_s, name, text in drawn:
        start_s = max(0.0, end_s + gap_s)
        turns.append((start_s, start_s + length_s, name, text))
        end_s = start_s + length_s
    rules = {"reuse_turns": reuse, "min_turns": 2, "main_share": 0.0, "max_dialogue_s": 15.0}
    made = mined(talk(turns, seconds=end_s + 6), form=form, rules=rules)
    if isinstance(made, Fault):
        assert made.kind in ("nothing_left", "one_speaker")
        return
    seen: list[tuple[float, float]] = []
    for row in made:
        candidates, told = counts(row)
        assert candidates == told
        assert len({part.speaker for part in row.audio_parts()}) == 2
        parts = list(row.audio_parts())
        assert all(p.transcript for p in parts)
        for before, after in pairwise(parts):
            gap_s = after.labels["start_s"] - before.labels["end_s"]
            assert after.labels["gap_s"] == pytest.approx(gap_s, abs=1e-5) and -0.2001 <= gap_s <= 1.5001
            assert before.speaker != after.speaker
        seen += [(p.labels["start_s"], p.labels["end_s"]) for p in parts]
    kept = made[0].meta["mined"]["kept"]
    assert kept == (len(made) if form == "pairs" else len(seen))
    assert (reuse and form == "pairs") or len(seen) == len(set(seen))


def test_dialogues_become_stereo(tmp_path: Path) -> None:
    """The form dialogue, written for Moshi, has each speaker's turns on a channel at their times."""
    row = talk(TALK[:4], words=True)
    (made,) = mined(row, form="dialogue")
    assert [m.role for m in made.messages] == ["user", "assistant"] * 2 and counts(made) == (4, 4)
    source = tmp_path / "set.parquet"
    write_shard(source, [made])
    done = convert(source, tmp_path / "train.jsonl", to="moshi")
    assert done.written.rows == 1
    (stereo,) = tmp_path.rglob("*.wav")
    waves, rate = soundfile.read(stereo, dtype="float32", always_2d=True)
    whole, _ = read_audio(row.audios[0]["bytes"])
    wanted = np.zeros((round(13.0 * RATE), 2), np.float32)
    for start_s, end_s, name, _ in TALK[:4]:
        a, b = round((start_s - 0.5) * RATE), round((end_s - 0.5) * RATE)
        wanted[a:b, 0 if name == "bob" else 1] = whole[round(start_s * RATE) : round(end_s * RATE)]
    assert rate == RATE and np.array_equal(waves, wanted)
    (back,) = read_any(tmp_path / "train.jsonl")
    assert [m.more["time"] for m in back.messages] == [m.more["time"] for m in made.messages]
    assert [p.words for p in back.audio_parts()] == [p.words for p in made.audio_parts()]


def test_dialogues_end_where_they_must() -> None:
    turns = [(2.0 * i, 2.0 * i + 1.8, "ab"[i % 2], f"these are words {i}") for i in range(11)]
    (whole,) = mined(talk(turns, seconds=24.0), form="dialogue")
    assert len(whole.messages) == 10 and whole.meta["mined"]["left_out"] == {"unanswered": 1}
    parts = mined(talk(turns, seconds=24.0), form="dialogue", rules={"max_dialogue_s": 9.0})
    assert [len(r.messages) for r in parts] == [4, 4] and parts[0].meta["mined"]["left_out"] == {
        "few_turns": 3
    }
    turns[5] = (10.0, 11.8, "c", "somebody else says this")
    split = mined(talk(turns, seconds=24.0), form="dialogue")
    assert [len(r.messages) for r in split] == [4, 4]
    assert {p.speaker[-1] for r in split for p in r.audio_parts()} == {"a", "b"} and counts(split[0]) == (
        11,
        11,
    )


def test_a_turn_left_out_does_not_call_back_what_was_not_cut() -> None:
    turns = [(2.0 * i, 2.0 * i + 1.8, "ab"[i % 2], f"these are words {i}") for i in range(8)]
    turns[1] = (*turns[1][:3], "yeah")
    rules = {"max_dialogue_s": 10.5, "min_turns": 4}  # runs of 5 and 3 turns, of which the second is not cut
    fault = mined(talk(turns), form="dialogue", rules=rules)
    assert fault.kind == "nothing_left" and "7 few_turns" in fault.reason and "1 backchannel" in fault.reason


def test_many_voices_are_put_aside() -> None:
    turns = [(3.0 * i, 3.0 * i + 2.5, "abc"[i % 3], "some words here") for i in range(6)]
    fault = mined(talk(turns, seconds=18.0))
    assert fault.kind == "many_speakers" and "2 of 3 voices say 0.67 of all" in fault.reason.replace(
        "two", "2"
    )
    assert len(mined(talk(turns, seconds=18.0), rules={"main_share": 0.6})) == 3


def test_a_part_of_a_recording() -> None:
    row = talk(TALK)
    part = row.messages[0].audios[0]
    part.start_s, part.end_s = 6.0, 14.0
    (pair,) = mined(row, rules={"min_request_s": 0.5})
    assert [p.labels["start_s"] for p in pair.audio_parts()] == [6.9, 9.5]


def test_a_long_file_is_never_whole_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 1200
    path = write_audio(tmp_path / "long.wav", np.tile(syllables(10.0), seconds // 10), RATE)
    row = Conversation("long", [Message("user", [Audio("long.wav")])])
    a, b = seconds - 20.0, seconds - 10.0
    row.messages[0].audios[0].labels["turns"] = [
        {"start": a, "end": a + 5, "speaker": "a", "text": "one two"},
        {"start": b, "end": b + 5, "speaker": "b", "text": "three four"},
    ]
    monkeypatch.setattr(mine, "read_bytes", lambda *_: pytest.fail("the file was read whole"))
    builder = Mine(
        MineConfig(**{**GIVEN, "rules": {"max_gap_s": 6.0}, "sample_rate": 16_000}), Context(root=tmp_path)
    )
    tracemalloc.start()
    try:
        ((pair,),) = builder([row])
        segments = builder.speech(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(segments) >= 1 and segments[-1].end_s > seconds - 5
    assert peak < 20e6, peak  # the waveform at 16 kHz is 77 MB
    whole, _ = read_audio(path, 16_000, max_seconds=None)
    for part, start in zip(pair.audio_parts(), (a, b), strict=True):
        clip, _ = read_audio(pair.audios[part.audio]["bytes"])
        cut = np.clip(whole[round(start * 16_000) : round((start + 5) * 16_000)], -1, 1)
        assert np.abs(clip - cut).max() <= 0.5001 / 32768


def test_transcripts_follow_what_was_found() -> None:
    given_turn = [
        GivenTurn(SpeakerTurn(0.0, 4.0, "a"), "hello there"),
        GivenTurn(SpeakerTurn(4.5, 9.0, "b"), "hi", (("hi", 5.0, 6.0),)),
        GivenTurn(SpeakerTurn(7.0, 7.4, "a"), "mhm"),
    ]

    def heard(start_s: float, end_s: float) -> tuple[str | None, str]:
        found = said_in(SpeakerTurn(start_s, end_s, "1"), given_turn, [], 0.7)
        return found.text, "" if found.text else found.reason

    assert heard(0.1, 4.2) == ("hello there", "")
    assert heard(4.4, 9.1) == ("hi", "")  # the other's "mhm" does not count
    assert heard(0.0, 2.5) == (None, "transcript_differs")
    assert heard(0.0, 9.0) == (None, "two_voices")
    assert heard(9.5, 12.0) == (None, "no_transcript")
    timed = said_in(
        SpeakerTurn(4.4, 5.8, "1"), [], [("a", 3.0, 4.0), ("hi", 5.0, 6.0), ("ho", 5.7, 6.2)], 0.7
    )
    assert timed.text == "hi" and timed.words == [("hi", pytest.approx(0.6), pytest.approx(1.4))]
    with pytest.raises(DataError, match="turns is not a list"):
        mined(Conversation("x", [Message("user", [Audio("a.wav", labels={"turns": [{"start": 1}]})])]))


class Counting:
    """A service "asr" that tells how long a clip is."""

    def __init__(self, name: str) -> None:
        self.name = name

    def transcribe(self, waveform: np.ndarray, sample_rate: int) -> str:
        return f"{self.name} hears {waveform.size / sample_rate:.2f} seconds"


def test_recognisers(speech: Speech) -> None:
    context = Context(services={"asr": Counting})
    first = run("mine", {**GIVEN, "transcripts": "service:ears"}, context, [talk(TALK)])[0][0]
    assert first.messages[0].words == "ears hears 2.50 seconds"
    with pytest.raises(ConfigError, match="needs the service 'asr'"):
        run("mine", {**GIVEN, "transcripts": "service:ears"}, Context(), [])
    pytest.importorskip("pocketsphinx")
    sphinx = make_recogniser("pocketsphinx", Context())
    said = sphinx.transcribe(speech.waveform, speech.sample_rate)
    sphinx.transcribe(syllables(2.0), RATE)
    assert said and sphinx.transcribe(speech.waveform, speech.sample_rate) == said
    assert set(said) <= set("abcdefghijklmnopqrstuvwxyz' ")


def test_a_recogniser_of_transformers(tmp_path: Path) -> None:
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcd"]
    (tmp_path / "vocab.json").write_text(json.dumps({c: i for i, c in enumerate(letters)}))
    Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json")).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8, 8), conv_stride=(20, 16), conv_kernel=(20, 16), num_feat_extract_layers=2,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    Wav2Vec2ForCTC(config).save_pretrained(tmp_path)
    ears = make_recogniser(f"transformers:{tmp_path}", Context())
    said = ears.transcribe(syllables(2.0), RATE)
    assert isinstance(said, str) and said == ears.transcribe(syllables(2.0), RATE)


def test_settings_are_checked_before_work(monkeypatch: pytest.MonkeyPatch) -> None:
    check_settings(
        "mine", {"rules": {"max_gap_s": 2.0}, "diariser": "pyannote:folder", "transcripts": "service:x"}
    )
    for wrong, message in (
        ({"form": "stereo"}, "form is 'stereo'"),
        ({"vad": "ears"}, "voice activity detector is 'ears'"),
        ({"diariser": "voices"}, "diariser is 'voices', wanted one of given, embedded"),
        ({"transcripts": "sphinx"}, "recogniser is 'sphinx'"),
        ({"rules": {"max_gap": 1}}, "did you mean 'max_gap_s'"),
        ({"speakers": 0}, "wanted 1 or more"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_settings("mine", wrong)
    monkeypatch.setitem(__import__("sys").modules, "silero_vad", None)
    with pytest.raises(MissingExtraError, match="say vad: energy"):
        Mine(MineConfig(), Context())
