"""Cells that may be run, each a size at a token budget, and the uniform grids among them.

It owns the limits of a plan, given or read off the existing runs, and the grid that a design is compared with. It must
not know laws, or how designs are searched. N in parameters, D in tokens, C in floating-point operations.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.advice.shapes import Ladder, Size
from analysis.advice.steps import Steps
from analysis.arrays import Array
from analysis.design.criterion import Counts, Experiment
from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.laws.allocation import six_n

NUM_SIZES, NUM_TOKENS = 16, 16
"""Sizes and token budgets of the cells, evenly spaced in their logarithms."""


@dataclass(frozen=True, kw_only=True)
class RunLimits:
    """What may be run."""

    min_params: float
    """Smallest N."""
    max_params: float
    """Largest N."""
    min_tokens: float
    """Fewest D."""
    max_tokens: float
    """Most D."""
    ratio: tuple[float, float]
    """Least and most tokens per parameter."""
    min_flops: float = 0.0
    """Least C of a run: no law is known to hold below the cheapest run that it was fitted to."""
    max_runs: int | None = 200
    """Most runs; None: as many as the budget pays for."""
    max_replicates: int = 5
    """Most seeds of one cell."""
    steps: Steps = field(default_factory=Steps)
    """How many steps a run takes, and has to take."""

    def __post_init__(self) -> None:
        for name in ("params", "tokens"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if not 0 < low <= high < math.inf:
                raise UserError(f"--min-{name} {low:.3g} and --max-{name} {high:.3g} leave nothing between them")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise UserError(f"--ratio {self.ratio[0]:g}:{self.ratio[1]:g} holds no tokens per parameter")
        if self.max_replicates < 1 or (self.max_runs is not None and self.max_runs < 1):
            raise UserError("--max-runs and --max-replicates are at least 1")

    @classmethod
    def of(cls, fit: Fit, **given: Any) -> RunLimits:
        """Limits, given or read off the runs of a fit.

        Parameters
        ----------
        fit : Fit
            Its runs give what is not given.
        **given
            Fields; None stands for one that is not given.

        Returns
        -------
        RunLimits
            All of them.

        Raises
        ------
        UserError
            When one is neither given nor known, or when they leave nothing between them.
        """
        known = {name: value for name, value in given.items() if value is not None}
        if fit.runs is not None:
            n, d = fit.runs["params"], fit.runs["tokens"]
            own = {"min_params": n.min(), "max_params": n.max(), "min_tokens": d.min(), "max_tokens": d.max()}
            known = {**{name: float(value) for name, value in own.items()}, **known}
            if "ratio" not in known:
                known["ratio"] = (float((d / n).min()), float((d / n).max()))
            known.setdefault("min_flops", float(fit.runs.get("flops", six_n(n) * d).min()))
        missing = {"min_params", "max_params", "min_tokens", "max_tokens"} - set(known)
        if missing:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(missing))
            raise UserError(f"the fit does not hold its runs; give {flags}, or make it again with `fit --out`")
        known.setdefault("ratio", (1e-9, 1e12))
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        own = {limit.name: getattr(self, limit.name) for limit in fields(self) if limit.name != "steps"}
        return {**own, "min_steps": None if self.steps.batch is None else self.steps.least}


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """A cell that is to be run."""

    size: Size
    """The shape."""
    tokens: float
    """D."""
    seeds: tuple[int, ...]
    """One run for each."""
    steps: int | None = None
    """Steps of one run; None when nothing says the batch."""

    @property
    def flops(self) -> float:
        """Training FLOPs of one run on its own."""
        return self.tokens * self.size.flops_per_token

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        own = {"tokens": self.tokens, "steps": self.steps, "seeds": list(self.seeds), "flops": self.flops}
        return {**self.size.to_dict(), **own}


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Every size at every token budget that the limits allow."""

    sizes: tuple[Size, ...]
    """Ascending."""
    amounts: Array
    """Token budgets, ascending, to three digits."""
    size_of: NDArray[np.intp]
    """Size of each cell, shape (n,)."""
    amount_of: NDArray[np.intp]
    """Token budget of each cell, shape (n,)."""

    @classmethod
    def within(cls, ladder: Ladder, limits: RunLimits, budget: float) -> Cells:
        """The cells within some limits.

        Parameters
        ----------
        ladder : Ladder
            Sizes.
        limits : RunLimits
            What may be run.
        budget : float
            C; no cell costs more.

        Returns
        -------
        Cells
            At most NUM_SIZES by NUM_TOKENS of them.

        Raises
        ------
        UserError
            When there is none.
        """
        sizes = ladder.between(limits.min_params, limits.max_params, NUM_SIZES)
        raw = np.geomspace(_fewest_tokens(sizes, limits), limits.max_tokens, NUM_TOKENS)
        amounts = np.array(sorted({float(f"{value:.3g}") for value in raw}))
        costs = {
            (i, j): float(tokens * size.flops_per_token)
            for i, size in enumerate(sizes)
            for j, tokens in enumerate(amounts)
            if limits.ratio[0] * 0.99 <= tokens / size.params <= limits.ratio[1] * 1.01
            and tokens * size.flops_per_token >= limits.min_flops * 0.99
            and limits.steps.suffice(size.params, float(tokens))
        }
        if not costs:
            raise UserError(
                f"no run of {sizes[0].params:.3g} to {sizes[-1].params:.3g} parameters and {amounts[0]:.3g} to "
                f"{amounts[-1]:.3g} tokens has {limits.ratio[0]:.3g} to {limits.ratio[1]:.3g} tokens per parameter, "
                f"costs {limits.min_flops:.3g} FLOPs or more{limits.steps.clause}; widen the limits of "
                "sizes or of tokens"
            )
        pairs = [pair for pair, cost in costs.items() if cost <= budget]
        if not pairs:
            raise UserError(
                f"no run within the limits{limits.steps.clause} costs less than the budget of {budget:.3g} FLOPs (the "
                f"cheapest costs {min(costs.values()):.3g}); raise --budget or lower --min-flops"
            )
        size_of, amount_of = (np.array(side, dtype=np.intp) for side in zip(*pairs, strict=True))
        return cls(sizes=tuple(sizes), amounts=amounts, size_of=size_of, amount_of=amount_of)

    @property
    def inputs(self) -> dict[str, Array]:
        """params and tokens of each cell."""
        params = np.array([size.params for size in self.sizes])
        return {"params": params[self.size_of], "tokens": self.amounts[self.amount_of]}

    @property
    def flops_per_token(self) -> Array:
        """Of each cell's size."""
        return np.array([size.flops_per_token for size in self.sizes])[self.size_of]


