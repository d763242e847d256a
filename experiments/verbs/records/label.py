"""`label RUN --text TEXT`: what a fine-tuned run says of texts: a label, tags, the answer to a question, a text."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from experiments.data.cache import Cache
from experiments.errors import UserError
from experiments.store.store import RunStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `label`."""
    parser.add_argument("run_id", metavar="RUN", help="id of a fine-tuning run, as `collect` and `status` show it")
    parser.add_argument("--store", type=Path, default=Path(), help="folder of runs/ and sweeps/ (default: here)")
    parser.add_argument("--text", action="append", default=[], help="a text to label; may be given several times")
    parser.add_argument(
        "--question", action="append", default=[], help="a question to be answered from each text; several times"
    )
    parser.add_argument("--file", type=Path, help="a file with one text a line")


def run(args: argparse.Namespace) -> int:
    """Print one JSON object a text."""
    texts = list(args.text)
    if args.file is not None:
        if not args.file.is_file():
            raise UserError(f"there is no file {args.file}; name a file with one text a line")
        texts += args.file.read_text(encoding="utf-8").splitlines()
    if not texts:
        raise UserError("there is no text to label; give --text or --file")
    from experiments.execution.tuning import Bodies

    for row in Bodies(RunStore(args.store), Cache()).predict(args.run_id, texts, args.question):
        print(json.dumps(row, ensure_ascii=False))
    return 0
