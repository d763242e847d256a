"""Entities in tags of the form B-TYPE, I-TYPE and O, strictly by IOB2.

An entity begins with B- and goes on with I- of its type; an I- that follows neither belongs to none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Span = tuple[str, int, int]
"""Type of an entity, its first word, and the word after its last."""


def is_bio(labels: Sequence[str]) -> bool:
    """Whether tags are BIO, of at least one type.

    Parameters
    ----------
    labels : sequence of str
        Every tag of a task.
    """
    rest = [label for label in labels if label != "O"]
    return bool(rest) and all(label[:2] in ("B-", "I-") for label in rest)


def entities(tags: Sequence[str]) -> list[Span]:
    """The entities of one sentence.

    Parameters
    ----------
    tags : sequence of str
        One for each word.

    Returns
    -------
    list of Span
        In order.
    """
    found: list[Span] = []
    for place, tag in enumerate(tags):
        kind, name = tag[:1], tag[2:]
        if kind == "B":
            found.append((name, place, place + 1))
        elif kind == "I" and found and found[-1][0] == name and found[-1][2] == place:
            found[-1] = (name, found[-1][1], place + 1)
    return found


def entity_f1(pairs: Iterable[tuple[Sequence[Span], Sequence[Span]]]) -> float:
    """F1 of whole entities over all sentences: twice the agreements over all that were said and all that are true.

    Parameters
    ----------
    pairs : iterable of (sequence of Span, sequence of Span)
        Said and true ones of each sentence.

    Returns
    -------
    float
        0 where there are none at all.
    """
    hits = total = 0
    for said, true in pairs:
        hits += len(set(said) & set(true))
        total += len(said) + len(true)
    return 2 * hits / total if total else 0.0
