"""A number with its interval, or the reason why it has none.

Owns `Estimate` and its text. It must not know any law, table or figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from analysis.files import json_ready
from analysis.formatting import format_number, format_percent


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A point estimate that never travels without its interval, or the reason why it has none."""

    value: float
    """The point estimate, in the unit of the quantity."""
    lo: float | None = None
    """Lower end of the interval; None when there is none."""
    hi: float | None = None
    """Upper end of the interval; None when there is none."""
    se: float | None = None
    """One standard error; None when it was not estimated."""
    level: float = 0.95
    """Nominal coverage of the interval."""
    reason: str | None = None
    """Why there is no interval; None when there is one."""

    def __post_init__(self) -> None:
        if (self.lo is None) != (self.hi is None):
            raise ValueError(f"an interval has two ends, got lo={self.lo} and hi={self.hi}")
        if self.lo is None and self.reason is None:
            object.__setattr__(self, "reason", "it was not estimated")

    @classmethod
    def from_draws(cls, value: float, draws: ArrayLike, *, level: float = 0.95, min_draws: int = 20) -> Estimate:
        """The percentile interval of bootstrap draws.

        Parameters
        ----------
        value : float
            The point estimate on the runs as they are.
        draws : array, shape (B,)
            One estimate per draw; draws that failed are NaN and are left out.
        level : float
            Nominal coverage.
        min_draws : int
            Fewest finite draws that make an interval.

        Returns
        -------
        Estimate
            Without an interval when fewer draws, or less than half of them, are finite.
        """
        sample = np.asarray(draws, dtype=float)
        finite = sample[np.isfinite(sample)]
        if not math.isfinite(value):
            return cls(value=value, level=level, reason="the estimate itself is not finite")
        if finite.size < min_draws or finite.size < 0.5 * sample.size:
            reason = (
                f"{finite.size} of {sample.size} draws gave an estimate" if sample.size else "no draws were asked for"
            )
            return cls(value=value, level=level, reason=reason)
        lo, hi = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
        return cls(value=value, lo=float(lo), hi=float(hi), se=float(finite.std(ddof=1)), level=level)

    @property
    def has_interval(self) -> bool:
        """Whether lo and hi are known."""
        return self.lo is not None

    def covers(self, truth: float) -> bool:
        """Whether `truth` lies within the interval; False without an interval."""
        return self.lo is not None and self.hi is not None and self.lo <= truth <= self.hi

    def to_dict(self) -> dict[str, Any]:
        """The JSON object {"value", "lo", "hi", "se"}, with "reason" when there is no interval; null, never NaN."""
        out: dict[str, Any] = {"value": self.value, "lo": self.lo, "hi": self.hi, "se": self.se}
        ready: dict[str, Any] = json_ready(out if self.has_interval else {**out, "reason": self.reason})
        return ready

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], *, level: float = 0.95) -> Estimate:
        """The inverse of `to_dict`.

        Parameters
        ----------
        raw : mapping
            The JSON object; a null value becomes NaN.
        level : float
            Nominal coverage of the interval, which the object does not hold.

        Returns
        -------
        Estimate
            As it was.
        """
        value = math.nan if raw.get("value") is None else float(raw["value"])
        ends = {"lo": raw.get("lo"), "hi": raw.get("hi")}
        return cls(value=value, **ends, se=raw.get("se"), level=level, reason=raw.get("reason"))

    def text(self, digits: int = 3) -> str:
        """`0.514 (0.470, 0.552)`, or `0.514 (no interval: why)`."""
        if self.lo is None or self.hi is None:
            return f"{format_number(self.value, digits)} (no interval: {self.reason})"
        ends = f"({format_number(self.lo, digits)}, {format_number(self.hi, digits)})"
        return f"{format_number(self.value, digits)} {ends}"

    def __str__(self) -> str:
        return self.text()


def percent_text(estimate: Estimate) -> str:
    """An estimate of a fraction in per cent with its interval: `1.1 % (0.8 %, 1.6 %)`, or why it has none."""
    if estimate.lo is None or estimate.hi is None:
        return f"{format_percent(estimate.value)} (no interval: {estimate.reason})"
    return f"{format_percent(estimate.value)} ({format_percent(estimate.lo)}, {format_percent(estimate.hi)})"
