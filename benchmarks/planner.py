"""What advice is worth on real runs: `python -m benchmarks.planner --store build/planner`.

For each seed the fixed grid of experiments/sweeps/planner.yaml is trained and fitted. Beside it goes a loop: it starts
from the grid's two smallest budgets, asks `isoflop advise` for runs, trains them, fits all it has, and asks again,
until it has spent half of the grid's FLOPs, and then all of them. Each fit predicts the same two held-out runs of four
times the grid's largest budget, which no fit and no advice has seen; a weighted set of laws (`fit --law auto`) does so
beside it. Everything goes through the commands that users have. A stopped benchmark goes on where it was: runs are kept
in the store.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
from scipy import stats

import isoflop as iso
from experiments.machine.hardware import versions

SWEEP = Path(__file__).parent.parent / "experiments" / "sweeps" / "planner.yaml"
LAW, AUTO = "hoffmann", "auto"
"""What is fitted and advises, and the weighted set that predicts beside it."""
NUM_START_BUDGETS = 2
"""The loop starts from the grid's runs at so many of the smallest budgets."""
ROUNDS = (0.3, 0.5, 0.75, 1.0)
"""What the loop has spent after each round, in parts of the grid's FLOPs."""
SEEDS_APART = 10
"""Studies begin at seeds so far apart: a study's advised runs use the seeds after its first."""
DRAWS = 200
"""Bootstrap draws of each fit."""
ARMS = {"grid": "fixed grid", "half-grid": "fixed grid without its largest budget", "0.5": "loop, half the FLOPs"}
ARMS |= {"1.0": "loop, the same FLOPs"}
"""Arms as the page names them; an arm of the loop is named by the part of the grid's FLOPs that it has spent."""


