"""Configs from plain data and back: nested frozen dataclasses, checked by their type hints.

`convert` is the way from plain data (YAML, JSON) to a config; `plain` is the way back. msgspec checks types and finds
the place of a mistake; the sentences are made here. It must not know any config.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from experiments.errors import UserError
from models.config.checks import nearest_names, require_name

Config = TypeVar("Config")

WORDS: Mapping[object, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
}
"""Types as messages name them."""

_SCALARS = frozenset((str, int, float, bool, type(None)))

ABSENT = object()
"""What `get_path` gives where there is nothing."""


def convert(cls: type[Config], raw: object, *, where: str, prefix: str = "") -> Config:
    """Build a config from plain data.

    Parameters
    ----------
    cls : type
        A dataclass; its fields may be dataclasses, tuples of them, or mappings.
    raw : object
        Mappings, lists and scalars, as YAML or JSON give them. A whole number may stand for any number; nothing else
        is converted.
    where : str
        The file, for messages.
    prefix : str
        Dotted place of `raw` within the file.

    Returns
    -------
    cls
        The config, after the checks of its own `__post_init__`.

    Raises
    ------
    UserError
        For an unknown or missing field, a value of another type, or one that the config refuses; the sentence names
        the file, the dotted field, the value and what would be right.
    """
    import msgspec  # here and not above: `status` converts nothing, and shall not wait for it

    check_keys(cls, raw, where=where, prefix=prefix)
    try:
        return msgspec.convert(raw, cls)
    except msgspec.ValidationError as error:
        reason = _reason(error.__cause__, str(error), _Spot(hint=cls, value=raw, place=prefix))
        raise UserError(f"{where}: {reason}") from error


def check_value(cls: type, name: str, value: object, *, prefix: str) -> None:
    """Check the value of one field of a dataclass whose other fields are not known yet.

    Parameters
    ----------
    cls : type
        The dataclass.
    name : str
        The field.
    value : object
        Plain data.
    prefix : str
        Dotted place of the dataclass in the file, with a final dot, for messages.

    Raises
    ------
    UserError
        When the field does not exist, or takes values of another type.
    """
    hints = _hints(cls)
    if name not in hints:
        raise UserError(f"{prefix}{name} is not a field of {cls.__name__}; {suggestion(str(name), hints)}")
    hint = hints[name]
    if get_origin(hint) is Literal and isinstance(value, str):
        require_name(f"{prefix}{name}", value, get_args(hint))
    if not _fits(value, hint):
        raise UserError(f"{prefix}{name} is {value!r}; give {in_words(hint)}")


def check_keys(cls: type, raw: object, *, where: str, prefix: str = "", root: type | None = None) -> None:
    """Refuse unknown keys with the nearest known one, at every level of nested dataclasses.

    Parameters
    ----------
    cls : type
        The dataclass that `raw` describes.
    raw : object
        Plain data.
    where : str
        The file, for messages.
    prefix : str
        Dotted place of `raw` within the file.
    root : type, optional
        The dataclass of the whole file, whose fields may have been written a level too deep.

    Raises
    ------
    UserError
        For the first key that is no field, and where a mapping is expected and there is none.
    """
    hints = _hints(cls)
    if not isinstance(raw, Mapping):
        raise UserError(f"{where}: {prefix or 'the file'} must be a mapping with keys such as {next(iter(hints))}")
    for key, value in raw.items():
        place = f"{prefix}.{key}" if prefix else str(key)
        if key not in hints:
            if root is not None and key in _hints(root):
                raise UserError(f"{where}: unknown key {place}; {key} is a field of its own: write {key} instead")
            raise UserError(f"{where}: unknown key {place}; {suggestion(str(key), hints)}")
        inner = _dataclass_in(hints[key])
        if inner is None or value is None:
            continue
        if not _is_list(hints[key]):
            check_keys(inner, value, where=where, prefix=place, root=root or cls)
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                check_keys(inner, item, where=where, prefix=f"{place}[{index}]")


def as_written(config: Any, raw: Any) -> Any:
    """Restore whole numbers in a config that was made from plain data.

    `convert` makes 1.0 of a 1 in a field for any number. The hash of a config tells the two apart, so that a config
    that is read back has to hold what was written.

    Parameters
    ----------
    config : dataclass, tuple or scalar
        What `convert` made of `raw`.
    raw : object
        Plain data.

    Returns
    -------
    dataclass, tuple or scalar
        Equal to `config`, with the numbers of `raw`.
    """
    if is_dataclass(config) and not isinstance(config, type):
        return replace(config, **{name: as_written(getattr(config, name), raw[name]) for name in raw})
    if isinstance(config, tuple):
        return tuple(as_written(item, value) for item, value in zip(config, raw, strict=True))
    return raw


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    """Name a dataclass's fields in sorted order; asked once a class, since a plan writes thousands of configs."""
    return tuple(sorted(field.name for field in fields(kind)))


