"""Speaking word by word: lazy, one word of look-ahead, times that add up, streaming equal to whole decoding."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from vivavoce.base.errors import ModelError, SessionError
from vivavoce.codecs.nano import NanoCodec, NanoCodecConfig
from vivavoce.inference.aligned import PAUSE, AlignedSpeaker, concatenate, phrases
from vivavoce.models.voice.aligned import AlignedVoice, AlignedVoiceConfig
from vivavoce.tokens.phones import ALL_PHONES, PHONES, Lexicon


def _speaker(alignment: str = "phone") -> AlignedSpeaker:
    torch.manual_seed(0)
    names = ["<unk>", "<|speak|>", "<|word|>", "<|frames|>", *(f"<|ph_{p}|>" for p in PHONES)]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<unk>"))
    )
    config = LlamaConfig(
        vocab_size=len(names), hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    text = LlamaForCausalLM(config).eval()
    codec = NanoCodec(NanoCodecConfig(encoder_dim=8, decoder_dim=8, codebook_size=16)).eval()
    voice = AlignedVoice(
        AlignedVoiceConfig(text_size=16, alignment=alignment, codebook_size=16, depth_size=8,
                           depth_intermediate_size=12, depth_heads=2, voices=("default", "other"))  # type: ignore[arg-type]
    ).eval()  # fmt: skip
    model = SimpleNamespace(voice=voice, language_model=text, get_input_embeddings=text.get_input_embeddings)
    return AlignedSpeaker(model, tokenizer, codec)


@pytest.mark.parametrize("alignment", ["phone", "word"])
def test_words_get_times_that_cover_the_audio(alignment: str) -> None:
    speaker = _speaker(alignment)
    audio, words = concatenate(speaker.stream(["what", "is", "seven", PAUSE, "plus"]))
    assert [w for w, _, _ in words] == ["what", "is", "seven", "plus"]
    assert words[0][1] == 0.0
    assert all(a[2] == b[1] for a, b in itertools.pairwise(words))
    assert len(audio) == round(words[-1][2] * 24_000)
    assert np.isfinite(audio).all()


def test_same_words_same_audio_and_seeds_reproduce() -> None:
    speaker = _speaker()
    say = lambda **k: concatenate(speaker.stream(["good", "morning"], **k))[0]  # noqa: E731
    assert np.array_equal(say(), say())
    assert np.array_equal(say(temperature=1.0, seed=4), say(temperature=1.0, seed=4))
    with torch.no_grad():
        speaker.voice.voice_embedding.weight[1] = 3 * torch.randn(16)
    assert not np.array_equal(say(), say(voice="other"))


def test_only_one_word_ahead_is_pulled() -> None:
    pulled: list[str] = []

    def source() -> Iterator[str]:
        for word in ["one", "two", "three", "four"]:
            pulled.append(word)
            yield word

    first = next(iter(_speaker().stream(source())))
    assert first.word == "one" and pulled == ["one", "two"]


def test_a_word_does_not_depend_on_words_after_the_next() -> None:
    speaker = _speaker()
    frames = [
        [said.codes for said in speaker._speak_phrase(next(phrases(words)), 0, 0.0, None)]
        for words in (["one", "two", "three"], ["one", "two", "nine"])
    ]
    assert torch.equal(frames[0][0], frames[1][0])


def test_long_text_is_cut_into_phrases() -> None:
    cut = [[word for word, _ in phrase] for phrase in phrases(["a"] * 30)]
    assert [len(p) for p in cut] == [12, 12, 6]
    pairs = list(next(phrases(["a", "b", PAUSE, "c"])))
    assert pairs == [("a", "b"), ("b", None)]


def test_unknown_voice_and_voiceless_model_are_refused() -> None:
    speaker = _speaker()
    with pytest.raises(SessionError, match="default, other"):
        list(speaker.stream(["one"], voice="tom"))
    with pytest.raises(ModelError, match="alignment"):
        AlignedSpeaker(SimpleNamespace(voice=None), None, speaker.codec)


def test_a_voice_may_pronounce_by_a_lexicon_of_its_own() -> None:
    speaker = _speaker()
    plain = speaker.phrase(["hat"], voice="other")[0].phones
    speaker.lexicons["other"] = Lexicon({"hat": ["t", "aa"]})
    own = [p for p in speaker.phrase(["hat"], voice="other")[0].phones if p]
    assert [PHONES[p] for p in own] == ["t", "aa"] != [PHONES[p] for p in plain if p]
    assert speaker.phrase(["hat"])[0].phones == plain  # the first voice says it as before


def test_a_voice_needs_tokens_for_the_phones_it_knows_and_no_others() -> None:
    speaker = _speaker()
    assert len(speaker.phone_tokens) == len(PHONES) < len(ALL_PHONES)
    more = AlignedVoice(replace(speaker.voice.config, num_phones=len(PHONES) + 1))
    model = SimpleNamespace(voice=more, get_input_embeddings=None)
    names = ["<|speak|>", "<|word|>", "<|frames|>", *(f"<|ph_{p}|>" for p in PHONES)]
    known = SimpleNamespace(get_vocab=lambda: {n: i for i, n in enumerate(names)})
    with pytest.raises(ModelError, match=f"lacks 1 tokens.*ph_{ALL_PHONES[len(PHONES)]}"):
        AlignedSpeaker(model, known, speaker.codec)
