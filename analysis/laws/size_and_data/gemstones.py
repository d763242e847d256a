"""Gemstones (McLeish et al. 2025): separate powers of width, depth, parameters and tokens."""

from __future__ import annotations

from analysis.laws.sums import SumOfPowers, power_parameters

_SHAPE = (("A", "width", "alpha"), ("B", "depth", "beta"))
_FULL = (*_SHAPE, ("P", "params", "gamma"), ("T", "tokens", "zeta"))
_THREE = (*_SHAPE, ("T", "tokens", "zeta"))
_SOURCE = "McLeish et al. 2025 (Gemstones), arXiv 2502.06857"

GEMSTONES = SumOfPowers(
    name="gemstones",
    formula="L = E + A / width**alpha + B / depth**beta + P / params**gamma + T / tokens**zeta",
    inputs=("width", "depth", "params", "tokens"),
    terms=_FULL,
    parameters=power_parameters(_FULL, count=7),
    source=f"{_SOURCE}, the law of width, depth, parameters and tokens",
    domain="many shapes per size: width and depth must vary apart",
)

GEMSTONES_SHAPE = SumOfPowers(
    name="gemstones-shape",
    formula="L = E + A / width**alpha + B / depth**beta + T / tokens**zeta",
    inputs=("width", "depth", "tokens"),
    terms=_THREE,
    parameters=power_parameters(_THREE, count=9),
    source=f"{_SOURCE}, the variant without a term in parameters",
    domain="many shapes per size: width and depth must vary apart",
)
