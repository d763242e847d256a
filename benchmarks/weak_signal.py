"""Coverage where size and data hardly matter: `python -m benchmarks.weak_signal --out benchmarks/weak_signal.json`.

Studies of 63 runs are drawn from Hoffmann's law with both exponents at .03 or .06, with noise of 1 % of the loss, and
fitted through the public API. A parameter that the fit calls not identified has no interval to be wrong; of the others
the record says how many intervals cover, and how many of the fits warn that the signal is weak.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from analysis.files import write_json
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law
from benchmarks.lack_of_fit import design

EXPONENTS = (0.03, 0.06)
NOISE = 0.01
RUNS = 63
TARGET = {"params": [9.1e9], "tokens": [1.8e11]}
"""Ten times the largest compute, at 20 tokens a parameter."""
ASKED = ("E", "alpha", "beta")
BATCH = 10
"""Studies between two writings of the record."""


def truth(exponent: float) -> list[float]:
    """E, A, B, alpha and beta: each term is half a nat at 1e9 params and 2e10 tokens."""
    return [1.8, 0.5 * 1e9**exponent, 0.5 * 2e10**exponent, exponent, exponent]


@np.errstate(all="ignore")
def study(exponent: float, seed: int, draws: int) -> dict[str, Any]:
    """Of each quantity: 1 covered, 0 missed, None not identified; and whether the fit warned."""
    rng = np.random.default_rng([seed, round(1000 * exponent)])
    law, data = get_law("hoffmann"), design(RUNS)
    theta = truth(exponent)
    data["loss"] = law(theta, data) * np.exp(NOISE * rng.standard_normal(RUNS))
    fit = fit_law(law, data, bootstrap=draws, seed=seed)
    named = dict(zip(law.param_names, theta, strict=True))
    out: dict[str, Any] = {"warned": int(any("signal is weak" in text for text in fit.warnings))}
    for name in ASKED:
        one = fit.estimates[name]
        out[name] = int(one.covers(named[name])) if one.has_interval else None
    a = None if fit.frontier_estimates is None else fit.frontier_estimates.a
    out["a"] = int(a.covers(0.5)) if a is not None and a.has_interval else None
    band = fit.predict(TARGET, "confidence")
    lo, hi = (float(band[name].iloc[0]) for name in ("confidence_lo", "confidence_hi"))
    aim = float(law(theta, {name: np.array(column) for name, column in TARGET.items()})[0])
    out["loss at ten times the compute"] = int(lo <= aim <= hi) if np.isfinite([lo, hi]).all() else None
    return out


def summary(studies: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares: with an interval, covered by it, and covered or not identified."""
    out: dict[str, Any] = {"studies": len(studies), "warned": float(np.mean([one["warned"] for one in studies]))}
    for name in studies[0]:
        if name == "warned":
            continue
        shown = [one[name] for one in studies if one[name] is not None]
        out[name] = {
            "with_interval": round(len(shown) / len(studies), 4),
            "covered": round(float(np.mean(shown)), 4) if shown else None,
            "covered_or_not_identified": round(1 - (len(shown) - sum(shown)) / len(studies), 4),
        }
    return out


def main() -> None:
    """Complete every cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/weak_signal.json"))
    args = parser.parse_args()
    record = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {"studies": {}}
    done: dict[str, list[dict[str, Any]]] = record["studies"]
    for last in range(BATCH, args.studies + BATCH, BATCH):
        for exponent in EXPONENTS:
            cell = done.setdefault(str(exponent), [])
            cell += [study(exponent, seed, args.draws) for seed in range(len(cell), min(last, args.studies))]
            cells = {name: summary(studies) for name, studies in done.items()}
            command = f"python -m benchmarks.weak_signal --studies {args.studies} --draws {args.draws}"
            write_json(args.out, {"command": command, "noise": NOISE, "runs": RUNS, "cells": cells, "studies": done})
            print(exponent, cells[str(exponent)], flush=True)


if __name__ == "__main__":
    main()
