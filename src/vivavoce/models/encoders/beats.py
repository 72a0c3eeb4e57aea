"""BEATs: an encoder of any sound, from 16 kHz waveforms to 50 tokens a second.

A Kaldi filter bank is cut into patches of 16 frames by 16 mel bins; tokens run through the 8 patches of one
160 ms step from low to high, then go to the next step. So token ``i`` is band ``i % 8`` of step ``i // 8``.

Source: BEATs (Chen et al. 2022, microsoft/unilm, MIT), whose state-dict names are used here. The published
table ``relative_attention_bias`` is repeated for every layer though there is only one; here layer 0 holds it,
and the repeats are dropped when a state dict is loaded.

Letters: N clips, S samples, T filter-bank frames (100 Hz), M mel bins (128), L tokens, D width, C classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivavoce.audio.features import kaldi_fbank
from vivavoce.base.errors import AudioError, ConfigError, ModelError
from vivavoce.models.encoders.beats_attention import DeepNormLayer, PositionConv
from vivavoce.models.encoders.beats_config import MELS, BeatsConfig
from vivavoce.models.layers import length_mask

Padding = Literal["alone", "masked", "unmasked"]

MEAN, DEVIATION = 15.41663, 6.55582  # of the filter bank; it is divided by twice the deviation
FRAME, HOP = 400, 160  # samples
LONGEST = 480_000  # samples


class _Encoder(nn.Module):
    """Positions, the norm that BEATs has at the input, and the layers."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        d = config.encoder_embed_dim
        alpha = (2 * config.encoder_layers) ** 0.25 if config.deep_norm else 1.0
        self.max_distance, self.layerdrop = config.max_distance, config.encoder_layerdrop
        self.pos_conv = nn.Sequential(PositionConv(d, config.conv_pos, config.conv_pos_groups), nn.GELU())
        self.layer_norm = nn.LayerNorm(d)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            DeepNormLayer(
                d,
                config.encoder_ffn_embed_dim,
                config.encoder_attention_heads,
                alpha,
                config.activation_fn,
                (config.dropout, config.attention_dropout, config.activation_dropout),
                None if i else config.num_buckets,
            )
            for i in range(config.encoder_layers)
        )

    def forward(self, x: Tensor, hidden: Tensor | None) -> Tensor:
        """x [N, L, D], hidden bool [N, L] (True is padding) or None -> [N, L, D]."""
        if hidden is not None:
            x = x.masked_fill(hidden[..., None], 0.0)
        x = x + self.pos_conv(x.transpose(1, 2)).transpose(1, 2)
        x = self.dropout(self.layer_norm(x))
        bias = self.layers[0].self_attn.position_bias(x.shape[1], self.max_distance)  # type: ignore[union-attr, operator]
        for layer in self.layers:
            if not (self.training and self.layerdrop and float(torch.rand(())) < self.layerdrop):
                x = layer(x, bias, hidden)
        return x


