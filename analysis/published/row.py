"""One published number beside ours: what both sides of the comparison share. Knows no data set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """One published number beside ours."""

    what: str
    """The quantity."""
    source: str
    """Where it was published."""
    published: float
    """The number there."""
    ours: float
    """The number here."""
    tolerance: float
    """Largest |ours - published| that counts as agreement; for an objective, how far ours may lie above."""
    at_most: bool = False
    """Whether ours may be smaller by any amount (objectives)."""
    lo: float | None = None
    """Lower end of our interval, where there is one."""
    hi: float | None = None
    """Upper end."""

    @property
    def agrees(self) -> bool:
        """Whether ours is within the tolerance, or below where that is better."""
        if self.at_most:
            return self.ours <= self.published + self.tolerance
        return abs(self.ours - self.published) <= self.tolerance
