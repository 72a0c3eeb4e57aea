"""What a codec in training sounds and looks like: recordings beside what it makes of them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from vivavoce.audio.files import write_audio
from vivavoce.codecs.contract import Codec
from vivavoce.codecs.training.spectral import magnitudes
from vivavoce.training.codec.recordings import Recordings, readable

MOST_S = 10.0


def write_codec_samples(
    folder: Path, codec: Codec, recordings: Recordings, count: int, step: int, least_s: float = 0.1
) -> list[Path]:
    """Write the first recordings and what the codec makes of them, with a picture of both spectra each.

    Without matplotlib (extra ``plots``) there are no pictures.

    Args:
        folder: Of the run; all goes into ``samples/step-000123``.
        codec: In evaluation.
        recordings: To take from.
        count: How many.
        step: Updates done.
        least_s: Shorter ones are passed over.

    Returns:
        The files.
    """
    place, rate, made = folder / "samples" / f"step-{step:06d}", codec.spec.sample_rate, []
    for number in range(min(count, len(recordings))):
        found = readable(recordings, number, least_s)
        if found is None:
            continue
        real = found[: round(MOST_S * rate)]
        device = next(codec.parameters()).device
        with torch.no_grad():
            waveform = torch.from_numpy(real.copy())[None, None].to(device)
            output = codec.decode(codec.encode(waveform))[0, 0].float().cpu().numpy()
        place.mkdir(parents=True, exist_ok=True)
        stem = f"{number:02d}-{recordings.listed[number].name[:60]}"
        made.append(write_audio(place / f"{stem}-original.wav", real, rate))
        made.append(write_audio(place / f"{stem}-codec.wav", output.clip(-1, 1), rate))
        if find_spec("matplotlib") is not None:
            made.append(draw_spectra(place / f"{stem}.png", real, output, rate))
    return made


def draw_spectra(file: Path, real: np.ndarray, made: np.ndarray, rate: int) -> Path:
    """Draw two spectrograms over each other, in dB below the louder one's peak, as PNG.

    Args:
        file: Where to.
        real, made: float32 [S].
        rate: Hz.
    """
    from matplotlib.figure import Figure

    window = torch.hann_window(1024)
    shown = [
        (
            20 * magnitudes(torch.from_numpy(np.pad(x, (0, max(0, 1024 - len(x)))))[None], window)[0].log10()
        ).numpy()
        for x in (real, made)
    ]
    top = max(float(x.max()) for x in shown)
    figure = Figure(figsize=(9, 5), layout="constrained")
    for axes, image, title in zip(
        figure.subplots(2, 1, sharex=True), shown, ("recording", "codec"), strict=True
    ):
        ends = (0, len(real) / rate, 0, rate / 2000)
        axes.imshow(image, origin="lower", aspect="auto", extent=ends, vmin=top - 80, vmax=top, cmap="magma")
        axes.set(title=title, ylabel="kHz")
    axes.set_xlabel("s")
    figure.savefig(file, dpi=80)
    return file
