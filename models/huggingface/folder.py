"""A Hugging Face checkpoint folder without its tensors: which files, which model, which content; torch-free."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from models.config.transformer import TransformerConfig
from models.errors import UserError
from models.huggingface.fields import config_from_fields

DIGITS = 12
"""Hex digits of a content hash."""


def read_fields(folder: Path) -> dict[str, Any]:
    """Read the fields of config.json; UserError when there is none, or it is no JSON object."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{folder} holds no config.json; give the folder of a Hugging Face checkpoint")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}); save the checkpoint again") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path} holds no JSON object; save the checkpoint again")
    return fields


def weight_files(folder: Path) -> list[Path]:
    """Name the files of a checkpoint's tensors.

    Parameters
    ----------
    folder : Path
        Holds model.safetensors, or shards with model.safetensors.index.json.

    Returns
    -------
    list of Path
        By name.

    Raises
    ------
    UserError
        When one is missing.
    """
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    for name in names:
        if not (folder / name).is_file():
            raise UserError(f"{folder} holds no {name}; save the checkpoint with safetensors")
    return [folder / name for name in names]


def folder_config(folder: Path) -> TransformerConfig:
    """Read what a checkpoint's model is, without its tensors.

    Parameters
    ----------
    folder : Path
        Holds config.json and safetensors files.

    Returns
    -------
    TransformerConfig
        What computes the same function.

    Raises
    ------
    UserError
        When a file is missing, or our modules cannot express the model.
    """
    names: set[str] = set()
    for path in weight_files(folder):
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            try:
                names |= set(json.loads(stream.read(size)))
            except ValueError as error:
                raise UserError(f"{path} is no safetensors file ({error}); save the checkpoint again") from error
    return config_from_fields(read_fields(folder), frozenset(names))


def folder_digest(folder: Path) -> str:
    """Hash what a checkpoint is: its config, its tensors and its tokenizer, wherever the folder lies.

    Parameters
    ----------
    folder : Path
        Holds config.json, safetensors files and tokenizer.json.

    Returns
    -------
    str
        12 hex digits of a sha256.
    """
    tokenizer = folder / "tokenizer.json"
    files = [folder / "config.json", *weight_files(folder), *([tokenizer] if tokenizer.is_file() else [])]
    state = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files)
    return _digest(state)


@cache
def _digest(state: tuple[tuple[str, int, int], ...]) -> str:
    """The same, read again only when a file has changed."""
    whole = hashlib.sha256()
    for name, _, _ in state:
        path = Path(name)
        with path.open("rb") as stream:
            whole.update(f"{path.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()[:DIGITS]