def plain(value: Any) -> Any:
    """Give what JSON would give back: tuples as lists, dataclasses and mappings by sorted key."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if is_dataclass(kind):
        return {name: plain(getattr(value, name)) for name in _field_names(kind)}
    if isinstance(value, Mapping):
        return {str(key): plain(value[key]) for key in sorted(value)}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def get_path(node: object, path: str) -> Any:
    """Find what stands at a dotted path.

    Parameters
    ----------
    node : object
        Nested plain data.
    path : str
        Such as `model.width`.

    Returns
    -------
    object
        ABSENT where there is nothing.
    """
    for part in path.split("."):
        if not isinstance(node, dict) or part not in node:
            return ABSENT
        node = node[part]
    return node


def remove_path(node: dict[str, Any], path: str) -> None:
    """Remove what stands at a dotted path, where there is something.

    Parameters
    ----------
    node : dict of str to object
        Nested plain data; it is changed.
    path : str
        Such as `model.width`.
    """
    parent, _, leaf = path.rpartition(".")
    holder = get_path(node, parent) if parent else node
    if isinstance(holder, dict):
        holder.pop(leaf, None)


def set_path(node: dict[str, Any], path: str, value: object) -> None:
    """Put a value at a dotted path, making mappings on the way.

    Parameters
    ----------
    node : dict of str to object
        Nested plain data; it is changed.
    path : str
        Such as `model.width`.
    value : object
        Plain data.

    Raises
    ------
    UserError
        When something on the way is no mapping.
    """
    *parents, leaf = path.split(".")
    for parent in parents:
        inner = node.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise UserError(f"{path} cannot be set: {parent} is not a mapping")
        node = inner
    node[leaf] = value


def suggestion(word: str, known: Iterable[str]) -> str:
    """Suggest what an unknown name was meant to be.

    Parameters
    ----------
    word : str
        The name.
    known : iterable of str
        The names that there are.

    Returns
    -------
    str
        The end of a message: the nearest known name, else all of them.
    """
    names = sorted(known)
    near = nearest_names(word, names)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"


def in_words(hint: object) -> str:
    """A type hint as the end of a message: `a number or null`, `isoflop or ladder`, `a list of whole numbers`."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _either(map(str, parts))
    if origin in (typing.Union, types.UnionType):
        return _either(map(in_words, parts))
    if origin is tuple and parts[-1] is Ellipsis:
        return "a list" if is_dataclass(parts[0]) else f"a list such as [{_example(parts[0])}]"
    if origin is tuple:
        return f"a list of {len(parts)} values"
    return "a list" if origin is list else WORDS.get(hint, "a mapping")


def _either(words: Iterable[str]) -> str:
    """Words as `a, b or c`, each once."""
    *first, last = dict.fromkeys(words)
    return f"{', '.join(first)} or {last}" if first else last


def _example(hint: object) -> str:
    return {int: "0, 1", float: "1.0e+5, 2.0e+5"}.get(hint, "a, b") if isinstance(hint, type) else "..."


@cache
def _hints(cls: type) -> dict[str, Any]:
    """Types of the fields of a dataclass, looked up once: a sweep rebuilds thousands of configs."""
    hints = get_type_hints(cls)
    return {item.name: hints[item.name] for item in fields(cls)}


def _dataclass_in(hint: object) -> type | None:
    """The dataclass that a hint names, alone, in a tuple or beside None."""
    if isinstance(hint, type) and is_dataclass(hint):
        return hint
    return next((found for part in get_args(hint) if (found := _dataclass_in(part)) is not None), None)


def _is_list(hint: object) -> bool:
    return get_origin(hint) is tuple or any(get_origin(part) is tuple for part in get_args(hint))


_PLACE = re.compile(r"^(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_STEP = re.compile(r"(?P<name>\w+)|\[(?P<index>\d+)\]|(?P<any>\[\.\.\.\])")


def _reason(cause: BaseException | None, message: str, spot: _Spot) -> str:
    """What msgspec found below a place, with the field, the value and what would be right.

    Parameters
    ----------
    cause : exception or None
        What a config's own check raised.
    message : str
        What msgspec says: types, and the path from the place.
    spot : _Spot
        The place from which msgspec began.
    """
    found = _PLACE.match(message)
    assert found is not None
    for step in _STEP.finditer(found["path"] or ""):
        spot = spot.follow(step)
    place = spot.place
    if cause is not None:
        named = not place or re.match(rf"{re.escape(place)}[. ]", str(cause))
        return str(cause) if named else f"{place}: {cause}"
    missing = _MISSING.match(found["what"])
    if missing:
        return f"{place + '.' if place else ''}{missing[1]} is missing"
    if found["key"]:
        return f"{place} has a key that is no text; put it in quotes"
    choices = [str(part) for part in get_args(spot.hint)] if get_origin(spot.hint) is Literal else []
    if choices and isinstance(spot.value, str):
        near = suggestion(spot.value, choices)
        all_of_them = f" choose one of {', '.join(choices)}" if near.endswith("?") else ""
        return f"{place} is {spot.value!r}; {near}{all_of_them}"
    return f"{place or 'the file'} is {spot.value!r}; give {in_words(spot.hint)}"


@dataclass(frozen=True)
class _Spot:
    """A place in plain data, with the type that belongs there."""

    hint: Any
    value: Any
    place: str

    def follow(self, step: re.Match[str]) -> _Spot:
        """One step of msgspec's path further: into a field, an element, or the value of a mapping that is wrong."""
        if step["name"]:
            inner = _dataclass_in(self.hint)
            assert inner is not None
            place = f"{self.place}.{step['name']}" if self.place else step["name"]
            return _Spot(_hints(inner)[step["name"]], self.value[step["name"]], place)
        if step["index"]:
            index = int(step["index"])
            parts = get_args(self._part(tuple))
            hint = parts[0] if parts[-1] is Ellipsis else parts[index]
            return _Spot(hint, self.value[index], f"{self.place}[{index}]")
        _, hint = get_args(self._part(Mapping))
        key = next(key for key, value in self.value.items() if not _fits(value, hint))
        return _Spot(hint, self.value[key], f"{self.place}.{key}")

    def _part(self, kind: type) -> Any:
        """The tuple or mapping in a hint that may have alternatives."""
        return next(
            part
            for part in (self.hint, *get_args(self.hint))
            if isinstance(origin := get_origin(part), type) and issubclass(origin, kind)
        )


def _fits(value: object, hint: Any) -> bool:
    import msgspec

    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError:
        return False
    return True
