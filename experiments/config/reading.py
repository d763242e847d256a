"""SweepConfig: what a person writes in one YAML file, and its reading.

Owns the YAML's fields, their types, command-line overrides and the messages for what cannot be right. It must not know
how runs are trained or stored; `designs.py` turns a SweepConfig into RunConfigs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml

from experiments.config.sweep import SweepConfig, _nearest
from experiments.errors import UserError


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML in which 1e18 is a number, as in YAML 1.2; by libyaml where it is installed."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*(\.[\d_]*)?|\.\d[\d_]*)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)
_FLOAT_BEFORE_INT = "tag:yaml.org,2002:int"
_Loader.yaml_implicit_resolvers = {  # ints first, so that 12 stays an int
    first: sorted(rules, key=lambda rule: rule[0] != _FLOAT_BEFORE_INT)
    for first, rules in _Loader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str, *, where: str) -> Any:
    """Plain data from YAML text; a UserError names the place."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{where}{line} is not YAML: {getattr(error, 'problem', error)}; mend that line") from error


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> SweepConfig:
    """Read a sweep file, apply overrides such as `--design.budgets=[1e11,2e11]`, and check every key and type.

    Raises
    ------
    UserError
        In one sentence: what is wrong, where, and the nearest name that would have been right.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = sorted(str(file) for file in path.parent.glob("*.yaml"))
        hint = f"; there are {', '.join(known)}" if known else ""
        raise UserError(f"there is no sweep file {path}{hint}") from None
    raw = parse_yaml(text, where=str(path))
    if not isinstance(raw, dict):
        raise UserError(f"{path} does not hold a mapping; start it with `name: ...`")
    return build_sweep(apply_overrides(raw, overrides), where=str(path))


def build_sweep(raw: Mapping[str, Any], *, where: str) -> SweepConfig:
    """A SweepConfig from plain data, checked key by key and then by type (jsonargparse)."""
    _check_keys(SweepConfig, raw, prefix="", where=where)
    from jsonargparse import ArgumentError

    parser = _parser()
    try:
        namespace = parser.parse_object({"sweep": _as_plain(raw)})
        sweep = parser.instantiate(namespace).sweep
    except (ArgumentError, ValueError, TypeError) as error:
        raise UserError(f"{where}: {_first_sentence(str(error))}") from error
    assert isinstance(sweep, SweepConfig)
    return sweep


@cache
def _parser() -> Any:
    """The typed parser of a sweep; making it costs more than using it."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--sweep", type=SweepConfig)
    return parser


def apply_overrides(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The mapping with each `--dotted.path=value` set; the value is YAML. UserError for a malformed override."""
    result = _as_plain(raw)
    words = list(overrides)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise UserError(f"{word!r} is not an override; write --path.to.field=value")
        name, found, text = word[2:].partition("=")
        if not found:
            if not words:
                raise UserError(f"override {word} has no value; write {word}=value")
            text = words.pop(0)
        set_path(result, name, parse_yaml(text, where=f"override {word}"))
    return result


def set_path(target: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted path in nested plain mappings, making mappings on the way."""
    *parents, leaf = path.split(".")
    node: Any = target
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise UserError(f"{path} cannot be set: {parent} is not a mapping")
    node[leaf] = value


def _as_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_plain(item) for key, item in value.items()}
    return [_as_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _check_keys(cls: Any, raw: Any, *, prefix: str, where: str) -> None:
    """Refuse unknown keys with the nearest known one, at every level of nested dataclasses."""
    if not isinstance(raw, Mapping):
        raise UserError(
            f"{where}: {prefix.rstrip('.') or 'the file'} must be a mapping with keys such as {fields(cls)[0].name}"
        )
    hints = get_type_hints(cls)
    names = [item.name for item in fields(cls)]
    for key, value in raw.items():
        if key not in names:
            raise UserError(f"{where}: unknown key {prefix}{key}; {_nearest(str(key), names)}")
        inner = [hint for hint in (hints[key], *get_args(hints[key])) if is_dataclass(hint)]
        if inner and isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                _check_keys(inner[0], item, prefix=f"{prefix}{key}[{index}].", where=where)
        elif inner and value is not None:
            _check_keys(inner[0], value, prefix=f"{prefix}{key}.", where=where)


def _first_sentence(message: str) -> str:
    """What a parser's message says, on one line, with the field in front."""
    field_name = re.search(r'Parser key "sweep\.?([^"]*)"', message)
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    told = [
        line for line in lines if not line.startswith(("Parser key", "Validation failed", "Does not validate against"))
    ]
    sentence = (
        (told or lines)[-1]
        .replace("<class 'float'>", "number")
        .replace("<class 'int'>", "whole number")
        .replace("<class 'str'>", "text")
    )
    return f"{field_name[1]}: {sentence}" if field_name and field_name[1] else sentence
