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
