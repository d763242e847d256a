"""A tuned frontier replayed on published runs: `python -m benchmarks.tuned --record benchmarks/tuned.json
--page docs/tuned.md`.

StepLaw's grid (Li et al. 2025, arXiv 2503.04715, as ScaleBench has it) holds 2,702 runs in 300 cells of N, D and batch.
The rounds of `analysis.paired.rounds` ask for rates, and the nearest run of the grid answers. What they find is held
against all runs of the cell: the rate at which a quadratic through the five runs about the best one is least, the rate
of the best run, and its loss.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.paired.best_rates import Tuned, tune
from analysis.paired.cells import Cells, make_cells
from analysis.paired.rounds import BROAD_STEPS, STEP, anchors, wanted_rates
from experiments.files import write_atomic

COVARIATES = ("params", "tokens", "batch")
NUM_ANCHORS = 10
ROUNDS = 8
FIRST_RATE = 1e-3
"""Peak rate at the middle of the first round's sweeps: the usual one of models of this size."""


def read_grid(folder: Path) -> tuple[Cells, Array]:
    """All runs by cell."""
    frame = pd.read_csv(folder / "scalebench" / "lr_bsz_train.csv")
    names = {"non_embedding_param_size": "params", "data_size": "tokens", "bsz": "batch", "lm_loss": "loss"}
    columns = {ours: frame[theirs].to_numpy(dtype=float) for theirs, ours in {**names, "lr": "lr"}.items()}
    return make_cells(columns, COVARIATES)


def subset(cells: Cells, rows: list[int]) -> Cells:
    """The same cells with some of their runs."""
    keep = np.array(sorted(rows))
    return Cells(
        cell=cells.cell[keep],
        log_rate=cells.log_rate[keep],
        log_loss=cells.log_loss[keep],
        covariates=cells.covariates,
        names=cells.names,
        means=cells.means,
    )


def answer(cells: Cells, c: int, rate: float, taken: set[int]) -> int | None:
    """The run of a cell nearest to a rate, within half a step and not taken yet."""
    rows = [row for row in np.flatnonzero(cells.cell == c) if row not in taken]
    if not rows:
        return None
    row = min(rows, key=lambda one: abs(cells.log_rate[one] - rate))
    return int(row) if abs(cells.log_rate[row] - rate) < STEP / 2 + 1e-6 else None


def replay(cells: Cells) -> tuple[Tuned, set[int], list[int]]:
    """The rounds: what is known at the end, the runs that were asked for, and how many each round took."""
    taken: set[int] = set()
    counts = []
    for c in anchors(cells.covariates, NUM_ANCHORS):
        for k in BROAD_STEPS:
            row = answer(cells, int(c), np.log(FIRST_RATE) + k * STEP, taken)
            taken |= set() if row is None else {row}
    counts.append(len(taken))
    known = tune(subset(cells, list(taken)))
    for _ in range(ROUNDS):
        tried = [
            np.array([cells.log_rate[row] for row in taken if cells.cell[row] == c]) for c in range(cells.num_cells)
        ]
        before = len(taken)
        for c, rates in enumerate(wanted_rates(known, tried)):
            for rate in rates:
                row = answer(cells, c, float(rate), taken)
                taken |= set() if row is None else {row}
        counts.append(len(taken) - before)
        if counts[-1] == 0:
            break
        known = tune(subset(cells, list(taken)))
    return known, taken, counts


def least(log_rate: Array, log_loss: Array) -> float | None:
    """Log rate at which a quadratic through the five runs about the best one is least; None at an edge of the grid."""
    order = np.argsort(log_rate)
    x, y = log_rate[order], log_loss[order]
    k = int(np.argmin(y))
    if k == 0 or k == x.size - 1:
        return None
    near = slice(max(k - 2, 0), k + 3)
    second, first, _ = np.polyfit(x[near] - x[k], y[near], 2)
    return float(x[k] + np.clip(-first / (2 * second), x[near][0] - x[k], x[near][-1] - x[k])) if second > 0 else None


