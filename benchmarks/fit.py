"""Speed of the engine against its bars: `python -m benchmarks.fit [--data ../shared/data]`; CPU seconds, one
thread."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import LAWS
from analysis.published.refits import epoch_table
from analysis.solver.newton import polish
from analysis.solver.objectives import Objective
from analysis.solver.problem import make_problem
from analysis.solver.search import solve
from analysis.solver.starts import grid_starts
from analysis.uncertainty.bootstrap import bootstrap_fits, bootstrap_rows
from analysis.uncertainty.calibration import truncated


def line(what: str, measured: float, bar: float, unit: str) -> None:
    """One row of the report."""
    print(f"{what:66} {measured:12.6g} {unit:6} bar {bar:g}  {'ok' if measured <= bar else 'MISSED'}")


def epoch(folder: Path) -> None:
    """Point fit, draws, and the draws against polished multi-starts."""
    frame = epoch_table(folder).frame
    data = {name: frame[name].to_numpy(dtype=float) for name in ("params", "tokens", "loss")}
    law = LAWS["hoffmann"]
    begun = time.process_time()
    problem = make_problem(law, data, objective=Objective())
    point = solve(problem)
    line("global robust fit, 240 rows, first call after import", time.process_time() - begun, 0.1, "CPU s")
    line("its objective", point.value, 1.0182741e-3, "")
    times = []
    for _ in range(20):
        begun = time.process_time()
        solve(problem)
        times.append(time.process_time() - begun)
    line("the same, median of twenty", float(np.median(times)), 0.1, "CPU s")
    drawn = bootstrap_rows(240, 4000, rng=np.random.default_rng(0))
    begun = time.process_time()
    phi, value = bootstrap_fits(problem, point.minima, drawn)
    line("4,000 draws of 240 rows", time.process_time() - begun, 2.0, "CPU s")
    theta = law.to_public(phi, problem.log_refs)
    theta = np.column_stack([theta, theta[:, 4] / (theta[:, 3] + theta[:, 4])])
    spread = dict(zip((*law.param_names, "a"), truncated(theta).std(axis=0, ddof=1), strict=True))
    published = {"E": 0.0257, "alpha": 0.0154, "beta": 0.0206, "a": 0.020, "A": 124.5, "B": 1293.0}
    for name, near in (("E", 0.05), ("alpha", 0.05), ("beta", 0.05), ("a", 0.05), ("A", 0.1), ("B", 0.1)):
        line(f"standard error of {name}: fraction off the published", abs(spread[name] / published[name] - 1), near, "")
    rng = np.random.default_rng(1)
    excess = 0.0
    for i in rng.choice(4000, 50, replace=False):
        starts, _ = grid_starts(problem.rows(np.repeat(np.arange(240), drawn[i].astype(int))))
        starts = np.concatenate([starts] + [starts + 0.2 * rng.standard_normal(starts.shape) for _ in range(8)])
        excess = max(excess, float(value[i] / polish(problem, starts, drawn[i]).value.min() - 1))
    line("50 draws: largest relative excess over a polished multi-start", excess, 1e-6, "")


def shell(folder: Path) -> None:
    """The command from the shell."""
    path = folder / "epoch_chinchilla" / "svg_extracted_data.csv"
    columns = "params=Model Size,flops=Training FLOP,loss=loss"
    command = [sys.executable, "-m", "analysis", "fit", str(path), "--law", "hoffmann", "--columns", columns]
    command += ["--drop-largest-losses", "5", "--bootstrap", "0", "--json"]
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - begun)
    line("fit --bootstrap 0 from the shell, best of five", min(times), 1.5, "wall s")


def curves(rows: int = 100_000, curves_: int = 200, draws: int = 1000) -> None:
    """Many rows of training curves."""
    rng = np.random.default_rng(0)
    params = np.repeat(np.geomspace(1e7, 1e10, curves_), rows // curves_)
    tokens = np.tile(np.geomspace(1e9, 1e12, rows // curves_), curves_)
    labels = np.repeat(np.arange(curves_), rows // curves_)
    shared = 0.005 * rng.standard_normal(curves_)[labels]
    data = {"params": params, "tokens": tokens}
    clean = LAWS["hoffmann"](np.array([1.8172, 482.01, 2085.43, 0.3478, 0.3658]), data)
    data["loss"] = clean * np.exp(shared + 0.005 * rng.standard_normal(rows))
    begun = time.process_time()
    fit_law("hoffmann", data, cluster=labels)
    line(f"{rows:,} rows of curves, point fit", time.process_time() - begun, 10.0, "CPU s")
    begun = time.process_time()
    fit_law("hoffmann", data, cluster=labels, bootstrap=draws)
    line(f"{rows:,} rows of curves, {draws} clustered draws", time.process_time() - begun, 60.0, "CPU s")
    line("peak memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2, 1.0, "GiB")


def main() -> None:
    """All of them; those that need the published runs only where these are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    args = parser.parse_args()
    if args.data.is_dir():
        epoch(args.data)
        shell(args.data)
    else:
        print(f"{args.data} is absent: the benchmarks on published runs are left out")
    curves()


if __name__ == "__main__":
    main()
