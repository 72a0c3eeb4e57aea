"""``vivavoce codecs``: the codecs that can be used, with rates and licences."""

from __future__ import annotations

from vivavoce.cli.options import Debug, Json
from vivavoce.cli.screen import print_json, print_table


def codecs(json: Json = False, debug: Debug = False) -> None:
    """List the codecs with their rates, look-ahead and licences."""
    from vivavoce.cli.codec_facts import known_codecs

    rows = known_codecs()
    if json:
        print_json(rows)
        return
    columns = {
        "name": "{}",
        "sample_rate": "{} Hz",
        "levels": "{}",
        "codebook_size": "{}",
        "tokens_per_second": "{:.1f}",
        "kbit_per_second": "{:.2f}",
        "lookahead_ms": "{:.0f} ms",
        "offline": "{}",
        "licence": "{}",
    }
    headings = (
        "name",
        "rate",
        "levels",
        "codewords",
        "tokens/s",
        "kbit/s",
        "look-ahead",
        "offline",
        "licence",
    )
    shown = [{**row, "offline": "yes" if row["offline"] else "no"} for row in rows]
    cells = [[form.format(row[key]) for key, form in columns.items()] for row in shown]
    print_table(headings, cells, right=headings[1:7])
