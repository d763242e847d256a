"""`python -m analysis advise fit.json`: what to run next: the optimum of a budget, the price of a loss, or the runs
that make a prediction surest."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.advice.ladder import ShapeRules, build_ladder
from analysis.advice.optimum import check_law, compute_optimal
from analysis.advice.overtraining import cheapest_factor, overtraining
from analysis.advice.target_loss import target_loss
from analysis.design.cells import Limits
from analysis.design.plan import Plan, plan_runs
from analysis.design.sweep_file import Template, read_template
from analysis.design.target import Target
from analysis.errors import UserError
from analysis.files import json_ready
from analysis.fitting.fit import Fit
from analysis.verbs.predict import parse_point
from experiments.files import write_atomic

EVERY_SIZE = (1e2, 1e13)
"""N between which shapes are looked at for a budget or a loss."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("fit", metavar="FIT", help="fit.json, written by `fit --out`")
    what = parser.add_argument_group("questions")
    what.add_argument("--budget", type=float, metavar="FLOPS", help="training FLOPs: of one run, or of the runs to add")
    what.add_argument("--at", metavar="NAME=VALUE,...", help="add runs for the loss at flops=C or params=N,tokens=D")
    what.add_argument("--for", dest="exponent", choices=("a", "b"), help="add runs for an exponent of the frontier")
    what.add_argument("--target-loss", type=float, metavar="L", help="what this loss costs")
    what.add_argument("--overtrain", default="2,4,10", metavar="K,...", help="factors on D/N (default 2,4,10)")
    what.add_argument("--inference-tokens", type=float, metavar="T", help="tokens that the model will generate")
    cells = parser.add_argument_group("runs that may be added (limits by default: those of the fit's own runs)")
    for name in ("params", "tokens"):
        cells.add_argument(f"--min-{name}", type=float, metavar="N", help=f"fewest {name} of a run")
        cells.add_argument(f"--max-{name}", type=float, metavar="N", help=f"most {name} of a run")
    cells.add_argument("--ratio", metavar="LO:HI", help="tokens per parameter")
    cells.add_argument("--max-runs", type=int, default=200, metavar="K", help="most runs (default 200)")
    cells.add_argument("--max-replicates", type=int, default=5, metavar="K", help="most seeds of a cell (default 5)")
    cells.add_argument("--laws", metavar="A,B,...", help="laws to be robust to (default: those that the runs support)")
    cells.add_argument("--draws", type=int, default=16, metavar="K", help="draws of each law (default 16)")
    cells.add_argument("--seed", type=int, default=0, help="seed of the draws of other laws")
    cells.add_argument(
        "--share-prefixes", action="store_true", help="runs of a size and seed may share the trunk before their decay"
    )
    cells.add_argument("--decay-fraction", type=float, metavar="F", help="part of a run that decays (default .2)")
    cells.add_argument(
        "--trunk-correlation", type=float, metavar="R",
        help="share of the noise's variance within a trunk (default: as in the fit's clusters, else .5)",
    )  # fmt: skip
    shapes = parser.add_argument_group("shapes")
    shapes.add_argument("--template", type=Path, metavar="SWEEP", help="sweep file: corpus, context, model, recipe")
    shapes.add_argument("--vocab-size", type=int, metavar="V", help="token ids (default: the template's or the runs')")
    shapes.add_argument("--context", type=int, metavar="T", help="tokens in a sequence (default: the template's)")
    shapes.add_argument("--head-width", type=int, metavar="W", help="width of one head (default: the template's)")
    out = parser.add_argument_group("output")
    out.add_argument("--out", type=Path, metavar="FILE", help="write the runs as a sweep file; needs --template")
    out.add_argument("--name", help="name of that sweep (default: the file's stem)")
    out.add_argument("--figure", type=Path, metavar="PNG", help="draw existing runs, added runs and the target")
    out.add_argument("--json", action="store_true", help="one JSON object on standard output")


