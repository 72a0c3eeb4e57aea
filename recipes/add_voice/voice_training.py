"""Teach one more voice to a bundle: only what belongs to voices learns, and the old ones are heard beside it."""

from __future__ import annotations

import json
import random
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vivavoce.base.errors import TrainingError
from vivavoce.inference.aligned import AlignedSpeaker
from vivavoce.models.voice.tables import PACES, SOUNDS
from vivavoce.models.voice.teaching import Teacher, Utterance, speaking_losses
from vivavoce.models.voice.word_alignment import WordAlignment
from vivavoce.tokens.phones import Lexicon, default_lexicon

DURATION_WEIGHT = 0.2
WARM_STEPS = 20
LONGEST_REPLAY = 10  # words
DROP = 0.15  # share of frames hidden from the model, as in the bundle's own training


@dataclass(frozen=True)
class Settings:
    """How a voice is taught.

    Attributes:
        steps: At most so many updates; over the last third the learning rate falls to a tenth.
        batch: New utterances in an update.
        replay: Utterances of old voices in an update.
        learning_rate: Peak.
        evaluate_every: Updates between evaluations on what is kept aside.
        least_gain: An evaluation improves if its loss falls below this share of the best one before it.
        patience: After so many evaluations without improvement the learning rate falls to a third; the second
            time, teaching stops.
        learns: "voice": all parameters of voices; "row": only the new voice's rows.
        seed: Of every draw.
    """

    steps: int = 400
    batch: int = 8
    replay: int = 3
    learning_rate: float = 8e-4
    evaluate_every: int = 20
    least_gain: float = 0.005
    patience: int = 3
    learns: str = "voice"
    seed: int = 0


