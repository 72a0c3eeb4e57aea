"""A pipeline of transformers that talks: ``pipeline("speech-chat", model=folder)``.

It also takes the call form of Ultravox's pipeline, and its name, so that scripts written for that go on working.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence, Sized
from itertools import takewhile
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader
from transformers import AutoModelForMultimodalLM, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator

from vivavoce.base.errors import ConfigError, ModelError
from vivavoce.models.audio_parts import list_clips
from vivavoce.models.config import EmbeddingsIn
from vivavoce.models.conversation import answer_ends, room_for_answer
from vivavoce.models.processor import SpeechProcessor
from vivavoce.models.sides import PLACEHOLDER

TASKS = ("speech-chat", "ultravox-pipeline")
MOST_NEW_TOKENS = 256

_INPUTS = ("audio", "turns", "prompt", "sampling_rate")
_SAMPLING = ("temperature", "top_p", "top_k", "min_p")
_DEFAULTS = ("repetition_penalty", "max_new_tokens")  # and _SAMPLING: what a model's config may say


class SpeechChatPipeline(Pipeline):
    """Conversations with recordings in, text out.

    An input is one of

    - ``{"audio", "turns", "prompt", "sampling_rate"}``, each optional: ``turns`` are earlier messages, ``audio`` is a
      clip in any form of ``audio_parts.read_part``, a list of clips, or None. Clips belong where ``<|audio|>`` stands
      in the user's texts, in order. A last turn without it gets the clips at its end; if the last turn is not the
      user's, ``prompt`` is the text of one more (default ``<|audio|>``). Arrays need ``sampling_rate`` in Hz.
    - messages in the transformers / OpenAI shape, or the text of one question.

    Several inputs are a list or a generator of these, with ``batch_size=`` as in every pipeline; a batch answers as
    its inputs do alone. The caller's objects are not changed.

    Args of the pipeline and of each call, all optional: ``temperature`` (None or 0 is greedy), ``top_p``, ``top_k``,
    ``min_p``, ``repetition_penalty``, ``max_new_tokens`` (default 256), ``stop_strings``, and everything else that
    ``generate`` takes. What is not given comes from the config's ``sampling``.
    """

    model: Any
    processor: Any
    _load_processor: Any = True
    _load_tokenizer: Any = False
    _load_image_processor: Any = False
    _load_feature_extractor: Any = False

    def __init__(self, model: Any, processor: Any = None, tokenizer: Any = None, **kwargs: Any) -> None:
        if processor is None and tokenizer is None:
            raise ModelError("the pipeline has no processor; give processor=, or the model as a folder.")
        processor = processor or SpeechProcessor.for_config(tokenizer, model.config)
        if not isinstance(processor, SpeechProcessor):
            raise ModelError(
                f"the processor is a {type(processor).__name__}, wanted a SpeechProcessor; load the model and its "
                "processor with vivavoce.models.loading.load_speech_lm and give both."
            )
        super().__init__(model=model, processor=processor, **kwargs)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        stop = kwargs.get("stop_strings")
        if stop is None:
            return {}, kwargs, {}
        stop = [stop] if isinstance(stop, str) else list(stop)
        return {}, {**kwargs, "stop_strings": stop}, {"stop_strings": stop}

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Answer one input with a text, several with a list of texts (a generator with an iterator).

        Raises:
            ConfigError, AudioError, ModelError: What is wrong with messages, audio or options.
        """
        if isinstance(inputs, list | tuple) and not inputs:
            raise ConfigError("no input; wanted a question, messages or {'audio', 'turns', 'sampling_rate'}.")
        return super().__call__(inputs, **kwargs)

    def preprocess(self, inputs: Any) -> dict[str, Any]:  # type: ignore[override]
        """One input as ids and features."""
        messages = to_messages(inputs, self.processor.audio_token)
        row = self.processor.prepare(messages)
        ears = self.model.config.audio_in
        if "input_features" in row and isinstance(ears, EmbeddingsIn) and ears.transcript_first:
            raise ModelError(
                "this model writes down what it heard before it answers, and judges whether to answer; use "
                "vivavoce.load(...).chat(messages), which does that."
            )
        return {"rows": [row]}

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterator[str]:
        """Answer many inputs, ``batch_size`` at a time; clips of a batch are not padded to one another."""
        dataset: Any
        if isinstance(inputs, Sized):
            dataset = PipelineDataset(inputs, self.preprocess, preprocess_params)
        else:  # several workers would each go through all of it
            dataset = PipelineIterator(inputs, self.preprocess, preprocess_params)
            num_workers = min(num_workers, 1)
        for batch in DataLoader(dataset, batch_size, num_workers=num_workers, collate_fn=list):
            rows = [row for made in batch for row in made["rows"]]
            for answer in self.forward({"rows": rows}, **forward_params)["answers"]:
                yield self.postprocess({"answers": [answer]}, **postprocess_params)

    def _forward(self, model_inputs: dict[str, Any], **options: Any) -> dict[str, Any]:  # type: ignore[override]
        rows = model_inputs["rows"]
        longest = max(len(row["input_ids"]) for row in rows)
        room = room_for_answer(self.model.config, longest)
        batch = {name: value.to(self.device) for name, value in self.processor.collate(rows).items()}
        options = self._generate_options(options, room)
        made = self.model.generate(**batch, **options)[:, batch["input_ids"].shape[1] :].tolist()
        ends = options.get("eos_token_id", ())
        ends = {ends} if isinstance(ends, int) else set(ends)
        return {"answers": [list(takewhile(lambda token: token not in ends, ids)) for ids in made]}

    def _generate_options(self, options: dict[str, Any], room: int | None) -> dict[str, Any]:
        """Arguments of ``generate``: those of the call, else the model's, else greedy without a penalty."""
        own = {k: v for k, v in self.model.config.sampling.items() if k in (*_SAMPLING, *_DEFAULTS)}
        given = {**own, **{k: v for k, v in options.items() if v is not None}}
        if options.get("temperature", 0.0) is None:
            given.pop("temperature", None)
        if given.get("num_return_sequences", 1) != 1 or given.get("return_dict_in_generate"):
            raise ConfigError("the pipeline gives one text for an input; for more use model.generate.")
        temperature = float(given.pop("temperature", 1.0 if given.get("do_sample") else 0.0))
        if temperature < 0:
            raise ConfigError(f"temperature is {temperature:g}; wanted 0 (greedy) or more.")
        given["do_sample"] = bool(given.get("do_sample", True)) and temperature > 0
        if given["do_sample"]:
            given = {"top_p": 1.0, "top_k": 0, **given, "temperature": temperature}
        else:
            given = {k: v for k, v in given.items() if k not in _SAMPLING}
        given["repetition_penalty"] = float(given.get("repetition_penalty", 1.0))
        if "max_length" not in given:
            wanted = int(given.get("max_new_tokens", MOST_NEW_TOKENS))
            given["max_new_tokens"] = wanted if room is None else min(wanted, room)
        ends = answer_ends(self.model, self.processor)
        if ends:
            given.setdefault("eos_token_id", sorted(ends))
        given.setdefault("pad_token_id", self.processor.pad_id)
        vocabulary = self.processor.vocabulary_out or self.processor.vocabulary_in
        if vocabulary is not None:
            given["suppress_tokens"] = sorted({*given.get("suppress_tokens", ()), *vocabulary.audio_ids})
        if "stop_strings" in given:
            given["tokenizer"] = self.processor.tokenizer
        return given

    def postprocess(self, model_outputs: dict[str, Any], stop_strings: Sequence[str] = ()) -> str:  # type: ignore[override]
        """The text of one answer."""
        text = str(self.processor.tokenizer.decode(model_outputs["answers"][0], skip_special_tokens=True))
        ends = [text.index(stop) for stop in stop_strings if stop in text]
        return text[: min(ends)] if ends else text

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Write model and processor into one folder; no code is written with them."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(Path(save_directory))


