"""`isoflop advise fit.json`: the optimum of a budget, the price of a loss, or the runs to add next.

JSON, with null for what was not asked:
`{"optimum", "overtraining", "inference_tokens", "cheapest_factor", "target_loss", "plan", "convention"}`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from analysis.advice.compute_optimal import Optimum, check_law, compute_optimal
from analysis.advice.overtraining import cheapest_factor, overtraining
from analysis.advice.shapes import EVERY_SIZE, Ladder, ShapeRules, build_ladder
from analysis.advice.steps import Steps, short_runs
from analysis.advice.target_loss import target_loss
from analysis.advice.text import optimum_lines, overtraining_lines, target_lines
from analysis.arrays import Array
from analysis.design.cells import PlannedCell, RunLimits
from analysis.design.plan import Robustness, Sharing, plan_runs
from analysis.design.sweep_file import Template, read_template
from analysis.design.target import Target
from analysis.design.text import plan_lines, target_words
from analysis.errors import UserError
from analysis.files import json_text
from analysis.fitting.fit import Fit
from analysis.verbs.arguments import add_fit_argument, add_json_argument, parse_numbers, parse_point
from experiments.config.designs import MIN_LAW_STEPS
from experiments.files import write_atomic

DECAY_FRACTION = 0.2
"""Part of a run that decays where neither an option nor a template says it."""
ANSWER = (
    "optimum",
    "overtraining",
    "inference_tokens",
    "cheapest_factor",
    "target_loss",
    "plan",
    "convention",
)
"""Keys of the JSON; null stands for what was not asked."""
LIMITS = ("min_params", "max_params", "min_tokens", "max_tokens", "min_flops", "max_runs", "max_replicates")
"""Options that limit the runs that may be added."""
WIDEST_HEAD = 64
"""Heads are as wide as the narrowest model of the fit's runs, and at most this."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_fit_argument(parser)
    what = parser.add_argument_group("questions")
    what.add_argument(
        "--budget", type=float, metavar="FLOPS", help="FLOPs of one run; with --at or --for, of all runs to add"
    )
    what.add_argument(
        "--at", metavar="NAME=VALUE,...", help="choose runs to predict the loss at flops=C or params=N,tokens=D"
    )
    what.add_argument(
        "--for", dest="exponent", choices=("a", "b"), help="choose runs to determine an exponent of the frontier"
    )
    what.add_argument("--target-loss", type=float, metavar="L", help="the compute that this loss costs")
    what.add_argument(
        "--overtrain", default="2,4,10", metavar="K,...", help="factors on tokens per parameter (default 2,4,10)"
    )
    what.add_argument("--inference-tokens", type=float, metavar="T", help="tokens that the model will generate")
    cells = parser.add_argument_group("limits of the runs to add (default: those of the fitted runs)")
    for name in ("params", "tokens"):
        cells.add_argument(f"--min-{name}", type=float, metavar="N", help=f"minimum {name} of a run")
        cells.add_argument(f"--max-{name}", type=float, metavar="N", help=f"maximum {name} of a run")
    cells.add_argument("--min-flops", type=float, metavar="C", help="minimum FLOPs of a run")
    cells.add_argument(
        "--min-steps",
        type=int,
        default=MIN_LAW_STEPS,
        metavar="K",
        help="minimum optimiser steps of a run, with the template's recipe or the batch size of the fitted runs "
        f"(default {MIN_LAW_STEPS}: laws do not hold for much shorter runs)",
    )
    cells.add_argument("--ratio", metavar="LO:HI", help="range of tokens per parameter")
    cells.add_argument("--max-runs", type=int, default=200, metavar="K", help="maximum number of runs (default 200)")
    cells.add_argument(
        "--max-replicates", type=int, default=5, metavar="K", help="maximum seeds per size and tokens (default 5)"
    )
    cells.add_argument(
        "--laws", metavar="A,B,...", help="other laws that may be true (default: those that the runs support)"
    )
    cells.add_argument("--draws", type=int, default=16, metavar="K", help="parameter draws of each law (default 16)")
    cells.add_argument("--seed", type=int, default=0, help="seed of the draws of other laws")
    cells.add_argument(
        "--share-prefixes", action="store_true", help="let runs of a size and seed share their steps before the decay"
    )
    cells.add_argument("--decay-fraction", type=float, metavar="F", help="fraction of a run that decays (default .2)")
    cells.add_argument(
        "--trunk-correlation",
        type=float,
        metavar="R",
        help="fraction of the noise variance common to runs of a shared prefix (default: that of the fit, else .5)",
    )
    shapes = parser.add_argument_group("shapes")
    shapes.add_argument("--template", type=Path, metavar="SWEEP", help="sweep with corpus, context, model and recipe")
    shapes.add_argument("--vocab-size", type=int, metavar="V", help="token ids (default: the template's or the runs')")
    shapes.add_argument("--context", type=int, metavar="T", help="tokens in a sequence (default: the template's)")
    shapes.add_argument("--head-width", type=int, metavar="W", help="width of one head (default: the template's)")
    out = parser.add_argument_group("output")
    out.add_argument("--out", type=Path, metavar="FILE", help="write the runs as a sweep file; needs --template")
    out.add_argument("--name", help="name of that sweep (default: the file's stem)")
    out.add_argument("--figure", type=Path, metavar="PNG", help="draw existing runs, added runs and the target")
    add_json_argument(out)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an answer is made from."""

    args: argparse.Namespace
    """Options."""
    fit: Fit
    """The fit."""
    template: Template | None
    """The sweep whose data and recipe the next one takes over; None without."""

    @property
    def steps(self) -> Steps:
        """How many steps a run takes: under the template's recipe, else with the batch of the fit's runs."""
        if self.template is not None:
            return self.template.steps(self.args.min_steps)
        return Steps.of_runs(self.fit.runs, self.args.min_steps)

    def ladder(self, low: float, high: float) -> Ladder:
        """Shapes from `low` to `high`, counted as the fit's compute was."""
        runs = self.fit.runs
        known = self.template is not None or self.args.context is not None or (runs is not None and "context" in runs)
        return build_ladder(self.fit, shape_rules(self), low, high, from_config=known)

    def write(self, cells: list[PlannedCell], what: str) -> None:
        """Write cells as a sweep file, where that was asked for."""
        out, template, law = self.args.out, self.template, self.fit.law.name
        if out is None or template is None:
            return
        source = f"advised from {Path(self.args.fit).name} ({law}) for {self.args.budget:.3g} FLOPs"
        notes = f"{what}, {source}.\nData, model, recipe and schedule are those of {template.path.name}."
        write_atomic(out, template.next_sweep(name=self.args.name or out.stem, cells=cells, law=law, notes=notes))


