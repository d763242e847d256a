"""Advice: the optimum of a budget on shapes that exist, the price of a loss, and runs chosen by optimal design."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis.__main__ import main
from analysis.advice import cheapest_factor, compute_optimal, overtraining, target_loss
from analysis.advice_cells import Cells, Limits, uniform_grid
from analysis.advice_plan import Plan, plan_runs
from analysis.advice_scenarios import (
    Target,
    _target_gradient,
    candidate_fits,
    make_scenarios,
    noise_at_target,
    noise_scale,
    shared_noise,
)
from analysis.advice_search import Experiment, _Greedy, _Trunks, search
from analysis.advice_shapes import Ladder, ShapeRules, make_ladder
from analysis.advice_template import BYTE_VOCABULARY, DEFAULT_CONTEXT, HEAD_WIDTH, LANGUAGES, read_template
from analysis.api import fit_law
from analysis.errors import UserError
from analysis.fit import Fit
from analysis.laws.registry import LAWS
from analysis.parametric import exponents, optimum, six_n
from models.accounting import params_fit, training_flops
from models.config import TransformerConfig

TRUTH = [1.8172, 482.01, 2085.43, 0.3478, 0.3658]
ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "experiments" / "sweeps" / "quickstart.yaml"


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


def planned(fit: Fit, ladder: Ladder, budget: float, target: Target | None = None, **options: Any) -> Plan:
    """A plan by few draws of the fit's own law."""
    limits = {"max_params": 1e9, "max_tokens": 1e11, "ratio": (1.0, 1000.0), "max_runs": 30}
    limits |= {name: options.pop(name) for name in ("max_runs", "max_replicates", "max_tokens") if name in options}
    own: dict[str, Any] = {"laws": [], "draws": 4, **options}
    return plan_runs(fit, target or Target(flops=1e22), budget, ladder=ladder, limits=Limits.of(fit, **limits), **own)


@pytest.fixture(scope="module")
def plan(fit: Fit, ladder: Ladder) -> Plan:
    return planned(fit, ladder, 2e20)


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


def every_design(e: Experiment) -> list[np.ndarray]:
    """Every count of every cell within the limits."""
    every = itertools.product(range(e.max_replicates + 1), repeat=e.tokens.size)
    designs = [np.array(counts) for counts in every if e.max_runs is None or sum(counts) <= e.max_runs]
    return [counts for counts in designs if e.cost(counts) <= e.budget]


# -- search --------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("options", [{}, {"decay_fraction": 0.3}, {"decay_fraction": 0.3, "correlation": 0.6}])
def test_gain_and_cost_of_one_more_run_are_the_differences_that_they_stand_for(options: dict[str, float]) -> None:
    e = toy(3, cells=8, scenarios=2, groups=2, **options)
    counts = np.array([1, 0, 2, 1, 0, 0, 1, 0])
    greedy, trunks, cells = _Greedy(e, 0.0), _Trunks(e, counts), np.flatnonzero(counts < 2)
    gains = greedy._gains(np.linalg.inv(e.informations(counts)), *trunks.shared(counts, cells), cells)
    for cell, gain in zip(cells, gains, strict=True):
        more = counts.copy()
        more[cell] += 1
        assert gain == pytest.approx(e.criterion(counts) - e.criterion(more), abs=1e-9)
        if e.decay_fraction is not None:
            assert trunks.marginal(counts)[cell] == pytest.approx(e.cost(more) - e.cost(counts))


def test_a_shared_trunk_costs_its_longest_run_once_and_every_decay() -> None:
    e = replace(toy(0, cells=3, groups=1), tokens=np.array([1.0, 2.0, 4.0]), decay_fraction=0.2)
    e = replace(e, flops_per_token=np.full(3, 6.0))
    assert e.cost(np.array([0, 0, 1])) == pytest.approx(6 * 4.0)
    assert e.cost(np.array([1, 1, 1])) == pytest.approx(6 * (0.8 * 4.0 + 0.2 * 7.0))
    assert e.cost(np.array([2, 1, 1])) == pytest.approx(6 * (0.8 * 4.0 + 0.2 * 7.0 + 1.0))  # a second seed, alone


