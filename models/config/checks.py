"""Checks that every config shares: known names, counts, fractions; and the nearest name to a misspelt one.

Every error names the field, the value and what to do. Standard library only.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence

from models.errors import UserError

CUTOFF = 0.5
"""Least similarity of a suggested name, as `difflib` measures it: 0 for nothing in common, 1 for equal words."""


def nearest_names(word: str, known: Iterable[str], *, count: int = 1) -> list[str]:
    """Return the known names that are spelt most like a word, the nearest first.

    Parameters
    ----------
    word : str
        A name that is not known; upper and lower case are not told apart.
    known : iterable of str
        The names to choose from.
    count : int
        How many to return at most.

    Returns
    -------
    list of str
        Up to `count` names; empty when none is similar.
    """
    by_lower = {name.lower(): name for name in known}
    return [by_lower[name] for name in difflib.get_close_matches(word.lower(), by_lower, n=count, cutoff=CUTOFF)]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the question that suggests the nearest known name.

    Parameters
    ----------
    word : str
        A name that is not known.
    known : iterable of str
        The names to choose from.

    Returns
    -------
    str
        ``did you mean 'rotary'?``, or an empty string when no name is similar.
    """
    names = nearest_names(word, known)
    return f"did you mean {names[0]!r}?" if names else ""


def require_name(field: str, value: object, allowed: Sequence[str]) -> None:
    """Refuse a value that is none of the allowed words.

    Parameters
    ----------
    field : str
        The field's name, for the message.
    value : object
        The field's value.
    allowed : sequence of str
        The words to choose from.

    Raises
    ------
    UserError
        If `value` is not among `allowed`; the message suggests the nearest word and lists all.
    """
    if value not in allowed:
        question = did_you_mean(str(value), allowed)
        hint = f"{question} " if question else ""
        raise UserError(f"{field} is {value!r}; {hint}choose one of {', '.join(allowed)}")


def require_count(field: str, value: object, *, minimum: int = 1) -> None:
    """Refuse a value that is not a whole number, or a smaller one than allowed.

    Parameters
    ----------
    field : str
        The field's name, for the message.
    value : object
        The field's value; True and False are no numbers.
    minimum : int
        The smallest number allowed.

    Raises
    ------
    UserError
        If `value` is no integer of at least `minimum`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise UserError(f"{field} is {value!r}; give a whole number of at least {minimum}")


def require_fraction(field: str, value: object, *, below_one: bool = False) -> None:
    """Refuse a value that is not a number between 0 and 1.

    Parameters
    ----------
    field : str
        The field's name, for the message.
    value : object
        The field's value.
    below_one : bool
        Whether 1 itself is refused.

    Raises
    ------
    UserError
        If `value` is no number, or lies outside [0, 1], or [0, 1) with `below_one`.
    """
    inside = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
    if not inside or (below_one and value == 1):
        end = "up to, not including," if below_one else "to"
        raise UserError(f"{field} is {value!r}; give a fraction from 0 {end} 1")


def require_positive(field: str, value: object) -> None:
    """Refuse a value that is not a finite number above zero.

    Parameters
    ----------
    field : str
        The field's name, for the message.
    value : object
        The field's value.

    Raises
    ------
    UserError
        If `value` is no number, not finite, or not above zero.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value > 0):
        raise UserError(f"{field} is {value!r}; give a positive number")
