"""Errors on tasks straight from scale beside errors by way of the loss, and whether a task can be predicted at all.

Both laws are fitted to the smaller runs and asked for the larger ones. Owns the comparison; it must not know verbs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.downstream import predict_error
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.fitting.spec import FitSpec
from analysis.laws.registry import get_law
from analysis.selection.cutoffs import law_weights

if TYPE_CHECKING:
    import pandas as pd

MIN_FITTED = 6
"""Fewest smaller runs with an error of the task."""
MIN_HELD = 2
"""Fewest larger runs: with one, closer once is closer always."""
PERMUTATIONS = 2000
"""Orders of the runs behind the test of the trend."""
SIGNIFICANT = 0.05
"""Largest p of a trend that is believed."""
STEPS = ("downstream-exponential", "downstream-sigmoid")
"""Laws of error from loss, of which the table chooses."""
LEVEL = 0.95
"""Coverage of the prediction intervals that are counted."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """One way of predicting, as the held-out runs judge it."""

    law: str
    """The law, or the two laws in a row."""
    error: float
    """Mean absolute difference of predicted and measured error over held-out runs."""
    closer: int
    """Held-out runs for which it is closer than the trivial prediction."""
    covered: int | None
    """Held-out runs within its 95 % prediction interval; None where the fit has no intervals."""


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """One task."""

    task: str
    """Its column."""
    num_fitted: int
    """Smaller runs with an error of it."""
    num_held: int
    """Larger ones."""
    trivial: float
    """Mean absolute difference on held-out runs of the better trivial prediction: the error of the largest fitted run,
    or the mean of all."""
    trivial_name: str
    """Which of them that is."""
    trend: float
    """Rank correlation of error and loss over fitted runs: one where every lower loss comes with a lower error."""
    trend_p: float
    """Share of random orders with a trend as large."""
    direct: Route | None
    """Straight from scale; None where no law could be fitted."""
    two_step: Route | None
    """By way of the loss."""
    notes: tuple[str, ...] = ()
    """Why a route is absent."""

    @property
    def predictable_by(self) -> tuple[str, ...]:
        """Routes that predict the larger runs better than the trivial prediction, on average and in most of them."""
        if self.trend <= 0 or self.trend_p > SIGNIFICANT:
            return ()
        routes = (("direct", self.direct), ("two steps", self.two_step))
        return tuple(
            name
            for name, route in routes
            if route is not None and route.error < self.trivial and 2 * route.closer > self.num_held
        )

    @property
    def verdict(self) -> str:
        """Predictable by which routes, or why not, in a few words."""
        if self.predictable_by:
            return f"predictable: {' and '.join(self.predictable_by)}"
        if self.trend <= 0 or self.trend_p > SIGNIFICANT:
            return f"not predictable: errors do not fall with loss (rank {self.trend:.2f}, p {self.trend_p:.2g})"
        return f"not predictable: no law beats {self.trivial_name}"


@dataclass(frozen=True, kw_only=True)
class TaskComparison:
    """All tasks of a table."""

    tasks: tuple[TaskScore, ...]
    """In the order asked for."""
    loss_law: str
    """The law of loss in the two steps."""

    @property
    def num_predictable(self) -> int:
        """Tasks that one of the routes predicts."""
        return sum(bool(task.predictable_by) for task in self.tasks)

    @property
    def verdict(self) -> str:
        """How many tasks are predictable, and which route is closer, in one sentence."""
        both = [task for task in self.tasks if task.direct is not None and task.two_step is not None]
        direct = sum(t.direct.error < t.two_step.error for t in both if t.direct and t.two_step)
        found = f"{self.num_predictable} of {len(self.tasks)} tasks are predictable"
        if not both:
            return found
        return f"{found}; the direct law is closer on {direct} of {len(both)}, the two steps on {len(both) - direct}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each task: errors of the routes and of the trivial prediction, what is counted, and the verdict."""
        import pandas as pd

        rows = []
        for task in self.tasks:
            row: dict[str, Any] = {"task": task.task, "num_fitted": task.num_fitted, "num_held": task.num_held}
            for name, route in (("direct", task.direct), ("two_step", task.two_step)):
                for field in ("law", "error", "closer", "covered"):
                    row[f"{name}_{field}"] = None if route is None else getattr(route, field)
            row |= {"trivial": task.trivial, "trivial_name": task.trivial_name}
            row |= {"trend": task.trend, "trend_p": task.trend_p, "verdict": task.verdict}
            rows.append(row | {"notes": "; ".join(task.notes)})
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        return str(self.to_frame().round(4).to_html(index=False))