def test_runs_of_a_trunk_inform_as_generalised_least_squares_says() -> None:
    e = toy(5, cells=6, groups=2, decay_fraction=0.2, correlation=0.7)
    counts = np.array([2, 1, 1, 0, 0, 2])
    trunk_of = [(cell % 2, seed) for cell in range(6) for seed in range(counts[cell])]
    rows = np.array([e.gradients[0, cell] for cell in range(6) for _ in range(counts[cell])])
    noise = np.array(
        [[1.0 if i == j else 0.7 * (a == b) for j, b in enumerate(trunk_of)] for i, a in enumerate(trunk_of)]
    )
    wanted = e.information[0] + rows.T @ np.linalg.solve(noise, rows)
    assert np.allclose(e.informations(counts)[0], wanted)


def test_many_designs_at_once_score_as_one_by_one() -> None:
    e = toy(1, scenarios=3)
    designs = np.array(every_design(e)[:40])
    assert np.allclose(e.criteria(designs.astype(float)), [e.criterion(counts) for counts in designs])


# -- shapes --------------------------------------------------------------------------------------------------------


def test_every_shape_of_a_ladder_can_be_built_and_is_counted_as_the_accounting_does() -> None:
    rules = ShapeRules(vocab_size=264, context=128, head_width=16, model={"qk_norm": True}, trained=((12, 2), (64, 2)))
    sizes = make_ladder(rules, 7e3, 2e5, convention="counted").sizes
    assert len(sizes) > 8
    for size in sizes:
        model = TransformerConfig(
            width=size.width, depth=size.depth, num_heads=size.num_heads, vocab_size=264, context=128, qk_norm=True
        )
        assert size.params == params_fit(model)
        assert size.flops_per_token == training_flops(model, tokens=1)
        assert size.depth == 2


def test_depth_follows_the_shapes_that_were_trained() -> None:
    rules = ShapeRules(trained=((64, 4), (256, 8)))
    assert [rules.depth(width) for width in (64, 128, 256, 1024)] == [4, 6, 8, 16]
    assert ShapeRules(trained=((64, 4),)).depth(256) == 16  # one shape: its ratio


def test_a_range_without_shapes_says_what_to_do() -> None:
    with pytest.raises(UserError, match="no shape has between"):
        make_ladder(ShapeRules(), 3, 4, convention="6ND")


def test_what_the_template_assumes_of_sweeps_is_what_sweeps_do(tmp_path: Path) -> None:
    from experiments.data.config import DataConfig
    from experiments.data.languages.registry import LANGUAGES as registered
    from experiments.sweep import DesignConfig, ScheduleChoice, Shape

    assert DataConfig(corpus="sotu").vocab_size == BYTE_VOCABULARY
    assert DataConfig().context == DEFAULT_CONTEXT
    assert DesignConfig(kind="ladder", shapes=(Shape(width=8, depth=1),), tokens=(1.0,)).head_width == HEAD_WIDTH
    assert set(LANGUAGES) == set(registered)
    (tmp_path / "t.yaml").write_text("data: {corpus: sotu}\n")
    assert read_template(tmp_path / "t.yaml").decay_fraction == ScheduleChoice().decay_fraction


# -- the optimum of a budget -----------------------------------------------------------------------------------------


def test_the_best_shape_spends_the_budget_and_no_other_shape_has_a_lower_loss(fit: Fit, ladder: Ladder) -> None:
    found = compute_optimal(fit, 1e21, ladder)
    best = found.best
    assert best.tokens * best.size.flops_per_token == pytest.approx(1e21)
    tokens = np.array([1e21 / size.flops_per_token for size in ladder.sizes])
    losses = fit.predict({"params": ladder.params, "tokens": tokens}, interval="none")["loss"]
    assert best.loss == pytest.approx(losses.min())
    assert found.loss.value <= best.loss <= found.loss.value * 1.001
    frontier = fit.frontier([1e21]).points.iloc[0]
    assert found.params.value == pytest.approx(frontier["params"], rel=1e-6)
    assert [found.params.lo, found.params.hi] == pytest.approx([frontier["params_lo"], frontier["params_hi"]], rel=1e-6)


