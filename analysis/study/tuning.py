"""What a report of a fine-tuning sweep is about: cells of tuned runs, where methods cross, laws, and what was held out.

A cell is a body, a method and a number of examples; its loss is the mean over seeds at the rate that was best on
validation. It must not know figures or HTML.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.fitting.spec import FitSpec
from analysis.runs.columns import as_columns
from analysis.runs.files import read_rows
from analysis.study.methods import (
    REFERENCE,
    equal_flops,
    in_order,
    paired_methods,
    rate_vertices,
    size_slopes,
)
from analysis.study.transfer import examples_worth
from experiments.manifests import Manifest

CELL = ["pretrained", "params", "arm", "examples"]
"""What a cell is told by."""
MIN_ROWS = 6
"""Fitted runs below which a method has no law."""
DRAWS = 2000
"""Draws of the noise between seeds, for crossovers."""
MEASURES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "mcc": "MCC",
    "exact_match": "exact match",
    "f1": "F1 of answers",
    "bleu": "BLEU",
    "chrf": "chrF2",
    "rougeL": "ROUGE-L",
}
"""Measures beside the loss by their columns, as people call them; a kind of task has some of them."""


@dataclass(frozen=True, kw_only=True)
class TuningStudy:
    """A fine-tuning sweep as its report shows it."""

    title: str
    """Heading of the page."""
    runs: pd.DataFrame
    """Every published run, with `arm`: the method, and its size where it has several."""
    cells: pd.DataFrame
    """One row a cell: CELL, role, loss, loss_se (noise between seeds and what a finer search for the rate could gain),
    `measures`, lr, lr_vertex (between the rates tried), rate_at_edge, rate_spare, trainable_params, flops, forgetting,
    pretrained_loss, num_seeds, method, size."""
    measures: tuple[str, ...]
    """Names of MEASURES that the runs have."""
    crossovers: pd.DataFrame
    """pretrained, params, arm, and the examples from which full fine-tuning has the lower loss: examples, lo, hi, or a
    reason."""
    laws: pd.DataFrame
    """One row a method and parameter: value, lo, hi, identified, or a reason why there is no law."""
    heldout: pd.DataFrame
    """Held-out cells: CELL, measured, predicted, lo, hi, carried_forward."""
    pairs: pd.DataFrame
    """`methods.paired_methods`: differences to full fine-tuning on the same test examples."""
    equal_flops: pd.DataFrame
    """`methods.equal_flops`: what methods reach at the same compute."""
    slopes: pd.DataFrame
    """`methods.size_slopes`: best rate and loss against a method's size."""
    worth: pd.DataFrame
    """`transfer.examples_worth`: from how many examples fresh weights reach a tuned body's loss."""
    notes: tuple[str, ...]
    """What to know before using the numbers."""

    @property
    def arms(self) -> list[str]:
        """Methods, those with the most trained parameters first."""
        trainable = self.cells.groupby("arm")["trainable_params"].max()
        return [str(arm) for arm in trainable.sort_values(ascending=False, kind="stable").index]

    @property
    def training_sizes(self) -> list[int]:
        """Numbers of examples from which something was trained, rising."""
        return sorted({int(count) for count in self.cells["examples"] if count > 0})

    @property
    def bodies(self) -> pd.DataFrame:
        """pretrained and params of every body, the smallest first."""
        found = self.cells[["pretrained", "params"]].drop_duplicates()
        return found.sort_values(["params", "pretrained"]).reset_index(drop=True)


def build_tuning_study(path: Path, manifest: Manifest, *, bootstrap: int = 200, seed: int = 0) -> TuningStudy:
    """Read the runs of a fine-tuning sweep, and find what its report shows.

    Parameters
    ----------
    path : Path
        The manifest.
    manifest : Manifest
        The same, read.
    bootstrap : int
        Draws of each law.
    seed : int
        Seed of the draws.

    Returns
    -------
    TuningStudy
        Everything in it is computed.

    Raises
    ------
    UserError
        When no cell has a best rate yet.
    """
    runs = read_rows(path)
    runs["arm"] = _arms(runs)
    done = runs[runs["status"] == "done"]
    best = done[done["best"].astype(bool)]
    if best.empty:
        raise UserError(f"{path}: no cell has a best rate yet; go on with `isoflop run`")
    measures = tuple(name for name in MEASURES if name in best and best[name].notna().any())
    cells = in_order(_cells(best, measures).merge(rate_vertices(done, CELL), on=CELL, how="left"), CELL)
    laws, heldout, notes = _laws(best, cells, FitSpec(bootstrap=bootstrap, seed=seed))
    return TuningStudy(
        title=str(manifest.report.get("title") or manifest.name),
        runs=runs,
        cells=cells,
        measures=measures,
        crossovers=in_order(_crossovers(cells, np.random.default_rng(seed)), ["pretrained", "params", "arm"]),
        laws=laws,
        heldout=heldout,
        pairs=in_order(paired_methods(path, best), ["pretrained", "params", "examples", "arm"]),
        equal_flops=equal_flops(cells),
        slopes=size_slopes(cells),
        worth=examples_worth(cells, np.random.default_rng(seed)),
        notes=(*_notes(manifest, runs, cells), *notes),
    )


