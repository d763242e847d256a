"""How numbers are printed: sizes as 124M, compute as 3.0e18, fractions as per cent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from models.formatting import counted, format_compute, format_size

__all__ = ["counted", "format_compute", "format_number", "format_percent", "format_size", "html_table"]


def format_number(value: float | None, digits: int = 3) -> str:
    """`value` to `digits` significant digits: plain between 1e-3 and 1e6, in scientific notation elsewhere."""
    if value is None or not math.isfinite(value):
        return "n/a"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if -4 < exponent < 6:
        return f"{value:.{max(digits - 1 - exponent, 0)}f}"
    return f"{value:.{digits - 1}e}".replace("e+", "e").replace("e-0", "e-").replace("e0", "e")


def format_percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction as a percentage to `digits` significant digits: 1.1 %."""
    return "n/a" if fraction is None or not math.isfinite(fraction) else f"{format_number(100 * fraction, digits)} %"


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain texts as an HTML table, for notebooks; what they hold is escaped."""
    cells = [f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in rows]
    return f"<table><tr>{''.join(f'<th>{escape(text)}</th>' for text in head)}</tr>{''.join(cells)}</table>"
