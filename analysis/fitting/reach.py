"""How far points lie beyond the fitted runs, and when a prediction there has no interval.

The one place that decides it: what a fit could not identify, its predictions far from the runs cannot know either. It
must not know how predictions are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.arrays import Array

if TYPE_CHECKING:
    from analysis.fitting.fit import Fit

NAMES = {"params": "N", "tokens": "D", "flops": "C", "ratio": "D/N"}
"""What is compared with the fitted runs, and its symbol."""
FREE_FACTOR = 1.5
"""A point this far beyond the range of the runs counts as inside: the flat directions of a fit do not show there."""
SAID_FACTOR = 1.05
"""A smaller factor beyond the runs is not worth a word."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Ranges of the fitted runs."""

    ranges: Mapping[str, tuple[float, float]]
    """Lowest and highest value of each quantity that the law reads, and of C = 6 N D and D/N where it reads both."""

    @classmethod
    def of(cls, fit: Fit) -> Reach | None:
        """Measure the runs of a fit.

        Parameters
        ----------
        fit : Fit
            With the rows that it was fitted to.

        Returns
        -------
        Reach or None
            None for a fit that did not keep its rows.
        """
        if fit.runs is None:
            return None
        known = _quantities({name: fit.runs[name] for name in fit.law.inputs if name in fit.runs})
        return cls(ranges={name: (float(column.min()), float(column.max())) for name, column in known.items()})

    def factors(self, x: Mapping[str, Array]) -> dict[str, Array]:
        """Say how far points lie beyond the runs.

        Parameters
        ----------
        x : mapping of str to Array, shape (n,)
            The law's inputs at the points.

        Returns
        -------
        dict of str to Array, shape (n,)
            By quantity the factor beyond the nearer end of its range: 1 inside, 10 for ten times the largest or a tenth
            of the smallest.
        """
        known = _quantities(x)
        out = {}
        for name, (low, high) in self.ranges.items():
            if name in known and low > 0:
                with np.errstate(divide="ignore", invalid="ignore"):
                    out[name] = np.maximum(np.maximum(known[name] / high, low / known[name]), 1.0)
        return out

    def sentence(self, x: Mapping[str, Array], row: int) -> str | None:
        """Say in words how far one point lies beyond the runs; None inside.

        Parameters
        ----------
        x : mapping of str to Array, shape (n,)
            The law's inputs at the points.
        row : int
            Which point.

        Returns
        -------
        str or None
            Each quantity beyond the runs, with its factor.
        """
        parts = []
        for name, factor in self.factors(x).items():
            if factor[row] > SAID_FACTOR:
                low, high = self.ranges[name]
                above = _quantities(x)[name][row] > high
                end = f"the largest of the fitted runs, {high:.3g}" if above else f"the smallest, {low:.3g}"
                times = f"{factor[row]:.3g} times" if above else f"1/{factor[row]:.3g} of"
                parts.append(f"{NAMES.get(name, name)} is {times} {end}")
        return "; ".join(parts) or None


def why_no_interval(fit: Fit, x: Mapping[str, Array]) -> list[str | None]:
    """Say for each point why its prediction has no interval.

    Parameters
    ----------
    fit : Fit
        The fit.
    x : mapping of str to Array, shape (n,)
        The law's inputs at the points.

    Returns
    -------
    list of str or None
        None where the prediction has one: inside the range of the runs, or where every parameter is identified.
    """
    count = next(iter(x.values())).size
    if fit.predictor.reason is not None:
        return [fit.predictor.reason] * count
    unknown = [name for name, reason in fit.identified.items() if reason is not None]
    reach = Reach.of(fit) if unknown else None
    if reach is None:
        return [None] * count
    outside = np.zeros(count, dtype=bool)
    for factor in reach.factors(x).values():
        outside |= factor > FREE_FACTOR
    names = f"{', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} not identified"
    return [f"{names}, and {reach.sentence(x, row)}" if beyond else None for row, beyond in enumerate(outside)]


def _quantities(x: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs by name, with C and D/N where there are sizes and tokens."""
    known = {name: np.asarray(column, dtype=np.float64) for name, column in x.items()}
    if {"params", "tokens"} <= set(known):
        known["flops"] = 6 * known["params"] * known["tokens"]
        known["ratio"] = known["tokens"] / known["params"]
    return known
