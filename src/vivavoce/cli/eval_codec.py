"""``vivavoce eval --codec``: how near a codec's output is to its input."""

from __future__ import annotations

import re
from pathlib import Path

from vivavoce.base.errors import MissingExtraError
from vivavoce.cli.screen import counting, print_json, print_result, print_table, printable, working


def measure_codec(
    name: str, recordings: Path | None, out: Path | None, limit: int | None, device: str | None, json: bool
) -> None:
    """Measure a codec and write its report.

    Args:
        name: Of the codec, or its folder.
        recordings: A folder; None for synthetic speech. A ``grammar.jsgf`` in it is what the recogniser is held to.
        out: Folder of the report.
        limit: Most recordings.
        device: Where it runs.
        json: Print JSON.
    """
    from vivavoce.codecs.loading import load_codec
    from vivavoce.evaluation.report import codec as room
    from vivavoce.evaluation.report.codec_page import codec_record, write_codec_report
    from vivavoce.evaluation.report.wording import show_ends, show_value
    from vivavoce.evaluation.run.recognisers import make_recogniser

    with working(f"loading {name}"):
        codec = load_codec(name).to(device or "cpu").eval()
        rate = codec.spec.sample_rate
        if recordings is None:
            clips, source = room.synthetic_clips(rate, limit), "sentences by espeak-ng and flite"
        else:
            clips, source = room.recorded_clips(recordings, rate, limit), f"recordings in {recordings.name}"
        closed = None if recordings is None else recordings / "grammar.jsgf"
        grammar = closed.read_text(encoding="utf-8") if closed is not None and closed.is_file() else None
        try:
            listener = make_recogniser("pocketsphinx", grammar=grammar)
        except MissingExtraError:
            listener = None
    shown = re.sub(r"[^A-Za-z0-9._-]+", "-", name.rstrip("/").rpartition("/")[2]).strip("-.") or "codec"
    folder = out or Path(f"eval-codec-{shown}")
    hear, called = (listener.hear, listener.name) if listener else (None, "")
    with counting(f"measuring {name}", "clips") as advance:
        report = room.measure_codec(codec, clips, folder, source, hear, called, advance)
    page = write_codec_report(report, folder)
    if json:
        print_json(codec_record(report) | {"report": str(page)})
        return
    rows = [
        (name, show_value(s.value, s.unit), show_ends(s.low, s.high, s.unit), s.n)
        for name, s in report.scores.items()
    ]
    print_table(("metric", "score", "95 %", "n"), rows, right=("score", "95 %", "n"))
    for sentence in report.unscored:
        print_result(f"not scored  {printable(sentence)}")
    print_result("")
    cells = [
        (i, f"{level.used} of {level.size}", f"{level.entropy_bits:.2f}", level.codes)
        for i, level in enumerate(report.levels)
    ]
    columns = ("level", "codewords used", "entropy, bits", "codes seen")
    print_table(columns, cells, right=columns[1:])
    print_result(
        f"\n{report.kbit_per_second:.2f} kbit/s, {report.entropy_kbit_per_second:.2f} by code frequencies; encoding "
        f"{report.encode_rtf:.3f} s and decoding {report.decode_rtf:.3f} s for a second of audio"
    )
    if report.verdict is not None:
        print_result(report.verdict.words)
    print_result(f"report  {page}")
