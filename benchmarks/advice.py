"""What advised runs are worth, measured: `python -m benchmarks.advice --studies 67`.

Each study draws 25 small pilot runs from a true law with noise, fits them, asks for advice with the budget of a uniform
grid (six sizes by six token budgets, evenly spaced in their logarithms over all that is allowed, one seed each), adds
the grid's runs or the advised ones to the pilot, fits again with bootstrap intervals, and compares the intervals of the
compute-optimal loss at a target 83 times beyond the largest run. `designed` widths come from the true law's own
information, so they say what a design is worth; `refit` widths are what the engine printed. Studies go into
build/advice.jsonl as they are done, and the command goes on where it was stopped; the record beside this file holds
medians and intervals.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from analysis.advice.compute_optimal import compute_optimal
from analysis.advice.shapes import Ladder, ShapeRules, Size, make_ladder
from analysis.arrays import Array
from analysis.design.candidates import LawFit, candidate_fits
from analysis.design.cells import PlannedCell, RunLimits
from analysis.design.plan import DesignPlan, Robustness, plan_runs
from analysis.design.target import Target
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.laws.allocation import optimum, six_n
from analysis.laws.registry import LAWS

Cells = list[tuple[Size, float, int]]
"""(size, tokens, how often)."""
Runs = dict[str, Array]
"""params and tokens of runs, and their losses where these were measured."""
TRUTHS: dict[str, dict[str, float]] = {
    "hoffmann": {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658},
    "kaplan": {"alpha_N": 0.076, "alpha_D": 0.103, "N_c": 6.4e13, "D_c": 1.8e13},
    "skaling": {"E": 1.757, "A": 2305.0, "B": 9957.0, "alpha": 0.4244, "beta": 0.4305, "k": 0.7741},
}
"""Besiroglu et al. 2024; Kaplan et al. 2020, equation 1.5; `fit --law skaling` on the table of Besiroglu et al."""
NOISE = 0.01
"""Standard deviation of a run's log loss."""
SIZES, TOKENS = (1e7, 1e9), (2e8, 2e10)
"""N and D that are allowed."""
GRID, PILOT = 6, 5
"""Sizes, and token budgets, of the uniform grid and of the pilot."""
PILOT_REACH = 8.0
"""The pilot ends this factor below the largest N and D."""
MAX_RUNS = 200
"""Most runs of a plan: the default of the verb."""
TARGET = 1e22
"""C of the prediction."""
DRAWS = 100
"""Bootstrap draws of every fit."""
NAMES = {
    "grid": "uniform grid",
    "advised": "advised",
    "half-cost": "advised, half the cost",
    "two-rounds": "advised in two rounds",
    "half-cost-two-rounds": "advised in two rounds, half the cost",
    "own-law": "advised, the law being certain",
}
"""Arms in the page."""
FIRST_ROUND = 0.25
"""Part of the budget that is spent before the second round is advised."""
ARMS = ("advised", "half-cost", "two-rounds", "half-cost-two-rounds", "own-law")
"""Advice as it comes; with half the grid's cost; in two rounds, where a quarter of the budget is spent first and the
rest on what is advised after fitting those runs too; both; and certain of the fit's own law."""
DESIGNED = ("best-grid", "same-runs")
"""Designs that are not fitted: the best uniform grid within the budget; advice with no more runs than the grid."""


class Added(NamedTuple):
    """Runs that an arm adds."""

    cells: Cells
    """What is run."""
    runs: Runs
    """The runs, measured."""
    plan: DesignPlan
    """The advice that they end with."""


def runs_of(cells: Cells) -> Runs:
    """params and tokens of each run of (size, tokens, how often)."""
    params = np.concatenate([np.full(times, size.params) for size, _, times in cells])
    return {"params": params, "tokens": np.concatenate([np.full(times, tokens) for _, tokens, times in cells])}


def lattice(ladder: Ladder, reach: float, num: int) -> Cells:
    """A uniform grid of shapes and tokens up to `reach` below what is allowed."""

    def nearest(params: float) -> Size:
        return min(ladder.sizes, key=lambda size: abs(np.log(size.params / params)))

    sizes = [nearest(float(params)) for params in np.geomspace(SIZES[0], SIZES[1] / reach, num)]
    return [(size, float(d), 1) for size in sizes for d in np.geomspace(TOKENS[0], TOKENS[1] / reach, num)]


