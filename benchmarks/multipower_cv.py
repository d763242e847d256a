"""Choices of the multi-power law by its training curves alone: `python -m benchmarks.multipower_cv --data FOLDER`.

Two choices are crossed: whether every curve counts alike or every row, and whether gamma is held between counting area
(0) and counting steps (1) or is free. Each of the three training curves of Luo et al. 2025 (arXiv 2503.12811) is left
out in turn and predicted by the fit of the other two. The record says which pair of choices has the least mean error
over curves and sizes, and whether its sides differ by more than their paired differences scatter. The six test curves
have no part in it: their errors are written down beside it. Cells that the record holds are not
computed again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.files import write_json
from analysis.fitting.fit_law import fit_law
from analysis.laws.base import Law
from analysis.laws.schedules.multipower import MULTIPOWER
from analysis.published.curves import MULTIPOWER_2025, TRAINED_ON, schedule_curves

COMMAND = "python -m benchmarks.multipower_cv"
FREE = replace(
    MULTIPOWER, parameters=(*MULTIPOWER.parameters[:-1], replace(MULTIPOWER.parameters[-1], lower=-1.0, upper=3.0))
)
"""The law with gamma beyond what it means."""
GAMMA = {"between 0 and 1": MULTIPOWER, "free": FREE}
COUNTED = ("curves", "rows")
"""What counts alike."""


def off(law: Law, counted: str, curves: Mapping[str, pd.DataFrame], asked: Mapping[str, pd.DataFrame]) -> list[float]:
    """Mean absolute errors of some curves by the fit of others."""
    rows = pd.concat([curve.assign(curve=name) for name, curve in curves.items()], ignore_index=True)
    fit = fit_law(law, rows, weights=None if counted == "curves" else np.ones(len(rows)), bootstrap=0)
    predicted = [fit.predict(curve.assign(curve=name), interval="none")["loss"] for name, curve in asked.items()]
    return [float(np.abs(a.to_numpy() - b["loss"]).mean()) for a, b in zip(predicted, asked.values(), strict=True)]


def cell(folder: Path, size: str, counted: str, gamma: str) -> dict[str, Any]:
    """One size and one pair of choices."""
    law, curves = GAMMA[gamma], schedule_curves(folder, size)
    trained = {name: curves[name] for name in TRAINED_ON}
    errors = {
        name: off(law, counted, {k: v for k, v in trained.items() if k != name}, {name: curve})[0]
        for name, curve in trained.items()
    }
    test = off(law, counted, trained, {name: curve for name, curve in curves.items() if name not in TRAINED_ON})
    mean = float(np.mean(list(errors.values())))
    rounded = {name: round(error, 6) for name, error in errors.items()}
    choices = {"size": size, "counted_alike": counted, "gamma": gamma}
    return {**choices, "left_out": rounded, "mean_left_out": round(mean, 6), "test": round(float(np.mean(test)), 6)}


def main() -> None:
    """Complete every cell and say which pair of choices has the least error on curves left out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of published runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/multipower_cv.json"))
    args = parser.parse_args()
    cells = json.loads(args.out.read_text(encoding="utf-8"))["cells"] if args.out.exists() else []
    for size in MULTIPOWER_2025:
        for counted in COUNTED:
            for gamma in GAMMA:
                if any((c["size"], c["counted_alike"], c["gamma"]) == (size, counted, gamma) for c in cells):
                    continue
                cells.append(cell(args.data, size, counted, gamma))
                print(cells[-1], flush=True)
                write_json(args.out, {"command": COMMAND, "least_mean": chosen(cells), "cells": cells})
    content = {"command": COMMAND, "least_mean": chosen(cells), "paired": paired(cells), "cells": cells}
    write_json(args.out, content)
    print(json.dumps({name: content[name] for name in ("least_mean", "paired")}))


def paired(cells: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each choice, how much worse the other side is on a curve left out: mean, standard error, curves better and
    worse, over sizes and curves at the first value of the other choice."""
    out = {}
    sides = {"counted_alike": (COUNTED, "gamma"), "gamma": (tuple(GAMMA), "counted_alike")}
    for name, ((first, second), other) in sides.items():
        kept = next(iter(GAMMA)) if other == "gamma" else COUNTED[0]
        by = {(c["size"], c[name]): c["left_out"] for c in cells if c[other] == kept}
        gaps = np.array(
            [by[size, second][curve] - by[size, first][curve] for size in MULTIPOWER_2025 for curve in TRAINED_ON]
        )
        out[f"{second} less {first}"] = {
            "mean": round(float(gaps.mean()), 6),
            "standard_error": round(float(gaps.std(ddof=1) / np.sqrt(gaps.size)), 6),
            "better": int((gaps < -1e-5).sum()),
            "worse": int((gaps > 1e-5).sum()),
        }
    return out


def chosen(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """The choices of the least mean error on curves left out, over the sizes that all choices have."""
    pairs = {(c["counted_alike"], c["gamma"]) for c in cells}
    sizes = {size for size in MULTIPOWER_2025 if sum(c["size"] == size for c in cells) == len(pairs)}
    means = {
        pair: float(
            np.mean(
                [
                    c["mean_left_out"]
                    for c in cells
                    if (c["counted_alike"], c["gamma"]) == pair and c["size"] in (sizes or MULTIPOWER_2025)
                ]
            )
        )
        for pair in pairs
    }
    best = min(means, key=lambda pair: means[pair])
    return {"counted_alike": best[0], "gamma": best[1], "mean_left_out": round(means[best], 6)}


if __name__ == "__main__":
    main()
