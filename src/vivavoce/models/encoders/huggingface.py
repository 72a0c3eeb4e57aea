"""Encoders of transformers that read waveforms: wav2vec 2.0, HuBERT, WavLM and their relatives.

Letters: N clips, S samples, T filter-bank frames (100 Hz), P pairs of them, F encoder frames (50 Hz),
D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from vivavoce.audio.features import kaldi_fbank
from vivavoce.base.errors import CheckpointError, ConfigError, ModelError
from vivavoce.models.encoders.references import encoder_fields, fill, hub_arguments, locate
from vivavoce.models.layers import length_mask

# padding can be masked everywhere, so that clips of unlike length run together
_TOGETHER = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "wav2vec2-bert")
# padding leaks through convolutions or pooling, so that only clips of equal length run together
_APART = ("wav2vec2-conformer", "data2vec-audio", "sew", "sew-d")
MODEL_TYPES = (*_TOGETHER, *_APART)

FBANK_MELS, FBANK_FRAME, FBANK_HOP = 80, 400, 160  # what wav2vec2-bert reads; frame and hop in samples
# what transformers' loader adds to the report though the encoder has no use for it outside pre-training
_MAY_MISS = ("masked_spec_embed",)


@dataclass(frozen=True)
class HuggingFaceEarsConfig:
    """Which encoder, and how it takes clips.

    Attributes:
        model: Config of transformers as a dict with ``model_type``, all fields or only those that differ.
            SpecAugment (``apply_spec_augment``) is off unless it is set here.
        normalise: Scale each clip to mean 0 and variance 1 (the filter bank's bins, for wav2vec2-bert). A
            model's ``preprocessor_config.json`` says so as ``do_normalize``.
        longest_samples: Most samples of one pass, at 16 kHz; null for no limit.
        ref: Hub id or folder of published weights, when they are not stored with the model.
    """

    model: dict[str, Any]
    normalise: bool = True
    longest_samples: int | None = 480_000
    ref: str | None = None

    def __post_init__(self) -> None:
        kind = self.model.get("model_type")
        faults = []
        if kind not in MODEL_TYPES:
            faults.append(f"model.model_type is {kind!r}, wanted one of {', '.join(map(repr, MODEL_TYPES))}")
        if self.longest_samples is not None and self.longest_samples < 1:
            faults.append(
                f"longest_samples is {self.longest_samples}, wanted 1 or more, or null for no limit"
            )
        if faults:
            raise ConfigError("; ".join(faults))


class HuggingFaceEars(nn.Module):
    """Waveforms [N, S] at 16 kHz -> states [N, F, D].

    A batch gives each clip what it gets alone, which takes care with these models:

    - wav2vec 2.0, HuBERT, WavLM, UniSpeech, UniSpeech-SAT and wav2vec2-bert run in one batch with padding
      masked. Those with ``feat_extract_norm: "group"`` (most base models) take statistics over a clip's whole
      time; here these are taken over its true frames only (``ClipConvLayer``).
    - In all other models, and in those with an adapter or with batch norm over positions, padding leaks. Only
      clips of equal length run together; where all lengths differ that is one by one. Training with fully
      sharded data parallelism, where all processes must run equally often, does not work with these.

    With ``reference_padding`` clips run in one batch padded with zeros, as transformers and its extractors do
    it. Models with ``feat_extract_norm: "group"`` were published without attention mask: they scale and hear
    the padding too.

    A clip too short for one frame is lengthened with silence after it is normalised.
    """

    takes: Literal["log_mel", "waveform"] = "waveform"
    reference_padding: bool = False

    def __init__(self, config: HuggingFaceEarsConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: Any = AutoModel.from_config(_model_config(config.model))
        inner = self.encoder.config
        self.longest = config.longest_samples
        self.hidden_size: int = inner.output_hidden_size if self._adapted else inner.hidden_size
        self._reads_fbank = inner.model_type == "wav2vec2-bert"
        self.shortest = _shortest(inner)
        self._grouped = getattr(inner, "feat_extract_norm", None) == "group"
        if self._grouped and self.runs_together:
            layers = self.encoder.feature_extractor.conv_layers
            layers[0] = ClipConvLayer(layers[0])

    @property
    def _adapted(self) -> bool:
        return bool(getattr(self.encoder.config, "add_adapter", False))

    @property
    def runs_together(self) -> bool:
        """Whether clips of unlike length run in one batch, see the class."""
        inner = self.encoder.config
        leaky = self._adapted or getattr(inner, "conv_pos_batch_norm", False)
        return inner.model_type in _TOGETHER and not leaky

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Encoder frames of clips of so many samples, int64 [N]: the convolutions' arithmetic."""
        inner = self.encoder.config
        frames = lengths.clamp(min=self.shortest)
        if self._reads_fbank:
            frames = ((frames - FBANK_FRAME) // FBANK_HOP + 1) // 2
        else:
            for kernel, stride in zip(inner.conv_kernel, inner.conv_stride, strict=True):
                frames = (frames - kernel) // stride + 1
        for _ in range(inner.num_adapter_layers if self._adapted else 0):
            side = inner.adapter_stride // 2 if self._reads_fbank else 1
            frames = (frames + 2 * side - inner.adapter_kernel_size) // inner.adapter_stride + 1
        return frames

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch of clips.

        Args:
            features: float [N, S], 16 kHz mono, nominally within -1 and 1.
            lengths: True samples, int64 [N], each 1 to S.

        Returns:
            States [N, F, D] in the dtype of the weights (zero past a clip's frames, but for
            ``reference_padding``), and frames int64 [N].

        Raises:
            ModelError: The waveforms are not [N, S], or lengths do not fit.
        """
        if features.dim() != 2 or lengths.shape != features.shape[:1]:
            raise ModelError(
                f"waveforms have shape {list(features.shape)} and lengths {list(lengths.shape)}; wanted "
                "[clips, samples] and one length each."
            )
        if bool(((lengths < 1) | (lengths > features.shape[1])).any()):
            raise ModelError(
                f"lengths are {lengths.tolist()}; wanted {len(features)} values from 1 to "
                f"{features.shape[1]} samples."
            )
        x, sizes = (
            self._filter_bank(features, lengths) if self._reads_fbank else self._wave(features, lengths)
        )
        x, frames = x.to(self.encoder.dtype), self.num_frames(lengths)
        if self.reference_padding:
            return self._run(x, None if self._grouped else sizes), frames
        if self.runs_together:
            states = self._run(x, sizes, clip_norm=True)
            return states * length_mask(frames, states.shape[1])[..., None], frames
        out = x.new_zeros(len(x), int(frames.max()), self.hidden_size)
        for size in sizes.unique().tolist():
            group = (sizes == size).nonzero().flatten()
            states = self._run(x[group, :size])
            out[group, : states.shape[1]] = states
        return out, frames

    def _run(self, x: Tensor, sizes: Tensor | None = None, clip_norm: bool = False) -> Tensor:
        """Inputs [N, S] or [N, P, 160] -> states; ``sizes`` are true samples or pairs, None for all.

        ``clip_norm`` says that the first convolution shall heed them, too.
        """
        mask = length_mask(sizes, x.shape[1]).long() if sizes is not None else None
        rotary: Any = getattr(self.encoder.encoder, "embed_positions", None)
        if hasattr(rotary, "cached_rotary_positional_embedding"):
            rotary.cached_rotary_positional_embedding = None  # may be of another dtype or device
        if not (clip_norm and self._grouped):
            plain: Tensor = self.encoder(x, attention_mask=mask).last_hidden_state
            return plain
        first = self.encoder.feature_extractor.conv_layers[0]
        try:
            first.samples = sizes
            states: Tensor = self.encoder(x, attention_mask=mask).last_hidden_state
        finally:
            first.samples = None
        return states

    def _wave(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Scale clips and zero what is past them; float32 [N, S'] and sizes [N], at least ``shortest``."""
        x = features.float().masked_fill(~length_mask(lengths, features.shape[1]), 0.0)
        if self.config.normalise:
            heard = (
                torch.full_like(lengths, x.shape[1]) if self.reference_padding and self._grouped else lengths
            )
            x = _standard(x, length_mask(heard, x.shape[1]), heard, 0)
        return F.pad(x, (0, max(0, self.shortest - x.shape[1]))), lengths.clamp(min=self.shortest)

    def _filter_bank(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms -> neighbouring frames of the filter bank side by side, [N, P, 160], and pairs int64 [N].

        A last frame without a neighbour counts in the normalisation and is then left out: the published
        extractor masks it.
        """
        x = F.pad(features.float(), (0, max(0, self.shortest - features.shape[1])))
        inside = length_mask(lengths, x.shape[1])
        bank, frames = kaldi_fbank(
            x.masked_fill(~inside, 0.0),
            lengths.clamp(min=self.shortest),
            num_mels=FBANK_MELS,
            scale=2.0**15,
        )
        if self.config.normalise:
            real = length_mask(frames, bank.shape[-1])[:, None]
            bank = _standard(bank, real, frames[:, None], 1)
        pairs = frames // 2
        bank = bank.mT[:, : 2 * int(pairs.max())]
        return bank.reshape(len(bank), -1, 2 * FBANK_MELS), pairs

    def references(self) -> dict[str, str]:
        """Where published weights come from: {"": ref}, or nothing."""
        return {"": self.config.ref} if self.config.ref is not None else {}

    def load_reference(self, prefix: str = "", folder: Path | None = None, **hub: Any) -> None:
        """Load the weights that ``config.ref`` names, of the bare encoder or of a model with a head.

        Args:
            prefix: "", the only prefix that ``references`` gives.
            folder: Where a relative path is looked for first.
            hub: ``cache_dir``, ``local_files_only``, ``token``, ``revision``, ``subfolder``.

        Raises:
            ModelError: Nothing to load, or it cannot be had.
            CheckpointError: It does not fit this config.
        """
        reference = self.references().get(prefix)
        if reference is None:
            raise ModelError(
                f"this encoder has no reference for parameters {prefix!r}: ref is {self.config.ref!r}."
            )
        source = locate(reference, folder)
        plain: Any = AutoModel
        try:
            loaded, info = plain.from_pretrained(
                source,
                config=_model_config(self.config.model),
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **hub_arguments(hub),
            )
        except (OSError, ValueError) as error:
            raise ModelError(
                f"the weights of {source!r} cannot be had: {str(error).strip().splitlines()[0]} Without a "
                f"network, run `hf download {source}` elsewhere and set ref to that folder."
            ) from error
        wrong = [f"{n} is {list(a)}, the config wants {list(b)}" for n, a, b in info["mismatched_keys"]]
        if wrong:
            raise CheckpointError(f"{source} does not fit the config: {'; '.join(sorted(wrong)[:5])}.")
        tensors = {k: v for k, v in loaded.state_dict().items() if k not in info["missing_keys"]}
        fill(self.encoder, tensors, source, may_miss=_MAY_MISS)


class ClipConvLayer(nn.Module):
    """A first convolution with a norm over time, whose statistics are each clip's and not the padding's.

    Takes the place of transformers' layer, with its parameters and their names. It is not recomputed under
    gradient checkpointing, as the lengths are not part of its input.

    Attributes:
        samples: True samples of the batch that is running, int64 [N]; None for all.
    """

    samples: Tensor | None = None

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.conv, self.layer_norm, self.activation = layer.conv, layer.layer_norm, layer.activation

    def forward(self, x: Tensor) -> Tensor:
        """x [N, 1, S] -> [N, C, T]."""
        x = self.conv(x)
        return self.activation(self.layer_norm(x) if self.samples is None else self._norm(x, self.samples))

    def _norm(self, x: Tensor, samples: Tensor) -> Tensor:
        frames = (samples - self.conv.kernel_size[0]) // self.conv.stride[0] + 1
        real = length_mask(frames, x.shape[-1])[:, None]
        wide, count = x.float(), frames[:, None, None]
        centred = wide - (wide * real).sum(-1, keepdim=True) / count
        variance = (centred * real).square().sum(-1, keepdim=True) / count
        normed = (centred * (variance + self.layer_norm.eps).rsqrt()).to(x.dtype)
        return normed * self.layer_norm.weight[:, None] + self.layer_norm.bias[:, None]


def _model_config(model: dict[str, Any]) -> PreTrainedConfig:
    fields = {"apply_spec_augment": False, **encoder_fields(model)}
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


def _shortest(inner: PreTrainedConfig) -> int:
    """Samples of the shortest clip: enough for one frame, or for the frames that SEW pools into one."""
    if inner.model_type == "wav2vec2-bert":
        return FBANK_FRAME + FBANK_HOP
    samples = getattr(inner, "squeeze_factor", 1)
    for kernel, stride in zip(reversed(inner.conv_kernel), reversed(inner.conv_stride), strict=True):
        samples = (samples - 1) * stride + kernel
    return int(samples)


def _standard(x: Tensor, real: Tensor, count: Tensor, spare: int) -> Tensor:
    """Scale the last axis to mean 0 and variance 1 over its real places, and zero the others.

    ``spare`` 1 divides the variance by one less than the count, as PyTorch does by default, 0 does not, as
    NumPy.
    """
    count = count[..., None]
    mean = (x * real).sum(-1, keepdim=True) / count
    centred = (x - mean) * real
    variance = centred.square().sum(-1, keepdim=True) / (count - spare)
    return centred / (variance + 1e-7).sqrt()
