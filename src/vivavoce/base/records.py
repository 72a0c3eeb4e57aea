"""Plain records (JSON objects) to typed dataclasses and back, with every fault reported in one message."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union

from vivavoce.base.errors import ConfigError

Record = TypeVar("Record")
_POWER_OF_TEN = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def read_record(cls: type[Record], record: Mapping[str, Any] | Record, where: str) -> Record:
    """Make a dataclass, and those inside it, from a JSON object.

    Lists become tuples where the field says so, whole floats become ints (JSON has one number type), and "1e-3",
    which is text by YAML's rules, a number where one is wanted. The dataclass may check ranges in
    ``__post_init__`` by raising ConfigError; that is reported like other faults.

    Args:
        cls: A dataclass with annotated fields.
        record: Field name -> value, or an object that is already a ``cls``.
        where: Where the record stands, for messages ("audio_in.encoder").

    Raises:
        ConfigError: Unknown keys (with the nearest name), missing keys and values of a wrong type, all at
            once.
    """
    if isinstance(record, cls):
        return record
    if not isinstance(record, Mapping):
        raise ConfigError(
            f"{where} is {type(record).__name__} {record!r}, wanted an object with keys of {cls.__name__}."
        )
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    faults, values = [], {}
    for key, value in record.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), list(fields), n=1)
            hint = f", did you mean {near[0]!r}?" if near else f"; known: {', '.join(fields)}"
            faults.append(f"{where}.{key} is unknown{hint}")
            continue
        try:
            fitted, fault = _fit(value, hints[key], f"{where}.{key}")
        except ConfigError as error:
            faults.append(str(error).rstrip("."))
            continue
        if fault:
            faults.append(f"{where}.{key} is {value!r}, wanted {fault}")
        values[key] = fitted
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in record:
            faults.append(f"{where}.{name} is missing")
    if faults:
        raise ConfigError("; ".join(faults) + ".")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def set_dotted(record: Any, key: str, value: Any) -> None:
    """Set ``a.b.0.c`` in nested objects and lists; missing objects are made.

    Raises:
        ConfigError: A name on the way is no object, or a list has no such place.
    """
    *path, last = key.split(".")
    try:
        for name in path:
            inner = record[int(name)] if isinstance(record, list) else record.setdefault(name, {})
            if not isinstance(inner, dict | list):
                raise ConfigError(f"{key}: {name} is {inner!r} and has no keys.")
            record = inner
        record[int(last) if isinstance(record, list) else last] = value
    except (ValueError, IndexError) as error:
        raise ConfigError(f"{key}: there are {len(record)} of these, numbered from 0.") from error


def write_record(value: Any) -> Any:
    """Turn a dataclass (with nested ones) into JSON objects, lists and scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: write_record(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): write_record(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [write_record(v) for v in value]
    return value


def _fit(value: Any, hint: Any, where: str) -> tuple[Any, str]:
    """Fit one value to a type hint; returns (value, "" or what was wanted).

    Raises:
        ConfigError: The value is the object of an inner dataclass, and has faults.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value, ""
    if origin is Literal:
        return value, "" if value in arguments else "one of " + ", ".join(map(repr, arguments))
    if origin in (Union, types.UnionType):
        wanted = []
        for option in arguments:
            fitted, fault = _fit(value, option, where)
            if not fault:
                return fitted, ""
            wanted.append(fault)
        return value, " or ".join(wanted)
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            return value, "a list"
        inner = arguments[0] if arguments else Any
        items = [_fit(v, inner, f"{where}.{i}") for i, v in enumerate(value)]
        fault = next((f for _, f in items if f), "")
        return origin(v for v, _ in items), f"a list of {fault}" if fault else ""
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return read_record(typing.cast(type, hint), value, where), ""
    if origin is not None or hint in (dict, Mapping):
        return value, "" if isinstance(value, Mapping) else "an object"
    if hint is type(None):
        return value, "" if value is None else "null"
    if hint in (float, int) and isinstance(value, str) and _POWER_OF_TEN.fullmatch(value):
        value = float(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value), ""
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value), ""
    if isinstance(value, bool) and hint is not bool:
        return value, hint.__name__
    return value, "" if isinstance(value, hint) else hint.__name__
