"""A number with its interval, the shared bootstrap draws, and how quantities are printed.

Owns `Estimate`, the resampling of runs that every approach shares (the same generator gives the same draws, so that
differences between approaches are paired), and the printing of sizes, tokens and compute. It must not know any law,
table or figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
        """The percentile interval of bootstrap draws around `value`; without an interval when too few draws are finite.

        Parameters
        ----------
        value : the point estimate on the runs as they are.
        draws : one estimate per draw; draws that failed are NaN and are left out.
        level : nominal coverage.
        min_draws : fewest finite draws that make an interval.
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
        out = {"value": self.value, "lo": self.lo, "hi": self.hi, "se": self.se}
        return json_ready(out if self.has_interval else {**out, "reason": self.reason})

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Estimate:
        """The inverse of `to_dict`; a null value becomes NaN."""
        value = math.nan if raw.get("value") is None else float(raw["value"])
        return cls(value=value, lo=raw.get("lo"), hi=raw.get("hi"), se=raw.get("se"), reason=raw.get("reason"))

    def text(self, digits: int = 3) -> str:
        """`0.514 (0.470, 0.552)`, or `0.514 (no interval: why)`."""
        if self.lo is None or self.hi is None:
            return f"{format_number(self.value, digits)} (no interval: {self.reason})"
        ends = f"({format_number(self.lo, digits)}, {format_number(self.hi, digits)})"
        return f"{format_number(self.value, digits)} {ends}"

    def __str__(self) -> str:
        return self.text()


def bootstrap_rows(
    num_rows: int,
    num_draws: int,
    *,
    rng: np.random.Generator,
    cluster: Sequence[object] | NDArray[Any] | None = None,
    strata: Sequence[object] | NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """Weights of `num_draws` bootstrap samples over runs: how often each row was drawn.

    Parameters
    ----------
    num_rows, num_draws : sizes of the table and of the bootstrap.
    rng : the same state and arguments give the same weights, so that approaches that share them are paired.
    cluster : a label per row; rows that share one are drawn together (runs of one training trunk, say).
    strata : a label per row; clusters are drawn within each stratum (a cluster belongs to the stratum of its first
        row).

    Returns
    -------
    weights : (num_draws, num_rows) float64 array of whole numbers; without clusters every row of weights sums to
        num_rows.
    """
    names = np.arange(num_rows) if cluster is None else _codes(cluster)
    groups, first = np.unique(names, return_index=True)
    layers = np.zeros(groups.size, dtype=int) if strata is None else _codes(strata)[first]
    counts = np.zeros((num_draws, groups.size))
    for layer in np.unique(layers):
        members = np.flatnonzero(layers == layer)
        counts[:, members] = rng.multinomial(members.size, np.full(members.size, 1 / members.size), size=num_draws)
    return np.asarray(counts[:, np.searchsorted(groups, names)])


def _codes(labels: Sequence[object] | NDArray[Any]) -> NDArray[np.int64]:
    """Whole numbers for labels of any kind, in order of first appearance."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(str(label), len(seen)) for label in labels], dtype=np.int64)


def json_ready(value: Any) -> Any:
    """`value` with NumPy scalars and arrays as plain Python, and NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    if isinstance(value, np.ndarray):
        return json_ready(value.tolist())
    if isinstance(value, np.generic):
        return json_ready(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def format_number(value: float | None, digits: int = 3) -> str:
    """`value` to `digits` significant digits: plain between 1e-3 and 1e6, in scientific notation elsewhere."""
    if value is None or not math.isfinite(value):
        return "n/a"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if -4 < exponent < 6:
        return f"{value:.{max(digits - 1 - exponent, 0)}f}"
    return f"{value:.{digits - 1}e}".replace("e+", "e").replace("e-0", "e-").replace("e0", "e")


def format_size(count: float, digits: int = 3) -> str:
    """A count of parameters or tokens: 124M, 2.6B, 9.73k; whole numbers below one thousand."""
    if not math.isfinite(count):
        return "n/a"
    for power, letter in ((12, "T"), (9, "B"), (6, "M"), (3, "k")):
        scaled = float(f"{count / 10**power:.{digits - 1}e}")
        if abs(scaled) >= 1:
            decimals = max(digits - 1 - math.floor(math.log10(abs(scaled))), 0)
            text = f"{scaled:.{decimals}f}"
            return (text.rstrip("0").rstrip(".") if "." in text else text) + letter
    return f"{count:.0f}"


def format_compute(flops: float, digits: int = 2) -> str:
    """A count of floating-point operations: 3.0e18."""
    return (
        f"{flops:.{digits - 1}e}".replace("e+", "e").replace("e-0", "e-").replace("e0", "e")
        if math.isfinite(flops)
        else "n/a"
    )


def percent_text(estimate: Estimate) -> str:
    """An estimate of a fraction in per cent with its interval: `1.1 % (0.8 %, 1.6 %)`, or why it has none."""
    if estimate.lo is None or estimate.hi is None:
        return f"{format_percent(estimate.value)} (no interval: {estimate.reason})"
    return f"{format_percent(estimate.value)} ({format_percent(estimate.lo)}, {format_percent(estimate.hi)})"


def format_percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction as a percentage to `digits` significant digits: 1.1 %."""
    return "n/a" if fraction is None or not math.isfinite(fraction) else f"{format_number(100 * fraction, digits)} %"
