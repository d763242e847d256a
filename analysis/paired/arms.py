"""Arms of a study side by side.

Differences are paired: on the same validation documents, over the same order of training tokens.

An arm is a value of a varied field, such as a position encoding. Arms are compared within a cell: same shape, budget
and seed. It must not know what the varied field means.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.errors import UserError
from analysis.paired.difference import paired_difference
from experiments.records import RunRecord, RunStatus

Pair = tuple[RunRecord, Mapping[str, Any]]


def arm_table(records: Iterable[Pair], arm: str, *, reference: str | None = None, level: float = 0.95) -> pd.DataFrame:
    """One row a run: its arm, loss, and paired difference from the reference arm in the same cell.

    Parameters
    ----------
    records : iterable of (RunRecord, mapping)
        Records with the sweep's labels.
    arm : str
        The varied field, as the sweep's `vary` names it.
    reference : str, optional
        The arm that others are compared with; the first in the records by default.
    level : float
        Coverage of the intervals.

    Returns
    -------
    DataFrame
        arm, width, depth, params, tokens, flops, seed, objective, loss, loss_se, difference, lo, hi (nats per token,
        arm minus reference), reason (why there is no interval).

    Raises
    ------
    UserError
        When no run carries the field, or the reference is none of its values.
    """
    pairs = [(record, labels) for record, labels in records if arm in labels and record.status is RunStatus.DONE]
    if not pairs:
        raise UserError(f"no finished run of this sweep varies {arm!r}; name a field of the sweep's `vary`")
    arms = list(dict.fromkeys(str(labels[arm]) for _, labels in pairs))
    base = arms[0] if reference is None else reference
    if base not in arms:
        raise UserError(f"reference {base!r} is no arm; arms are {', '.join(arms)}")
    bases = {_cell(record, labels): record for record, labels in pairs if str(labels[arm]) == base}
    rows = []
    for record, labels in pairs:
        row: dict[str, Any] = {"arm": str(labels[arm])}
        row |= {
            name: record.design.get(name)
            for name in ("width", "depth", "params", "tokens", "flops", "seed", "objective")
        }
        row |= {"loss": record.outcome["loss"], "loss_se": record.outcome.get("loss_se")}
        rows.append(row | _difference(record, bases.get(_cell(record, labels)), base, level))
    return pd.DataFrame(rows).sort_values(["params", "tokens", "seed", "arm"]).reset_index(drop=True)


def at_best_rates(records: Iterable[Pair], arm: str) -> tuple[list[Pair], pd.DataFrame]:
    """Keep the runs at the best peak rate of every arm and cell, where several rates were tried.

    The best rate of an arm has the least mean loss over seeds, among the rates at which every seed finished.

    Parameters
    ----------
    records : iterable of (RunRecord, mapping)
        Records with the sweep's labels.
    arm : str
        The varied field, as the sweep's `vary` names it.

    Returns
    -------
    records : list of (RunRecord, mapping)
        Those at the best rates; all where no cell has several.
    rates : DataFrame
        arm, width, depth, params, tokens, lr, loss (mean over seeds), num_seeds, num_rates, edge: low or high where the
        best rate is the outermost one; empty where no cell has several rates.
    """
    cells: dict[tuple[Any, ...], list[Pair]] = {}
    for record, labels in records:
        if arm in labels and record.status is RunStatus.DONE:
            cells.setdefault((str(labels[arm]), *_cell(record, labels)[:-1]), []).append((record, labels))
    if all(len({record.design.get("lr") for record, _ in pairs}) == 1 for pairs in cells.values()):
        return [pair for pairs in cells.values() for pair in pairs], pd.DataFrame()
    kept: list[Pair] = []
    rows = []
    for (name, width, depth, *_), pairs in cells.items():
        seeds = {record.design.get("seed") for record, _ in pairs}
        by_rate: dict[float, list[Pair]] = {}
        for record, labels in pairs:
            by_rate.setdefault(float(record.design["lr"]), []).append((record, labels))
        means = {
            rate: float(np.mean([record.outcome["loss"] for record, _ in group]))
            for rate, group in sorted(by_rate.items())
            if {record.design.get("seed") for record, _ in group} == seeds
        }
        if not means:
            continue
        best, rates = min(means, key=lambda rate: means[rate]), sorted(by_rate)
        design = by_rate[best][0][0].design
        row: dict[str, Any] = {"arm": name, "width": width, "depth": depth}
        row |= {"params": design["params"], "tokens": design["tokens"], "lr": best, "loss": means[best]}
        edge = "low" if best == rates[0] else "high" if best == rates[-1] else ""
        rows.append(row | {"num_seeds": len(seeds), "num_rates": len(rates), "edge": edge})
        kept += by_rate[best]
    return kept, pd.DataFrame(rows)


def _cell(record: RunRecord, labels: Mapping[str, Any]) -> tuple[Any, ...]:
    design = record.design
    return (design["width"], design["depth"], labels.get("budget"), design.get("seed"))


def _difference(record: RunRecord, base: RunRecord | None, name: str, level: float) -> dict[str, Any]:
    nothing = {"difference": math.nan, "lo": math.nan, "hi": math.nan}
    if base is None:
        return nothing | {"reason": f"arm {name} has no run of this shape, budget and seed"}
    if base is record:
        return nothing | {"reason": "the reference"}
    if record.outcome["val_counts"] != base.outcome["val_counts"]:
        return nothing | {"reason": f"its loss counts other tokens than that of {name}: objectives differ"}
    found = paired_difference(
        record.outcome["val_sums"], base.outcome["val_sums"], record.outcome["val_counts"], level=level
    )
    return {"difference": found.value, "lo": found.lo, "hi": found.hi, "reason": None}


def pooled(frame: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Mean difference of each arm over cells, with an interval over cells.

    What another seed or size would change is in the interval.

    Parameters
    ----------
    frame : DataFrame
        As `arm_table` makes it.
    level : float
        Coverage of the intervals.

    Returns
    -------
    DataFrame
        arm, num_cells, difference, lo, hi, reason; an arm with fewer than two cells has no interval.
    """
    rows = []
    for arm, group in frame[frame["reason"].isna()].groupby("arm", sort=True):
        values = group["difference"].to_numpy(dtype=float)
        center = float(values.mean())
        row: dict[str, Any] = {"arm": arm, "num_cells": len(values), "difference": center}
        if len(values) < 2:
            rows.append(row | {"lo": math.nan, "hi": math.nan, "reason": "one cell says nothing about other seeds"})
            continue
        se = float(np.std(values, ddof=1)) / math.sqrt(len(values))
        reach = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * se
        rows.append(row | {"lo": center - reach, "hi": center + reach, "reason": None})
    return pd.DataFrame(rows, columns=["arm", "num_cells", "difference", "lo", "hi", "reason"])


