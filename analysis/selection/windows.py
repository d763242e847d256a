"""Which runs a law is fitted to and which it is scored on: nested cut-offs in compute, or one hold-out that was given.

Owns the splits alone. It must not know laws, fits or how errors are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.formatting import format_compute, format_number
from analysis.runs.columns import count_from

Mask = NDArray[np.bool_]
"""Which rows, shape (n,), or which rows of each window, shape (W, n)."""

NUM_WINDOWS = 5
"""Cut-offs at most: more of them hold out nearly the same runs again."""
FIRST_SHARE = 0.5
"""The smallest cut-off leaves at least this fraction of the runs to the fit."""
MIN_HELDOUT = 3
"""The largest cut-off holds out at least this many runs."""
BUDGET_GAP = 0.10
"""Runs whose compute differs by less than this fraction belong to one budget: cut-offs fall between budgets where
there are several."""
AXES = ("flops", "x", "tokens", "step", "params", "active_params", "share_1")
"""What a cut-off may be made in, in order of preference."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """One split of the runs."""

    name: str
    """What is held out, for people."""
    cutoff: float | None
    """Largest compute fitted, in the unit of the axis; None for a hold-out that was given."""
    fitted: Mask
    """Rows fitted, shape (n,)."""
    held: Mask
    """Rows scored, shape (n,)."""


def held_rows(windows: Sequence[Window]) -> Mask:
    """Which rows each window holds out, shape (W, n)."""
    return np.stack([window.held for window in windows])


def compute_axis(data: Mapping[str, Any]) -> tuple[str, Array]:
    """What grows from window to window.

    Parameters
    ----------
    data : mapping
        Columns by name.

    Returns
    -------
    name : str
        flops, also where they are computed as 6 params tokens; else the first of AXES that is there.
    values : Array, shape (n,)
        The axis.

    Raises
    ------
    UserError
        When the table has none of them.
    """
    if "flops" not in data and {"params", "tokens"} <= set(data):
        return "flops", np.asarray(count_from("flops", {name: _column(data, name) for name in ("params", "tokens")}))
    name = next((name for name in AXES if name in data), None)
    if name is None:
        raise UserError(f"runs are held out by compute, and the table has none of {', '.join(AXES)}; name one column")
    return name, _column(data, name)


def _column(data: Mapping[str, Any], name: str) -> Array:
    return np.asarray(data[name], dtype=np.float64)


def nested_windows(data: Mapping[str, Any], *, num: int = NUM_WINDOWS) -> tuple[Window, ...]:
    """`expanding_windows` along the compute of a table.

    Parameters
    ----------
    data : mapping
        Columns by name.
    num : int
        Most cut-offs.

    Returns
    -------
    tuple of Window
        Smallest cut-off first.

    Raises
    ------
    UserError
        When the runs cannot be split by compute.
    """
    return expanding_windows(*compute_axis(data), num=num)


def expanding_windows(name: str, values: ArrayLike, *, num: int = NUM_WINDOWS) -> tuple[Window, ...]:
    """Nested windows: each fits the runs up to a cut-off and holds out all runs above it.

    Cut-offs are spread evenly over the upper half of the runs sorted by compute, between budgets where the runs come in
    budgets.

    Parameters
    ----------
    name : str
        Name of the axis.
    values : array, shape (n,)
        The axis.
    num : int
        Most cut-offs.

    Returns
    -------
    tuple of Window
        Smallest cut-off first.

    Raises
    ------
    UserError
        When the runs cannot be split by compute.
    """
    axis = np.asarray(values, dtype=np.float64)
    ascending = np.sort(axis)
    n = ascending.size
    steps = np.diff(np.log(ascending))
    places = np.arange(1, n)
    allowed = (places >= FIRST_SHARE * n) & (n - places >= min(MIN_HELDOUT, max(n // 4, 1)))
    wide = places[allowed & (steps > math.log1p(BUDGET_GAP))]
    any_step = places[allowed & (steps > 1e-9)]
    in_budgets = 2 * (1 + int((steps > math.log1p(BUDGET_GAP)).sum())) <= n
    cuts = wide if wide.size and (in_budgets or wide.size >= 3) else any_step
    if not cuts.size:
        raise UserError(
            f"{n} runs at {np.unique(axis).size} values of {name} cannot be split into small and large; "
            "say which to hold out with --holdout EXPR, or give more runs"
        )
    if cuts.size > num:
        wanted = np.linspace(cuts[0], cuts[-1], num)
        cuts = np.unique(cuts[np.abs(cuts[None, :] - wanted[:, None]).argmin(axis=1)])
    write = format_compute if name == "flops" else format_number
    out = []
    for cut in cuts:
        cutoff = float(ascending[cut - 1])
        fitted = axis <= cutoff
        out.append(Window(name=f"{name} above {write(cutoff)}", cutoff=cutoff, fitted=fitted, held=~fitted))
    return tuple(out)


def given_window(held: ArrayLike, *, name: str) -> tuple[Window, ...]:
    """The one window of a hold-out that was given.

    Parameters
    ----------
    held : array of bool, shape (n,)
        Rows to hold out.
    name : str
        What they are, for people.

    Returns
    -------
    tuple of Window
        One window.

    Raises
    ------
    UserError
        When it holds out every run or none.
    """
    mask = np.asarray(held, dtype=bool)
    if mask.all() or not mask.any():
        what = "every run" if mask.all() else "no run"
        raise UserError(f"--holdout {name!r} holds out {what} of {mask.size}; fix the expression")
    return (Window(name=name, cutoff=None, fitted=~mask, held=mask),)
