"""EnCodec at 24 kHz, mono: 75 frames per second, 1 to 32 codebooks, token-exact batches and streams.

Every convolution pads by reflection. The last one of the encoder has 7 taps, so frames 0 to 6 also depend on
the 6
frames after the first: a stream gives nothing for 7 frames (93.3 ms), then one frame per 320 samples (13.3
ms). The decoder is alike. From there on both are causal, and the last frame of a clip depends on its true
end.

Letters: B batch, S samples, T frames, K levels, D width.

Source: Défossez et al. 2022, "High Fidelity Neural Audio Compression"; layers and weights are those of
transformers' EncodecModel. Differences: codes keep the true length, and long clips run in exact pieces.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers.models.encodec.configuration_encodec import EncodecConfig
from transformers.models.encodec.modeling_encodec import (
    EncodecConv1d,
    EncodecConvTranspose1d,
    EncodecLSTM,
    EncodecModel,
    EncodecResnetBlock,
)

from vivavoce.base.errors import CodecError, ConfigError
from vivavoce.codecs.causal_codec import CausalCodec, spread_codewords
from vivavoce.codecs.causal_layers import (
    Chain,
    Convolution,
    Pointwise,
    Recurrence,
    Residual,
    Stage,
    TransposedConvolution,
)
from vivavoce.codecs.contract import CodecSpec
from vivavoce.codecs.folders import build_config, load_pretrained, read_config, save_pretrained, seeded
from vivavoce.codecs.published import ENCODEC_LICENCE


class EncodecCodec(CausalCodec):
    """EnCodec in float32. Streaming: exact; state is per-layer left context and two LSTM states.

    Args:
        model: A 24 kHz style model: mono, causal, not chunked. It is taken over: weight norm is folded into
            the weights.
        bandwidth: kbit/s, one of ``model.config.target_bandwidths``; 0.75 per codebook at 24 kHz. Default:
            the lowest. Codes of a lower bandwidth are the first levels of those of a higher one.
        weights: Hash of the weights for ``spec``.

    Raises:
        CodecError: A chunked, normalised, stereo or non-causal model.
        ConfigError: A bandwidth the model was not trained for.
    """

    def __init__(self, model: EncodecModel, bandwidth: float | None = None, weights: str = "") -> None:
        super().__init__()
        refuse_unsupported(model.config)
        self.bandwidth = choose_bandwidth(model.config, bandwidth)
        self.model = model.eval().requires_grad_(False)
        for layer in list(model.modules()):  # weight norm is computed once instead of at every call
            if parametrize.is_parametrized(layer, "weight"):
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        rate = model.config.sampling_rate
        self.spec = CodecSpec(
            name=f"encodec_{rate / 1000:g}khz",
            sample_rate=rate,
            frame_samples=model.config.hop_length,
            strides=(1,) * model.quantizer.get_num_quantizers_for_bandwidth(self.bandwidth),
            codebook_size=model.config.codebook_size,
            lookahead_samples=0,
            causal=True,
            licence=ENCODEC_LICENCE,
            weights=weights,
        )

    @classmethod
    def from_folder(cls, folder: str | Path, bandwidth: float | None = None) -> EncodecCodec:
        """Load a folder in transformers' form: config.json and model.safetensors (or pytorch_model.bin).

        Raises:
            CheckpointError: A file is missing or damaged, or tensors do not fit the config.
            CodecError, ConfigError: as the constructor.
        """
        config = build_config(EncodecConfig, read_config(folder, "encodec"), folder)
        refuse_unsupported(config)
        model, weights = load_pretrained(EncodecModel, config, folder)
        return cls(model, bandwidth, weights)

    @classmethod
    def from_config(
        cls, config: EncodecConfig | dict[str, Any], bandwidth: float | None = None, seed: int = 0
    ) -> EncodecCodec:
        """Make a codec with seeded random weights, codewords included."""
        config = EncodecConfig(**config) if isinstance(config, dict) else config
        refuse_unsupported(config)
        with seeded(seed):
            model = EncodecModel(config).eval()
            with torch.no_grad():
                latents = model.encoder(0.1 * torch.randn(1, 1, 64 * config.hop_length))
                centre = latents.mean(dim=(0, 2))  # distances of far-off latents would be all rounding
                model.encoder.layers[-1].conv.bias -= centre
                latents = latents - centre[:, None]
                spread_codewords(latents, [layer.codebook.embed for layer in model.quantizer.layers])
        return cls(model, bandwidth)

    def save(self, folder: str | Path) -> None:
        """Write a folder in transformers' form, weight norm included; it loads to the same codec."""
        model = EncodecModel(self.model.config)
        state = self.model.state_dict()
        for name, layer in model.named_modules():
            if parametrize.is_parametrized(layer, "weight"):
                layer.weight = state.pop(f"{name}.weight")
        model.load_state_dict(state, strict=False)
        save_pretrained(model, folder)

    def whole_latents(self, waveform: Tensor) -> Tensor:
        return self.model.encoder(waveform)

    def whole_waveform(self, latents: Tensor) -> Tensor:
        return self.model.decoder(latents)

    def quantize(self, latents: Tensor) -> Tensor:
        return self.model.quantizer.encode(latents, self.bandwidth)

    def dequantize(self, codes: Tensor) -> Tensor:
        return self.model.quantizer.decode(codes)

    def encoder_stages(self) -> Stage:
        return chain_of(self.model.encoder.layers)

    def decoder_stages(self) -> Stage:
        return chain_of(self.model.decoder.layers)


