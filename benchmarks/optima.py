"""Whether fits end at the global minimum: every law on every public table against random starts.

`python -m benchmarks.optima --data ../shared/data --out benchmarks/optima.json` fits each law to each table that has
its columns, then minimises from random starts of three kinds (random points of its grid, jittered minima, the
working box), and records by how much the best of them lies below the fit. Cases that the record holds are left
alone, so that a stopped benchmark goes on; `--again` measures all anew.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.files import write_json
from analysis.laws.base import Law
from analysis.laws.registry import get_law
from analysis.runs.columns import as_columns
from analysis.solver.newton import polish
from analysis.solver.objectives import Objective
from analysis.solver.problem import Problem, make_problem
from analysis.solver.search import solve
from analysis.solver.starts import projected

RANDOM_STARTS = 200
"""Random starts of a case."""
TOLERANCE = 1e-6
"""A start that ends lower than the fit by more than this fraction shows that the fit missed the minimum."""
SIZE_AND_DATA = ("hoffmann", "kaplan", "skaling", "farseer", "gadre")
ONE_INPUT = ("power", "shifted", "m3", "m4", "bnsl", "bnsl:2")
SHAPES = ("gemstones", "gemstones-shape")

Columns = dict[str, Array]


def _columns(frame: pd.DataFrame, **names: str) -> Columns:
    return {ours: frame[theirs].to_numpy(dtype=np.float64) for ours, theirs in names.items()}


def _with_flops(columns: Columns) -> Columns:
    return columns | {"x": 6 * columns["params"] * columns["tokens"]}


def tables(folder: Path) -> Iterator[tuple[str, Columns, tuple[str, ...]]]:
    """Every public table under our names, and the laws that it can be fitted with."""
    both = (*SIZE_AND_DATA, *ONE_INPUT)
    frame = pd.read_csv(folder / "epoch_chinchilla" / "svg_extracted_data.csv").nsmallest(240, "loss")
    frame["tokens"] = frame["Training FLOP"] / 6 / frame["Model Size"]
    yield "epoch", _with_flops(_columns(frame, params="Model Size", tokens="tokens", loss="loss")), both
    plain = {"params": "params", "tokens": "tokens", "loss": "loss"}
    for path in (folder / "isoflops" / "isoflops.csv", folder / "blindspots" / "marin_two.csv"):
        for name, part in pd.read_csv(path).groupby("experiment"):
            yield str(name), _with_flops(_columns(part, **plain)), both
    gadre = pd.read_csv(folder / "gadre" / "models.csv")
    for name, part in gadre.groupby("dataset_name"):
        columns = _columns(part, params="N", tokens="D", loss="loss_c4_val", error="loss_c4_val")
        kept = np.isfinite(np.stack(list(columns.values()))).all(axis=0)
        yield f"gadre {name}", _with_flops({n: c[kept] for n, c in columns.items()}), both
    for name in ("hot", "cool_begin", "lr_ablation_hot"):
        frame = pd.read_csv(folder / "gemstones" / f"{name}.csv")
        columns = _columns(frame, **plain, width="width", depth="depth")
        yield f"gemstones {name}", _with_flops(columns), (*SIZE_AND_DATA, *SHAPES, "power", "shifted", "m3")
    porian = pd.read_csv(folder / "porian" / "isoflop_points.csv")
    for setting, part in porian.groupby(["hparams", "warmup", "decay", "param_count", "val"]):
        columns = _columns(part, params="n", tokens="t", loss="loss")
        yield (
            "porian " + "-".join(map(str, setting)),
            _with_flops(columns),
            ("hoffmann", "kaplan", "skaling", "farseer"),
        )
    repeated = {"params": "params", "tokens": "tokens", "unique_tokens": "unique_tokens"}
    frame = pd.read_csv(folder / "blindspots" / "datablations_runs.csv")
    yield "datablations", _columns(frame, **repeated, loss="val_loss"), ("muennighoff", *SIZE_AND_DATA)
    frame = pd.read_csv(folder / "scalebench" / "data_constrained_train.csv")
    yield "data constrained", _columns(frame, **repeated, loss="loss"), ("muennighoff", *SIZE_AND_DATA)
    frame = pd.read_csv(folder / "scalebench" / "parallel_train.csv")
    for name, part in frame.groupby("group"):
        columns = _columns(part, params="num_params", parallel_size="parallel_size", loss="loss")
        yield f"parallel {name}", columns, ("parallel",)
    for name in ("flan", "wmt19"):
        frame = pd.read_csv(folder / "lin_finetuning" / f"{name}.csv")
        counts = [c for c in frame.columns if c.isdecimal() and c != "0"]
        for _, row in frame.iloc[::6].iterrows():
            columns = {"x": np.array(counts, dtype=np.float64), "loss": row[counts].to_numpy(dtype=np.float64)}
            yield f"{name} {row['config name']}", columns, ("power", "shifted", "m3", "m4")


def scattered(problem: Problem, best: Array, count: int, rng: np.random.Generator) -> Array:
    """Random starts (count, p): of the grid's hull, about the minimum, and of the working box."""
    law = problem.law
    grid = law.grid_for(problem.z)
    low, high = grid.min(axis=0), grid.max(axis=0)
    third = count // 3
    drawn = low - 0.1 * (high - low) + 1.2 * (high - low) * rng.random((third, low.size))
    solved = projected(problem, drawn)[0]
    spread = rng.choice([0.1, 0.5, 2.0], (third, 1))
    jittered = best + spread * rng.standard_normal((third, best.size))
    rest = count - 2 * third
    floor = np.where(np.isfinite(problem.lower), problem.lower, best - 10)
    ceiling = np.where(np.isfinite(problem.upper), problem.upper, best + 10)
    wide = floor + (ceiling - floor) * rng.random((rest, best.size))
    offsets = [j for j, p in enumerate(law.parameters) if p.kind == "offset"]
    wide[:, offsets] = problem.y.min() * rng.random((rest, len(offsets)))
    return np.clip(np.concatenate([solved, jittered, wide]), problem.lower, problem.upper)


