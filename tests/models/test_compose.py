"""Language models with new ears and a new voice: tokens are there once, rows are kept, what is frozen is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vivavoce.base.errors import ConfigError, VocabularyError
from vivavoce.codecs.loading import load_codec
from vivavoce.models.compose import CodecSide, compose
from vivavoce.models.config import EmbeddingsIn, TokensIn, TokensOut
from vivavoce.training.tiny_llm import TinyLLM, write_tiny_llm

ENCODER = {
    "type": "whisper",
    "model": {
        "d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64, "num_mel_bins": 80,
    },
}  # fmt: skip
NANO = CodecSide(codec="nano")


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llm(tmp_path_factory.mktemp("llm") / "tiny", TinyLLM(hidden_size=32))


def test_one_codec_on_both_sides_has_its_tokens_once(llm: Path) -> None:
    model, processor = compose(llm, hears=NANO, speaks=NANO, pad_rows_to=64)
    ears, mouth = model.config.audio_in, model.config.audio_out
    assert isinstance(ears, TokensIn) and isinstance(mouth, TokensOut) and ears.vocabulary == mouth.vocabulary
    assert model.config.vocab_size == -(-processor.vocabulary_in.num_tokens // 64) * 64
    assert processor.vocabulary_out.codec_weights == load_codec("nano").spec.weights
    assert model.config.text_model_ref is None
    two, _ = compose(llm, hears=CodecSide(codec="nano", layout="interleaved"), speaks=NANO)
    assert two.config.audio_in.vocabulary["first_code_id"] != two.config.audio_out.vocabulary["first_code_id"]


def test_ears_by_embeddings_and_a_voice_by_tokens(llm: Path) -> None:
    model, processor = compose(llm, ENCODER, {"type": "stack", "hidden_size": 16}, speaks=NANO)
    assert isinstance(model.config.audio_in, EmbeddingsIn) and isinstance(model.config.audio_out, TokensOut)
    spoken = range(processor.vocabulary_out.first_code_id, processor.vocabulary_out.num_tokens)
    assert model.config.audio_token_id not in spoken
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"connector"}


@pytest.mark.parametrize("init", ["mean", "normal", "copy"])
def test_text_rows_stay_and_seeds_decide_the_rest(llm: Path, init: str) -> None:
    def rows(**more: Any) -> torch.Tensor:
        return compose(llm, hears=NANO, init=init, **more)[0].get_input_embeddings().weight.detach()

    before = compose(llm)[0].get_input_embeddings().weight.detach()
    first, again, other = rows(), rows(), rows(seed=1)
    assert torch.equal(first[: len(before)], before) and torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_does_not_fit_is_refused(llm: Path) -> None:
    with pytest.raises(ConfigError, match="an encoder or a codec"):
        compose(llm, ENCODER, hears=NANO)
    with pytest.raises(VocabularyError, match="already has"):
        compose(llm, hears=NANO, speaks=CodecSide(codec="nano", layout="interleaved", style="orpheus"))


def test_random_weights_have_the_shapes(llm: Path) -> None:
    real, made = compose(llm)[0], compose(llm, random_weights=True)[0]
    assert {n: p.shape for n, p in real.named_parameters()} == {
        n: p.shape for n, p in made.named_parameters()
    }
    assert made.config.text_model_ref is None and real.config.text_model_ref == str(llm)