def parse_numbers(text: str, option: str, separator: str = ",") -> list[float]:
    """`2,4,10` -> numbers."""
    try:
        return [float(piece) for piece in text.split(separator)]
    except ValueError:
        raise UserError(f"{option} {text!r} is no list of numbers; write them with {separator!r} between") from None


def parse_target(at: str | None, exponent: str | None) -> Target | None:
    """What runs are to be added for; None when nothing was asked."""
    if at is None and exponent is None:
        return None
    if at is not None and exponent is not None:
        raise UserError("give one of --at and --for: runs are added for one target at a time")
    if at is None:
        return Target(exponent=exponent)
    point = parse_point(at)
    if set(point) not in ({"flops"}, {"params", "tokens"}):
        raise UserError(f"cannot aim at --at {at!r}; write flops=1e21, or params=7e9,tokens=1.4e12")
    return Target(flops=point.get("flops"), params=point.get("params"), tokens=point.get("tokens"))


def _constant(runs: Mapping[str, Any] | None, name: str) -> int | None:
    """The one value that all existing runs have, where they have one."""
    if runs is None or name not in runs or np.unique(runs[name]).size != 1:
        return None
    return int(runs[name][0])


def shape_rules(args: argparse.Namespace, fit: Fit, template: Template | None) -> ShapeRules:
    """Rules of the shapes: given on the command line, by the template, by the existing runs, or defaults."""
    runs = fit.runs
    trained: list[tuple[int, int]] = []
    if runs is not None and {"width", "depth"} <= set(runs):
        trained = sorted({(int(w), int(d)) for w, d in zip(runs["width"], runs["depth"], strict=True)})
    given = {"vocab_size": args.vocab_size, "context": args.context, "head_width": args.head_width}
    if template is not None:
        rules = template.rules(vocab_size=args.vocab_size or _constant(runs, "vocab"), trained=trained)
    else:
        known = {"vocab_size": _constant(runs, "vocab"), "context": _constant(runs, "context")}
        fields: dict[str, Any] = {name: value for name, value in known.items() if value is not None}
        if trained:
            fields |= {"trained": trained, "source": "shapes after the fit's own runs"}
            fields["head_width"] = max(2, min(64, min(width for width, _ in trained)))
        rules = ShapeRules(**fields)
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name, value in changes.items():
        if value < 1:
            raise UserError(f"--{name.replace('_', '-')} is {value}; give a whole number above zero")
    return replace(rules, **changes)


def run(args: argparse.Namespace) -> int:
    """Answer and print."""
    fit = Fit.load(args.fit)
    if fit.doubt is not None:
        print(f"warning: {fit.doubt}", file=sys.stderr)
    check_law(fit)
    target = parse_target(args.at, args.exponent)
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
    template = None if args.template is None else read_template(args.template)
    rules = shape_rules(args, fit, template)
    if target is not None:
        return _runs_to_add(args, fit, target, template, rules)
    return _what_a_budget_buys(args, fit, template, rules)


def _what_a_budget_buys(args: argparse.Namespace, fit: Fit, template: Template | None, rules: ShapeRules) -> int:
    """The optimum of a budget, training longer, and the price of a loss."""
    from analysis.advice import text

    known = template is not None or args.context is not None or (fit.runs is not None and "context" in fit.runs)
    ladder = build_ladder(fit, rules, *EVERY_SIZE, from_config=known)
    found = rows = cheapest = priced = None
    lines: list[str] = []
    if args.budget is not None:
        found = compute_optimal(fit, args.budget, ladder)
        rows = overtraining(
            fit, args.budget, parse_numbers(args.overtrain, "--overtrain"), ladder,
            inference_tokens=args.inference_tokens,
        )  # fmt: skip
        if args.inference_tokens is not None:
            cheapest = cheapest_factor(fit, args.budget, args.inference_tokens, ladder)
        lines += text.optimum_lines(found, ladder, fit.level)
        lines += text.overtraining_lines(rows, inference_tokens=args.inference_tokens, cheapest=cheapest)
    if args.target_loss is not None:
        priced = target_loss(fit, args.target_loss, ladder)
        lines += text.target_lines(priced, ladder)
    if args.out is not None and template is not None and found is not None:
        best = found.best
        cells = [(best.size, best.tokens, [0])]
        _write(args, template, cells, fit, "The compute-optimal run of a budget")
    report = _report(
        optimum=None if found is None else found.to_dict(),
        overtraining=None if rows is None else [row.to_dict() for row in rows],
        inference_tokens=args.inference_tokens,
        cheapest_factor=None if cheapest is None else cheapest.to_dict(),
        target_loss=None if priced is None else priced.to_dict(),
        plan=None,
        convention=ladder.convention,
    )
    return _print(args, report, lines)


