"""The search for a design: greedy by gain per cost, then exchanges, with a bound that says how far it is from the best.

It owns when runs are added and taken out. What one more run gains is `greedy`, the bound is `bound`, and what a design
is worth is `criterion`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from analysis.design.bound import relaxed
from analysis.design.criterion import Counts, Experiment
from analysis.design.greedy import Greedy

PRICE_STEPS = 8
"""Halvings in search of the share of the number of runs in the price of a run at which both limits bind."""
PRICES = (0.1, 0.4, 0.8)
"""Such shares where runs share prefixes."""
MAX_EXCHANGES = 400
"""Most exchanges tried."""
PAIRS_UP_TO = 12
"""Designs of at most this many distinct cells are also searched by exchanging two cells at a time."""

Start = tuple[float, Counts]
"""A price of a run, and the design that is filled up at it."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """A set of runs and how good it is."""

    counts: Counts
    """How often each cell is run, shape (n,)."""
    criterion: float
    """Mean log squared error."""
    cost: float
    """FLOPs."""
    bound: float | None
    """No design within the same limits has a lower mean log variance; None where runs share prefixes, for which there
    is none."""


def search(experiment: Experiment) -> Design:
    """Look for the best design.

    Parameters
    ----------
    experiment : Experiment
        Cells and limits.

    Returns
    -------
    Design
        The best one found, with the bound.
    """
    nothing = np.zeros(experiment.tokens.size, dtype=np.int64)
    starts: list[Start] = [(0.0, nothing)]
    bound = None
    if experiment.decay_fraction is None:
        more, bound = _relaxed_starts(experiment, nothing)
        starts += more
    elif experiment.max_runs is not None:
        starts += [(price, nothing) for price in PRICES]
    found = [(price, Greedy(experiment, price).fill(counts)) for price, counts in starts]
    price, counts = min(found, key=lambda one: experiment.criterion(one[1]))
    counts = _exchange(experiment, counts, price)
    return Design(counts=counts, criterion=experiment.criterion(counts), cost=experiment.cost(counts), bound=bound)


def _relaxed_starts(experiment: Experiment, nothing: Counts) -> tuple[list[Start], float]:
    """Designs rounded down from the relaxed problem at several prices of a run, and the best of their bounds.

    The price is halved towards the one at which the relaxed problem takes just as many runs as are allowed.
    """
    plain, weights = experiment.well_specified(), np.full(nothing.size, 1 / nothing.size)
    starts: list[Start] = []
    bounds = []
    price, low, high = 0.0, 0.0, 1.0
    for _ in range(PRICE_STEPS):
        weights, bound = relaxed(plain, price, weights)
        bounds.append(bound)
        starts.append((price, _affordable(experiment, np.floor(weights + 1e-9).astype(np.int64))))
        if experiment.max_runs is None or (price == 0 and weights.sum() <= experiment.max_runs):
            break
        low, high = (price, high) if weights.sum() > experiment.max_runs else (low, price)
        price = 0.5 * (low + high)
        starts.append((price, nothing))
    return starts, max(bounds)


def _affordable(experiment: Experiment, counts: Counts) -> Counts:
    """`counts` less what goes beyond the limits, the cheapest runs first."""
    cells = np.repeat(np.arange(counts.size), counts)
    costs = experiment.flops[cells]
    order = cells[np.argsort(-costs, kind="stable")]
    kept = order[: experiment.max_runs]
    kept = kept[np.cumsum(np.sort(costs)[::-1][: kept.size]) <= experiment.budget]
    return np.asarray(np.bincount(kept, minlength=counts.size), dtype=np.int64)


def _exchange(experiment: Experiment, counts: Counts, price: float) -> Counts:
    """Take runs out and fill up again in other ways while that helps; the most expensive cells first."""
    fillers = [Greedy(experiment, price), Greedy(experiment, price, by_gain=True)]
    value, tried, before = experiment.criterion(counts), 0, np.inf
    while tried < MAX_EXCHANGES and value < before - 1e-6:
        before = value
        for removed in _removals(experiment, counts)[: MAX_EXCHANGES - tried]:
            less = counts.copy()
            np.subtract.at(less, list(removed), 1)
            if (less < 0).any():
                continue
            tried += 1
            for filler in fillers:
                trial = filler.fill(less, banned=removed)
                reached = experiment.criterion(trial)
                if reached < value - 1e-9:
                    counts, value = trial, reached
                    break
    return counts


def _removals(experiment: Experiment, counts: Counts) -> list[tuple[int, ...]]:
    """What may be taken out of a design: one run, or two where there are few cells."""
    chosen = [int(cell) for cell in np.argsort(-experiment.flops) if counts[cell]]
    removals: list[tuple[int, ...]] = [(cell,) for cell in chosen]
    if len(chosen) <= PAIRS_UP_TO:
        removals += itertools.combinations_with_replacement(chosen, 2)
    return removals
