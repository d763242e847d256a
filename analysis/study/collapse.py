"""Do the training curves of a sweep collapse on one? A figure of its health (Qiu et al. 2025, arXiv 2507.02119).

Curves of runs that are trained alike fall on one when the loss above the irreducible one is divided by its last value,
and tokens by their last: (L(x D) - E) / (L(D) - E) at x from a start to 1. Runs that leave the common curve were
trained otherwise: a rate too high, a slip of the schedule, data that ran out. It must not know figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.estimate import Estimate, percent_text

FRACTIONS = np.linspace(0.25, 0.95, 15)
"""Parts of a run's tokens at which curves are compared."""
LAST = 0.04
"""Part of the tokens at the end over which the last loss is a mean."""
MIN_CURVES = 4
"""Fewest curves that are compared."""
FAR = 4.0
"""Robust standard deviations from the common curve beyond which a run is named."""
LEAST = 0.01
"""Distances below this, a hundredth of the loss above the irreducible one, are never named."""
DRAWS = 500
"""Draws of runs behind the interval."""


@dataclass(frozen=True, kw_only=True)
class Collapse:
    """Normalised curves of all runs."""

    run_ids: tuple[str, ...]
    """Runs with a curve."""
    normalised: Array
    """(L - E) / (L_last - E) of every run at FRACTIONS, shape (runs, m)."""
    spread: Estimate
    """Robust standard deviation of a run's curve about the common one, as a fraction: the health figure."""
    far: Mapping[str, tuple[float, float]]
    """Runs that leave the common curve: by which fraction at most, and at which part of their tokens."""

    @property
    def common(self) -> Array:
        """The common curve: the median of all at each part."""
        return np.asarray(np.median(self.normalised, axis=0))

    def sentence(self) -> str:
        """What is said of it, for a report."""
        text = f"Normalised curves of {len(self.run_ids)} runs lie within {percent_text(self.spread)} of one another"
        if not self.far:
            return f"{text} (one robust standard deviation); none leaves the common curve."
        named = "; ".join(f"{name} by {100 * off:.1f} % at {100 * x:.0f} %" for name, (off, x) in self.far.items())
        return f"{text} (one robust standard deviation). Runs that leave the common curve, and where: {named}."


def collapse_of(curves: Mapping[str, pd.DataFrame], floor: float, *, level: float = 0.95) -> Collapse | None:
    """Normalise the training curves and measure how they agree.

    Parameters
    ----------
    curves : mapping
        run_id -> tokens and train_loss, ascending in tokens.
    floor : float
        Irreducible loss E, nats per token.
    level : float
        Coverage of the interval, from draws over runs.

    Returns
    -------
    Collapse or None
        None with fewer than MIN_CURVES curves whose losses stay above the floor.
    """
    found = {name: one for name, one in ((n, _normalise(c, floor)) for n, c in curves.items()) if one is not None}
    if len(found) < MIN_CURVES:
        return None
    normalised = np.stack(list(found.values()))
    off = np.abs(np.log(normalised / np.median(normalised, axis=0)))
    distance = off.mean(axis=1)
    value = _spread(normalised)
    rng = np.random.default_rng(0)
    draws = [_spread(normalised[rng.integers(0, len(normalised), len(normalised))]) for _ in range(DRAWS)]
    typical = float(np.median(distance))
    limit = max(typical + FAR * 1.4826 * float(np.median(np.abs(distance - typical))), LEAST)
    far = {
        name: (math.expm1(float(off[i].max())), float(FRACTIONS[int(off[i].argmax())]))
        for i, name in enumerate(found)
        if distance[i] > limit
    }
    spread = Estimate.from_draws(value, draws, level=level)
    return Collapse(run_ids=tuple(found), normalised=normalised, spread=spread, far=far)


def _spread(normalised: Array) -> float:
    """Robust standard deviation of log curves about their median, at the middle of the parts."""
    off = np.abs(np.log(normalised / np.median(normalised, axis=0)))
    return 1.4826 * float(np.median(np.median(off, axis=0)))


def _normalise(curve: pd.DataFrame, floor: float) -> Array | None:
    """One run's curve at FRACTIONS, each a mean over a window of LAST of its tokens."""
    tokens, loss = (curve[name].to_numpy(dtype=float) for name in ("tokens", "train_loss"))
    x = tokens / tokens[-1]
    last = float(loss[x >= 1 - LAST].mean())
    if not (np.isfinite(loss).all() and last > floor and x[0] <= FRACTIONS[0]):
        return None
    smooth = np.array([_mean_about(x, loss, part) for part in FRACTIONS])
    return np.asarray((smooth - floor) / (last - floor)) if (smooth > floor).all() else None


def _mean_about(x: Array, loss: Array, part: float) -> float:
    """Mean loss within LAST of a part, or between the two nearest points."""
    near = np.abs(x - part) <= LAST
    return float(loss[near].mean()) if near.any() else float(np.interp(part, x, loss))
