"""Whether intervals of `auto` cover when no single law is sure: `python -m benchmarks.auto_law --out FILE`.

Studies of 30 and 63 runs, between 1e18 and 1e21 FLOPs, are drawn from Hoffmann's law, Skaling's, Farseer's and a power
law that breaks in compute, with noise of .3 % of the loss. The set of laws is fitted and weighed as `fit --law auto`
does it, and asked for the expected loss at ten times the largest compute. Beside it stand the interval of the true law,
fitted to the same runs, and that of Hoffmann's. To save time each law descends from its minimum on losses without
noise, the law with a break from several places of it. Weights, cut-offs, intervals and the rule by which that law has a
part in the set are those of the package (`--without-break`: it never has; `--without-truth`: nor has the true law).
Cells that the record holds are completed, so that a stopped benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.arrays import Array
from analysis.files import write_json
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter
from analysis.laws.registry import get_law
from analysis.selection.auto import BREAK, Predicted, mixture_ends
from analysis.selection.cutoffs import HORIZON, Member, law_weights, track_record, undetermined_break, widening
from analysis.selection.windows import compute_axis, nested_windows
from analysis.solver.newton import polish
from analysis.solver.objectives import Objective
from analysis.solver.problem import make_problem
from analysis.solver.search import solve
from analysis.uncertainty.covariance import sandwich
from benchmarks.lack_of_fit import HOFFMANN, design, truth
from experiments.files import write_atomic

LAWS = ("hoffmann", "kaplan", "skaling", "farseer", "gadre")
"""What `auto` fits to params and tokens."""
SKALING = [1.7, 1100.0, 5000.0, 0.45, 0.47, 0.72]
TRUTHS = ("hoffmann", "skaling", "farseer", "broken")
SIZES = (30, 63)
NOISE = 0.003
LEVEL = 0.95
FAR = 1e22
"""Ten times the largest compute."""
TARGET = {"params": np.array([np.sqrt(FAR / 120)]), "tokens": np.array([np.sqrt(FAR * 120) / 6])}
BATCH = 5
"""Studies between two writings of the record."""
OBJECTIVE = Objective(name="huber", delta=1e-3)


@dataclass(frozen=True, kw_only=True)
class Ways:
    """What the benchmark does otherwise than the package."""

    without_break: bool = False
    """The law with a break has no part in the set."""
    without_truth: bool = False
    """Nor has the true law; where it breaks, the law with a break stands for it."""
    horizon: float = HORIZON
    """Errors at cut-offs count up to so many times the compute of the cut-off."""

    def __str__(self) -> str:
        """As options of the command."""
        names = [f" --{name.replace('_', '-')}" for name in ("without_break", "without_truth") if getattr(self, name)]
        return "".join(names) + ("" if self.horizon == HORIZON else f" --horizon {self.horizon:g}")


@dataclass(frozen=True, kw_only=True)
class Broken(Law):
    """E + (A / N**alpha + B / D**beta) (1 + (N D / c)**(1 / .3))**(-.3 s): the law behind the broken studies, with the
    place and the strength of its break free."""

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """The loss."""
        E, A, B, alpha, beta, s, c = theta
        bend = (1 + (x["params"] * x["tokens"] / c) ** (1 / 0.3)) ** (-0.3 * s)
        return np.asarray(E + (A * x["params"] ** -alpha + B * x["tokens"] ** -beta) * bend)

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By central differences."""
        out = []
        for j, value in enumerate(theta):
            step = 1e-6 * np.abs(value)
            moved = [[*theta[:j], value + sign * step, *theta[j + 1 :]] for sign in (1, -1)]
            out.append((self.value(moved[0], x) - self.value(moved[1], x)) / (2 * step))
        return out


BROKEN = Broken(
    name="broken",
    formula="(E + (A / params**alpha + B / tokens**beta) (1 + (params tokens / c)**(1 / .3))**(-.3 s)",
    inputs=("params", "tokens"),
    source="the broken truth of benchmarks/lack_of_fit.py",
    parameters=(
        *get_law("hoffmann").parameters,
        Parameter(name="s", kind="real", meaning="strength of the break", lower=-0.5, upper=0.5),
        Parameter(name="c", kind="amplitude", meaning="place of it", scales=(("params", 1.0), ("tokens", 1.0))),
    ),
)
AT_BREAK = np.array([[*HOFFMANN, 0.05, 1e20 / 6]])


def losses(name: str, data: dict[str, Array]) -> Array:
    """Losses without noise."""
    return get_law("skaling")(SKALING, data) if name == "skaling" else truth(name, data)


