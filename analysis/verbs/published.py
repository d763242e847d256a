"""`python -m analysis published`: published numbers beside ours, and docs/published.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from analysis.files import json_ready
from analysis.formatting import format_number
from analysis.published.refits import SECTIONS, compare
from analysis.published.row import Row
from experiments.files import write_atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("--data", default="../shared/data", metavar="FOLDER", help="the published runs")
    parser.add_argument("--sections", nargs="+", metavar="NAME", help=f"some of {', '.join(SECTIONS)}")
    parser.add_argument(
        "--bootstrap", type=int, default=1000, metavar="B", help="draws for our intervals (default 1000)"
    )
    parser.add_argument("--out", metavar="FILE", help="write the page here, e.g. docs/published.md")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


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


def _prose(doc: str) -> str:
    """The paragraphs of a docstring before its list of parameters, one line each."""
    paragraphs = [" ".join(part.split()) for part in doc.strip().split("\n\n")]
    listed = [i for i, part in enumerate(paragraphs) if part.split(" ")[0] in ("Parameters", "Returns", "Yields")]
    return "\n\n".join(paragraphs[: listed[0]] if listed else paragraphs)


def run(args: argparse.Namespace) -> int:
    """Compare, write, print; status 1 when a number disagrees."""
    found = compare(args.data, sections=args.sections, bootstrap=args.bootstrap)
    rows = [row for group in found.values() for row in group]
    text = page(found, "python -m analysis published --out docs/published.md")
    if args.out:
        target = Path(args.out)
        write_atomic(target, text)
        print(f"wrote {target}", file=sys.stderr)
    if args.json:
        fields = ("what", "source", "published", "ours", "lo", "hi", "agrees")
        out = {name: [{f: getattr(row, f) for f in fields} for row in group] for name, group in found.items()}
        print(json.dumps(json_ready(out), allow_nan=False))
    elif not args.out:
        print(text, end="")
    wrong = [row.what for row in rows if not row.agrees]
    print(
        f"{len(rows) - len(wrong)} of {len(rows)} agree" + (f"; not: {'; '.join(wrong)}" if wrong else ""),
        file=sys.stderr,
    )
    return 1 if wrong else 0