@pytest.mark.parametrize("law", ["hoffmann", "kaplan", "skaling"])
def test_training_longer_keeps_the_loss_and_multiplies_the_tokens_per_parameter(law: str, ladder: Ladder) -> None:
    fit = fit_law(law, simulated(), bootstrap=0)
    theta = np.array([list(fit.params.values())])
    log_n, log_d, loss = (float(side[0, 0]) for side in optimum(fit.law, theta, np.array([np.log(1e21)]), six_n))
    one, four = overtraining(fit, 1e21, [1, 4], ladder)
    assert one.training.value == pytest.approx(1, abs=1e-6)
    assert one.inference.value == pytest.approx(1, abs=1e-6)
    n, d = four.params.value, four.tokens.value
    assert fit.law(theta[0], {"params": [n], "tokens": [d]})[0] == pytest.approx(loss, rel=1e-9)
    assert d / n == pytest.approx(4 * math.exp(log_d - log_n), rel=1e-9)
    assert four.training.value == pytest.approx(6 * n * d / 1e21, rel=1e-9)
    assert four.inference.value == pytest.approx(n / math.exp(log_n), rel=1e-9)
    paid = (6 * n * d - 1e21) / (2 * (math.exp(log_n) - n))
    assert four.break_even_tokens.value == pytest.approx(paid, rel=1e-6)
    same = fit.law(theta[0], {"params": [math.exp(log_n) / 2], "tokens": [2 * math.exp(log_d)]})[0]
    assert four.same_compute_loss.value == pytest.approx(same / loss - 1, rel=1e-6)


def test_training_longer_at_equal_loss_is_the_closed_form_of_hoffmanns_law(fit: Fit, ladder: Ladder) -> None:
    alpha, beta = fit.params["alpha"], fit.params["beta"]
    (row,) = overtraining(fit, 1e21, [4], ladder)
    found = compute_optimal(fit, 1e21, ladder)
    size, data = (
        fit.params[k] * v**-e for k, v, e in (("A", found.params.value, alpha), ("B", found.tokens.value, beta))
    )
    n, d = row.params.value / found.params.value, row.tokens.value / found.tokens.value
    assert size * n**-alpha + data * d**-beta == pytest.approx(size + data, rel=1e-6)  # the same excess over E
    assert d / n == pytest.approx(4, rel=1e-6)


def test_the_cheapest_factor_is_where_training_and_inference_together_cost_least(fit: Fit, ladder: Ladder) -> None:
    best = cheapest_factor(fit, 1e21, 1e12, ladder)
    factors = np.geomspace(best.value / 1.3, best.value * 1.3, 41)
    totals = [
        row.total_flops.value
        for row in overtraining(fit, 1e21, factors, ladder, inference_tokens=1e12)
        if row.total_flops
    ]
    assert abs(math.log(factors[int(np.argmin(totals))] / best.value)) < 0.05
    assert best.lo is not None
    assert best.hi is not None
    assert 1 < best.lo < best.value < best.hi


# -- the price of a loss ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", ["hoffmann", "kaplan", "skaling"])
@pytest.mark.parametrize("flops", [1e20, 1e23])
def test_the_price_of_a_loss_is_the_inverse_of_the_frontier(law: str, flops: float, ladder: Ladder) -> None:
    fit = fit_law(law, simulated(), bootstrap=0)
    found = compute_optimal(fit, flops, ladder)
    priced = target_loss(fit, found.loss.value, ladder)
    assert priced.flops.value == pytest.approx(flops, rel=1e-6)
    assert priced.params.value == pytest.approx(found.params.value, rel=1e-3)
    assert priced.reachable == "yes"


def test_a_loss_below_the_irreducible_one_cannot_be_reached(fit: Fit, ladder: Ladder) -> None:
    floor = fit.estimates["E"]
    assert floor.lo is not None
    assert floor.hi is not None
    low, inside, above = (
        target_loss(fit, loss, ladder) for loss in (0.99 * floor.lo, floor.value * 1.005, 1.2 * floor.hi)
    )
    assert (low.reachable, inside.reachable, above.reachable) == ("no", "unsure", "yes")
    assert low.to_dict()["flops"]["value"] is None
    assert "no compute" in str(low.flops.reason)
    assert inside.flops.hi is None
    assert "no upper end" in str(inside.flops.reason)
    assert above.flops.hi is not None
    assert above.share == 1.0
    kaplan = fit_law("kaplan", simulated(), bootstrap=0)
    assert target_loss(kaplan, 0.5, ladder).floor is None


# -- runs to add -----------------------------------------------------------------------------------------------------


def test_a_plan_stays_within_budget_and_limits_and_its_shapes_exist(plan: Plan) -> None:
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


