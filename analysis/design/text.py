"""Runs to buy, in words for a terminal."""

from __future__ import annotations

import math

from analysis.design.plan import Plan
from analysis.formatting import format_compute, format_number, format_percent, format_size


def target_words(plan: Plan) -> str:
    """What the plan is for."""
    target = plan.target
    if target.exponent is not None:
        size = "N" if target.exponent == "a" else "D"
        return f"exponent {target.exponent} of {size}_opt ~ C^{target.exponent}"
    if target.flops is not None:
        return f"loss at the optimum of C = {format_compute(target.flops)}"
    return f"loss at N = {format_size(target.params or 0)}, D = {format_size(target.tokens or 0)}"


def plan_lines(plan: Plan, level: float) -> list[str]:
    """Which runs to add."""
    limits, exponent = plan.limits, plan.target.exponent is not None

    def width(value: float) -> str:
        return format_number(value) if exponent else format_percent(value, 3)

    lines = [
        f"runs to add for the {target_words(plan)}: {plan.num_runs} runs in {len(plan.cells)} cells, "
        f"{format_compute(plan.cost, 3)} of {format_compute(plan.budget, 3)} FLOPs ({plan.ladder.convention})",
        f"  {'width x depth':>15} {'N':>8} {'D':>8} {'D/N':>7} {'C of one':>9} {'runs':>5}  seeds",
    ]
    for cell in plan.cells:
        first, last = cell.seeds[0], cell.seeds[-1]
        lines.append(
            f"  {f'{cell.size.width} x {cell.size.depth}':>15} {format_size(cell.size.params):>8} "
            f"{format_size(cell.tokens):>8} {cell.tokens / cell.size.params:>7.3g} {format_compute(cell.flops):>9} "
            f"{len(cell.seeds):>5}  {first if first == last else f'{first} to {last}'}"
        )
    if plan.cost < 0.8 * plan.budget and plan.num_runs == limits.max_runs:
        lines.append("  the number of runs is what limits them, not the budget: --max-runs")
    grid_runs = sum(len(cell.seeds) for cell in plan.grid_cells)
    now = plan.now
    if now.lo is None or now.hi is None:
        lines.append(f"  now: {now.text(4)}")
    else:
        half = (now.hi - now.lo) / 2 if exponent else math.log(now.hi / now.lo) / 2
        lines.append(f"  now: {now.text(4)}, half-width {width(half)} ({100 * level:g} %)")
    expected, grid = plan.expected, plan.grid
    lines.append(
        f"  with these runs: half-width about {width(expected.median)} "
        f"({width(expected.low)} to {width(expected.high)} over draws of the law)"
    )
    lines.append(
        f"  with the best uniform grid instead ({grid_runs} runs, {format_compute(plan.grid_cost, 3)} FLOPs): about "
        f"{width(grid.median)}"
    )
    if len(expected.by_law) > 1:
        said = ", ".join(f"{name} {width(value)}" for name, value in expected.by_law.items())
        lines.append(f"  by law: {said}")
    for name, missed in expected.off.items():
        lines.append(
            f"  if {name} held instead, {plan.laws[0].fit.law.name} would be off by {width(missed)} "
            f"(with the grid by {width(grid.off[name])})"
        )
    for one in plan.laws:
        if not one.used:
            lines.append(
                f"  {one.fit.law.name} is left out: Akaike's criterion is {one.akaike:.0f} above the best law's"
            )
    own = plan.laws[0]
    if own.akaike > 10:
        best = min(plan.laws, key=lambda one: one.akaike).fit.law.name
        lines.append(f"  {best} describes the runs better than {own.fit.law.name} (Akaike: {own.akaike:.0f} less)")
    if plan.above_bound is not None:
        certain = ", were the laws certain" if expected.off else ""
        lines.append(f"  other runs could make it {format_percent(plan.above_bound)} narrower at most{certain}")
    if plan.share is not None:
        lines.append(
            f"  trunks are shared: {format_compute(plan.unshared_cost, 3)} FLOPs without; runs of one trunk are taken "
            f"to share {format_percent(plan.share[1])} of their noise's variance: fit with --cluster trunk"
        )
    elif plan.asked_to_share:
        lines.append("  independent runs are worth more here than runs that share trunks")
    lines.append(
        f"  limits: N {format_size(limits.min_params)} to {format_size(limits.max_params)}, "
        f"D {format_size(limits.min_tokens)} to {format_size(limits.max_tokens)}, D/N {limits.ratio[0]:.3g} to "
        f"{limits.ratio[1]:.3g}, at most {limits.max_runs or 'any number of'} runs and {limits.max_replicates} of a "
        f"cell; {plan.ladder.source}"
    )
    return lines
