"""Sweep files that stand for more than anybody can train are refused at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.config.designs import expand
from experiments.config.yaml_text import parse_yaml
from experiments.errors import UserError
from tests.known import sweep_of


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(UserError, match="more than 100,000 values"):
        parse_yaml("\n".join(lines), where="bomb.yaml")


def test_an_alias_of_itself_is_refused() -> None:
    with pytest.raises(UserError, match="more than 100,000 values"):
        parse_yaml("a: &a [*a, *a]", where="loop.yaml")


def test_a_document_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(UserError, match=r"deep\.yaml"):
        parse_yaml("[" * 5000 + "]" * 5000, where="deep.yaml")


def test_a_grid_of_millions_is_refused_before_it_is_made(tmp_path: Path, sweep_text: str) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(sweep_text)
    names = ("seeds", "optimizer.beta1", "recipe.learning_rate", "recipe.weight_decay", "recipe.grad_clip")
    sweep = replace(sweep_of(path), vary={name: list(range(20)) for name in names})
    with pytest.raises(UserError, match="3,200,000 combinations, more than 10,000"):
        expand(sweep, resolve=lambda data: data)
