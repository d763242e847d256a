"""Runs chosen by optimal design: limits, budgets, laws, noise, seeds, and the grid they are compared with."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis.advice.compute_optimal import compute_optimal
from analysis.advice.shapes import Ladder, ShapeRules, make_ladder
from analysis.design.candidates import LawFit, candidate_fits, noise_scale, shared_noise
from analysis.design.cells import Cells, RunLimits, uniform_grid
from analysis.design.criterion import Experiment
from analysis.design.plan import DesignPlan, Robustness, Sharing, plan_runs
from analysis.design.scenarios import Question, Scenarios, make_scenarios, noise_at_target
from analysis.design.target import Target, target_gradients
from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.laws.allocation import exponents, optimum, six_n
from analysis.laws.registry import LAWS
from models.config.accounting import params_fit

TRUTH = [1.8172, 482.01, 2085.43, 0.3478, 0.3658]


def simulated(noise: float = 0.003, seed: int = 0, sizes: int = 6) -> dict[str, np.ndarray]:
    """A grid of runs of Hoffmann's law."""
    params = np.repeat(np.geomspace(4e7, 6e8, sizes), 5)
    data = {"params": params, "tokens": params * np.tile(np.geomspace(5, 160, 5), sizes)}
    rng = np.random.default_rng(seed)
    return {**data, "loss": LAWS["hoffmann"](TRUTH, data) * np.exp(noise * rng.standard_normal(params.size))}


@pytest.fixture(scope="module")
def fit() -> Fit:
    return fit_law("hoffmann", simulated(), bootstrap=100, conventions={"flops": "6ND"})


@pytest.fixture(scope="module")
def ladder() -> Ladder:
    return make_ladder(ShapeRules(), 3e7, 1e12, convention="6ND")


def planned(fit: Fit, ladder: Ladder, budget: float, target: Target | None = None, **options: Any) -> DesignPlan:
    """A plan by few draws of the fit's own law."""
    limits = {"max_params": 1e9, "max_tokens": 1e11, "ratio": (1.0, 1000.0), "max_runs": 30}
    limits |= {name: options.pop(name) for name in ("max_runs", "max_replicates", "max_tokens") if name in options}
    return plan_runs(
        fit,
        target or Target(flops=1e22),
        budget,
        ladder=ladder,
        limits=RunLimits.of(fit, **limits),
        robustness=Robustness(laws=[], draws=4),
        sharing=Sharing(**options),
    )


def scenarios_of(fits: list[LawFit], cells: dict[str, np.ndarray], target: Target, *, draws: int) -> Scenarios:
    """Scenarios under C = 6 N D, without shared noise."""
    question = Question(cells=cells, target=target, per_token=six_n, correlation=0.0)
    return make_scenarios(fits, question, draws=draws)


@pytest.fixture(scope="module")
def plan(fit: Fit, ladder: Ladder) -> DesignPlan:
    return planned(fit, ladder, 2e20)


def test_a_plan_stays_within_budget_and_limits_and_its_shapes_exist(plan: DesignPlan) -> None:
    spent = sum(cell.flops * len(cell.seeds) for cell in plan.cells)
    assert plan.cost == pytest.approx(spent)
    assert spent <= 2e20 * (1 + 1e-9)
    assert plan.num_runs <= 30
    for cell in plan.cells:
        model = ShapeRules().config(cell.size.width, cell.size.depth)
        assert params_fit(model) == cell.size.params
        assert cell.flops == pytest.approx(6 * cell.size.params * cell.tokens)
        assert plan.limits.min_params <= cell.size.params <= 1e9
        assert cell.tokens <= 1e11
        assert len(cell.seeds) <= 5
        assert 0.98 <= cell.tokens / cell.size.params <= 1010


def test_more_budget_and_more_runs_never_widen(fit: Fit, ladder: Ladder) -> None:
    by_budget = [planned(fit, ladder, budget).expected.median for budget in (2e19, 1e20, 5e20)]
    assert by_budget == sorted(by_budget, reverse=True)
    by_runs = [planned(fit, ladder, 1e20, max_runs=runs).expected.median for runs in (5, 15, 45)]
    assert by_runs == sorted(by_runs, reverse=True)


