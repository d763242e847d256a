"""Figures of one fit: bands and profiles; its residuals are drawn by `residuals`.

Each is `f(fit, *, ax=None) -> Axes`; nothing is shown, and no state is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from analysis.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.fitting.fit import Fit
    from analysis.uncertainty.profile import Profile

Kind = Literal["residuals", "bands", "profile"]
"""The figures of a fit."""
GRID = 120
"""Points of a band."""
REACH = 100.0
"""A band reaches this factor to either side of the middle of the data."""


def plot_fit(fit: Fit, *, ax: Axes | None = None, kind: Kind = "residuals", **options: Any) -> Axes:
    """Draw one figure of a fit.

    Parameters
    ----------
    fit : Fit
        What is shown.
    ax : Axes, optional
        Where it is drawn; new axes by default.
    kind : "residuals", "bands" or "profile"
        The figure.
    **options
        Those of `plot_residuals`, `plot_bands` or `plot_profile`.

    Returns
    -------
    Axes
        What was drawn on.

    Raises
    ------
    UserError
        For another kind.
    """
    if kind == "residuals":
        from analysis.figures.residuals import plot_residuals

        return plot_residuals(fit, ax=ax, **options)
    if kind == "bands":
        return plot_bands(fit, ax=ax, **options)
    if kind == "profile":
        return plot_profile(fit, ax=ax, **options)
    raise UserError(f"there is no figure {kind!r} of a fit; there are {', '.join(get_args(Kind))}")


def plot_bands(
    fit: Fit,
    *,
    ax: Axes | None = None,
    along: str | None = None,
    at: Mapping[str, float] | None = None,
    span: tuple[float, float] | None = None,
) -> Axes:
    """Draw the predicted loss (or other target) along one input, with its confidence and prediction intervals.

    Parameters
    ----------
    fit : Fit
        What is shown.
    ax : Axes, optional
        Where it is drawn; new axes by default.
    along : str, optional
        The input on the x-axis; the law's first by default.
    at : mapping, optional
        Values of the other inputs; the middle of the data by default.
    span : (float, float), optional
        Ends of the x-axis; a factor of REACH on each side of the middle by default.

    Returns
    -------
    Axes
        What was drawn on.

    Raises
    ------
    UserError
        For a law over a schedule, which has no such input.
    """
    if not fit.law.row_by_row:
        raise UserError(
            f"{fit.law.name} predicts along a schedule, not along one input; plot fit.predict(rows) by step"
        )
    ax = _axes(ax)
    middle = dict(zip(fit.law.inputs, np.exp(fit.predictor.log_refs), strict=True))
    name = along or fit.law.inputs[0]
    low, high = span or (middle[name] / REACH, middle[name] * REACH)
    x = np.geomspace(low, high, GRID)
    fixed = {**middle, **(at or {})}
    band = fit.predict({**{other: np.full(x.size, float(value)) for other, value in fixed.items()}, name: x})
    ax.fill_between(x, band["prediction_lo"], band["prediction_hi"], alpha=0.15, lw=0, label="one run")
    ax.fill_between(x, band["confidence_lo"], band["confidence_hi"], alpha=0.35, lw=0, label="law")
    ax.plot(x, band[fit.law.target], lw=1.5)
    ax.set_xscale("log")
    ax.set_xlabel(name)
    ax.set_ylabel(fit.law.target)
    ax.legend(frameon=False)
    return ax


def plot_profile(fit: Fit, *, ax: Axes | None = None, profile: Profile | None = None) -> Axes:
    """Draw the rise of the scaled objective along one parameter, the cutoff, and the interval.

    Parameters
    ----------
    fit : Fit
        Whose law it is.
    ax : Axes, optional
        Where it is drawn; new axes by default.
    profile : Profile
        Of `profile_law`.

    Returns
    -------
    Axes
        What was drawn on.

    Raises
    ------
    UserError
        Without a profile.
    """
    if profile is None:
        raise UserError("a profile figure needs profile=profile_law(law, data, name=...)")
    ax = _axes(ax)
    ax.plot(profile.public, profile.rise, "o-", ms=3, lw=1)
    ax.axhline(profile.cutoff, color="0.5", lw=1, ls="--")
    for end in (profile.lo, profile.hi):
        if end is not None:
            ax.axvline(end, color="0.5", lw=1)
    ax.set_ylim(0.0, 3 * profile.cutoff)
    ax.set_xlabel(profile.name)
    ax.set_ylabel(f"rise of the objective ({fit.law.name})")
    return ax


def _axes(ax: Axes | None) -> Axes:
    """The axes that were given, or new ones; matplotlib is imported only now."""
    from analysis.figures.drawing.axes import axes_or_new

    return axes_or_new(ax)
