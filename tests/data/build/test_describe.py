"""`describe`: pure, named by fixed scales, every sentence whole, rows of each form, Parler's columns both ways."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.build.stand_ins import ask, assert_pure, check_settings, needs, run, save_llama

from vivavoce.base.errors import ConfigError, DataError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.descriptions.describe_config import NAMED, SAID
from vivavoce.data.build.descriptions.describing import TEMPLATES, fill, request, slot_words
from vivavoce.data.build.descriptions.scales import (
    ASPECTS,
    SCALES,
    Scale,
    measured_scales,
    name_numbers,
    read_scales,
)
from vivavoce.data.build.pipeline import load_pipeline
from vivavoce.data.build.run import build
from vivavoce.data.check.sets import check_set
from vivavoce.data.conversation import Audio, Conversation, Message, Text
from vivavoce.data.convert import convert, get_format
from vivavoce.data.recordings import encode_flac
from vivavoce.data.rows import RowFile

RATE = 16_000
RECIPE = Path(__file__).parents[3] / "recipes" / "data" / "described.yaml"


def voice(hz: float = 150.0, seconds: float = 1.0, level: float = 0.2) -> np.ndarray:
    """A buzz with pauses around it."""
    t = np.arange(round(seconds * RATE)) / RATE
    buzz = level / 3 * np.sum([np.sin(2 * np.pi * hz * k * t) / k for k in (1, 2, 3)], axis=0)
    return np.concatenate([np.zeros(2000), buzz, np.zeros(2000)]).astype(np.float32)


def heard(
    number: int, waveform: np.ndarray, text: str | None = "A cat sat on the mat.", **more: Any
) -> Conversation:
    part = Audio(0, **{"transcript": text, "language": "en", "speaker": f"s{number % 3}", **more})
    return Conversation(
        f"row/{number}",
        [Message("user", [part])],
        [{"bytes": encode_flac(waveform, RATE)}],
        license="cc0-1.0",
    )


def voices(count: int = 9) -> list[Conversation]:
    return [heard(i, voice(90 + 20 * i, 0.5 + 0.2 * i, 0.02 * 1.4**i)) for i in range(count)]


def labels_of(made: Any) -> dict[str, Any]:
    assert not isinstance(made, Fault), made
    return next(made[0].audio_parts()).labels


class Poet:
    """A service "llm" that says what it was told."""

    def __init__(self, name: str) -> None:
        self.name = name

    def answer(self, prompts: list[list[dict[str, str]]], max_new_tokens: int) -> list[str]:
        return [f' "{self.name}: {p[-1]["content"].splitlines()[-1]}" ' for p in prompts]


@pytest.mark.parametrize(
    "settings",
    [
        {"genders": {"s0": "male", "s1": "F"}, "omit": 0.5},
        {"form": "describe", "aspects": ["pitch", "loudness", "bandwidth"]},
        {"form": "labels"},
        {"form": "generate", "kind": "sound"},
        {"form": "describe", "kind": "music"},
        {"model": "service:poet"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values()))[:30],
)
def test_results_hang_on_the_row_alone(settings: dict[str, Any], tmp_path: Path) -> None:
    context = Context(seed=3, services={"llm": Poet}, cache=tmp_path)
    rows = [*voices(6), heard(20, np.zeros(RATE, np.float32)), ask(21, "no recording")]
    made = assert_pure("describe", settings, context, rows, sizes=(1, 3), elsewhere="omit" in settings)
    assert [r.kind for r in made if isinstance(r, Fault)] == ["silent", "no_recording"]
    whole = [r[0] for r in made if not isinstance(r, Fault)]
    assert len(whole) == 6 and all(r.license == "cc0-1.0" for r in whole)
    for row in whole:
        text = next(row.audio_parts()).labels["description"]
        assert text and not set("{}[]") & set(text) and text == text.strip()


def test_numbers_and_names_of_a_voice() -> None:
    row = heard(0, voice(200, 2.0), speaker="anna", labels={"pitch": 1.1, "speed": 0.9, "mood": "glad"})
    made = run("describe", {"form": "labels", "genders": {"anna": "woman"}}, Context(), [row])
    labels = labels_of(made[0])
    assert labels["utterance_pitch_mean"] == pytest.approx(200, abs=0.5) and labels["gender"] == "female"
    phones = "ax k ae t s ae t aa n dh ax m ae t"
    assert labels["phonemes"] == phones
    assert labels["phones_per_second"] == pytest.approx(len(phones.split()) / 2.0, abs=0.1)
    assert (labels["pitch"], labels["speech_monotony"]) == ("moderate pitch", "very monotone")
    assert (labels["speaking_rate"], labels["noise"]) == ("slowly", "very clean")
    assert (labels["pitch_given"], labels["speed"], labels["mood"]) == (1.1, 0.9, "glad")
    assert set(ASPECTS) & set(labels) == set(NAMED["speech"]) and "duration" not in labels
    assert made[0][0].messages[0].role == "user" and made[0][0].id == "row/0"
    known = {"gender": "m"}
    for settings, more, wanted in (
        ({}, {}, "high-pitch"),
        ({}, {"labels": known}, "very high-pitch"),
        ({"genders": {"anna": "female"}}, {}, "moderate pitch"),
        ({"scales": {"pitch": {"edges": [10, 20, 30, 40, 50, 60]}}}, {}, "very high-pitch"),
        ({"scales": {"pitch": {"edges": [201], "names": ["under", "over"]}}}, {}, "under"),
    ):
        row = heard(0, voice(200, 1.0), **{"speaker": "anna", **more})
        assert (
            labels_of(run("describe", {"form": "labels", **settings}, Context(), [row])[0])["pitch"] == wanted
        )


def test_rows_of_each_form() -> None:
    row = voices(2)[1]
    row.messages += [Message("assistant", [Text("Fine."), *voices(3)[2].messages[0].audios])]
    row.messages[1].audios[0].audio = 1
    row.audios += voices(3)[2].audios
    spoken = run("describe", {}, Context(), [row])[0]
    assert [r.id for r in spoken] == ["row/1/0", "row/1/1"] and {r.task for r in spoken} == {"describe_tts"}
    for made, given in zip(spoken, row.audio_parts(), strict=True):
        asked, said = made.messages
        part = said.audios[0]
        assert asked.text == f"{part.labels['description']}\n\n{given.transcript}" and asked.role == "user"
        assert made.audios == [row.audios[int(str(given.audio))]] and part.audio == 0
    [one] = run("describe", {"roles": ["assistant"], "prompt": "{text} ({description})"}, Context(), [row])[0]
    assert one.id == "row/1" and one.messages[0].text.startswith("A cat sat on the mat. (")
    [told, _] = run("describe", {"form": "describe", "questions": ["How?"]}, Context(), [row])[0]
    assert told.task == "describe" and told.messages[0].text == "How?"
    assert told.messages[1].text == told.messages[0].audios[0].labels["description"]
    [kept] = run("describe", {"form": "labels"}, Context(), [row])[0]
    assert kept.messages[1].text == "Fine." and kept.task == "chat" and len(kept.audios) == 2
    settings = {"form": "generate", "kind": "sound", "subject": "caption"}
    sound = heard(0, voice(), None, labels={"caption": "a saw in wood."})
    [made] = run("describe", settings, Context(), [sound])[0]
    assert "a saw in wood" in made.messages[0].text.lower() and made.task == "generate"
    assert made.messages[0].text == labels_of([made])["description"]
    fault = run("describe", settings, Context(), [heard(1, voice(), None)])[0]
    assert isinstance(fault, Fault) and fault.kind == "no_subject"


def test_faults_are_named(rng: np.random.Generator) -> None:
    noise = (0.1 * rng.normal(size=RATE)).astype(np.float32)
    codes = heard(0, voice())
    codes.messages[0].audios[0].audio, codes.messages[0].audios[0].tokens = None, {"codec": "nano", "ids": []}
    broken = heard(0, voice())
    broken.audios = [{"bytes": b"no sound"}]
    cases = [
        ("silent", heard(0, np.zeros(RATE, np.float32))), ("no_transcript", heard(0, voice(), None)),
        ("no_transcript", heard(0, voice(), "...")), ("too_short", heard(0, voice()[:3000])),
        ("too_long", heard(0, voice(seconds=3))), ("unvoiced", heard(0, noise)), ("unreadable", broken),
        ("unpronounceable", heard(0, voice(), "сегодня")), ("no_recording", codes),
        ("no_recording", ask(0, "Hm?")),
    ]  # fmt: skip
    made = run("describe", {"max_seconds": 2.0}, Context(), [row for _, row in cases])
    assert [r.kind if isinstance(r, Fault) else r for r in made] == [kind for kind, _ in cases]
    russian = heard(0, voice(), "сегодня", language="ru")
    assert labels_of(run("describe", {"form": "labels"}, Context(), [russian])[0])["letters_per_second"] > 6
    needy = {"templates": ["It is {reverberation}."]}
    [fault] = run("describe", needy, Context(), [heard(0, voice())])
    assert isinstance(fault, Fault) and fault.kind == "undescribed" and "'reverberation'" in fault.reason
    roomy = heard(0, voice(), labels={"reverberation": "very distant-sounding"})
    assert (
        labels_of(run("describe", needy, Context(), [roomy])[0])["description"]
        == "It is very distant-sounding."
    )


def test_edges_belong_to_the_range_above() -> None:
    for name, scale in SCALES.items():
        for number, edge in enumerate(scale.edges):
            assert scale.name(edge) == scale.names[number + 1], name
            assert scale.name(np.nextafter(edge, -np.inf)) == scale.names[number], name
        assert scale.name(-1e9) == scale.names[0] and scale.name(1e9) == scale.names[-1]
        assert len(set(scale.names)) == len(scale.names)
    assert Scale((1.0,), ("a", "b")).middle is None and Scale((), ("a",)).name(5) == "a"
    assert name_numbers({"snr": 22, "letters_per_second": 7.4}, None, SCALES) == {
        "noise": "slightly clean", "speaking_rate": "very slowly",
    }  # fmt: skip
    assert read_scales({"noise": {"edges": [3, 4, 5, 6, 7, 8]}})["noise"].names == SCALES["noise"].names


def test_every_template_fills_whatever_is_known() -> None:
    words = {
        aspect: name for aspect in ASPECTS for name in SCALES.get(aspect, SCALES["phones_per_second"]).names
    }
    for kind, templates in TEMPLATES.items():
        slots = {*SAID[kind], *NAMED[kind], *(("speaker",) if kind == "speech" else ("subject",))}
        for template in templates:
            assert set(re.findall(r"\{(\w+)\}", template)) == slots, "each says all that may be asked for"
            for count in range(len(NAMED[kind]) + 1):
                some = {a: words[a] for a in NAMED[kind][:count]}
                filled = slot_words(
                    some, kind, None, "rain on a roof" if count and kind != "speech" else None
                )
                text = fill(template, filled)
                assert (
                    not set("{}[]") & set(text) and "  " not in text and text[0].isupper() and text[-1] == "."
                )
                assert not re.search(r" [.,]|[.,]{2}|\ba [aeiou]|\. [a-z]", text), text
                assert all(words in text or words.capitalize() in text or words[0].upper() + words[1:] in text
                           for words in filled.values()), (text, filled)  # fmt: skip
    assert fill("This is a {x} thing[, {y}].", {"x": "odd"}) == "This is an odd thing."
    with pytest.raises(DataError, match="'x'"):
        fill("{x}", {})


def test_templates_and_what_is_left_out_are_drawn() -> None:
    rows = [heard(i, voice(120, 0.3)) for i in range(40)]
    texts = {labels_of(m)["description"] for m in run("describe", {}, Context(seed=1), rows)}
    assert len(texts) == len(TEMPLATES["speech"])
    assert texts == {labels_of(m)["description"] for m in run("describe", {}, Context(seed=2), rows)}
    scales = {"pitch": {"edges": [10, 20, 30, 240, 250, 260]}}  # all are middling
    said = [
        "moderately" in labels_of(m)["description"]
        for m in run("describe", {"omit": 0.5, "scales": scales}, Context(seed=1), rows)
    ]
    assert 8 < sum(said) < 32
    made = run("describe", {"omit": 1.0, "scales": scales, "aspects": ["pitch"]}, Context(), rows[:1])
    assert "moderately" in labels_of(made[0])["description"], "something is always said"


def test_a_language_model_writes(tmp_path: Path) -> None:
    context = Context(services={"llm": Poet}, cache=tmp_path)
    [made] = run("describe", {"model": "service:poet", "aspects": ["noise"]}, context, [heard(0, voice())])
    assert labels_of(made)["description"] == "poet: - noise: very clean"
    assert made[0].meta["description"] == {"model": "service:poet"}
    assert request({"noise": "clean"}, "speech", "male", None).endswith("- speaker: a man\n- noise: clean")
    assert "what is heard: a dog" in request({}, "sound", None, " a dog ")
    folder = save_llama(tmp_path / "tiny", max_position_embeddings=2048)
    settings = {"model": f"transformers:{folder}", "max_new_tokens": 6}
    made = assert_pure("describe", settings, Context(), voices(3), elsewhere=False, sizes=(1,))
    kinds = {m.kind if isinstance(m, Fault) else "made" for m in made}
    assert kinds <= {"made", "unfinished"}
    assert all(m.filtered for m in made if isinstance(m, Fault))


def test_labels_that_are_there_are_kept_or_replaced() -> None:
    theirs = {"description": "An old voice.", "noise": "noisy", "snr": 3.0, "utterance_pitch_mean": "unknown"}
    row = heard(0, voice(150), labels=theirs)
    kept = labels_of(run("describe", {}, Context(), [row])[0])
    assert (kept["description"], kept["noise"], kept["snr"]) == ("An old voice.", "noisy", 3.0)
    assert kept["utterance_pitch_mean"] == pytest.approx(150, abs=0.5), "what is no number is measured"
    made = labels_of(run("describe", {"existing": "replace"}, Context(), [row])[0])
    assert made["noise"] == "very clean" and made["snr"] > 40 and "very clean" in made["description"]
    half = heard(0, voice(150), labels={"snr": 12.0})
    assert labels_of(run("describe", {}, Context(), [half])[0])["noise"] == "slightly noisy"


def test_parler_columns_both_ways(tmp_path: Path) -> None:
    pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    rows = [made[0] for made in run("describe", {"genders": {"s0": "male"}}, Context(), voices(6))]
    get_format("parler").write(rows, tmp_path / "ours.parquet")
    table = pq.read_table(tmp_path / "ours.parquet").to_pylist()
    for entry, row in zip(table, rows, strict=True):
        labels = labels_of([row])
        assert entry["text"] == "A cat sat on the mat." and entry["text_description"] == labels["description"]
        for name in ("utterance_pitch_mean", "utterance_pitch_std", "snr", "speaking_rate", "phonemes", "pitch",
                     "noise", "speech_monotony", "speaker_id"):  # fmt: skip
            assert entry[name] == (
                row.messages[1].audios[0].speaker if name == "speaker_id" else labels[name]
            )
    assert [entry["gender"] for entry in table] == ["male", None, None] * 2
    back = list(get_format("parler").read(tmp_path / "ours.parquet"))
    assert [labels_of([row]) for row in back] == [labels_of([row]) for row in rows], "all labels come back"
    made = [made[0] for made in run("describe", {}, Context(root=tmp_path), back)]
    assert [r.messages[0].text for r in made] == [r.messages[0].text for r in rows]

    theirs = [  # as published, columns that we do not have included
        {
            "audio": {"bytes": encode_flac(voice(120 + i), RATE), "path": f"{i}.flac"}, "text": "A cat sat on the mat.",
            "text_description": "A man speaks slowly.", "utterance_pitch_mean": 112.5 + i, "utterance_pitch_std": 18.25,
            "snr": 57.5, "c50": 59.5, "speaking_rate": "slightly slowly", "phonemes": "ə kæt sæt", "gender": "male",
            "pitch": "slightly low-pitch", "noise": "clean", "reverberation": "very close-sounding",
            "speech_monotony": "monotone", "stoi": 0.98, "si-sdr": 21.5, "pesq": 3.5, "speaker_id": "14208",
            "book_id": "10359", "original_path": f"http://x/{i}", "begin_time": 1.5,
        }
        for i in range(3)
    ]  # fmt: skip
    sound = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [
        (n, sound if n == "audio" else pa.array([r[n] for r in theirs]).type) for n in sorted(theirs[0])
    ]
    pq.write_table(pa.Table.from_pylist(theirs, schema=pa.schema(fields)), tmp_path / "theirs.parquet")
    done = convert(tmp_path / "theirs.parquet", tmp_path / "again.parquet", to="parler")
    assert done.source_format == "parler" and not done.written.dropped
    again = pq.read_table(tmp_path / "again.parquet").to_pylist()
    assert [{k: v for k, v in entry.items() if v is not None} for entry in again] == theirs
    read = list(get_format("parler").read(tmp_path / "theirs.parquet"))
    made = [m[0] for m in run("describe", {"language": "en"}, Context(root=tmp_path), read)]
    for row, entry in zip(made, theirs, strict=True):
        labels = labels_of([row])
        assert row.messages[0].text == "A man speaks slowly.\n\nA cat sat on the mat."
        assert all(labels[n] == entry[n] for n in ("pitch", "c50", "speaking_rate", "snr", "phonemes"))
        assert labels["phones_per_second"] > 10, "what they lack is measured"


def test_measured_scales_split_a_set_evenly() -> None:
    rows = [made[0] for made in run("describe", {"form": "labels"}, Context(), voices(9))]
    scales = measured_scales(rows, least=7)
    numbers = [labels_of([row])["utterance_pitch_mean"] for row in rows]
    names = [read_scales(scales)["pitch"].name(number) for number in numbers]
    assert {names.count(name) for name in SCALES["pitch"].names} <= {1, 2}
    check_settings("describe", {"scales": json.loads(json.dumps(scales))})
    with pytest.raises(DataError, match="no scale has 50"):
        measured_scales(rows)


def test_settings_are_checked_before_work() -> None:
    check_settings("describe", {"kind": "music", "form": "generate", "aspects": ["tempo"]})
    for settings, message in (
        ({"kind": "song"}, "kind"), ({"form": "generate"}, "'describe_tts' for speech"),
        ({"kind": "sound"}, "'generate' for others"), ({"roles": ["owner"]}, "roles"),
        ({"aspects": ["tempo"]}, "aspects has 'tempo'"), ({"genders": {"a": "robot"}}, "a: robot"),
        ({"omit": 2}, "omit is 2"), ({"max_seconds": 1e6}, "max_seconds"), ({"prompt": "{text}"}, "prompt is"),
        ({"questions": []}, "questions"), ({"model": "gpt"}, "model is 'gpt'"),
        ({"model": "service:x", "templates": ["{pitch}"]}, "not both"),
        ({"templates": ["{volume}"]}, "the slot 'volume'"), ({"templates": ["[{pitch}"]}, "that close"),
        ({"templates": ["nothing"]}, "wanted {slots}"), ({"templates": ["{pitch}}"]}, "that close"),
        ({"scales": {"size": {"edges": [1]}}}, "scales has 'size'"), ({"scales": {"noise": 3}}, "wanted an object"),
        ({"scales": {"noise": {"edges": [1, 2]}}}, "7 names for 2 edges"),
        ({"scales": {"noise": {"edges": [1, 2, 3, 3, 4, 5]}}}, "rising"), ({"existing": "merge"}, "existing"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=re.escape(message)):
            check_settings("describe", settings)
    with pytest.raises(ConfigError, match="service 'llm'"):
        run("describe", {"model": "service:x"}, Context(), [])


def test_the_recipe_makes_rows_that_differ_by_their_voices(tmp_path: Path) -> None:
    needs("espeak", "flite")
    outcome = build(
        load_pipeline(RECIPE, {"rows": 12}), tmp_path / "set", Context(root=RECIPE.parent), workers=0
    )
    assert (outcome.manifest.rows, outcome.manifest.put_aside) == (12, {})
    assert check_set(tmp_path / "set").ok
    file = RowFile(tmp_path / "set")
    parts = [next(file[i].audio_parts()) for i in range(12)]
    rates = np.array([(p.labels["speed"], p.labels["phones_per_second"]) for p in parts])
    assert np.corrcoef(rates.T)[0, 1] > 0.8
    assert len({p.labels["description"] for p in parts}) > 8 and all(p.tokens for p in parts)
