"""What the terminal shows: durations as 2h 05m, and plain tables. Counts are printed by `models.formatting`."""

from __future__ import annotations

from collections.abc import Sequence


def duration(seconds: float) -> str:
    """Write seconds as 45s, 3m 20s, 2h 05m or 3d 04h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


def plain_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Lay out rows in aligned columns under a rule; costs nothing to import.

    Parameters
    ----------
    headers : sequence of str
        Heads of the columns.
    rows : sequence of sequence of str
        Cells of each row.
    left : int
        How many columns, from the first, are aligned to the left; the others are aligned to the right.

    Returns
    -------
    str
        With a newline at its end.
    """
    widths = [max(len(cell) for cell in column) for column in zip(headers, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(headers), "  ".join("-" * width for width in widths).rstrip(), *map(line, rows), ""])
