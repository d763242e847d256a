"""Coverage of intervals of derived quantities without a bootstrap: `python -m benchmarks.derived --studies 200`.

Each study draws a table of runs as benchmarks/coverage.py does, fits it without bootstrap draws, and asks three rules
for intervals of N_opt and of the loss there at three budgets, of the exponent a, and of the compute that reaches a low
loss: the delta method (the rule in use), percentiles over Student's draws of the covariance, and percentiles over
normal draws within the law's bounds. Standard output is a Markdown table: coverage, and width over that of the delta
method.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from analysis.arrays import Array
from analysis.fitting.derived import neighbourhood, plausible, working_draws
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.laws.allocation import exponents, optimum
from analysis.laws.registry import LAWS
from benchmarks.coverage import CLUSTER_SHARE, DESIGNS, GROUPINGS, KINDS, NOISE, SIZES, TRUTH, design, noise

LAW = LAWS["hoffmann"]
LOG_BUDGETS = np.log(np.array([1e20, 1e22, 1e24]))
"""Inside the runs, ten times and a thousand times beyond them."""
RULES = ("delta", "student", "normal")
QUANTITIES = ("N 1e20", "N 1e22", "N 1e24", "loss 1e20", "loss 1e22", "loss 1e24", "a", "C of a loss")
UNREACHED = 1e6
"""Logarithm of a compute that no budget reaches."""
TARGET = float(optimum(LAW, TRUTH[None, :], LOG_BUDGETS)[2][0, 2])
"""The loss whose price is asked for: the optimum of the largest budget."""


def quantities(theta: Array) -> Array:
    """log N, log loss, a and log C by public parameters (B, 5), shape (B, 8)."""
    log_n, _, loss = optimum(LAW, theta, LOG_BUDGETS)
    floor, alpha, beta = theta[:, 0], theta[:, 3], theta[:, 4]
    power = alpha * beta / (alpha + beta)  # L_opt = E + K C^-power
    amplitude = np.log(loss[:, 1] - floor) + power * LOG_BUDGETS[1]
    left = np.where(floor < TARGET, TARGET - floor, np.nan)
    price = np.nan_to_num((amplitude - np.log(left)) / power, nan=UNREACHED)
    return np.column_stack([log_n, np.log(loss), exponents(LAW, theta, (0.0, 1.0))[0], price])


def intervals(fit: Fit) -> dict[str, tuple[Array, Array, Array]]:
    """The value and both ends of every quantity by every rule."""
    near, tails = neighbourhood(fit), [(1 - fit.level) / 2, (1 + fit.level) / 2]
    value = quantities(near.centre)[0]
    normal = quantities(LAW.to_public(working_draws(fit), fit.predictor.log_refs))
    low, high = np.quantile(quantities(plausible(fit)), tails, axis=0)
    return {
        "delta": (value, *near.ends(value, quantities(near.about))),
        "student": (value, low, high),
        "normal": (value, *fit.predictor.calibration.interval(value, normal)),
    }


def study(seed: int, n: int, kind: str, grouping: str, shape: str) -> dict[str, tuple[Array, Array]] | None:
    """Which quantities each rule covered, and its widths; None where the runs do not determine the frontier."""
    rng = np.random.default_rng([seed, n, KINDS.index(kind), GROUPINGS.index(grouping), DESIGNS.index(shape)])
    params, tokens, clusters = design(shape, n)
    errors = noise(rng, kind, n)
    if grouping == "clustered":
        shared = noise(rng, kind, int(clusters.max()) + 1)[clusters]
        errors = np.sqrt(CLUSTER_SHARE) * shared + np.sqrt(1 - CLUSTER_SHARE) * errors
    data: dict[str, Any] = {"params": params, "tokens": tokens}
    data["loss"] = LAW(TRUTH, data) * np.exp(NOISE * errors)
    fit = fit_law(LAW, data, cluster=clusters if grouping == "clustered" else None)
    if fit.frontier_estimates is None or not fit.frontier_estimates.identified:
        return None
    truth = quantities(TRUTH[None, :])[0]
    return {rule: ((low <= truth) & (truth <= high), high - low) for rule, (_, low, high) in intervals(fit).items()}


def main() -> None:
    """Run every cell and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200, help="studies to a cell")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), choices=SIZES)
    args = parser.parse_args()
    print("| design | runs | noise | runs are | rule | " + " | ".join(QUANTITIES) + " |")
    print("|---" * (5 + len(QUANTITIES)) + "|")
    for shape in DESIGNS:
        for n in args.sizes:
            for kind in KINDS:
                for grouping in GROUPINGS:
                    found = [study(seed, n, kind, grouping, shape) for seed in range(args.studies)]
                    known = [one for one in found if one is not None]
                    if len(known) < args.studies / 2:
                        continue
                    plain = np.median([one["delta"][1] for one in known], axis=0)
                    for rule in RULES:
                        covered = 100 * np.mean([one[rule][0] for one in known], axis=0)
                        wider = np.median([one[rule][1] for one in known], axis=0) / plain
                        cells = [f"{c:.0f} ({w:.2f})" for c, w in zip(covered, wider, strict=True)]
                        print("| " + " | ".join([shape, str(n), kind, grouping, rule, *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