class Lesson:
    """A model that learns a voice; ``run`` goes on where its state file is.

    Args:
        model: Has the new voice as its last.
        tokenizer: Of the model.
        rows: Of the new voice, to learn.
        held: Of the new voice, kept aside.
        old: Utterances of old voices; with none, what they say may change.
        settings: How.
        folder: For the state and the log.
    """

    def __init__(
        self, model: Any, tokenizer: Any, rows: list[Utterance], held: list[Utterance], old: list[Utterance],
        settings: Settings, folder: Path,
    ) -> None:  # fmt: skip
        if not rows or not held:
            raise TrainingError(
                f"{len(rows)} utterances to learn, {len(held)} kept aside; both must be some."
            )
        self.model, self.voice = model, model.voice
        self.teacher = Teacher(self.voice, tokenizer)
        self.rows, self.old = (sorted(found, key=lambda row: len(row.tokens)) for found in (rows, old))
        self.held, self.settings, self.folder = held, settings, folder
        self.state_file = folder / "state.pt"
        self.step, self.spent_s, self.falls, self.since = 0, 0.0, 0, 0
        self.best = float("inf")
        model.requires_grad_(False)
        self.learned = self._learned()
        for parameter in self.learned:
            parameter.requires_grad_(True)
        self.best_weights = self._weights()
        self.optimizer = torch.optim.AdamW(
            self.learned, settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.0
        )

    def _learned(self) -> list[torch.nn.Parameter]:
        named = dict(self.voice.named_parameters())
        if self.settings.learns == "row":
            return [named[SOUNDS], named[PACES]]
        return list(named.values())

    def _weights(self) -> dict[str, Tensor]:
        return {key: value.detach().clone() for key, value in self.voice.state_dict().items()}

    # losses

    def losses(self, rows: list[Utterance], drop: float = 0.0) -> tuple[Tensor, Tensor]:
        text = self.model.language_model.model

        def backbone(embeds: Tensor) -> Tensor:
            return text(inputs_embeds=embeds, use_cache=False).last_hidden_state

        with torch.autocast("cpu", torch.bfloat16):
            return speaking_losses(self.voice, text.embed_tokens, backbone, self.teacher.collate(rows, drop))

    @torch.no_grad()
    def held_out(self, rows: list[Utterance] | None = None) -> float:
        """Loss on what is kept aside, batches weighed by their frames."""
        total = frames = 0.0
        rows = self.held if rows is None else rows
        for i in range(0, len(rows), 16):
            part = rows[i : i + 16]
            codes, paces = self.losses(part)
            count = sum(len(r.codes) for r in part)
            total += count * float(codes + DURATION_WEIGHT * paces)
            frames += count
        return total / frames

    @torch.no_grad()
    def start_from_nearest(self) -> str:
        """Start the new rows from the old voice that fits best what is kept aside, or from the mean of all."""
        names = self.voice.config.voices[:-1]
        found = {"the mean": self.held_out()}
        found |= {n: self.held_out([replace(r, voice=i) for r in self.held]) for i, n in enumerate(names)}
        best = min(found, key=found.__getitem__)
        if best in names:
            for table in (self.voice.voice_embedding, self.voice.durations.voice):
                table.weight[-1] = table.weight[names.index(best)]
        self.best_weights = self._weights()
        return best

    # teaching

    def run(self, stop_at: int | None = None) -> None:
        """Teach until the stop rule or the last step, or until ``stop_at``; then the best weights are in place."""
        self._load()
        if self.step == 0:
            origin = self.start_from_nearest()
            self.best = self.held_out()
            self._note(starts_from=origin, held_out=self.best)
        begin = time.process_time() - self.spent_s
        while not self.done and self.step < min(self.settings.steps, stop_at or self.settings.steps):
            self._update()
            if self.step % self.settings.evaluate_every == 0 or self.step == self.settings.steps:
                self.spent_s = time.process_time() - begin
                self._judge()
                self._save()
        self._save()
        if self.done or self.step >= self.settings.steps:
            self.voice.load_state_dict(self.best_weights)

    @property
    def done(self) -> bool:
        """Whether the stop rule has spoken."""
        return self.falls >= 2

    def _update(self) -> None:
        settings = self.settings
        rng = random.Random(f"voice {settings.seed} {self.step}")
        torch.manual_seed(rng.getrandbits(32))
        left = min(1.0, 3 * (settings.steps - self.step) / settings.steps)
        rate = (
            settings.learning_rate * min(1.0, (self.step + 1) / WARM_STEPS) * max(0.1, left) / 3**self.falls
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rows = draw_alike(rng, self.rows, settings.batch, where := rng.random())
        rows += draw_alike(rng, self.old, settings.replay, where)
        codes, paces = self.losses(rows, DROP)
        (codes + DURATION_WEIGHT * paces).backward()
        if settings.learns == "row":
            for parameter in self.learned:
                assert parameter.grad is not None
                parameter.grad[:-1] = 0
        torch.nn.utils.clip_grad_norm_(self.learned, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1

    def _judge(self) -> None:
        """Evaluate, keep the best, and follow the stop rule."""
        loss = self.held_out()
        improved = loss < (1 - self.settings.least_gain) * self.best
        if loss < self.best:
            self.best_weights = self._weights()
        if improved:
            self.best, self.since = loss, 0
        else:
            self.since += 1
        if self.since >= self.settings.patience:
            self.falls, self.since = self.falls + 1, 0
        self._note(held_out=loss)

    # storage

    def _note(self, **facts: Any) -> None:
        row = {"step": self.step, "cpu_s": round(self.spent_s, 1), "falls": self.falls, **facts}
        print(
            " ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()),
            flush=True,
        )
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _save(self) -> None:
        state = {
            "settings": asdict(self.settings), "voice": self._weights(), "best_weights": self.best_weights,
            "optimizer": self.optimizer.state_dict(), "step": self.step, "best": self.best, "since": self.since,
            "falls": self.falls, "spent_s": self.spent_s,
        }  # fmt: skip
        part = self.state_file.with_suffix(".part")
        torch.save(state, part)
        part.rename(self.state_file)

    def _load(self) -> None:
        if not self.state_file.exists():
            return
        state = torch.load(self.state_file, weights_only=True)
        now = asdict(self.settings)
        other = [k for k in now if state["settings"][k] != now[k]]
        if other:
            raise TrainingError(
                f"{self.folder} was begun with another {', '.join(other)}; go on with the same settings, or give "
                "another --out."
            )
        self.voice.load_state_dict(state["voice"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best_weights, self.step, self.best = state["best_weights"], state["step"], state["best"]
        self.since, self.falls, self.spent_s = state["since"], state["falls"], state["spent_s"]


def draw_alike(rng: random.Random, rows: list[Utterance], count: int, where: float) -> list[Utterance]:
    """Rows of like length, so that little of a batch is padding.

    Args:
        rng: Draws them, with repetition.
        rows: Sorted by length; none give none.
        count: How many.
        where: In the sorted rows, 0 to 1.
    """
    if not rows:
        return []
    width = max(1, min(len(rows), max(3 * count, len(rows) // 8)))
    begin = round(where * (len(rows) + width)) - width  # over the edges, or the shortest would be drawn least
    begin = min(max(0, begin), len(rows) - width)
    return [rows[begin + rng.randrange(width)] for _ in range(count)]


def lay_out(teacher: Teacher, row: dict[str, Any], voice: int, lexicon: Lexicon | None = None) -> Utterance:
    """A prepared row as the model reads it; ``lexicon`` of a voice that speaks another language."""
    aligned = WordAlignment(*(row[key] for key in ("phones", "ends_s", "word_of", "borders")))
    return teacher.lay_out(row["text"].split(), aligned, row["codes"], voice, lexicon)


def replayed(speaker: AlignedSpeaker, texts: list[str], count: int, seed: int) -> list[dict[str, Any]]:
    """What the old voices say of themselves: half texts of the new data, half words of the lexicon at random.

    Voices of other languages say words of their own lexicon.
    """
    rng, lexicon, names = (
        random.Random(f"replay {seed}"),
        default_lexicon().words(),
        speaker.voice.config.voices,
    )
    made: list[dict[str, Any]] = []
    for number in range(count):
        words = rng.choice(texts).split() if number % 2 else rng.sample(lexicon, rng.randint(1, 6))
        words, name = words[:LONGEST_REPLAY], names[number // 2 % len(names)]
        if name in speaker.lexicons:
            words = rng.sample(speaker.lexicons[name].own_words(), rng.randint(1, 6))
        aligned, codes = speaker.phrase(words, voice=name)
        made.append(
            {"text": " ".join(words), "voice": name, "codes": codes.to(torch.int16), **asdict(aligned)}
        )
    return made
