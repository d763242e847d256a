"""From a sweep's YAML, with overrides of the command line, to a SweepConfig.

It must not know how runs are trained or stored; `designs` turns a SweepConfig into RunConfigs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.config.codec import convert, set_path
from experiments.config.sweep import SweepConfig
from experiments.config.yaml_text import parse_yaml, read_yaml
from experiments.errors import UserError


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> SweepConfig:
    """Read a sweep file, apply overrides, and check every key, type and value.

    Parameters
    ----------
    path : Path
        The YAML file.
    overrides : sequence of str
        Options such as `--design.budgets=[1e11,2e11]`.

    Returns
    -------
    SweepConfig
        The sweep; its data are not resolved.

    Raises
    ------
    UserError
        In one sentence: what is wrong, where, and the nearest name that would have been right.
    """
    return build_sweep(apply_overrides(read_yaml(path), overrides), where=str(path))


def build_sweep(raw: Mapping[str, Any], *, where: str) -> SweepConfig:
    """Build a SweepConfig from plain data.

    Parameters
    ----------
    raw : mapping of str to object
        What the YAML says.
    where : str
        The file, for messages.

    Returns
    -------
    SweepConfig
        Checked as `codec.convert` does.

    Raises
    ------
    UserError
        See `codec.convert`.
    """
    return convert(SweepConfig, raw, where=where)


def apply_overrides(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Set dotted fields of plain data as the command line says.

    Parameters
    ----------
    raw : mapping of str to object
        What the YAML says; it is left as it is.
    overrides : sequence of str
        `--dotted.path=value`, or the two as separate words; the value is YAML.

    Returns
    -------
    dict of str to object
        A copy with the fields set.

    Raises
    ------
    UserError
        For a malformed override.
    """
    result: dict[str, Any] = _as_plain(raw)
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


def _as_plain(value: Any) -> Any:
    """A copy in which mappings are dicts and sequences are lists."""
    if isinstance(value, Mapping):
        return {key: _as_plain(item) for key, item in value.items()}
    return [_as_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
