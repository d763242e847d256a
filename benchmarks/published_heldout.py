"""What `select` chooses on published runs without their largest budgets, and how it and Hoffmann's form then predict
these.

Owns the list of published sets and the comparison. The runs are read from a folder outside the project; nothing of it
is kept here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.published.refits import epoch_table
from analysis.runs.budgets import group_budgets
from analysis.runs.table import RunTable, load_tables
from analysis.selection.select import SelectionResult, select_law

HELD_SHARE = 0.1
"""The largest budgets that hold at least this fraction of the runs are held out."""
REFERENCE = "hoffmann"
"""The form that the choice is compared with."""
INPUTS = ("params", "tokens", "flops", "loss", "width", "depth", "unique_tokens")
"""Columns that are read where a set has them."""


@dataclass(frozen=True, kw_only=True)
class HeldOutRow:
    """One published set."""

    name: str
    """Folder and part."""
    num_fitted: int
    """Runs that the choice was made on."""
    num_heldout: int
    """Runs that were predicted."""
    reach: float
    """Largest held-out compute over the largest fitted."""
    chosen: str | None
    """What `select` chose on the fitted runs alone; None when these identify no law."""
    mape: float | None
    """Its mean absolute error on the held-out runs, a fraction."""
    reference_mape: float
    """That of Hoffmann's form."""
    best: str
    """The law with the least error on the held-out runs, known afterwards."""
    best_mape: float
    """Its error."""

    @property
    def ratio(self) -> float | None:
        """Error of the choice over that of Hoffmann's form."""
        return None if self.mape is None else self.mape / self.reference_mape


def tables(folder: Path) -> Iterator[tuple[str, RunTable]]:
    """Every set of params, tokens and losses in the folder of published runs, by name."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder} of published runs; name it with --data FOLDER")
    yield "epoch_chinchilla", epoch_table(folder)
    path = folder / "isoflops" / "isoflops.csv"
    for name in sorted(pd.read_csv(path)["experiment"].unique()):
        yield f"isoflops {name}", load_tables([path], {"flops": "budget"}, f"experiment == '{name}'")
    keys = ["hparams", "warmup", "decay", "param_count", "val"]
    for entry in pd.read_csv(folder / "porian" / "published_exponents.csv").to_dict(orient="records"):
        where = " and ".join(f"{key} == '{entry[key]}'" for key in keys)
        label = " ".join(str(entry[key]) for key in keys)
        yield (
            f"porian {label}",
            load_tables([folder / "porian" / "isoflop_points.csv"], {"params": "n", "tokens": "t"}, where),
        )
    for dataset in ("c4_original", "rw_original"):
        for loss in ("loss_openlm", "loss_c4_val"):
            columns = {"params": "N", "tokens": "D", "loss": loss}
            yield (
                f"gadre {dataset} {loss}",
                load_tables([folder / "gadre" / "models.csv"], columns, f"dataset_name == '{dataset}'"),
            )
    for name in ("hot", "cool_begin", "lr_ablation_hot"):
        yield f"gemstones {name}", load_tables([folder / "gemstones" / f"{name}.csv"], {}, None)
    yield "scalebench data_constrained", load_tables([folder / "scalebench" / "data_constrained_train.csv"], {}, None)


def largest_budgets(frame: pd.DataFrame, *, share: float = HELD_SHARE) -> NDArray[np.bool_]:
    """The runs of the largest compute budgets, as many of these as hold at least `share` of the runs."""
    budget = group_budgets(frame)[0].to_numpy(dtype=np.float64)
    for cut in np.unique(budget)[::-1]:
        held = budget >= cut
        if held.mean() >= share:
            return np.asarray(held)
    raise UserError("the runs have no compute to be held out by")


def compare_set(name: str, table: RunTable, *, laws: list[str] | None = None) -> tuple[HeldOutRow, SelectionResult]:
    """Choose on the smaller runs alone, then predict the largest."""
    frame = table.frame
    held = largest_budgets(frame)
    data = {key: frame[key].to_numpy(dtype=np.float64) for key in INPUTS if key in frame.columns}
    small = {key: column[~held] for key, column in data.items()}
    large = {key: column[held] for key, column in data.items()}
    large["x"] = large["flops"]
    cluster = "run" if "run" in frame.columns else None
    if cluster:
        small[cluster] = frame[cluster].to_numpy()[~held]
    selection = select_law(small, laws=laws, cluster=cluster)
    errors = {one.name: _error(one.fit, large) for one in selection.candidates}
    reference = errors.get(REFERENCE)
    if reference is None:
        reference = _error(fit_law(REFERENCE, small), large)
    best = min(errors, key=lambda law: errors[law])
    row = HeldOutRow(
        name=name,
        num_fitted=int((~held).sum()),
        num_heldout=int(held.sum()),
        reach=float(large["flops"].max() / small["flops"].max()),
        chosen=selection.chosen,
        mape=None if selection.chosen is None else errors[selection.chosen],
        reference_mape=reference,
        best=best,
        best_mape=errors[best],
    )
    return row, selection


def _error(fit: Fit, data: dict[str, NDArray[np.float64]]) -> float:
    """Mean absolute error of a fit's predictions, a fraction; infinite when one is not finite."""
    predicted = fit.predict(data, interval="none")["loss"].to_numpy(dtype=np.float64)
    errors = np.abs(predicted - data["loss"]) / np.abs(data["loss"])
    return float(errors.mean()) if np.isfinite(errors).all() else float("inf")
