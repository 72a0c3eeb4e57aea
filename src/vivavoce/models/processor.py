"""From conversations to model inputs: text, clips, placeholders or sound tokens.

Letters: B conversations, L positions, N clips, M mel bins, T mel frames, S samples.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoProcessor, ProcessorMixin

from vivavoce.base.errors import ConfigError, ModelError, VocabularyError
from vivavoce.base.records import write_record
from vivavoce.models.audio_parts import list_clips, read_source
from vivavoce.models.batches import SpeechInputs, pad_rows, place_clips
from vivavoce.models.config import EmbeddingsIn, SpeechLMConfig, TokensIn, read_sides
from vivavoce.models.conversation import (
    audio_parts,
    places_audio,
    plain_messages,
    refuse_placeholder,
    render_with_placeholders,
    turn_end_ids,
)
from vivavoce.models.sides import PLACEHOLDER, Shelf, Sides
from vivavoce.tokens.chat import render_chat
from vivavoce.tokens.phones import Lexicon, spoken_form, voice_lexicons


class SpeechProcessor(Sides, ProcessorMixin):
    """Turns messages into what a ``SpeechLM`` reads; saved and loaded with its folder.

    Args:
        tokenizer: The text model's, with audio tokens where the model has them.
        chat_template: Instead of the tokenizer's own.
        audio_in: As in ``SpeechLMConfig``.
        audio_out: As in ``SpeechLMConfig``.
        text_form: "spoken" spells out typed text as spoken words.
    """

    def __init__(
        self,
        tokenizer: Any,
        chat_template: str | None = None,
        audio_in: Any = None,
        audio_out: Any = None,
        text_form: str = "plain",
    ) -> None:
        self.ears, self.mouth = read_sides(audio_in, audio_out)
        # plain copies: what is saved in processor_config.json
        self.audio_in, self.audio_out = write_record(self.ears), write_record(self.mouth)
        self.text_form = text_form
        self._shelf, self.folder = Shelf(), ""
        super().__init__(tokenizer, chat_template=chat_template)

    @classmethod
    def for_config(cls, tokenizer: Any, config: SpeechLMConfig, folder: str | Path = "") -> SpeechProcessor:
        """The processor of a model with this config; ``folder`` is where relative codec folders are."""
        made = cls(tokenizer, None, config.audio_in, config.audio_out, config.text_form)
        made.folder = str(folder)
        return made

    # storage

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        made = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        processor = made[0] if isinstance(made, tuple) else made
        processor.folder = str(pretrained_model_name_or_path)
        return made

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> Any:
        """Write tokenizer, settings, the record of audio tokens, and codecs of the model's folder."""
        saved = super().save_pretrained(save_directory, push_to_hub, **kwargs)
        for name in sorted({getattr(side, "codec", "") for side in (self.ears, self.mouth)} - {""}):
            source, target = Path(self.folder) / name, Path(save_directory) / name
            inside = self.folder and not Path(name).is_absolute() and source.is_dir()
            if inside and source.resolve() != target.resolve():
                shutil.copytree(source, target, dirs_exist_ok=True)
        for lexicon in sorted(Path(self.folder).glob("lexicon_*.txt")) if self.folder else ():
            if lexicon.parent.resolve() != Path(save_directory).resolve():
                shutil.copy(lexicon, save_directory)  # pronunciations of a voice
        for vocabulary in (self.vocabulary_in, self.vocabulary_out):
            if vocabulary is not None:
                vocabulary.save(Path(save_directory))
        return saved

    # text

    @property
    def template(self) -> str | None:
        """The chat template that replaces the tokenizer's own, if any."""
        return self.chat_template if isinstance(self.chat_template, str) else None

    @property
    def takes_tools(self) -> bool:
        """Whether the chat template describes tools to the model."""
        template = self.template or getattr(self.tokenizer, "chat_template", None)
        return isinstance(template, str) and re.search(r"\btools\b", template) is not None

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer by the tokenizer and its template."""
        return frozenset(turn_end_ids(self.tokenizer, self.template))

    @property
    def pad_id(self) -> int:
        """The id that fills up rows of a batch."""
        pad = self.tokenizer.pad_token_id
        return int(next(iter(sorted(self.stop_ids)), 0) if pad is None else pad)

    @cached_property
    def lexicons(self) -> dict[str, Lexicon]:
        """Pronunciations that the folder ships for voices of other languages, by their names."""
        return voice_lexicons(self.folder)

    def voice_for(self, text: str) -> str | None:
        """The voice in whose language a text is: its own lexicon has every word, whoever else has them too.

        Returns:
            Its name; None for the model's own language.
        """
        if not self.lexicons:
            return None
        try:
            words = spoken_form(text)
        except VocabularyError:  # of a script that no voice speaks
            return None
        for name, lexicon in self.lexicons.items() if words else ():
            if all(lexicon.source(word) == "extra" for word in words):
                return name
        return None

    # conversations

    def prepare(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        continue_last: bool = False,
        sampling_rate: int | None = None,
        entries: Sequence[Any] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> dict[str, Any]:
        """One conversation as ``input_ids`` (list of ints) and, for embeddings, the features of its clips.

        Args:
            messages: In the transformers / OpenAI shape.
            add_generation_prompt: End where the model is to go on.
            continue_last: End right after the last message's content, for an answer that is begun already.
            sampling_rate: Of clips that are arrays and do not say theirs, Hz.
            entries: What each clip becomes, where that is known: sound tokens, or a number of positions. No clip is
                read then, and there are no features.
            tools: Functions the model may call, as OpenAI describes them; see ``takes_tools``.

        Raises:
            ConfigError, AudioError, ModelError, VocabularyError: What is wrong with messages, audio or
                template.
        """
        spoken = self.spoken if self.text_form == "spoken" else None
        first = isinstance(self.ears, EmbeddingsIn) and self.ears.transcript_first
        around = (
            (self.ears.clip_before, self.ears.clip_after) if isinstance(self.ears, EmbeddingsIn) else ("", "")
        )
        plain = plain_messages(messages, spoken, transcripts=first, around=around)
        if self.audio_token is not None:
            refuse_placeholder(plain, self.audio_token)
        clips = audio_parts(plain)
        if clips and not isinstance(self.ears, TokensIn | EmbeddingsIn):
            raise ModelError("this model does not hear; give it text instead of audio.")
        if tools and not self.takes_tools:
            raise ModelError("this model's chat template has no place for tools; leave them out.")
        made: dict[str, Any] = {}
        if entries is None:
            waves = [self.read_clip(part, sampling_rate) for part in clips]
            entries = []
            if isinstance(self.ears, EmbeddingsIn) and waves:
                clips_in = self.clip_reader.read(waves)
                made = {"input_features": clips_in.features, "feature_lengths": clips_in.lengths}
                entries = clips_in.positions
            elif waves:
                entries = [self.audio_ids(w) for w in waves]
        template = self.template or self.tokenizer.chat_template
        if places_audio(template, self.audio_token):
            assert self.audio_token_id is not None
            if continue_last:
                raise ModelError("this model's chat template cannot continue an answer that has begun.")
            made["input_ids"] = render_with_placeholders(
                self.tokenizer,
                plain,
                entries,
                self.audio_token_id,
                add_generation_prompt,
                self.template,
                tools,
            )
            return made
        rendered = render_chat(
            self.tokenizer,
            plain,
            entries,
            vocabulary=self.vocabulary_in or self.vocabulary_out,
            placeholder_id=self.audio_token_id,
            loss_on="nothing",
            add_generation_prompt=add_generation_prompt and not continue_last,
            continue_last=continue_last,
            template=self.template,
            tools=tools,
            apart=isinstance(self.ears, EmbeddingsIn) and self.ears.text_apart,
        )
        made["input_ids"] = rendered.input_ids
        return made

    @staticmethod
    def spoken(text: str) -> str:
        """Text as spoken words."""
        return " ".join(spoken_form(text, name_letters=False))

    def apply_chat_template(  # type: ignore[override]
        self,
        conversation: Sequence[Any],
        chat_template: str | None = None,
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
        return_dict: bool = True,
        return_tensors: str | None = "pt",
        processor_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Render one conversation or a batch of them.

        Args:
            conversation: Messages in the transformers / OpenAI shape, or a list of such lists.
            chat_template: Refused; see ``chat_template`` of the processor.
            add_generation_prompt: End where the model is to go on.
            continue_final_message: End right after the last message's content.
            tokenize: True.
            return_dict: False gives only ``input_ids``.
            return_tensors: As in transformers.
            processor_kwargs: More of ``kwargs``.
            kwargs: ``sampling_rate`` of clips that are arrays and do not say theirs, Hz; ``padding_side``, "left" for
                generation (default) or "right"; ``padding`` is accepted, as batches are always padded.

        Returns:
            ``input_ids`` and ``attention_mask`` int64 [B, L]; with audio as embeddings also
            ``input_features`` [N, M, T], ``feature_lengths`` [N] and ``audio_batch_index`` [N].

        Raises:
            ConfigError: An argument this processor does not have, or a malformed conversation.
        """
        kwargs.update(processor_kwargs or {})
        unknown = sorted(kwargs.keys() - {"padding", "padding_side", "sampling_rate"})
        if unknown or not tokenize or chat_template is not None:
            what = ", ".join(unknown) or ("chat_template" if chat_template else "tokenize=False")
            raise ConfigError(
                f"apply_chat_template does not take {what}; set processor.chat_template for another "
                "template, and "
                "decode input_ids to see the text."
            )
        if isinstance(conversation, str | Mapping) or not len(conversation):
            raise ConfigError("no conversation; wanted a list of messages, or a list of such lists.")
        batched = not isinstance(conversation[0], Mapping)
        rows = [
            self.prepare(m, add_generation_prompt, continue_final_message, kwargs.get("sampling_rate"))
            for m in (conversation if batched else [conversation])
        ]
        inputs = self.collate(rows, kwargs.get("padding_side") or "left")
        return SpeechInputs(inputs, tensor_type=return_tensors) if return_dict else inputs["input_ids"]

    def __call__(  # type: ignore[override]
        self,
        text: str | Sequence[str] | None = None,
        audio: Any = None,
        sampling_rate: int | None = None,
        return_tensors: str | None = "pt",
        audios: Any = None,
        **kwargs: Any,
    ) -> SpeechInputs:
        """Text that is written out already, with one placeholder token per clip; nothing is put in front.

        Args:
            text: One text or several; special tokens in it are read as such.
            audio: One clip or a list of them in reading order, in any form of ``audio_parts.read_source``.
            sampling_rate: Of clips that are arrays, Hz.
            return_tensors: As in transformers.
            audios: Another name for ``audio``.
            kwargs: ``padding_side``, "left" (default) or "right"; ``padding`` is accepted, as batches are always
                padded.

        Raises:
            ConfigError: No text, arguments that this processor does not have, or clips and placeholders differ in
                number.
            AudioError: A clip that cannot be used.
            ModelError: Clips for a model that does not hear by embeddings; use ``apply_chat_template``.
        """
        unknown = {k for k, v in kwargs.items() if v is not None} - {"padding", "padding_side"}
        if unknown:
            raise ConfigError(f"the processor does not take {', '.join(sorted(unknown))}; leave it out.")
        if audio is not None and audios is not None:
            raise ConfigError("both audio and audios are given, which are two names of the same; give one.")
        texts = [text] if isinstance(text, str) else list(text or ())
        if not texts or not all(isinstance(one, str) for one in texts):
            raise ConfigError(
                "wanted a text or a list of texts; a clip alone is asked about by apply_chat_template."
            )
        clips = list_clips(audios if audio is None else audio)
        if clips and self.audio_token_id is None:
            raise ModelError(
                "this model hears no embeddings; pass clips as audio parts to apply_chat_template."
            )
        pieces = [one.split(self.audio_token) if self.audio_token else [one] for one in texts]
        wanted = sum(map(len, pieces)) - len(pieces)
        if wanted != len(clips):
            other = self.audio_token != PLACEHOLDER and any(PLACEHOLDER in one for one in texts)
            raise ConfigError(
                f"{len(clips)} clips for {wanted} {self.audio_token} in the text; wanted one for each, in order."
                + (f" What is {PLACEHOLDER} elsewhere is {self.audio_token} for this model." if other else "")
            )
        waves = [read_source(clip, self.sample_rate, sampling_rate) for clip in clips]
        heard = self.clip_reader.read(waves) if waves else None
        # what a template writes at the beginning is in the text already
        ids = [
            [list(self.tokenizer(p, add_special_tokens=False)["input_ids"]) for p in one] for one in pieces
        ]
        rows = place_clips(ids, heard, self.audio_token_id or 0)
        inputs = self.collate(rows, kwargs.get("padding_side") or "left")
        return SpeechInputs(inputs, tensor_type=return_tensors)

    def collate(self, rows: Sequence[Mapping[str, Any]], padding_side: str = "left") -> dict[str, Any]:
        """Pad conversations from ``prepare`` on one side, "left" or "right"; see ``batches.pad_rows``."""
        return pad_rows(rows, self.pad_id, padding_side)

    @property
    def model_input_names(self) -> list[str]:
        audio = ["input_features", "feature_lengths", "audio_batch_index"]
        return ["input_ids", "attention_mask", *(audio if isinstance(self.ears, EmbeddingsIn) else [])]


AutoProcessor.register(SpeechLMConfig, SpeechProcessor, exist_ok=True)
