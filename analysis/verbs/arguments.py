"""Arguments that verbs share: the table of runs, its columns, and which rows to take."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from analysis.errors import UserError
from analysis.runs.table import DEFAULT_REQUIRED, RunTable, load_tables


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every verb reading tables shares."""
    parser.add_argument(
        "tables",
        nargs="+",
        metavar="TABLE",
        help="CSV or Parquet files, sweep manifests sweeps/NAME.json or run stores",
    )
    parser.add_argument(
        "--columns", metavar="NAME=COLUMN,...", help="our names = theirs, e.g. params=N,tokens=D,loss=val_loss"
    )
    parser.add_argument(
        "--where",
        metavar="EXPR",
        help="keep rows: comparisons, arithmetic, and or not in; backticks around names with blanks",
    )
    parser.add_argument(
        "--drop-largest-losses", type=int, default=0, metavar="K", help="leave out the K largest losses"
    )


def table_from_args(
    args: argparse.Namespace,
    *,
    required: Sequence[str] = DEFAULT_REQUIRED,
    allow_nonpositive_loss: bool = False,
    min_rows: int = 2,
) -> RunTable:
    """The RunTable that `add_table_arguments` describes."""
    return load_tables(
        args.tables,
        parse_columns(args.columns),
        args.where,
        args.drop_largest_losses,
        required=required,
        allow_nonpositive_loss=allow_nonpositive_loss,
        min_rows=min_rows,
    )


def parse_columns(text: str | None) -> dict[str, str]:
    """`params=N,loss=val loss` -> {"params": "N", "loss": "val loss"}; UserError for anything else."""
    mapping: dict[str, str] = {}
    for piece in (text or "").split(","):
        if not piece.strip():
            continue
        ours, equals, theirs = (part.strip() for part in piece.partition("="))
        if not equals or not ours or not theirs:
            raise UserError(f"cannot read {piece.strip()!r} in --columns; write params=N,loss=val_loss")
        if ours in mapping:
            raise UserError(f"--columns gives {ours} twice ({mapping[ours]!r} and {theirs!r}); name it once")
        mapping[ours] = theirs
    return mapping
