"""Coverage of 95 % intervals, measured: `python -m benchmarks.coverage --studies 2000 --log build/coverage.jsonl`.

Each study draws a grid of runs from Hoffmann's law with Besiroglu's coefficients and noise of known kind, fits it
with the public API, and asks whether the intervals contain the truth: the frontier exponent a, the law at held-out
points far above the grid (confidence), and new runs there (prediction). Batches are appended to the log, so that a
stopped benchmark goes on where it was; `--report FILE` writes the table.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.estimate import Estimate
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import LAWS
from analysis.solver.objectives import ObjectiveName

TRUTH = np.array([1.8172, 482.01, 2085.43, 0.3478, 0.3658])
"""E, A, B, alpha, beta of Besiroglu et al. 2024, arXiv 2404.10102."""
NOISE = 0.01
"""Standard deviation of a run's log loss."""
CLUSTER_SHARE = 0.5
"""Fraction of the noise's variance that the runs of one size share in clustered studies."""
SIZES = (20, 60, 240)
KINDS = ("normal", "student3")
GROUPINGS = ("independent", "clustered")
DESIGNS = ("ladder", "isoflop")
HELD_OUT = (np.array([2e10, 2e10, 5e10]), np.array([4e11, 2e12, 1e12]))
"""N and D of the held-out points."""
BATCH = 20
"""Studies to a line of the log."""


