"""`isoflop published`: published numbers beside ours, and docs/published.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.errors import UserError
from analysis.files import json_ready, sections_of
from analysis.formatting import format_number, format_percent
from analysis.published.halves import Half, halves
from analysis.published.refits import SECTIONS, compare
from analysis.published.row import Row
from analysis.verbs.arguments import add_json_argument
from experiments.files import write_atomic

HALVES = "halves"
"""The section of laws fitted on halves of tables, of which nothing is published."""
HALVES_PROSE = """
Laws of experts, sparsity, mixtures, repetition and streams on halves of public tables (ScaleBench's training splits, Li
et al. 2026). Rows are dealt to two halves at random with seed 0, each half is predicted by the fit of the other, and
the error is that of |predicted - measured| / measured over all rows. Nearest is the mean error of the loss of the
nearest row in the other half. Both halves span the same range: these are errors between runs, not beyond them.
`mixing-power:5` has eleven parameters for the ten rows of a half, and runs off between them. No public table of losses
by precision was found.
"""
"""What the section says of itself."""
COMMAND = "isoflop published --out docs/published.md"
"""What makes the page."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("--data", default="../shared/data", metavar="FOLDER", help="the published runs")
    parser.add_argument("--sections", nargs="+", metavar="NAME", help=f"some of {', '.join((*SECTIONS, HALVES))}")
    parser.add_argument(
        "--bootstrap", type=int, default=1000, metavar="B", help="draws for our intervals (default 1000)"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="write the page here, e.g. docs/published.md; with --sections only those"
    )
    add_json_argument(parser)


def page(sections: Mapping[str, list[Row]], command: str) -> str:
    """The Markdown page."""
    lines = [
        "# Published numbers beside ours",
        "",
        f"Made by `{command}`. Objectives are sums unless the row says otherwise; ours may",
        "be lower. Intervals are 95 %, from draws over runs (over curves for Gemstones: its rows are points of them).",
    ]
    for name, rows in sections.items():
        doc = _prose(SECTIONS[name].__doc__ or "")
        lines += [
            "",
            f"## {name}",
            "",
            doc,
            "",
            "| quantity | published | ours | interval | agrees | source |",
            "|---|---|---|---|---|---|",
        ]
        for row in rows:
            digits = 7 if "objective" in row.what or "Intercept" in row.what else 4
            interval = (
                f"{format_number(row.lo)} to {format_number(row.hi)}"
                if row.lo is not None
                else "no interval: one number"
            )
            if row.lo is None and ("objective" in row.what or "standard error" in row.what or "exact" in row.what):
                interval = ""
            cells = (
                row.what,
                format_number(row.published, digits),
                format_number(row.ours, digits),
                interval,
                "yes" if row.agrees else "**no**",
                row.source,
            )
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def halves_section(found: Sequence[Half]) -> str:
    """The section of laws fitted on halves of tables."""
    lines = [
        f"## {HALVES}",
        "",
        " ".join(HALVES_PROSE.split()),
        "",
        "| table | law | losses predicted | mean error | 95 % interval | median | nearest |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        error, median = ("none" if value is None else format_percent(value) for value in (one.error, one.median))
        known = one.lo is not None and one.hi is not None
        ends = f"{format_percent(one.lo)} to {format_percent(one.hi)}" if known else f"none: {one.reason}"
        cells = (one.table, f"`{one.law}`", str(one.num_rows), error, ends, median, format_percent(one.nearest))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _prose(doc: str) -> str:
    """The paragraphs of a docstring before its list of parameters, one line each."""
    paragraphs = [" ".join(part.split()) for part in doc.strip().split("\n\n")]
    listed = [i for i, part in enumerate(paragraphs) if part.split(" ")[0] in ("Parameters", "Returns", "Yields")]
    return "\n\n".join(paragraphs[: listed[0]] if listed else paragraphs)


def _spliced(target: Path, text: str) -> str:
    """The page at `target` with some sections anew, the others as they are."""
    if not target.exists():
        raise UserError(f"there is no page {target} of which sections could be made anew; leave --sections out")
    sections = sections_of(target.read_text(encoding="utf-8")) | sections_of(text)
    kept = [sections[name] for name in (*SECTIONS, HALVES) if name in sections]
    return "\n\n".join([page({}, COMMAND).rstrip(), *kept]) + "\n"


def run(args: argparse.Namespace) -> int:
    """Compare, write, print; status 1 when a number disagrees."""
    named = None if args.sections is None else [name for name in args.sections if name != HALVES]
    found = {} if named == [] else compare(args.data, sections=named, bootstrap=args.bootstrap)
    halved = list(halves(Path(args.data))) if args.sections is None or HALVES in args.sections else []
    rows = [row for group in found.values() for row in group]
    text = page(found, COMMAND)
    text += "\n" + halves_section(halved) + "\n" if halved else ""
    if args.out:
        target = Path(args.out)
        write_atomic(target, text if args.sections is None else _spliced(target, text))
        print(f"wrote {target}", file=sys.stderr)
    if args.json:
        fields = ("what", "source", "published", "ours", "lo", "hi", "agrees")
        out = {name: [{f: getattr(row, f) for f in fields} for row in group] for name, group in found.items()}
        out |= {HALVES: [vars(one) for one in halved]} if halved else {}
        print(json.dumps(json_ready(out), allow_nan=False))
    elif not args.out:
        print(text, end="")
    wrong = [row.what for row in rows if not row.agrees]
    print(
        f"{len(rows) - len(wrong)} of {len(rows)} agree" + (f"; not: {'; '.join(wrong)}" if wrong else ""),
        file=sys.stderr,
    )
    return 1 if wrong else 0
