"""`mine`: long recordings of people who talk become requests with responses, or dialogues on two channels.

Voice activity, then who speaks when, then turns, then rules, then transcripts. A recording is read by blocks, however
long it is: once for each of these steps that listens.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from vivavoce.audio.decoding import Source
from vivavoce.audio.diarisation import DIARISERS, SpeakerCount
from vivavoce.audio.files import blocks
from vivavoce.audio.resample import HIGHEST_HZ, LOWEST_HZ
from vivavoce.audio.spans import read_spans
from vivavoce.audio.speaker_turns import SpeakerTurn
from vivavoce.audio.threads import one_thread
from vivavoce.audio.voice_activity import DETECTORS, Segment
from vivavoce.base.errors import ConfigError, MissingExtraError
from vivavoce.base.records import read_record
from vivavoce.data.build.contract import Context, Fault, Made, Needs
from vivavoce.data.build.mining.given_turns import LABEL, GivenTurn, Heard, given_turns, said_in
from vivavoce.data.build.mining.mined_rows import Clip, Mined, dialogue_rows, pair_rows
from vivavoce.data.build.mining.recognisers import RECOGNISERS, make_recogniser
from vivavoce.data.build.mining.turn_rules import (
    TurnRules,
    exchanges,
    link_refusal,
    main_share,
    refusal,
    whole_turns,
)
from vivavoce.data.build.speech.loudness import level_swing_db
from vivavoce.data.conversation import Audio, Conversation, Word
from vivavoce.data.recordings import ARCHIVE, read_bytes, source_of

VAD_HZ, BLOCK_S = 16_000, 30.0
RECOGNISER_GPUS = 0.25  # most of the time is voice activity and diarisation, on the core
GIVEN, NONE = "given", "none"
BACKCHANNELS = frozenset(
    "ah aha alright cool exactly good great hm hmm huh i indeed mhm mm mmm nice no oh ok okay right see sure true uh "
    "um well wow yeah yep yes yup".split()
)


@dataclass(frozen=True)
class MineConfig:
    """How to mine.

    Attributes:
        form: "pairs" for a row per request and response, "dialogue" for a row per conversation, whose messages have
            their ``time``; `vivavoce data convert --to moshi` makes stereo files of both.
        vad: What finds speech (`audio.voice_activity.DETECTORS`): "silero" (extra ``vad``; its weights lie in its
            package), or "energy", which needs nothing and takes music and loud noise for speech.
        diariser: What tells speakers apart: "embedded", which needs nothing, "pyannote" or "pyannote:MODEL", or
            "given" for the turns under the label ``turns`` of the recording.
        speakers: How many there are; None to find out.
        most_speakers: If that is to be found out.
        transcripts: "given" for those of the label ``turns`` or of the recording's ``words``, "none", or a recogniser
            (`recognisers.py`): "service:NAME", "transformers:MODEL", "pocketsphinx".
        language: Of transcripts, if the recording does not tell.
        keep_text: Put the answer's words as text before its recording, to be learned.
        sample_rate: Of the cut recordings, Hz; None keeps the recording's.
        rules: As `turn_rules.TurnRules` has them.
    """

    form: Literal["pairs", "dialogue"] = "pairs"
    vad: str = "silero"
    diariser: str = "embedded"
    speakers: int | None = None
    most_speakers: int = 6
    transcripts: str = NONE
    language: str | None = None
    keep_text: bool = True
    sample_rate: int | None = 24_000
    rules: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.turn_rules()
        SpeakerCount(self.speakers, self.most_speakers)
        diariser, transcripts = (v.partition(":")[0] for v in (self.diariser, self.transcripts))
        for value, table, more in (
            (self.vad, DETECTORS, ()), (diariser, DIARISERS, (GIVEN,)), (transcripts, RECOGNISERS, (GIVEN, NONE)),
        ):  # fmt: skip
            if value not in table and value not in more:
                raise ConfigError(f"{table.what} is {value!r}, wanted one of {', '.join((*more, *table))}")
        if self.sample_rate is not None and not LOWEST_HZ <= self.sample_rate <= HIGHEST_HZ:
            raise ConfigError(f"sample_rate is {self.sample_rate} Hz, wanted {LOWEST_HZ} to {HIGHEST_HZ}")

    def turn_rules(self) -> TurnRules:
        """The rules.

        Raises:
            ConfigError: They are wrong.
        """
        return read_record(TurnRules, self.rules, "rules")


class Mine:
    """Mines recordings.

    A recording is put aside that is not one recording ("no_recording"), has no speech ("no_speech"), one speaker
    ("one_speaker") or too many ("many_speakers"), or of which no rule left anything ("nothing_left", with the count of
    each rule). Every row tells in ``meta["mined"]`` how many candidates its recording had and what became of them.
    """

    config_class: ClassVar[type] = MineConfig
    version: ClassVar[int] = 1
    batch_rows: ClassVar[int] = 1

    @staticmethod
    def needs(config: MineConfig) -> Needs:
        return Needs.of_models(config.transcripts, gpus=RECOGNISER_GPUS)

    def __init__(self, config: MineConfig, context: Context) -> None:
        self.config, self.context, self.rules = config, context, config.turn_rules()
        self._diariser: Any = None
        if config.diariser != GIVEN:
            name, _, model = config.diariser.partition(":")
            self._diariser = DIARISERS.get(name)(model or None)
            self._detector()
        wanted = config.transcripts not in (GIVEN, NONE)
        self._recogniser = make_recogniser(config.transcripts, context) if wanted else None
        self.hears_overlap = self._diariser is None or bool(self._diariser.hears_overlap)

    def __call__(self, rows: Sequence[Conversation]) -> list[Made]:
        return [self._mine(row) for row in rows]

    def _mine(self, row: Conversation) -> Made:
        parts = [part for part in row.audio_parts() if part.audio is not None]
        if len(parts) != 1:
            return Fault("no_recording", f"the row has {len(parts)} recordings, wanted one long one")
        part, source = parts[0], self._source(parts[0], row)
        given = given_turns(part) if GIVEN in (self.config.diariser, self.config.transcripts) else []
        found = self.turns(part, source, given)
        if isinstance(found, Fault):
            return found
        speakers = len({turn.speaker for turn in found})
        if speakers == 1:
            return Fault("one_speaker", "one voice was heard, and it takes two", filtered=True)
        share = main_share(found)
        if share < self.rules.main_share:
            reason = (
                f"the main two of {speakers} voices say {share:.2f} of all, wanted {self.rules.main_share:g}"
            )
            return Fault("many_speakers", reason, filtered=True)
        mined = self._select(found)
        self._fill(mined, part, source, given)
        make = pair_rows if self.config.form == "pairs" else dialogue_rows
        made = make(mined, self._base(row, part, found), self.config.keep_text, self.hears_overlap)
        if made:
            return made
        told = ", ".join(f"{count} {rule}" for rule, count in sorted(mined.left_out.items()))
        return Fault(
            "nothing_left", f"of {mined.candidates} candidates nothing is left: {told}", filtered=True
        )

    def turns(self, part: Audio, source: Source, given: Sequence[GivenTurn]) -> list[SpeakerTurn] | Fault:
        """Who speaks when in a part of a recording."""
        begin, end = part.start_s, float("inf") if part.end_s is None else part.end_s
        if self.config.diariser == GIVEN:
            found = [g.turn for g in given]
        else:
            segments = [Segment(max(a, begin), min(b, end)) for a, b in self.speech(source)]
            segments = [segment for segment in segments if segment.start_s < segment.end_s]
            if not segments:
                return Fault("no_speech", f"{self.config.vad} found no speech", filtered=True)
            count = SpeakerCount(self.config.speakers, self.config.most_speakers)
            found = self._diariser.diarise(source, segments, count)
        found = [SpeakerTurn(max(a, begin), min(b, end), name) for a, b, name in found]
        found = sorted(turn for turn in found if turn.start_s < turn.end_s)
        return found or Fault("no_speech", "nobody was heard", filtered=True)

    def speech(self, source: Source) -> list[Segment]:
        """Where somebody speaks."""
        with one_thread():
            detector = self._detector()
            events = [
                e
                for block in blocks(source, BLOCK_S, sample_rate=VAD_HZ)
                for e in detector.push(block.waveform)
            ]
            events += detector.flush()
        return [Segment(a.time_s, b.time_s) for a, b in zip(events[::2], events[1::2], strict=True)]

    def _detector(self) -> Any:
        try:
            return DETECTORS.get(self.config.vad)(VAD_HZ)
        except MissingExtraError as error:
            raise MissingExtraError(f"{error} Or say vad: energy, which needs no package.") from error

    def _source(self, part: Audio, row: Conversation) -> Source:
        """The recording: a path where it is a file, so that it need not be in memory, else its bytes."""
        named = source_of(part, row)
        path = named.get("path") if isinstance(named, Mapping) and named.get("bytes") is None else named
        plain = (
            isinstance(path, str)
            and not path.startswith("data:")
            and "://" not in path
            and ARCHIVE not in path
        )
        return Path(self.context.root, str(path)) if plain and path else read_bytes(named, self.context.root)

    def _select(self, found: Sequence[SpeakerTurn]) -> Mined:
        """Candidates that the rules about times let through."""
        rules = self.rules
        if self.config.form == "pairs":
            pairs = exchanges(whole_turns(found, rules), found)
            refused = {pair: refusal(pair, found, rules) for pair in pairs}
            kept = [pair for pair in pairs if refused[pair] is None]
            mined = Mined(rules, candidates=len(pairs), pairs=kept)
            mined.left_out = Counter(rule for rule in refused.values() if rule is not None)
            return mined
        turns = whole_turns(found, rules, max(rules.pause_s, rules.max_gap_s))
        links = exchanges(turns, found)
        open_links = {
            (pair.request, pair.answer): pair for pair in links if not link_refusal(pair, found, rules)
        }
        mined = Mined(rules, candidates=len(turns), turns=turns, links=open_links)
        mined.refused = {t: "length" for t in turns if t.end_s - t.start_s > rules.max_answer_s}
        return mined

    def _fill(self, mined: Mined, part: Audio, source: Source, given: Sequence[GivenTurn]) -> None:
        """Cut the turns that are wanted, and find out what is said in them."""
        wanted = mined.wanted()
        words = [(w, a + part.start_s, b + part.start_s) for w, a, b in part.words or ()]
        spans = [(turn.start_s, turn.end_s) for turn in wanted]
        for number, waveform, rate in read_spans(source, spans, self.config.sample_rate):
            mined.clips[wanted[number]] = self._clip(wanted[number], waveform, rate, given, words)

    def _clip(
        self,
        turn: SpeakerTurn,
        waveform: np.ndarray,
        rate: int,
        given: Sequence[GivenTurn],
        words: Sequence[Word],
    ) -> Clip | str:
        """A turn's recording and words, or the rule that it breaks."""
        if not waveform.any() or level_swing_db(waveform, rate) < self.rules.min_swing_db:
            return "not_speech"
        if self.config.transcripts == NONE:
            return Clip.of(waveform, rate, Heard(None))
        if self.config.transcripts == GIVEN:
            heard = said_in(turn, given, words, self.rules.backchannel_s)
        else:
            assert self._recogniser is not None
            heard = Heard(self._recogniser.transcribe(waveform, rate).strip() or None)
        if heard.text is None or not any(c.isalnum() for c in heard.text):
            return heard.reason
        said = [w.strip(".,;:!?-\u2026'\"").lower() for w in heard.text.split()]
        if all(w in BACKCHANNELS for w in said if w):
            return "backchannel"
        if len(said) < self.rules.min_words:
            return "few_words"
        return Clip.of(waveform, rate, heard)

    def _base(self, row: Conversation, part: Audio, found: Sequence[SpeakerTurn]) -> Conversation:
        """What every row of a recording has: licence, source, what else was known, and how it was mined."""
        made = Conversation(row.id, [], source=row.source, license=row.license, meta=copy.deepcopy(row.meta))
        made.weight = row.weight
        facts = {
            "recording": row.id,
            "language": part.language or self.config.language,
            "vad": None if self.config.diariser == GIVEN else self.config.vad,
            "diariser": self.config.diariser,
            "transcripts": self.config.transcripts,
            "speakers": len({turn.speaker for turn in found}),
            "labels": {k: copy.deepcopy(v) for k, v in part.labels.items() if k != LABEL} or None,
        }
        made.meta["mined"] = {k: v for k, v in facts.items() if v is not None}
        return made
