"""How counts are printed in every table, figure and message: sizes as 124M, compute as 3.0e18, files as 3.4 GB.

Standard library only; what one package alone prints (durations, percentages, table columns) lives in that package.
"""

from __future__ import annotations

import math


def format_size(count: float, digits: int = 3) -> str:
    """Return a count of parameters or tokens with a letter: 124M, 2.6B, 9.73k.

    Parameters
    ----------
    count : float
        The count; below one thousand it is rounded to a whole number.
    digits : int
        Significant digits; zeros at the end of a fraction are left out.

    Returns
    -------
    str
        The count in thousands (k), millions (M), billions (B) or trillions (T); ``n/a`` if it is not finite.
    """
    if not math.isfinite(count):
        return "n/a"
    for power, letter in ((12, "T"), (9, "B"), (6, "M"), (3, "k")):
        scaled = float(f"{count / 10**power:.{digits - 1}e}")
        if abs(scaled) >= 1:
            decimals = max(digits - 1 - math.floor(math.log10(abs(scaled))), 0)
            text = f"{scaled:.{decimals}f}"
            return (text.rstrip("0").rstrip(".") if "." in text else text) + letter
    return f"{count:.0f}"


def format_compute(flops: float, digits: int = 2) -> str:
    """Return a number of floating-point operations in short scientific notation: 3.0e18.

    Parameters
    ----------
    flops : float
        The number of operations.
    digits : int
        Significant digits.

    Returns
    -------
    str
        The number; ``n/a`` if it is not finite.
    """
    if not math.isfinite(flops):
        return "n/a"
    mantissa, _, exponent = f"{flops:.{digits - 1}e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def format_bytes(num_bytes: float) -> str:
    """Return the size of a file or a memory in decimal units, three significant digits: 512 B, 12.4 MB, 3.41 GB."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= limit:
            return f"{num_bytes / limit:.3g} {unit}"
    return f"{num_bytes:.0f} B"


def format_binary_bytes(num_bytes: float) -> str:
    """Return the size of a memory in binary units, as devices are sold: 1.5 GiB is 1.5 x 1024^3 bytes."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:,.4g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:,.4g} TiB"


def counted(count: int, what: str) -> str:
    """Return a number with what is counted, which takes an s unless it is one: 1 run, 2 runs.

    Parameters
    ----------
    count : int
        How many.
    what : str
        One of them; its plural ends in s.

    Returns
    -------
    str
        For sentences.
    """
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