class BeatsEncoder(nn.Module):
    """Waveforms at 16 kHz -> states at 50 tokens a second, and probabilities of kinds of sound.

    ``padding`` of the methods says what clips of unlike length do in one batch:

    - "alone" (the default): each clip gives what it gives alone and unpadded: its own frames, ``(T // 16) * 8``
      tokens, and no other clip's length in sight.
    - "masked" (the default with ``reference_padding``): as the official code with a padding mask. Every clip
      has the tokens of the whole width, and which of them are masked is worked out linearly from samples to
      frames to tokens, so that a step of 160 ms can be masked in its high bands only.
    - "unmasked": as the official code without a mask; silence up to the width is part of the clip.

    A clip too short for one patch is lengthened with silence to one (2800 samples, 0.175 s).

    Attributes:
        reference_padding: See above.
        labels: What the classes are, if the checkpoint told.
    """

    takes: Literal["waveform"] = "waveform"
    longest = LONGEST
    reference_padding = False

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        self.config, d, patch = config, config.encoder_embed_dim, config.input_patch_size
        self.hidden_size = d
        self.labels: dict[int, str] = {}
        self.patch_embedding = nn.Conv2d(1, config.embed_dim, patch, stride=patch, bias=config.conv_bias)
        self.layer_norm = nn.LayerNorm(config.embed_dim)
        self.post_extract_proj = nn.Linear(config.embed_dim, d) if config.embed_dim != d else None
        self.dropout_input = nn.Dropout(config.dropout_input)
        self.encoder = _Encoder(config)
        self.predictor_dropout = nn.Dropout(config.predictor_dropout)
        self.predictor = nn.Linear(d, config.predictor_class) if config.finetuned_model else None
        self.register_load_state_dict_pre_hook(drop_repeats)

    @property
    def shortest(self) -> int:
        """Samples of one patch; shorter clips are lengthened to it."""
        return FRAME + HOP * (self.config.input_patch_size - 1)

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Tokens of clips of ``lengths`` samples, int64 [N]; with ``reference_padding`` the longest's for
        all."""
        if self.reference_padding and lengths.numel():
            lengths = lengths.amax().expand_as(lengths)
        frames = (lengths.clamp(min=self.shortest) - FRAME) // HOP + 1
        patch = self.config.input_patch_size
        return frames // patch * (MELS // patch)

    def fbank(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the normalised filter bank.

        Args:
            waveform: float [N, S], nominally within -1 and 1. float64 is computed in float64, anything else
                in float32.
            lengths: True samples, int64 [N]; None means S for all.

        Returns:
            [N, T, M] with zeros past a clip's own frames, and frames int64 [N].
        """
        wide = waveform if waveform.dtype == torch.float64 else waveform.float()
        bank, frames = kaldi_fbank(wide, lengths, num_mels=MELS, scale=2.0**15, pad_value=MEAN)
        return (bank.mT - MEAN) / (2 * DEVIATION), frames

    def forward(
        self, features: Tensor, lengths: Tensor, padding: Padding | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode a batch of clips.

        Args:
            features: float [N, S], 16 kHz, nominally within -1 and 1, zero past a clip's length.
            lengths: True samples, int64 [N], each 1 to S.
            padding: See the class; None for the class's default.

        Returns:
            States [N, L, D] and tokens int64 [N]. With "alone" states are zero past a clip's own tokens; else
            every clip has all L.

        Raises:
            AudioError: Lengths that do not fit the waveform.
        """
        mode = self._mode(padding)
        states, hidden = self.encode(features, lengths, mode)
        if mode == "alone" and hidden is not None:
            return states.masked_fill(hidden[..., None], 0.0), (~hidden).sum(1)
        return states, lengths.new_full(lengths.shape, states.shape[1])

    def _mode(self, padding: Padding | None) -> Padding:
        mode = padding or ("masked" if self.reference_padding else "alone")
        if mode not in get_args(Padding):
            raise ConfigError(f"padding is {mode!r}; wanted one of {', '.join(get_args(Padding))}.")
        return mode

    def encode(
        self, waveform: Tensor, lengths: Tensor, padding: Padding | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """As ``forward``, but gives raw states [N, L, D] and which tokens are padding, bool [N, L] or None."""
        mode = self._mode(padding)
        if waveform.dim() != 2 or bool((lengths < 1).any()):
            raise AudioError(
                f"waveforms have shape {tuple(waveform.shape)} and {lengths.tolist()} samples; wanted "
                "[clips, samples] and at least one sample each. Leave empty clips out."
            )
        waveform = F.pad(waveform, (0, max(0, self.shortest - waveform.shape[1])))
        own = None
        if mode == "alone":
            waveform = waveform.masked_fill(~length_mask(lengths, waveform.shape[1]), 0.0)
            own = lengths.clamp(min=self.shortest)
        bank, frames = self.fbank(waveform, own)
        dtype = self.patch_embedding.weight.dtype
        x = self.patch_embedding(bank.to(dtype)[:, None]).flatten(2).transpose(1, 2)
        hidden: Tensor | None = None
        if mode == "alone":
            tokens = frames // self.config.input_patch_size * (MELS // self.config.input_patch_size)
            hidden = ~length_mask(tokens, x.shape[1])
        elif mode == "masked":
            hidden = ~length_mask(lengths, waveform.shape[1])
            hidden = linear_mask(linear_mask(hidden, bank.shape[1]), x.shape[1])
        x = self.layer_norm(x)
        x = self.dropout_input(x if self.post_extract_proj is None else self.post_extract_proj(x))
        return self.encoder(x, hidden), hidden

    def class_probabilities(
        self, waveform: Tensor, lengths: Tensor, padding: Padding | None = None
    ) -> Tensor:
        """Tell which kinds of sound are in each clip (AudioSet's for the published model).

        Args:
            waveform: As ``features`` of ``forward``.
            lengths: True samples, int64 [N].
            padding: As in ``forward``.

        Returns:
            float [N, C], 0 to 1; kinds do not exclude each other. ``labels`` names them.

        Raises:
            ModelError: The weights have no such head.
        """
        if self.predictor is None:
            raise ModelError(
                "this BEATs has no head for kinds of sound (finetuned_model is false); load a fine-tuned "
                "checkpoint, such as BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt."
            )
        states, hidden = self.encode(waveform, lengths, padding)
        logits = self.predictor(self.predictor_dropout(states))
        if hidden is None:
            return torch.sigmoid(logits.mean(1))
        heard = ~hidden[..., None]
        return torch.sigmoid((logits * heard).sum(1) / heard.sum(1))

    def references(self) -> dict[str, str]:
        """Where published weights come from: {"": ref}, or nothing."""
        return {"": self.config.ref} if self.config.ref is not None else {}

    def load_reference(self, prefix: str = "", folder: Path | None = None, **hub: Any) -> None:
        """Load the weights that ``config.ref`` names.

        Args:
            prefix: "", the only prefix that ``references`` gives.
            folder: Where a relative path is looked for first.
            hub: ``cache_dir``, ``force_download``, ``local_files_only``, ``token``, ``revision``.

        Raises:
            ModelError: Nothing to load, or the file cannot be had.
            CheckpointError: It cannot be read or does not fit this config.
        """
        from vivavoce.models.encoders.beats_weights import fill_encoder, find, read_checkpoint

        reference = self.references().get(prefix)
        if reference is None:
            raise ModelError(
                f"BEATs has no reference for parameters {prefix!r}: ref is {self.config.ref!r}. Set ref to the "
                'published file or its folder, and ask for prefix "".'
            )
        fill_encoder(self, read_checkpoint(find(reference, folder, hub)))


def linear_mask(hidden: Tensor, size: int) -> Tensor:
    """Carry a padding mask to a coarser axis as the official code does.

    The positions are cut into ``size`` equal runs (what is left over at the end is forgotten), and a run is
    padding if all of it is. Tokens are 8 bands of one moment, but are counted as moments here: the official
    code does so, and published models heard their padded batches like that.

    Args:
        hidden: bool [N, fine], True is padding.
        size: Positions of the coarser axis, at most ``fine``.

    Returns:
        bool [N, size].
    """
    run = hidden.shape[1] // size
    return hidden[:, : run * size].unflatten(1, (size, run)).all(-1)


def drop_repeats(module: BeatsEncoder, state: dict[str, Tensor], prefix: str = "", *_: object) -> None:
    """Forget the copies of layer 0's position table that official state dicts hold for the other layers.

    ``load_state_dict`` calls it first. A copy that differs stays, and is then reported as unexpected.
    """
    name = "self_attn.relative_attention_bias.weight"
    first = state.get(f"{prefix}encoder.layers.0.{name}")
    for i in range(1, module.config.encoder_layers):
        copy = state.get(f"{prefix}encoder.layers.{i}.{name}")
        if copy is not None and first is not None and torch.equal(copy, first):
            del state[f"{prefix}encoder.layers.{i}.{name}"]
