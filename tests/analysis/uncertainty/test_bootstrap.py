"""Draws are fitted from every minimum that may win, and from no other for nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.laws.registry import LAWS
from analysis.solver import newton
from analysis.solver.newton import Solution, polish
from analysis.solver.objectives import Objective
from analysis.solver.problem import Problem, make_problem
from analysis.solver.search import solve
from analysis.uncertainty import bootstrap
from analysis.uncertainty.bootstrap import bootstrap_fits, bootstrap_rows


def two_valleys() -> Problem:
    """Runs of which six say one exponent and five another: which minimum is lower depends on the draw."""
    params = np.geomspace(1e6, 1e9, 11)
    steep, flat = 2.0 + 800 * params**-0.5, 2.0 + 12 * params**-0.15
    loss = np.where(np.arange(11) % 2 == 0, steep, flat)
    return make_problem(LAWS["power"], {"x": params, "loss": loss}, objective=Objective(name="huber", delta=1e-3))


def test_the_order_of_trial_changes_no_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = two_valleys()
    rng = np.random.default_rng(0)
    guesses = rng.uniform(np.maximum(problem.lower, -3), np.minimum(problem.upper, 3), size=(60, problem.lower.size))
    ends = polish(problem, guesses)
    order = np.argsort(ends.value)
    minima = ends.phi[order][[0, np.flatnonzero(ends.value[order] > ends.value[order][0] * 1.001)[0]]]
    drawn = bootstrap_rows(11, 400, rng=rng)

    _, quick = bootstrap_fits(problem, minima, drawn)
    monkeypatch.setattr(bootstrap, "LEAST_TRIED", 400)
    _, thorough = bootstrap_fits(problem, minima, drawn)
    alone = polish(problem, np.repeat(minima[:1], 400, axis=0), drawn * problem.weights).value

    assert np.all(thorough <= alone)
    assert np.mean(thorough < alone * 0.999) > 0.02  # the other minimum does win
    assert np.mean(quick <= thorough * (1 + 1e-9)) > 0.99


def test_a_minimum_that_wins_nowhere_is_soon_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    params = np.geomspace(1e6, 1e9, 40)
    loss = (2.0 + 800 * params**-0.4) * np.exp(0.01 * np.random.default_rng(1).standard_normal(40))
    problem = make_problem(LAWS["power"], {"x": params, "loss": loss}, objective=Objective())
    best = polish(problem, np.zeros((1, problem.lower.size))).phi
    far = np.clip(best + 2.0, problem.lower, problem.upper)
    descended: list[int] = []

    def counted(problem: Problem, phi: np.ndarray, *words: Any, **options: Any) -> Solution:
        if options.get("max_iterations") != 0:
            descended.append(len(phi))
        return polish(problem, phi, *words, **options)

    monkeypatch.setattr(bootstrap, "polish", counted)
    bootstrap_fits(problem, np.concatenate([best, far]), bootstrap_rows(40, 1000, rng=np.random.default_rng(2)))
    assert descended[0] == 1000
    assert sum(descended[1:]) < 1000


def barely_falling() -> tuple[Problem, np.ndarray]:
    """Runs whose loss hardly falls with size beside its noise, and their fit: valleys of the draws are flat."""
    rng = np.random.default_rng(3)
    params, tokens = (side.ravel() for side in np.meshgrid(np.geomspace(1e4, 1e5, 4), np.geomspace(1e5, 1e6, 4)))
    loss = (1.0 + 3 * params**-0.03 + 40 * tokens**-0.4) * np.exp(0.02 * rng.standard_normal(params.size))
    data = {"params": params, "tokens": tokens, "loss": loss}
    problem = make_problem(LAWS["hoffmann"], data, objective=Objective(name="huber", delta=1e-3))
    return problem, solve(problem).minima


def test_a_draw_in_a_flat_valley_goes_on_to_its_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newton, "PATIENCE", 10**9)  # by straight steps, which need a longer way
    problem, minima = barely_falling()
    drawn = bootstrap_rows(problem.num_rows, 60, rng=np.random.default_rng(1))
    weights = drawn * problem.weights
    first = polish(problem, np.repeat(minima[:1], 60, axis=0), weights)
    phi, value = bootstrap_fits(problem, minima, drawn)
    assert (value <= first.value * (1 + 1e-12)).all()
    end = polish(problem, phi, weights, max_iterations=3000).value
    before, after = (int((reached > end * (1 + 1e-6)).sum()) for reached in (first.value, value))
    assert before > 6, "the case shows nothing"
    assert after <= before / 4


def test_an_exponent_that_a_draw_does_not_feel_stays_where_the_fit_has_it() -> None:
    problem, minima = barely_falling()
    names = [parameter.name for parameter in problem.law.parameters]
    A, alpha = names.index("A"), names.index("alpha")
    phi = np.repeat(minima[:1], 2, axis=0)
    phi[:, alpha] = minima[0, alpha] + 0.2
    phi[1, A] = -58.0
    still = bootstrap._still(problem, phi, minima[0])
    assert still[0, alpha] == phi[0, alpha]
    assert still[1, alpha] == minima[0, alpha]
    assert np.delete(still, alpha, axis=1).tolist() == np.delete(phi, alpha, axis=1).tolist()
    np.testing.assert_allclose(problem.value(still, problem.weights), problem.value(phi, problem.weights), rtol=1e-12)
