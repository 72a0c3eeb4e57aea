"""A good row, and invented bad ones: each is the good row with one thing wrong, and names the kinds it must give."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile

from vivavoce.codecs.contract import CodecSpec

RATE = 16_000
SPEC = CodecSpec("toy", 16_000, 320, (2, 1), 16, 0, True, weights="abcd")  # 3 codes a frame of 20 ms
Row = dict[str, Any]


def sound(seconds: float = 2.0, rate: int = RATE, level: float = 0.1, seed: int = 0) -> np.ndarray:
    """Noise of a full band."""
    wave = level * np.random.default_rng(seed).standard_normal(round(seconds * rate))
    return np.clip(wave, -0.99, 0.99).astype(np.float32)


def clip(wave: np.ndarray | None = None, rate: int = RATE, subtype: str = "PCM_16") -> dict[str, Any]:
    """A recording inside a row."""
    file = io.BytesIO()
    soundfile.write(file, sound() if wave is None else wave, rate, format="WAV", subtype=subtype)
    return {"bytes": file.getvalue()}


def good_row(name: str = "good", seed: int = 0) -> Row:
    """A spoken question of 2 s with a spoken answer of 1 s; nothing is wrong with it."""
    asked = {
        "type": "audio",
        "audio": 0,
        "transcript": "What is the weather in Hanoi?",
        "language": "en",
        "speaker": "s1",
        "words": [
            ["What", 0.1, 0.3],
            ["is", 0.3, 0.4],
            ["the", 0.4, 0.5],
            ["weather", 0.5, 0.9],
            ["in", 0.9, 1.0],
            ["Hanoi?", 1.0, 1.6],
        ],
    }
    codes = np.random.default_rng(seed).integers(0, 16, (50, 3)) + np.array([0, 16, 32])
    tokens = {"codec": "toy", "codec_hash": "abcd", "layout": "orpheus", "num_samples": 16_000}
    said = {
        "type": "audio",
        "audio": 1,
        "transcript": "Rain is likely.",
        "language": "en",
        "speaker": "v1",
        "tokens": {**tokens, "ids": codes.flatten().tolist()},
    }
    return {
        "id": name,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Listen. "}, asked]},
            {"role": "assistant", "content": [{"type": "text", "text": "Rain is likely."}, said]},
        ],
        "audios": [clip(sound(seed=2 * seed)), clip(sound(1.0, seed=2 * seed + 1))],
        "license": "cc0-1.0",
    }


def asked(row: Row) -> dict[str, Any]:
    """The user's audio part."""
    found: dict[str, Any] = row["messages"][1]["content"][1]
    return found


def said(row: Row) -> dict[str, Any]:
    """The answer's audio part."""
    found: dict[str, Any] = row["messages"][2]["content"][1]
    return found


@dataclass(frozen=True)
class Bad:
    """The good row with something wrong.

    Attributes:
        change: Makes the row bad, in place.
        kinds: What must be found, and nothing else.
        options: Of ``CheckConfig``, beside the codec.
        seen: A part of what the message must say.
    """

    change: Callable[[Row], Any]
    kinds: set[str]
    seen: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def put(path: str, value: Any) -> Callable[[Row], None]:
    """Set a value at a dotted path."""

    def change(row: Row) -> None:
        *way, last = path.split(".")
        place: Any = row
        for key in way:
            place = place[int(key) if key.isdigit() else key]
        place[int(last) if last.isdigit() else last] = value

    return change


def part(name: str, value: Any) -> Callable[[Row], None]:
    """Set a value of the user's audio part."""
    return put(f"messages.1.content.1.{name}", value)


def code(name: str, value: Any) -> Callable[[Row], None]:
    """Set a value of the answer's codes."""
    return put(f"messages.2.content.1.tokens.{name}", value)


def drop(*names: str) -> Callable[[Row], None]:
    """Take keys of the user's audio part away."""
    return lambda row: [asked(row).pop(name) for name in names]