def _fewest_tokens(sizes: Sequence[Size], limits: RunLimits) -> float:
    """The least D within the limits at which some size takes enough steps; UserError when none does."""
    low = min(limits.steps.fewest_tokens(size.params, limits.min_tokens, limits.max_tokens) for size in sizes)
    if math.isfinite(low):
        return low
    raise UserError(
        f"the longest run within the limits {limits.steps.complaint(sizes[0].params, limits.max_tokens)}; raise "
        "--max-tokens, or lower recipe.batch_tokens of the template"
    )


def uniform_grid(cells: Cells, experiment: Experiment) -> Counts:
    """The best uniform grid within the budget.

    A grid has k sizes and k token budgets, evenly spaced in their logarithms from the smallest up to a part of the
    cells. All k, all parts, and as many seeds as the limits allow are tried.

    Parameters
    ----------
    cells : Cells
        What may be run.
    experiment : Experiment
        The same cells, with what each says about the target.

    Returns
    -------
    array of int, shape (n,)
        How often each cell is run.
    """
    found: dict[bytes, Counts] = {}
    for num_sizes, num_amounts in itertools.product(range(1, len(cells.sizes) + 1), range(1, cells.amounts.size + 1)):
        for k in range(2, max(num_sizes, num_amounts, 2) + 1):
            counts = _grid(cells, k, num_sizes, num_amounts)
            times = _affordable_times(experiment, counts)
            if times:
                found[(times * counts).tobytes()] = times * counts
    designs = np.stack(list(found.values()))
    return np.asarray(designs[int(np.argmin(experiment.criteria(designs.astype(float))))])


def _grid(cells: Cells, k: int, num_sizes: int, num_amounts: int) -> Counts:
    """Counts of k of the first sizes by k of the first token budgets, once each."""
    rows = np.linspace(0, num_sizes - 1, min(k, num_sizes)).round().astype(int)
    columns = np.linspace(0, num_amounts - 1, min(k, num_amounts)).round().astype(int)
    chosen = np.zeros((len(cells.sizes), cells.amounts.size), dtype=np.int64)
    chosen[np.ix_(rows, columns)] = 1
    return np.asarray(chosen[cells.size_of, cells.amount_of])


def _affordable_times(experiment: Experiment, counts: Counts) -> int:
    """How many seeds of every cell the budget and the limits allow; 0 for an empty grid."""
    if not counts.any():
        return 0
    times = min(int(experiment.budget / experiment.cost(counts) + 1e-9), experiment.max_replicates)
    if experiment.max_runs is not None:
        times = min(times, experiment.max_runs // int(counts.sum()))
    return times