def design(name: str, n: int) -> tuple[Array, Array, Array]:
    """N, D and cluster of n runs: five budgets to a size, each size a cluster; or parabolas about 20 tokens a
    parameter."""
    if name == "ladder":
        sizes = n // 5
        params = np.repeat(np.geomspace(4e7, 1e10, sizes), 5)
        return params, params * np.tile(np.geomspace(2.5, 160, 5), sizes), np.repeat(np.arange(sizes), 5)
    budgets = {20: 4, 60: 6, 240: 12}[n]
    per = n // budgets
    flops = np.repeat(np.geomspace(1e18, 1e21, budgets), per)
    params = np.sqrt(flops / 120) * np.tile(np.geomspace(0.2, 5, per), budgets)
    return params, flops / (6 * params), np.repeat(np.arange(n // 5), 5)


def noise(rng: np.random.Generator, kind: str, size: int) -> Array:
    """Unit-variance noise."""
    return rng.standard_normal(size) if kind == "normal" else rng.standard_t(3, size) / np.sqrt(3)


def study(
    seed: int, n: int, kind: str, grouping: str, shape: str, draws: int, objective: ObjectiveName
) -> dict[str, Any]:
    """One study: which intervals covered, and how wide they were."""
    rng = np.random.default_rng([seed, n, KINDS.index(kind), GROUPINGS.index(grouping), DESIGNS.index(shape)])
    params, tokens, clusters = design(shape, n)
    law = LAWS["hoffmann"]

    def errors(labels: NDArray[Any] | None, size: int) -> Array:
        if labels is None:
            return NOISE * noise(rng, kind, size)
        shared = noise(rng, kind, int(labels.max()) + 1)[labels]
        drawn = np.sqrt(CLUSTER_SHARE) * shared + np.sqrt(1 - CLUSTER_SHARE) * noise(rng, kind, size)
        return np.asarray(NOISE * drawn)

    clustered = grouping == "clustered"
    data = {"params": params, "tokens": tokens}
    data["loss"] = law(TRUTH, data) * np.exp(errors(clusters if clustered else None, n))
    fit = fit_law(law, data, objective=objective, bootstrap=draws, cluster=clusters if clustered else None, rng=rng)
    held = {"params": HELD_OUT[0], "tokens": HELD_OUT[1]}
    expected = law(TRUTH, held)
    band = fit.predict(held)
    new_runs = expected * np.exp(errors(np.arange(3) if clustered else None, 3))
    assert fit.frontier_estimates is not None
    a = fit.frontier_estimates.a
    true_a = TRUTH[4] / (TRUTH[3] + TRUTH[4])
    shown = a.has_interval
    inflation = fit.predictor.calibration.inflation
    middle, low, high = (np.log(band[c]) for c in ("loss", "confidence_lo", "confidence_hi"))
    needed = np.maximum((np.log(expected) - middle) / (high - middle), (np.log(expected) - middle) / (low - middle))
    confidence = needed <= 1
    prediction = (band["prediction_lo"] <= new_runs) & (new_runs <= band["prediction_hi"])
    return {
        "a": float(a.covers(true_a)) if shown else None,
        "confidence": float(confidence.mean()),
        "prediction": float(prediction.mean()),
        "width": a.hi - a.lo if a.lo is not None and a.hi is not None else None,
        "needed_a": inflation * _needed(true_a, a) if shown else None,
        "needed_confidence": [round(inflation * v, 4) for v in needed],
        "inflation": inflation,
    }


def _needed(truth: float, estimate: Estimate) -> float:
    """By how much the interval would have to be widened to reach the truth; below one when it covers."""
    end = estimate.hi if truth > estimate.value else estimate.lo
    assert end is not None
    return round((truth - estimate.value) / (end - estimate.value), 4)


def cells(shapes: list[str], sizes: list[int], groupings: list[str]) -> list[tuple[int, str, str, str]]:
    """Every cell in the order in which batches go round."""
    return [(n, kind, grouping, shape) for shape in shapes for n in sizes for kind in KINDS for grouping in groupings]


def read_log(path: Path, draws: int, objective: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Batches by cell, those made with the same draws and objective only; a half line at the end is left out."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if entry["draws"] == draws and entry["objective"] == objective:
                found[tuple(entry["cell"])].append(entry)
    return found


def table(found: dict[tuple[Any, ...], list[dict[str, Any]]], draws: int) -> str:
    """Markdown: coverage of each cell with twice its Monte-Carlo standard error."""
    lines = [
        "| design | runs | noise | runs are | studies | a | law, held out | new run | width of a | no interval |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in sorted(found, key=lambda c: (c[3], c[0], c[2], c[1])):
        n, kind, grouping, shape = cell
        studies = [s for batch in sorted(found[cell], key=lambda b: b["start"]) for s in batch["studies"]]
        shown = [s["a"] for s in studies if s["a"] is not None]
        row = [shape, str(n), kind, grouping, str(len(studies))]
        banded = [s for s in studies if np.isfinite(s["needed_confidence"]).all()]
        for values in (shown, [s["confidence"] for s in banded], [s["prediction"] for s in banded]):
            if not values:
                row.append("none")
                continue
            error = 2 * np.std(values) / np.sqrt(len(values))
            row.append(f"{100 * np.mean(values):.1f} ± {100 * error:.1f} %")
        widths = [s["width"] for s in studies if s["width"] is not None]
        row.append(f"{np.median(widths):.3f}" if widths else "none")
        row.append(f"{100 * (1 - len(shown) / len(studies)):.1f} %")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + f"\n\n{draws} bootstrap draws to a study; ± is twice the Monte-Carlo standard error.\n"


def main() -> None:
    """Run what the log lacks, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2000, help="studies to a cell")
    parser.add_argument("--first", type=int, default=0, help="seed of the first study")
    parser.add_argument("--draws", type=int, default=300, help="bootstrap draws to a study")
    parser.add_argument("--designs", nargs="+", default=list(DESIGNS), choices=DESIGNS)
    parser.add_argument("--objective", default="huber", help="huber, lad or squared")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), choices=SIZES)
    parser.add_argument("--groupings", nargs="+", default=list(GROUPINGS), choices=GROUPINGS)
    parser.add_argument("--log", type=Path, default=Path("build/coverage.jsonl"))
    parser.add_argument(
        "--report", type=Path, help="write the table into this Markdown file, below its line '<!-- table -->'"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long")
    args = parser.parse_args()
    args.log.parent.mkdir(parents=True, exist_ok=True)
    found = read_log(args.log, args.draws, args.objective)
    begun = time.monotonic()
    chosen = cells(args.designs, args.sizes, args.groupings)
    last = args.first + args.studies
    for start in range(args.first, last, BATCH):
        for cell in chosen:
            if any(batch["start"] == start for batch in found[cell]):
                continue
            if time.monotonic() - begun > args.seconds:
                break
            seeds = range(start, min(start + BATCH, last))
            studies = [study(seed, *cell, args.draws, args.objective) for seed in seeds]
            entry = {"cell": list(cell), "draws": args.draws, "objective": args.objective}
            entry |= {"start": start, "studies": studies}
            with args.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(entry) + "\n")
            found[cell].append(entry)
    text = table({cell: batches for cell, batches in found.items() if batches}, args.draws)
    print(text)
    if args.report:
        head = args.report.read_text(encoding="utf-8").split("<!-- table -->")[0]
        args.report.write_text(head + "<!-- table -->\n\n" + text, encoding="utf-8")


if __name__ == "__main__":
    main()
