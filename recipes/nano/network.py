"""The bundle's network while it trains: the parts of the speech LM under the names they have in the saved model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F
from hearing import HearingBatch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from vivavoce.models.connectors.stack import StackConfig, StackProjector
from vivavoce.models.encoders.mel_ctc import MelCTCConfig, MelCTCEncoder
from vivavoce.models.voice.aligned import AlignedVoice, AlignedVoiceConfig
from vivavoce.models.voice.teaching import SpeakingBatch, speaking_losses
from vivavoce.tokens.phones import PHONES

WIDTH = 256
PHONES_PER_FRAME = 2  # quick speech has 20 phones a second: CTC wants more room than 25 frames


@cache
def quick_bfloat16() -> bool:
    """Whether the CPU has AMX: without it bfloat16 takes half as long again as float32, with it less."""
    return torch.cpu._is_amx_tile_supported()


def text_config(vocab_size: int) -> LlamaConfig:
    """A Llama of 4.9 M parameters."""
    return LlamaConfig(
        vocab_size=vocab_size, hidden_size=WIDTH, intermediate_size=704, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=5, pad_token_id=0, attn_implementation="sdpa",
    )  # fmt: skip


def ctc_loss(logits: Tensor, frames: Tensor, targets: Sequence[Sequence[int]], blank: int) -> Tensor:
    """Mean over rows of the CTC loss per target; logits [B, F, V]."""
    counts = torch.tensor([len(target) for target in targets])
    flat = torch.tensor([i for target in targets for i in target], dtype=torch.long)
    log_probs = F.log_softmax(logits.float(), -1).transpose(0, 1)
    loss = F.ctc_loss(log_probs, flat, frames, counts, blank=blank, reduction="none", zero_infinity=True)
    # an empty target has one path, all blanks: its loss is a sum over frames and is scaled like a word's
    return (loss / torch.where(counts > 0, counts, torch.tensor(4))).mean()


class Nano(nn.Module):
    """Ears, mind and (once its training starts) voice.

    Args:
        vocab_size: Tokens.
        faint_ears: The ears squeeze faint sounds instead of cutting them, see ears.md.
        phone_head: The ears learn to read phones too, by a head that is not shipped (see ears.md).
    """

    def __init__(self, vocab_size: int, faint_ears: bool = False, phone_head: bool = False) -> None:
        super().__init__()
        self.language_model = LlamaForCausalLM(text_config(vocab_size))
        self.encoder_config = MelCTCConfig(vocab_size=vocab_size)
        if faint_ears:
            self.encoder_config = replace(self.encoder_config, faint_decades=3.0, level="top")
        self.audio_encoder = MelCTCEncoder(self.encoder_config)
        self.phone_head = nn.Linear(WIDTH, PHONES_PER_FRAME * (len(PHONES) + 1)) if phone_head else None
        self.connector_config = StackConfig(WIDTH, WIDTH, stack_factor=2, hidden_size=512, ctc_words=True)
        self.connector = StackProjector(self.connector_config)
        nn.init.constant_(self.connector.ctc_scale, 5.0)  # words start as loud as sound
        self.voice: AlignedVoice | None = None

    def add_voice(self, config: AlignedVoiceConfig) -> None:
        """Give the network a voice, freshly initialised."""
        self.voice = AlignedVoice(config)

    def backbone(self, embeds: Tensor) -> Tensor:
        """Input embeddings [B, L, D] -> final hidden states; padding is on the right, so causality hides it."""
        return self.language_model.model(inputs_embeds=embeds, use_cache=False).last_hidden_state

    def token_loss(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of the next token at the positions whose label is not -100."""
        hidden, target = hidden[:, :-1], labels[:, 1:]
        chosen = target != -100
        return F.cross_entropy(self.language_model.lm_head(hidden[chosen]).float(), target[chosen])

    def text_loss(self, ids: Tensor, labels: Tensor) -> Tensor:
        return self.token_loss(self.backbone(self.language_model.model.embed_tokens(ids)), labels)

    def ears_losses(self, batch: HearingBatch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """States and frames of the ears, their CTC logits, and CTC losses per target word and per phone (or 0)."""
        states, frames = self.audio_encoder(batch.features, batch.lengths)
        logits = self.audio_encoder.ctc_logits(states)
        ctc = ctc_loss(logits, frames, batch.transcripts, self.encoder_config.blank_id)
        phones = torch.zeros(())
        if self.phone_head is not None and batch.phones is not None:
            sounds = self.phone_head(states).view(len(states), -1, len(PHONES) + 1)
            phones = ctc_loss(sounds, PHONES_PER_FRAME * frames, batch.phones, 0)
        return states, frames, logits, ctc, phones

    def hearing_loss(self, batch: HearingBatch) -> tuple[Tensor, Tensor, Tensor]:
        """(language-model loss on the transcript, CTC loss per target word, and per phone or 0)."""
        states, frames, logits, ctc, phones = self.ears_losses(batch)
        audio, counts = self.connector(states, frames)
        embed = self.language_model.model.embed_tokens
        audio = self.connector.add_ctc_words(
            audio, logits, frames, embed.weight, self.encoder_config.blank_id
        )
        rows, labels = [], []
        for i, (before, after) in enumerate(zip(batch.before, batch.after, strict=True)):
            sound = audio[i, : int(counts[i])]
            words = [embed(torch.tensor(ids)).to(audio.dtype) for ids in (before, after)]
            rows.append(torch.cat([words[0], sound, words[1]]))
            skip = len(rows[-1]) - len(after) + 1
            labels.append(torch.cat([torch.full((skip,), -100), torch.tensor(after[1:])]))
        width = -(-max(map(len, rows)) // 16) * 16
        embeds = torch.stack([F.pad(r, (0, 0, 0, width - len(r))) for r in rows])
        target = torch.stack([F.pad(t, (0, width - len(t)), value=-100) for t in labels])
        return self.token_loss(self.backbone(embeds), target), ctc, phones

    def speaking_loss(self, batch: SpeakingBatch) -> tuple[Tensor, Tensor]:
        """(cross-entropy of codes, squared error of log durations)."""
        assert self.voice is not None
        return speaking_losses(self.voice, self.language_model.model.embed_tokens, self.backbone, batch)
