"""How well speakers are told apart: python benchmarks/diarisation.py [--recording A.wav A.rttm] [--json]

Diarisation error rates, in per cent of the seconds spoken: of dialogues of two and three synthetic voices (espeak-ng
and flite; made here, by the builders `speak` and `converse`), and of recordings with RTTM files that are named. Each is
diarised with true speech segments ("given") and with found ones ("energy", "silero"), the number of speakers known and
unknown. No collar, overlap scored: nothing is forgiven. The baseline gives all speech to one speaker.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from vivavoce.audio.decoding import Source
from vivavoce.audio.diarisation import DIARISERS, SpeakerCount
from vivavoce.audio.files import read_audio
from vivavoce.audio.speaker_turns import DiarisationError, SpeakerTurn, diarisation_error, read_rttm
from vivavoce.audio.voice_activity import Segment, SegmentRules, speech_segments
from vivavoce.base.errors import MissingExtraError
from vivavoce.data.build.contract import Context, Fault
from vivavoce.data.build.mining.given_turns import given_turns
from vivavoce.data.build.speech.converse import Converse, ConverseConfig
from vivavoce.data.build.speech.speak import Speak, SpeakConfig
from vivavoce.data.conversation import Audio, Conversation, Message, Text, read_conversation

DIALOGUES = Path(__file__).parents[1] / "recipes" / "data" / "dialogues.jsonl"
CASTS = {  # name -> a voice per speaker, and which dialogues they speak one after the other
    "woman, man": (("flite:slt", "flite:rms"), range(0, 3)),
    "two men": (("flite:rms", "flite:awb"), range(3, 6)),
    "two engines": (("espeak:en-us", "flite:slt"), range(6, 9)),
    "one engine, two variants": (("espeak:en-us+f3", "espeak:en-us+m3"), range(9, 12)),
    "long, two men": (("flite:awb", "espeak:en-us"), range(0, 15)),
    "three voices": (("flite:slt", "flite:rms", "espeak:en-us"), range(12, 18)),
    "three men": (("flite:rms", "flite:awb", "espeak:en-us"), range(18, 24)),
}
RATE_HZ = 16_000


class Case(NamedTuple):
    """A recording and who really speaks when."""

    name: str
    source: Source
    true: list[SpeakerTurn]


def dialogue(name: str, voices: Sequence[str], texts: Sequence[str]) -> Case:
    """A recording of voices that take turns."""
    context = Context(seed=0)
    spoken = Conversation(name, [])
    for number, text in enumerate(texts):
        config = SpeakConfig(voices=(voices[number % len(voices)],), sample_rate=RATE_HZ)
        row = Conversation(f"{name}/{number}", [Message("user", [Text(text)])])
        (made,) = Speak(config, context)([row])
        if isinstance(made, Fault):
            raise SystemExit(f"{config.voices[0]} failed: {made.reason}")
        part: Audio = made[0].messages[0].audios[0]
        part.audio = len(spoken.audios)
        spoken.audios += made[0].audios
        spoken.messages.append(Message(("user", "assistant")[number % 2], [part]))
    (joined,) = Converse(ConverseConfig(sample_rate=RATE_HZ), context)([spoken])
    if isinstance(joined, Fault):
        raise SystemExit(joined.reason)
    (talk,) = joined
    (part,) = talk.audio_parts()
    return Case(name, talk.audios[0]["bytes"], [given.turn for given in given_turns(part)])


def synthetic() -> list[Case]:
    """The dialogues of CASTS."""
    lines = DIALOGUES.read_text(encoding="utf-8").splitlines()
    rows = [read_conversation(json.loads(line)) for line in lines]
    cases = []
    for name, (voices, numbers) in CASTS.items():
        texts = [message.text for number in numbers for message in rows[number].messages]
        cases.append(dialogue(name, voices, texts))
    return cases


def union(turns: Sequence[SpeakerTurn]) -> list[Segment]:
    """Where anybody speaks."""
    made: list[Segment] = []
    for start_s, end_s, _ in sorted(turns):
        if made and start_s <= made[-1].end_s:
            made[-1] = Segment(made[-1].start_s, max(made[-1].end_s, end_s))
        else:
            made.append(Segment(start_s, end_s))
    return made


def speech_of(case: Case, rules: SegmentRules) -> dict[str, list[Segment]]:
    """Segments of speech, given and found."""
    waveform, rate = read_audio(case.source, RATE_HZ, max_seconds=None)
    made = {"given": union(case.true)}
    for detector in ("energy", "silero"):
        try:
            made[detector] = speech_segments(waveform, rate, detector, rules)
        except MissingExtraError as error:
            print(f"{detector} is left out: {error}")
    return made


def measure(case: Case, diariser: str, rules: SegmentRules) -> list[dict[str, float | str]]:
    """A row per way of finding speech, and known or unknown number of speakers."""
    rows: list[dict[str, float | str]] = []
    speakers = len({turn.speaker for turn in case.true})
    length_s = max(turn.end_s for turn in case.true)
    machine = DIARISERS.get(diariser)()
    for vad, segments in speech_of(case, rules).items():
        alone = [SpeakerTurn(a, b, "1") for a, b in segments]
        for known in (True, False):
            start = time.process_time()
            found = machine.diarise(case.source, segments, SpeakerCount(speakers if known else None))
            used_s = time.process_time() - start
            error, baseline = (diarisation_error(case.true, turns) for turns in (found, alone))
            rows.append(
                {
                    "recording": case.name, "seconds": length_s, "speakers": speakers, "vad": vad,
                    "count": "known" if known else "unknown", "found": len({turn.speaker for turn in found}),
                    **_shares(error), "baseline": 100 * baseline.rate, "cpu_of_real_time": used_s / length_s,
                }
            )  # fmt: skip
    return rows


def _shares(error: DiarisationError) -> dict[str, float | str]:
    parts = {"missed": error.missed_s, "false": error.false_alarm_s, "confused": error.confusion_s}
    return {"der": 100 * error.rate} | {name: 100 * s / error.total_s for name, s in parts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recording", nargs=2, metavar=("WAV", "RTTM"), action="append", default=[])
    parser.add_argument("--diariser", default="embedded")
    parser.add_argument("--min-silence", type=float, default=0.4, help="of the voice activity detector, s")
    parser.add_argument("--padding", type=float, default=0.1, help="of the voice activity detector, s")
    parser.add_argument("--no-synthetic", action="store_true", help="only the recordings that are named")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    rules = SegmentRules(min_silence_s=options.min_silence, padding_s=options.padding)
    cases = [Case(Path(wav).name, wav, read_rttm(rttm)) for wav, rttm in options.recording]
    cases += [] if options.no_synthetic else synthetic()
    numbers = ("der", "missed", "false", "confused", "baseline")
    print(
        f"{'recording':26}{'s':>5} {'vad':8}{'speakers':>10}{'found':>7}",
        *(f"{n:>9}" for n in numbers),
        f"{'CPU/s':>8}",
    )
    rows = []
    for case in cases:
        for row in measure(case, options.diariser, rules):
            rows.append(row)
            told = f"{row['speakers']} {row['count']}"
            head = f"{row['recording']:26}{row['seconds']:5.0f} {row['vad']:8}{told:>10}{row['found']:7d}"
            print(head, *(f"{row[n]:9.1f}" for n in numbers), f"{row['cpu_of_real_time']:8.3f}", flush=True)
    print("\nmean of all recordings")
    for (vad, count), group in groupby(
        sorted(rows, key=lambda r: (r["vad"], r["count"])), key=lambda r: (r["vad"], r["count"])
    ):
        listed = list(group)
        mean = {n: sum(float(r[n]) for r in listed) / len(listed) for n in numbers}
        right = sum(r["found"] == r["speakers"] for r in listed)
        print(
            f"{vad:8}{count:10} right count {right} of {len(listed)}",
            *(f"{n} {mean[n]:.1f}" for n in numbers),
        )
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
