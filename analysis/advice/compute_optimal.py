"""The compute-optimal size of a budget, between the shapes that exist and on them.

C in floating-point operations, N in parameters, D in tokens. The optimum of a law at given parameters is found by
`analysis.laws.allocation`; this file adds the shapes and the intervals. It must not know which runs to add.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from typing import Any

import numpy as np

from analysis.advice.shapes import Ladder, Size
from analysis.advice.steps import Steps
from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.fitting.derived import frontier_reason, neighbourhood
from analysis.fitting.fit import Fit
from analysis.fitting.reach import why_no_interval
from analysis.formatting import format_compute, format_number, format_percent, format_size, html_table
from analysis.laws.allocation import optimum, supports_frontier

NEIGHBOUR = 1.25
"""Least factor in N between the shapes shown beside the best one."""


@dataclass(frozen=True, kw_only=True)
class TrainedShape:
    """A shape that exists, trained on what the budget pays for."""

    size: Size
    """The shape."""
    tokens: float
    """D = C / FLOPs per token."""
    loss: float
    """Predicted loss."""
    excess: float
    """Loss over that of the optimum, less one."""
    within: bool
    """Whether N lies in the interval of the optimal N."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        own = {name: getattr(self, name) for name in ("tokens", "loss", "excess", "within")}
        return {**self.size.to_dict(), **own}


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """Compute-optimal training at one budget."""

    flops: float
    """C."""
    params: Estimate
    """N between the shapes."""
    tokens: Estimate
    """D there."""
    loss: Estimate
    """Predicted loss there."""
    shapes: tuple[TrainedShape, ...]
    """The best shape and its neighbours, ascending in N."""
    warning: str | None = None
    """Why no law tells the loss of the best shape: it takes too few optimiser steps; None where that is not known."""

    def __repr__(self) -> str:
        return (
            f"Optimum(C = {format_compute(self.flops)}: N {self.params}, D {self.tokens}, loss {self.loss}{self._said})"
        )

    @property
    def _said(self) -> str:
        return "" if self.warning is None else f"; warning: {self.warning}"

    def _repr_html_(self) -> str:
        """The optimum with its intervals and the shapes about it, for notebooks."""
        rows = [
            (
                f"{shape.size.width} x {shape.size.depth}",
                format_size(shape.size.params),
                format_size(shape.tokens),
                format_number(shape.loss, 4),
                format_percent(shape.excess),
            )
            for shape in self.shapes
        ]
        head = ("width x depth", "N", "D", "loss", "above the optimum")
        best = f"N {self.params}, D {self.tokens}, loss {self.loss}"
        title = f"Best at C = {format_compute(self.flops)}: {best}"
        title += self._said
        return f"<p>{escape(title)}</p>{html_table(head, rows)}"

    @property
    def best(self) -> TrainedShape:
        """The shape of least predicted loss."""
        return min(self.shapes, key=lambda shape: shape.loss)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "flops": self.flops,
            **{name: getattr(self, name).to_dict() for name in ("params", "tokens", "loss")},
            "shapes": [shape.to_dict() for shape in self.shapes],
            "best": self.best.to_dict(),
        }


def check_law(fit: Fit) -> None:
    """UserError unless the law has a frontier of params and tokens."""
    if not supports_frontier(fit.law):
        raise UserError(
            f"{fit.law.name} is no law of params and tokens, so nothing is optimal for a budget; fit hoffmann"
        )


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def compute_optimal(
    fit: Fit, flops: float, ladder: Ladder, *, neighbours: int = 2, steps: Steps | None = None
) -> Optimum:
    """N, D and loss at the optimum of a budget, and the shapes about it.

    Parameters
    ----------
    fit : Fit
        Of a law of params and tokens.
    flops : float
        C.
    ladder : Ladder
        Shapes, which also say what a token costs between them.
    neighbours : int
        Shapes shown on either side of the best one.
    steps : Steps, optional
        How many steps a run takes; by default with the batch of the fit's runs, where all have the same.

    Returns
    -------
    Optimum
        With intervals, or the reason why there are none.
    """
    near = neighbourhood(fit)
    at = np.array([np.log(flops)])
    middle, about = (optimum(fit.law, theta, at, ladder.per_token) for theta in (near.centre, near.about))
    reason = frontier_reason(fit)
    params, tokens = (
        near.interval(float(np.exp(value[0, 0])), np.exp(values[:, 0]), reason=reason)
        for value, values in zip(middle[:2], about[:2], strict=True)
    )
    place = {"params": np.exp(middle[0][0]), "tokens": np.exp(middle[1][0])}
    (unknown,) = why_no_interval(fit, place)  # as `predict` says of the same point
    loss = near.interval(float(middle[2][0, 0]), about[2][:, 0], log=bool(middle[2] > 0), reason=unknown)
    amounts = np.array([flops / size.flops_per_token for size in ladder.sizes])
    losses = fit.law(near.centre[0], {"params": ladder.params, "tokens": amounts})
    shapes = tuple(
        TrainedShape(
            size=ladder.sizes[i],
            tokens=float(amounts[i]),
            loss=float(losses[i]),
            excess=float(losses[i] / loss.value - 1),
            within=params.covers(ladder.sizes[i].params),
        )
        for i in _spaced(ladder.params, int(np.nanargmin(losses)), neighbours)
    )
    found = Optimum(flops=flops, params=params, tokens=tokens, loss=loss, shapes=shapes)
    complaint = (steps or Steps.of_runs(fit.runs)).complaint(found.best.size.params, found.best.tokens)
    return found if complaint is None else replace(found, warning=f"the best run for {flops:.3g} FLOPs {complaint}")


def _spaced(params: Array, best: int, neighbours: int) -> list[int]:
    """The best size and its neighbours, each at least NEIGHBOUR times the size of the one before."""
    shown = [best]
    for step in (-1, 1):
        place, last, count = best, best, 0
        while 0 <= place + step < params.size and count < neighbours:
            place += step
            if abs(np.log(params[place] / params[last])) >= np.log(NEIGHBOUR):
                shown.append(place)
                last, count = place, count + 1
    return sorted(shown)
