"""How good a design can be at most: fractional counts, a convex problem, and the bound that it gives.

Multiplicative steps (Silvey, Titterington and Torsney 1978) go towards the optimum of the relaxed problem. At any
weights w the linear expansion at w, minimised over all designs, bounds the convex criterion from below. Bias has no
part in it: with bias the criterion is not convex.
"""

from __future__ import annotations

import numpy as np

from analysis.arrays import Array
from analysis.design.criterion import Experiment, gram

MAX_STEPS = 400
"""Most steps of the relaxed problem; the bound holds after any number of them."""
GAP = 2e-3
"""Gap of the relaxed problem, in the criterion, at which it stops."""
CHECK_EVERY = 10
"""Steps between two looks at the gap."""
POWER = 0.9
"""Power of the slope in a multiplicative step."""


def relaxed(experiment: Experiment, price: float, start: Array) -> tuple[Array, float]:
    """The relaxed problem, with budget and number of runs as one constraint.

    Parameters
    ----------
    experiment : Experiment
        Without discrepancy and without shared prefixes.
    price : float
        Share of the number of runs in the price of a run; the rest is its share of the budget.
    start : Array, shape (n,)
        Fractional counts to start from.

    Returns
    -------
    counts : Array, shape (n,)
        Fractional counts of about the least criterion.
    bound : float
        No design within the budget and the number of runs has a lower criterion.
    """
    e = experiment
    share = e.flops / e.budget
    if e.max_runs is not None:
        share = (1 - price) * share + price / e.max_runs
    share = np.maximum(share, 1e-15)
    cap = e.max_replicates * share
    x = _filled(np.maximum(start * share, 1e-3 / share.size), cap)
    best = -np.inf
    for step in range(1, MAX_STEPS + 1):
        m = e.information + gram(e.gradients, x / share)
        u = np.linalg.solve(m, e.target[:, :, None])[:, :, 0]
        v = (e.target * u).sum(axis=1)
        slope = (e.weights / v) @ np.matmul(e.gradients, u[:, :, None])[:, :, 0] ** 2 / share
        if step % CHECK_EVERY == 0 or step == MAX_STEPS:
            gap = _gap(slope, x, cap)
            best = max(best, float(e.weights @ np.log(v)) - gap)
            if gap < GAP:
                break
        x = _filled(np.maximum(x, 1e-12 * cap) * slope**POWER, cap)
    return x / share, best


def _gap(slope: Array, x: Array, cap: Array) -> float:
    """By how much the linear expansion could fall: everything on the steepest cells, up to their caps."""
    order = np.argsort(-slope)
    room = np.diff(np.minimum(np.cumsum(cap[order]), 1.0), prepend=0.0)
    return float(slope[order] @ room - slope @ x)


def _filled(amounts: Array, cap: Array) -> Array:
    """`amounts` times a factor, cut at `cap`, so that they add up to one (to all of `cap` when that is less)."""
    if cap.sum() <= 1:
        return cap
    ratio = amounts / cap
    order = np.argsort(-ratio)
    full = np.concatenate([[0.0], np.cumsum(cap[order])])[:-1]
    rest = np.cumsum(amounts[order][::-1])[::-1]
    factor = (1 - full) / rest  # the first k cells at their cap, the others scaled
    k = int(np.argmax(factor * ratio[order] <= 1))
    return np.asarray(np.minimum(cap, factor[k] * amounts))