def test_a_plan_is_no_wider_than_the_best_uniform_grid_and_near_its_bound(plan: DesignPlan) -> None:
    assert plan.expected.median <= plan.grid.median
    assert plan.grid_cost <= plan.budget * (1 + 1e-9)
    assert plan.above_bound is not None
    assert plan.above_bound < 0.05
    assert plan.now.hi is not None
    assert plan.now.lo is not None
    assert plan.expected.median < math.log(plan.now.hi / plan.now.lo) / 2


def test_the_expected_width_is_that_of_a_fit_to_the_planned_runs(fit: Fit, plan: DesignPlan, ladder: Ladder) -> None:
    widths = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        cells = [(cell.size.params, cell.tokens) for cell in plan.cells for _ in cell.seeds]
        added = dict(zip(("params", "tokens"), np.array(cells).T, strict=True))
        added["loss"] = LAWS["hoffmann"](TRUTH, added) * np.exp(0.003 * rng.standard_normal(len(cells)))
        old = simulated(seed=100 + seed)
        again = fit_law("hoffmann", {name: np.concatenate([old[name], added[name]]) for name in old}, bootstrap=60)
        loss = compute_optimal(again, 1e22, ladder).loss
        assert loss.hi is not None
        assert loss.lo is not None
        widths.append(math.log(loss.hi / loss.lo) / 2)
    assert plan.expected.median == pytest.approx(float(np.median(widths)), rel=0.4)


def test_raw_residuals_expect_the_same_fraction_of_the_loss(ladder: Ladder, plan: DesignPlan) -> None:
    raw = fit_law("hoffmann", simulated(), residuals="raw", bootstrap=100, conventions={"flops": "6ND"})
    assert planned(raw, ladder, 2e20).expected.median == pytest.approx(plan.expected.median, rel=0.5)


def test_runs_that_are_to_be_independent_share_no_size_and_seed(fit: Fit, plan: DesignPlan, ladder: Ladder) -> None:
    prefixes = [(cell.size, seed) for cell in plan.cells for seed in cell.seeds]
    assert len(prefixes) == len(set(prefixes))
    size = plan.cells[0].size
    old = {**simulated(), "seed": np.full(30, 7.0)}
    old["params"][:5] = size.params
    again = planned(fit_law("hoffmann", old, bootstrap=100), ladder, 2e20)
    assert min(seed for cell in again.cells if cell.size == size for seed in cell.seeds) == 8


def test_sharing_prefixes_is_chosen_when_it_is_worth_it_and_costs_less(fit: Fit, ladder: Ladder) -> None:
    free = planned(fit, ladder, 5e19, decay_fraction=0.1, correlation=0.0)
    assert free.share == (0.1, 0.0)
    assert free.cost <= 5e19 < free.unshared_cost
    assert free.expected.median < planned(fit, ladder, 5e19).expected.median
    bound = planned(fit, ladder, 5e19, decay_fraction=0.9, correlation=0.89)
    assert bound.asked_to_share
    assert bound.share is None


def test_an_exponent_is_known_better_by_runs_chosen_for_it(fit: Fit, ladder: Ladder, plan: DesignPlan) -> None:
    for_a = planned(fit, ladder, 2e20, Target(exponent="a"))

    def spread(chosen: DesignPlan) -> float:
        cells = np.array([(cell.size.params, cell.tokens) for cell in chosen.cells for _ in cell.seeds]).T
        by_name = dict(zip(("params", "tokens"), cells, strict=True))
        scenarios = scenarios_of(candidate_fits(fit, [], draws=4, seed=0), by_name, Target(exponent="a"), draws=4)
        inverse = np.linalg.inv(
            scenarios.information + np.einsum("snp,snq->spq", scenarios.gradients, scenarios.gradients)
        )
        return float(np.einsum("sp,spq,sq->s", scenarios.target, inverse, scenarios.target).mean())

    assert spread(for_a) < spread(plan)
    assert for_a.to_dict()["target"] == {"exponent": "a"}