def test_a_plan_is_no_wider_than_the_best_uniform_grid_and_near_its_bound(plan: Plan) -> None:
    assert plan.expected.median <= plan.grid.median
    assert plan.grid_cost <= plan.budget * (1 + 1e-9)
    assert plan.above_bound is not None
    assert plan.above_bound < 0.05
    assert plan.now is not None
    assert plan.now.hi is not None
    assert plan.now.lo is not None
    assert plan.expected.median < math.log(plan.now.hi / plan.now.lo) / 2


def test_the_expected_width_is_that_of_a_fit_to_the_planned_runs(fit: Fit, plan: Plan, ladder: Ladder) -> None:
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


def test_runs_that_are_to_be_independent_share_no_size_and_seed(fit: Fit, plan: Plan, ladder: Ladder) -> None:
    trunks = [(cell.size, seed) for cell in plan.cells for seed in cell.seeds]
    assert len(trunks) == len(set(trunks))
    size = plan.cells[0].size
    old = {**simulated(), "seed": np.full(30, 7.0)}
    old["params"][:5] = size.params
    again = planned(fit_law("hoffmann", old, bootstrap=100), ladder, 2e20)
    assert min(seed for cell in again.cells if cell.size == size for seed in cell.seeds) == 8


def test_sharing_trunks_is_chosen_when_it_is_worth_it_and_costs_less(fit: Fit, ladder: Ladder) -> None:
    free = planned(fit, ladder, 5e19, decay_fraction=0.1, correlation=0.0)
    assert free.share == (0.1, 0.0)
    assert free.cost <= 5e19 < free.unshared_cost
    assert free.expected.median < planned(fit, ladder, 5e19).expected.median
    bound = planned(fit, ladder, 5e19, decay_fraction=0.9, correlation=0.89)
    assert bound.asked_to_share
    assert bound.share is None


def test_an_exponent_is_known_better_by_runs_chosen_for_it(fit: Fit, ladder: Ladder, plan: Plan) -> None:
    for_a = planned(fit, ladder, 2e20, Target(exponent="a"))

    def spread(chosen: Plan) -> float:
        cells = np.array([(cell.size.params, cell.tokens) for cell in chosen.cells for _ in cell.seeds]).T
        scenarios = make_scenarios(
            candidate_fits(fit, [], draws=4, seed=0), dict(zip(("params", "tokens"), cells, strict=True)),
            Target(exponent="a"), flops_per_token=six_n, draws=4, correlation=0.0,
        )  # fmt: skip
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
        gradient = _target_gradient(fit, phi, target, six_n)[0]
        for j in range(phi.size):
            step = 1e-4 * np.eye(phi.size)[[j]]
            assert gradient[j] == pytest.approx((of(phi + step) - of(phi - step)) / 2e-4, rel=2e-3, abs=1e-6)


def test_existing_runs_inform_scenarios_as_their_number_says(fit: Fit) -> None:
    cells = {"params": np.array([1e8, 1e9]), "tokens": np.array([2e9, 2e10])}
    twice = replace(fit, runs={name: np.concatenate([column, column]) for name, column in (fit.runs or {}).items()})
    variances = []
    for one in (fit, twice):
        s = make_scenarios(
            candidate_fits(one, [], draws=2, seed=0), cells, Target(flops=1e22), flops_per_token=six_n, draws=2,
            correlation=0.0,
        )  # fmt: skip
        variances.append(np.einsum("sp,spq,sq->s", s.target, np.linalg.inv(s.information), s.target))
    assert variances[1] == pytest.approx(variances[0] / 2, rel=1e-4)


def test_laws_that_the_runs_do_not_support_are_left_out(fit: Fit) -> None:
    used = {one.fit.law.name: one.used for one in candidate_fits(fit, None, draws=2, seed=0)}
    assert used["hoffmann"]
    assert not used["kaplan"]  # the runs have a floor


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
        Limits.of(bare)
    limits = Limits.of(bare, min_params=4e7, max_params=1e9, min_tokens=2e8, max_tokens=1e11, max_runs=30)
    plan = plan_runs(bare, Target(flops=1e22), 2e20, ladder=ladder, limits=limits, draws=4)
    assert [one.fit.law.name for one in plan.laws] == ["hoffmann"]
    assert plan.expected.median < plan.grid.median


