"""How numbers are printed: sizes as 124M, compute as 3.0e18, fractions as per cent."""

from __future__ import annotations

import math


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


def format_size(count: float, digits: int = 3) -> str:
    """A count of parameters or tokens: 124M, 2.6B, 9.73k; whole numbers below one thousand."""
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
    """A count of floating-point operations: 3.0e18."""
    return (
        f"{flops:.{digits - 1}e}".replace("e+", "e").replace("e-0", "e-").replace("e0", "e")
        if math.isfinite(flops)
        else "n/a"
    )


def format_percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction as a percentage to `digits` significant digits: 1.1 %."""
    return "n/a" if fraction is None or not math.isfinite(fraction) else f"{format_number(100 * fraction, digits)} %"
