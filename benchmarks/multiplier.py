"""Coverage of compute multipliers, measured: `python -m benchmarks.multiplier --studies 1000 --record
benchmarks/multiplier.json --page docs/concepts/multipliers.md`.

Each study draws runs of several arms from laws with a known gain. The arms of a cell and seed share a part of their
noise, and each run has noise of its own. The benchmark asks whether the 95 % intervals of the first arm's multiplier
hold the truth at the middle of the runs, at their largest budget and at ten times it, and what is said of its growth.
Batches are appended to the log, so that a stopped benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from analysis.paired.multiplier import compute_multiplier
from experiments.files import write_atomic

E, A, B, ALPHA, BETA = 1.69, 406.4, 410.7, 0.34, 0.28
"""Hoffmann et al. 2022, arXiv 2203.15556, approach 3."""
SHARE = BETA / (ALPHA + BETA)
EXPONENT = ALPHA * BETA / (ALPHA + BETA)
ANCHOR = 1e18
"""Budget at which the gain is the truth's first number."""
TRUTHS = {"none": (1.0, 0.0), "constant": (1.5, 0.0), "growing": (1.3, 0.05)}
"""Gain at the anchor, and its exponent in compute: .05 is 12 % more a decade."""
SIZES = {"32 runs": (2, 4, 4, 1), "200 runs": (4, 5, 5, 2)}
"""Arms, budgets, sizes at each, seeds."""
PAIR_NOISE, OWN_NOISE = 0.006, 0.004
"""Standard deviations of a run's log loss: what the arms of a cell and seed share, and what they do not."""
BUDGETS = (1e18, 1e19, 1e20)
"""Where multipliers are asked for: runs go from 1e17 to 1e19."""
BATCH = 20


