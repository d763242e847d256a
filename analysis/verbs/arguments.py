"""Arguments that verbs share: the table of runs, its columns, and which rows to take."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from analysis.errors import UserError
from analysis.laws.registry import LAWS
from analysis.runs.bootstrap_clusters import choose
from analysis.runs.columns import COUNTS
from analysis.runs.expressions import nearest
from analysis.runs.table import DEFAULT_REQUIRED, RowRules, RunTable, load_tables
from analysis.solver.objectives import OBJECTIVES

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fitting.spec import FitSpec

ONE_BY_ONE = "none"
"""What --cluster takes for runs that are drawn one by one although they share something."""
MISSPELT = 0.8
"""How like one of our names another has to be to count as a slip of the pen (difflib's ratio)."""
KNOWN_COLUMNS = {"loss", "error", "curve", "step", "seed", "role", *COUNTS} | {
    name for law in LAWS.values() for name in (*law.inputs, *law.optional, law.target)
}
"""Our names of columns that some verb reads."""
SYMBOLS = {"N": "params", "D": "tokens", "C": "flops"}
"""The field's own names of what --at gives."""
POINT_NAMES = {*COUNTS, "x"} | {name for law in LAWS.values() for name in (*law.inputs, *law.optional)}
"""Names that --at may give."""
SPEC_OPTIONS = ("objective", "delta", "residuals", "weights", "strata", "bootstrap", "level", "seed")
"""Options of verbs that are fields of a FitSpec."""


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every verb reading tables shares."""
    parser.add_argument(
        "tables",
        nargs="+",
        metavar="TABLE",
        help="CSV or Parquet files, sweeps (sweeps/NAME.json) or stores",
    )
    parser.add_argument(
        "--columns", metavar="NAME=COLUMN,...", help="names of your columns, e.g. params=N,tokens=D,loss=val_loss"
    )
    parser.add_argument(
        "--where",
        metavar="EXPR",
        help='keep only rows for which EXPR is true, e.g. "N > 1e6 and not tied"; write names with spaces in backticks',
    )
    parser.add_argument(
        "--drop-largest-losses", type=int, default=0, metavar="K", help="leave out the K largest losses"
    )
    parser.add_argument(
        "--keep-copies", action="store_true", help="keep exact copies of a row (default: count them once)"
    )


def add_fit_argument(parser: argparse.ArgumentParser) -> None:
    """The saved fit that a verb reads."""
    parser.add_argument("fit", metavar="FIT", help="fit.json, written by `fit --out`")


def add_json_argument(parser: argparse._ActionsContainer) -> None:
    """The option for programs: JSON in place of text."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_draws_arguments(
    parser: argparse._ActionsContainer,
    *,
    draws: int = 1000,
    what: str = "number of bootstrap draws",
    cluster: str | None = None,
) -> None:
    """The options of intervals: how many draws, what is drawn together, coverage and seed.

    Parameters
    ----------
    parser : ArgumentParser
        Of the verb.
    draws : int
        The default of --bootstrap.
    what : str
        What is drawn, for the help.
    cluster : str, optional
        What --cluster does in this verb, for the help.
    """
    parser.add_argument(
        "--bootstrap", type=int, default=draws, metavar="K", help=f"{what} (default: {draws}; 0 for none)"
    )
    add_cluster_argument(parser, cluster)
    add_level_argument(parser)
    add_seed_argument(parser)


def add_level_argument(parser: argparse._ActionsContainer) -> None:
    """The nominal coverage."""
    parser.add_argument("--level", type=float, default=0.95, help="coverage of the intervals (default: .95)")


def add_seed_argument(parser: argparse._ActionsContainer, what: str = "the draws") -> None:
    """The seed of what a verb draws."""
    parser.add_argument("--seed", type=int, default=0, help=f"seed of {what} (default: 0)")


def add_objective_arguments(parser: argparse._ActionsContainer) -> None:
    """The options that say which sum a fit minimises."""
    parser.add_argument(
        "--objective", choices=OBJECTIVES, default="huber", help="function of the residuals to sum (default: huber)"
    )
    parser.add_argument(
        "--delta", type=float, default=1e-3, help="residual at which huber turns linear (default: 1e-3)"
    )
    parser.add_argument(
        "--residuals", choices=("log", "raw"), default="log", help="residuals of log losses or of losses (default: log)"
    )
    parser.add_argument("--weights", metavar="COLUMN", help="weights of the rows")


def add_law_argument(parser: argparse._ActionsContainer, what: str = "law of params and tokens") -> None:
    """The law of verbs that fit one of size and data."""
    parser.add_argument("--law", default="hoffmann", help=f"{what} (default: hoffmann)")


def add_method_argument(parser: argparse._ActionsContainer, methods: Sequence[str]) -> None:
    """The curve through the losses of one compute budget, one of `analysis.frontiers.curves.METHODS`."""
    parser.add_argument(
        "--method", choices=methods, default="parabola", help="curve through the losses of a budget (default: parabola)"
    )