def advised_cells(cells: tuple[PlannedCell, ...]) -> Cells:
    """A plan as (size, tokens, how often)."""
    return [(cell.size, cell.tokens, len(cell.seeds)) for cell in cells]


def cost_of(cells: Cells) -> float:
    """Training FLOPs of all runs."""
    return float(sum(size.flops_per_token * tokens * times for size, tokens, times in cells))


def designed_width(law: str, runs: Runs) -> float:
    """Standard error of the log loss at the target, over that of one run, by the true law's information."""
    theta = np.array([list(TRUTHS[law].values())])
    refs = np.array([np.log(1e9), np.log(2e10)])
    phi = LAWS[law].to_working(theta, refs)

    def gradient(x: Runs) -> Array:
        z = np.log(np.stack([x["params"], x["tokens"]])) - refs[:, None]
        value, jacobian = LAWS[law].working_jacobian(phi, z)
        return np.asarray((jacobian[0] / value[0]).T)

    log_n, log_d, _ = optimum(LAWS[law], theta, np.array([np.log(TARGET)]), six_n)
    aim = gradient({"params": np.exp(log_n[0]), "tokens": np.exp(log_d[0])})[0]
    rows = gradient(runs)
    scale = np.sqrt((rows**2).sum(axis=0))
    return float(np.sqrt((aim / scale) @ np.linalg.solve((rows / scale).T @ (rows / scale), aim / scale)))


def joined(*parts: Runs) -> Runs:
    """Runs of several tables as one."""
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[-1]}


class World:
    """One true law, measured with noise, and the law that is fitted to it."""

    def __init__(self, seed: int, truth: str, ladder: Ladder, fitted: str | None) -> None:
        self.seed, self.truth, self.ladder = seed, truth, ladder
        self.fitted = fitted or truth
        self.rng = np.random.default_rng([seed, list(TRUTHS).index(truth), 0 if fitted is None else 1])
        self.theta = np.array(list(TRUTHS[truth].values()))

    @property
    def loss(self) -> float:
        """The true loss at the target."""
        return float(optimum(LAWS[self.truth], self.theta[None, :], np.array([np.log(TARGET)]), six_n)[2][0, 0])

    def measured(self, cells: Cells) -> Runs:
        """The runs of some cells with their losses."""
        runs = runs_of(cells)
        noise = NOISE * self.rng.standard_normal(runs["params"].size)
        return {**runs, "loss": LAWS[self.truth](self.theta, runs) * np.exp(noise)}

    def fit(self, runs: Runs) -> Fit:
        """The fitted law."""
        return fit_law(self.fitted, runs, bootstrap=DRAWS, seed=self.seed, conventions={"flops": "6ND"})

    def laws(self, fit: Fit) -> list[LawFit]:
        """The fit, and other laws fitted to its runs."""
        return candidate_fits(fit, None, draws=16, seed=self.seed)

    def advice(self, fit: Fit, laws: list[LawFit], budget: float, max_runs: int) -> DesignPlan:
        """The runs that are advised for a budget."""
        limits = RunLimits(
            min_params=SIZES[0],
            max_params=SIZES[1],
            min_tokens=TOKENS[0],
            max_tokens=TOKENS[1],
            ratio=(1e-3, 1e6),
            max_runs=max_runs,
        )
        target, robustness = Target(flops=TARGET), Robustness(laws=laws)
        return plan_runs(fit, target, budget, ladder=self.ladder, limits=limits, robustness=robustness)

    def outcome(self, cells: Cells, runs: Runs, budget: float) -> dict[str, Any]:
        """What the pilot and the added runs give together."""
        seen = compute_optimal(self.fit(runs), TARGET, self.ladder).loss
        half = None if seen.lo is None or seen.hi is None else float(np.log(seen.hi / seen.lo) / 2)
        return {
            "runs": int(sum(times for _, _, times in cells)),
            "cost": cost_of(cells) / budget,
            "designed": designed_width(self.truth, runs),
            "refit": half,
            "covers": None if half is None else bool(seen.covers(self.loss)),
            "error": float(np.log(seen.value / self.loss)),
        }


