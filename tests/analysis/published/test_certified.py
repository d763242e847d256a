"""Certified problems, in every clone: tables made from published constants, and what fits of them must find.

As in lmfit's tests of NIST's problems, each problem holds a formula written here, the constants that a paper prints, a
table made from both with seeded noise, and certified results. Without noise a fit recovers the constants. With noise it
finds the least squares that SciPy finds from the constants with the formula written here, the certified sum of Huber's
terms, and intervals that hold the constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from scipy.optimize import least_squares

from analysis.arrays import Array
from analysis.fitting.fit_law import fit_law
from analysis.fitting.spec import FitSpec
from analysis.laws.registry import LAWS
from analysis.published.constants import (
    BESIROGLU_2024,
    GADRE,
    HOFFMANN_2022,
    KAPLAN_2020,
    MUENNIGHOFF_2023,
)
from analysis.published.curves import GADRE_DOWNSTREAM, MULTIPOWER_2025

Table = dict[str, Array]


def ladder() -> Table:
    """Sixteen sizes of 40M to 10B parameters, each at six ratios of tokens to parameters."""
    params = np.repeat(np.geomspace(4e7, 1e10, 16), 6)
    return {"params": params, "tokens": params * np.tile(np.geomspace(2.5, 160, 6), 16)}


def repeated() -> Table:
    """The ladder on one hundredth to all of its tokens as unique ones."""
    table = ladder()
    share = np.tile(np.geomspace(0.01, 1.0, 4), 24)
    return table | {"unique_tokens": table["tokens"] * share}


def small() -> Table:
    """The sizes of Kaplan et al., 1M to 1B parameters, at budgets where both terms matter."""
    params = np.repeat(np.geomspace(1e6, 1e9, 12), 6)
    return {"params": params, "tokens": np.tile(np.geomspace(2e7, 2e10, 6), 12)}


def schedules() -> Table:
    """A constant rate, a cosine and a sudden fall after a third, 60 rows each."""
    step = np.arange(600.0, 24_600.0, 400.0)
    peak = 3e-4
    part = (step - step[0]) / (step[-1] - step[0])
    rates = [
        np.full(step.size, peak),
        peak * (0.1 + 0.9 * (1 + np.cos(np.pi * part)) / 2),
        np.where(part < 1 / 3, peak, 0.3 * peak),
    ]
    return {
        "step": np.tile(step, 3),
        "lr": np.concatenate(rates),
        "curve": np.repeat(np.arange(3.0), step.size),
    }


def losses() -> Table:
    """Losses of 30 models."""
    return {"loss": np.linspace(2.4, 4.6, 30)}


def hoffmann(t: Mapping[str, float], x: Table) -> Array:
    """Hoffmann et al. 2022, equation 10."""
    return t["E"] + t["A"] / x["params"] ** t["alpha"] + t["B"] / x["tokens"] ** t["beta"]


def kaplan(t: Mapping[str, float], x: Table) -> Array:
    """Kaplan et al. 2020, equation 1.5."""
    size = (t["N_c"] / x["params"]) ** (t["alpha_N"] / t["alpha_D"])
    return np.asarray((size + t["D_c"] / x["tokens"]) ** t["alpha_D"])


def muennighoff(t: Mapping[str, float], x: Table) -> Array:
    """Muennighoff et al. 2023: effective tokens and effective parameters."""
    unique = np.minimum(x["unique_tokens"], x["tokens"])
    tokens = unique * (1 + t["R_D"] * (1 - np.exp(-(x["tokens"] / unique - 1) / t["R_D"])))
    optimal = (t["alpha"] * t["A"] / (t["beta"] * t["B"]) * unique ** t["beta"]) ** (1 / t["alpha"])
    base = np.minimum(optimal, x["params"])
    params = base * (1 + t["R_N"] * (1 - np.exp(-(x["params"] / base - 1) / t["R_N"])))
    return np.asarray(t["E"] + t["A"] / params ** t["alpha"] + t["B"] / tokens ** t["beta"])


def gadre(t: Mapping[str, float], x: Table) -> Array:
    """Gadre et al. 2024, equation 4."""
    ratio, flops = x["tokens"] / x["params"], 6 * x["params"] * x["tokens"]
    return np.asarray(t["E"] + (t["a"] * ratio ** t["eta"] + t["b"] * ratio ** -t["eta"]) * flops ** -t["eta"])


def exponential(t: Mapping[str, float], x: Table) -> Array:
    """Gadre et al. 2024, equation 5: error from loss."""
    return np.asarray(t["eps"] - t["k"] * np.exp(-t["gamma"] * x["loss"]))


def multipower(t: Mapping[str, float], x: Table) -> Array:
    """Luo et al. 2025, equation 1; a rate of the table holds for the steps about its row (see schedules/base.py)."""
    names = ("L0", "A", "alpha", "B", "C", "beta", "gamma")
    return LAWS["multipower"](np.array([t[name] for name in names]), x)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A table with known constants, and the certified result of its fit."""

    law: str
    """Name of the law."""
    formula: Callable[[Mapping[str, float], Table], Array]
    """The law, written here."""
    truth: Mapping[str, float]
    """Published constants."""
    table: Callable[[], Table]
    """Inputs."""
    huber: float
    """Certified sum of Huber's terms of the table with noise."""
    spec: FitSpec = field(default_factory=FitSpec)
    """How it is fitted."""
    noise: float = 0.004
    """Standard deviation of a run's log loss, or of its error where residuals are raw."""

    def data(self, *, noisy: bool) -> dict[str, Any]:
        """The table with its target."""
        inputs = self.table()
        value = self.formula(self.truth, inputs)
        drawn = self.noise * np.random.default_rng(20261128).standard_normal(value.size) * noisy
        target = LAWS[self.law].target
        return inputs | {target: value + drawn if self.spec.residuals == "raw" else value * np.exp(drawn)}


