"""Re-fits of published fine-tuning runs: Lin et al. 2024 by the law `bounded`, and the LoRA sweep of Thinking Machines'
cookbook by powers of the rank.

    python -m benchmarks.finetuning_laws ../shared/data --json benchmarks/finetuning_laws.json

Lin: one fit for each of 30 models and two tasks, to the losses at 200 examples and more, and once more with the loss
without any example. Beside each stands the published law, L = E + B / (D_l + D**b), fitted to the same rows by scipy
from random starts: the two are one family, so that `bounded` should lie nowhere above it. LoRA: the best rate of each
model and rank where it lies inside the grid of rates, by a parabola in log rate; its slope in log rank; and the loss
there as E_m + A_m rank**-c with one c for all models. Some rates were tried twice: their mean is taken, and the first
and the last alone beside it. `bars` says what holds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.optimize import least_squares, minimize_scalar, nnls

from analysis.arrays import Array
from analysis.fitting.fit_law import fit_law

PUBLISHED_RMSD = {"flan": 0.0065, "wmt19": 0.0123}
"""Mean RMSD of log loss of Lin et al.'s rectified law."""
MOST_RMSD = {"flan": 0.0065, "wmt19": 0.0118}
"""Mean RMSD that `bounded` may have."""
SLOPE, EXPONENT = (0.22, 0.07), (0.43, 0.08)
"""Slope of LoRA's best rate in rank and exponent of its loss, and how far from them a re-fit may lie."""
STARTS = 24
"""Random starts of the published law."""
BOUNDS = ((-40, -40, -40, -6), (40, 40, 40, 2))
"""Smallest and largest logarithms of E, B, D_l and b, of examples over their geometric mean."""
Repeats = Literal["mean", "first", "last"]
"""Which of the losses of a rate that was tried more than once."""


def published_rmsd(examples: Array, loss: Array, rng: np.random.Generator) -> float:
    """RMSD of log loss of the law as it was published, from random starts."""
    scale = float(np.log(examples[examples > 0]).mean())

    def residuals(theta: Array) -> Array:
        floor, height, cut, power = np.exp(theta)
        return np.log((floor + height / (cut + (examples / np.exp(scale)) ** power)) / loss)

    best = np.inf
    for _ in range(STARTS):
        start = np.array([np.log(loss.min()) - 3 * rng.random(), rng.normal(), rng.normal(0, 2), rng.normal(-0.7, 0.5)])
        done = least_squares(residuals, start, bounds=BOUNDS, x_scale="jac")
        best = min(best, float(np.sqrt(2 * done.cost / loss.size)))
    return best


def lin(folder: Path, task: str, *, with_none: bool = False) -> dict[str, Any]:
    """The fits of one task: mean and largest RMSD of log loss, and which ends are not identified."""
    table = pd.read_csv(folder / "lin_finetuning" / f"{task}.csv")
    names = [name for name in table.columns if name.isdigit() and (with_none or name != "0")]
    examples, rng = np.array([float(name) for name in names]), np.random.default_rng(0)
    errors, others, unknown, ends = list[float](), list[float](), 0, 0
    for _, row in table.iterrows():
        loss = row[names].to_numpy(dtype=float)
        fit = fit_law("bounded", {"x": examples, "loss": loss}, objective="squared", bootstrap=0)
        predicted = fit.predict({"x": examples}, interval="none")["loss"].to_numpy()
        errors.append(float(np.sqrt(np.mean(np.log(predicted / loss) ** 2))))
        others.append(published_rmsd(examples, loss, rng))
        unknown += sum(fit.estimates[name].reason is not None for name in "EI")
        ends += sum(fit.estimates[name].reason is not None or fit.estimates[name].lo is not None for name in "EI")
    return {
        "curves": len(errors),
        "mean_rmsd": float(np.mean(errors)),
        "largest_rmsd": max(errors),
        "published_mean_rmsd": PUBLISHED_RMSD[task],
        "refitted_mean_rmsd": float(np.mean(others)),
        "curves_within_a_hundredth": sum(one <= 1.01 * other for one, other in zip(errors, others, strict=True)),
        "ends_with_interval_or_reason": ends,
        "ends_not_identified": unknown,
    }