def to_messages(inputs: Any, audio_token: str | None = None) -> list[dict[str, Any]]:
    """Turn an input of ``SpeechChatPipeline`` into messages with audio parts; nothing of the input is changed.

    Args:
        inputs: See the class.
        audio_token: The model's own spelling of the placeholder, which is understood like ``<|audio|>``.

    Raises:
        ConfigError: Unknown keys, nothing to answer, or clips and placeholders differ in number.
    """
    if isinstance(inputs, str):
        return [{"role": "user", "content": inputs}]
    turns = getattr(inputs, "messages", inputs)
    given = inputs if isinstance(inputs, Mapping) else {"turns": turns}
    unknown = sorted(set(map(str, given)) - set(_INPUTS))
    if unknown:
        near = difflib.get_close_matches(unknown[0], _INPUTS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"the input has no {unknown[0]!r}.{hint} Known: {', '.join(_INPUTS)}.")
    messages = _checked_turns(given.get("turns"))
    clips = [_clip_part(clip, given.get("sampling_rate")) for clip in list_clips(given.get("audio"))]
    prompt = given.get("prompt")
    if messages and messages[-1]["role"] == "user":
        if prompt is not None:
            raise ConfigError(
                "the last turn is the user's and there is a prompt too; put its words into that turn."
            )
    elif prompt is not None or clips:
        messages.append({"role": "user", "content": PLACEHOLDER if prompt is None else str(prompt)})
    if not messages or messages[-1]["role"] != "user":
        raise ConfigError("nothing to answer: wanted a last turn of the user, a prompt or audio.")
    return _place(messages, clips, {PLACEHOLDER, audio_token or PLACEHOLDER})


