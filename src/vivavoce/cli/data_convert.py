"""``vivavoce data convert``, ``formats`` and ``info``: other forms of speech data, and what a finished set holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vivavoce.base.errors import ConfigError
from vivavoce.cli.options import Debug, Json
from vivavoce.cli.overrides import read_overrides
from vivavoce.cli.screen import counting, note, print_json, print_result, print_table, printable


def convert(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A file or folder of any known form.")],
    destination: Annotated[str, typer.Argument(metavar="DST", help="What to write; not there yet.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="How to read and write: license=cc0-1.0 audio=copy limit=100 columns.text=sentence ...",
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="FORM", help="Form of SRC. Default: told by looking at it."),
    ] = None,
    to: Annotated[str, typer.Option("--to", metavar="FORM", help="Form of DST.")] = "vivavoce",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Convert speech data from one form to another, and say what became of every row. Forms: data formats."""
    options = nested(read_overrides(settings or []))
    from vivavoce.data.convert import convert as convert_rows
    from vivavoce.data.convert import detect_format

    with counting(f"reading {source}", "rows") as advance:
        made = convert_rows(
            source,
            destination,
            from_ or detect_format(source),
            to,
            options=options,
            on_row=lambda rows: advance(rows, rows),
        )
    if json:
        from vivavoce.base.records import write_record

        print_json({"source": source, "destination": destination, **write_record(made)})
        return
    print_result(printable(str(made)))
    for fault in made.examples:
        note(f"  {fault}")
    for example in made.written.examples:
        note(f"  left out  {example}")


def nested(settings: dict[str, Any]) -> dict[str, Any]:
    """``{"columns.text": "x"}`` as ``{"columns": {"text": "x"}}``.

    Raises:
        ConfigError: A key is both a value and a group.
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        *groups, last = key.split(".")
        place = found
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{key}: {group} is {place!r} already and has no keys.")
        if last in place:
            raise ConfigError(f"{key} is given twice, as a value and as a group of keys.")
        place[last] = value
    return found


def formats(json: Json = False, debug: Debug = False) -> None:
    """List the forms of speech data that are read and written."""
    from vivavoce.data.convert import list_formats

    found = list_formats()
    if json:
        from vivavoce.base.records import write_record

        print_json(write_record(found))
        return
    columns = ("form", "written as", "variants", "what it is")
    rows = [
        (
            f.name,
            ", ".join(s or "folder" for s in f.suffixes) if f.can_write else "not written",
            ", ".join(f.variants),
            f.description,
        )
        for f in found
    ]
    print_table(columns, rows)


def info(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A finished set: shards and a manifest.")],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the manifest of a set: rows, hours, tokens, licences, what was put aside, and how it was made."""
    from vivavoce.data.manifest import read_manifest

    manifest = read_manifest(Path(folder))
    if json:
        from vivavoce.base.records import write_record

        print_json(write_record(manifest))
        return
    facts: list[tuple[str, Any]] = [
        ("name", manifest.name),
        ("description", manifest.description),
        ("rows", manifest.rows),
        ("hours", f"{manifest.hours:.3f}"),
        ("characters", manifest.characters),
        ("audio tokens", manifest.audio_tokens),
        ("codecs", ", ".join(f"{name} {weights[:12]}".strip() for name, weights in manifest.codecs.items())),
        ("licences", _counts(manifest.licenses, "none")),
        ("tasks", _counts(manifest.tasks, "none")),
        ("source rows", manifest.source_rows),
        ("put aside", _counts(manifest.put_aside, "")),
        ("shards", f"{len(manifest.shards)}, {sum(s.num_bytes for s in manifest.shards) / 1e6:.1f} MB"),
        ("stages", " -> ".join(stage["type"] for stage in (manifest.pipeline or {}).get("stages", ()))),
        ("content", manifest.content_hash),
    ]
    print_table(("what", "value"), [fact for fact in facts if fact[1] not in ("", None)])


def _counts(found: dict[str, int], nothing: str) -> str:
    return ", ".join(f"{name or nothing} {count}" for name, count in found.items())
