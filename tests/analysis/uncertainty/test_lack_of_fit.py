"""The lack-of-fit line: silent where the law is right, said where it is wrong, whatever the units and clusters."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis.arrays import Array
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law
from analysis.solver.newton import polish
from analysis.solver.objectives import Objective
from analysis.solver.problem import make_problem
from analysis.solver.search import solve
from analysis.uncertainty.lack_of_fit import lack_of_fit

TRUTH = [1.8172, 482.01, 2085.43, 0.3478, 0.3658]


def runs(num_budgets: int = 9) -> dict[str, Array]:
    """Seven runs about the optimum of each budget."""
    flops = np.repeat(np.geomspace(1e18, 1e21, num_budgets), 7)
    params = np.sqrt(flops / 120) * np.tile(np.geomspace(0.15, 7, 7), num_budgets)
    return {"params": params, "tokens": flops / (6 * params)}


def bent(data: dict[str, Array]) -> Array:
    """A floor and an exponent of data that change with size."""
    size = np.log(data["params"] / 1e9)
    rate = 0.3 * np.exp(-0.06 * size)
    return 1.9 * np.exp(-0.035 * size) + 0.55 * (data["tokens"] / 2e10) ** -rate


def test_a_right_law_is_rarely_doubted() -> None:
    data, law = runs(), get_law("hoffmann")
    clean = law(TRUTH, data)
    objective = Objective(name="huber", delta=1e-3)
    start = solve(make_problem(law, data | {"loss": clean}, objective=objective)).phi
    alarms = 0
    for seed in range(100):
        noise = 0.01 * np.random.default_rng(seed).standard_normal(clean.size)
        problem = make_problem(law, data | {"loss": clean * np.exp(noise)}, objective=objective)
        alarms += lack_of_fit(problem, polish(problem, start[None, :]).phi[0], seed=seed).missed
    assert alarms <= 12


def test_a_wrong_law_is_doubted_and_says_from_where_on(tmp_path: Path) -> None:
    data = runs()
    noise = 0.003 * np.random.default_rng(0).standard_normal(data["params"].size)
    fit = fit_law("hoffmann", data | {"loss": bent(data) * np.exp(noise)})
    assert fit.doubt is not None
    assert "misses a pattern" in fit.doubt
    assert "beyond C = 1e+21" in fit.doubt
    assert fit.doubt in fit.summary()
    assert Fit.load(fit.save(tmp_path / "fit.json")).doubt == fit.doubt


def test_clusters_that_share_errors_are_no_pattern() -> None:
    data = runs()
    clusters = np.repeat(np.arange(9), 7)
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(10):
        shared = 0.01 * rng.standard_normal(9)[clusters] + 0.001 * rng.standard_normal(63)
        loss = get_law("hoffmann")(TRUTH, data) * np.exp(shared)
        problem = make_problem(get_law("hoffmann"), data | {"loss": loss}, objective=Objective(name="squared"))
        phi = solve(problem).phi
        alarms += lack_of_fit(problem, phi, codes=clusters).missed
    assert alarms <= 4


def test_a_handful_of_rows_is_not_tested() -> None:
    data = {name: column[:10] for name, column in runs().items()}
    fit = fit_law("hoffmann", data | {"loss": get_law("hoffmann")(TRUTH, data)})
    assert fit.lack_of_fit is not None
    assert fit.lack_of_fit.p_value is None
    assert fit.doubt is None