def losses(gain: float, growth: float, params: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Losses of an arm whose frontier at C is that of the reference at gain C (C / ANCHOR)**growth.

    Both exponents grow by 1 + growth, and the amplitudes are such that the compute-optimal N and D stay the same.
    """
    ratio = np.exp(np.log(ALPHA * A / (BETA * B)) / (ALPHA + BETA))

    def optimum(flops: float) -> tuple[float, float]:
        size = ratio * (flops / 6) ** SHARE
        return size, flops / 6 / size

    (n, d), (far_n, far_d) = optimum(ANCHOR), optimum(gain * ANCHOR)
    size = A * far_n**-ALPHA * (params / n) ** (-ALPHA * (1 + growth))
    return np.asarray(E + size + B * far_d**-BETA * (tokens / d) ** (-BETA * (1 + growth)))


def table(rng: np.random.Generator, truth: str, size: str) -> dict[str, Any]:
    """One study's runs."""
    arms, budgets, sizes, seeds = SIZES[size]
    parts: dict[str, list[np.ndarray]] = defaultdict(list)
    flops, ratio = (
        axis.ravel()
        for axis in np.meshgrid(np.geomspace(1e17, 1e19, budgets), np.geomspace(3, 160, sizes), indexing="ij")
    )
    params = np.sqrt(flops / 6 / ratio)
    tokens = flops / 6 / params
    for seed in range(seeds):
        shared = PAIR_NOISE * rng.standard_normal(flops.size)
        for arm in range(arms):
            gain, growth = TRUTHS[truth] if arm == 1 else (1.0, 0.0)
            noise = shared + OWN_NOISE * rng.standard_normal(flops.size)
            parts["loss"].append(losses(gain, growth, params, tokens) * np.exp(noise))
            parts["arm"].append(np.full(flops.size, f"arm {arm}"))
            parts["seed"].append(np.full(flops.size, seed))
            for name, column in (("params", params), ("tokens", tokens), ("flops", flops)):
                parts[name].append(column)
    return {name: np.concatenate(columns) for name, columns in parts.items()}


def study(seed: int, truth: str, size: str, draws: int) -> dict[str, Any]:
    """One study: which intervals covered, how wide they were, and the verdict."""
    rng = np.random.default_rng([seed, list(TRUTHS).index(truth), list(SIZES).index(size)])
    found = compute_multiplier(
        table(rng, truth, size), arm="arm", reference="arm 0", at=BUDGETS, bootstrap=draws, seed=seed
    )
    arm, (gain, growth) = found.arms["arm 1"], TRUTHS[truth]
    covers: list[bool | None] = []
    widths: list[float | None] = []
    for one in arm.by_budget:
        estimate = one.multiplier
        covers.append(None if estimate is None else estimate.covers(gain * (one.flops / ANCHOR) ** growth))
        ends = None if estimate is None or estimate.lo is None or estimate.hi is None else (estimate.lo, estimate.hi)
        widths.append(None if ends is None else float(np.log(ends[1] / ends[0])))
    return {
        "covers": covers,
        "log_widths": widths,
        "covers_growth": arm.grows.covers(EXPONENT * growth),
        "verdict": arm.verdict,
        "own_floors": not found.shared_floor,
    }


def summary(studies: list[dict[str, Any]], truth: str, size: str) -> dict[str, Any]:
    """Shares over the studies of one cell."""
    out: dict[str, Any] = {"truth": truth, "size": size, "studies": len(studies)}
    for name in ("covers", "log_widths"):
        columns = list(zip(*(one[name] for one in studies), strict=True))
        out[name] = [float(np.mean([v for v in column if v is not None])) for column in columns]
    out["not_determined"] = [
        float(np.mean([v is None for v in column])) for column in zip(*(one["covers"] for one in studies), strict=True)
    ]
    verdicts = [one["verdict"] for one in studies]
    out["verdicts"] = {name: verdicts.count(name) / len(verdicts) for name in sorted(set(verdicts))}
    out["covers_growth"] = float(np.mean([one["covers_growth"] for one in studies]))
    out["own_floors"] = float(np.mean([one["own_floors"] for one in studies]))
    return out


def page_table(cells: list[dict[str, Any]], draws: int) -> str:
    """The table of the page."""
    fewest = min(cell["studies"] for cell in cells)
    lines = [
        f"Simulated studies of Hoffmann's law with {draws} draws each: multipliers at a tenth of the largest budget, "
        "at the largest and at ten times it, and the difference of exponents. True gains: none; 1.5 at all budgets; "
        f"1.3 growing by 12 % a decade. A share of 95 % is known to {200 * math.sqrt(0.95 * 0.05 / fewest):.1f} points "
        "(twice its Monte-Carlo standard error). Made by `python -m benchmarks.multiplier` "
        "([record](../../benchmarks/multiplier.json)).",
        "",
        "| gain | study | studies | 95 % intervals cover (tenth, largest, ten times) | of the exponents | 'grows' | "
        "not determined |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        covers = ", ".join(f"{100 * value:.1f} %" for value in cell["covers"])
        grows = 100 * cell["verdicts"].get("grows", 0.0)
        never = 100 * cell["verdicts"].get("not determined", 0.0)
        lines.append(
            f"| {cell['truth']} | {cell['size']} | {cell['studies']} | {covers} "
            f"| {100 * cell['covers_growth']:.1f} % | {grows:.1f} % | {never:.1f} % |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing within the time, write the record and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="seed of the first study; another one gives fresh studies")
    parser.add_argument("--log", type=Path, default=Path("build/multiplier.jsonl"))
    parser.add_argument("--record", type=Path)
    parser.add_argument("--page", type=Path, help="write the table between the marks of this page")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long")
    args = parser.parse_args()
    args.log.parent.mkdir(parents=True, exist_ok=True)
    found: dict[tuple[str, str], dict[int, Any]] = defaultdict(dict)
    if args.log.exists():
        for line in args.log.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if entry["draws"] == args.draws and args.first <= entry["start"] < args.first + args.studies:
                found[tuple(entry["cell"])][entry["start"]] = entry["studies"]
    begun = time.monotonic()
    chosen = [(truth, size) for size in SIZES for truth in TRUTHS]
    for start in range(args.first, args.first + args.studies, BATCH):
        for cell in chosen:
            if start in found[cell] or time.monotonic() - begun > args.seconds:
                continue
            studies = [study(seed, *cell, args.draws) for seed in range(start, start + BATCH)]
            found[cell][start] = studies
            with args.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps({"cell": cell, "draws": args.draws, "start": start, "studies": studies}) + "\n")
    cells = [summary([one for batch in found[cell].values() for one in batch], *cell) for cell in chosen if found[cell]]
    print(page_table(cells, args.draws))
    if args.record:
        record = {
            "draws": args.draws,
            "first_seed": args.first,
            "budgets": BUDGETS,
            "noise": [PAIR_NOISE, OWN_NOISE],
            "cells": cells,
        }
        write_atomic(args.record, json.dumps(record, indent=1) + "\n")
    if args.page:
        before, _, rest = args.page.read_text(encoding="utf-8").partition("<!-- table -->\n")
        after = rest.partition("<!-- /table -->")[2]
        text = f"{before}<!-- table -->\n{page_table(cells, args.draws)}<!-- /table -->{after}"
        write_atomic(args.page, text)


if __name__ == "__main__":
    main()
