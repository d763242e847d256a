"""Laws of experts, sparsity, mixtures and repetition on halves of public tables: fitted on one, asked for the other.

Owns the tables, how they are halved and what is counted. It must not know how pages are made. No public table of
losses by precision was found, so `precision` is not among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law
from analysis.runs.columns import rename_columns

SEED = 0
"""Of the order in which rows are dealt to the halves, and of the draws of the interval."""
DRAWS = 2000
"""Draws of held-out rows behind an interval."""
SHARES = {f"share_{j}": f"proportion_domain_{j}" for j in range(1, 6)}
"""Columns of ScaleBench's mixtures."""


@dataclass(frozen=True, kw_only=True)
class HalvedTable:
    """A public table and the laws that are tried on it."""

    name: str
    """What it holds, with its source."""
    file: str
    """In the folder of published runs."""
    laws: tuple[str, ...]
    """Their names, with options."""
    columns: Mapping[str, str]
    """Our names to the table's."""
    losses: tuple[str, ...] = ("loss",)
    """Columns of losses; each is fitted by itself."""
    groups: str | None = None
    """Column whose values are halved and fitted by themselves."""
    near: tuple[str, ...] = field(default=())
    """Inputs by whose logarithms the nearest fitted row is found; shares as they are."""


TABLES = (
    HalvedTable(
        name="routed models (Clark et al. 2022)",
        file="scalebench/moe_train.csv",
        laws=("moe-routed",),
        columns={"params": "dense_parameter_count", "experts": "num_experts", "loss": "loss_validation"},
        near=("params", "experts"),
    ),
    HalvedTable(
        name="upcycled models by active size and sparsity (Liew et al. 2025), each amount of data by itself",
        file="scalebench/sparsity_train.csv",
        laws=("moe-active",),
        columns={"active_params": "N_active", "sparsity": "P"},
        groups="group",
        near=("active_params", "sparsity"),
    ),
    HalvedTable(
        name="mixtures of five domains (Ye et al. 2024), each size and validation domain by itself",
        file="scalebench/domain_mixture_train.csv",
        laws=("mixing:5", "mixing-power:5"),
        columns=SHARES,
        losses=tuple(f"loss_domain_{j}" for j in range(1, 6)),
        groups="group",
        near=tuple(SHARES),
    ),
    HalvedTable(
        name="repeated tokens (Muennighoff et al. 2023)",
        file="scalebench/data_constrained_train.csv",
        laws=("muennighoff", "overfitting", "saturating"),
        columns={},
        near=("params", "tokens", "unique_tokens"),
    ),
    HalvedTable(
        name="parallel streams (Chen et al. 2025), each corpus by itself",
        file="scalebench/parallel_train.csv",
        laws=("parallel",),
        columns={"params": "num_params"},
        groups="group",
        near=("params", "parallel_size"),
    ),
)
"""Every public table at hand that has experts, sparsity, mixtures, repetition or streams."""


@dataclass(frozen=True, kw_only=True)
class Half:
    """One law on one table, each half predicted from the other."""

    table: str
    """What the table holds."""
    law: str
    """The law's name."""
    num_rows: int
    """Losses that are predicted: all rows, by the fit of the half that they are not in."""
    error: float | None
    """Mean absolute relative error; None where no fit was possible."""
    median: float | None
    """Median of the same: far below the mean where the law runs off between runs."""
    lo: float | None
    """Lower end of the mean's 95 % interval, over draws of predicted rows."""
    hi: float | None
    """Upper end."""
    nearest: float
    """The same error of the trivial prediction: the loss of the nearest row of the other half."""
    reason: str | None = None
    """Why there is no error."""


def halves(folder: Path) -> Iterator[Half]:
    """Fit every law on one half of its table and predict the other, both ways.

    Parameters
    ----------
    folder : Path
        Holds the published runs.

    Yields
    ------
    Half
        A row for each table and law.

    Raises
    ------
    UserError
        When a table is not there.
    """
    for table in TABLES:
        path = folder / table.file
        if not path.is_file():
            raise UserError(f"there is no file {path} of published runs; name the folder with --data FOLDER")
        frame = rename_columns(pd.read_csv(path), dict(table.columns), path=path)
        groups = [frame] if table.groups is None else [part for _, part in frame.groupby(table.groups)]
        for law in table.laws:
            yield _both_ways(table, law, groups)


def _both_ways(table: HalvedTable, law: str, groups: list[pd.DataFrame]) -> Half:
    """One law on all groups and losses of a table."""
    errors: list[Array] = []
    trivial: list[Array] = []
    reason = None
    for part in groups:
        order = np.random.default_rng(SEED).permutation(len(part))
        first = np.isin(np.arange(len(part)), order[: len(part) // 2])
        for loss in table.losses:
            rows = part.assign(loss=part[loss]).reset_index(drop=True)
            for fitted in (first, ~first):
                trivial.append(_off(_nearest(rows, fitted, table.near), rows["loss"][~fitted]))
                try:
                    fit = fit_law(law, {name: rows[name][fitted] for name in (*get_law(law).inputs, "loss")})
                except UserError as error:
                    reason = str(error)
                    continue
                predicted = fit.predict(rows[~fitted].reset_index(drop=True), interval="none")["loss"]
                errors.append(_off(predicted.to_numpy(), rows["loss"][~fitted]))
    nearest = float(np.concatenate(trivial).mean())
    found = Half(
        table=table.name, law=law, num_rows=0, error=None, median=None, lo=None, hi=None, nearest=nearest, reason=reason
    )
    if reason is not None:
        return found
    every = np.concatenate(errors)
    draws = np.random.default_rng(SEED).choice(every, (DRAWS, every.size)).mean(axis=1)
    lo, hi = (float(end) for end in np.quantile(draws, [0.025, 0.975]))
    mean, median = float(every.mean()), float(np.median(every))
    return replace(found, num_rows=every.size, error=mean, median=median, lo=lo, hi=hi)


def _off(predicted: Array, measured: pd.Series) -> Array:
    """Absolute relative errors."""
    truth = measured.to_numpy(dtype=float)
    return np.asarray(np.abs(predicted - truth) / np.abs(truth))


def _nearest(rows: pd.DataFrame, fitted: NDArray[np.bool_], names: tuple[str, ...]) -> Array:
    """The loss of the nearest fitted row for each of the others."""
    raw = rows[list(names)].to_numpy(dtype=float)
    places = np.where(raw > 0, np.log(np.where(raw > 0, raw, 1.0)), 0.0) if (raw > 1).any() else raw
    spread = np.where(places.std(axis=0) > 0, places.std(axis=0), 1.0)
    scaled = places / spread
    distance = ((scaled[~fitted][:, None, :] - scaled[fitted][None, :, :]) ** 2).sum(axis=2)
    return np.asarray(rows["loss"].to_numpy(dtype=float)[fitted][distance.argmin(axis=1)])