def test_the_uniform_grid_is_a_grid_of_the_cells(fit: Fit, ladder: Ladder, plan: Plan) -> None:
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
        gradients=rng.standard_normal((1, cells.size_of.size, 3)), target=np.ones((1, 3)), information=np.eye(3)[None],
        weights=np.ones(1), tokens=cells.inputs["tokens"], flops_per_token=cells.flops_per_token, group=cells.size_of,
        budget=plan.budget,
    )  # fmt: skip
    assert e.cost(uniform_grid(cells, e)) <= plan.budget


# -- command line ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, fit: Fit) -> Path:
    return fit.save(tmp_path_factory.mktemp("fits") / "fit.json")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit of byte-level models as the quickstart trains them, under counted FLOPs."""
    rules = ShapeRules(vocab_size=264, context=128, head_width=16, model={"qk_norm": True}, trained=((12, 2), (64, 2)))
    sizes = make_ladder(rules, 1e4, 1.2e5, convention="counted").between(1e4, 1.2e5, 6)
    rows = [(size, tokens) for size in sizes for tokens in np.geomspace(3e5, 3e6, 5)]
    frame = pd.DataFrame(
        {
            "params": [float(size.params) for size, _ in rows],
            "tokens": [tokens for _, tokens in rows],
            "flops": [size.flops_per_token * tokens for size, tokens in rows],
            "width": [size.width for size, _ in rows],
            "depth": [size.depth for size, _ in rows],
            "context": 128,
            "vocab": 264,
            "seed": 0,
        }
    )
    rng = np.random.default_rng(0)
    loss = LAWS["hoffmann"]([0.9, 40.0, 60.0, 0.42, 0.36], {n: frame[n].to_numpy() for n in ("params", "tokens")})
    frame["loss"] = loss * np.exp(0.004 * rng.standard_normal(len(frame)))
    fit = fit_law("hoffmann", frame, bootstrap=60, conventions={"flops": "counted"})
    return fit.save(tmp_path_factory.mktemp("small") / "fit.json")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Status, output and errors of one command."""
    status = main(["advise", *map(str, arguments)])
    out = capsys.readouterr()
    return status, out.out, out.err


def test_a_fit_remembers_its_runs(fit: Fit, saved: Path) -> None:
    again = Fit.load(saved)
    assert fit.runs is not None
    assert again.runs is not None
    assert set(again.runs) == set(fit.runs) == {"params", "tokens", "loss", "weights"}
    for name, column in fit.runs.items():
        assert np.array_equal(again.runs[name], column)
    assert json.loads(saved.read_text())["runs"] == "fit.runs.parquet"