def _checked_turns(turns: Any) -> list[dict[str, Any]]:
    if turns is None:
        return []
    if isinstance(turns, str | Mapping) or not isinstance(turns, Sequence):
        raise ConfigError(f"turns are a {type(turns).__name__}; wanted a list of messages.")
    for i, turn in enumerate(turns):
        if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str) or "content" not in turn:
            raise ConfigError(f"turn {i} is {str(turn)[:80]}; wanted {{'role': ..., 'content': ...}}.")
    return [dict(turn) for turn in turns]


def _clip_part(clip: Any, rate: Any) -> dict[str, Any]:
    if isinstance(clip, Mapping) and "type" in clip:
        return {"sampling_rate": rate, **clip}
    return {"type": "audio", "audio": clip, "sampling_rate": rate}


def _place(messages: list[dict[str, Any]], clips: list[Any], spellings: set[str]) -> list[dict[str, Any]]:
    """Put clips where placeholders stand in the user's texts, or at the end of a last turn without any."""
    pattern = re.compile("|".join(map(re.escape, sorted(spellings))))
    contents = {
        i: list(message["content"])
        if isinstance(message["content"], list | tuple)
        else [message["content"] or ""]
        for i, message in enumerate(messages)
        if message["role"] == "user"
    }
    places = {i: sum(len(pattern.findall(_text(part))) for part in parts) for i, parts in contents.items()}
    last, missing = len(messages) - 1, len(clips) - sum(places.values())
    if missing > 0 and not places[last]:
        contents[last].append(
            "".join([" " if any(map(_text, contents[last])) else ""] + [PLACEHOLDER] * missing)
        )
        missing = 0
    if missing:
        raise ConfigError(
            f"{len(clips)} clips for {sum(places.values())} {PLACEHOLDER} in the turns; wanted one for each, in order."
        )
    waiting = iter(clips)
    for i, parts in contents.items():
        if not any(pattern.search(_text(part)) for part in parts):
            continue
        placed: list[Any] = []
        for part in parts:
            first, *others = pattern.split(_text(part))
            placed.append({"type": "text", "text": first} if others or isinstance(part, str) else part)
            for piece in others:
                placed += [next(waiting), {"type": "text", "text": piece}]
        messages[i] = {**messages[i], "content": [p for p in placed if p != {"type": "text", "text": ""}]}
    return messages


def _text(part: Any) -> str:
    """The text of a content part, "" for others."""
    if isinstance(part, Mapping):
        part = part.get("text") if part.get("type") == "text" else None
    return part if isinstance(part, str) else ""


def register() -> None:
    """Make ``transformers.pipeline`` know the tasks; one that is taken by another class is left to it."""
    for task in TASKS:
        if task not in PIPELINE_REGISTRY.get_supported_tasks():
            PIPELINE_REGISTRY.register_pipeline(
                task, pipeline_class=SpeechChatPipeline, pt_model=AutoModelForMultimodalLM, type="multimodal"
            )


register()