def _runs_to_add(
    args: argparse.Namespace, fit: Fit, target: Target, template: Template | None, rules: ShapeRules
) -> int:
    """The design."""
    from analysis.design.text import plan_lines, target_words

    ratio = None
    if args.ratio is not None:
        ends = parse_numbers(args.ratio, "--ratio", ":")
        if len(ends) != 2:
            raise UserError(f"--ratio {args.ratio!r} is no range; write LO:HI, such as 5:300")
        ratio = (ends[0], ends[1])
    names = ("min_params", "max_params", "min_tokens", "max_tokens", "max_runs", "max_replicates")
    limits = Limits.of(fit, ratio=ratio, **{name: getattr(args, name) for name in names})
    known = template is not None or args.context is not None or (fit.runs is not None and "context" in fit.runs)
    ladder = build_ladder(fit, rules, limits.min_params, limits.max_params, from_config=known)
    fraction = None
    if args.share_prefixes or args.decay_fraction is not None:
        fraction = args.decay_fraction
        if fraction is None:
            fraction = 0.2 if template is None else template.decay_fraction
        if fraction is None:
            raise UserError(f"the schedule of {args.template} does not decay at the end, so no runs share a trunk")
        if not 0 < fraction <= 1:
            raise UserError(f"--decay-fraction is {fraction:g}; give a part of the run above 0 and up to 1")
    plan = plan_runs(
        fit, target, args.budget, ladder=ladder, limits=limits,
        laws=None if args.laws is None else args.laws.split(","),
        decay_fraction=fraction, correlation=args.trunk_correlation, draws=args.draws, seed=args.seed,
    )  # fmt: skip
    if args.out is not None and template is not None:
        cells = [(cell.size, cell.tokens, list(cell.seeds)) for cell in plan.cells]
        _write(args, template, cells, fit, f"Runs for the {target_words(plan)}")
    if args.figure is not None:
        _draw(args.figure, fit, plan)
    report = _report(
        optimum=None, overtraining=None, inference_tokens=None, cheapest_factor=None, target_loss=None,
        plan=plan.to_dict(), convention=ladder.convention,
    )  # fmt: skip
    return _print(args, report, plan_lines(plan, fit.level))


def _report(**parts: Any) -> dict[str, Any]:
    """Parts of the answer as plain JSON; what was not asked for is null."""
    return dict(json_ready(parts))


def _write(args: argparse.Namespace, template: Template, cells: list[Any], fit: Fit, what: str) -> None:
    notes = f"{what}, advised from {Path(args.fit).name} ({fit.law.name}) for {args.budget:.3g} FLOPs.\n"
    notes += f"Data, model, recipe and schedule are those of {template.path.name}."
    name = args.name or args.out.stem
    write_atomic(args.out, template.sweep(name=name, cells=cells, law=fit.law.name, notes=notes))


def _draw(path: Path, fit: Fit, plan: Plan) -> None:
    from analysis.figures.design import draw_advice
    from analysis.figures.drawing.render import save_png

    save_png(lambda figure, theme: draw_advice(fit, plan, figure, theme), path, size=(8.6, 4.2))


def _print(args: argparse.Namespace, report: dict[str, Any], lines: list[str]) -> int:
    if args.json:
        print(json.dumps(report, allow_nan=False))
    else:
        print("\n".join(lines))
    return 0