def _arms(runs: pd.DataFrame) -> pd.Series:
    """The method of each run, with its size where the method has several and its scaling where there are two."""
    arm = runs["method"].astype(str)
    sizes = runs.groupby("method")["size"].transform("nunique") > 1
    return arm.where(~sizes, arm + " " + runs["size"].fillna(0).astype(int).astype(str))


def _cells(best: pd.DataFrame, measures: tuple[str, ...]) -> pd.DataFrame:
    """Means over seeds; the noise between seeds is pooled over the cells of a method as a fraction of the loss."""
    averaged = ["loss", *measures, "lr", "trainable_params", "flops", "forgetting", "pretrained_loss"]
    numbers = best.assign(**{name: pd.to_numeric(best[name], errors="coerce") for name in averaged})
    grouped = numbers.groupby(CELL, sort=True)
    cells = grouped[averaged].mean()
    cells["method"] = grouped["method"].first()
    cells["size"] = pd.to_numeric(grouped["size"].first(), errors="coerce")
    cells["role"] = grouped["role"].first()
    cells["rate_at_edge"] = grouped["rate_at_edge"].any()
    cells["rate_spare"] = pd.to_numeric(grouped["rate_spare"].first(), errors="coerce")
    cells["num_seeds"] = grouped.size()
    relative = (best["loss"] / best.groupby(CELL)["loss"].transform("mean") - 1) ** 2
    freedom = (grouped.size() - 1).groupby("arm").sum()
    pooled = np.sqrt(relative.groupby(best["arm"]).sum() / freedom.where(freedom > 0))
    noise = cells.index.get_level_values("arm").map(pooled) * cells["loss"] / np.sqrt(cells["num_seeds"])
    cells["loss_se"] = np.sqrt(noise**2 + cells["rate_spare"].fillna(0.0) ** 2)
    return cells.reset_index()


