"""One language model, several ears: log-mel embeddings, or codec tokens in the vocabulary.

Letters: B clips, L positions, D width, T coarse frames of the codec (11.7 Hz), F encoder frames (25 Hz).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from make_tokenizer import word_tokenizer
from numbers_data import Clip
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from vivavoce.codecs.contract import CodecSpec
from vivavoce.models.connectors.stack import StackConfig, StackProjector
from vivavoce.models.encoders.mel_ctc import MelCTCConfig, MelCTCEncoder
from vivavoce.tokens.vocabulary import extend_vocabulary

SPECIALS = "<pad> <unk> <|user|> <|heard|> <|end|> <|audio|>".split()
ANSWER = "=>"  # between transcript and answer, a plain word: a token model's reply shows both
BLANK = 0  # of CTC: the padding token
SLOTS = {3: (0, 1, 2, 3, 4, 5, 6), 2: (0, 1, 4), 1: (0,)}  # columns of A B C C B C C that stay
CTC_SLOTS = {
    3: (3, 6),
    2: (1, 2),
    1: (0,),
}  # where a frame's words may be read: twice a frame, 23 Hz, or once

TEMPLATE = (
    "{%- for m in messages -%}{%- if m['role'] == 'user' -%}{{ '<|user|>' }}"
    "{%- if m['content'] is string -%}{{ '<|heard|>' + m['content'] }}"
    "{%- else -%}"
    "{%- for p in m['content'] -%}{%- if p['type'] == 'audio' -%}{{ '<|audio|>' }}{%- endif -%}{%- endfor -%}"
    "{{ '<|heard|>' }}"
    "{%- for p in m['content'] -%}{%- if p['type'] == 'text' -%}{{ ' ' + p['text'] }}{%- endif -%}{%- endfor -%}"
    "{%- endif -%}"
    "{%- elif m['role'] == 'assistant' -%}{{ ' => ' }}"
    "{%- if m['content'] is string -%}{{ m['content'] }}"
    "{%- else -%}"
    "{%- for p in m['content'] -%}{%- if p['type'] == 'text' -%}{{ ' ' + p['text'] }}{%- endif -%}{%- endfor -%}"
    "{%- endif -%}{{ '<|end|>' }}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{%- set last = messages[-1]['content'] -%}"
    "{%- if last is string or last | selectattr('type', 'equalto', 'text') | list -%}{{ ' =>' }}{%- endif -%}"
    "{%- endif -%}"
)

# Codec tokens are put into a content that the template does not see, so spoken and typed turns are written alike.
TOKENS_TEMPLATE = (
    "{%- for m in messages -%}{%- if m['role'] == 'user' -%}{{ '<|user|>' + m['content'] + '<|heard|>' }}"
    "{%- elif m['role'] == 'assistant' -%}{{ ' ' + m['content'] + '<|end|>' }}{%- endif -%}{%- endfor -%}"
)


@dataclass(frozen=True)
class Ear:
    """How a clip reaches the language model.

    Attributes:
        kind: "mel": encoder and connector. "tokens": flat codec tokens. "summed": one position per coarse frame,
            the sum of its tokens' embeddings.
        levels: Codec levels used, coarse to fine.
        ctc: Add a CTC loss over the transcript, on the encoder's states or, for codec tokens, on the language
            model's own states at the tokens.
    """

    kind: str
    levels: int = 3
    ctc: bool = False


EARS = {
    "mel": Ear("mel"), "flat": Ear("tokens"), "coarse_mid": Ear("tokens", 2), "coarse": Ear("tokens", 1),
    "summed": Ear("summed"),
}  # fmt: skip
EARS |= {f"{name}_ctc": replace(ear, ctc=True) for name, ear in EARS.items()}


def build_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Special tokens, the sign between transcript and answer, then the words."""
    return word_tokenizer([*SPECIALS, ANSWER, *words], TEMPLATE)


def build_language_model(vocab_size: int) -> LlamaForCausalLM:
    """The bundle's Llama: width 256, 6 layers."""
    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=256, intermediate_size=704, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=SPECIALS.index("<|end|>"), pad_token_id=0, attn_implementation="sdpa",
    )  # fmt: skip
    return LlamaForCausalLM(config)


