"""``key.sub=value`` on the command line; values are read as YAML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vivavoce.base.errors import ConfigError


def read_overrides(settings: Sequence[str]) -> dict[str, Any]:
    """Dotted keys and their values.

    Raises:
        ConfigError: A setting without ``=``, a key twice, or a value that is no YAML.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"{setting!r} is no setting; wanted KEY=VALUE, such as rows=200.")
        if key in found:
            raise ConfigError(f"{key} is given twice.")
        try:
            found[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"the value of {key}, {text!r}, is not YAML: {str(error).splitlines()[0]}"
            ) from error
    return found


def read_pipeline_overrides(settings: Sequence[str]) -> dict[str, Any]:
    """Settings of a pipeline; paths of its source start at the working directory, those in the file at its folder."""
    found = read_overrides(settings)
    for key in ("source.file", "source.path", "source.folder"):
        if isinstance(found.get(key), str):
            found[key] = str(Path(found[key]).resolve())
    return found
