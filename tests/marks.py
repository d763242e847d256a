"""Marks that several tests share: what a machine must have for them."""

from __future__ import annotations

import shutil

import pytest

needs_compiler = pytest.mark.skipif(  # inductor writes C++, and CI's machines have a compiler: there it always runs
    shutil.which("g++") is None, reason="inductor needs a C++ compiler, and there is no g++"
)
"""torch.compile writes C++ on a CPU and cannot work without a compiler; other tests cover eager training, which can."""
