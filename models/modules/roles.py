"""What each parameter is for: modules say it of their own, and initial scales, optimisers and counts read it.

A role decides how a parameter starts and learns; a group decides under which heading it is counted. Both are kept on
the module and not on the tensor, so that they stay when a parameter is replaced (shards, the meta device, loading).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import torch
from torch import nn

Group = Literal[
    "embedding", "positions", "segments", "attention", "cross_attention", "ffn", "norms", "pooler", "head", "added"
]
"""Headings of `accounting.count_params`; "added" is what fine-tuning put into a model."""


TAGS = "parameter_tags"
"""The attribute of a module that holds the tags of its own parameters."""


class Role(StrEnum):
    """What a parameter does in a model."""

    TABLE = "table"
    """Rows looked up by token, position or segment."""
    BUCKETS = "buckets"
    """T5's biases by distance, added to attention logits."""
    MATRIX = "matrix"
    """The weight of a linear layer inside the model."""
    RESIDUAL_MATRIX = "residual-matrix"
    """The weight of a linear layer that writes into the residual stream."""
    OUTPUT_TABLE = "output-table"
    """The head's own table, states to logits."""
    GAIN = "gain"
    """The gain of a norm; starts at one."""
    BIAS = "bias"
    """An additive bias; starts at zero."""


@dataclass(frozen=True)
class Tag:
    """Role and group of one parameter."""

    role: Role
    """How it starts and learns."""
    group: Group
    """Where it is counted."""


def tag(module: nn.Module, group: Group, **roles: Role) -> None:
    """Say what a module's own parameters are for.

    Parameters
    ----------
    module : nn.Module
        Whose parameters are meant, not those of its parts.
    group : str
        Where they are counted.
    **roles : Role
        By the parameter's name in the module; names that it does not have are left out.
    """
    known = {name for name, _ in module.named_parameters(recurse=False)}
    vars(module)[TAGS] = {name: Tag(role, group) for name, role in roles.items() if name in known}


def tagged_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter, Tag | None]]:
    """Yield every parameter once, in the order of `named_parameters`.

    Parameters
    ----------
    module : nn.Module
        A model, with whatever was added to it.

    Yields
    ------
    (str, nn.Parameter, Tag or None)
        Its qualified name, itself, and what it is for; None where no module says so.
    """
    seen: set[nn.Parameter] = set()
    for prefix, part in module.named_modules():
        tags = vars(part).get(TAGS, {})
        for name, parameter in part.named_parameters(recurse=False):
            if parameter not in seen:
                seen.add(parameter)
                yield f"{prefix}.{name}" if prefix else name, parameter, tags.get(name)


def seeded_generator(seed: int, name: str) -> torch.Generator:
    """Return a generator that depends on a seed and a name alone; the global one is neither read nor moved.

    Parameters
    ----------
    seed : int
        Of the run.
    name : str
        What is drawn, such as the qualified name of a parameter.

    Returns
    -------
    torch.Generator
        On the CPU, seeded by 63 bits of the sha256 of both.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
