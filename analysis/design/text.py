"""Runs to add, in words for a terminal."""

from __future__ import annotations

from analysis.design.candidates import NO_SUPPORT
from analysis.design.plan import DesignPlan
from analysis.formatting import counted, format_compute, format_number, format_percent, format_size

FEW_SPENT = 0.8
"""Part of the budget below which a plan is said to be limited by its number of runs."""


def target_words(plan: DesignPlan) -> str:
    """What a plan is for."""
    target = plan.target
    if target.exponent is not None:
        size = "N" if target.exponent == "a" else "D"
        return f"exponent {target.exponent} of {size}_opt ~ C^{target.exponent}"
    if target.flops is not None:
        return f"loss at the optimum of C = {format_compute(target.flops)}"
    return f"loss at N = {format_size(target.params or 0)}, D = {format_size(target.tokens or 0)}"


def plan_lines(plan: DesignPlan, level: float) -> list[str]:
    """Which runs to add, and what they are good for.

    Parameters
    ----------
    plan : DesignPlan
        The plan.
    level : float
        Nominal coverage of its intervals.

    Returns
    -------
    list of str
        Lines.
    """
    return [*_cells(plan), *_widths(plan, level), *_laws(plan), *_sharing(plan), _limits(plan)]


def _width(plan: DesignPlan, value: float) -> str:
    """A half-width: of an exponent as a number, of a loss as a percentage."""
    return format_number(value) if plan.target.exponent is not None else format_percent(value, 3)


def _cells(plan: DesignPlan) -> list[str]:
    """The runs."""
    heading = "" if plan.limits.steps.batch is None else f"{'steps':>8}"
    lines = [
        f"runs to add for the {target_words(plan)}: {counted(plan.num_runs, 'run')} in "
        f"{counted(len(plan.cells), 'cell')}, "
        f"{format_compute(plan.cost, 3)} of {format_compute(plan.budget, 3)} FLOPs ({plan.ladder.convention})",
        f"  {'width x depth':>15} {'N':>8} {'D':>8} {'D/N':>7} {'C each':>9}{heading} {'runs':>5}  seeds",
    ]
    for cell in plan.cells:
        first, last = cell.seeds[0], cell.seeds[-1]
        steps = "" if cell.steps is None else f"{cell.steps:>8,}"
        lines.append(
            f"  {f'{cell.size.width} x {cell.size.depth}':>15} {format_size(cell.size.params):>8} "
            f"{format_size(cell.tokens):>8} {cell.tokens / cell.size.params:>7.3g} {format_compute(cell.flops):>9} "
            f"{steps} {len(cell.seeds):>5}  {first if first == last else f'{first} to {last}'}"
        )
    if plan.cost < FEW_SPENT * plan.budget and plan.num_runs == plan.limits.max_runs:
        lines.append("  the limit is the number of runs (--max-runs), not the budget")
    return lines


def _widths(plan: DesignPlan, level: float) -> list[str]:
    """How well the target is known now, with the runs, and with a uniform grid."""
    expected, half = plan.expected, plan.half_width_now
    known = f"  now: {plan.now.text(4)}"
    if half is not None:
        known += f", half-width {_width(plan, half)} ({100 * level:g} %)"
    return [
        known,
        f"  with these runs: half-width about {_width(plan, expected.median)} "
        f"({_width(plan, expected.low)} to {_width(plan, expected.high)} over draws of the law)",
        f"  with the best uniform grid instead ({counted(plan.num_grid_runs, 'run')}, "
        f"{format_compute(plan.grid_cost, 3)} FLOPs): about {_width(plan, plan.grid.median)}",
    ]


def _laws(plan: DesignPlan) -> list[str]:
    """What other laws say, and how far the plan is from the best one."""
    lines = []
    expected, own = plan.expected, plan.laws[0]
    if len(expected.by_law) > 1:
        by_law = ", ".join(f"{name} {_width(plan, value)}" for name, value in expected.by_law.items())
        lines.append(f"  by law: {by_law}")
    for name, missed in expected.bias.items():
        lines.append(
            f"  if {name} is the true law, {own.fit.law.name} will be off by {_width(plan, missed)} "
            f"(with the grid by {_width(plan, plan.grid.bias[name])})"
        )
    for one in plan.laws:
        if not one.used:
            lines.append(
                f"  {one.fit.law.name} is left out: Akaike's criterion is {one.akaike:.0f} above the best law's"
            )
    if own.akaike > NO_SUPPORT:
        best = min(plan.laws, key=lambda one: one.akaike).fit.law.name
        lines.append(f"  {best} describes the runs better than {own.fit.law.name} (Akaike: {own.akaike:.0f} less)")
    if plan.above_bound is not None:
        certain = ", if the laws were certain" if expected.bias else ""
        narrower = format_percent(plan.above_bound)
        lines.append(f"  no other runs could make it more than {narrower} narrower{certain}")
    return lines


def _sharing(plan: DesignPlan) -> list[str]:
    """Whether runs share prefixes."""
    if plan.share is not None:
        return [
            f"  prefixes are shared ({format_compute(plan.unshared_cost, 3)} FLOPs without sharing); runs of one "
            f"prefix are assumed to share {format_percent(plan.share[1])} of their noise variance: fit with "
            "--cluster trunk"
        ]
    if plan.asked_to_share:
        return ["  independent runs are worth more here than runs that share prefixes"]
    return []


def _limits(plan: DesignPlan) -> str:
    """What could be run."""
    limits = plan.limits
    return (
        f"  limits: N {format_size(limits.min_params)} to {format_size(limits.max_params)}, "
        f"D {format_size(limits.min_tokens)} to {format_size(limits.max_tokens)}, D/N {limits.ratio[0]:.3g} to "
        f"{limits.ratio[1]:.3g}, C from {format_compute(limits.min_flops)}, "
        f"at most {limits.max_runs or 'any number of'} runs, {limits.max_replicates} per cell"
        f"{limits.steps.clause or ' (steps: not known without --template)'}; {plan.ladder.source}"
    )
