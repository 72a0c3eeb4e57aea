"""Name tables: a name maps to "module:attribute", imported when first asked for.

Each room has one table. Outside packages add rows with an entry point in the group the table names.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

from vivavoce.base.errors import ConfigError


class Registry:
    """A lazy table of named parts.

    Args:
        what: What the rows are, for messages ("codec", "layout").
        rows: Name -> "module:attribute".
        group: Entry-point group that outside packages may add rows to.
    """

    def __init__(self, what: str, rows: dict[str, str], group: str | None = None) -> None:
        self.what, self._rows, self._group = what, dict(rows), group
        self._outside: dict[str, Any] | None = None

    def _external(self) -> dict[str, Any]:
        if self._outside is None:
            found = entry_points(group=self._group) if self._group else ()
            self._outside = {e.name: e for e in found if e.name not in self._rows}
        return self._outside

    def __iter__(self) -> Iterator[str]:
        yield from sorted({*self._rows, *self._external()})

    def __contains__(self, name: object) -> bool:
        return name in self._rows or name in self._external()

    def get(self, name: str) -> Any:
        """Import and return the part called ``name``.

        Raises:
            ConfigError: No such name; the message gives the nearest one and the whole list.
        """
        if name in self._rows:
            module, _, attribute = self._rows[name].partition(":")
            return getattr(importlib.import_module(module), attribute)
        if name in self._external():
            return self._external()[name].load()
        near = difflib.get_close_matches(name, list(self), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"unknown {self.what} {name!r}.{hint} Known: {', '.join(self)}.")
