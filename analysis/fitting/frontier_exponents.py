"""What a fit says about the compute-optimal frontier: the exponents a and b under C = 6 N D, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class FrontierExponents:
    """The exponents of N_opt ~ C^a and D_opt ~ C^b that a fitted law of params and tokens implies."""

    a: Estimate
    """d log N_opt / d log C."""
    b: Estimate
    """d log D_opt / d log C."""
    flops_range: tuple[float, float]
    """Smallest and largest C of the fitted runs."""
    convention: str = "6ND"
    """How C is counted."""
    reason: str | None = None
    """Why the runs do not determine the frontier; None when they do."""
    note: str | None = None
    """What the reader should know about the convention; None for nothing."""

    @property
    def identified(self) -> bool:
        """Whether the runs determine the frontier."""
        return self.reason is None

    def to_dict(self) -> dict[str, Any]:
        """The object `frontier` of the JSON of `fit`."""
        out = {
            "convention": self.convention,
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "flops_range": list(self.flops_range),
            "identified": self.identified,
            "reason": self.reason,
        }
        return out if self.note is None else {**out, "note": self.note}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], *, level: float) -> FrontierExponents:
        """The inverse of `to_dict`.

        Parameters
        ----------
        raw : mapping
            The JSON object.
        level : float
            Nominal coverage of the intervals, which the object does not hold.

        Returns
        -------
        FrontierExponents
            As it was.
        """
        low, high = raw["flops_range"]
        return cls(
            a=Estimate.from_dict(raw["a"], level=level),
            b=Estimate.from_dict(raw["b"], level=level),
            flops_range=(float(low), float(high)),
            convention=raw["convention"],
            reason=raw.get("reason"),
            note=raw.get("note"),
        )