def best_rates(table: pd.DataFrame, repeats: Repeats) -> pd.DataFrame:
    """One row for each model and rank: log of the best rate, the loss there, and whether it lies at an edge."""
    rows = []
    for (model, rank), cell in table.groupby(["model", "rank"]):
        cell = cell.groupby("lr", as_index=False)[["test_nll"]].agg(repeats)  # some rates were tried twice
        x, y = np.log(cell["lr"].to_numpy()), cell["test_nll"].to_numpy()
        best = int(y.argmin())
        edge = best in (0, y.size - 1)
        at, loss = x[best], y[best]
        if not edge:
            a, b, c = np.polyfit(x[best - 1 : best + 2] - x[best], y[best - 1 : best + 2], 2)
            at, loss = x[best] - b / (2 * a), c - b * b / (4 * a)
        rows.append({"model": model, "rank": rank, "log_lr": at, "loss": loss, "edge": edge})
    return pd.DataFrame(rows)


def lora(folder: Path, repeats: Repeats = "mean") -> dict[str, Any]:
    """Slope of the best rate in rank, and exponent of the loss in rank."""
    cells = best_rates(pd.read_csv(folder / "tinker_lora" / "sweep.csv"), repeats)
    inner = cells[~cells["edge"]]
    slopes = [
        float(np.polyfit(np.log(part["rank"]), part["log_lr"], 1)[0])
        for _, part in inner.groupby("model")
        if len(part) > 1
    ]
    parts = [part for _, part in inner.groupby("model") if len(part) > 2]

    def squares(exponent: float) -> float:
        total = 0.0
        for part in parts:
            loss = part["loss"].to_numpy()
            columns = np.stack([np.ones(len(part)), part["rank"].to_numpy(dtype=float) ** -exponent], axis=1)
            total += nnls(columns / loss[:, None], np.ones(len(part)))[1] ** 2
        return total

    best = minimize_scalar(squares, bounds=(0.05, 2.0), method="bounded")
    rows = sum(map(len, parts))
    freedom = rows - 2 * len(parts) - 1
    step = 0.02
    bend = (squares(best.x + step) - 2 * best.fun + squares(best.x - step)) / step**2
    return {
        "cells": len(cells),
        "cells_at_an_edge": int(cells["edge"].sum()),
        "models_with_a_slope": len(slopes),
        "slope_of_best_rate": float(np.mean(slopes)),
        "slope_se": float(np.std(slopes, ddof=1) / np.sqrt(len(slopes))),
        "models_with_a_loss_law": len(parts),
        "exponent_of_loss": float(best.x),
        "exponent_se": float(np.sqrt(2 * best.fun / max(freedom, 1) / bend)),
    }


def bars(record: dict[str, Any]) -> dict[str, bool]:
    """Which bars hold."""
    found = {}
    for rows in ("lin", "lin_with_no_examples"):
        for task, most in MOST_RMSD.items():
            fits = record[rows][task]
            found[f"{rows} {task}: mean RMSD at most {most}"] = fits["mean_rmsd"] <= most
            every = fits["curves_within_a_hundredth"] == fits["curves"]
            found[f"{rows} {task}: every curve within 1.01 times the published law"] = every
            explained = fits["ends_with_interval_or_reason"] == 2 * fits["curves"]
            found[f"{rows} {task}: every end has an interval or a reason"] = explained
    for name in ("lora", "lora_first", "lora_last"):
        fits = record[name]
        found[f"{name}: slope of the best rate"] = abs(fits["slope_of_best_rate"] - SLOPE[0]) <= SLOPE[1]
        found[f"{name}: exponent of the loss"] = abs(fits["exponent_of_loss"] - EXPONENT[0]) <= EXPONENT[1]
    return found


def main() -> int:
    """Print the record, and write it where --json says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of published runs")
    parser.add_argument("--json", type=Path, help="write the record here")
    args = parser.parse_args()
    record: dict[str, Any] = {
        "lin": {task: lin(args.data, task) for task in PUBLISHED_RMSD},
        "lin_with_no_examples": {task: lin(args.data, task, with_none=True) for task in PUBLISHED_RMSD},
        "lora": lora(args.data),
        "lora_first": lora(args.data, "first"),
        "lora_last": lora(args.data, "last"),
    }
    record["bars"] = bars(record)
    text = json.dumps(record, indent=1) + "\n"
    print(text, end="")
    if args.json:
        args.json.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
