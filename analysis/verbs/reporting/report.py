"""`isoflop report TABLE...`: one self-contained page with figures, tables and the held-out prediction."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from analysis.errors import UserError
from analysis.estimate import percent_text
from analysis.files import json_ready
from analysis.frontiers.compare import SIMULATIONS
from analysis.frontiers.curves import METHODS
from analysis.study.build import build_study, load_manifest
from analysis.study.study import Choices, Study
from analysis.verbs.arguments import (
    add_draws_arguments,
    add_json_argument,
    add_method_argument,
    add_table_arguments,
    parse_columns,
)
from analysis.verbs.fitting.isoflop import check_bootstrap
from experiments.manifests import Manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    add_table_arguments(parser)
    parser.add_argument("--out", metavar="DIR", help="folder of the report (default: reports/NAME)")
    parser.add_argument(
        "--holdout",
        metavar="EXPR",
        help="runs to hold out of the fit (default: the sweep's choice, else the largest budget)",
    )
    parser.add_argument(
        "--law",
        help="law of params and tokens that is fitted and predicts the held-out runs, or auto for a weighted set of "
        "laws (default: the sweep's choice, else hoffmann is fitted and a weighted set predicts)",
    )
    parser.add_argument("--title", metavar="T", help="title of the page")
    parser.add_argument(
        "--reference",
        metavar="ARM",
        help="for a sweep with `vary`: the arm to fit the law to and compare others with (default: the sweep's "
        "choice, else the first recorded)",
    )
    add_method_argument(parser, METHODS)
    add_draws_arguments(parser, cluster="rows drawn together (default: trunk where runs share one)")
    parser.add_argument(
        "--simulations",
        type=int,
        default=SIMULATIONS,
        metavar="K",
        help="number of simulated tables to test whether methods disagree",
    )
    parser.add_argument(
        "--registered",
        metavar="FILE",
        help="score predictions that `predict --register` wrote (default: registered.jsonl in the report's folder)",
    )
    parser.add_argument("--no-figures", action="store_true", help="write only tables and JSON, no figures and no page")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Read the runs, fit, draw, write, and say what was found."""
    from analysis.report.folder import heldout_json, write_report
    from analysis.report.provenance import provenance

    check_bootstrap(args)
    for path in map(Path, args.tables):
        if not path.exists():
            raise UserError(f"there is no file {path}; give a table or a sweep manifest sweeps/NAME.json")
    manifest = load_manifest(args.tables)
    if manifest is not None and manifest.sweep.get("design") == "finetune":
        return _report_tuning(args, manifest)
    fixed = dict(manifest.report) if manifest is not None else {}
    law = args.law or fixed.get("law")
    choices = Choices(
        law=law or Choices.law,
        weigh=law is None,
        holdout=args.holdout or fixed.get("holdout"),
        title=args.title or fixed.get("title"),
        reference=args.reference or fixed.get("reference"),
        method=args.method,
        bootstrap=args.bootstrap,
        cluster=args.cluster,
        level=args.level,
        seed=args.seed,
        simulations=args.simulations,
    )
    study = build_study(
        args.tables,
        choices,
        columns=parse_columns(args.columns),
        where=args.where,
        drop_largest_losses=args.drop_largest_losses,
    )
    out = Path(args.out) if args.out else Path("reports") / Path(args.tables[0]).stem
    study = with_registered(study, args.registered, out)
    origin = provenance(args.tables, study.table.frame, manifest, command_of(args, out))
    page = write_report(study, out, origin=origin, draw=not args.no_figures)
    for note in study.notes:
        print(f"note: {note}", file=sys.stderr)
    if args.json:
        frontiers = [one.to_dict() for one in study.comparison.frontiers]
        summary = {"page": page.as_posix(), "heldout": heldout_json(study), "verdict": study.comparison.verdict}
        print(json.dumps(json_ready({**summary, "frontiers": frontiers}), allow_nan=False))
    else:
        print("\n".join(summary_lines(study, page)))
    return 0


def _report_tuning(args: argparse.Namespace, manifest: Manifest) -> int:
    """The report of a fine-tuning sweep."""
    from analysis.report.finetuning.page import write_tuning_report
    from analysis.report.finetuning.sentences import opening_sentences
    from analysis.report.provenance import provenance
    from analysis.study.tuning import build_tuning_study

    for name in ("columns", "where", "holdout", "law", "cluster", "registered", "reference"):
        if getattr(args, name):
            raise UserError(f"--{name} has no meaning in the report of a fine-tuning sweep; leave it out")
    path = Path(args.tables[0])
    study = build_tuning_study(path, manifest, bootstrap=args.bootstrap, seed=args.seed)
    study = replace(study, title=args.title) if args.title else study
    out = Path(args.out) if args.out else Path("reports") / path.stem
    origin = provenance(args.tables, study.runs, manifest, command_of(args, out))
    page = write_tuning_report(study, out, origin=origin, draw=not args.no_figures)
    for note in study.notes:
        print(f"note: {note}", file=sys.stderr)
    if args.json:
        rows = {name: getattr(study, name).to_dict("records") for name in ("heldout", "crossovers")}
        print(json.dumps(json_ready({"page": page.as_posix(), **rows}), allow_nan=False))
    else:
        print("\n".join((*opening_sentences(study), f"report: {page}")))
    return 0


def with_registered(study: Study, file: str | None, out: Path) -> Study:
    """The study with the registered predictions scored whose runs have come."""
    from analysis.study.registered import score

    path = Path(file) if file else out / "registered.jsonl"
    if file is None and not path.exists():
        return study
    return replace(study, registered=score(path, study.table.frame, study.comparison.fit.law))


def command_of(args: argparse.Namespace, out: Path) -> list[str]:
    """The words after `isoflop` that make this report again: only what differs from the defaults."""
    from analysis.report.provenance import display_path

    words = ["report", *[display_path(Path(table)) for table in args.tables]]
    for name in ("columns", "where", "holdout", "law", "title", "reference", "cluster", "registered"):
        if getattr(args, name):
            words += [f"--{name}", str(getattr(args, name))]
    defaults = {"drop_largest_losses": 0, "method": "parabola", "bootstrap": 1000, "level": 0.95, "seed": 0}
    defaults["simulations"] = SIMULATIONS
    for name, default in defaults.items():
        if getattr(args, name) != default:
            words += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    return [*words, "--out", display_path(out)]


def summary_lines(study: Study, page: Path) -> list[str]:
    """What was found, in a few lines for the terminal."""
    lines = []
    if study.heldout is not None:
        held = study.heldout
        lines += [
            f"mean error on the held-out runs: {percent_text(held.mape)}",
            f"error of guessing the loss of the best smaller run instead: {percent_text(held.carried_mape)}",
        ]
    for frontier in study.comparison.frontiers:
        lines.append(f"{frontier.method}: N_opt ~ C^a with a = {frontier.a}")
    return [*lines, study.comparison.verdict, f"report: {page}"]