def isoflop(*words: object) -> str:
    """Run a verb in a process of its own; its standard output."""
    command = [sys.executable, "-m", "isoflop", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(
            f"{' '.join(command)} ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.stdout


class Study:
    """One seed: the grid, the loop, and what both say of the held-out runs."""

    def __init__(self, number: int, store: Path, workers: int) -> None:
        self.number, self.store, self.workers = number, store, workers
        self.folder = store / "planner" / str(number)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.seed = SEEDS_APART * number

    def train(self, file: Path, *overrides: str) -> pd.DataFrame:
        """Train a sweep and give its records."""
        words = ["--store", self.store, "--workers", self.workers, "--wandb", "off", "--no-weights", *overrides]
        isoflop("run", file, *words)
        name = next((word.split("=")[1] for word in overrides if word.startswith("--name=")), file.stem)
        return iso.Sweep(self.store / "sweeps" / f"{name}.json", store=self.store).records()

    def fit(self, arm: str, runs: pd.DataFrame, law: str = LAW) -> Path:
        """Fit a law to runs."""
        table, out = self.folder / f"{arm}.csv", self.folder / f"{arm}.json"
        runs.to_csv(table, index=False)
        isoflop("fit", table, "--law", law, *([] if law == AUTO else ["--bootstrap", DRAWS]), "--out", out)
        return out

    def score(self, arm: str, runs: pd.DataFrame, heldout: pd.DataFrame) -> dict[str, Any]:
        """Predict the held-out runs from the runs of an arm, by one law and by a weighted set."""
        found = self.predicted(self.fit(arm, runs), heldout)
        weighted = self.predicted(self.fit(f"{arm}-auto", runs, AUTO), heldout)
        return {"runs": len(runs), "flops": float(runs["flops"].sum()), **found, "auto": weighted}

    def predicted(self, fit: Path, heldout: pd.DataFrame) -> dict[str, Any]:
        """Errors of a fit on the held-out runs, and whether its intervals hold them."""
        rows = []
        for run in heldout.to_dict("records"):
            at = f"params={run['params']},tokens={run['tokens']}"
            predicted = json.loads(isoflop("predict", fit, "--at", at, "--json"))
            low, high = predicted["prediction"] or (None, None)
            rows.append(
                {
                    "predicted": predicted["loss"],
                    "measured": run["loss"],
                    "error": abs(predicted["loss"] / run["loss"] - 1),
                    "covered": None if low is None else bool(low <= run["loss"] <= high),
                    "half_width": None if low is None else (high - low) / 2 / predicted["loss"],
                }
            )
        error = statistics.mean(row["error"] for row in rows)
        return {"error": error, "heldout": rows}

    def advised(self, part: str, runs: pd.DataFrame, grid: pd.DataFrame, heldout: pd.DataFrame) -> pd.DataFrame:
        """Ask for the runs of one round, and train them."""
        fit, sweep = self.fit(f"before-{part}", runs), self.folder / f"planner-{self.number}-{part}.yaml"
        left = float(part) * float(grid["flops"].sum()) - float(runs["flops"].sum())
        limits = ["--max-params", grid["params"].max(), "--max-tokens", grid["tokens"].max()]
        aim = f"flops={float(heldout['flops'].max())}"
        isoflop("advise", fit, "--budget", left, "--at", aim, *limits, "--template", SWEEP, "--out", sweep)
        return self.train(sweep)

    def measure(self) -> dict[str, Any]:
        """Train the grid and the loop; the errors of every arm."""
        name = f"planner-{self.number}"
        everything = self.train(SWEEP, f"--name={name}", f"--seeds=[{self.seed}]")
        heldout = everything[everything["role"] == "heldout"]
        grid = everything[everything["role"] != "heldout"]
        budgets = sorted(grid["budget"].unique())
        arms = {"grid": self.score("grid", grid, heldout)}
        arms["half-grid"] = self.score("half-grid", grid[grid["budget"] < budgets[-1]], heldout)
        runs = grid[grid["budget"] <= budgets[NUM_START_BUDGETS - 1]]
        for part in map(str, ROUNDS):
            runs = pd.concat([runs, self.advised(part, runs, grid, heldout)]).drop_duplicates("run_id")
            arms[part] = self.score(part, runs, heldout)
        print(f"seed {self.seed}: " + ", ".join(f"{arm} {100 * found['error']:.2f} %" for arm, found in arms.items()))
        columns = ["run_id", "params", "tokens", "flops", "loss", "seed"]
        return {"seed": self.seed, "arms": arms, "runs": pd.concat([grid, heldout, runs])[columns].to_dict("records")}


def mean_of(values: list[float]) -> dict[str, float]:
    """A mean and its 95 % interval by Student's t over seeds."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return {"value": mean}
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return {"value": mean, "lo": mean - half, "hi": mean + half}


def scores(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Errors over seeds, and how many intervals hold their run."""
    rows = [row for one in found for row in one["heldout"]]
    return {
        "error": mean_of([one["error"] for one in found]),
        "covered": sum(bool(row["covered"]) for row in rows),
        "with_interval": sum(row["covered"] is not None for row in rows),
        "heldout": len(rows),
    }


def summary(studies: list[dict[str, Any]]) -> dict[str, Any]:
    """Errors of every arm over seeds, and their paired differences from the grid's."""
    result = {}
    for arm in studies[0]["arms"]:
        found = [study["arms"][arm] for study in studies]
        against = [one["error"] - study["arms"]["grid"]["error"] for one, study in zip(found, studies, strict=True)]
        cost = [one["flops"] / study["arms"]["grid"]["flops"] for one, study in zip(found, studies, strict=True)]
        result[arm] = {
            "runs": statistics.mean(one["runs"] for one in found),
            "cost": statistics.mean(cost),
            "error_less_grid": mean_of(against),
            **scores(found),
            "auto": scores([one["auto"] for one in found]),
        }
    return result


def percent(found: dict[str, float]) -> str:
    """A mean with its interval in per cent."""
    text = f"{100 * found['value']:.2f} %"
    return f"{text} ({100 * found['lo']:.2f}, {100 * found['hi']:.2f})" if "lo" in found else text


def page(arms: dict[str, Any], num_seeds: int) -> str:
    """The table of the page."""
    lines = [
        f"| runs | number | cost | error by {LAW} | less the grid's error | covered | error by {AUTO} | covered |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm, name in ARMS.items():
        found = arms[arm]
        beside = "" if arm == "grid" else percent(found["error_less_grid"])
        covered, weighted = (f"{one['covered']} of {one['with_interval']}" for one in (found, found["auto"]))
        numbers = f"{found['runs']:.0f} | {found['cost']:.2f} | {percent(found['error'])}"
        lines.append(f"| {name} | {numbers} | {beside} | {covered} | {percent(found['auto']['error'])} | {weighted} |")
    note = (
        f"Means over {num_seeds} seeds with 95 % intervals (Student's t). Cost is FLOPs in parts of the grid's. "
        "Two runs a seed were held out; covered counts those within a 95 % prediction interval, where there is one."
    )
    return "\n".join([*lines, "", note, ""])


def main() -> None:
    """Train, write the record and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("build/planner"), help="where runs are kept")
    parser.add_argument("--seeds", type=int, default=5, help="studies, each with seeds of its own")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument(
        "--page", type=Path, help="write the table into this Markdown file, between '<!-- planner -->' marks"
    )
    args = parser.parse_args()
    studies = []
    for number in range(args.seeds):
        studies.append(Study(number, args.store, args.workers).measure())
        arms = summary(studies)
        record = {"command": "python -m benchmarks.planner", "versions": versions(), "arms": arms, "studies": studies}
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    text = page(arms, len(studies))
    print(text)
    if args.page:
        parts = args.page.read_text(encoding="utf-8").split("<!-- planner -->")
        if len(parts) != 3:
            raise SystemExit(f"{args.page} needs two lines '<!-- planner -->', between which the table is written")
        head, _, tail = parts
        args.page.write_text(f"{head}<!-- planner -->\n\n{text}\n<!-- planner -->{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
