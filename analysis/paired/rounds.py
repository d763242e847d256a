"""Which rates to try next in which cell: a few cells first, then all of them about what the law says.

The first round sweeps some cells that lie far apart. Every later one gives each cell three rates about the best one as
it is known, and one more beyond the end where its best run lies at an edge of what was tried. It must not know how runs
are made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.paired.best_rates import Tuned

STEP = math.log(2.0)
"""Distance of the rates of a cell, in log rate."""
BROAD_STEPS = (-2, -1, 0, 1, 2)
"""Rates of a cell of the first round, in steps from the rate that is given."""
ABOUT = (0, -1, 1)
"""Rates of a cell of a later round, in steps from its best rate."""
MAX_EXTRA = 4
"""Most runs of a cell beyond its three, while its best stays at an edge."""


def anchors(covariates: Array, count: int) -> NDArray[np.intp]:
    """Cells that lie far apart: the middle one, then always the farthest from those that were taken.

    Parameters
    ----------
    covariates : Array, shape (m, p)
        Logarithms of the cells' N, D, batch, ...
    count : int
        How many are wanted.

    Returns
    -------
    array of int, shape (min(count, m),)
        Indices of cells.
    """
    scale = np.where(np.ptp(covariates, axis=0) > 0, np.ptp(covariates, axis=0), 1.0)
    points = (covariates - covariates.mean(axis=0)) / scale
    taken = [int(np.argmin((points**2).sum(axis=1)))]
    distance = ((points - points[taken[0]]) ** 2).sum(axis=1)
    while len(taken) < min(count, len(points)):
        taken.append(int(np.argmax(distance)))
        distance = np.minimum(distance, ((points - points[taken[-1]]) ** 2).sum(axis=1))
    return np.array(taken, dtype=np.intp)


def wanted_rates(tuned: Tuned, tried: Sequence[Array], *, step: float = STEP) -> list[Array]:
    """Log rates that each cell still lacks.

    Parameters
    ----------
    tuned : Tuned
        What is known after the last round.
    tried : sequence of Array
        Log rates that were tried, by cell.
    step : float
        Distance of rates.

    Returns
    -------
    list of Array
        New log rates by cell; empty for cells that are done, or that have had their extra runs.
    """
    out = []
    for cell, best, done in zip(tuned.cells, tuned.log_rates, tried, strict=True):
        new: list[float] = []
        if len(done) < len(ABOUT):
            asked = [best + k * step for k in ABOUT]
            new = [rate for rate in asked if not _near(rate, done, step)][: len(ABOUT) - len(done)]
        elif cell.edge is not None and len(done) < len(ABOUT) + MAX_EXTRA:
            beyond = min(done) - step if cell.edge == "low" else max(done) + step
            new = [float(beyond)]
        out.append(np.array(new))
    return out


def _near(rate: float, done: Array, step: float) -> bool:
    """Whether a rate was tried already, within half a step."""
    return bool(len(done)) and bool(np.abs(np.asarray(done) - rate).min() < 0.45 * step)