RAW = FitSpec(residuals="raw")
PROBLEMS = {
    "Besiroglu 2024": Problem(
        law="hoffmann",
        formula=hoffmann,
        truth=BESIROGLU_2024,
        table=ladder,
        huber=0.000257892524882,
    ),
    "Hoffmann 2022": Problem(
        law="hoffmann",
        formula=hoffmann,
        truth=HOFFMANN_2022,
        table=ladder,
        huber=0.00025776965476,
    ),
    "Kaplan 2020": Problem(
        law="kaplan",
        formula=kaplan,
        truth=KAPLAN_2020,
        table=small,
        huber=0.00018013581557,
    ),
    "Muennighoff 2023": Problem(
        law="muennighoff",
        formula=muennighoff,
        truth=MUENNIGHOFF_2023,
        table=repeated,
        huber=0.000253750137113,
    ),
    "Gadre 2024, C4": Problem(
        law="gadre",
        formula=gadre,
        truth=GADRE["C4"][1],
        table=ladder,
        huber=0.000258636971208,
        spec=RAW,
    ),
    "Gadre 2024, RefinedWeb": Problem(
        law="gadre",
        formula=gadre,
        truth=GADRE["RefinedWeb"][1],
        table=ladder,
        huber=0.000258657623222,
        spec=RAW,
    ),
    "Gadre 2024, errors": Problem(
        law="downstream-exponential",
        formula=exponential,
        truth=GADRE_DOWNSTREAM["C4"][1],
        table=losses,
        huber=7.40553374461e-05,
        spec=RAW,
    ),
    "Luo 2025, 25M": Problem(
        law="multipower",
        formula=multipower,
        truth=MULTIPOWER_2025["25M"][1],
        table=schedules,
        huber=3.4296093965e-06,
        noise=2e-4,
    ),
    "Luo 2025, 100M": Problem(
        law="multipower",
        formula=multipower,
        truth=MULTIPOWER_2025["100M"][1],
        table=schedules,
        huber=3.428283776e-06,
        noise=2e-4,
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_table_without_noise_gives_the_published_constants(name: str) -> None:
    problem = PROBLEMS[name]
    fit = fit_law(problem.law, problem.data(noisy=False), problem.spec, objective="squared")
    assert fit.status == "converged"
    assert fit.objective < 1e-20
    assert fit.params == pytest.approx(dict(problem.truth), rel=1e-8)


@pytest.mark.parametrize("name", PROBLEMS)
def test_least_squares_agree_with_scipy_on_the_formula_written_here(name: str) -> None:
    problem = PROBLEMS[name]
    data = problem.data(noisy=True)
    names, target = list(problem.truth), data[LAWS[problem.law].target]

    def residuals(logs: Array) -> Array:
        value = problem.formula(dict(zip(names, np.exp(logs), strict=True)), data)
        return np.asarray(value - target if problem.spec.residuals == "raw" else np.log(value / target))

    start = np.log([problem.truth[key] for key in names])
    theirs = least_squares(residuals, start, x_scale="jac", xtol=1e-15, ftol=1e-15, gtol=1e-15)
    ours = fit_law(problem.law, data, problem.spec, objective="squared")
    assert ours.objective == pytest.approx(2 * theirs.cost, rel=1e-8)
    assert [ours.params[key] for key in names] == pytest.approx(np.exp(theirs.x).tolist(), rel=2e-3)


@pytest.mark.parametrize("name", PROBLEMS)
def test_robust_fits_reach_the_certified_sum_and_their_intervals_hold_the_constants(name: str) -> None:
    problem = PROBLEMS[name]
    fit = fit_law(problem.law, problem.data(noisy=True), problem.spec, level=0.99)
    assert fit.status == "converged"
    assert fit.objective == pytest.approx(problem.huber, rel=1e-7)
    assert [key for key, value in problem.truth.items() if not fit.estimates[key].covers(value)] == []
