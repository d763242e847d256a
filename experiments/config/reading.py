"""From a sweep's YAML, with overrides of the command line, to a SweepConfig.

It must not know how runs are trained or stored; `designs` turns a SweepConfig into RunConfigs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.config.codec import convert, set_path
from experiments.config.sweep import SweepConfig
from experiments.config.tuning.sweep import FinetuneSweep, build_finetune_sweep, is_finetune
from experiments.config.yaml_text import parse_yaml, read_yaml
from experiments.errors import UserError

FILE_PREFIXES = ("text", "csv", "jsonl", "parquet", "json")
"""What stands before the path of a corpus or task of files, or of a tokenizer's file."""


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> SweepConfig | FinetuneSweep:
    """Read a sweep file, apply overrides, and check every key, type and value.

    Parameters
    ----------
    path : Path
        The YAML file.
    overrides : sequence of str
        Options such as `--design.budgets=[1e11,2e11]`.

    Returns
    -------
    SweepConfig or FinetuneSweep
        The sweep; its data are not resolved.

    Raises
    ------
    UserError
        In one sentence: what is wrong, where, and the nearest name that would have been right.
    """
    raw = apply_overrides(beside_file(read_yaml(path), path.parent), overrides)
    if is_finetune(raw):
        return build_finetune_sweep(raw, where=str(path))
    _require_corpus(raw, where=str(path))
    return build_sweep(raw, where=str(path))


def _require_corpus(raw: Mapping[str, Any], *, where: str) -> None:
    """Refuse a sweep that names no corpus: it would be trained on the one that is packaged."""
    data, vary = raw.get("data"), raw.get("vary")
    if not isinstance(data, Mapping) or "corpus" in data:
        return
    axes = vary if isinstance(vary, Mapping) else {}
    arms = [arm for values in axes.values() if isinstance(values, Mapping) for arm in values.values()]
    if "data.corpus" in axes or any(isinstance(arm, Mapping) and "data.corpus" in arm for arm in arms):
        return
    raise UserError(f"{where}: data.corpus is missing; name one of `isoflop data list`, or text:FOLDER for your own")


def beside_file(raw: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Read relative paths of corpora, tokenizers and tasks from the folder of the sweep file.

    Paths on the command line are the shell's, and stay as they are. What a run is does not depend on either: the
    content of the files enters its identity, and their place does not.

    Parameters
    ----------
    raw : mapping of str to object
        What the YAML says; it is left as it is.
    folder : Path
        Where the YAML lies.

    Returns
    -------
    dict of str to object
        A copy whose paths hold from the working folder.
    """
    result = _as_plain(raw)
    data, vary, task = result.get("data"), result.get("vary"), result.get("task")
    if isinstance(task, dict) and "name" in task:
        task["name"] = _moved(task["name"], folder)
    body = result.get("pretrained")
    for key in ("sweep", "huggingface"):
        if isinstance(body, dict) and isinstance(body.get(key), str):
            body[key] = _placed(body[key], folder, is_path=key == "huggingface")
    for key in ("corpus", "tokenizer"):
        if isinstance(data, dict) and key in data:
            data[key] = _moved(data[key], folder)
        for axis, values in vary.items() if isinstance(vary, dict) else ():
            if axis == f"data.{key}" and isinstance(values, list):
                vary[axis] = [_moved(value, folder) for value in values]
            for arm in values.values() if isinstance(values, dict) else ():
                if isinstance(arm, dict) and f"data.{key}" in arm:
                    arm[f"data.{key}"] = _moved(arm[f"data.{key}"], folder)
    return result


def _moved(name: object, folder: Path) -> object:
    """PREFIX:PATH as seen from the working folder, hf:PATH too where it is a folder; any other name as it is."""
    prefix, colon, where = name.partition(":") if isinstance(name, str) else ("", "", "")
    if prefix == "hf" and (folder / where).is_dir():
        return f"hf:{os.path.normpath(folder / where)}"
    if prefix not in FILE_PREFIXES or not colon or not where:
        return name
    place = Path(where).expanduser()
    return name if place.is_absolute() else f"{prefix}:{os.path.normpath(folder / place)}"


def _placed(name: str, folder: Path, *, is_path: bool) -> str:
    """A path as seen from the working folder; the name of a sweep as it is."""
    place = Path(name).expanduser()
    if place.is_absolute() or not (is_path or name.endswith((".yaml", ".yml"))):
        return name
    return os.path.normpath(folder / place)


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
    words, given = list(overrides), set()
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise UserError(f"{word!r} is not an override; write --path.to.field=value")
        name, found, text = word[2:].partition("=")
        if not found:
            if not words:
                raise UserError(f"override {word} has no value; write {word}=value")
            text = words.pop(0)
        if name in given:
            raise UserError(f"override --{name} is given twice; give it once")
        given.add(name)
        set_path(result, name, parse_yaml(text, where=f"override {word}"))
    return result


def _as_plain(value: Any) -> Any:
    """A copy in which mappings are dicts and sequences are lists."""
    if isinstance(value, Mapping):
        return {key: _as_plain(item) for key, item in value.items()}
    return [_as_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
