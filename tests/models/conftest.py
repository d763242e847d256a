"""Types and shapes are checked in all tests of models, at every call of their functions: tests/shapes.py says how."""

from __future__ import annotations

from collections.abc import Iterator

import jaxtyping
import pytest


@pytest.fixture(autouse=True)
def _types_and_shapes() -> Iterator[None]:
    jaxtyping.config.update("jaxtyping_disable", False)
    yield
    jaxtyping.config.update("jaxtyping_disable", True)
