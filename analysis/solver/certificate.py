"""What a search may say about its minimum: how many starts of which kinds ended there, and whether any ended lower.

Owns the record of the starts and its verdict. Where starts come from and how they descend is elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Kind = Literal["grid", "between", "profile", "hop"]
"""Where a start came from: a local minimum of the projected grid; a random point between grid points, its amplitudes
solved for; the minimum with one parameter moved and held while the others follow, then released; a random step away
from one of the minima found so far (basin hopping, Wales and Doye 1997)."""
KINDS: tuple[Kind, ...] = get_args(Kind)

Verdict = Literal["agreed", "disagreed"]
"""Whether starts of several kinds ended at the minimum."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """How a minimum was reached, and what speaks against it."""

    verdict: Verdict
    """agreed: starts of at least two kinds ended here, and the last round of starts found nothing lower. disagreed:
    starts still ended lower or elsewhere when the search was given up."""
    starts: Mapping[Kind, int]
    """Starts polished to the end, by kind."""
    reached: Mapping[Kind, int]
    """Starts of each kind that ended at the minimum."""
    rounds: int
    """Rounds of further starts after the grid."""
    lowered_by: float
    """By how much further starts lowered the minimum of the grid's starts, as a fraction of it."""
    next_basin: float | None
    """How far the second lowest minimum lies above, as a fraction of the objective; None where there is no other."""

    @property
    def text(self) -> str:
        """One line for people."""
        counts = ", ".join(f"{self.reached[kind]} of {self.starts[kind]} {kind}" for kind in KINDS if self.starts[kind])
        if self.verdict == "agreed":
            return f"starts of several kinds agreed on the minimum ({counts})"
        near = "" if self.next_basin is None else f"; another basin lies {100 * self.next_basin:.2g} % above"
        return f"starts disagree about the minimum ({counts}){near}; a longer search might find a lower one"

    def to_dict(self) -> dict[str, Any]:
        """JSON object."""
        return {
            "verdict": self.verdict,
            "starts": dict(self.starts),
            "reached": dict(self.reached),
            "rounds": self.rounds,
            "lowered_by": self.lowered_by,
            "next_basin": self.next_basin,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Certificate:
        """The inverse of `to_dict`."""
        return cls(**raw)