class TwoEars(nn.Module):
    """The language model with one kind of ear.

    Args:
        ear: Which.
        tokenizer: From ``build_tokenizer``; a copy is extended for codec tokens.
        codec_spec: The codec with all its levels.
        language_model: Warmed on text, or new; changed in place.
    """

    def __init__(
        self,
        ear: Ear,
        tokenizer: PreTrainedTokenizerFast,
        codec_spec: CodecSpec,
        language_model: LlamaForCausalLM,
    ) -> None:
        super().__init__()
        self.ear, self.tokenizer, self.language_model = ear, copy.deepcopy(tokenizer), language_model
        self.text_size, width = len(tokenizer), language_model.config.hidden_size
        get = tokenizer.convert_tokens_to_ids
        self.user, self.heard, self.end, self.answer = (
            get(t) for t in ("<|user|>", "<|heard|>", "<|end|>", ANSWER)
        )
        self.vocabulary = None
        if ear.kind == "mel":
            self.encoder_config = MelCTCConfig(vocab_size=self.text_size, blank_id=BLANK)
            self.audio_encoder = MelCTCEncoder(self.encoder_config)
            self.connector_config = StackConfig(width, width, stack_factor=2, hidden_size=512)
            self.connector = StackProjector(self.connector_config)
        elif ear.kind == "tokens":
            self.codec_spec = replace(codec_spec, strides=codec_spec.strides[: ear.levels], weights="")
            self.vocabulary = extend_vocabulary(
                self.tokenizer, language_model, codec_spec=self.codec_spec, layout="orpheus", init="normal"
            )
            self.tokenizer.chat_template = TOKENS_TEMPLATE
        else:
            self.frame_embedding = nn.Embedding(codec_spec.codebook_size * len(SLOTS[3]), width)
            nn.init.normal_(self.frame_embedding.weight, std=0.02)
            self.codebook_size = codec_spec.codebook_size

        if ear.ctc and ear.kind != "mel":  # the encoder has its own; this one is only for training
            self.ctc_head = nn.Linear(width, self.text_size)

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.convert_tokens_to_ids(text.split())

    # what is heard

    def listen(self, clips: Sequence[Clip]) -> tuple[list[Tensor], Tensor | None]:
        """Embeddings [L_i, D] of each clip, and the CTC loss of ears that have their own head."""
        if self.ear.kind == "mel":
            return self._listen_mel(clips)
        table = self.language_model.model.embed_tokens
        if self.ear.kind == "summed":
            offsets = torch.arange(len(SLOTS[3])) * self.codebook_size
            frames = [self.frame_embedding(clip.codes.long() + offsets).sum(1) for clip in clips]
            return frames, None
        return [table(self.token_ids(clip)) for clip in clips], None

    def token_ids(self, clip: Clip) -> Tensor:
        """Codec tokens of a clip, start and end included, int64 [2 + period * T]."""
        assert self.vocabulary is not None
        columns = list(SLOTS[self.ear.levels])
        offsets = torch.tensor(self.vocabulary.flattening.offsets)
        codes = (clip.codes[:, columns].long() + offsets + self.vocabulary.first_code_id).flatten()
        return F.pad(
            F.pad(codes, (1, 0), value=self.vocabulary.start_id), (0, 1), value=self.vocabulary.end_id
        )

    def _listen_mel(self, clips: Sequence[Clip]) -> tuple[list[Tensor], Tensor | None]:
        lengths = torch.tensor([clip.mel.shape[1] for clip in clips])
        features = torch.zeros(len(clips), len(clips[0].mel), int(lengths.max()))
        for row, clip in zip(features, clips, strict=True):
            row[:, : clip.mel.shape[1]] = clip.mel.float()
        states, frames = self.audio_encoder(features, lengths)
        loss = None
        if self.ear.ctc and self.training:
            loss = self._ctc(self.audio_encoder.ctc_logits(states), frames, clips)
        audio, counts = self.connector(states, frames)
        return [row[:count] for row, count in zip(audio, counts.tolist(), strict=True)], loss

    def _ctc(self, logits: Tensor, frames: Tensor, clips: Sequence[Clip]) -> Tensor:
        """CTC loss per word of logits [B, F, V] over the transcripts."""
        texts = [self.ids(clip.text) for clip in clips]
        counts = torch.tensor([len(t) for t in texts])
        loss = F.ctc_loss(
            logits.float().log_softmax(-1).transpose(0, 1), torch.tensor([i for t in texts for i in t]), frames,
            counts, blank=BLANK, reduction="none", zero_infinity=True,
        )  # fmt: skip
        return (loss / counts).mean()

    def _ctc_at_tokens(self, hidden: Tensor, clips: Sequence[Clip]) -> Tensor:
        """The same on the language model's states [B, L, D] where codec tokens stand (after user and start)."""
        if self.ear.kind == "summed":
            begin, period, places = 1, 1, (0,)
        else:
            begin, period, places = 2, len(SLOTS[self.ear.levels]), CTC_SLOTS[self.ear.levels]
        counts = [len(clip.codes) for clip in clips]
        at = torch.arange(max(counts))[:, None] * period + torch.tensor(places) + begin
        logits = self.ctc_head(hidden[:, at.flatten()])
        return self._ctc(logits, torch.tensor(counts) * len(places), clips)

    # losses

    def backbone(self, embeds: Tensor) -> Tensor:
        """Input embeddings [B, L, D] -> final states; padding is on the right, so causality hides it."""
        return self.language_model.model(inputs_embeds=embeds, use_cache=False).last_hidden_state

    def _token_loss(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy over text tokens; an answer is never a codec token, so those rows are left out."""
        hidden, target = hidden[:, :-1], labels[:, 1:]
        chosen = target != -100
        head = self.language_model.get_input_embeddings().weight[: self.text_size]
        return F.cross_entropy((hidden[chosen] @ head.t()).float(), target[chosen])

    def hearing_loss(self, clips: Sequence[Clip]) -> tuple[Tensor, Tensor | None, int]:
        """(loss on transcript and answer, CTC loss or None, language-model positions without padding)."""
        heard, ctc = self.listen(clips)
        embed = self.language_model.model.embed_tokens
        rows, labels = [], []
        for clip, audio in zip(clips, heard, strict=True):
            after = [self.heard, *self.ids(clip.text), self.answer, *self.ids(clip.answer), self.end]
            tokens = embed(torch.tensor([self.user, *after])).to(audio.dtype)
            rows.append(torch.cat([tokens[:1], audio, tokens[1:]]))
            labels.append(torch.tensor([-100] * (2 + len(audio)) + after[1:]))
        width = -(-max(map(len, rows)) // 16) * 16
        embeds = torch.stack([F.pad(r, (0, 0, 0, width - len(r))) for r in rows])
        target = torch.stack([F.pad(t, (0, width - len(t)), value=-100) for t in labels])
        hidden = self.backbone(embeds)
        if self.ear.ctc and ctc is None:
            ctc = self._ctc_at_tokens(hidden, clips)
        return self._token_loss(hidden, target), ctc, sum(map(len, rows))

    def text_loss(self, facts: Sequence[tuple[str, str]]) -> Tensor:
        """Loss on typed questions and their answers: as if heard in every second row, else as typed turns stand."""
        rows, labels = [], []
        for i, (question, answer) in enumerate(facts):
            asked, said = self.ids(question), [self.answer, *self.ids(answer), self.end]
            typed = i % 2
            rows.append(
                [self.user, *asked, self.heard, *said] if typed else [self.user, self.heard, *asked, *said]
            )
            labels.append([-100, *asked, -100, *said] if typed else [-100, -100, *asked, *said])
        width = max(map(len, rows))
        ids = torch.tensor([r + [BLANK] * (width - len(r)) for r in rows])
        target = torch.tensor([r + [-100] * (width - len(r)) for r in labels])
        return self._token_loss(self.backbone(self.language_model.model.embed_tokens(ids)), target)

    # replies

    @torch.inference_mode()
    def reply(self, clips: Sequence[Clip], max_new: int) -> list[tuple[str, str]]:
        """Greedy (transcript, answer) of each clip; the answer is "" where none was written."""
        embed = self.language_model.model.embed_tokens
        edges = embed(torch.tensor([self.user, self.heard]))
        rows = [torch.cat([edges[:1], audio.to(edges.dtype), edges[1:]]) for audio in self.listen(clips)[0]]
        width = max(map(len, rows))
        embeds = torch.stack([F.pad(r, (0, 0, width - len(r), 0)) for r in rows])
        mask = torch.stack([F.pad(torch.ones(len(r), dtype=torch.long), (width - len(r), 0)) for r in rows])
        made: Any = self.language_model.generate(
            inputs_embeds=embeds, attention_mask=mask, max_new_tokens=max_new, do_sample=False,
            suppress_tokens=None, eos_token_id=self.end, pad_token_id=BLANK,
        )  # fmt: skip
        out = []
        for row in made.tolist():
            row = row[: row.index(self.end)] if self.end in row else row
            text = " ".join(self.tokenizer.convert_ids_to_tokens(row))
            transcript, _, answer = text.partition(ANSWER)
            out.append((transcript.strip(), answer.strip()))
        return out