def refuse_unsupported(config: EncodecConfig) -> None:
    """Refuse the 48 kHz kind of EnCodec, which is not one stream of frames.

    Raises:
        CodecError: names what the config has and what is wanted.
    """
    faults = {
        f"{config.audio_channels} channels": config.audio_channels != 1,
        f"chunks of {config.chunk_length_s} s": config.chunk_length_s is not None,
        "loudness normalisation": config.normalize,
        "non-causal convolutions": not config.use_causal_conv or config.trim_right_ratio != 1.0,
        f"{config.norm_type}": config.norm_type != "weight_norm",
    }
    found = [name for name, wrong in faults.items() if wrong]
    if found:
        raise CodecError(
            f"this EnCodec ({config.sampling_rate} Hz) has {', '.join(found)}; only the mono, causal 24 kHz "
            f"kind gives one stream of frames. Use facebook/encodec_24khz and resample to 24000 Hz."
        )


def choose_bandwidth(config: EncodecConfig, bandwidth: float | None) -> float:
    """Return a bandwidth in kbit/s that the model was trained for; None means the lowest.

    Raises:
        ConfigError: the model has no such bandwidth.
    """
    known = [float(b) for b in config.target_bandwidths]
    if bandwidth is None:
        return min(known)
    if float(bandwidth) not in known:
        raise ConfigError(
            f"bandwidth is {bandwidth} kbit/s, wanted one of {', '.join(f'{b:g}' for b in known)} "
            f"(the model's target_bandwidths)."
        )
    return float(bandwidth)


def stage_of(layer: nn.Module) -> Stage:
    """The stateful form of one layer of transformers' EnCodec."""
    if isinstance(layer, EncodecConv1d):
        return Convolution(layer.conv, layer.pad_mode)
    if isinstance(layer, EncodecConvTranspose1d):
        return TransposedConvolution(layer.conv)
    if isinstance(layer, EncodecLSTM):
        return Recurrence(layer.lstm)
    if isinstance(layer, EncodecResnetBlock):
        return Residual(chain_of(layer.block), stage_of(layer.shortcut))
    return Pointwise(layer)


def chain_of(layers: Iterable[nn.Module]) -> Stage:
    """The stateful form of layers one after the other."""
    return Chain([stage_of(layer) for layer in layers])