def heard(wave: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> Callable[[Row], None]:
    """Replace the user's recording, without words that would not fit it."""

    def change(row: Row) -> None:
        row["audios"][0] = clip(wave, rate, subtype)
        asked(row).pop("words")

    return change


def several(*changes: Callable[[Row], Any]) -> Callable[[Row], None]:
    return lambda row: [change(row) for change in changes] and None


def _narrow(seconds: float = 2.0) -> np.ndarray:
    """Sound of 8 kHz in a file of 48 kHz."""
    import soxr

    return np.asarray(soxr.resample(sound(seconds, 8000), 8000, 48_000), np.float32)


_CLIPPED = np.clip(sound(level=0.8), -0.99, 0.99) / 0.99
_CLIPPED_AT_TIMES, _PEAK = sound(), sound()
_CLIPPED_AT_TIMES[::200] = 1.0
_PEAK[1000:1010] = 1.0
_TEXT = "messages.1.content.0.text"
_SILENCE = np.zeros(2 * RATE, np.float32)
_OFFSET = (sound() + 0.1).astype(np.float32)
_NAN = sound()
_NAN[100] = np.nan
_URI = "data:audio/wav;base64," + base64.b64encode(b"no recording").decode()

CASES: dict[str, Bad] = {
    "good": Bad(lambda row: None, set()),
    # turns and loss
    "no answer": Bad(
        lambda row: row["messages"].pop(), {"nothing_to_learn", "unused_recording"}, "no assistant turn"
    ),
    "empty answer": Bad(
        put("messages.2.content", " "), {"nothing_to_learn", "unused_recording"}, "the assistant says nothing"
    ),
    "one of two answers is empty": Bad(
        lambda row: row["messages"].extend(
            [{"role": "user", "content": "And?"}, {"role": "assistant", "content": ""}]
        ),
        {"empty_answer"},
        "message 4",
    ),
    "an empty answer that is not learned": Bad(
        lambda row: row["messages"].insert(1, {"role": "assistant", "content": "", "loss": 0}), set()
    ),
    "answer without loss": Bad(
        put("messages.2.loss", 0), {"nothing_to_learn"}, "no assistant turn has a loss"
    ),
    "loss on text of an answer in audio": Bad(
        several(
            put("messages.2.loss", {"text": 1, "audio": 0}), lambda row: row["messages"][2]["content"].pop(0)
        ),
        {"nothing_to_learn"},
    ),
    "loss on everything": Bad(
        several(put("messages.0.loss", 1), put("messages.1.loss", True)),
        {"labels_equal_inputs"},
        "system, user too",
    ),
    "loss on the user's audio": Bad(
        put("messages.1.loss", {"text": 0, "audio": 0.5}),
        {"loss_on_question"},
        "0.5 on audio of a user message",
    ),
    "loss on the user's text": Bad(put("messages.1.loss", {"text": 1.0}), {"loss_on_question"}),
    "loss on everything is meant": Bad(
        several(put("messages.0.loss", 1), put("messages.1.loss", 1), put("task", "interleave")), set()
    ),
    "loss is no number": Bad(put("messages.1.loss", "yes"), {"bad_loss"}, "'yes'"),
    "loss is negative": Bad(put("messages.2.loss", {"text": -1}), {"bad_loss"}, "-1"),
    "system is not first": Bad(
        lambda row: row["messages"].insert(0, row["messages"].pop(1)), {"system_not_first"}
    ),
    "two answers in a row": Bad(
        lambda row: row["messages"].append({"role": "assistant", "content": "Indeed."}),
        {"turns_not_alternating"},
    ),
    "two questions in a row": Bad(
        lambda row: row["messages"].insert(1, {"role": "user", "content": "Hello."}),
        {"turns_not_alternating"},
    ),
    # text
    "placeholder of swift": Bad(
        put(_TEXT, "<audio>What is said?"), {"placeholder_in_text"}, "1 times <audio>"
    ),
    "placeholder of Ultravox": Bad(put(_TEXT, "Say <|audio|>"), {"placeholder_in_text"}, "2 audio parts"),
    "placeholders of SALMONN": Bad(
        put(_TEXT, "<Speech><SpeechHere></Speech> Who?"), {"placeholder_in_text"}, "<SpeechHere>"
    ),
    "placeholder of Phi": Bad(put(_TEXT, "<|audio_1|>"), {"placeholder_in_text"}),
    "HTML is no placeholder": Bad(put(_TEXT, "Explain <audio>x</audio> and <audio controls>."), set()),
    "a recording nobody names": Bad(
        lambda row: row["audios"].append(clip(sound(seed=9))), {"unused_recording"}
    ),
    "sound tokens as text": Bad(
        put(_TEXT, "<|sound_start|><|sound_0007|><|sound_end|>"), {"sound_tokens_in_text"}
    ),
    "Orpheus tokens as text": Bad(
        put("messages.2.content.0.text", "<custom_token_4000>"), {"sound_tokens_in_text"}
    ),
    "transcript beside the clip": Bad(
        put(_TEXT, "Somebody says: what is the weather in Hanoi"), {"transcript_beside_audio"}
    ),
    "Chinese transcript beside the clip": Bad(
        several(
            put(_TEXT, "他说今天河内天气怎么样对吗"),
            part("transcript", "今天河内天气怎么样"),
            drop("words", "language"),
        ),
        {"transcript_beside_audio"},
    ),
    "a word of the clip may be typed": Bad(
        several(part("transcript", "Weather?"), drop("words"), put(_TEXT, "Is it about weather?")), set()
    ),
    "tabs and lines are readable": Bad(put(_TEXT, "a\tb\r\nc"), set()),
    "broken characters": Bad(put(_TEXT, "Caf\ufffd"), {"broken_text"}, "U+FFFD"),
    "control characters": Bad(put(_TEXT, "a\x1b[31m"), {"broken_text"}, "U+001B"),
    # recordings
    "clipped": Bad(heard(_CLIPPED), {"clipped"}, "% of samples"),
    "clipped at times": Bad(heard(_CLIPPED_AT_TIMES), {"clipped"}, "0.5 % of samples"),
    "a peak that touches full scale": Bad(heard(_PEAK), set()),
    "beyond full scale": Bad(heard(3 * sound(level=0.4), subtype="FLOAT"), {"clipped"}, "peak"),
    "silent": Bad(heard(_SILENCE), {"silent"}),
    "two channels that cancel each other": Bad(
        heard(np.stack([sound(), -sound()], axis=1)), {"silent"}, "2 channels averaged"
    ),
    "quiet": Bad(heard(sound(level=0.002)), {"quiet"}),
    "offset": Bad(heard(_OFFSET), {"dc_offset"}, "+0.100"),
    "NaN": Bad(heard(_NAN, subtype="FLOAT"), {"not_finite"}),
    "lower rate than wanted": Bad(
        heard(sound(rate=8000), 8000), {"low_rate"}, "8000 Hz", {"sample_rate": 16_000}
    ),
    "higher rate than wanted": Bad(
        heard(sound(rate=24_000), 24_000), {"other_rate"}, "24000 Hz", {"sample_rate": 16_000}
    ),
    "8 kHz sound in a 48 kHz file": Bad(heard(_narrow(), 48_000), {"band_limited"}, "48000 Hz"),
    "very short": Bad(several(heard(sound(0.05)), part("transcript", "O")), {"very_short"}, "0.05"),
    "no recording": Bad(
        several(put("audios.0", {"path": "absent.wav"}), drop("words")), {"unreadable_audio"}, "absent.wav"
    ),
    "not a recording": Bad(several(put("audios.0", _URI), drop("words")), {"unreadable_audio"}),
    "a recording that is cut off": Bad(
        several(lambda row: row["audios"][0].update(bytes=row["audios"][0]["bytes"][:3000]), drop("words")),
        {"unreadable_audio"},
        "cut off",
    ),
    "an address": Bad(put("audios.0", "https://example.org/a.wav"), {"network_audio"}),
    "an absolute path": Bad(put("audios.0", "/nowhere/a.wav"), {"absolute_path", "unreadable_audio"}),
    "a path of another system": Bad(put("audios.0", "C:\\a.wav"), {"absolute_path", "unreadable_audio"}),
    "a path out of the set": Bad(put("audios.0", "../a.wav"), {"absolute_path", "unreadable_audio"}),
    "ends after the recording": Bad(part("end", 2.5), {"span_outside"}, "2.5 s in a recording of 2.00"),
    "begins after the recording": Bad(part("start", 3.0), {"span_outside"}, "start 3 s"),
    # transcripts
    "too much said": Bad(
        several(part("transcript", "what is the weather " * 10), drop("words")), {"speech_too_fast"}
    ),
    "too much said in Chinese": Bad(
        several(
            part("transcript", "今天河内天气怎么样" * 4),
            part("language", "zh"),
            drop("words"),
        ),
        {"speech_too_fast"},
        "36 letters in 2.00 s",
    ),
    "as many letters are fine in English": Bad(
        several(part("transcript", "what is the weather in Hanoi this morning"), drop("words")), set()
    ),
    "too little said": Bad(several(heard(sound(12.0)), part("transcript", "Yes.")), {"speech_too_slow"}),
    "digits take long": Bad(several(heard(sound(8.0)), part("transcript", "5551234")), set()),
    "marks are not said": Bad(
        several(
            heard(sound(2.0)),
            part(
                "transcript",
                "Oh [a very long description of laughter, coughs and other sounds by several people] yes",
            ),
        ),
        set(),
    ),
    "wrong script": Bad(
        several(part("transcript", "Какая сегодня погода?"), drop("words")),
        {"script_mismatch"},
        "cyrillic letters",
    ),
    "wrong language": Bad(part("language", "ru"), {"script_mismatch"}, "latin letters"),
    "a name in Latin letters": Bad(
        several(part("transcript", "我在 Google 公司工作了"), drop("words"), part("language", "zh")), set()
    ),
    "mostly another script": Bad(
        several(
            part("transcript", "我在用 Google Cloud 工"),
            drop("words"),
            part("language", "zh"),
        ),
        {"script_mismatch"},
    ),
    "language by name": Bad(part("language", "English"), {"language_code"}),
    "a language nobody knows is not judged": Bad(part("language", "tlh"), set()),
    "words of the whole recording": Bad(
        put("messages.1.content.1.words.5", ["Hanoi?", 7.0, 7.6]), {"words_outside"}, "'Hanoi?' from 7 to 7.6"
    ),
    "words backwards": Bad(
        put("messages.1.content.1.words.1", ["is", 0.0, 0.1]), {"words_out_of_order"}, "'is'"
    ),
    "a word that ends before it begins": Bad(
        put("messages.1.content.1.words.1", ["is", 0.35, 0.3]), {"words_out_of_order"}
    ),
    "other words": Bad(put("messages.1.content.1.words.0", ["Where", 0.1, 0.3]), {"words_differ"}),
    "no transcript for a teacher": Bad(
        several(drop("transcript", "words"), lambda row: row["messages"][2]["content"].pop()),
        {"no_teacher_text", "unused_recording"},
        "message 1, part 1",
        {"task": "distill"},
    ),
    "blank transcript for a teacher": Bad(
        several(part("transcript", " "), drop("words")),
        {"no_teacher_text", "answer_not_text"},
        "",
        {"task": "distill"},
    ),
    "nothing to hear for a student": Bad(
        several(
            lambda row: row["messages"][1]["content"].pop(), lambda row: row["messages"][2]["content"].pop()
        ),
        {"no_clip_to_distill", "unused_recording"},
        "",
        {"task": "distill"},
    ),
    "no transcript to recognise": Bad(
        several(drop("transcript", "words"), put("task", "asr")), {"no_transcript"}, "transcript None"
    ),
    "a clip with transcript is enough to recognise": Bad(
        several(lambda row: row["messages"].pop(), lambda row: row["audios"].pop(), put("task", "asr")), set()
    ),
    # sound tokens
    "half a frame": Bad(
        lambda row: said(row)["tokens"]["ids"].pop(), {"bad_tokens"}, "ends inside coarse frame 49"
    ),
    "a lost token": Bad(lambda row: said(row)["tokens"]["ids"].pop(4), {"bad_tokens"}, "position 4"),
    "ids of a vocabulary": Bad(
        lambda row: said(row)["tokens"].update(ids=[128_266 + i for i in said(row)["tokens"]["ids"]]),
        {"bad_tokens"},
        "token ids of a vocabulary",
    ),
    "ids that are no numbers": Bad(lambda row: said(row)["tokens"].update(ids=["a"] * 3), {"bad_tokens"}),
    "unknown layout": Bad(code("layout", "spiral"), {"bad_tokens"}, "spiral"),
    "codes of other weights": Bad(code("codec_hash", "ffff"), {"codec_differs"}, "'toy' ffff"),
    "codes of another codec": Bad(
        several(code("codec", "mimi"), code("codec_hash", "")),
        {"codec_differs", "no_codec_hash"},
    ),
    "same weights under another name": Bad(code("codec", "./toy"), set()),
    "codes without a hash": Bad(lambda row: said(row)["tokens"].pop("codec_hash"), {"no_codec_hash"}),
    "codes of an unknown codec": Bad(code("codec", "secret"), {"unknown_codec"}, "'secret'", {"codec": None}),
    "codes without num_samples": Bad(
        lambda row: said(row)["tokens"].pop("num_samples"), {"tokens_incomplete"}, "num_samples"
    ),
    "codes without codes": Bad(lambda row: said(row)["tokens"].pop("ids"), {"tokens_incomplete"}),
    "codes in a file that is not there": Bad(
        lambda row: said(row)["tokens"].update(ids=None, path="absent.npy"),
        {"tokens_incomplete"},
        "absent.npy",
    ),
    "more samples than frames": Bad(code("num_samples", 16_321), {"tokens_length"}),
    "fewer samples than frames": Bad(code("num_samples", 15_680), {"tokens_length"}),
    "codes of another recording": Bad(
        lambda row: row["audios"].__setitem__(1, clip(sound(1.4, seed=1))),
        {"tokens_duration"},
        "recording of 1.40",
    ),
    "codes that stand still": Bad(
        lambda row: said(row)["tokens"].update(ids=[3, 20, 40] * 50), {"tokens_stuck"}, "50 of 50"
    ),
    # provenance
    "no licence": Bad(lambda row: row.pop("license"), {"no_licence"}),
    "no speaker": Bad(drop("speaker"), {"no_speaker"}),
    # rows
    "unknown role": Bad(put("messages.1.role", "human"), {"invalid_row"}, "'human'"),
    "a transcript that is no text": Bad(part("transcript", 5), {"invalid_row"}, "transcript is 5"),
    "tokens that are no object": Bad(
        put("messages.2.content.1.tokens", [1, 2]), {"invalid_row"}, "tokens is [1, 2]"
    ),
    "labels that are no object": Bad(part("labels", "happy"), {"invalid_row"}),
    "an unknown key": Bad(put("licence", "cc0-1.0"), {"invalid_row"}, "did you mean 'license'"),
}