def _crossovers(cells: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """For each body and method, the examples from which full fine-tuning has the lower loss."""
    rows = []
    for (body, params), group in cells[cells["examples"] > 0].groupby(["pretrained", "params"], sort=True):
        curves = {arm: curve.sort_values("examples") for arm, curve in group.groupby("arm")}
        reference = curves.pop(REFERENCE, None)
        if reference is None:
            continue
        for arm, curve in curves.items():
            rows.append({"pretrained": body, "params": params, "arm": arm, **_crossover(reference, curve, rng)})
    return pd.DataFrame(rows, columns=["pretrained", "params", "arm", "examples", "lo", "hi", "reason"])


def _crossover(reference: pd.DataFrame, other: pd.DataFrame, rng: np.random.Generator) -> dict[str, object]:
    """Where the difference of two curves changes its sign, with an interval from draws of the noise; or a reason."""
    both = reference.merge(other, on="examples", suffixes=("", "_other"))
    log_x = np.log(both["examples"].to_numpy(dtype=float))
    gain = (both["loss_other"] - both["loss"]).to_numpy(dtype=float)  # above zero: full is better
    spread = np.hypot(both["loss_se"].to_numpy(dtype=float), both["loss_se_other"].to_numpy(dtype=float))
    absent: dict[str, object] = {"examples": None, "lo": None, "hi": None}
    if len(both) < 2:
        return absent | {"reason": "fewer than two common sizes of the training set"}
    here = _sign_change(log_x, gain)
    if here is None:
        better = REFERENCE if gain[-1] > 0 else str(other["arm"].iloc[0])
        return absent | {
            "reason": f"not reached: {better} is the better one up to {int(both['examples'].max())} examples"
        }
    value = float(np.exp(here))
    if not np.isfinite(spread).all():
        return absent | {"examples": value, "reason": "no interval: no cell has a second seed"}
    drawn = [_sign_change(log_x, gain + spread * rng.standard_normal(len(gain))) for _ in range(DRAWS)]
    crossed = np.array([place for place in drawn if place is not None])
    if len(crossed) < 0.95 * DRAWS:
        share = 1 - len(crossed) / DRAWS
        return absent | {"examples": value, "reason": f"no interval: {share:.0%} of draws do not cross"}
    low, high = np.exp(np.quantile(crossed, [0.025, 0.975]))
    return {"examples": value, "lo": float(low), "hi": float(high), "reason": None}


def _sign_change(log_x: Array, gain: Array) -> float | None:
    """Where a difference turns from at most zero to above it for good, by straight lines between points, or None."""
    below = np.flatnonzero(gain <= 0)
    if not len(below) or below[-1] == len(gain) - 1:
        return None
    i = int(below[-1])
    share = -gain[i] / (gain[i + 1] - gain[i])
    return float(log_x[i] + share * (log_x[i + 1] - log_x[i]))


def _laws(best: pd.DataFrame, cells: pd.DataFrame, spec: FitSpec) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """A law of each method from its fitted runs, and what it predicts of the cells that were held out."""
    rows: list[dict[str, object]] = []
    held_rows: list[dict[str, object]] = []
    for arm, runs in best[(best["examples"] > 0) & ~best["rate_at_edge"].astype(bool)].groupby("arm", sort=True):
        fitted = runs[runs["role"] == "fit"]
        law = "zhang" if len(fitted["params"].unique()) > 1 else "bounded"
        fit: Fit | None = None
        if len(fitted) < MIN_ROWS or len(fitted["examples"].unique()) < 2:
            rows.append({"arm": arm, "law": law, "reason": f"{len(fitted)} fitted runs are too few for a law"})
        else:
            fit = _fit(law, fitted, spec)
            for name, one in fit.estimates.items():
                known = {"value": one.value, "lo": one.lo, "hi": one.hi, "reason": one.reason}
                rows.append({"arm": arm, "law": law, "parameter": name, **known})
        held_rows += _held(str(arm), runs[runs["role"] == "heldout"], cells, fit)
    rows += _transfer(best, spec)
    columns = ["arm", "law", "parameter", "value", "lo", "hi", "reason"]
    laws = pd.DataFrame(rows).reindex(columns=columns)
    held_columns = [*CELL, "measured", "predicted", "lo", "hi", "carried_forward"]
    held = pd.DataFrame(held_rows).reindex(columns=held_columns)
    notes = [] if len(held) else ["no run is held out: the sweep has one size of the training set, or waits for it"]
    return laws, held, notes


def _transfer(best: pd.DataFrame, spec: FitSpec) -> list[dict[str, object]]:
    """Hernandez et al. 2021 where passages are learnt both from bodies and from scratch: what pre-training is worth.

    The data that it saves are D_T = k D_F^alpha N^beta tokens of the passages' corpus.
    """
    known: dict[str, object] = {"arm": "full and scratch", "law": "hernandez"}
    both = best[best["method"].isin(["full", "scratch"]) & (best["examples"] > 0) & (best["role"] == "fit")]
    both = both[~both["rate_at_edge"].astype(bool)]
    if both.empty or not both["task"].eq("corpus").all() or set(both["method"]) != {"full", "scratch"}:
        return []
    if both["params"].nunique() < 2 or both["examples"].nunique() < 3:
        return [known | {"reason": "the transfer needs two sizes of bodies and three of data inside their rates"}]
    frame = as_columns(both, ["params", "finetune_tokens", "loss"])
    frame["pretrained"] = (both["method"] == "full").to_numpy(dtype=float)
    fit = fit_law("hernandez", frame, spec)
    return [
        known | {"parameter": name, "value": one.value, "lo": one.lo, "hi": one.hi, "reason": one.reason}
        for name, one in fit.estimates.items()
    ]


def _fit(law: str, runs: pd.DataFrame, spec: FitSpec) -> Fit:
    frame = runs.assign(x=runs["examples"])
    names = ["params", "finetune_tokens", "loss"] if law == "zhang" else ["x", "loss"]
    return fit_law(law, as_columns(frame, names), spec)


def _held(arm: str, runs: pd.DataFrame, cells: pd.DataFrame, fit: Fit | None) -> list[dict[str, object]]:
    """Held-out cells of a method with its law's prediction, and the loss of the next smaller training set beside it."""
    out: list[dict[str, object]] = []
    for (body, params, examples), rows in runs.groupby(["pretrained", "params", "examples"], sort=True):
        smaller = cells[(cells["pretrained"] == body) & (cells["arm"] == arm) & (cells["examples"] < examples)]
        smaller = smaller[smaller["examples"] > 0].sort_values("examples")
        row: dict[str, object] = {"pretrained": body, "params": params, "arm": arm, "examples": examples}
        row["measured"] = float(rows["loss"].mean())
        row["carried_forward"] = float(smaller["loss"].iloc[-1]) if len(smaller) else None
        if fit is not None:
            frame = rows.assign(x=rows["examples"]).head(1)
            predicted = fit.predict(as_columns(frame, fit.law.inputs)).iloc[0]
            row |= {"predicted": predicted["loss"], "lo": predicted["prediction_lo"], "hi": predicted["prediction_hi"]}
        out.append(row)
    return out


def _notes(manifest: Manifest, runs: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """What is unfinished, at an edge, cut or not tuned."""
    notes = []
    lacking = len(manifest.runs) - len(runs)
    if lacking:
        notes.append(f"{lacking} of {len(manifest.runs)} runs have no record yet")
    for status, count in runs["status"].value_counts().items():
        if status != "done":
            notes.append(f"{count} runs {status}; their rates count as the worst ones")
    edge = cells[cells["rate_at_edge"]]
    if len(edge):
        named = ", ".join(f"{arm} ({count})" for arm, count in edge["arm"].value_counts().sort_index().items())
        notes.append(
            f"{len(edge)} of {len(cells)} cells have their best rate at the edge of those tried: {named}; their losses "
            f"are upper bounds, and no law is fitted to them"
        )
    cut = runs["truncated_test"].max() / runs["num_val_tokens"].max() if "truncated_test" in runs else 0.0
    if cut > 0:
        notes.append(f"up to {cut:.1%} of the test inputs were longer than the context and were cut")
    return notes
