"""How a long text is read in windows: its pieces, where windows begin, and how many there are. Pure arithmetic."""

from __future__ import annotations

import re
from collections.abc import Iterable

PIECE = re.compile(r"\w+|[^\w\s]")
"""A word, or one mark."""


def pieces_of(text: str) -> tuple[list[tuple[int, int]], list[str]]:
    """Cut a text into words and marks.

    Parameters
    ----------
    text : str
        A text.

    Returns
    -------
    spans : list of (int, int)
        Where each piece begins and ends, in characters.
    spelt : list of str
        Each piece with the blanks before it.
    """
    spans = [match.span() for match in PIECE.finditer(text)]
    before = [0, *(end for _, end in spans)][: len(spans)]
    return spans, [text[left:right] for left, (_, right) in zip(before, spans, strict=True)]


def window_starts(length: int, room: int, overlap: int | None) -> range:
    """The first token of each window on a text.

    Parameters
    ----------
    length : int
        Tokens of the text.
    room : int
        Tokens of the text in one window.
    overlap : int or None
        Tokens that two windows share, fewer than `room`; None: the text is cut at the first window.

    Returns
    -------
    range
        Windows that hold all tokens together; one where the text fits.
    """
    if overlap is None or length <= room:
        return range(1)
    step = room - overlap
    return range(0, length - room + step, step)


def mean_windows(lengths: Iterable[tuple[int, int]], longest: int, overlap: int, marks: int) -> float:
    """Mean number of windows of some questions on texts.

    Parameters
    ----------
    lengths : iterable of (int, int)
        Tokens of each question and of its text.
    longest : int
        Tokens of a window, the question and marks among them.
    overlap : int
        Tokens of the text that two windows share.
    marks : int
        Marks around and between question and text.

    Returns
    -------
    float
        One or more.
    """
    counts = [
        len(window_starts(text, longest - min(question, longest // 2) - marks, overlap)) for question, text in lengths
    ]
    return sum(counts) / len(counts)
