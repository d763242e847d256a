"""Nested frozen dataclasses from plain data and back: what JSON would give, and dotted paths into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints


def _plain(value: Any) -> Any:
    """Tuples as lists, mappings by sorted key: what JSON would give back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(value[key]) for key in sorted(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


_ABSENT = object()


def _get(node: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(node, dict) or part not in node:
            return _ABSENT
        node = node[part]
    return node


def remove_path(node: dict[str, Any], path: str) -> None:
    """Remove a dotted path from nested plain data, where it is there."""
    parent, _, leaf = path.rpartition(".")
    holder = _get(node, parent) if parent else node
    if isinstance(holder, dict):
        holder.pop(leaf, None)


def from_plain(cls: Any, raw: Mapping[str, Any]) -> Any:
    """Rebuild a (nested, frozen) dataclass from plain data; lists become tuples where the field is a tuple.

    Raises
    ------
    ValueError
        For unknown or missing keys.
    """
    hints, by_name = _schema(cls)
    unknown = sorted(set(raw) - set(by_name))
    if unknown:
        raise ValueError(
            f"{cls.__name__} has no field {unknown[0]!r}; this file was written by a newer version: upgrade isoflop"
        )
    values: dict[str, Any] = {}
    for name, item in by_name.items():
        if name not in raw:
            if item.default is MISSING and item.default_factory is MISSING:
                raise ValueError(f"{cls.__name__} lacks {name!r}; the file is incomplete: write it again")
            continue
        value = raw[name]
        hint = hints[name]
        if is_dataclass(hint) and isinstance(value, Mapping):
            value = from_plain(hint, value)
        elif isinstance(value, list):
            value = _tuples(value)
        values[name] = value
    return cls(**values)


@cache
def _schema(cls: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Type hints and fields of a dataclass, looked up once: a sweep rebuilds thousands of configs."""
    return get_type_hints(cls), {item.name: item for item in fields(cls)}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