def added_by(world: World, arm: str, pilot: Runs, first: Fit, laws: list[LawFit], budget: float) -> Added:
    """The runs that one arm adds to the pilot."""
    spend, most = budget / (2 if "half-cost" in arm else 1), MAX_RUNS
    cells: Cells = []
    runs: list[Runs] = []
    fit = first
    if "two-rounds" in arm:
        early = world.advice(fit, laws, FIRST_ROUND * spend, most // 4)
        cells, most = advised_cells(early.cells), most - early.num_runs
        runs, spend = [world.measured(cells)], spend - early.cost
        fit = world.fit(joined(pilot, *runs))
        laws = world.laws(fit)
    plan = world.advice(fit, laws[:1] if arm == "own-law" else laws, spend, most)
    more = advised_cells(plan.cells)
    return Added(cells=cells + more, runs=joined(*runs, world.measured(more)), plan=plan)


def study(seed: int, truth: str, ladder: Ladder, fitted: str | None = None) -> dict[str, Any]:
    """One study of one true law, fitted as itself, or as another law."""
    world = World(seed, truth, ladder, fitted)
    grid = lattice(ladder, 1.0, GRID)
    budget = cost_of(grid)
    pilot = world.measured(lattice(ladder, PILOT_REACH, PILOT))
    first = world.fit(pilot)
    laws = world.laws(first)
    grid_runs = world.measured(grid)
    added = {arm: added_by(world, arm, pilot, first, laws, budget) for arm in ARMS}
    few = world.advice(first, laws, budget, GRID**2)
    designs = [advised_cells(added["advised"].plan.grid_cells), advised_cells(few.cells)]
    out: dict[str, Any] = {"seed": seed, "truth": truth, "fitted": world.fitted, "arms": {}, "designed": {}}
    for label, design in zip(DESIGNED, designs, strict=True):
        runs = runs_of(design)
        width = designed_width(truth, joined(pilot, runs))
        out["designed"][label] = {"runs": int(runs["params"].size), "designed": width}
    out["arms"]["grid"] = world.outcome(grid, joined(pilot, grid_runs), budget)
    for arm, one in added.items():
        advised = {"expected": one.plan.expected.median, "above_bound": one.plan.above_bound}
        out["arms"][arm] = world.outcome(one.cells, joined(pilot, one.runs), budget) | advised
    return out


def median(values: list[float], rng: np.random.Generator) -> dict[str, float]:
    """Median with its 95 % interval by 2,000 draws over studies, and where nine tenths of the studies lie."""
    sample = np.array(values)
    draws = np.median(sample[rng.integers(0, sample.size, (2000, sample.size))], axis=1)
    ends, spread = np.quantile(draws, [0.025, 0.975]), np.quantile(sample, [0.05, 0.95])
    keys = ("median", "lo", "hi", "p05", "p95")
    return dict(zip(keys, (round(float(v), 4) for v in (np.median(sample), *ends, *spread)), strict=True))


def summary(studies: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios to the grid and coverage, by arm."""
    rng = np.random.default_rng(0)
    out: dict[str, Any] = {"studies": len(studies)}
    for label in DESIGNED:
        ratios = [one["designed"][label]["designed"] / one["arms"]["grid"]["designed"] for one in studies]
        runs = int(np.median([one["designed"][label]["runs"] for one in studies]))
        out[label] = {"runs": runs, "designed_ratio": median(ratios, rng)}
    for arm in studies[0]["arms"]:
        rows = [(one["arms"][arm], one["arms"]["grid"]) for one in studies]
        known = [(mine, grid) for mine, grid in rows if mine["refit"] and grid["refit"]]
        covered = np.array([mine["covers"] for mine, _ in rows if mine["covers"] is not None], dtype=float)
        entry: dict[str, Any] = {
            "runs": int(np.median([mine["runs"] for mine, _ in rows])),
            "cost": round(float(np.median([mine["cost"] for mine, _ in rows])), 4),
            "half_width_refit": median([mine["refit"] for mine, _ in known], rng),
            "coverage": round(float(covered.mean()), 4),
            "coverage_se": round(float(np.sqrt(covered.mean() * (1 - covered.mean()) / covered.size)), 4),
            "no_interval": sum(mine["refit"] is None for mine, _ in rows),
            "root_mean_square_error": round(float(np.sqrt(np.mean([mine["error"] ** 2 for mine, _ in rows]))), 5),
        }
        if arm != "grid":
            entry["designed_ratio"] = median([mine["designed"] / grid["designed"] for mine, grid in rows], rng)
            entry["refit_ratio"] = median([mine["refit"] / grid["refit"] for mine, grid in known], rng)
        if arm in ARMS:
            entry["refit_over_expected"] = median([mine["refit"] / mine["expected"] for mine, _ in known], rng)
            entry["above_bound"] = round(float(np.median([mine["above_bound"] for mine, _ in rows])), 4)
        out[arm] = entry
    return out


def page(laws: dict[str, Any]) -> str:
    """The record as a Markdown table."""
    lines = [
        "| true law | runs added | number | cost | width by the true law | width by the re-fit | covers | error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for label, entry in laws.items():
        for arm, figures in entry.items():
            if arm not in NAMES:
                continue
            row = [label, NAMES[arm], str(figures["runs"]), f"{figures['cost']:.2f}"]
            for kind in ("designed_ratio", "refit_ratio"):
                if kind in figures:
                    row.append("{median:.2f} ({lo:.2f}, {hi:.2f})".format(**figures[kind]))
                else:
                    half = figures["half_width_refit"]["median"]
                    row.append("1" if kind == "designed_ratio" else f"1 (half-width {100 * half:.1f} %)")
            row.append(f"{100 * figures['coverage']:.0f} ± {200 * figures['coverage_se']:.0f} %")
            row.append(f"{100 * figures['root_mean_square_error']:.1f} %")
            lines.append("| " + " | ".join(row) + " |")
    studies = next(iter(laws.values()))["studies"]
    note = (
        f"{studies} studies of each true law. Widths are medians of ratios to the uniform grid, with 95 % intervals; "
    )
    return "\n".join(lines) + f"\n\n{note}± is twice the Monte-Carlo standard error.\n"


def main() -> None:
    """Run what the log lacks, then write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=67, help="studies of each true law (default 67: 201 in all)")
    parser.add_argument(
        "--wrong", type=int, default=20, help="studies of skaling's law fitted as Hoffmann's (default 20)"
    )
    parser.add_argument("--first", type=int, default=0, help="seed of the first study (default 0)")
    parser.add_argument("--log", type=Path, default=Path("build/advice.jsonl"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--page", type=Path, help="write the table into this Markdown file, below '<!-- worth -->'")
    args = parser.parse_args()
    args.log.parent.mkdir(parents=True, exist_ok=True)
    ladder = make_ladder(ShapeRules(), *SIZES, convention="6ND")
    wanted: list[tuple[int, str, str | None]] = []
    for seed in range(max(args.studies, args.wrong)):
        wanted += [(seed, truth, None) for truth in TRUTHS if seed < args.studies]
        wanted += [(seed, "skaling", "hoffmann")] if seed < args.wrong else []
    lines = args.log.read_text(encoding="utf-8").splitlines() if args.log.exists() else []
    done = {(one["seed"], one["truth"], one["fitted"]): one for one in map(json.loads, lines)}
    for seed, truth, fitted in wanted:
        key = (seed, truth, fitted or truth)
        if key not in done and seed >= args.first:
            done[key] = study(seed, truth, ladder, fitted)
            with args.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(done[key]) + "\n")
    record: dict[str, Any] = {
        "noise": NOISE,
        "params": SIZES,
        "tokens": TOKENS,
        "pilot_runs": PILOT**2,
        "grid_runs": GRID**2,
        "target_flops": TARGET,
        "draws": DRAWS,
        "truths": TRUTHS,
        "laws": {},
    }
    for truth, fitted in [*((truth, None) for truth in TRUTHS), ("skaling", "hoffmann")]:
        label = truth if fitted is None else f"{truth}, fitted as {fitted}"
        keys = [(seed, truth, fitted or truth) for seed, *which in wanted if which == [truth, fitted]]
        studies = [done[key] for key in keys if key in done]
        if studies:
            record["laws"][label] = summary(studies)
    args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    text = page(record["laws"])
    print(text)
    if args.page:
        head = args.page.read_text(encoding="utf-8").split("<!-- worth -->")[0]
        args.page.write_text(head + "<!-- worth -->\n\n" + text, encoding="utf-8")


if __name__ == "__main__":
    main()