def compare_tasks(
    data: Mapping[str, Any] | pd.DataFrame,
    tasks: Sequence[str],
    held: Any,
    *,
    loss_law: str = "hoffmann",
    seed: int = 0,
) -> TaskComparison:
    """Predict the errors of held-out runs straight from scale and by way of the loss.

    Parameters
    ----------
    data : mapping or DataFrame
        params, tokens, loss (of one validation set) and the tasks' errors, fractions of answers; NaN where a run has
        none.
    tasks : sequence of str
        Columns of errors.
    held : array of bool, shape (n,)
        The larger runs, which no fit sees.
    loss_law : str
        Law of the loss from params and tokens.
    seed : int
        Of the orders behind the test of the trend, and of the chains of two fits.

    Returns
    -------
    TaskComparison
        Side by side for each task.

    Raises
    ------
    UserError
        When a column is missing or too few runs are left.
    """
    law = get_law(loss_law)
    if law.target != "loss" or not set(law.inputs) <= {"params", "tokens"}:
        raise UserError(f"{law.name} is no law of loss from params and tokens; take hoffmann, kaplan or skaling")
    columns = {str(name): np.asarray(data[str(name)]) for name in data}
    missing = [name for name in ("params", "tokens", "loss", *tasks) if name not in columns]
    if missing:
        raise UserError(f"the table has no column {missing[0]}; name it by --columns or leave the task out")
    held = np.asarray(held, dtype=bool)
    base = {name: columns[name].astype(float) for name in ("params", "tokens", "loss")}
    scores = []
    for task in tasks:
        error = columns[task].astype(float)
        usable = np.isfinite(error)
        fitted, larger = usable & ~held, usable & held
        if fitted.sum() < MIN_FITTED or larger.sum() < MIN_HELD:
            raise UserError(
                f"{task} has {fitted.sum()} smaller and {larger.sum()} held-out runs; it takes {MIN_FITTED} and "
                f"{MIN_HELD}: loosen --holdout or leave the task out"
            )
        rows = base | {"error": error}
        scores.append(_score(task, _rows(rows, fitted), _rows(rows, larger), loss_law, seed))
    return TaskComparison(tasks=tuple(scores), loss_law=loss_law)


def _rows(columns: Mapping[str, Array], which: NDArray[np.bool_]) -> dict[str, Array]:
    return {name: column[which] for name, column in columns.items()}


def _score(task: str, fitted: dict[str, Array], held: dict[str, Array], loss_law: str, seed: int) -> TaskScore:
    """One task."""
    spec = FitSpec(residuals="raw", bootstrap=0, level=LEVEL)
    largest = int(np.argmax(fitted["params"] * fitted["tokens"]))
    trivial = {"the largest fitted run": fitted["error"][largest], "the mean": fitted["error"].mean()}
    off = {name: np.abs(held["error"] - value) for name, value in trivial.items()}
    best = min(off, key=lambda name: float(off[name].mean()))
    trend, p = _trend(fitted["loss"], fitted["error"], seed)
    notes: list[str] = []
    routes: dict[str, Route | None] = {"direct": None, "two_step": None}
    for name, predict in (("direct", _direct), ("two_step", _two_steps)):
        try:
            law, frame = predict(fitted, held, spec, loss_law, seed)
        except UserError as error:
            notes.append(f"{name.replace('_', ' ')}: {error}")
            continue
        routes[name] = _route(law, frame, held["error"], off[best])
    return TaskScore(
        task=task,
        num_fitted=fitted["error"].size,
        num_held=held["error"].size,
        trivial=float(off[best].mean()),
        trivial_name=best,
        trend=trend,
        trend_p=p,
        direct=routes["direct"],
        two_step=routes["two_step"],
        notes=tuple(notes),
    )


