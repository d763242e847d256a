"""Which N and which C a table counts: the words that every output repeats."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import pandas as pd

from analysis.runs.columns import count_from

FlopsConvention = Literal["6ND", "counted", "as given"]
"""How C is counted: 6 N D; matrix products of the model trained; or as the table's column has it."""

SIX_ND: FlopsConvention = "6ND"
COUNTED: FlopsConvention = "counted"
AS_GIVEN: FlopsConvention = "as given"

SAME_COUNT = 0.01
"""A table whose C differs from 6 N D by less than this fraction in every row counts 6 N D."""


def flops_convention(conventions: Mapping[str, Any]) -> str:
    """How C is counted by the conventions of a table; "as given" where they do not say."""
    return str(conventions.get("flops", AS_GIVEN))


NATS = "nats per token"
"""The unit of losses that we recorded."""
OWN_MEASURES = frozenset({"loss_se", "num_val_tokens", "bpb"})
"""Columns that only records of our own runs have: their losses are in nats per token."""


def loss_unit(frame: pd.DataFrame) -> str:
    """The unit of a table's losses.

    Parameters
    ----------
    frame : DataFrame
        Runs.

    Returns
    -------
    str
        "nats per token" for runs of our own; what the column `loss_unit` says where there is one, and it is the same
        for all rows; else "unit as given".
    """
    if "loss_unit" in frame.columns:
        units = frame["loss_unit"].dropna().astype(str).unique()
        return str(units[0]) if len(units) == 1 else "units differ"
    return NATS if not OWN_MEASURES.isdisjoint(frame.columns) else "unit as given"


def conventions_of(frame: pd.DataFrame, columns: Mapping[str, str], derived: Collection[str]) -> dict[str, str]:
    """Which N and which C a table holds.

    Parameters
    ----------
    frame : DataFrame
        Rows under our names.
    columns : mapping
        Our names to the table's, as they were asked for.
    derived : collection of str
        The counts that were computed from the other two.

    Returns
    -------
    dict
        `params`: which N; `flops`: "6ND", "counted" or "as given"; `tokens`: how D was had.
    """
    ours = {"params", "params_total", "params_non_embedding"} <= set(frame.columns)
    if ours and "params" not in columns:
        params = "params_non_embedding + untied head"
    else:
        params = f"column {columns.get('params', 'params')!r} as given"
    out = {"params": params}
    if {"params", "tokens", "flops"} <= set(frame.columns):
        out["flops"] = _counting(frame, derived)
    elif "flops" in frame.columns:
        out["flops"] = AS_GIVEN
    if "tokens" in frame.columns:
        out["tokens"] = "flops / (6 params)" if "tokens" in derived else f"column {columns.get('tokens', 'tokens')!r}"
    return out


def _counting(frame: pd.DataFrame, derived: Collection[str]) -> FlopsConvention:
    ratio = frame["flops"] / count_from("flops", {name: frame[name] for name in ("params", "tokens")})
    if derived or bool((abs(ratio - 1) < SAME_COUNT).all()):
        return SIX_ND
    return COUNTED if "flops_6nd" in frame.columns else AS_GIVEN
