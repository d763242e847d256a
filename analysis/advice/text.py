"""Advice in words for a terminal: what to train for a budget, what training longer costs, the price of a loss."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.advice.compute_optimal import Optimum
from analysis.advice.overtraining import Overtraining
from analysis.advice.shapes import Ladder
from analysis.advice.target_loss import TargetLoss
from analysis.estimate import Estimate, percent_text
from analysis.formatting import format_compute, format_number, format_percent, format_size


def sized(estimate: Estimate) -> str:
    """A count with its interval: `72.6B (51.6B, 112B)`."""
    if estimate.lo is None or estimate.hi is None:
        value = format_size(estimate.value) if math.isfinite(estimate.value) else "none"
        return f"{value} (no interval: {estimate.reason})"
    return f"{format_size(estimate.value)} ({format_size(estimate.lo)}, {format_size(estimate.hi)})"


def computed(estimate: Estimate) -> str:
    """A count of floating-point operations with its interval: `3.0e18 (2.1e18, 4.4e18)`."""
    if estimate.lo is None or estimate.hi is None:
        value = format_compute(estimate.value) if math.isfinite(estimate.value) else "none"
        return f"{value} (no interval: {estimate.reason})"
    return f"{format_compute(estimate.value)} ({format_compute(estimate.lo)}, {format_compute(estimate.hi)})"


def optimum_lines(found: Optimum, ladder: Ladder, level: float) -> list[str]:
    """What to train for a budget.

    Parameters
    ----------
    found : Optimum
        The optimum.
    ladder : Ladder
        Its shapes, with their source and convention.
    level : float
        Nominal coverage of the intervals.

    Returns
    -------
    list of str
        Lines.
    """
    best = found.best
    lines = [
        f"compute-optimal at C = {format_compute(found.flops)} ({ladder.convention}), {100 * level:g} % intervals:",
        f"  N {sized(found.params)}   D {sized(found.tokens)}   loss {found.loss.text(4)}",
        f"  shapes near it ({ladder.source}):",
        f"  {'width x depth':>15} {'N':>8} {'D':>8} {'D/N':>7} {'loss':>8} {'above optimum':>14}",
    ]
    for shape in found.shapes:
        size = shape.size
        marks = ["best"] if shape is best else []
        if shape.within:
            marks.append("in the interval of N")
        lines.append(
            f"  {f'{size.width} x {size.depth}':>15} {format_size(size.params):>8} {format_size(shape.tokens):>8} "
            f"{shape.tokens / size.params:>7.3g} {format_number(shape.loss, 5):>8} "
            f"{format_percent(shape.excess):>14}  {', '.join(marks)}".rstrip()
        )
    return lines


def overtraining_lines(
    rows: Sequence[Overtraining], *, inference_tokens: float | None = None, cheapest: Estimate | None = None
) -> list[str]:
    """What training longer costs and saves.

    Parameters
    ----------
    rows : sequence of Overtraining
        One for each factor.
    inference_tokens : float, optional
        Tokens that the model will generate.
    cheapest : Estimate, optional
        The factor at which training and inference together cost least.

    Returns
    -------
    list of str
        Lines.
    """
    lines = ["training longer than optimal: k times the tokens per parameter"]
    for row in rows:
        lines += [
            f"  k = {row.factor:g}, same loss: N {sized(row.params)}, D {sized(row.tokens)}",
            f"    training costs {row.training.text(4)} times the FLOPs, "
            f"a generated token {row.inference.text(3)} times",
            f"    cheaper in total from {sized(row.break_even_tokens)} generated tokens on",
            f"    with the same compute instead: loss {percent_text(row.same_compute_loss)} higher",
        ]
        if row.total_flops is not None and inference_tokens is not None:
            lines.append(
                f"    with {format_size(inference_tokens)} generated tokens, in total: {computed(row.total_flops)}"
            )
    if cheapest is not None and inference_tokens is not None:
        lines.append(f"  {format_size(inference_tokens)} generated tokens are cheapest at k = {cheapest.text(2)}")
    return lines


def target_lines(found: TargetLoss, ladder: Ladder) -> list[str]:
    """What a target loss costs.

    Parameters
    ----------
    found : TargetLoss
        Its price.
    ladder : Ladder
        Says how compute is counted.

    Returns
    -------
    list of str
        Lines.
    """
    floor = "" if found.floor is None else f" (irreducible loss {found.floor.text(4)})"
    if found.reachable == "no":
        return [f"a loss of {found.loss:g} cannot be reached{floor}"]
    lines = [f"a loss of {found.loss:g}{floor}"]
    if found.reachable == "unsure":
        share = "" if found.share is None else f": {100 * found.share:.0f} % of the bootstrap draws reach it"
        lines.append(f"  the runs do not determine whether it can be reached{share}")
    lines.append(f"  C {computed(found.flops)} ({ladder.convention})")
    if found.flops.has_interval:
        lines.append(f"  N {sized(found.params)}   D {sized(found.tokens)}")
    elif math.isfinite(found.flops.value):
        lines.append(
            f"  N {format_size(found.params.value)}   D {format_size(found.tokens.value)} (no interval: as of C)"
        )
    return lines
