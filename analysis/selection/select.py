"""Choose among laws by how they extrapolate: fitted to small runs, scored on larger ones.

Owns `select_law` and its result. Splits are in windows.py, fits and scores in candidates.py and extrapolation.py, the
rule and its words in choice.py. It must not know tables, files or figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.formatting import format_percent
from analysis.runs.flags import outliers
from analysis.selection.averaging import Average, average_laws
from analysis.selection.candidates import Candidate, Spec, available, consider, inputs_of, law_named
from analysis.selection.choice import REFERENCE, Tie, choose, why
from analysis.selection.extrapolation import Redraws, held_rows
from analysis.selection.windows import NUM_WINDOWS, Window, compute_axis, expanding_windows, given_window
from analysis.uncertainty.bootstrap import cluster_codes


@dataclass(frozen=True, kw_only=True)
class Selection:
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


def select_law(
    data: Mapping[str, Any],
    *,
    laws: Sequence[str] | None = None,
    holdout: ArrayLike | None = None,
    holdout_name: str = "the hold-out",
    spec: Spec | None = None,
    reference: str | None = REFERENCE,
    noise: Estimate | None = None,
    cluster: str | None = None,
    average: bool = False,
    num_windows: int = NUM_WINDOWS,
    bootstrap: int = 2000,
    level: float = 0.95,
    rng: int | np.random.Generator = 0,
) -> Selection:
    """Rank laws by their error on larger runs than they were fitted to, and choose one.

    The best-ranked law that the runs identify is taken, with two corrections. A law of fewer parameters whose error is
    larger by less than what seeds alone do (from replicates, `noise`) is taken in its place. And when what is left is
    not better than the reference law in SURE of the redraws of runs and windows, the reference is kept: the best of
    several laws looks better than it is. Where the reference is not identified, laws that it surely outdoes are not
    taken either.

    Parameters
    ----------
    data : mapping or frame with loss and the laws' inputs; one of tokens and flops suffices with params
    laws : names; every law of the registry whose inputs are there by default
    holdout : mask of rows to hold out, shape (n,); nested cut-offs in compute by default
    spec : objective, residuals and weights of every fit
    reference : name of the law that others have to beat; None for none
    noise : standard deviation between seeds, a fraction of the loss
    cluster : column whose rows are redrawn together
    average : weigh the identified laws too
    num_windows : most cut-offs
    bootstrap : redraws of held-out runs and windows
    rng : seed or generator of the redraws

    Raises
    ------
    UserError
        For runs that cannot be split, laws that the table cannot be fitted with, and bad options.
    """
    spec = spec or Spec()
    axis, compute = compute_axis({str(name): data[name] for name in data})
    columns = inputs_of(data)
    losses = np.asarray(columns["loss"], dtype=np.float64)
    names = list(dict.fromkeys(available(columns) if laws is None else laws))
    for name in names:
        law_named(name, columns)
    if not names:
        raise UserError("no law of the registry reads these columns alone; name more of them with --columns")
    if holdout is None:
        windows = expanding_windows(axis, compute, num=num_windows)
    else:
        windows = given_window(holdout, name=holdout_name)
    rows = np.ones(losses.size, dtype=bool) if holdout is None else windows[0].fitted
    codes = cluster_codes(None if cluster is None else columns[cluster], losses.size)
    redraws = Redraws.of(windows, codes, draws=bootstrap, rng=np.random.default_rng(rng))
    scored: list[Candidate] = []
    unscored: dict[str, str] = {}
    for name in names:
        try:
            scored.append(consider(name, columns, windows, redraws, spec=spec, rows=rows, level=level))
        except UserError as error:
            unscored[name] = str(error)
    if not scored:
        raise UserError("no law could be scored: " + "; ".join(f"{name}: {why}" for name, why in unscored.items()))
    scored.sort(key=lambda one: (one.score.mape.value, one.num_params))
    choice = choose(scored, windows, reference=reference, noise=noise)
    looked = next((one for one in scored if one.name == choice.chosen), scored[0])
    return Selection(
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
        average=average_laws(scored, losses, windows, redraws, level=level) if average else None,
        redraws=redraws,
        level=level,
    )


def _outliers(law: Candidate, columns: Mapping[str, Any], rows: NDArray[np.bool_], spec: Spec) -> dict[int, str]:
    """Rows far from the law that was fitted to `rows`, with what is said about them."""
    predicted = law.fit.predict(columns, interval="none")["loss"].to_numpy(dtype=np.float64)
    losses = np.asarray(columns["loss"], dtype=np.float64)
    residuals = np.log(losses / predicted) if spec.residuals == "log" else losses - predicted
    far = np.flatnonzero(outliers(residuals, rows))
    scale = max(1.4826 * float(np.median(np.abs(residuals[rows]))), 1e-15)
    said = {}
    for row in far:
        fraction = (losses[row] - predicted[row]) / abs(predicted[row])
        said[int(row)] = (
            f"{format_percent(abs(fraction))} {'above' if fraction > 0 else 'below'} {law.name}, "
            f"{abs(residuals[row]) / scale:.0f} times the typical deviation"
        )
    return said