def test_gradients_of_targets_are_those_of_the_targets(fit: Fit) -> None:
    law, phi, refs = fit.law, fit.predictor.phi[None, :], fit.predictor.log_refs

    def loss(moved: np.ndarray) -> float:
        return float(np.log(optimum(law, law.to_public(moved, refs), np.array([np.log(1e23)]), six_n)[2][0, 0]))

    def slope(moved: np.ndarray) -> float:
        return float(exponents(law, law.to_public(moved, refs), (0.0, 1.0))[0][0])

    for target, of in ((Target(flops=1e23), loss), (Target(exponent="a"), slope)):
        gradient = target_gradients(fit, phi, target, six_n)[0]
        for j in range(phi.size):
            step = 1e-4 * np.eye(phi.size)[[j]]
            assert gradient[j] == pytest.approx((of(phi + step) - of(phi - step)) / 2e-4, rel=2e-3, abs=1e-6)


def test_existing_runs_inform_scenarios_as_their_number_says(fit: Fit) -> None:
    cells = {"params": np.array([1e8, 1e9]), "tokens": np.array([2e9, 2e10])}
    twice = replace(fit, runs={name: np.concatenate([column, column]) for name, column in (fit.runs or {}).items()})
    variances = []
    for one in (fit, twice):
        s = scenarios_of(candidate_fits(one, [], draws=2, seed=0), cells, Target(flops=1e22), draws=2)
        variances.append(np.einsum("sp,spq,sq->s", s.target, np.linalg.inv(s.information), s.target))
    assert variances[1] == pytest.approx(variances[0] / 2, rel=1e-4)


def test_laws_that_the_runs_do_not_support_are_left_out(fit: Fit) -> None:
    used = {one.fit.law.name: one.used for one in candidate_fits(fit, None, draws=2, seed=0)}
    assert used["hoffmann"]
    assert not used["kaplan"]  # the runs have a floor


def test_half_of_the_weight_is_the_own_laws_and_the_rest_is_shared_by_other_laws_and_by_bias(fit: Fit) -> None:
    cells = {"params": np.array([1e8, 1e9]), "tokens": np.array([2e9, 2e10])}
    fits = [replace(one, used=True) for one in candidate_fits(fit, ["kaplan", "skaling"], draws=3, seed=0)]
    s = scenarios_of(fits, cells, Target(flops=1e22), draws=3)
    by_law = [float(s.weights[(s.law == law) & s.well_specified].sum()) for law in range(3)]
    assert by_law == pytest.approx([0.5, 0.125, 0.125])
    assert s.weights[~s.well_specified].sum() == pytest.approx(0.25)
    assert not s.discrepancy.cells[s.well_specified].any()
    assert s.weights.sum() == pytest.approx(1)


def test_the_bias_of_a_design_is_that_of_the_own_law_fitted_to_the_other_laws_values(fit: Fit) -> None:
    cells = {"params": np.array([5e7, 1e9, 1e9]), "tokens": np.array([2e9, 2e9, 2e10])}
    _, other = candidate_fits(fit, ["skaling"], draws=2, seed=0)
    at = other.fit.predictor.phi[None, :] * (1 + 1e-3 * np.arange(6))
    skaling = replace(other.fit, predictor=replace(other.fit.predictor, draws=np.repeat(at, 2, axis=0)))
    fits = [candidate_fits(fit, [], draws=2, seed=0)[0], replace(other, fit=skaling, used=True)]
    s = scenarios_of(fits, cells, Target(flops=1e22), draws=2)
    mine, counts = ~s.well_specified, np.array([3.0, 2.0, 2.0])
    information = s.information[mine] + np.einsum("snp,n,snq->spq", s.gradients[mine], counts, s.gradients[mine])
    moment = np.einsum("snp,n,sn->sp", s.gradients[mine], counts, s.discrepancy.cells[mine])
    moment += s.discrepancy.moment[mine]
    bias = np.einsum("sp,sp->s", s.target[mine], np.linalg.solve(information, moment[:, :, None])[:, :, 0])
    bias = (bias - s.discrepancy.target[mine]) * noise_scale(fit)
    runs = fit.runs or {}
    x = {n: np.concatenate([runs[n], np.repeat(cells[n], counts.astype(int))]) for n in ("params", "tokens")}
    public = skaling.law.to_public(at, skaling.predictor.log_refs)
    refitted = fit_law("hoffmann", {**x, "loss": skaling.law(public[0], x)}, objective="squared")
    ends = [
        optimum(one, theta, np.array([np.log(1e22)]), six_n)[2][0, 0]
        for one, theta in ((fit.law, np.array([list(refitted.params.values())])), (skaling.law, public))
    ]
    assert bias[0] == pytest.approx(float(np.log(ends[0] / ends[1])), rel=0.1)


