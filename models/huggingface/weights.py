"""Weights from and to Hugging Face checkpoint folders (config.json, safetensors), without their library.

Shapes: H heads, K head size, D width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.config.transformer import TransformerConfig
from models.errors import UserError
from models.huggingface.fields import config_from_fields, fields_from_config
from models.huggingface.folder import read_fields, weight_files
from models.huggingface.names import ENTRIES, IGNORED, OUTSIDE, PREFIXES, Entry
from models.modules.transformer import Transformer


def load_huggingface(folder: Path | str) -> Transformer:
    """Return our model with the weights of a local GPT-2, BERT, T5, Llama or MPT checkpoint, in float32.

    Parameters
    ----------
    folder : Path or str
        Holds config.json and model.safetensors, or shards with model.safetensors.index.json.

    Returns
    -------
    Transformer
        On the CPU.

    Raises
    ------
    UserError
        If a file is missing, the architecture has no counterpart, or tensors are missing, left over or misshapen.
    """
    fields, state = read_folder(Path(folder))
    config = config_from_fields(fields, frozenset(state))
    with torch.device("meta"):
        model = Transformer(config)
    model = model.to_empty(device="cpu")
    for stack in (model.encoder, model.decoder):
        if stack is not None and stack.bias is not None:
            stack.bias.reset_slopes()
    model.load_state_dict(import_state(state, config, fields["model_type"]))
    return model


def save_huggingface(model: Transformer, folder: Path | str, *, kind: str) -> None:
    """Write config.json and model.safetensors that Hugging Face's `kind` reads back to the same function."""
    path = Path(folder)
    fields = fields_from_config(model.config, kind)
    path.mkdir(parents=True, exist_ok=True)
    state = export_state(model.state_dict(), model.config, kind)
    save_file(state, path / "model.safetensors", metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return config.json's fields and all tensors of a checkpoint folder."""
    fields, state = read_fields(folder), dict[str, Tensor]()
    for path in weight_files(folder):
        state.update(load_file(path))
    return fields, state


def import_state(state: Mapping[str, Tensor], config: TransformerConfig, kind: str) -> dict[str, Tensor]:
    """Return our state dict from theirs; every tensor of ours is filled once and none of theirs is left over."""
    prefix = PREFIXES[kind]
    bare = {name.removeprefix(prefix) if prefix else name: tensor for name, tensor in state.items()}
    ours: dict[str, Tensor] = {}
    for entry in ENTRIES[kind](config):
        if entry.theirs not in bare:
            raise UserError(f"the {kind} checkpoint lacks the tensor {entry.theirs!r}")
        ours.update(unpack(bare.pop(entry.theirs).float(), entry, config))
    left = [name for name in bare if not name.endswith(IGNORED)]
    if left:
        raise UserError(f"the {kind} checkpoint holds {len(left)} tensors without a place, the first {left[0]!r}")
    return ours


def unpack(tensor: Tensor, entry: Entry, config: TransformerConfig) -> dict[str, Tensor]:
    """Return our tensors that one of theirs holds."""
    if entry.transposed:
        tensor = tensor.T
    if entry.rotary:
        tensor = to_neighbours(tensor, config.key_dim)
    return {name: part.contiguous() for name, part in zip(entry.ours, tensor.chunk(len(entry.ours)), strict=True)}


def export_state(state: Mapping[str, Tensor], config: TransformerConfig, kind: str) -> dict[str, Tensor]:
    """Return their state dict, with their prefix, from ours."""
    theirs: dict[str, Tensor] = {}
    for entry in ENTRIES[kind](config):
        tensor = torch.cat([state[name] for name in entry.ours])
        if entry.rotary:
            tensor = to_halves(tensor, config.key_dim)
        if entry.transposed:
            tensor = tensor.T
        name = entry.theirs if entry.theirs.startswith(OUTSIDE) else PREFIXES[kind] + entry.theirs
        theirs[name] = tensor.detach().cpu().contiguous()
    return theirs


def to_neighbours(weight_HKxD: Tensor, head_dim: int) -> Tensor:
    """Reorder each head's rows from (j, j + K/2) pairs to neighbours (2j, 2j + 1)."""
    halves = weight_HKxD.unflatten(0, (-1, 2, head_dim // 2))
    return halves.transpose(1, 2).flatten(0, 2)


def to_halves(weight_HKxD: Tensor, head_dim: int) -> Tensor:
    """Undo `to_neighbours`."""
    pairs = weight_HKxD.unflatten(0, (-1, head_dim // 2, 2))
    return pairs.transpose(1, 2).flatten(0, 2)