def run(args: argparse.Namespace) -> int:
    """Answer, write, print."""
    fit = Fit.load(args.fit)
    check_law(fit)
    for doubt in (fit.doubt, short_runs(fit.runs, args.min_steps)):
        if doubt is not None:
            print(f"warning: {doubt}", file=sys.stderr)
    target = parse_target(args.at, args.exponent)
    check_questions(args, target)
    template = None if args.template is None else read_template(args.template)
    asked = Asked(args=args, fit=fit, template=template)
    answer, lines = budget_and_loss(asked) if target is None else runs_to_add(asked, target)
    print(json_text({key: answer.get(key) for key in ANSWER}) if args.json else "\n".join(lines))
    return 0


def parse_target(at: str | None, exponent: str | None) -> Target | None:
    """What runs are to be added for.

    Parameters
    ----------
    at : str or None
        --at.
    exponent : str or None
        --for.

    Returns
    -------
    Target or None
        None when neither was given.

    Raises
    ------
    UserError
        When both were given, or --at names something else.
    """
    if at is not None and exponent is not None:
        raise UserError("give one of --at and --for: runs are added for one target at a time")
    if at is not None:
        point = parse_point(at)
        if set(point) not in ({"flops"}, {"params", "tokens"}):
            raise UserError(f"cannot aim at --at {at!r}; write flops=1e21, or params=7e9,tokens=1.4e12")
        return Target(flops=point.get("flops"), params=point.get("params"), tokens=point.get("tokens"))
    if exponent is None:
        return None
    return Target(exponent="a" if exponent == "a" else "b")


