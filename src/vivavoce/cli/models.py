"""``vivavoce models``: the models that can be used, and how."""

from __future__ import annotations

from dataclasses import asdict

from vivavoce.cli.options import Debug, Json
from vivavoce.cli.screen import print_json, print_result, print_table


def models(json: Json = False, debug: Debug = False) -> None:
    """List the embedded models and the kinds of folders and hub ids that are recognised."""
    from vivavoce.models.loading import list_models

    found = list_models()
    if json:
        print_json([asdict(model) for model in found])
        return
    speaks = {"none": "by tokens", "word": "word by word", "phone": "phone by phone"}
    rows = [
        (
            m.name,
            "built in" if m.embedded else "folder or hub id",
            m.hears,
            speaks.get(m.speaks, m.speaks),
            m.description,
        )
        for m in found
    ]
    print_table(("name", "where", "hears", "speaks", "what it is"), rows)
    print_result(
        "\nGive the name of a built-in model, a folder, or a hub id to chat, transcribe, say and info."
    )