def start_of(law: Law, data: dict[str, Array]) -> Array:
    """Where a law descends from: its minimum on losses without noise."""
    problem = make_problem(law, data, objective=OBJECTIVE)
    return law.to_working(AT_BREAK, problem.log_refs)[0] if law is BROKEN else solve(problem).phi


def member_of(law: Law, data: dict[str, Array], start: Array) -> Member:
    """A law at its minimum."""
    problem = make_problem(law, data, objective=OBJECTIVE)
    phi = polish(problem, start[None, :], max_iterations=100, descent="graduated").phi[0]
    return Member(problem=problem, phi=phi, codes=np.arange(problem.num_rows))


def with_break(law: Law, data: dict[str, Array], hoffmann: Member) -> Member | None:
    """The law with a break at its minimum, from several places of it; None where the runs do not determine it."""
    problem = make_problem(law, data, objective=OBJECTIVE)
    theta = hoffmann.problem.law.to_public(hoffmann.phi[None, :], hoffmann.problem.log_refs)[0]
    public = np.array([[*theta, s, c / 6] for s in (0.03, -0.03) for c in (1e18, 1e19, 1e20, 3e20)])
    starts = law.to_working(public, problem.log_refs)
    found = polish(problem, starts, max_iterations=100, descent="graduated")
    phi = found.phi[int(np.nanargmin(found.value))]
    n = problem.num_rows
    member = Member(problem=problem, phi=phi, codes=np.arange(n))
    covariance = sandwich(problem, phi, member.codes) * n / (n - problem.num_params)
    return None if undetermined_break(law, phi, covariance) else member


def predicted(member: Member, factor: float) -> Predicted:
    """What a law says at the target, as its sandwich covariance has it."""
    problem, law = member.problem, member.problem.law
    z = law.features(law.logs(np.stack([TARGET[name] for name in law.inputs])) - problem.log_refs[:, None])
    value, slopes = law.working_jacobian(member.phi[None, :], z)
    slope = slopes[0][:, 0] / value[0, 0]
    dof = problem.num_rows - problem.num_params
    variance = slope @ sandwich(problem, member.phi, member.codes) @ slope * problem.num_rows / dof
    return Predicted(middle=np.log(value[0]), scale=np.array([factor * np.sqrt(max(variance, 0.0))]), dof=float(dof))


def study(name: str, n: int, seed: int, starts: dict[str, Array], laws: dict[str, Law], ways: Ways) -> dict[str, Any]:
    """One study: whether each interval held the loss, and its half-width in log loss."""
    data = design(n)
    rng = np.random.default_rng([seed, n, TRUTHS.index(name)])
    data["loss"] = losses(name, data) * np.exp(NOISE * rng.standard_normal(n))
    members = {law: member_of(laws[law], data, start) for law, start in starts.items()}
    of_set = [members[law] for law in LAWS if law != name or not ways.without_truth]
    lone = ways.without_break or (ways.without_truth and name == "broken")
    bent = None if lone else with_break(get_law(BREAK), data, members["hoffmann"])
    of_set += [] if bent is None else [bent]
    record = track_record(of_set, nested_windows(data), compute_axis(data)[1], horizon=ways.horizon)
    factor = widening(record)
    counts = [one.problem.num_params for one in of_set]
    weights = law_weights([one.value for one in of_set], counts, n, dispersion=factor**2)
    aim = float(np.log(losses(name, TARGET))[0])
    out: dict[str, Any] = {"widening": round(factor, 3), "break": bent is not None}
    ends = {"auto": mixture_ends([predicted(one, factor) for one in of_set], weights, LEVEL, None)[0]}
    for label, law in (("true law", name), ("hoffmann", "hoffmann")):
        ends[label] = mixture_ends([predicted(members[law], 1.0)], np.ones(1), LEVEL, None)[0]
    for label, (lo, hi) in ends.items():
        out[label] = [int(lo <= aim <= hi), round(float(hi - lo) / 2, 6)]
    return out


def summary(studies: list[dict[str, Any]]) -> dict[str, Any]:
    """Coverage and median half-width of each interval, and how much wider `auto` is than the true law's own."""
    out: dict[str, Any] = {
        "studies": len(studies),
        "median_widening": float(np.median([s["widening"] for s in studies])),
        "with_break": round(float(np.mean([s.get("break", False) for s in studies])), 3),
    }
    for label in ("auto", "true law", "hoffmann"):
        share = float(np.mean([s[label][0] for s in studies]))
        error = 2 * float(np.sqrt(share * (1 - share) / len(studies)))
        half = float(np.median([s[label][1] for s in studies]))
        out[label] = {"covered": round(share, 4), "plus_minus": round(error, 4), "half_width": round(half, 5)}
    out["times_the_true_laws_own"] = round(out["auto"]["half_width"] / out["true law"]["half_width"], 2)
    return out