def check_questions(args: argparse.Namespace, target: Target | None) -> None:
    """UserError for options that do not go together."""
    if args.budget is None and args.target_loss is None:
        raise UserError("nothing is asked: give --budget FLOPS, with --at or --for to add runs, or --target-loss L")
    if target is not None and args.budget is None:
        raise UserError("runs are added for a budget; give --budget with the training FLOPs to spend on them")
    if args.budget is not None and not (np.isfinite(args.budget) and args.budget > 0):
        raise UserError(f"--budget is {args.budget:g}; give training FLOPs above zero, such as 1e20")
    if args.out is not None and args.template is None:
        raise UserError("--out writes a sweep, which needs corpus, context and recipe: give --template SWEEP.yaml")
    if args.out is not None and args.budget is None:
        raise UserError("--out writes runs for a budget; give --budget")
    if args.figure is not None and target is None:
        raise UserError("--figure draws runs to add; give --at or --for with --budget")


def shape_rules(asked: Asked) -> ShapeRules:
    """Rules of the shapes: given on the command line, by the template, by the existing runs, or defaults.

    Parameters
    ----------
    asked : Asked
        The command line, with the fit and the template that it names.

    Returns
    -------
    ShapeRules
        What fixes a model apart from width and depth.

    Raises
    ------
    UserError
        For an option that is no whole number above zero.
    """
    args, runs = asked.args, asked.fit.runs
    trained: list[tuple[int, int]] = []
    if runs is not None and {"width", "depth"} <= set(runs):
        trained = sorted({(int(w), int(d)) for w, d in zip(runs["width"], runs["depth"], strict=True)})
    if asked.template is not None:
        rules = asked.template.rules(vocab_size=args.vocab_size or _constant(runs, "vocab"), trained=trained)
    else:
        rules = _rules_of_runs(runs, trained)
    for name in ("vocab_size", "context", "head_width"):
        value = getattr(args, name)
        if value is None:
            continue
        if value < 1:
            raise UserError(f"--{name.replace('_', '-')} is {value}; give a whole number above zero")
        rules = replace(rules, **{name: value})
    return rules


def _rules_of_runs(runs: Mapping[str, Array] | None, trained: list[tuple[int, int]]) -> ShapeRules:
    """The rules that the existing runs say, with defaults for what they do not."""
    rules = ShapeRules()
    vocab_size, context = _constant(runs, "vocab"), _constant(runs, "context")
    if vocab_size is not None:
        rules = replace(rules, vocab_size=vocab_size)
    if context is not None:
        rules = replace(rules, context=context)
    if trained:
        head_width = max(2, min(WIDEST_HEAD, min(width for width, _ in trained)))
        rules = replace(rules, trained=trained, source="shapes as in the fitted runs", head_width=head_width)
    return rules


def _constant(runs: Mapping[str, Array] | None, name: str) -> int | None:
    """The one value that all existing runs have, where they have one."""
    if runs is None or name not in runs or np.unique(runs[name]).size != 1:
        return None
    return int(runs[name][0])


def budget_and_loss(asked: Asked) -> tuple[dict[str, Any], list[str]]:
    """The optimum of a budget, training longer, and the price of a loss: parts of the JSON, and lines."""
    args, fit = asked.args, asked.fit
    ladder = asked.ladder(*EVERY_SIZE)
    answer: dict[str, Any] = {"inference_tokens": args.inference_tokens, "convention": ladder.convention}
    lines: list[str] = []
    if args.budget is not None:
        found = compute_optimal(fit, args.budget, ladder, steps=asked.steps)
        factors = parse_numbers(args.overtrain, "--overtrain")
        rows = overtraining(fit, args.budget, factors, ladder, inference_tokens=args.inference_tokens)
        cheapest = None
        if args.inference_tokens is not None:
            cheapest = cheapest_factor(fit, args.budget, args.inference_tokens, ladder)
            answer["cheapest_factor"] = cheapest.to_dict()
        answer |= {"optimum": found.to_dict(), "overtraining": [row.to_dict() for row in rows]}
        lines += optimum_lines(found, ladder, fit.level)
        lines += overtraining_lines(rows, inference_tokens=args.inference_tokens, cheapest=cheapest)
        best = planned_optimum(asked, found)
        asked.write([best], "The compute-optimal run of a budget")
    if args.target_loss is not None:
        priced = target_loss(fit, args.target_loss, ladder)
        answer["target_loss"] = priced.to_dict()
        lines += target_lines(priced, ladder)
    return answer, lines


