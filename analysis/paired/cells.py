"""Runs by cell: those that agree in size, tokens and batch, and differ in their peak rate.

It must not know what is fitted to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.errors import UserError

COVARIATES = ("params", "tokens", "batch")
"""What the best rate may depend on."""
TIED = 0.98
"""Correlation of logarithms from which two covariates are one."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Runs of several cells."""

    cell: NDArray[np.intp]
    """Cell of every run, shape (n,)."""
    log_rate: Array
    """Shape (n,)."""
    log_loss: Array
    """Shape (n,)."""
    covariates: Array
    """Log N, log D, log batch, ... of every cell, less their means, shape (m, p)."""
    names: tuple[str, ...]
    """Names of the covariates."""
    means: Array
    """Means of the logarithms, shape (p,)."""

    @property
    def num_cells(self) -> int:
        """Cells, those without a run included."""
        return int(self.covariates.shape[0])

    def design(self) -> Array:
        """A constant and the covariates, shape (m, 1 + p)."""
        return np.concatenate([np.ones((self.num_cells, 1)), self.covariates], axis=1)


def varying(columns: Mapping[str, Any]) -> list[str]:
    """Those of COVARIATES that vary apart, in order.

    Parameters
    ----------
    columns : mapping
        Columns by name.

    Returns
    -------
    list of str
        At least one.

    Raises
    ------
    UserError
        When nothing varies.
    """
    logs: dict[str, Array] = {}
    for name in (one for one in COVARIATES if one in columns):
        column = np.log(np.asarray(columns[name], dtype=np.float64))
        if np.ptp(column) > 1e-6 and all(abs(np.corrcoef(column, other)[0, 1]) < TIED for other in logs.values()):
            logs[name] = column
    if not logs:
        raise UserError("all runs have one size and one number of tokens; a law of the best rate needs several cells")
    return list(logs)


def make_cells(columns: Mapping[str, Array], covariates: Sequence[str]) -> tuple[Cells, Array]:
    """Runs by cell; runs that agree in all covariates are one cell.

    Parameters
    ----------
    columns : mapping
        `lr`, `loss` and the covariates, each of shape (n,).
    covariates : sequence of str
        Such as params, tokens, batch.

    Returns
    -------
    cells : Cells
        Runs with a finite positive loss.
    values : Array, shape (m, p)
        The covariates of every cell as they are.

    Raises
    ------
    UserError
        When a column is not there, or a value is not positive.
    """
    for name in ("lr", "loss", *covariates):
        if name not in columns:
            raise UserError(f"there is no column {name!r}; name it, e.g. --columns {name}=COLUMN")
    rates, losses = (np.asarray(columns[name], dtype=np.float64) for name in ("lr", "loss"))
    values = np.stack([np.asarray(columns[name], dtype=np.float64) for name in covariates], axis=1)
    if not ((rates > 0).all() and (values > 0).all()):
        raise UserError(f"lr, {', '.join(covariates)} must be above zero in every row; leave the others out")
    unique, cell = np.unique(values, axis=0, return_inverse=True)
    good = np.isfinite(losses) & (losses > 0)
    logs = np.log(unique)
    cells = Cells(
        cell=cell.reshape(-1)[good],
        log_rate=np.log(rates[good]),
        log_loss=np.log(losses[good]),
        covariates=logs - logs.mean(axis=0),
        names=tuple(covariates),
        means=logs.mean(axis=0),
    )
    return cells, unique
