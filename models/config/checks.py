"""Checks that every config shares: names among those known, counts, fractions. Each error names field and value."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from models.errors import UserError


def require_name(field: str, value: str, allowed: Sequence[str]) -> None:
    """Raise `UserError` naming the nearest allowed word unless `value` is one of `allowed`."""
    if value not in allowed:
        nearest = difflib.get_close_matches(str(value), allowed, n=1, cutoff=0.4)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise UserError(f"{field} is {value!r}; {hint}choose one of {', '.join(allowed)}")


def require_count(field: str, value: Any, *, minimum: int = 1) -> None:
    """Raise `UserError` unless `value` is a whole number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise UserError(f"{field} is {value!r}; give a whole number of at least {minimum}")


def require_fraction(field: str, value: float, *, below_one: bool = False) -> None:
    """Raise `UserError` unless `value` lies in [0, 1], or in [0, 1) when `below_one`."""
    if not 0 <= value <= 1 or (below_one and value == 1):
        raise UserError(
            f"{field} is {value!r}; give a fraction from 0 {'up to, not including,' if below_one else 'to'} 1"
        )
