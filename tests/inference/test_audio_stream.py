"""Audio decoded token by token is the audio decoded at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.inference.tiny import byte_tokenizer, tiny_codec

from vivavoce.base.errors import LayoutError, SessionError, VocabularyError
from vivavoce.inference.audio_stream import AudioTokenStream
from vivavoce.tokens.vocabulary import extend_vocabulary

CODEC = tiny_codec()
VOCABULARY = extend_vocabulary(byte_tokenizer(), codec_spec=CODEC.spec)


def code_ids(num_tokens, seed):
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(0, 16, (num_tokens,), generator=generator).tolist()
    return [VOCABULARY.first_code_id + 16 * (i % 7) + code for i, code in enumerate(draws)]


@settings(max_examples=12)
@given(num_frames=st.integers(0, 16), extra=st.integers(0, 6), seed=st.integers(0, 99))
def test_joined_pieces_equal_the_offline_decode(num_frames, extra, seed):
    ids = code_ids(7 * num_frames + extra, seed)
    stream = AudioTokenStream(VOCABULARY, CODEC)
    pieces = [stream.push(i) for i in ids] + [stream.flush()]
    joined = np.concatenate(pieces)
    if not num_frames:
        assert joined.size == 0
        return
    whole = CODEC.decode(VOCABULARY.from_ids(ids, drop_partial=True))[0, 0].numpy()
    assert joined.shape == whole.shape == (num_frames * 2048,)
    assert np.abs(joined - whole).max() < 1e-5
    assert np.abs(whole).max() > 1e-4


def test_audio_comes_before_the_end():
    stream = AudioTokenStream(VOCABULARY, CODEC)
    pieces = [stream.push(i) for i in code_ids(7 * 12, 0)]
    assert sum(map(len, pieces)) > 0
    assert stream.num_frames == 12


def test_wrong_tokens_and_wrong_order_are_refused():
    stream = AudioTokenStream(VOCABULARY, CODEC)
    ids = code_ids(7, 0)
    for token in [*ids[:5], ids[0]]:
        stream.push(token)
    with pytest.raises(LayoutError, match="slot 5"):
        stream.push(ids[6])
    stream = AudioTokenStream(VOCABULARY, CODEC)
    stream.flush()
    assert stream.flush().size == 0
    with pytest.raises(SessionError, match="has ended"):
        stream.push(ids[0])


def test_another_codec_is_refused():
    from vivavoce.codecs.nano import NanoCodec, NanoCodecConfig

    other = NanoCodec(NanoCodecConfig(encoder_dim=8, decoder_dim=8, codebook_size=32)).eval()
    with pytest.raises(VocabularyError, match="codewords per level"):
        AudioTokenStream(VOCABULARY, other)
