"""`translate`: models, servers and services; languages checked; both sides' words kept, the target spoken if wanted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.data.build.stand_ins import (
    Humming,
    ask,
    assert_pure,
    check_settings,
    needs,
    run,
    save_llama,
    save_marian,
    save_nllb,
    save_seamless,
    server,
)

from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.speech.languages import foreign_letter, language_name, primary, spellings
from vivavoce.data.build.texts.language_models import ModelSettings
from vivavoce.data.build.texts.translators import Pair, SequenceModel, prepare_languages
from vivavoce.data.conversation import Audio, Conversation, Message, Text

TEXTS = [
    "hello there",
    "good day to you",
    "x",
    "a very long one is this",
    "so it goes",
    "who",
    "yes and no",
    "a b c",
]


def heard(number: int, words: str, language: str | None = None) -> Conversation:
    part = Audio(f"{number}.flac", transcript=words, language=language)
    return Conversation(f"row/{number}", [Message("user", [part])], source="here", license="mit")


@pytest.mark.filterwarnings("ignore:Recommended")
@pytest.mark.parametrize("save", [save_marian, save_nllb, save_seamless])
def test_models_are_pure(save: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = save(tmp_path / "mt")
    rows = [heard(i, text) for i, text in enumerate(TEXTS)]
    settings = {"model": f"transformers:{folder}", "source": "en", "target": "de", "max_new_tokens": 24}
    made = assert_pure("translate", settings, Context(), rows, elsewhere=save is save_nllb)
    whole = [r[0] for r in made if not isinstance(r, Fault)]
    assert {r.kind for r in made if isinstance(r, Fault)} <= {"unfinished", "empty"} and len(whole) >= 3
    assert len({row.messages[1].text for row in whole}) > 2
    cut = run("translate", {**settings, "max_new_tokens": 4}, Context(), rows)
    assert "unfinished" in {r.kind for r in cut if isinstance(r, Fault)}
    for row in whole:
        user, assistant = row.messages
        assert user.audios[0].language == "en" and assistant.loss is None
        assert user.audios[0].labels == {"translations": {"de": assistant.text}}
        assert (row.task, row.license, row.source) == ("translate", "mit", "here")
        assert row.meta["translation"] == {"model": "transformers:mt", "source": "en", "target": "de"}


@pytest.mark.filterwarnings("ignore:Recommended")
def test_models_are_told_the_languages(tmp_path: Path) -> None:
    """Another target is another answer, and an unknown one is refused before work."""
    from transformers import AutoTokenizer

    several = save_marian(tmp_path / "several", "mul", ("deu", "fra"))
    single, nllb, seamless = (
        save(tmp_path / name)
        for save, name in ((save_marian, "one"), (save_nllb, "nllb"), (save_seamless, "sm4t"))
    )
    for folder, pair, wanted in (
        (single, Pair("en", "de"), ("", {})),
        (several, Pair("en", "fr-CA"), (">>fra<< ", {})),
        (nllb, Pair("en-GB", "vi"), ("", {"forced_bos_token_id": 33})),
        (seamless, Pair("en", "vi"), ("", {"tgt_lang": "vie"})),
        (nllb, Pair("xx", "yy", "deu_Latn", "eng_Latn"), ("", {"forced_bos_token_id": 31})),
    ):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        prefix, options = prepare_languages(str(folder), tokenizer, pair)
        if folder is nllb:
            wanted = (
                "",
                {"forced_bos_token_id": tokenizer.convert_tokens_to_ids(pair.target_code or "vie_Latn")},
            )
            assert tokenizer.src_lang == (pair.source_code or "eng_Latn")
        assert (prefix, options) == wanted
        if prefix:
            assert (
                tokenizer.convert_ids_to_tokens(tokenizer(prefix + "abc")["input_ids"])[0] == prefix.strip()
            )
        prompts = [[{"role": "user", "content": text}] for text in TEXTS]
        here = SequenceModel(str(folder), pair, ModelSettings(), Context()).answer(prompts, 8)
        if folder is not single and pair.source != "xx":
            other = SequenceModel(str(folder), Pair("en", "de"), ModelSettings(), Context()).answer(
                prompts, 8
            )
            assert here != other
    for folder, pair, message in (
        (single, Pair("en", "fr"), "translates en to de"), (single, Pair("vi", "de"), "not source 'vi'"),
        (several, Pair("en", "vi"), "as any of vi, "), (nllb, Pair("en", "fr"), "fra_Latn"),
        (nllb, Pair("fr", "en"), "source_code"), (seamless, Pair("en", "fr"), "target_code"),
        (nllb, Pair("en", "de", None, "deutsch"), "'deutsch'"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            SequenceModel(str(folder), pair, ModelSettings(), Context())


def test_half_precision_translates_batches_as_single_texts(tmp_path: Path) -> None:
    folder = save_nllb(tmp_path / "nllb")
    model = SequenceModel(str(folder), Pair("en", "de"), ModelSettings(dtype="bfloat16"), Context())
    prompts = [[{"role": "user", "content": f"{a} {b}"}] for a in TEXTS for b in TEXTS]
    assert model.answer(prompts, 16) == [model.answer([p], 16)[0] for p in prompts]


def test_too_long_texts_are_put_aside(tmp_path: Path) -> None:
    folder = save_nllb(tmp_path / "nllb")
    settings = {"model": f"transformers:{folder}", "source": "en", "target": "de"}
    made = run("translate", settings, Context(), [heard(0, "a" * 100), heard(1, "hello there")])
    assert made[0].kind == "too_long" and made[0].filtered and "at most 64" in made[0].reason
    assert made[1] == run("translate", settings, Context(), [heard(1, "hello there")])[0]


class Upper:
    """A service "llm" that translates by writing capitals, or not at all."""

    def __init__(self, name: str) -> None:
        self.name = name

    def answer(self, prompts: Any, max_new_tokens: int) -> list[str]:
        words = [p[-1]["content"].rpartition("\n")[2] for p in prompts]
        assert all("from English to Vietnamese" in p[-1]["content"] for p in prompts)
        return [w if "same" in w else f"T\u1eeb: {w.upper()}" for w in words]


def test_rows_and_what_is_put_aside() -> None:
    silent = heard(2, "x")
    silent.messages[0].audios[0].transcript = None
    rows = [
        heard(0, "good day", "en-US"), heard(1, "guten Tag", "de"), silent, ask(3, " ... "), heard(4, "same"),
        ask(5, "typed words", "an old answer"), Conversation("r", [Message("assistant", [Text("hm")])]),
    ]  # fmt: skip
    rows[0].messages.insert(0, Message("system", [Text("Translate.")]))
    rows[0].messages[1].audios[0].labels["translations"] = {"fr": "bonjour"}
    settings = {"model": "service:m", "source": "en", "target": "vi"}
    context = Context(services={"llm": Upper, "tts": Humming})
    made = assert_pure("translate", settings, context, rows, elsewhere=False)
    assert [r.kind if isinstance(r, Fault) else "" for r in made] == [
        "", "language", "no_transcript", "empty", "untranslated", "", "empty",
    ]  # fmt: skip
    system, user, assistant = made[0][0].messages
    assert (system.text, user.words, assistant.text) == ("Translate.", "good day", "T\u1eeb: GOOD DAY")
    assert user.audios[0].language == "en-US"
    assert user.audios[0].labels["translations"] == {"fr": "bonjour", "vi": "T\u1eeb: GOOD DAY"}
    assert [m.words for m in made[5][0].messages] == ["typed words", "T\u1eeb: TYPED WORDS"]
    speaking = {**settings, "speak": {"voices": ["service:v#1"], "max_characters": 14}}
    said = assert_pure("translate", speaking, context, rows, elsewhere=False)
    part = said[0][0].messages[2].audios[0]
    assert (part.transcript, part.language, part.speaker) == ("T\u1eeb: GOOD DAY", "vi", "service:v#1")
    assert said[0][0].messages[2].text == part.transcript and said[5].kind == "too_long"
    assert [r.kind for r in said[1:5]] == [r.kind for r in made[1:5]]


def test_the_target_is_spoken_in_its_language() -> None:
    needs("espeak")
    context = Context(services={"llm": Upper})
    settings = {"model": "service:m", "source": "en", "target": "vi", "speak": {"voices": ["espeak"]}}
    made = assert_pure(
        "translate", settings, context, [heard(i, t) for i, t in enumerate(TEXTS[:3])], sizes=(1,)
    )
    parts = [r[0].messages[1].audios[0] for r in made]
    assert all(p.language == "vi" and p.speaker.startswith("espeak:vi") for p in parts)
    with pytest.raises(ConfigError, match="speaks 'en-us'"):
        run("translate", {**settings, "speak": {"voices": ["espeak:en-us"]}}, context, [])


def test_a_chat_model_or_a_server_translates_by_a_prompt(tmp_path: Path) -> None:
    llama = save_llama(tmp_path / "chat")
    settings = {"model": f"transformers:{llama}", "source": "en", "target": "de", "max_new_tokens": 8}
    made = assert_pure(
        "translate", settings, Context(), [heard(i, t) for i, t in enumerate(TEXTS)], elsewhere=False
    )
    assert any(not isinstance(r, Fault) for r in made)

    def answer(path: str, body: Any) -> tuple[int, bytes]:
        words = body["messages"][-1]["content"]
        assert words.startswith("Translate this text from English to German.") and words.endswith(
            "\n\nhello {source}"
        )
        return 200, json.dumps(
            {"choices": [{"message": {"content": "hallo"}, "finish_reason": "stop"}]}
        ).encode()

    with server(answer) as (url, _):
        settings = {"model": "endpoint:m", "source": "en", "target": "de", "endpoint": {"url": url}}
        assert (
            run("translate", settings, Context(), [ask(0, "hello {source}")])[0][0].messages[1].text
            == "hallo"
        )


def test_language_codes() -> None:
    assert [
        primary(c) for c in ("en-GB", "pt_BR", "cmn", "vie", "eng", "nb", "xyz")
    ] == "en pt zh vi en no xyz".split()
    assert spellings("zh")[:4] == ["zh", "zho_Hans", "zho_Hant", "cmn_Hans"] and "cmn" in spellings("zh-CN")
    assert (language_name("vi"), language_name("qaa")) == ("Vietnamese", "qaa")
    assert foreign_letter("Đường \u03c0 caf\u00e9 x\u00b2 \u00aa \ufb01", "vi") is None
    assert foreign_letter("say \u4f60", "en-us") == "\u4f60" and foreign_letter("Привет", "de") == "П"
    assert foreign_letter("Привет ok", "ru") is None and foreign_letter("Привет", None) is None


def test_settings_are_checked_before_work(tmp_path: Path) -> None:
    good = {"model": "service:m", "source": "en", "target": "de"}
    check_settings("translate", good)
    for settings, message in (
        ({"source": "English"}, "'English'"), ({"target": "en"}, "both 'en'"), ({"dtype": "int4"}, "dtype"),
        ({"speak": {"roles": ["user"]}}, "leave out roles"), ({"speak": {"voice": ["x"]}}, "did you mean 'voices'"),
        ({"model": "nllb"}, "transformers:NAME"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            check_settings("translate", {**good, **settings})
    with pytest.raises(ModelError, match="cannot be loaded"):
        run("translate", {**good, "model": f"transformers:{tmp_path}"}, Context(), [])
