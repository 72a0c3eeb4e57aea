"""``vivavoce decode``: tokens of a codec back to sound."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from vivavoce.base.errors import ConfigError, VivavoceError
from vivavoce.cli.files import STREAM, check_sound_path, output_paths, read_bytes, write_sound
from vivavoce.cli.options import Base, CodecName, Debug, Json, LayoutName
from vivavoce.cli.screen import Progress, print_error, print_json, print_result, working
from vivavoce.cli.token_forms import Form, plan_tokens, read_tokens, set_length


class ReadForm(StrEnum):
    """Ways tokens may be written down, or "auto": told from the contents."""

    auto = "auto"
    text = "text"
    ids = "ids"
    npy = "npy"


def decode(
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE|DIR",
            help="Sound file; a folder for several; `-` is a wav on stdout.",
        ),
    ],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILES...]",
            help="Token files, one clip each; `-` or nothing is stdin.",
            show_default=False,
        ),
    ] = None,
    codec: CodecName = "nano",
    layout: LayoutName = "orpheus",
    form: Annotated[
        ReadForm,
        typer.Option(
            "--format", "-f", metavar="FORM", help="How tokens are written: `auto`, `text`, `ids` or `npy`."
        ),
    ] = ReadForm.auto,
    base: Base = None,
    num_samples: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="True length of the recording at the codec's rate. Default: whole frames."
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Turn tokens back into sound; the inverse of `encode`, with the same codec and layout."""
    import torch

    from vivavoce.codecs.loading import load_codec

    sources = files or [STREAM]
    if out == STREAM:
        if json or len(sources) > 1:
            raise ConfigError("stdout takes one wav and nothing else; give --out FILE or DIR.")
        targets = [out]
    else:
        targets = [str(path) for path in output_paths(sources, out, ".wav")]
    if num_samples is not None and len(sources) > 1:
        raise ConfigError(f"--num-samples is the length of one recording, not of {len(sources)}.")
    for target in targets:
        check_sound_path(target)
    with working(f"loading codec {codec}"):
        loaded = load_codec(codec)
        tokens = plan_tokens(layout, loaded.spec, base)
    spec, rows, failed = loaded.spec, [], 0
    progress = Progress("decoding", len(sources))
    for source, target in zip(sources, targets, strict=True):
        name = "stdin" if source == STREAM else source
        try:
            with progress.step(name), torch.inference_mode():
                wanted = None if form is ReadForm.auto else Form(form.value)
                codes = read_tokens(read_bytes(source), name, tokens, wanted)
                if num_samples is not None:
                    set_length(codes, spec, num_samples, name)
                waveform = loaded.decode(codes)[0, 0].cpu().numpy()
                write_sound(target, waveform, spec.sample_rate)
        except VivavoceError as error:
            print_error(str(error))
            failed += 1
            continue
        row: dict[str, Any] = {
            "file": source,
            "out": target,
            "seconds": waveform.size / spec.sample_rate,
            "sample_rate": spec.sample_rate,
            "num_samples": waveform.size,
            "frames": codes.levels[0].shape[1] // spec.codes_per_level[0],
        }
        rows.append(row)
        if not json and target != STREAM:
            print_result(f"{target}  {row['seconds']:.2f} s")
    if json:
        print_json(rows)
    if failed:
        raise typer.Exit(2)
