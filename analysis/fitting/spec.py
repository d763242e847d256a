"""`FitSpec`: how a law is fitted, as one frozen object: objective, residuals, weights, clusters, draws, level and seed.

`fit_law`, `profile_law`, `select_law` and the frontiers take a FitSpec, or its fields by keyword. It must not know laws
or tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.errors import UserError
from analysis.solver.objectives import Objective, ObjectiveName
from analysis.solver.problem import RESIDUALS, Bounds, Residuals

if TYPE_CHECKING:
    import pandas as pd

Seed = int | np.random.Generator
"""Seed of the draws, or the generator that makes them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FitSpec:
    """How a law is fitted and how its uncertainty is found."""

    objective: ObjectiveName = "huber"
    """What is summed over rows."""
    delta: float = 1e-3
    """Where huber turns linear, in the unit of the residuals."""
    residuals: Residuals = "log"
    """"log": log L - log loss; "raw": L - loss."""
    weights: str | ArrayLike | None = None
    """Row weights, or the column that holds them; a weight of two counts a row twice."""
    cluster: str | ArrayLike | None = None
    """Labels of rows that are drawn together, or the column that holds them."""
    strata: str | ArrayLike | None = None
    """Labels within which rows (clusters) are drawn, or the column that holds them."""
    bootstrap: int = 0
    """Draws over rows (clusters); 0 takes intervals from the sandwich covariance."""
    level: float = 0.95
    """Nominal coverage of the intervals."""
    seed: Seed = 0
    """Seed of the draws, or a generator, which moves on with every use."""
    bounds: Bounds | None = None
    """(lower, upper) of parameters by name, None for no bound; of exponents and offsets, not of amplitudes, whose size
    depends on an exponent."""

    def __post_init__(self) -> None:
        Objective.named(self.objective, self.delta)
        if self.residuals not in RESIDUALS:
            raise UserError(f"residuals are 'log' or 'raw', not {self.residuals!r}")
        if not 0 < self.level < 1:
            raise UserError(f"level is {self.level}; give a coverage between 0 and 1, such as .95")
        if self.bootstrap < 0 or self.bootstrap == 1:
            raise UserError(f"bootstrap is {self.bootstrap}; give two draws or more (1000, say), or 0 for none")
        if isinstance(self.seed, int) and self.seed < 0:
            raise UserError(f"seed is {self.seed}; give a whole number from 0 on")

    @property
    def loss_term(self) -> Objective:
        """The term of the residuals that is summed."""
        return Objective.named(self.objective, self.delta)

    @property
    def generator(self) -> np.random.Generator:
        """A fresh generator of the seed, or the one that was given."""
        return self.seed if isinstance(self.seed, np.random.Generator) else np.random.default_rng(self.seed)

    def cluster_labels(self, data: Mapping[str, Any] | pd.DataFrame) -> NDArray[Any] | None:
        """Cluster labels of the rows of a table, shape (n,); None where rows are drawn one by one.

        Parameters
        ----------
        data : mapping or DataFrame
            Columns by name.

        Returns
        -------
        array or None
            As given, or the column of that name.

        Raises
        ------
        UserError
            When the table lacks the column.
        """
        if not isinstance(self.cluster, str):
            return None if self.cluster is None else np.asarray(self.cluster)
        if self.cluster not in data:
            raise UserError(f"there is no column {self.cluster!r} for cluster; name one of {', '.join(map(str, data))}")
        return np.asarray(data[self.cluster])

    def reseeded(self) -> FitSpec:
        """The same with a number for a seed, so that several fits share their draws."""
        if isinstance(self.seed, np.random.Generator):
            return replace(self, seed=int(self.seed.integers(2**32)))
        return self

    def to_options(self) -> dict[str, Any]:
        """What a saved fit says about how it was made."""
        out = {
            "objective": self.objective,
            "delta": self.delta if self.objective == "huber" else None,
            "residuals": self.residuals,
            "bootstrap": self.bootstrap,
            "level": self.level,
            "clustered": self.cluster is not None,
        }
        return out if self.bounds is None else {**out, "bounds": {k: list(v) for k, v in self.bounds.items()}}


class FitOptions(TypedDict, total=False):
    """The fields of a FitSpec as keyword arguments."""

    objective: ObjectiveName
    delta: float
    residuals: Residuals
    weights: str | ArrayLike | None
    cluster: str | ArrayLike | None
    strata: str | ArrayLike | None
    bootstrap: int
    level: float
    seed: Seed
    bounds: Bounds | None
    rng: Seed | None
    """The same as `seed`; None is seed 0."""


class DrawOptions(TypedDict, total=False):
    """The fields of a FitSpec that matter where no law is fitted."""

    cluster: str | ArrayLike | None
    bootstrap: int
    level: float
    seed: Seed
    rng: Seed | None


def spec_from(spec: FitSpec | None, options: Mapping[str, Any], **defaults: Any) -> FitSpec:
    """The FitSpec that a caller means.

    Parameters
    ----------
    spec : FitSpec or None
        As it was given.
    options : mapping
        Fields that were given by keyword, which go before those of `spec`; `rng` is another name of `seed`.
    **defaults
        Fields of a FitSpec where neither says otherwise; they matter only without a `spec`.

    Returns
    -------
    FitSpec
        With all fields resolved.

    Raises
    ------
    UserError
        When a field has a value that cannot be.
    """
    fields = dict(options)
    if "rng" in fields:
        rng = fields.pop("rng")
        fields["seed"] = 0 if rng is None else rng
    if spec is None:
        return FitSpec(**{**defaults, **fields})
    return replace(spec, **fields) if fields else spec