@np.errstate(all="ignore")
def main() -> None:
    """Complete every cell, in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--first", type=int, default=0, help="seed of the first study")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/auto_law.json"))
    parser.add_argument("--log", type=Path, default=Path("build/auto_law.jsonl"), help="studies that are done")
    parser.add_argument("--report", type=Path, help="write the table between the marks <!-- auto --> of this page")
    parser.add_argument("--without-break", action="store_true", help="leave out the law with a break")
    parser.add_argument("--without-truth", action="store_true", help="leave out the true law")
    parser.add_argument("--horizon", type=float, default=HORIZON, help="how far beyond a cut-off errors count")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long")
    args = parser.parse_args()
    ways = Ways(without_break=args.without_break, without_truth=args.without_truth, horizon=args.horizon)
    args.log.parent.mkdir(parents=True, exist_ok=True)
    done: dict[tuple[str, int], dict[int, dict[str, Any]]] = {(t, n): {} for t in TRUTHS for n in SIZES}
    for line in args.log.read_text(encoding="utf-8").splitlines() if args.log.exists() else []:
        entry = json.loads(line)
        done[entry["truth"], entry["runs"]][entry["seed"]] = entry["study"]
    laws = {name: get_law(name) for name in LAWS} | {"broken": BROKEN}
    begun = time.monotonic()
    starts: dict[tuple[str, int], dict[str, Array]] = {}
    last = args.first + args.studies
    for first in range(args.first, last, BATCH):
        for (name, n), cell in done.items():
            seeds = [seed for seed in range(first, min(first + BATCH, last)) if seed not in cell]
            if not seeds or time.monotonic() - begun > args.seconds:
                continue
            if (name, n) not in starts:
                clean = design(n) | {"loss": losses(name, design(n))}
                used = (*LAWS, "broken") if name == "broken" else LAWS
                starts[name, n] = {law: start_of(laws[law], clean) for law in used}
            for seed in seeds:
                cell[seed] = study(name, n, seed, starts[name, n], laws, ways)
                with args.log.open("a", encoding="utf-8") as log:
                    log.write(json.dumps({"truth": name, "runs": n, "seed": seed, "study": cell[seed]}) + "\n")
            print(name, n, summary(list(cell.values())), flush=True)
            _write(args, ways, done)
    cells = _write(args, ways, done)
    if args.report:
        head, _, rest = args.report.read_text(encoding="utf-8").partition("<!-- auto -->\n")
        tail = rest.partition("<!-- /auto -->")[2]
        write_atomic(args.report, f"{head}<!-- auto -->\n\n{table(cells)}\n\n<!-- /auto -->{tail}")


def table(cells: Sequence[dict[str, Any]]) -> str:
    """Markdown of the record."""
    lines = [
        "| true law | runs | studies | `auto` covers | the true law's own | Hoffmann's | half-width of `auto`, "
        "of the loss | over the true law's own |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        covers = [
            f"{100 * cell[label]['covered']:.0f} ± {100 * cell[label]['plus_minus']:.0f} %"
            for label in ("auto", "true law", "hoffmann")
        ]
        half, ratio = f"{100 * cell['auto']['half_width']:.2g} %", f"{cell['times_the_true_laws_own']:.1f}"
        lines.append(
            "| " + " | ".join([cell["truth"], str(cell["runs"]), str(cell["studies"]), *covers, half, ratio]) + " |"
        )
    return "\n".join(lines)


def _write(
    args: argparse.Namespace, ways: Ways, done: dict[tuple[str, int], dict[int, dict[str, Any]]]
) -> list[dict[str, Any]]:
    cells = []
    for (name, n), cell in done.items():
        asked = [study for seed, study in sorted(cell.items()) if args.first <= seed < args.first + args.studies]
        if asked:
            cells.append({"truth": name, "runs": n, **summary(asked)})
    command = f"python -m benchmarks.auto_law --first {args.first} --studies {args.studies}{ways}"
    write_json(args.out, {"command": command, "noise": NOISE, "level": LEVEL, "flops": FAR, "cells": cells})
    return cells


if __name__ == "__main__":
    main()
