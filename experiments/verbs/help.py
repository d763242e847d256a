"""`help TOPIC`: reference pages on the terminal. `help config [WORD]` lists the fields of a sweep file."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap

from experiments.config.reference import find_fields, json_schema, markdown
from experiments.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `help`."""
    parser.add_argument("topic", choices=("config",), help="config: the fields of a sweep file")
    parser.add_argument("word", nargs="?", default="", help="only fields whose name contains this, such as recipe")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="the page docs/sweep_file.md")
    form.add_argument("--json-schema", action="store_true", help="a JSON schema, for the completion of editors")


def run(args: argparse.Namespace) -> int:
    """Print the reference."""
    if args.markdown:
        print(markdown(), end="")
        return 0
    if args.json_schema:
        print(json.dumps(json_schema(), indent=1))
        return 0
    found = find_fields(args.word)
    if not found:
        raise UserError(f"no field of a sweep file contains {args.word!r}; `isoflop help config` lists all")
    width = min(100, shutil.get_terminal_size().columns)
    for note in found:
        print(
            f"{note.path}  ({note.kind}; {note.default if note.default == 'required' else f'default {note.default}'})"
        )
        print(textwrap.fill(note.text, width=width, initial_indent="    ", subsequent_indent="    "))
    return 0
