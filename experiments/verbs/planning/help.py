"""`help TOPIC`: reference pages on the terminal. `help config [WORD]` lists the fields of a sweep file.

`help finetune [WORD]` lists those of a fine-tuning sweep.
"""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap

from experiments.config.reference import find_fields, json_schema, markdown
from experiments.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `help`."""
    topics = "config: the fields of a sweep file; finetune: those of a fine-tuning sweep"
    parser.add_argument("topic", choices=("config", "finetune"), help=topics)
    parser.add_argument("word", nargs="?", default="", help="only fields whose name contains this, such as recipe")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="the page as Markdown")
    form.add_argument("--json-schema", action="store_true", help="a JSON schema, for the completion of editors")


def run(args: argparse.Namespace) -> int:
    """Print the reference."""
    tuning = args.topic == "finetune"
    if args.markdown:
        print(markdown(tuning=tuning), end="")
        return 0
    if args.json_schema:
        print(json.dumps(json_schema(tuning=tuning), indent=1))
        return 0
    found = find_fields(args.word, tuning=tuning)
    if not found:
        raise UserError(f"no field of such a file contains {args.word!r}; `isoflop help {args.topic}` lists all")
    width = min(100, shutil.get_terminal_size().columns)
    for note in found:
        print(
            f"{note.path}  ({note.kind}; {note.default if note.default == 'required' else f'default {note.default}'})"
        )
        print(textwrap.fill(note.text, width=width, initial_indent="    ", subsequent_indent="    "))
    return 0
