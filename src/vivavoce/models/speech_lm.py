"""The speech LM: a causal LM plus, each optional, an audio encoder, a connector and an aligned voice.

Letters: B batch, L positions, N audio clips, M mel bins, T feature frames, F encoder frames, D width.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import torch
import transformers
from packaging.version import parse
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    GenerationMixin,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from vivavoce.base.errors import CheckpointError, ModelError
from vivavoce.models import CONNECTORS, ENCODERS, VOICES
from vivavoce.models.config import EmbeddingsIn, SpeechLMConfig, TokensOut, build_part
from vivavoce.models.fingerprint import check_weights
from vivavoce.models.hearing import HeardAudio, check_lengths, group_by_length, join_heard
from vivavoce.models.lora import inject
from vivavoce.models.merge import expand_clips, merge_audio, positions_from_mask
from vivavoce.models.prompt_ids import hide, without_placeholders
from vivavoce.models.reading import read_model
from vivavoce.models.references import ENCODER, expect_elsewhere, references
from vivavoce.models.saving import AsLoaded, remember_weights, stored_form

# before 5.23 the pipeline asks for librosa where a model takes audio; the processor here reads audio itself
_ASKS_FOR_LIBROSA = parse(transformers.__version__) < parse("5.23") and find_spec("librosa") is None
_INPUT_MODALITIES = ("text",) if _ASKS_FOR_LIBROSA else ("text", "audio")

AUDIO_INPUTS = ("input_features", "feature_lengths", "audio_batch_index")


class SpeechLM(PreTrainedModel, GenerationMixin):
    """A causal LM with ears and a voice.

    The parts are ``language_model`` (any causal LM of transformers) and ``audio_encoder``, ``connector`` and
    ``voice``, each None where the config has none. It is an ordinary transformers model: ``from_pretrained``,
    ``save_pretrained``, ``generate`` with streamers, PEFT and ``pipeline("any-to-any")`` work.

    Args:
        config: What to build.
        text_model: A ready text model to take instead of building one from ``config.text_config``.
        defer_text_model: Leave ``language_model`` out; ``attach_text_model`` must follow.
        defer_lora: Leave adapters out for now; ``from_pretrained`` puts them in once the weights are there.
    """

    config: SpeechLMConfig
    config_class = SpeechLMConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities: Any = _INPUT_MODALITIES
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    hear_at_once = 8  # chunks that go through the encoder together

    def __init__(
        self,
        config: SpeechLMConfig,
        text_model: PreTrainedModel | None = None,
        defer_text_model: bool = False,
        defer_lora: bool = False,
    ) -> None:
        super().__init__(config)
        if text_model is None and not defer_text_model:
            text_model = AutoModelForCausalLM.from_config(config.text_config)
        elif text_model is not None:
            config.text_config = text_model.config
        self.language_model: Any = text_model
        ears = config.audio_in if isinstance(config.audio_in, EmbeddingsIn) else None
        self.audio_encoder: Any = build_part(ENCODERS, ears.encoder, "audio_in.encoder") if ears else None
        self.connector: Any = build_part(CONNECTORS, ears.connector, "audio_in.connector") if ears else None
        for part in (self.audio_encoder, self.connector) if ears else ():
            part.reference_padding = ears.reference_padding  # type: ignore[union-attr]
        mouth = config.audio_out if isinstance(config.audio_out, TokensOut) else None
        record = mouth.voice if mouth else None
        self.voice: Any = build_part(VOICES, record, "audio_out.voice") if record else None
        for name, lora in {} if defer_lora else config.lora.items():  # type: ignore[attr-defined]
            if name != "language_model" or text_model is not None:
                inject(getattr(self, name), name, lora)
        self.post_init()
        if defer_lora:
            self._keys_to_ignore_on_load_unexpected.add(r"\.lora_")  # type: ignore[union-attr]
        for prefix in references(self):
            if prefix.startswith(ENCODER):
                expect_elsewhere(self, prefix)
        self.as_loaded: dict[str, AsLoaded] = {}
        remember_weights(self, "language_model")

    def _init_weights(self, module: nn.Module) -> None:
        """Leave parts as their own constructors made them; the text model initialises itself."""

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module | None:
        return self.language_model.get_output_embeddings() if self.language_model is not None else None

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.language_model.set_output_embeddings(new_embeddings)

    def get_decoder(self) -> nn.Module:
        return self.language_model.get_decoder()

    def attach_text_model(self, text_model: PreTrainedModel) -> None:
        """Take a loaded text model as ``language_model``, and put adapters into it if the config has them.

        Raises:
            CheckpointError: Its width or vocabulary is not what this model was made with, or it is another than
                ``config.fingerprints`` recorded.
        """
        for name in ("hidden_size", "vocab_size"):
            wanted, given = getattr(self.config, name), getattr(text_model.config.get_text_config(), name)
            if wanted != given:
                raise CheckpointError(
                    f"the text model {text_model.config.name_or_path!r} has {name} {given}, this model was "
                    "made for "
                    f"{wanted}; give the text model it was trained with."
                )
        given = str(text_model.config.name_or_path)
        recorded = self.config.fingerprints.get("language_model")
        check_weights(recorded, text_model, "language_model", given, self.name_or_path or "this model")
        self.language_model = text_model
        self.config.text_config = text_model.config
        remember_weights(self, "language_model")
        if "language_model" in self.config.lora:
            inject(text_model, "language_model", self.config.lora["language_model"])
        self.all_tied_weights_keys = self.get_expanded_tied_weights_keys(all_submodels=True)

    # ears

    def hear(
        self, input_features: Tensor, feature_lengths: Tensor | None = None, keep_states: bool = True
    ) -> HeardAudio:
        """Run encoder and connector, chunks of like length together, so that little of a batch is padding.

        Memory grows with one group of chunks and not with the number of chunks, but for the embeddings.

        Args:
            input_features: float [N, M, T] log-mel features, or [N, S] waveforms, as the encoder takes.
            feature_lengths: True frames or samples of each chunk, int64 [N]; None means all of them.
            keep_states: Give the encoder's states too, which for a long recording need far more memory than the
                embeddings.

        Raises:
            ModelError: The model does not hear by embeddings, or the lengths do not fit the features.
        """
        if self.audio_encoder is None:
            raise ModelError(
                f'audio features were given to a model whose audio_in is "{self.config.audio_in.type}"; '
                'only audio_in "embeddings" takes them.'
            )
        features = input_features.to(self.device, torch.float32)
        if feature_lengths is None:
            feature_lengths = torch.full((len(features),), features.shape[-1])
        check_lengths(feature_lengths, features)
        lengths = feature_lengths.to(self.device)
        if len(features) == 1 or getattr(self.audio_encoder, "reference_padding", False):
            return self._hear_together(features, lengths, keep_states)
        groups = group_by_length(feature_lengths.tolist(), self.hear_at_once)
        heard = [
            self._hear_together(
                features[group][..., : int(lengths[group].max())], lengths[group], keep_states
            )
            for group in groups
        ]
        return join_heard(heard, [i for group in groups for i in group])

    def _hear_together(self, features: Tensor, lengths: Tensor, keep_states: bool) -> HeardAudio:
        states, frames = self.audio_encoder(features, lengths)
        embeddings, counts = self.connector(states, frames)
        if getattr(getattr(self.connector, "config", None), "ctc_words", False):
            table, blank = self.get_input_embeddings().weight, self.audio_encoder.config.blank_id
            logits = self.audio_encoder.ctc_logits(states)
            embeddings = self.connector.add_ctc_words(embeddings, logits, frames, table, blank)
        kept = states if keep_states else states.new_empty(len(states), 0, states.shape[-1])
        return HeardAudio(kept, frames, embeddings, counts)

    def get_audio_features(self, input_features: Tensor, feature_lengths: Tensor | None = None) -> Tensor:
        """The embeddings of all clips one after the other, float [sum of counts, D]."""
        heard = self.hear(input_features, feature_lengths, keep_states=False)
        valid = torch.arange(heard.embeddings.shape[1], device=heard.counts.device) < heard.counts[:, None]
        return heard.embeddings[valid]

    def embed(
        self, input_ids: Tensor, heard: HeardAudio | None, audio_batch_index: Tensor | None = None
    ) -> Tensor:
        """Embed tokens and put heard audio at its placeholders; float [B, L, D].

        Raises:
            ModelError: Placeholders and audio do not match in number.
        """
        placeholder = self.config.audio_token_id
        if placeholder is None:
            return self.get_input_embeddings()(input_ids)
        embeddings = self.get_input_embeddings()(input_ids.masked_fill(input_ids == placeholder, 0))
        if heard is None:
            heard_none = embeddings.new_zeros(0, 0, embeddings.shape[-1])
            counts = torch.zeros(0, dtype=torch.long, device=input_ids.device)
            return merge_audio(input_ids, embeddings, heard_none, counts, placeholder)
        return merge_audio(
            input_ids, embeddings, heard.embeddings, heard.counts, placeholder, audio_batch_index
        )

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        input_features: Tensor | None = None,
        feature_lengths: Tensor | None = None,
        audio_batch_index: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Run the text model over tokens and heard audio.

        Args:
            input_ids: int64 [B, L], with one placeholder per audio embedding.
            attention_mask: int64 [B, L (+ past)], 0 on padding; either side may be padded.
            position_ids: int64 [B, L]; made from the mask when the left side is padded.
            past_key_values: A cache of earlier positions.
            inputs_embeds: float [B, L, D] instead of ``input_ids``; audio is then already in it.
            labels: int64 [B, L], -100 where no loss is taken.
            input_features: float [N, M, T], the clips in reading order, row by row.
            feature_lengths: int64 [N], true frames.
            audio_batch_index: int64 [N], row of each clip; lets every row be checked on its own.
            logits_to_keep: Compute logits of that many last positions only; 0 for all.
            kwargs: More arguments of the text model (``use_cache``, ...).

        Raises:
            ModelError: Features where none belong, or placeholders and audio differ in number.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ModelError("give input_ids or inputs_embeds, one of the two.")
        if input_features is not None and input_ids is None:
            raise ModelError(
                "input_features need input_ids, which say where the audio belongs; not inputs_embeds."
            )
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        if input_features is not None:
            assert input_ids is not None
            heard = self.hear(input_features, feature_lengths, keep_states=False)
            inputs_embeds, input_ids = self.embed(input_ids, heard, audio_batch_index), None
        elif input_ids is not None and self.config.audio_token_id is not None and past == 0:
            inputs_embeds, input_ids = self.embed(input_ids, None), None
        if position_ids is None and attention_mask is not None:
            length = (inputs_embeds if input_ids is None else input_ids).shape[1]  # type: ignore[union-attr]
            position_ids = positions_from_mask(attention_mask, length)
        if position_ids is not None:
            kwargs["position_ids"] = position_ids
        if not isinstance(logits_to_keep, int) or logits_to_keep:
            kwargs["logits_to_keep"] = logits_to_keep
        return self.language_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            labels=labels,
            **kwargs,
        )

    # generation

    def _expand_inputs_for_generation(  # type: ignore[override]
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: Tensor | None = None,
        **model_kwargs: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Repeat rows for beams and several answers; each row keeps its own group of clips."""
        audio = {name: model_kwargs.pop(name, None) for name in AUDIO_INPUTS}
        features = audio["input_features"]
        if features is not None and expand_size > 1:
            assert input_ids is not None
            index = audio["audio_batch_index"]
            if index is None:
                if len(input_ids) > 1 and len(features) != len(input_ids):
                    raise ModelError(
                        f"{len(features)} clips for {len(input_ids)} rows: give audio_batch_index (the row "
                        "of each "
                        "clip) to use beams or several answers per row."
                    )
                index = torch.arange(len(features), device=input_ids.device).clamp(max=len(input_ids) - 1)
            order, audio["audio_batch_index"] = expand_clips(index, len(input_ids), expand_size)
            audio["input_features"] = features[order.to(features.device)]
            if audio["feature_lengths"] is not None:
                audio["feature_lengths"] = audio["feature_lengths"][order.to(audio["feature_lengths"].device)]
        parent: Any = super()
        input_ids, model_kwargs = parent._expand_inputs_for_generation(
            expand_size=expand_size,
            is_encoder_decoder=is_encoder_decoder,
            input_ids=input_ids,
            **model_kwargs,
        )
        return input_ids, {**model_kwargs, **{k: v for k, v in audio.items() if v is not None}}

    def _get_logits_processor(self, *args: Any, encoder_input_ids: Any = None, **kwargs: Any) -> Any:
        """Keep placeholders and padding out of penalties, which look up prompt ids among the logits."""
        parent: Any = super()
        placeholder, vocabulary = self.config.audio_token_id, self.config.vocab_size
        mask = (kwargs.get("model_kwargs") or {}).get("attention_mask")
        if placeholder is not None and encoder_input_ids is not None and encoder_input_ids.dim() == 2:
            encoder_input_ids = hide(encoder_input_ids, placeholder, vocabulary, mask)
        made = parent._get_logits_processor(*args, encoder_input_ids=encoder_input_ids, **kwargs)
        return made if placeholder is None else without_placeholders(made, placeholder, vocabulary, mask)

    # storage

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike[str], backbone: str | None = None, **kwargs: Any
    ) -> None:
        """Write config and weights (safetensors).

        Args:
            save_directory: Folder, made if absent.
            backbone: "merged" writes everything. "reference" leaves out the weights of the parts that the config
                names (``text_model_ref``, ``ref`` of the encoder) and keeps their adapters: right for frozen parts.
                Default: "reference" if the config names any, else "merged".
            kwargs: More arguments of transformers' ``save_pretrained``.

        Raises:
            ModelError: Unknown ``backbone``; "reference" without a name, or for weights that were trained and would be
                lost; "merged" for parts that were not loaded, or are quantised.
        """
        with stored_form(self, backbone, kwargs.pop("state_dict", None)) as state:
            super().save_pretrained(save_directory, state_dict=state, **kwargs)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None,
        *model_args: Any,
        config: SpeechLMConfig | None = None,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load a folder or hub id written by ``save_pretrained``; parts that it only names are fetched as well.

        Args:
            pretrained_model_name_or_path: Folder or hub id.
            model_args: Passed on.
            config: Instead of the stored one.
            output_loading_info: Return ``(model, info)``.
            kwargs: ``accept_other=True`` takes named parts that are others than those the model was trained with,
                which is an error otherwise. More arguments of transformers' ``from_pretrained`` (``dtype``,
                ``device_map``, ``quantization_config``, ...); those about weights also go to a named text model.

        Raises:
            CheckpointError: Tensors are missing, unexpected or of another shape (nothing is filled in at random), or
                a named part is another than the one that was recorded.
            ModelError: A named part cannot be had.
        """
        parent: Any = super()
        model, info = read_model(
            parent.from_pretrained, pretrained_model_name_or_path, config, model_args, kwargs
        )
        return (model, info) if output_loading_info else model


AutoModel.register(SpeechLMConfig, SpeechLM, exist_ok=True)
AutoModelForMultimodalLM.register(SpeechLMConfig, SpeechLM, exist_ok=True)
