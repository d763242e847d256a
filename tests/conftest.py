"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import jaxtyping
import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")

CHECKED = ("modules", "kernels", "huggingface", "coordinates", "generation", "lit", "objectives")
"""Rooms of models whose functions are checked; configs refuse bad values in sentences of their own."""
install_import_hook([f"models.{room}" for room in CHECKED], "shapes.checked")
jaxtyping.config.update("jaxtyping_disable", True)  # tests of models switch the checks on; tests/models/conftest.py

LONGEST = (
    "test_docs.py",
    "analysis/report/test_rebuild.py",
    "test_newcomer.py",
    "analysis/laws/test_derivatives.py",
    "experiments/cluster/test_real_slurm.py",
    "experiments/execution/test_sweep_benchmark.py",
    "models/test_compile.py",
    "analysis/laws/test_schedules.py",
    "analysis/verbs/deciding/test_advised_sweep.py",
    "experiments/execution/test_choices.py",
    "experiments/mirror/test_online.py",
    "experiments/execution/test_launcher.py",
)
"""The files that take longest, which begin first: a process that meets one at the end leaves the other idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; the others keep their order."""
    place = {Path(__file__).parent / name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def published_data() -> Path:
    """The folder of published scaling-law runs, `../shared/data` beside the checkout; skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("published runs are read from ../shared/data beside the checkout, which is absent")
    return folder


@pytest.fixture(autouse=True)
def same_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sync` lowers the priority of its process, which here is that of all tests after it and of what they start."""
    monkeypatch.setattr(os, "nice", lambda increment: increment)