def test_the_written_sweep_is_accepted_and_costs_what_the_advice_says(small: Path, capsys: Any, tmp_path: Path) -> None:
    out, figure = tmp_path / "next.yaml", tmp_path / "next.png"
    status, text, errors = run(
        capsys, small, "--budget", "2e13", "--at", "flops=1e15", "--max-params", "3e5", "--max-tokens", "1e7",
        "--max-runs", "20", "--laws", "hoffmann", "--draws", "4", "--template", QUICKSTART, "--out", out, "--figure",
        figure, "--json",
    )  # fmt: skip
    assert (status, errors) == (0, "")
    plan = json.loads(text)["plan"]
    assert plan["convention"] == "counted"
    assert plan["flops"] <= 2e13
    assert figure.stat().st_size > 10_000
    told = subprocess.run(
        [sys.executable, "-m", "experiments", "plan", str(out), "--json", "--device", "cpu"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    accepted = json.loads(told.stdout)
    assert accepted["num_runs"] == plan["num_runs"]
    assert accepted["flops"] == pytest.approx(plan["flops"], rel=0.01)
    wanted = sorted((c["width"], c["depth"], seed) for c in plan["cells"] for seed in c["seeds"])
    assert sorted((r["width"], r["depth"], r["seed"]) for r in accepted["runs"]) == wanted
    assert min(r["seed"] for r in accepted["runs"]) in (0, 1)
    written, template = yaml.safe_load(out.read_text()), yaml.safe_load(QUICKSTART.read_text())
    for key in ("data", "model", "recipe", "schedule"):
        assert written[key] == template[key]


def test_a_budget_is_answered_in_words_and_as_one_run_to_train(small: Path, capsys: Any, tmp_path: Path) -> None:
    out = tmp_path / "one.yaml"
    status, text, _ = run(
        capsys, small, "--budget", "1e14", "--inference-tokens", "1e9", "--template", QUICKSTART, "--out", out
    )
    assert status == 0
    assert "compute-optimal at C = 1.0e14 (counted)" in text
    assert "best" in text
    assert "k = 10, same loss" in text
    assert "are cheapest at k" in text
    (cell,) = yaml.safe_load(out.read_text())["design"]["cells"]
    assert f"{cell['width']} x {cell['depth']}" in text


def test_json_is_one_object_without_nan(saved: Path, capsys: Any) -> None:
    status, text, _ = run(capsys, saved, "--budget", "1e22", "--target-loss", "1.0", "--json")
    assert status == 0
    answer = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert set(answer) >= {"optimum", "overtraining", "target_loss", "plan"}
    assert answer["plan"] is None
    assert answer["target_loss"]["reachable"] == "no"
    assert [row["factor"] for row in answer["overtraining"]] == [2, 4, 10]
    for row in answer["overtraining"]:
        assert row["training"]["lo"] < row["training"]["value"] < row["training"]["hi"]


def test_words_of_a_plan_name_every_cell(saved: Path, capsys: Any) -> None:
    arguments = ["--budget", "5e19", "--for", "a", "--max-runs", "12", "--laws", "hoffmann", "--draws", "2"]
    status, text, _ = run(capsys, saved, *arguments)
    plan = json.loads(run(capsys, saved, *arguments, "--json")[1])["plan"]
    assert status == 0
    assert text.count(" x ") >= len(plan["cells"])
    assert "now: 0." in text
    assert "best uniform grid" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing is asked"),
        (["--at", "flops=1e22"], "give --budget"),
        (["--budget", "-1"], "above zero"),
        (["--budget", "1e20", "--at", "flops=1e22", "--for", "a"], "one of --at and --for"),
        (["--budget", "1e20", "--at", "loss=2"], "cannot aim at"),
        (["--budget", "1e20", "--at", "flops=0"], "finite number above zero"),
        (["--budget", "1e20", "--at", "flops=1e22", "--out", "x.yaml"], "--template"),
        (["--budget", "1e20", "--figure", "x.png"], "--at or --for"),
        (["--budget", "1e10", "--at", "flops=1e22"], "no run within the limits costs less"),
        (["--budget", "1e20", "--at", "flops=1e22", "--ratio", "5"], "write LO:HI"),
        (["--budget", "1e20", "--at", "flops=1e22", "--laws", "power"], "no law of params and tokens"),
        (["--budget", "1e20", "--at", "flops=1e22", "--min-params", "1e10"], "leave nothing between"),
        (["--budget", "1e20", "--overtrain", "two"], "no list of numbers"),
        (["--budget", "1e20", "--overtrain", "0"], "factors above zero"),
        (["--target-loss", "0"], "loss above zero"),
        (["--budget", "1e20", "--template", "absent.yaml"], "there is no sweep file"),
        (["--budget", "1e20", "--at", "flops=1e22", "--decay-fraction", "2"], "up to 1"),
        (["--budget", "1e20", "--at", "flops=1e22", "--trunk-correlation", "1"], "share of the variance"),
    ],
)
def test_questions_that_cannot_be_answered_say_why(saved: Path, capsys: Any, arguments: list[str], told: str) -> None:
    status, _, errors = run(capsys, saved, *arguments)
    assert status == 2
    assert told in errors


def test_templates_that_cannot_be_used_say_why(saved: Path, capsys: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    for text, told in (
        ("design: {}", "it has no `data:`"),
        ("data: {corpus: sotu}\nvary: {seeds: [[0], [1]]}", "without `vary`"),
        ("data: {corpus: sotu}\nmodel: {family: encoder}", "causal decoders only"),
        ("data: {corpus: markov}", "--vocab-size"),
        ("data: [", "is not YAML"),
        ("data: {corpus: sotu}\nschedule: {name: cosine}", "no runs share a trunk"),
    ):
        path.write_text(text)
        arguments = ["--budget", "1e20", "--at", "flops=1e22", "--template", path]
        status, _, errors = run(capsys, saved, *arguments, *(["--share-prefixes"] if "cosine" in text else []))
        assert status == 2
        assert told in errors
