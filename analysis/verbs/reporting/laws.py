"""`isoflop laws`: every law with its formula, inputs and source, and docs/laws.md."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from analysis.laws.registry import LAWS, get_law
from analysis.verbs.arguments import add_json_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "names", nargs="*", metavar="LAW", help="only these, with their parameters (with --write: only their sections)"
    )
    add_json_argument(parser)
    parser.add_argument("--write", metavar="FILE", help="fit, draw and write the page of laws, e.g. docs/laws.md")
    parser.add_argument("--data", default="../shared/data", metavar="FOLDER", help="published runs for --write")


def run(args: argparse.Namespace) -> int:
    """List, or write the page."""
    if args.write:
        from analysis.catalogue.page import write_page

        write_page(Path(args.write), Path(args.data), names=args.names, say=lambda text: print(text, file=sys.stderr))
        return 0
    chosen = [get_law(name) for name in args.names] if args.names else list(LAWS.values())
    if args.json:
        rows = [
            {
                "law": law.name,
                "formula": law.formula,
                "inputs": list(law.inputs),
                "target": law.target,
                "params": {p.name: p.meaning for p in law.parameters},
                "domain": law.domain,
                "units": law.units,
                "source": law.source,
            }
            for law in chosen
        ]
        print(json.dumps({"laws": rows}, allow_nan=False))
        return 0
    for law in chosen:
        inputs = ", ".join(f"{name} (optional)" if name in law.optional else name for name in law.inputs)
        print(f"{law.name}\n  {law.formula}\n  inputs: {inputs}\n  fitted column: {law.target}\n  source: {law.source}")
        if args.names:
            print(f"  domain: {law.domain}\n  units: {law.units}")
            for p in law.parameters:
                print(f"  {p.name:10} {p.meaning}")
    return 0
