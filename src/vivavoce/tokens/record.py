"""The record of a tokenizer's audio tokens: which ids are codes, how they are spelled, which codec made them.

A model folder keeps the record as ``audio_vocabulary.json`` beside the tokenizer, with the codec's name and
the hash of its weights: codes of another codec decode to noise, or worse, to fluent nonsense.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivavoce.base.errors import ConfigError, LayoutError, VocabularyError
from vivavoce.codecs.contract import CodecSpec, Codes
from vivavoce.tokens.layouts import LAYOUTS, Layout, integers
from vivavoce.tokens.naming import NameStyle

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE_NAME = "audio_vocabulary.json"


@dataclass(frozen=True)
class AudioVocabulary:
    """Audio tokens of one tokenizer; a record that is saved with the model.

    Attributes:
        layout: Name in ``LAYOUTS``.
        codec: Name of the codec whose codes these are.
        codec_weights: Hash of the codec's weights, "" if unknown.
        codes_per_level: Codes of each level in one coarse frame.
        codebook_size: Codewords per level.
        frame_samples: Samples per coarse frame.
        sample_rate: Hz.
        start_id: Start of audio.
        end_id: End of audio.
        first_code_id: Token id of layout id 0; the codes are consecutive.
        num_codes: Code tokens in the tokenizer, at least the layout's ``num_ids``.
        style: Spelling of the tokens.
        roles: Other control tokens, role -> token id.
        num_tokens: Length of the tokenizer, audio included; 0 if unknown.
        num_rows: Embedding rows of the model, padding included; 0 without a model.
        initialisation: What was written into new rows: method, seed, tied, rows; empty if unknown.
    """

    layout: str
    codec: str
    codes_per_level: tuple[int, ...]
    codebook_size: int
    frame_samples: int
    sample_rate: int
    start_id: int
    end_id: int
    first_code_id: int
    num_codes: int
    style: NameStyle
    codec_weights: str = ""
    roles: Mapping[str, int] = field(default_factory=dict)
    num_tokens: int = 0
    num_rows: int = 0
    initialisation: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        needed = self.flattening.num_ids
        if self.num_codes < needed:
            raise VocabularyError(
                f"{self.num_codes} code tokens, layout {self.layout!r} of codec {self.codec!r} needs "
                f"{needed}; this tokenizer was extended for another layout or codec."
            )

    @cached_property
    def flattening(self) -> Layout:
        """The layout itself."""
        layout: Layout = LAYOUTS.get(self.layout)(self.codes_per_level, self.codebook_size)
        return layout

    @property
    def start_token(self) -> str:
        return self.style.role_token("start")

    @property
    def end_token(self) -> str:
        return self.style.role_token("end")

    @property
    def code_ids(self) -> range:
        """Token ids of all codes."""
        return range(self.first_code_id, self.first_code_id + self.num_codes)

    @cached_property
    def audio_ids(self) -> frozenset[int]:
        """Token ids that are never text: codes, start, end and the other roles."""
        return frozenset((*self.code_ids, self.start_id, self.end_id, *self.roles.values()))

    def code_token(self, code_id: int) -> str:
        """Spelling of the code with layout id ``code_id``."""
        return self.style.numbered(self.style.first_number + code_id)

    def to_ids(self, codes: Codes) -> list[int]:
        """Start, codes, end as token ids: ``2 + period * T`` of them.

        Raises:
            LayoutError: the codes do not fit the layout.
        """
        first = self.first_code_id
        return [self.start_id, *(first + i for i in self.flattening.flatten(codes)), self.end_id]

    def from_ids(self, ids: Sequence[int], *, drop_partial: bool = False) -> Codes:
        """Invert ``to_ids``; start and end may be absent.

        Args:
            ids: Token ids. After the end only control tokens may follow.
            drop_partial: Leave out the tokens of a last frame that was cut off, as when generation reached
                its length limit.

        Raises:
            LayoutError: ``position`` is the first bad token of ``ids``.
        """
        flat = integers(ids).tolist()
        begin = 1 if flat and flat[0] == self.start_id else 0
        stop = flat.index(self.end_id, begin) if self.end_id in flat[begin:] else len(flat)
        legal = self.code_ids
        for at, token in enumerate(flat[begin:stop], start=begin):
            if token not in legal:
                raise LayoutError(
                    f"token {token} at position {at} is no audio code of {self.codec!r}, wanted ids "
                    f"{legal.start} to {legal.stop - 1}; text where audio belongs?",
                    position=at,
                )
        for at, token in enumerate(flat[stop + 1 :], start=stop + 1):
            if token not in self.roles.values():
                raise LayoutError(
                    f"token {token} at position {at} follows the end of audio; pass one audio span at a "
                    "time.",
                    position=at,
                )
        inner = [token - self.first_code_id for token in flat[begin:stop]]
        if drop_partial:
            inner = inner[: len(inner) - len(inner) % self.flattening.period]
        try:
            return self.flattening.unflatten(inner, self.frame_samples)
        except LayoutError as error:
            bad = None if error.position is None else error.position + begin
            raise LayoutError(
                f"in the audio that starts at position {begin}: {error}", position=bad
            ) from error

    def to_text(self, codes: Codes) -> str:
        """Start, codes, end in the spelling of the tokenizer."""
        inner = (self.code_token(i) for i in self.flattening.flatten(codes))
        return "".join((self.start_token, *inner, self.end_token))

    def from_text(self, text: str, *, any_width: bool = False) -> Codes:
        """Invert ``to_text``; start and end may be absent, white space between tokens is ignored.

        Args:
            text: Audio tokens as text.
            any_width: Accept numbers with other zero-padding than the tokenizer's.

        Raises:
            LayoutError: something else than audio tokens, or codes that do not fit; ``position`` counts
                tokens.
            VocabularyError: numbers padded otherwise than in the tokenizer.
        """
        names = {self.start_token: self.start_id, self.end_token: self.end_id}
        names |= {self.style.role_token(role): token_id for role, token_id in self.roles.items()}
        pattern, ids, at = self.style.pattern(), [], 0
        text = text.rstrip()
        while at < len(text):
            if text[at].isspace():
                at += 1
                continue
            name = next((n for n in names if text.startswith(n, at)), None)
            match = None if name else pattern.match(text, at)
            if match:
                number = int(match[1]) - self.style.first_number
                name = match[0]
                if not any_width and 0 <= number < self.num_codes and name != self.code_token(number):
                    raise VocabularyError(
                        f"{name!r} is spelled {self.code_token(number)!r} in this tokenizer and would fall "
                        f"into text pieces; rewrite the numbers, or read with any_width=True."
                    )
                ids.append(self.first_code_id + number)
            elif name:
                ids.append(names[name])
            else:
                raise LayoutError(
                    f"{text[at : at + 20]!r} at character {at} is no audio token, wanted such as "
                    f"{self.code_token(0)!r}; text where audio belongs?",
                    position=len(ids),
                )
            at += len(name)
        return self.from_ids(ids)

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Encode every audio token once and compare with the record.

        Raises:
            VocabularyError: a token is missing, has another id, or splits into pieces.
        """
        names = [self.start_token, *map(self.code_token, range(self.num_codes)), self.end_token]
        wanted = [self.start_id, *self.code_ids, self.end_id]
        self._same_ids(tokenizer, "".join(names), wanted)

    def check_text(self, tokenizer: PreTrainedTokenizerBase, text: str) -> None:
        """Refuse audio text that the tokenizer would not read as ``2 + period * T`` audio tokens.

        Raises:
            LayoutError: ``text`` is not audio.
            VocabularyError: it splits into pieces.
        """
        self._same_ids(tokenizer, text, self.to_ids(self.from_text(text, any_width=True)))

    def _same_ids(self, tokenizer: PreTrainedTokenizerBase, text: str, wanted: list[int]) -> None:
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if list(ids) == wanted:
            return
        same = next((i for i, (a, b) in enumerate(zip(ids, wanted, strict=False)) if a != b), len(wanted))
        piece = tokenizer.convert_ids_to_tokens(ids[same]) if same < len(ids) else "nothing"
        raise VocabularyError(
            f"audio text of {len(wanted)} tokens becomes {len(ids)} tokens; token {same} should be id "
            f"{wanted[same] if same < len(wanted) else 'none'} and reads {piece!r}. The tokenizer spells "
            f"its audio tokens differently (padded or unpadded numbers?); use detect_vocabulary(tokenizer)."
        )

    def check_codec(self, spec: CodecSpec) -> None:
        """Refuse a codec that did not make these codes.

        Raises:
            VocabularyError: other levels, another codebook size, or other weights.
        """
        for what, ours, theirs in (
            ("codes per level", self.codes_per_level, spec.codes_per_level),
            ("codewords per level", self.codebook_size, spec.codebook_size),
            ("codec weights", self.codec_weights, spec.weights),
        ):
            if ours and theirs and ours != theirs:
                raise VocabularyError(
                    f"the vocabulary was made for codec {self.codec!r} with {what} {ours}, codec "
                    f"{spec.name!r} has {theirs}; load the codec the model was trained with."
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        style = {**vars(self.style), "roles": dict(self.style.roles)}
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {
            **values,
            "codes_per_level": list(self.codes_per_level),
            "style": style,
            "roles": dict(self.roles),
            "initialisation": dict(self.initialisation),
            "start_token": self.start_token,
            "end_token": self.end_token,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AudioVocabulary:
        """Invert ``to_dict``.

        Raises:
            VocabularyError: keys are missing or unknown.
        """
        if not isinstance(values, Mapping):
            raise VocabularyError(
                f"the record of audio tokens is {type(values).__name__}, wanted a JSON object."
            )
        known = {f.name for f in dataclasses.fields(cls)}
        kept = {k: v for k, v in values.items() if k not in ("start_token", "end_token")}
        try:
            kept["style"] = NameStyle(**kept["style"])
            kept["codes_per_level"] = tuple(kept["codes_per_level"])
            return cls(**kept)
        except (KeyError, TypeError, ConfigError) as error:
            odd = sorted(set(kept) - known) or sorted(known - set(kept))
            raise VocabularyError(
                f"the record of audio tokens cannot be read ({error}); unknown or missing: "
                f"{', '.join(odd) or 'none'}. Run detect_vocabulary(tokenizer) and save its record anew."
            ) from error

    def save(self, folder: str | Path) -> Path:
        """Write the record into a model folder and return its path."""
        path = Path(folder) / FILE_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, folder: str | Path) -> AudioVocabulary:
        """Read the record of a model folder.

        Raises:
            VocabularyError: there is none, or it cannot be read.
        """
        path = Path(folder) / FILE_NAME
        if not path.is_file():
            raise VocabularyError(
                f"{folder} has no {FILE_NAME}; use detect_vocabulary(tokenizer) and save its record."
            )
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise VocabularyError(
                f"{path} is not JSON: {error}; copy it anew from the model's source."
            ) from error
        return cls.from_dict(values)