def planned_optimum(asked: Asked, found: Optimum) -> PlannedCell:
    """The compute-optimal run as it would be trained.

    Parameters
    ----------
    asked : Asked
        The command line, with the fit and the template that it names.
    found : Optimum
        What the budget buys.

    Returns
    -------
    PlannedCell
        One run.

    Raises
    ------
    UserError
        When it is to be written although it takes too few steps.
    """
    if found.warning is not None:
        if asked.args.out is not None:
            raise UserError(f"{found.warning}; raise --budget, or lower recipe.batch_tokens of the template")
        print(f"warning: {found.warning}", file=sys.stderr)
    shape = found.best
    steps = asked.steps.count(shape.size.params, shape.tokens)
    return PlannedCell(size=shape.size, tokens=shape.tokens, seeds=(0,), steps=steps)


def runs_to_add(asked: Asked, target: Target) -> tuple[dict[str, Any], list[str]]:
    """The design: parts of the JSON, and lines."""
    args, fit = asked.args, asked.fit
    given = {name: getattr(args, name) for name in LIMITS}
    limits = RunLimits.of(fit, ratio=parse_ratio(args.ratio), steps=asked.steps, **given)
    ladder = asked.ladder(limits.min_params, limits.max_params)
    laws = None if args.laws is None else args.laws.split(",")
    plan = plan_runs(
        fit,
        target,
        args.budget,
        ladder=ladder,
        limits=limits,
        robustness=Robustness(laws=laws, draws=args.draws, seed=args.seed),
        sharing=Sharing(decay_fraction=decay_fraction(asked), correlation=args.trunk_correlation),
    )
    asked.write(list(plan.cells), f"Runs for the {target_words(plan)}")
    if args.figure is not None:
        from analysis.figures.design import SIZE, draw_design
        from analysis.figures.drawing.render import save_png

        save_png(partial(draw_design, fit, plan), args.figure, size=SIZE)
    return {"plan": plan.to_dict(), "convention": ladder.convention}, plan_lines(plan, fit.level)


def parse_ratio(text: str | None) -> tuple[float, float] | None:
    """`5:300` -> tokens per parameter; UserError for anything else."""
    if text is None:
        return None
    ends = parse_numbers(text, "--ratio", ":")
    if len(ends) != 2:
        raise UserError(f"--ratio {text!r} is no range; write LO:HI, such as 5:300")
    return ends[0], ends[1]


def decay_fraction(asked: Asked) -> float | None:
    """Part of a run that decays where runs may share prefixes.

    Parameters
    ----------
    asked : Asked
        The command line, with the fit and the template that it names.

    Returns
    -------
    float or None
        As given, by the template, or DECAY_FRACTION; None when runs may not share prefixes.

    Raises
    ------
    UserError
        When the template's schedule does not decay at the end, or for a part that is not above 0 and up to 1.
    """
    fraction: float | None = asked.args.decay_fraction
    if fraction is None:
        if not asked.args.share_prefixes:
            return None
        fraction = DECAY_FRACTION if asked.template is None else asked.template.decay_fraction
    if fraction is None:
        raise UserError(f"the schedule of {asked.args.template} does not decay at the end, so no runs share a prefix")
    if not 0 < fraction <= 1:
        raise UserError(f"--decay-fraction is {fraction:g}; give a part of the run above 0 and up to 1")
    return fraction
