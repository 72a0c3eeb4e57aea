"""Whether the frozen parts are the ones a SALMONN was trained with.

The parts are stored elsewhere, and another Vicuna or Whisper of the same sizes loads without a fault and then
answers nothing or nonsense. So what their configs and names say is compared with what the checkpoint needs.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vivavoce.base.errors import CheckpointError
from vivavoce.models.presets.salmonn.checkpoint import Shapes


@dataclass(frozen=True)
class Published:
    """A published size.

    Attributes:
        variant: Name for ``full_size``.
        version: Of Vicuna.
        positions: ``max_position_embeddings`` in the config of that version.
        text_model: Its hub id.
        text: Fields of its LlamaConfig.
    """

    variant: str
    version: str
    positions: int
    text_model: str
    text: dict[str, Any]


# width of the language model -> what was published with it
PUBLISHED = {
    5120: Published(
        variant="13b",
        version="1.1",
        positions=2048,
        text_model="lmsys/vicuna-13b-v1.1",
        text={
            **{"hidden_size": 5120, "intermediate_size": 13_824, "num_hidden_layers": 40},
            **{"num_attention_heads": 40, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6},
        },
    ),
    4096: Published(
        variant="7b",
        version="1.5",
        positions=4096,
        text_model="lmsys/vicuna-7b-v1.5",
        text={
            **{"hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32},
            **{"num_attention_heads": 32, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5},
        },
    ),
}
VOCABULARY = (32_000, 32_001)  # Vicuna's, and with the padding token that the published code adds
WHISPER = "openai/whisper-large-v2"
WHISPER_SIZES = {
    **{"num_mel_bins": 80, "max_source_positions": 1500, "d_model": 1280, "encoder_layers": 32},
    **{"encoder_attention_heads": 20, "encoder_ffn_dim": 5120},
}
BEATS = "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt"
BEATS_CLASSES = 527
FULL_SPEECH, FULL_SOUND = 1280, 768  # widths of the published encoders

_VICUNA = re.compile(r"vicuna.*?v(\d+(?:\.\d+)?)")
_OTHER_FAMILY = re.compile(r"llama|alpaca|koala|wizard|mistral|mixtral|qwen|gemma|phi-|falcon")
_WHISPER = re.compile(r"whisper-((?:large|medium|small|base|tiny)(?:\.en)?(?:-v\d+)?(?:-turbo)?)")


class Match:
    """Collects what does not fit, part by part; ``raise_on_faults`` refuses, ``notes`` tells what is assumed.

    Args:
        where: The checkpoint, for messages.
        accept_other: Take parts that say they are others, if their sizes fit.
    """

    def __init__(self, where: Path, accept_other: bool) -> None:
        self.where, self.accept_other = where, accept_other
        self.notes: list[str] = []
        self._sizes: list[str] = []
        self._kinds: list[str] = []

    def text_model(self, shapes: Shapes, config: Any, reference: str) -> None:
        """Compare the language model at ``reference`` with what the checkpoint's shapes need."""
        wanted = {"hidden_size": shapes.text_size}
        if shapes.rank:
            wanted["num_hidden_layers"] = shapes.adapted_layers
        self._compare(f"the language model {reference!r}", config, wanted)
        known = PUBLISHED.get(shapes.text_size)
        if known is None:
            return
        named = f"Vicuna {known.variant.upper()} v{known.version}"
        what = f"the language model {reference!r}"
        names = [_own_name(reference), _own_name(_stored_name(reference))]
        versions = {m[1] for name in names if (m := _VICUNA.search(name))}
        if versions - {known.version}:
            self._kinds.append(f"{what} is Vicuna v{', v'.join(sorted(versions))}, wanted {named}")
        elif not versions and any(_OTHER_FAMILY.search(name) for name in names if "vicuna" not in name):
            self._kinds.append(f"{what} is no Vicuna, wanted {named}")
        positions = getattr(config, "max_position_embeddings", None)
        if positions != known.positions:
            self._kinds.append(f"{what} has {positions} positions, {named} has {known.positions}")
        if config.vocab_size not in VOCABULARY:
            self._kinds.append(f"{what} has {config.vocab_size} tokens, {named} has {VOCABULARY[0]}")
        if not versions:
            self.notes.append(
                f"The name of {reference!r} does not say that it is {named}; it is taken as that."
            )

    def encoder(self, shapes: Shapes, record: dict[str, Any], reference: str) -> None:
        """Compare a Whisper's record with what the checkpoint's shapes need."""
        sizes, what = record["model"], f"the speech encoder {reference!r}"
        if record["type"] != "whisper":
            self._kinds.append(f"{what} is a {sizes.get('model_type', record['type'])!r}, wanted a Whisper")
        width = sizes.get("d_model", sizes.get("hidden_size"))
        if width != shapes.speech_size:
            self._sizes.append(f"{what} is {width} wide, wanted {shapes.speech_size}")
        if shapes.speech_size != FULL_SPEECH or record["type"] != "whisper":
            return
        for name in ("num_mel_bins", "encoder_layers", "max_source_positions"):
            if sizes.get(name) != WHISPER_SIZES[name]:
                self._kinds.append(
                    f"{what} has {name} {sizes.get(name)}, {WHISPER} has {WHISPER_SIZES[name]}"
                )
        names = [_own_name(reference), _own_name(_stored_name(reference))]
        said = {m[1] for name in names if (m := _WHISPER.search(name))}
        if said - {"large-v2"}:
            self._kinds.append(f"{what} is Whisper {', '.join(sorted(said))}, wanted {WHISPER}")
        if not said:
            self.notes.append(
                f"The name of {reference!r} does not say that it is {WHISPER}; it is taken as that."
            )

    def sound_encoder(self, shapes: Shapes, config: Any, reference: str) -> None:
        """Compare a BEATs' config with what the checkpoint's shapes need."""
        what = f"the sound encoder {reference!r}"
        if config.encoder_embed_dim != shapes.sound_size:
            self._sizes.append(f"{what} is {config.encoder_embed_dim} wide, wanted {shapes.sound_size}")
        if shapes.sound_size != FULL_SOUND:
            return
        if not config.finetuned_model or config.predictor_class != BEATS_CLASSES:
            seen = f"{config.predictor_class} classes" if config.finetuned_model else "no classes"
            self._kinds.append(f"{what} has {seen}, {BEATS} has {BEATS_CLASSES}")
        name = _own_name(reference)
        if name.startswith("beats_iter") and name != BEATS.lower():
            self._kinds.append(f"{what} is another BEATs, wanted {BEATS}")
        if not name.startswith("beats_iter"):
            self.notes.append(
                f"The name of {reference!r} does not say that it is {BEATS}; it is taken as that."
            )

    def _compare(self, what: str, config: Any, wanted: dict[str, int]) -> None:
        for name, number in wanted.items():
            seen = getattr(config, name, None)
            if seen != number:
                self._sizes.append(f"{what} has {name} {seen}, wanted {number}")

    def raise_on_faults(self) -> None:
        """Refuse parts that do not fit, all at once.

        Raises:
            CheckpointError: Names what was found and what is wanted.
        """
        if self._sizes or (self._kinds and not self.accept_other):
            advice = "Give the parts it was trained with."
            if not self._sizes:
                advice = (
                    "With others it answers nothing, or nonsense. Give those it was trained with, or, if they are "
                    "these under other names, accept_other=True (--accept-other)."
                )
            faults = "; ".join(self._sizes + self._kinds)
            raise CheckpointError(f"{self.where} was trained with other parts: {faults}. {advice}")
        self.notes += [f"Taken all the same: {fault}." for fault in self._kinds]


def _own_name(reference: str) -> str:
    """The part of a hub id or path that names the model, in small letters; hub caches name it two folders up."""
    parts = [p for p in Path(reference).parts if p != "snapshots" and not re.fullmatch(r"[0-9a-f]{40}", p)]
    return parts[-1].lower() if parts else ""


def _stored_name(reference: str) -> str:
    """The name that a folder's config.json has from where it was made; "" if it has none."""
    file = Path(reference) / "config.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (OSError, ValueError):
        return ""
    return str(found.get("_name_or_path") or "") if isinstance(found, dict) else ""
