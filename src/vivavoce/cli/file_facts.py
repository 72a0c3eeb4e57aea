"""What recordings and token files hold."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

from vivavoce.base.errors import LayoutError
from vivavoce.cli.token_forms import Form, detect_form

BLOCK_S = 30.0
MOST_TOKEN_BYTES = 1 << 28
_TOKEN = re.compile(r"<\|sound_(?:\d+|start|end)\|>|<custom_token_\d+>")


def recording_facts(source: Path | bytes, name: str) -> dict[str, Any]:
    """Header, level and speech share of a recording of any length; of a file, memory holds one block.

    Args:
        source: The file, or the bytes of one.
        name: What it is called.

    Raises:
        AudioError, MissingExtraError: It cannot be read.
    """
    import numpy as np

    from vivavoce.audio.files import audio_info, blocks
    from vivavoce.audio.voice_activity import EnergyDetector

    header = audio_info(source)
    detector = EnergyDetector(header.sample_rate)
    peak, energy, count, events = 0.0, 0.0, 0, []
    for block in blocks(source, BLOCK_S):
        peak = max(peak, float(np.abs(block.waveform).max()))
        energy += float(np.square(block.waveform, dtype=np.float64).sum())
        count += block.waveform.size
        events += detector.push(block.waveform)
    events += detector.flush()
    speech_s = sum(b.time_s - a.time_s for a, b in zip(events[::2], events[1::2], strict=True))
    seconds = count / header.sample_rate
    return {
        "kind": "recording",
        "file": name,
        "container": header.container,
        "encoding": header.encoding,
        "sample_rate": header.sample_rate,
        "channels": header.num_channels,
        "seconds": seconds,
        "num_samples": count,
        "level_db": _decibels(math.sqrt(energy / count)),
        "peak_db": _decibels(peak),
        "speech_s": speech_s,
        "speech_share": speech_s / seconds,
    }


def _decibels(amplitude: float) -> float | None:
    """dB of full scale; None for silence."""
    return 20 * math.log10(amplitude) if amplitude > 0 else None


def token_facts(path: Path) -> dict[str, Any]:
    """Form, number and range of the tokens in a file.

    Raises:
        LayoutError: The file does not hold tokens.
    """
    with path.open("rb") as file:
        data = file.read(MOST_TOKEN_BYTES)
    form = detect_form(data, str(path))
    facts: dict[str, Any] = {"kind": "tokens", "file": str(path), "format": form.value}
    if form is Form.npy:
        return facts | _array_facts(data, path)
    text = data.decode()
    if form is Form.ids:
        ids = [int(n) for n in re.findall(r"\d+", text)]
        return facts | {"tokens": len(ids), "lowest_id": min(ids), "highest_id": max(ids)}
    names = _TOKEN.findall(text)
    if not names or _TOKEN.sub("", text).strip():
        raise LayoutError(f"{path} is text, but not of audio tokens.")
    style = "sound" if names[0].startswith("<|sound") else "orpheus"
    start, end = (
        ("<|sound_start|>", "<|sound_end|>") if style == "sound" else ("<custom_token_1>", "<custom_token_2>")
    )
    numbers = [int(m) for m in re.findall(r"\d+", text)]
    codes = [n for n in numbers if n >= 10] if style == "orpheus" else numbers
    return facts | {
        "layout": "interleaved" if style == "sound" else "orpheus",
        "tokens": len(names),
        "codes": len(codes),
        "complete": names[0] == start and names[-1] == end,
        "lowest_number": min(codes, default=None),
        "highest_number": max(codes, default=None),
    }


def _array_facts(data: bytes, path: Path) -> dict[str, Any]:
    import numpy as np

    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise LayoutError(f"{path} is not a readable .npy array: {error}.") from error
    return {
        "frames": array.shape[0] if array.ndim else 0,
        "codes_per_frame": array.shape[1] if array.ndim == 2 else None,
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "lowest_code": array.min() if array.size else None,
        "highest_code": array.max() if array.size else None,
    }
