"""Where the published coefficients of the multi-power law come from: `python -m benchmarks.multipower_descent`.

Luo et al. 2025 (arXiv 2503.12811) release their code. It fits L0, A, alpha and B of a law without memory,
L0 + A S1**-alpha - B (peak - lr), then starts AdamW from there with C = 1 and beta = gamma = 1/2, at rates of .05 (L0,
A, B, C) and .005, with weights decayed, and stops after 200 steps or 20 without a better sum (their src/fitting.py and
src/config.py). Here the same descent is made on the published training curves, rows counting alike as there: beside its
end stand the published coefficients, their sum, and that of the minimum. Errors on the test curves are written down
beside them and decide nothing.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from analysis.arrays import Array
from analysis.files import write_json
from analysis.fitting.fit_law import fit_law
from analysis.laws.schedules.base import read_curve
from analysis.laws.schedules.multipower import MULTIPOWER
from analysis.published.curves import MULTIPOWER_2025, TRAINED_ON, schedule_curves

COMMAND = "python -m benchmarks.multipower_descent"
DELTA = 1e-3
"""Where Huber's function turns linear, of log losses."""
PEAK = 3e-4
"""Peak rate of every curve."""
RATES = np.array([0.05, 0.05, 0.005, 0.05, 0.05, 0.005, 0.005])
"""Of L0, A, alpha, B, C, beta, gamma."""
DECAY = 0.01
"""Of weights, a step and a unit of rate: what AdamW has where none is given."""
MAX_STEPS, PATIENCE = 200, 20
MEMORY = (1.0, 0.5, 0.5)
"""C, beta and gamma at the start."""


def adamw(theta: Array, value_and_slope: Callable[[Array], tuple[float, Array]], rates: Array) -> tuple[Array, int]:
    """Descend by AdamW (Loshchilov and Hutter 2019) until MAX_STEPS, or PATIENCE steps without a lower value.

    Parameters
    ----------
    theta : Array, shape (p,)
        Where to start.
    value_and_slope : callable
        Value and gradient, shape (p,), at a point.
    rates : Array, shape (p,)
        Rate of each parameter.

    Returns
    -------
    theta : Array, shape (p,)
        The point of the lowest value.
    steps : int
        Steps taken.
    """
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    best, lowest, worse = theta, np.inf, 0
    for step in range(1, MAX_STEPS + 1):
        value, slope = value_and_slope(theta)
        best, lowest, worse = (theta, value, 0) if value < lowest else (best, lowest, worse + 1)
        if step > PATIENCE and worse >= PATIENCE:
            return best, step
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        scale = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        theta = theta * (1 - rates * DECAY) - rates * first / (1 - 0.9**step) / scale
    return best, MAX_STEPS


def total(residuals: Array) -> float:
    """Sum of Huber's function."""
    size = np.abs(residuals)
    return float(np.where(size < DELTA, 0.5 * size**2, DELTA * (size - 0.5 * DELTA)).sum())


def descent(curves: Mapping[str, pd.DataFrame]) -> tuple[Array, Array, int]:
    """Start and end of the published descent on some curves, and its steps."""
    rows = pd.concat([curve.assign(curve=k + 1.0) for k, curve in enumerate(curves.values())], ignore_index=True)
    x = {name: rows[name].to_numpy(dtype=float) for name in ("step", "lr", "curve")}
    y = np.log(rows["loss"].to_numpy(dtype=float))
    area = np.concatenate(
        [read_curve(c["step"].to_numpy(float), c["lr"].to_numpy(float)).area for c in curves.values()]
    )

    def without_memory(p: Array) -> float:
        loss = p[0] + p[1] * area ** -p[2] - p[3] * (PEAK - x["lr"])
        return total(y - np.log(np.maximum(loss, 1e-9)))

    least = float(rows["loss"].min())
    slope, intercept = np.polyfit(np.log(area), np.log(rows["loss"] - least + 0.01), 1)
    near = np.array([-0.1, 0.0, 0.1])
    grid = itertools.product(
        np.linspace(least - 0.2, least + 0.2, 5), np.exp(intercept) + near, near - slope, np.linspace(100, 1000, 3)
    )
    options: Any = {"maxiter": 100_000, "ftol": 1e-9, "gtol": 1e-6, "eps": 1e-8}
    found = [
        minimize(without_memory, np.array(p), method="L-BFGS-B", bounds=[(0, np.inf)] * 4, options=options)
        for p in grid
    ]
    start = np.array([*min(found, key=lambda one: one.fun).x, *MEMORY])

    def value_and_slope(theta: Array) -> tuple[float, Array]:
        loss = MULTIPOWER.value(list(theta), x)
        residuals = y - np.log(loss)
        slopes = np.stack(MULTIPOWER.jacobian(list(theta), x)) / loss
        return total(residuals), -slopes @ np.clip(residuals, -DELTA, DELTA)

    end, steps = adamw(start, value_and_slope, RATES)
    return start, end, steps


def measured(folder: Path, size: str) -> dict[str, Any]:
    """Start, end and sums of one size, and errors on test curves."""
    every = schedule_curves(folder, size)
    curves = {name: every.pop(name) for name in TRAINED_ON}
    rows = pd.concat([curve.assign(curve=name) for name, curve in curves.items()], ignore_index=True)
    published = np.array(list(MULTIPOWER_2025[size][1].values()))
    minimum = fit_law(MULTIPOWER, rows, weights=np.ones(len(rows)), bootstrap=0)
    start, end, steps = descent(curves)
    points = {"start": start, "end of the descent": end, "published": published, "minimum": _theta(minimum.estimates)}
    return {
        "size": size,
        "steps": steps,
        "coefficients": {
            name: dict(zip(MULTIPOWER.param_names, np.round(theta, 4).tolist(), strict=True))
            for name, theta in points.items()
        },
        "objective": {name: float(f"{_sum(theta, curves):.5g}") for name, theta in points.items()},
        "largest_difference_from_published": round(float(np.abs(end / published - 1).max()), 4),
        "test": {
            name: {curve: round(float(_errors(points[name], rows).mean()), 5) for curve, rows in every.items()}
            for name in ("published", "minimum")
        },
    }


def _theta(estimates: Mapping[str, Any]) -> Array:
    return np.array([estimates[name].value for name in MULTIPOWER.param_names])


def _predicted(theta: Array, curve: pd.DataFrame) -> Array:
    x = {name: curve[name].to_numpy(dtype=float) for name in ("step", "lr")} | {"curve": np.ones(len(curve))}
    return np.asarray(MULTIPOWER.value(list(theta), x))


def _errors(theta: Array, curve: pd.DataFrame) -> Array:
    return np.abs(_predicted(theta, curve) - curve["loss"].to_numpy(dtype=float))


def _sum(theta: Array, curves: Mapping[str, pd.DataFrame]) -> float:
    return sum(total(np.log(c["loss"].to_numpy(dtype=float)) - np.log(_predicted(theta, c))) for c in curves.values())


def main() -> None:
    """Both sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of published runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/multipower_descent.json"))
    args = parser.parse_args()
    sizes = []
    for size in MULTIPOWER_2025:
        sizes.append(measured(args.data, size))
        print(sizes[-1], flush=True)
    write_json(args.out, {"command": COMMAND, "sizes": sizes})


if __name__ == "__main__":
    main()