def test_noise_of_one_run_is_what_it_was_simulated_with() -> None:
    data = simulated(0.01, sizes=60)
    squared = fit_law("hoffmann", data, objective="squared")
    robust = fit_law("hoffmann", data)
    assert noise_scale(squared) == pytest.approx(0.01, rel=0.1)
    assert noise_scale(robust) == pytest.approx(0.01 * math.sqrt(math.pi / 2), rel=0.15)
    for one, wanted in ((squared, 0.01), (robust, 0.0125)):
        found = noise_at_target(one, Target(flops=1e23), flops_per_token=six_n, correlation=0.0)
        assert found == pytest.approx(wanted, rel=0.2)


def test_noise_that_runs_of_a_cluster_share_is_found_in_their_residuals() -> None:
    rng = np.random.default_rng(0)
    data, labels = simulated(0.0, sizes=40), np.repeat(np.arange(100), 2)
    data["loss"] = data["loss"] * np.exp(0.008 * rng.standard_normal(100)[labels] + 0.006 * rng.standard_normal(200))
    found = shared_noise(fit_law("hoffmann", data, cluster=labels))
    assert found == pytest.approx(0.64, abs=0.15)
    assert shared_noise(fit_law("hoffmann", data)) is None


def test_a_fit_without_its_runs_plans_from_its_covariance_within_given_limits(fit: Fit, ladder: Ladder) -> None:
    bare = replace(fit, runs=None)
    with pytest.raises(UserError, match="--max-params"):
        RunLimits.of(bare)
    limits = RunLimits.of(bare, min_params=4e7, max_params=1e9, min_tokens=2e8, max_tokens=1e11, max_runs=30)
    plan = plan_runs(bare, Target(flops=1e22), 2e20, ladder=ladder, limits=limits, robustness=Robustness(draws=4))
    assert [one.fit.law.name for one in plan.laws] == ["hoffmann"]
    assert plan.expected.median < plan.grid.median


def test_the_uniform_grid_is_a_grid_of_the_cells(fit: Fit, ladder: Ladder, plan: DesignPlan) -> None:
    sizes = {cell.size for cell in plan.grid_cells}
    amounts = {cell.tokens for cell in plan.grid_cells}
    allowed = [
        (size, tokens)
        for size in sizes
        for tokens in amounts
        if 0.98 <= tokens / size.params <= 1010 and tokens * size.flops_per_token <= plan.budget
    ]
    assert len(plan.grid_cells) == len(allowed)
    assert len({len(cell.seeds) for cell in plan.grid_cells}) == 1
    cells = Cells.within(ladder, plan.limits, plan.budget)
    rng = np.random.default_rng(0)
    e = Experiment(
        gradients=rng.standard_normal((1, cells.size_of.size, 3)),
        target=np.ones((1, 3)),
        information=np.eye(3)[None],
        weights=np.ones(1),
        tokens=cells.inputs["tokens"],
        flops_per_token=cells.flops_per_token,
        group=cells.size_of,
        budget=plan.budget,
    )
    assert e.cost(uniform_grid(cells, e)) <= plan.budget
