"""Numbers as people read them: sizes 124M, tokens 2.6B, compute 3.0e18, durations 2h 05m; and the tables of the
terminal."""

from __future__ import annotations

from collections.abc import Sequence


def count(value: float | None) -> str:
    """Write a count with three significant digits and a letter: 124M, 2.6B; `-` for None."""
    if value is None:
        return "-"
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            text = f"{value / size:.3g}"
            return (f"{value / size:.0f}" if "e" in text else text) + letter
    return f"{value:.0f}"


def compute(value: float | None) -> str:
    """Write FLOPs as 3.0e18; `-` for None."""
    if value is None:
        return "-"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


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


def size(num_bytes: float) -> str:
    """Write bytes as 512 B, 12 MB or 3.4 GB."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= limit:
            return f"{num_bytes / limit:.3g} {unit}"
    return f"{num_bytes:.0f} B"


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
