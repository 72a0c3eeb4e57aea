"""``vivavoce encode``: recordings to the tokens of a codec."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vivavoce.base.errors import ConfigError, VivavoceError
from vivavoce.cli.files import STREAM, check_recording, output_paths, write_bytes, write_stdout
from vivavoce.cli.options import Base, CodecName, Debug, Json, LayoutName
from vivavoce.cli.screen import Progress, print_error, print_json, print_result, working
from vivavoce.cli.token_forms import (
    SUFFIXES,
    Form,
    code_frames,
    plan_tokens,
    token_list,
    token_text,
    write_tokens,
)

if TYPE_CHECKING:
    from vivavoce.codecs.contract import Codec, Codes
    from vivavoce.tokens.record import AudioVocabulary


class Resampler(StrEnum):
    """How recordings are brought to the codec's rate."""

    sinc = "sinc"
    soxr = "soxr"


def encode(
    files: Annotated[list[str], typer.Argument(metavar="FILES...", help="Recordings; `-` is stdin.")],
    codec: CodecName = "nano",
    layout: LayoutName = "orpheus",
    form: Annotated[
        Form,
        typer.Option(
            "--format", "-f", metavar="FORM", help="How tokens are written: `text`, `ids` or `npy`."
        ),
    ] = Form.text,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE|DIR",
            help="Where to write; a folder for several files. Default: stdout.",
        ),
    ] = None,
    base: Base = None,
    style: Annotated[
        str | None,
        typer.Option(
            metavar="STYLE",
            help="Spelling of tokens: `sound`, `sound_padded` or `orpheus`. Default: the layout's.",
        ),
    ] = None,
    bare: Annotated[
        bool, typer.Option("--bare", help="Leave out the tokens for start and end of audio.")
    ] = False,
    resampler: Annotated[
        Resampler,
        typer.Option(
            metavar="METHOD",
            help="Resampling: `sinc` gives the tokens of published pipelines, `soxr` filters better.",
        ),
    ] = Resampler.sinc,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Turn recordings into the tokens of a codec.

    The true length of a recording is not in its tokens; --json tells it (`num_samples`).
    """
    from vivavoce.codecs.loading import load_codec

    to_stdout = out in (None, STREAM)
    paths = [None] * len(files) if to_stdout else output_paths(files, str(out), SUFFIXES[form])
    if form is Form.npy and to_stdout and not json and (len(files) > 1 or sys.stdout.isatty()):
        raise ConfigError("arrays are not written to a terminal, nor several to one stream; give --out.")
    with working(f"loading codec {codec}"):
        loaded = load_codec(codec)
        tokens = plan_tokens(layout, loaded.spec, base, style)
    work = _Encoding(loaded, tokens, form, bare, resampler.value)
    rows, failed, progress = [], 0, Progress("encoding", len(files))
    for file, path in zip(files, paths, strict=True):
        try:
            with progress.step(file):
                codes = work.codes(file)
                row = work.row(file, codes)
                if path is not None:
                    row["out"] = str(write_bytes(path, write_tokens(codes, tokens, form, bare)))
        except VivavoceError as error:
            print_error(str(error))
            failed += 1
            continue
        if json:
            rows.append(row if path else {**row, **work.inline(codes)})
        elif path is None:
            write_stdout(write_tokens(codes, tokens, form, bare))
        else:
            print_result(f"{path}  {row['seconds']:.2f} s  {row['tokens']} tokens")
    if json:
        print_json(rows)
    if failed:
        raise typer.Exit(2)


@dataclass
class _Encoding:
    """One codec and one way to write its codes down."""

    codec: Codec
    tokens: AudioVocabulary
    form: Form
    bare: bool
    resampler: Any

    def codes(self, file: str) -> Codes:
        """Read and encode one recording."""
        import torch

        from vivavoce.audio.files import read_audio

        check_recording(file)
        source = sys.stdin.buffer if file == STREAM else Path(file)
        waveform, _ = read_audio(source, self.codec.spec.sample_rate, resampler=self.resampler)
        with torch.inference_mode():
            return self.codec.encode(torch.from_numpy(waveform)[None, None])

    def row(self, file: str, codes: Codes) -> dict[str, Any]:
        """What --json says of a recording."""
        spec, num_samples = self.codec.spec, codes.num_samples[0]
        frames = codes.levels[0].shape[1] // spec.codes_per_level[0]
        return {
            "file": file,
            "codec": spec.name,
            "layout": self.tokens.layout,
            "format": self.form.value,
            "seconds": num_samples / spec.sample_rate,
            "num_samples": num_samples,
            "frames": frames,
            "tokens": frames * spec.codes_per_frame + (0 if self.bare or self.form is Form.npy else 2),
        }

    def inline(self, codes: Codes) -> dict[str, Any]:
        """The tokens themselves, for --json without --out."""
        if self.form is Form.npy:
            return {"codes": code_frames(codes, self.tokens).tolist()}
        if self.form is Form.ids:
            return {"ids": token_list(codes, self.tokens, self.bare)}
        return {"text": token_text(codes, self.tokens, self.bare)}
