"""Search for designs: brute force, bounds, shared prefixes and their correlated noise."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis.design.criterion import Counts, Discrepancy, Experiment
from analysis.design.greedy import Greedy, OpenPrefixes
from analysis.design.search import search


def toy(seed: int, *, cells: int = 6, scenarios: int = 1, groups: int = 2, **options: Any) -> Experiment:
    """A random experiment, small enough to look at every design."""
    rng = np.random.default_rng(seed)
    p = 3
    own: dict[str, Any] = {"budget": 10.0, "max_replicates": 2, **options}
    return Experiment(
        gradients=rng.standard_normal((scenarios, cells, p)),
        target=rng.standard_normal((scenarios, p)),
        information=np.broadcast_to(0.05 * np.eye(p), (scenarios, p, p)).copy(),
        weights=np.full(scenarios, 1 / scenarios),
        tokens=rng.uniform(0.5, 4.0, cells),
        flops_per_token=np.ones(cells),
        group=np.arange(cells) % groups,
        **own,
    )


def random_discrepancy(e: Experiment, seed: int = 0) -> Discrepancy:
    """Another law that may hold."""
    rng = np.random.default_rng([seed, 1])
    scenarios, cells, p = e.gradients.shape
    return Discrepancy(
        cells=rng.standard_normal((scenarios, cells)),
        target=np.asarray(rng.standard_normal((scenarios,))),
        moment=0.2 * rng.standard_normal((scenarios, p)),
    )


def misspecified(e: Experiment, seed: int = 0) -> Experiment:
    """The experiment where another law may hold."""
    return replace(e, discrepancy=random_discrepancy(e, seed))


def every_design(e: Experiment) -> list[Counts]:
    """Every count of every cell within the limits."""
    every = itertools.product(range(e.max_replicates + 1), repeat=e.tokens.size)
    designs = [np.array(counts) for counts in every if e.max_runs is None or sum(counts) <= e.max_runs]
    return [counts for counts in designs if e.cost(counts) <= e.budget]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limit", [None, 4])
def test_the_design_for_one_law_equals_brute_force_on_few_cells(seed: int, limit: int | None) -> None:
    e = toy(seed, max_runs=limit)
    best = min(e.criterion(counts) for counts in every_design(e))
    assert search(e).criterion == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_robust_design_and_the_shared_one_equal_brute_force_within_half_a_percent_of_width(seed: int) -> None:
    for e in (toy(seed, scenarios=3), toy(seed, decay_fraction=0.25, correlation=0.5)):
        best = min(e.criterion(counts) for counts in every_design(e))
        assert best - 1e-9 <= search(e).criterion <= best + 0.01


@pytest.mark.parametrize("limit", [None, 4])
def test_no_design_is_better_than_the_bound(limit: int | None) -> None:
    for seed in range(6):
        e = toy(seed, scenarios=2, max_runs=limit)
        bound = search(e).bound
        assert bound is not None
        assert min(e.criterion(counts) for counts in every_design(e)) >= bound - 1e-9


def test_the_bound_is_met_when_runs_are_cheap_and_many() -> None:
    e = replace(toy(0, cells=12), budget=300.0, max_replicates=100)
    design = search(e)
    assert design.bound is not None
    assert 0 <= design.criterion - design.bound < 0.01


@pytest.mark.parametrize("another_law", [False, True])
@pytest.mark.parametrize("options", [{}, {"decay_fraction": 0.3}, {"decay_fraction": 0.3, "correlation": 0.6}])
def test_gain_and_cost_of_one_more_run_are_the_differences_that_they_stand_for(
    options: dict[str, float], another_law: bool
) -> None:
    e = toy(3, cells=8, scenarios=2, groups=2, **options)
    e = misspecified(e) if another_law else e
    counts = np.array([1, 0, 2, 1, 0, 0, 1, 0])
    greedy, prefixes, cells = Greedy(e, 0.0), OpenPrefixes(e, counts), np.flatnonzero(counts < 2)
    state = greedy.state(counts)
    gains = greedy.gains(state, prefixes.companions(counts, cells), cells)
    for cell, gain in zip(cells, gains, strict=True):
        more = counts.copy()
        more[cell] += 1
        after = greedy.updated(state, prefixes.companions(counts, np.array([cell])), int(cell))
        assert np.allclose(after.inverse, np.linalg.inv(e.informations(more)))
        assert np.allclose(after.moment, e.moments(more))
        assert gain == pytest.approx(e.criterion(counts) - e.criterion(more), abs=1e-9)
        if e.decay_fraction is not None:
            assert prefixes.marginal(counts)[cell] == pytest.approx(e.cost(more) - e.cost(counts))


def test_a_shared_prefix_costs_its_longest_run_once_and_every_decay() -> None:
    e = replace(toy(0, cells=3, groups=1), tokens=np.array([1.0, 2.0, 4.0]), decay_fraction=0.2)
    e = replace(e, flops_per_token=np.full(3, 6.0))
    assert e.cost(np.array([0, 0, 1])) == pytest.approx(6 * 4.0)
    assert e.cost(np.array([1, 1, 1])) == pytest.approx(6 * (0.8 * 4.0 + 0.2 * 7.0))
    assert e.cost(np.array([2, 1, 1])) == pytest.approx(6 * (0.8 * 4.0 + 0.2 * 7.0 + 1.0))  # a second seed, alone


def test_runs_of_a_shared_prefix_inform_as_generalised_least_squares_says() -> None:
    e = toy(5, cells=6, groups=2, decay_fraction=0.2, correlation=0.7)
    counts = np.array([2, 1, 1, 0, 0, 2])
    prefix_of = [(cell % 2, seed) for cell in range(6) for seed in range(counts[cell])]
    rows = np.array([e.gradients[0, cell] for cell in range(6) for _ in range(counts[cell])])
    noise = np.array(
        [[1.0 if i == j else 0.7 * (a == b) for j, b in enumerate(prefix_of)] for i, a in enumerate(prefix_of)]
    )
    wanted = e.information[0] + rows.T @ np.linalg.solve(noise, rows)
    assert np.allclose(e.informations(counts)[0], wanted)


def test_the_bias_is_that_of_least_squares_on_the_other_laws_values() -> None:
    e = replace(toy(2, cells=6), information=np.zeros((1, 3, 3)))
    other = replace(random_discrepancy(e), moment=np.zeros((1, 3)))
    e = replace(e, discrepancy=other)
    counts = np.array([2, 1, 0, 1, 3, 0])
    rows, differences = (np.repeat(side[0], counts, axis=0) for side in (e.gradients, other.cells))
    fitted = np.linalg.lstsq(rows, differences, rcond=None)[0]
    assert e.biases(counts)[0] == pytest.approx(float(e.target[0] @ fitted - other.target[0]))


@pytest.mark.parametrize("seed", range(4))
def test_discrepancy_makes_designs_that_err_less_where_the_other_law_holds(seed: int) -> None:
    e = misspecified(toy(seed, cells=7), seed)
    careful, trusting = search(e), search(replace(e, discrepancy=None))
    best = min(e.criterion(counts) for counts in every_design(e))
    assert careful.criterion <= e.criterion(trusting.counts) + 1e-12
    assert careful.criterion <= best + 0.02
    assert float(e.variances(careful.counts)[0]) >= float(e.variances(trusting.counts)[0]) - 1e-12


def test_many_designs_at_once_score_as_one_by_one() -> None:
    e = misspecified(toy(1, scenarios=3))
    designs = np.array(every_design(e)[:40])
    assert np.allclose(e.criteria(designs.astype(float)), [e.criterion(counts) for counts in designs])