def add_heldout_argument(parser: argparse.ArgumentParser) -> None:
    """The option of verbs that fit: whether runs that their sweep holds out are fitted too."""
    parser.add_argument("--include-heldout", action="store_true", help="also fit the runs that a sweep holds out")


def table_from_args(
    args: argparse.Namespace,
    *,
    required: Sequence[str] = DEFAULT_REQUIRED,
    allow_nonpositive_loss: bool = False,
    min_rows: int = 2,
) -> RunTable:
    """The RunTable that `add_table_arguments` describes; verbs that fit leave out what the sweep holds out."""
    return load_tables(
        args.tables,
        parse_columns(args.columns),
        args.where,
        args.drop_largest_losses,
        required=required,
        rules=RowRules(
            allow_nonpositive_loss=allow_nonpositive_loss,
            min_rows=min_rows,
            keep_copies=args.keep_copies,
            include_heldout=getattr(args, "include_heldout", True),
        ),
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
        meant = [] if ours in KNOWN_COLUMNS else get_close_matches(ours, KNOWN_COLUMNS, n=1, cutoff=MISSPELT)
        if meant:
            raise UserError(f"--columns names {ours!r}, which no verb reads; did you mean {meant[0]}?")
        if ours in mapping:
            raise UserError(f"--columns gives {ours} twice ({mapping[ours]!r} and {theirs!r}); name it once")
        mapping[ours] = theirs
    return mapping


def parse_numbers(text: str, option: str, separator: str = ",") -> list[float]:
    """`2,4,10` -> numbers; UserError that names the option for anything else."""
    try:
        return [float(piece) for piece in text.split(separator)]
    except ValueError:
        raise UserError(f"{option} {text!r} is no list of numbers; write them with {separator!r} between") from None


def point_name(name: str) -> str:
    """Our name of what --at calls `name`: N, D and C are params, tokens and flops; UserError for an unknown name."""
    ours = SYMBOLS.get(name, name)
    if ours not in POINT_NAMES and not ours.startswith("share_"):
        raise UserError(f"--at names {name!r}, which no law reads{nearest(name, sorted(POINT_NAMES), count=1)}")
    return ours


def parse_point(text: str) -> dict[str, float]:
    """`params=7e9,tokens=1.4e12` or `N=7e9,D=1.4e12` of --at -> numbers by our names; UserError for anything else."""
    point: dict[str, float] = {}
    for piece in text.split(","):
        name, equals, value = (part.strip() for part in piece.partition("="))
        if not equals or not name:
            raise UserError(f"cannot read {piece.strip()!r} in --at; write params=7e9,tokens=1.4e12")
        ours = point_name(name)
        if ours in point:
            raise UserError(f"--at gives {ours} twice; give it once")
        try:
            point[ours] = float(value)
        except ValueError:
            raise UserError(f"cannot read {piece.strip()!r} in --at; write params=7e9,tokens=1.4e12") from None
    return point


def add_cluster_argument(parser: argparse._ActionsContainer, what: str | None = None) -> None:
    """The option that says which runs are drawn together."""
    default = (
        "rows with the same value are drawn together (default: trunk, curve or run, if the table has one; "
        f"{ONE_BY_ONE}: rows are independent)"
    )
    parser.add_argument("--cluster", metavar="COLUMN", help=what or default)


def cluster_of(
    args: argparse.Namespace, frame: pd.DataFrame, num_params: int, notes: list[str], *, spare: int = 0
) -> str | None:
    """The column whose rows are drawn together: the one that was named, else the one that the runs share.

    Parameters
    ----------
    args : Namespace
        With `cluster`.
    frame : DataFrame
        The runs that are fitted.
    num_params : int
        Free parameters of the law.
    notes : list of str
        What was chosen is added here.
    spare : int
        Clusters that are needed beyond the parameters.

    Returns
    -------
    str or None
        The column; None when rows are drawn one by one.

    Raises
    ------
    UserError
        When the named column is not there.
    """
    named: str | None = args.cluster
    if named is None:
        labels, note = choose(frame, num_params, spare=spare)
        notes += [] if note is None else [note]
        return labels
    if named in frame.columns:
        return named
    if named == ONE_BY_ONE:
        return None
    raise UserError(f"--cluster names {named!r}, which is no column of the table{nearest(named, frame.columns)}")


def spec_of(args: argparse.Namespace, cluster: str | None) -> FitSpec:
    """The FitSpec that the options of a verb describe.

    Parameters
    ----------
    args : Namespace
        With any of SPEC_OPTIONS.
    cluster : str or None
        The column whose rows are drawn together.

    Returns
    -------
    FitSpec
        With defaults for the options that the verb does not have.

    Raises
    ------
    UserError
        When an option has a value that cannot be.
    """
    from analysis.fitting.spec import spec_from

    given: Mapping[str, Any] = {name: getattr(args, name) for name in SPEC_OPTIONS if hasattr(args, name)}
    return spec_from(None, given, cluster=cluster)
