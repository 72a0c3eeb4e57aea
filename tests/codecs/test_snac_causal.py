"""The causal variant of SNAC: nothing depends on what comes later, and streams give everything at once."""

from __future__ import annotations

import pytest
import torch
from tests.codecs.any_codec import random_wave
from tests.codecs.snac_cases import CONFIGS, tiny_snac

from vivavoce.base.errors import ConfigError
from vivavoce.codecs.contract import Codes
from vivavoce.codecs.snac import PUBLISHED, SNACCodec, SNACConfig


def test_output_before_a_frame_does_not_depend_on_input_after_it() -> None:
    """Whole way, input to output; the plain network, through which gradients go in training, and the streams."""
    codec = tiny_snac("causal")
    size = codec.spec.frame_samples
    for frames in (1, 3, 7):
        at, steps = frames * size, frames * codec.config.frame_steps
        one, other = random_wave(10 * size, 1), random_wave(10 * size, 2)
        other[..., :at] = one[..., :at]
        made = [codec.decode(codec.encode(wave)) for wave in (one, other)]
        torch.testing.assert_close(made[0][..., :at], made[1][..., :at], rtol=0, atol=1e-6)
        latents = [codec.encoder(wave) for wave in (one, other)]
        torch.testing.assert_close(latents[0][..., :steps], latents[1][..., :steps], rtol=0, atol=1e-6)
        assert not latents[0][..., steps].equal(latents[1][..., steps]), "the next sample counts at once"
        later = [torch.cat([latents[0][..., :steps], torch.randn_like(latents[0])], -1) for _ in range(2)]
        made = [codec.decoder(rows) for rows in later]
        torch.testing.assert_close(made[0][..., :at], made[1][..., :at], rtol=0, atol=1e-6)
        assert not made[0][..., at].equal(made[1][..., at])


def test_streams_are_not_behind() -> None:
    codec = tiny_snac("causal")
    size = codec.spec.frame_samples
    assert (
        codec.spec.causal
        and codec.spec.lookahead_samples == 0
        and codec.config.encoder_lookahead_samples == 0
    )
    encoder, decoder = codec.stream_encoder(), codec.stream_decoder()
    wave, given = random_wave(6 * size, 3), []
    for piece in wave.split(size, dim=-1):
        codes = encoder.push(piece)
        assert codes.levels[0].shape[1] == 1 and codes.num_samples == [size], (
            "a frame's codes come with its last sample"
        )
        given.append(decoder.push(codes))
        assert given[-1].shape[-1] == size, "a frame's samples come with its codes"
    assert decoder.flush().shape[-1] == 0
    torch.testing.assert_close(torch.cat(given, -1), codec.decode(codec.encode(wave)), rtol=0, atol=1e-6)


def test_streams_and_plain_network_agree() -> None:
    codec = tiny_snac("causal")
    wave = random_wave(5 * codec.spec.frame_samples, 4)
    with torch.no_grad():
        rows = codec.encoder(wave)[0].t()
        levels = [level[None] for level in codec.quantizer.encode(rows)]
        found = codec.encode(wave)
        assert all(torch.equal(a, b) for a, b in zip(levels, found.levels, strict=True))
        made = codec.decoder(codec.quantizer.embed(levels).transpose(1, 2))
    torch.testing.assert_close(made, codec.decode(found), rtol=0, atol=1e-6)


def test_samples_after_the_true_end_wait() -> None:
    codec = tiny_snac("causal")
    size = codec.spec.frame_samples
    codes = codec.encode(random_wave(3 * size - 5, 5))
    stream = codec.stream_decoder()
    assert stream.push(codes).shape[-1] == 3 * size - 5
    stream = codec.stream_decoder()
    stream.push(Codes(codes.levels, [2 * size]))
    assert stream.flush(3 * size).shape[-1] == size


def test_windows_look_ahead_and_are_refused() -> None:
    with pytest.raises(ConfigError, match="attn_window_size is 32"):
        SNACConfig(causal=True)


def test_the_flag_is_written_only_where_it_is_set(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert all("causal" not in config.to_dict() for config in PUBLISHED.values())
    codec = tiny_snac("causal")
    codec.save(tmp_path)
    again = SNACCodec.from_folder(tmp_path)
    assert again.config == CONFIGS["causal"]
    wave = random_wave(4 * codec.spec.frame_samples, 6)
    assert torch.equal(codec.encode(wave).levels[2], again.encode(wave).levels[2])
