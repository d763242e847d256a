"""What a comparison of arms found: multipliers by budget, their growth, and which arm is best.

Owns the results and their JSON. It must not know how they were computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from analysis.arrays import Array
from analysis.estimate import Estimate
from analysis.formatting import format_compute, html_table
from analysis.paired.joint import Form

Verdict = Literal["grows", "shrinks", "constant", "not determined"]
"""What becomes of a multiplier as compute grows."""


@dataclass(frozen=True, kw_only=True)
class AtBudget:
    """One arm's multiplier at one budget."""

    flops: float
    """Budget C of the arm."""
    multiplier: Estimate | None
    """In compute; None when the runs do not determine it."""
    reason: str | None
    """Why there is none, or what to know of it."""
    tokens: Estimate | None
    """The same in tokens: those that the reference needs over those of the arm; None without tokens."""
    seconds: Estimate | None
    """The same in seconds, at the throughput that was measured; None without times."""
    reach: float | None
    """The reference's compute for this loss over its largest fitted compute; above one it is extrapolated."""


@dataclass(frozen=True, kw_only=True)
class ArmMultiplier:
    """What one arm gains over the reference."""

    by_budget: tuple[AtBudget, ...]
    """Its multiplier at each budget."""
    grows: Estimate
    """Exponent of the reducible loss in compute, arm minus reference: above zero, the multiplier grows."""
    verdict: Verdict
    """What that interval says."""


@dataclass(frozen=True, kw_only=True)
class Multipliers:
    """Multipliers of all arms over the reference."""

    reference: str
    """The arm that others are compared with."""
    arms: Mapping[str, ArmMultiplier]
    """By arm, the reference left out."""
    p_best: Mapping[str, Array]
    """By arm, the reference included: share of draws in which it has the least loss at each budget."""
    flops: Array
    """Budgets."""
    form: Form
    """Form of the fitted laws."""
    shared_floor: bool
    """Whether one irreducible loss serves all arms."""
    num_blocks: int
    """Pairs that were drawn."""
    level: float
    """Nominal coverage of intervals."""
    warnings: tuple[str, ...]
    """What to know before using the numbers."""

    def __repr__(self) -> str:
        arms = ", ".join(f"{name} {arm.verdict}" for name, arm in self.arms.items())
        return f"Multipliers(over {self.reference}: {arms})"

    def _repr_html_(self) -> str:
        """The multiplier of every arm at every budget, for notebooks."""
        rows = [
            (name, format_compute(one.flops), one.reason or "" if one.multiplier is None else str(one.multiplier))
            for name, arm in self.arms.items()
            for one in arm.by_budget
        ]
        verdicts = "; ".join(f"{name}: {arm.verdict}" for name, arm in self.arms.items())
        head = ("arm", "C", f"compute that {self.reference} needs, as a multiple")
        return f"{html_table(head, rows)}<p>{escape(f'With scale the gain of {verdicts}')}</p>"

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `multiplier --json`."""
        out: dict[str, Any] = {"reference": self.reference, "arms": {}}
        for name, arm in self.arms.items():
            out["arms"][name] = {
                "at": [_at_dict(one) for one in arm.by_budget],
                "grows": {**_ends(arm.grows), "verdict": arm.verdict},
                "p_best": self._best(name),
            }
        more = {"form": self.form, "shared_floor": self.shared_floor, "num_blocks": self.num_blocks}
        out |= {"warnings": list(self.warnings), "reference_p_best": self._best(self.reference)}
        return {**out, **more, "level": self.level}

    def _best(self, name: str) -> list[dict[str, float]]:
        return [{"flops": float(c), "value": float(p)} for c, p in zip(self.flops, self.p_best[name], strict=True)]


def _ends(estimate: Estimate) -> dict[str, float | None]:
    return {"value": estimate.value, "lo": estimate.lo, "hi": estimate.hi}


def _at_dict(one: AtBudget) -> dict[str, Any]:
    out: dict[str, Any] = {"flops": one.flops, "multiplier": None, "reason": one.reason, "reach": one.reach}
    for name in ("multiplier", "tokens", "seconds"):
        estimate = getattr(one, name)
        out[name] = None if estimate is None else _ends(estimate)
    return out
