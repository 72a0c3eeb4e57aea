"""Whisper's encoder for clips of any length: log-mel features in, 50 states a second out.

transformers' own modules with its own parameter names, run by a forward pass that does not need 30 s.

Letters: N clips, M mel bins, T mel frames (100 Hz), F encoder frames (50 Hz), D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import WhisperConfig
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.models.encoders.references import (
    encoder_fields,
    fill,
    find_weights,
    hub_arguments,
    locate,
    read_tensors,
)
from vivavoce.models.layers import length_mask

_PREFIXES = ("model.encoder.", "encoder.", "")
SILENCE = (-10.0 + 4.0) / 4.0  # what nothing at all is in Whisper's log-mel, and its least value
RANGE = 8.0 / 4.0  # the log-mel is cut this far below a clip's maximum


@dataclass(frozen=True)
class WhisperEarsConfig:
    """Which Whisper, and how it takes clips that are not 30 s long.

    Attributes:
        model: Fields of transformers' ``WhisperConfig``, all or only those that differ; the decoder's are not
            used.
        pad_to_longest: Continue every clip with silence to the full context, as OpenAI and SALMONN do:
            Whisper was trained so. By default a clip is only as long as it is, as in Ultravox.
        block_frames: Let a frame attend to its own and earlier blocks of so many encoder frames (20 ms each)
            only, so that what was heard is final once a block is over.
        ref: Hub id, folder or file of published weights, when they are not stored with the model.
    """

    model: dict[str, Any] = field(default_factory=dict)
    pad_to_longest: bool = False
    block_frames: int | None = None
    ref: str | None = None

    def __post_init__(self) -> None:
        kind = self.model.get("model_type", "whisper")
        if kind != "whisper":
            raise ConfigError(f"model.model_type is {kind!r}, wanted 'whisper'")
        if self.block_frames is not None and self.block_frames < 1:
            raise ConfigError(f"block_frames is {self.block_frames}, wanted 1 or more, or null for no blocks")


class WhisperEars(nn.Module):
    """Log-mel features [N, M, T] -> states [N, F, D], with ``F = ceil(T / 2)``.

    A batch gives each clip what it gets alone: past its frames the features, the first convolution's output
    and the states are zero, and no frame attends to what is past the end. With ``reference_padding`` features
    are taken as they are and only attention is masked, as in Ultravox: the states of a clip then depend a
    little on what it is padded with, and states past its end are not zero.

    With ``pad_to_longest`` every clip has the full context of frames. The features may have it already
    (``LogMel(ending="hop", multiple=3000)``, which equals Whisper's extractor); shorter ones are continued
    with the value that silence has beside the clip. With ``LogMel(ending="silence")`` that is Whisper's own
    but for the one or two frames past the end that still see the clip's last samples.

    Source: Whisper (OpenAI, MIT) as in transformers; masks as in Ultravox (fixie-ai, MIT).
    """

    takes: Literal["log_mel", "waveform"] = "log_mel"
    reference_padding: bool = False

    def __init__(self, config: WhisperEarsConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = WhisperEncoder(WhisperConfig(**encoder_fields(config.model)))
        self.hidden_size: int = self.encoder.config.d_model

    @property
    def longest(self) -> int:
        """Mel frames of one pass: 3000 (30 s) in every published model."""
        return 2 * self.encoder.config.max_source_positions

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Encoder frames of mel lengths, int64 [N]: half, rounded up, or the full context."""
        if self.config.pad_to_longest:
            return torch.full_like(lengths, self.encoder.config.max_source_positions)
        return (lengths + 1) // 2

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch of log-mel features.

        Args:
            features: Whisper log-mel, float [N, M, T], 100 Hz, T at most ``longest``.
            lengths: True mel frames, int64 [N], 1 to T.

        Returns:
            States [N, F, D] in the dtype of the weights, and frames int64 [N].

        Raises:
            ModelError: Too long, of another number of mel bins, or lengths that do not fit.
        """
        self._check(features, lengths)
        if self.config.pad_to_longest:
            features = self._continue_with_silence(features, lengths)
            lengths = torch.full_like(lengths, self.longest)
        encoder, frames = self.encoder, self.num_frames(lengths)
        real = length_mask(lengths, features.shape[-1])[:, None]
        x = features if self.reference_padding else features.masked_fill(~real, 0.0)
        x = F.gelu(encoder.conv1(x.to(encoder.conv1.weight.dtype)))
        x = x if self.reference_padding else x * real
        x = F.gelu(encoder.conv2(x)).transpose(1, 2)
        x = x + encoder.embed_positions(torch.arange(x.shape[1], device=x.device))
        x = F.dropout(x, encoder.dropout, self.training)
        heard = length_mask(frames, x.shape[1])
        mask = create_bidirectional_mask(encoder.config, x, heard, and_mask_function=self._blocks())
        for layer in encoder.layers:
            if not (self.training and encoder.layerdrop and float(torch.rand(())) < encoder.layerdrop):
                x = layer(x, mask)
        x = encoder.layer_norm(x)
        return (x if self.reference_padding else x * heard[..., None]), frames

    def _blocks(self) -> Callable[..., Any] | None:
        size = self.config.block_frames
        if size is None:
            return None
        kind = self.encoder.config._attn_implementation or ""
        if "flash" in kind:
            raise ModelError(
                f"block_frames is {size}, and {kind} attention knows no blocks; load the model with "
                'attn_implementation="sdpa".'
            )
        return lambda clip, head, query, key: key // size <= query // size

    def _continue_with_silence(self, features: Tensor, lengths: Tensor) -> Tensor:
        """[N, M, T] -> [N, M, ``longest``], each clip going on as silence does in Whisper's log-mel."""
        real = length_mask(lengths, self.longest)[:, None]
        x = F.pad(features.float(), (0, self.longest - features.shape[-1]))
        peak = x.masked_fill(~real, -torch.inf).amax(dim=(1, 2), keepdim=True)
        return torch.where(real, x, (peak - RANGE).clamp(min=SILENCE))

    def _check(self, features: Tensor, lengths: Tensor) -> None:
        mels = self.encoder.config.num_mel_bins
        if features.dim() != 3 or features.shape[1] != mels:
            raise ModelError(
                f"features have shape {list(features.shape)}; this Whisper wants [clips, {mels} mel bins, "
                f"frames]. Set audio_in.features to {{'num_mels': {mels}}}."
            )
        size = features.shape[-1]
        if size > self.longest:
            raise ModelError(
                f"features have {size} frames ({size / 100:.2f} s); this Whisper takes at most "
                f"{self.longest} ({self.longest / 100:.2f} s) in one pass. Cut them into chunks of that size."
            )
        if lengths.shape != features.shape[:1] or bool(((lengths < 1) | (lengths > size)).any()):
            raise ModelError(
                f"lengths are {lengths.tolist()}; wanted {len(features)} values from 1 to {size} mel frames."
            )

    def references(self) -> dict[str, str]:
        """Where published weights come from: {"": ref}, or nothing."""
        return {"": self.config.ref} if self.config.ref is not None else {}

    def load_reference(self, prefix: str = "", folder: Path | None = None, **hub: Any) -> None:
        """Load the encoder's weights that ``config.ref`` names; a decoder beside them is not read.

        Args:
            prefix: "", the only prefix that ``references`` gives.
            folder: Where a relative path is looked for first.
            hub: ``cache_dir``, ``local_files_only``, ``token``, ``revision``, ``subfolder``.

        Raises:
            ModelError: Nothing to load, or it cannot be had.
            CheckpointError: It cannot be read or does not fit this config.
        """
        reference = self.references().get(prefix)
        if reference is None:
            raise ModelError(
                f"this Whisper has no reference for parameters {prefix!r}: ref is {self.config.ref!r}."
            )
        source = locate(reference, folder)
        files = find_weights(source, hub_arguments(hub))
        fill(self.encoder, read_tensors(files, _PREFIXES, "conv1.weight", source), source)