def gains(records: Iterable[Pair], arm: str, *, level: float = 0.95) -> pd.DataFrame:
    """What more tokens gain within each arm, as a fraction of the loss: comparable where losses are not.

    Each run is compared with the run of the same arm, shape and seed at the next smaller number of tokens, on the same
    validation documents.

    Parameters
    ----------
    records : iterable of (RunRecord, mapping)
        Records with the sweep's labels.
    arm : str
        The varied field, as the sweep's `vary` names it.
    level : float
        Coverage of the intervals.

    Returns
    -------
    DataFrame
        arm, params, seed, tokens_from, tokens_to, change, lo, hi: the change of loss as a fraction of the smaller
        run's loss.
    """
    cells: dict[tuple[Any, ...], list[RunRecord]] = {}
    for record, labels in records:
        if arm in labels and record.status is RunStatus.DONE:
            key = (str(labels[arm]), record.design["width"], record.design["depth"], record.design.get("seed"))
            cells.setdefault(key, []).append(record)
    rows = []
    for (name, _, _, seed), members in sorted(cells.items(), key=lambda item: [str(part) for part in item[0]]):
        ordered = sorted(members, key=lambda record: record.design["tokens"])
        for less, more in itertools.pairwise(ordered):
            sums = (more.outcome["val_sums"], less.outcome["val_sums"])
            found = paired_difference(*sums, less.outcome["val_counts"], level=level)
            base = less.outcome["loss"]
            row: dict[str, Any] = {"arm": name, "params": less.design["params"], "seed": seed}
            row |= {"tokens_from": less.design["tokens"], "tokens_to": more.design["tokens"]}
            ends = [math.nan if end is None else end / base for end in (found.lo, found.hi)]
            rows.append(row | {"change": found.value / base, "lo": ends[0], "hi": ends[1]})
    columns = ["arm", "params", "seed", "tokens_from", "tokens_to", "change", "lo", "hi"]
    return pd.DataFrame(rows, columns=columns).sort_values(["params", "tokens_from", "arm"]).reset_index(drop=True)
