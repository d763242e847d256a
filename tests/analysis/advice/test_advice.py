"""The optimum of a budget on shapes that exist, training longer, and the price of a loss."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.advice.compute_optimal import compute_optimal
from analysis.advice.overtraining import cheapest_factor, overtraining
from analysis.advice.shapes import Ladder, ShapeRules, make_ladder
from analysis.advice.target_loss import target_loss
from analysis.api import advise
from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.frontiers.parametric import parametric_frontier
from analysis.laws.allocation import optimum, six_n
from analysis.laws.registry import LAWS
from models.config.accounting import params_fit, training_flops
from models.config.transformer import TransformerConfig

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


# -- the optimum of a budget -----------------------------------------------------------------------------------------


def test_a_best_run_of_too_few_steps_is_said_in_python_too(fit: Fit) -> None:
    assert fit.runs is not None
    batch = np.full(fit.num_rows, 2.0**40)
    found = advise(replace(fit, runs={**fit.runs, "batch": batch}), 1e21)
    assert found.warning is not None
    assert "the best run for 1e+21 FLOPs takes" in found.warning
    assert found.warning in repr(found)
    assert advise(replace(fit, runs={**fit.runs, "batch": batch / 2**25}), 1e21).warning is None


def test_the_best_shape_spends_the_budget_and_no_other_shape_has_a_lower_loss(fit: Fit, ladder: Ladder) -> None:
    found = compute_optimal(fit, 1e21, ladder)
    best = found.best
    assert best.tokens * best.size.flops_per_token == pytest.approx(1e21)
    tokens = np.array([1e21 / size.flops_per_token for size in ladder.sizes])
    losses = fit.predict({"params": ladder.params, "tokens": tokens}, interval="none")["loss"]
    assert best.loss == pytest.approx(losses.min())
    assert found.loss.value <= best.loss <= found.loss.value * 1.001
    frontier = parametric_frontier(fit, [1e21]).points.iloc[0]
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
        for row in overtraining(fit, 1e21, factors.tolist(), ladder, inference_tokens=1e12)
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