def compare(cells: Cells, known: Tuned, taken: set[int]) -> dict[str, Any]:
    """Shares over the cells, against all of their runs."""
    inside, best_inside, loss_off, chosen_off, flagged, edges = [], [], [], [], 0, 0
    for c, cell in enumerate(known.cells):
        rows = np.flatnonzero(cells.cell == c)
        x, y = cells.log_rate[rows], cells.log_loss[rows]
        lo, hi = (float(np.log(end)) for end in (cell.rate.lo or np.nan, cell.rate.hi or np.nan))
        place = least(x, y)
        if place is None:
            edges += 1
        else:
            inside.append(lo <= place <= hi)
            best_inside.append(lo - STEP / 4 <= x[np.argmin(y)] <= hi + STEP / 4)
        loss_off.append(np.log(cell.loss.value) - y.min())
        ran = [row for row in rows if row in taken]
        nearest = rows[np.argmin(np.abs(cells.log_rate[rows] - np.log(cell.rate.value)))]
        chosen_off.append(min(cells.log_loss[nearest], *(cells.log_loss[row] for row in ran)) - y.min())
        flagged += cell.edge is not None
    return {
        "cells": known_count(known),
        "cells_whose_grid_has_its_best_at_an_edge": edges,
        "optimum_within_interval": float(np.mean(inside)),
        "best_run_within_interval_and_half_a_grid_step": float(np.mean(best_inside)),
        "estimated_loss_within_0.2_percent": float(np.mean(np.abs(loss_off) <= 0.002)),
        "best_run_found_within_0.2_percent": float(np.mean(np.array(chosen_off) <= 0.002)),
        "largest_excess_of_best_run_found": float(np.max(chosen_off)),
        "median_width_of_interval_in_factors": float(
            np.median([cell.rate.hi / cell.rate.lo for cell in known.cells if cell.rate.hi and cell.rate.lo])
        ),
        "flagged_at_an_edge": flagged,
    }


def known_count(known: Tuned) -> int:
    """Cells with runs."""
    return sum(cell.num_runs > 0 for cell in known.cells)


def page_table(record: dict[str, Any]) -> str:
    """The table of the page."""

    def share(name: str) -> str:
        return f"{100 * record[name]:.1f} %"

    return "\n".join(
        [
            "| what | found |",
            "|---|---|",
            f"| runs, of {record['runs_of_the_grid']} | {record['runs_asked_for']} ({share('share_of_runs')}) |",
            f"| optimum within the 95 % interval | {share('optimum_within_interval')} of cells |",
            "| rate of the grid's best run within the interval and half a step of the grid | "
            f"{share('best_run_within_interval_and_half_a_grid_step')} |",
            "| best run found within .2 % of the grid's best loss | "
            f"{share('best_run_found_within_0.2_percent')}; the worst is off by "
            f"{100 * record['largest_excess_of_best_run_found']:.1f} % |",
            f"| loss at the best rate, estimated, within .2 % of it | {share('estimated_loss_within_0.2_percent')} |",
            f"| cells flagged at an edge | {record['flagged_at_an_edge']}; the grid itself has "
            f"{record['cells_whose_grid_has_its_best_at_an_edge']} |",
            "",
        ]
    )


def main() -> None:
    """Replay, print, write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--record", type=Path)
    parser.add_argument("--page", type=Path, help="write the table between the marks of this page")
    args = parser.parse_args()
    begun = time.process_time()
    cells, _ = read_grid(args.data)
    known, taken, counts = replay(cells)
    record = {
        "command": "python -m benchmarks.tuned --record benchmarks/tuned.json --page docs/tuned.md",
        "runs_of_the_grid": int(cells.cell.size),
        "runs_asked_for": len(taken),
        "share_of_runs": len(taken) / cells.cell.size,
        "by_round": counts,
        **compare(cells, known, taken),
        "law": {"coefficient": known.coefficient, **{name: e.value for name, e in known.exponents.items()}},
        "spread_of_cells_about_the_law": known.spread,
        "noise_of_log_loss": known.noise,
        "cpu_seconds": round(time.process_time() - begun, 1),
    }
    print(json.dumps(record, indent=1))
    if args.record:
        write_atomic(args.record, json.dumps(record, indent=1) + "\n")
    if args.page:
        before, _, rest = args.page.read_text(encoding="utf-8").partition("<!-- table -->\n")
        after = rest.partition("<!-- /table -->")[2]
        write_atomic(args.page, f"{before}<!-- table -->\n{page_table(record)}<!-- /table -->{after}")


if __name__ == "__main__":
    main()
