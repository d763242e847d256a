"""Choose among laws by how they extrapolate: fitted to small runs, scored on larger ones.

Owns `select_law` and its result. Splits are in windows.py, fits and scores in candidates.py and extrapolation.py, the
rule and its words in choice.py. It must not know tables, files or figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate, percent_text
from analysis.fitting.spec import FitOptions, FitSpec, spec_from
from analysis.formatting import format_percent
from analysis.runs.flags import outliers
from analysis.selection.averaging import Average, average_laws
from analysis.selection.candidates import Candidate, available, consider, inputs_of, law_named
from analysis.selection.choice import REFERENCE, Tie, choose, why
from analysis.selection.extrapolation import Redraws
from analysis.selection.windows import Window, compute_axis, given_window, held_rows, nested_windows
from analysis.uncertainty.bootstrap import cluster_codes

NUM_REDRAWS = 2000
"""Redraws of held-out runs and windows where none are named."""


@dataclass(frozen=True, kw_only=True)
class SelectionResult:
    """Laws ranked by how they extrapolate, and the one chosen."""

    chosen: str | None
    """Name of the chosen law; None when the runs identify none."""
    why: str
    """One sentence or two."""
    candidates: tuple[Candidate, ...]
    """Every law that could be scored, by its error, least first."""
    windows: tuple[Window, ...]
    """What was held out."""
    axis: str
    """What the windows grow in."""
    compute: Array
    """Values of the axis, shape (n,)."""
    losses: Array
    """Measured losses, shape (n,)."""
    noise: Estimate | None
    """Standard deviation between seeds, a fraction of the loss; None without replicates."""
    ties: tuple[Tie, ...]
    """What was decided by the noise floor."""
    reference: str | None
    """The law that others had to beat; None where it was not scored."""
    sureness: float | None
    """Share of redraws in which the best law beats the reference; None when it is the reference, or without one."""
    unscored: Mapping[str, str]
    """Laws that could not be scored, with reasons."""
    outliers: Mapping[int, str]
    """Rows far from the chosen (or best) law, with reasons; they were fitted and scored all the same."""
    average: Average | None
    """The average over the laws that are identified, when it was asked for."""
    redraws: Redraws
    """Which runs and windows every redraw took."""
    level: float
    """Nominal coverage of the intervals."""

    def __getitem__(self, name: str) -> Candidate:
        return next(one for one in self.candidates if one.name == name)

    @property
    def held(self) -> NDArray[np.bool_]:
        """Which rows each window holds out, shape (W, n)."""
        return held_rows(self.windows)

    @property
    def num_heldout(self) -> int:
        """Runs that at least one window holds out."""
        return int(self.held.any(axis=0).sum())

    def __repr__(self) -> str:
        names = ", ".join(one.name for one in self.candidates)
        return f"SelectionResult({self.chosen or 'no law'} of {names}, by {self.num_heldout} held-out runs)"

    def _repr_html_(self) -> str:
        """The ranking and the reason, for notebooks."""
        rows = []
        for one in self.candidates:
            name = f"<b>{escape(one.name)}</b>" if one.name == self.chosen else escape(one.name)
            cells = (name, str(one.num_params), escape(percent_text(one.score.mape)), escape(one.reason or ""))
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        head = "".join(f"<th>{name}</th>" for name in ("law", "parameters", "held-out error", ""))
        return f"<table><tr>{head}</tr>{''.join(rows)}</table><p>{escape(self.why)}</p>"


def select_law(
    data: Mapping[str, Any],
    spec: FitSpec | None = None,
    *,
    laws: Sequence[str] | None = None,
    holdout: ArrayLike | Sequence[Window] | None = None,
    reference: str | None = REFERENCE,
    noise: Estimate | None = None,
    average: bool = False,
    **options: Unpack[FitOptions],
) -> SelectionResult:
    """Rank laws by their error on larger runs than they were fitted to, and choose one.

    The best-ranked law that the runs identify is taken, with two corrections. A law of fewer parameters whose error is
    larger by less than what seeds alone do (from replicates, `noise`) is taken in its place. And when what is left is
    not better than the reference law in SURE of the redraws of runs and windows, the reference is kept: the best of
    several laws looks better than it is. Where the reference is not identified, laws that it surely outdoes are not
    taken either.

    Parameters
    ----------
    data : mapping or DataFrame
        Loss and the laws' inputs; one of tokens and flops suffices with params.
    spec : FitSpec, optional
        Objective, residuals, weights and bounds of every fit; clusters, seed and number of the redraws of held-out runs
        and windows (2,000 by default); level of the intervals.
    laws : sequence of str, optional
        Names; every law of the registry whose inputs are there by default.
    holdout : array of bool, shape (n,), or sequence of Window, optional
        Rows to hold out, or the splits themselves; nested cut-offs in compute by default.
    reference : str or None
        The law that others have to beat; None for none.
    noise : Estimate, optional
        Standard deviation between seeds, a fraction of the loss.
    average : bool
        Whether to weigh the identified laws too.
    **options
        Fields of the FitSpec by keyword; they go before those of `spec`.

    Returns
    -------
    SelectionResult
        The ranking, the choice and its reason.

    Raises
    ------
    UserError
        For runs that cannot be split, laws that the table cannot be fitted with, and bad options.
    """
    spec = spec_from(spec, options, bootstrap=NUM_REDRAWS)
    axis, compute = compute_axis({str(name): data[name] for name in data})
    columns = inputs_of(data)
    losses = np.asarray(columns["loss"], dtype=np.float64)
    windows = _windows(holdout, {axis: compute})
    names = _names(laws, columns)
    rows = np.ones(losses.size, dtype=bool) if windows[0].cutoff is not None else windows[0].fitted
    redraws = _redraws(windows, columns, spec)
    scored, unscored = _scored(names, columns, windows, redraws, spec, rows)
    choice = choose(scored, windows, reference=reference, noise=noise)
    looked = next((one for one in scored if one.name == choice.chosen), scored[0])
    return SelectionResult(
        chosen=choice.chosen,
        why=why(choice, scored, windows),
        candidates=tuple(scored),
        windows=windows,
        axis=axis,
        compute=compute,
        losses=losses,
        noise=noise,
        ties=choice.ties,
        reference=choice.reference,
        sureness=choice.sureness,
        unscored=unscored,
        outliers=_outliers(looked, columns, rows, spec),
        average=average_laws(scored, losses, windows, redraws, level=spec.level) if average else None,
        redraws=redraws,
        level=spec.level,
    )


def _windows(holdout: ArrayLike | Sequence[Window] | None, axis: Mapping[str, Array]) -> tuple[Window, ...]:
    """The splits: as given, of a mask, or nested cut-offs."""
    if holdout is None:
        ((name, values),) = axis.items()
        return nested_windows({name: values})
    if isinstance(holdout, Sequence) and holdout and isinstance(holdout[0], Window):
        return tuple(one for one in holdout if isinstance(one, Window))
    return given_window(np.asarray(holdout, dtype=bool), name="the hold-out")


def _names(laws: Sequence[str] | None, columns: Mapping[str, Any]) -> list[str]:
    """The laws that are looked at, each once."""
    names = list(dict.fromkeys(available(columns) if laws is None else laws))
    for name in names:
        law_named(name, columns)
    if not names:
        raise UserError("no law of the registry reads these columns alone; name more of them with --columns")
    return names


def _redraws(windows: Sequence[Window], columns: Mapping[str, Any], spec: FitSpec) -> Redraws:
    """The draws of held-out runs and windows that all laws share."""
    labels = columns[spec.cluster] if isinstance(spec.cluster, str) else spec.cluster
    codes = cluster_codes(labels, windows[0].held.size)
    return Redraws.of(windows, codes, draws=spec.bootstrap, rng=spec.generator)


def _scored(
    names: Sequence[str],
    columns: Mapping[str, Any],
    windows: Sequence[Window],
    redraws: Redraws,
    spec: FitSpec,
    rows: NDArray[np.bool_],
) -> tuple[list[Candidate], dict[str, str]]:
    """Laws by their error, least first, and why others have none."""
    scored: list[Candidate] = []
    unscored: dict[str, str] = {}
    for name in names:
        try:
            scored.append(consider(name, columns, windows, redraws, spec=spec, rows=rows))
        except UserError as error:
            unscored[name] = str(error)
    if not scored:
        raise UserError("no law could be scored: " + "; ".join(f"{name}: {why}" for name, why in unscored.items()))
    return sorted(scored, key=lambda one: (one.score.mape.value, one.num_params)), unscored


def _outliers(law: Candidate, columns: Mapping[str, Any], rows: NDArray[np.bool_], spec: FitSpec) -> dict[int, str]:
    """Rows far from the law that was fitted to `rows`, with what is said about them."""
    predicted = law.fit.predict(columns, interval="none")["loss"].to_numpy(dtype=np.float64)
    losses = np.asarray(columns["loss"], dtype=np.float64)
    residuals = np.log(losses / predicted) if spec.residuals == "log" else losses - predicted
    typical = max(1.4826 * float(np.median(np.abs(residuals[rows]))), 1e-15)
    found = {}
    for row in np.flatnonzero(outliers(residuals, rows)):
        fraction = (losses[row] - predicted[row]) / abs(predicted[row])
        found[int(row)] = (
            f"{format_percent(abs(fraction))} {'above' if fraction > 0 else 'below'} {law.name}, "
            f"{abs(residuals[row]) / typical:.0f} times the typical deviation"
        )
    return found
