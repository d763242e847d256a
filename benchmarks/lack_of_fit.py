"""False alarms and power of the lack-of-fit line: `python -m benchmarks.lack_of_fit --out benchmarks/lack_of_fit.json`.

Studies of 30 and 63 runs are drawn from Hoffmann's law, from Farseer's and from a broken power law, and fitted with
Hoffmann's. A false alarm is a line although Hoffmann's law is true; power is how often it comes when it is not. Each
fit descends from the same start, a solution without noise, which is the global minimum of these designs. Cells that
the record holds are left alone.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from analysis.arrays import Array
from analysis.files import write_json
from analysis.laws.registry import get_law
from analysis.solver.newton import polish
from analysis.solver.objectives import Objective
from analysis.solver.problem import Problem, make_problem
from analysis.solver.search import solve
from analysis.uncertainty.lack_of_fit import SURE, lack_of_fit

HOFFMANN = [1.8172, 482.01, 2085.43, 0.3478, 0.3658]
"""E, A, B, alpha, beta of Besiroglu et al. 2024."""
NOISES = (0.003, 0.01)
SIZES = (30, 63)


def design(n: int) -> dict[str, Array]:
    """Runs about the optimum of five to nine budgets."""
    per = 6 if n == 30 else 7
    flops = np.repeat(np.geomspace(1e18, 1e21, n // per), per)
    params = np.sqrt(flops / 120) * np.tile(np.geomspace(0.15, 7, per), n // per)
    return {"params": params, "tokens": flops / (6 * params)}


def truth(name: str, data: dict[str, Array]) -> Array:
    """Losses without noise."""
    n, d = data["params"], data["tokens"]
    hoffmann = get_law("hoffmann")(HOFFMANN, data)
    if name == "hoffmann":
        return hoffmann
    if name == "farseer":  # the published form: the data exponent falls, and its amplitude grows, with size
        size = np.log(n / 1e9)
        exponent = 0.30 * np.exp(-0.06 * size)
        floor = 1.9 * np.exp(-0.035 * size)
        return np.asarray(floor + 0.55 * np.exp(-0.02 * size) * (d / 2e10) ** -exponent)
    broken = hoffmann - 1.8172
    return np.asarray(1.8172 + broken * (1 + (6 * n * d / 1e20) ** (1 / 0.3)) ** (-0.3 * 0.05))


def fitted(problem: Problem, start: Array) -> Array:
    """The minimum from a start."""
    return polish(problem, start[None, :], max_iterations=300).phi[0]


@np.errstate(all="ignore")
def cell(name: str, n: int, noise: float, kind: str, studies: int) -> dict[str, Any]:
    """One truth, one design."""
    data = design(n)
    clean = truth(name, data)
    law, objective = get_law("hoffmann"), Objective(name="huber", delta=1e-3)
    start = solve(make_problem(law, data | {"loss": clean}, objective=objective)).phi
    alarms = 0
    begun = time.process_time()
    for seed in range(studies):
        rng = np.random.default_rng([seed, n])
        errors = rng.standard_normal(n) if kind == "normal" else rng.standard_t(3, n) / np.sqrt(3)
        problem = make_problem(law, data | {"loss": clean * np.exp(noise * errors)}, objective=objective)
        alarms += lack_of_fit(problem, fitted(problem, start), seed=seed).missed
    rate = alarms / studies
    return {
        "truth": name,
        "runs": n,
        "noise": noise,
        "errors": kind,
        "studies": studies,
        "said": rate,
        "plus_minus": round(2 * float(np.sqrt(rate * (1 - rate) / studies)), 4),
        "cpu_seconds_a_study": round((time.process_time() - begun) / studies, 4),
    }


def main() -> None:
    """Measure every cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/lack_of_fit.json"))
    args = parser.parse_args()
    record: dict[str, Any] = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    cells: list[dict[str, Any]] = record.get("cells", [])
    known = {(c["truth"], c["runs"], c["noise"], c["errors"]) for c in cells if c["studies"] == args.studies}
    kinds = {"hoffmann": ("normal", "student3"), "farseer": ("normal",), "broken": ("normal",)}
    for name, errors in kinds.items():
        for n in reversed(SIZES):
            for noise in NOISES:
                for kind in errors:
                    if (name, n, noise, kind) in known:
                        continue
                    cells.append(cell(name, n, noise, kind, args.studies))
                    print(cells[-1], flush=True)
                    command = (
                        f"python -m benchmarks.lack_of_fit --studies {args.studies} --out benchmarks/lack_of_fit.json"
                    )
                    write_json(args.out, {"command": command, "level": SURE, "cells": cells})


if __name__ == "__main__":
    main()