def _route(law: str, frame: pd.DataFrame, measured: Array, trivial: Array) -> Route:
    off = np.abs(frame["error"].to_numpy(dtype=float) - measured)
    lo, hi = (frame[name].to_numpy(dtype=float) for name in ("prediction_lo", "prediction_hi"))
    known = bool(np.isfinite(lo).all() and np.isfinite(hi).all())
    return Route(
        law=law,
        error=float(off.mean()),
        closer=int((off < trivial).sum()),
        covered=int(((lo <= measured) & (measured <= hi)).sum()) if known else None,
    )


def _direct(
    fitted: dict[str, Array], held: dict[str, Array], spec: FitSpec, loss_law: str, seed: int
) -> tuple[str, pd.DataFrame]:
    """Straight from size and data, or from compute where all runs have one ratio of tokens to params."""
    ratio = np.log(fitted["tokens"] / fitted["params"])
    along = float(np.ptp(ratio)) < 0.01 * float(np.ptp(np.log(fitted["params"]))) + 1e-9
    if along:
        fitted, held = ({**rows, "x": 6 * rows["params"] * rows["tokens"]} for rows in (fitted, held))
    fit = fit_law("downstream-direct" if along else "downstream-direct-size", fitted, spec)
    return fit.law.name, fit.predict({name: held[name] for name in fit.law.inputs})


def _two_steps(
    fitted: dict[str, Array], held: dict[str, Array], spec: FitSpec, loss_law: str, seed: int
) -> tuple[str, pd.DataFrame]:
    """From size and data to loss, and from loss to error by the law that these runs prefer."""
    fit = fit_law(loss_law, fitted, replace(spec, residuals="log"))
    seconds = [_fitted(name, fitted, spec) for name in STEPS]
    known = [one for one in seconds if one is not None]
    if not known:
        raise UserError("no law of error from loss could be fitted")
    counts = [len(one.law.parameters) for one in known]
    weights = law_weights([one.objective for one in known], counts, fitted["error"].size)
    second = known[int(np.argmax(weights))]
    frame = predict_error(fit, second, {name: held[name] for name in ("params", "tokens")}, rng=seed)
    return f"{fit.law.name}, {second.law.name}", frame


def _fitted(name: str, rows: dict[str, Array], spec: FitSpec) -> Fit | None:
    """The law fitted, or None where these runs are too few for it."""
    try:
        return fit_law(name, rows, spec)
    except UserError:
        return None


def _trend(loss: Array, error: Array, seed: int) -> tuple[float, float]:
    """Rank correlation, and the share of random orders that reach it; ties share their rank."""
    ranks = [_ranks(column) for column in (loss, error)]
    scale = float(np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1])))
    if scale == 0:
        return 0.0, 1.0
    found = float(ranks[0] @ ranks[1]) / scale
    rng = np.random.default_rng(seed)
    orders = rng.permuted(np.tile(ranks[1], (PERMUTATIONS, 1)), axis=1)
    reached = orders @ ranks[0] / scale >= found - 1e-12
    return found, float((1 + reached.sum()) / (1 + PERMUTATIONS))


def _ranks(column: Array) -> Array:
    """Centred ranks."""
    _, place, count = np.unique(column, return_inverse=True, return_counts=True)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    ranks = (first + (count - 1) / 2)[place]
    return np.asarray(ranks - ranks.mean())
