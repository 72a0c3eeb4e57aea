"""Log-mel equals Whisper's extractor, the filter bank equals Kaldi's, and a batch equals its items alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vivavoce.audio.features import LogMel, kaldi_fbank
from vivavoce.base.errors import AudioError, ConfigError

EXTRACTOR_CALLS = {
    "reflect": {"padding": "do_not_pad"},
    "hop": {"padding": "longest", "pad_to_multiple_of": 160},
    "silence": {},
}


def _clip(samples: int, seed: int = 0) -> np.ndarray:
    """A loud tone with a quiet noisy tail, so that the maximum and the floor both matter."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / 16000
    fading = np.linspace(1.0, 0.0, samples) ** 4
    return (0.7 * np.sin(2 * np.pi * 311 * time) * fading + 1e-4 * rng.standard_normal(samples)).astype(
        np.float32
    )


def _padded(clips: list[np.ndarray], filler: float) -> tuple[Tensor, Tensor]:
    batch = torch.full((len(clips), max(map(len, clips))), filler)
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    return batch, torch.tensor([len(c) for c in clips])


@pytest.mark.parametrize("num_mels", [80, 128])
@pytest.mark.parametrize("ending", list(EXTRACTOR_CALLS))
@pytest.mark.parametrize("samples", [16000, 15999, 16001, 1600, 321, 47777])
def test_log_mel_equals_the_extractor(num_mels: int, ending: str, samples: int) -> None:
    from transformers import WhisperFeatureExtractor

    clip = _clip(samples)
    extractor = WhisperFeatureExtractor(feature_size=num_mels)
    call = EXTRACTOR_CALLS[ending]
    expected = extractor(clip, sampling_rate=16000, return_tensors="pt", **call)["input_features"][0]
    features, frames = LogMel(num_mels, ending)(torch.from_numpy(clip)[None])
    assert frames.tolist() == [features.shape[-1]]
    assert frames.item() == (samples // 160 if ending == "reflect" else -(-samples // 160))
    if ending != "silence":
        assert expected.shape == features.shape[1:]
    torch.testing.assert_close(features[0], expected[:, : features.shape[-1]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("samples", [32000, 31999, 31850, 31801, 31800, 20001, 160, 7])
def test_whole_windows_are_all_that_the_extractor_gives(samples: int) -> None:
    """Frames past the clip's end too, those that see its last samples among them."""
    from transformers import WhisperFeatureExtractor

    clip = _clip(samples)[::-1].copy()  # loud to the last sample
    extractor = WhisperFeatureExtractor(chunk_length=2)
    expected = extractor(clip, sampling_rate=16000, return_tensors="pt")["input_features"]
    features, frames = LogMel(ending="hop", multiple=200)(torch.from_numpy(clip)[None])
    assert frames.tolist() == [200]
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("ending", "multiple"), [("hop", 0), ("silence", 3000), ("reflect", 2)])
def test_whole_windows_need_the_ending_hop(ending: str, multiple: int) -> None:
    with pytest.raises(ConfigError, match="multiple"):
        LogMel(ending=ending, multiple=multiple)  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", list(EXTRACTOR_CALLS))
@given(lengths=st.lists(st.integers(0, 5000), min_size=1, max_size=4), filler=st.sampled_from([0.0, 9.0]))
def test_batch_equals_alone(ending: str, lengths: list[int], filler: float) -> None:
    clips = [_clip(n, seed=i) * 10.0 ** (-i) for i, n in enumerate(lengths)]
    mel = LogMel(20, ending, pad_value=-7.0)
    features, frames = mel(*_padded([c.astype(np.float32) for c in clips], filler))
    assert frames.tolist() == mel.num_frames(torch.tensor(lengths)).tolist()
    assert features.shape == (len(lengths), 20, max(frames.tolist()))
    for clip, row, count in zip(clips, features, frames.tolist(), strict=True):
        alone, _ = mel(torch.from_numpy(clip.astype(np.float32))[None])
        torch.testing.assert_close(row[:, :count], alone[0], rtol=0, atol=1e-5)
        assert (row[:, count:] == -7.0).all()


def test_features_have_no_state_and_survive_casting() -> None:
    mel, clip = LogMel(), torch.from_numpy(_clip(3200))[None]
    before, _ = mel(clip)
    assert not mel.state_dict()
    with torch.device("meta"):
        on_meta = LogMel()
    after, _ = on_meta.to(torch.bfloat16)(clip)
    assert torch.equal(before, after)


def test_gradients_flow_even_after_inference_mode() -> None:
    with torch.inference_mode():
        LogMel(11)(torch.zeros(1, 800))
        kaldi_fbank(torch.zeros(1, 800), num_mels=11)
    wave = torch.from_numpy(_clip(1600))[None].requires_grad_()
    (LogMel(11)(wave)[0].sum() + kaldi_fbank(wave, num_mels=11)[0].sum()).backward()
    assert wave.grad is not None and torch.isfinite(wave.grad).all() and wave.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("num_mels", "window"), [(128, "povey"), (80, "povey"), (40, "hanning"), (23, "hamming")]
)
def test_kaldi_fbank_equals_an_independent_computation(num_mels: int, window: str) -> None:
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    clip = _clip(7777)
    name = {"hanning": "hann"}.get(window, window)
    filters = mel_filter_bank(
        257, num_mels, 20, 8000, 16000, mel_scale="kaldi", triangularize_in_mel_space=True
    )
    expected = spectrogram(
        clip * 2.0**15,
        window_function(400, name, periodic=False),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=filters,
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
    )
    wave = torch.from_numpy(clip)[None].double()
    features, frames = kaldi_fbank(wave, num_mels=num_mels, window=window, scale=2.0**15)  # type: ignore[arg-type]
    assert frames.item() == 1 + (7777 - 400) // 160 == expected.shape[1]
    np.testing.assert_allclose(
        features[0].numpy(), expected, rtol=0, atol=2e-3
    )  # the other works in single precision
    single, _ = kaldi_fbank(wave.float(), num_mels=num_mels, window=window, scale=2.0**15)  # type: ignore[arg-type]
    torch.testing.assert_close(single, features.float(), rtol=0, atol=2e-3)


@given(lengths=st.lists(st.integers(0, 3000), min_size=1, max_size=4))
def test_kaldi_batch_equals_alone(lengths: list[int]) -> None:
    clips = [_clip(n, seed=i) for i, n in enumerate(lengths)]
    features, frames = kaldi_fbank(*_padded(clips, 5.0), num_mels=20, pad_value=-3.0)
    for clip, row, count in zip(clips, features, frames.tolist(), strict=True):
        assert count == max(0, 1 + (len(clip) - 400) // 160)
        alone, _ = kaldi_fbank(torch.from_numpy(clip)[None], num_mels=20)
        torch.testing.assert_close(row[:, :count], alone[0], rtol=0, atol=1e-4)
        assert (row[:, count:] == -3.0).all()


def test_kaldi_settings_change_what_they_name() -> None:
    wave = torch.from_numpy(_clip(2000))[None]
    plain, _ = kaldi_fbank(wave + 0.3, preemphasis=0.0)
    assert not torch.allclose(plain, kaldi_fbank(wave + 0.3, preemphasis=0.0, remove_dc=False)[0])
    assert not torch.allclose(plain, kaldi_fbank(wave + 0.3)[0])
    assert torch.equal(kaldi_fbank(wave, high_hz=-400.0)[0], kaldi_fbank(wave, high_hz=7600.0)[0])


def test_wrong_input_is_refused_in_words() -> None:
    mel = LogMel()
    for wave in (torch.zeros(800), torch.zeros(1, 1, 800), torch.zeros(1, 800, dtype=torch.int16)):
        with pytest.raises(AudioError, match=r"wanted float \[batch, samples\]"):
            mel(wave)
    with pytest.raises(AudioError, match="0 to 800"):
        mel(torch.zeros(1, 800), torch.tensor([801]))
    with pytest.raises(AudioError, match="wanted 2 values"):
        kaldi_fbank(torch.zeros(2, 800), torch.tensor([3]))
    with pytest.raises(ConfigError, match="num_mels is 0"):
        LogMel(0)
    with pytest.raises(ConfigError, match="reflect, hop, silence"):
        LogMel(ending="mirror")  # type: ignore[arg-type]
    for settings in ({"num_mels": 2}, {"low_hz": 9000.0}, {"window": "hat"}, {"hop_ms": 0.0}):
        with pytest.raises(ConfigError):
            kaldi_fbank(torch.zeros(1, 800), **settings)  # type: ignore[arg-type]