def problem_of(law: Law, columns: Mapping[str, Array]) -> Problem:
    """The problem that `fit` solves by default."""
    return make_problem(law, as_columns(law.prepare(columns)), objective=Objective(name="huber", delta=1e-3))


@np.errstate(all="ignore")
def case(law: str, columns: Columns, starts: int, seed: int) -> dict[str, Any]:
    """One law on one table."""
    problem = problem_of(get_law(law), columns)
    begun = time.process_time()
    point = solve(problem)
    seconds = time.process_time() - begun
    begun = time.process_time()
    found = polish(problem, scattered(problem, point.phi, starts, np.random.default_rng(seed)), max_iterations=300)
    least = float(np.nanmin(found.value))
    again = polish(problem, found.phi[[int(np.nanargmin(found.value))]], max_iterations=2000)
    least = min(least, float(again.value[0]))
    excess = (point.value - least) / max(least, 1e-300)
    return {
        "rows": problem.num_rows,
        "objective": point.value,
        "least_of_random": least,
        "excess": excess,
        "missed": excess > TOLERANCE,
        "status": point.status,
        "agreement": point.agreement,
        "certificate": point.certificate.verdict,
        "cpu_seconds": round(seconds, 4),
        "cpu_seconds_random": round(time.process_time() - begun, 3),
    }


def main() -> None:
    """Measure what the record lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the published tables")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/optima.json"))
    parser.add_argument("--starts", type=int, default=RANDOM_STARTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--laws", nargs="+", help="these laws only")
    parser.add_argument("--tables", help="tables whose name holds this text only")
    parser.add_argument("--again", action="store_true", help="measure cases that the record holds anew")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long")
    args = parser.parse_args()
    record: dict[str, Any] = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    cases: dict[str, Any] = record.get("cases", {})
    begun = time.monotonic()
    for name, columns, laws in tables(args.data):
        for law in laws:
            key = f"{law} on {name}"
            if (args.laws and law not in args.laws) or (args.tables and args.tables not in name):
                continue
            if (key in cases and not args.again) or time.monotonic() - begun > args.seconds:
                continue
            try:
                cases[key] = case(law, columns, args.starts, args.seed)
            except UserError as error:
                cases[key] = {"refused": str(error)}
            print(key, cases[key], flush=True)
            write_json(args.out, summary(cases, args.starts))


def summary(cases: dict[str, Any], starts: int) -> dict[str, Any]:
    """The record: what was missed, and every case."""
    measured = {key: value for key, value in cases.items() if "refused" not in value}
    return {
        "command": "python -m benchmarks.optima --data ../shared/data --out benchmarks/optima.json",
        "random_starts": starts,
        "tolerance": TOLERANCE,
        "num_cases": len(measured),
        "missed": sorted(key for key, value in measured.items() if value["missed"]),
        "largest_excess": max((value["excess"] for value in measured.values()), default=0.0),
        "cpu_seconds": round(sum(value["cpu_seconds"] for value in measured.values()), 2),
        "cases": cases,
    }


if __name__ == "__main__":
    main()
