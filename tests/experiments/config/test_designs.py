"""Designs: budgets that are spent, whole steps, roles, seeds and varied fields."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.config.designs import MIN_STEPS, ExpandedSweep, expand
from experiments.config.reading import build_sweep
from experiments.config.run import run_id
from experiments.data.cache import Cache
from experiments.data.identity import resolve
from experiments.errors import UserError
from models.config.accounting import params_fit, training_flops
from tests.known import trained


def plan(**changes: Any) -> ExpandedSweep:
    raw: dict[str, Any] = {
        "name": "test",
        "data": {"corpus": "sotu", "context": 128},
        "design": {
            "kind": "isoflop",
            "budgets": [4e11, 8e11],
            "shapes": [{"width": 16, "depth": 2}, {"width": 32, "depth": 2}],
        },
    }
    for key, value in changes.items():
        raw[key] = raw.get(key, {}) | value if isinstance(value, dict) else value
    return expand(build_sweep(raw, where="test"), resolve=lambda data: resolve(data, Cache()))


def ids(sweep: ExpandedSweep) -> set[str]:
    return {run.run_id for run in sweep.runs}


@settings(max_examples=25, deadline=None)
@given(
    width=st.sampled_from([16, 32, 48, 64]),
    depth=st.integers(1, 6),
    budget=st.floats(1e12, 1e16),
)
def test_isoflop_candidates_spend_their_budget_within_one_percent(width: int, depth: int, budget: float) -> None:
    design = {"kind": "isoflop", "budgets": [budget], "shapes": [{"width": width, "depth": depth}]}
    for run in plan(design=design).runs:
        spent = training_flops(run.config.model, tokens=trained(run.config).tokens)
        assert spent == pytest.approx(budget, rel=0.01)
        assert run.config.num_steps >= MIN_STEPS


def test_a_ladder_is_every_size_at_every_rung() -> None:
    shapes = [{"width": 16, "depth": 2}, {"width": 32, "depth": 2}]
    result = plan(design={"kind": "ladder", "budgets": [], "tokens_per_param": [20, 40, 80], "shapes": shapes})
    assert len(result.runs) == 6
    for run in result.runs:
        wanted = run.labels["budget"] * params_fit(run.config.model)
        assert abs(trained(run.config).tokens - wanted) <= run.config.batch_tokens / 2


def test_the_largest_budget_is_held_out_and_never_labelled_as_fitted() -> None:
    result = plan(design={"heldout_budgets": [2.4e12], "heldout_shapes": [{"width": 48, "depth": 2}]})
    roles = {(run.labels["budget"], run.labels["role"]) for run in result.runs}
    assert roles == {(4e11, "fit"), (8e11, "fit"), (2.4e12, "heldout")}


def test_what_lies_outside_the_ratio_range_is_left_out_with_a_reason() -> None:
    result = plan(design={"ratio_range": [1, 200]})
    assert len(result.runs) + len(result.left_out) == 4
    assert all("tokens per parameter" in sentence for sentence in result.left_out)
    assert result.left_out


def test_replicates_differ_from_their_run_in_the_seed_alone() -> None:
    result = plan(replicates=[{"seeds": [1, 2], "width": 32, "depth": 2, "budget": 4e11}])
    replicates = [run for run in result.runs if run.labels["role"] == "replicate"]
    (original,) = [
        run for run in result.runs if run.labels == {"budget": 4e11, "role": "fit"} and run.config.model.width == 32
    ]
    assert [run.config.seed for run in replicates] == [1, 2]
    assert all(replace(run.config, seed=0) == original.config for run in replicates)


CELLS: dict[str, Any] = {
    "kind": "parametric",
    "budgets": [],
    "shapes": [],
    "cells": [
        {"width": 16, "depth": 2, "tokens": [3e5, 6e5], "seeds": [1, 2]},
        {"width": 32, "depth": 2, "num_heads": 4, "tokens": [1e6]},
    ],
}


def test_a_parametric_design_is_its_cells_each_with_its_own_tokens_and_seeds() -> None:
    runs = [run.config for run in plan(design=CELLS).runs]
    batch = runs[0].batch_tokens
    wanted = [(16, 2, tokens, seed) for tokens in (3e5, 6e5) for seed in (1, 2)] + [(32, 4, 1e6, 0)]
    assert len(runs) == len(wanted)
    for config, (width, heads, tokens, seed) in zip(runs, wanted, strict=True):
        assert (config.model.width, config.seed) == (width, seed)
        assert config.model.num_heads == (heads if width == 32 else 1)
        assert abs(config.tokens - tokens) <= batch / 2


def test_a_parametric_design_holds_the_same_runs_as_the_ladder_of_its_cells() -> None:
    shapes, tokens = [{"width": 16, "depth": 2}, {"width": 32, "depth": 2}], [3e5, 6e5]
    ladder = plan(design={"kind": "ladder", "budgets": [], "tokens": tokens, "shapes": shapes})
    cells = [{**shape, "tokens": tokens} for shape in shapes]
    assert ids(plan(design={**CELLS, "cells": cells})) == ids(ladder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cells": []}, "design.cells is empty"),
        ({"shapes": [{"width": 16, "depth": 2}]}, "design.shapes has no meaning in a parametric design"),
        ({"kind": "ladder"}, "design.cells has no meaning in a design of kind ladder"),
        ({"cells": [{"width": 16, "depth": 2, "tokens": [0]}]}, "give positive numbers"),
        ({"cells": [{"width": 16, "depth": 2, "token": [3e5]}]}, "did you mean tokens"),
    ],
)
def test_cells_that_cannot_be_right_say_why(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(design={**CELLS, **changes})


def test_a_tuned_design_trains_every_cell_at_several_rates() -> None:
    shapes = [{"width": 16, "depth": 2}, {"width": 32, "depth": 2}]
    ladder = {"kind": "ladder", "budgets": [], "tokens": [4e6, 8e6], "shapes": shapes}
    own = {trained(run.config).optimizer.learning_rate for run in plan(design=ladder).runs}
    tuned = plan(design=ladder | {"kind": "tuned"})
    assert len(tuned.runs) == 12
    assert {trained(run.config).optimizer.learning_rate for run in tuned.runs} == {
        rate * scale for rate in own for scale in (0.5, 1.0, 2.0)
    }
    assert ids(plan(design=ladder)) < ids(tuned)
    assert len(plan(design=ladder | {"kind": "tuned", "rate_scales": [0.25, 1, 2, 4]}).runs) == 16
    cells = [{"width": 16, "depth": 2, "tokens": [4e6], "rates": [1e-3, 3e-3]}]
    given_rates = plan(design={"kind": "tuned", "budgets": [], "shapes": [], "cells": cells})
    assert [trained(run.config).optimizer.learning_rate for run in given_rates.runs] == [1e-3, 3e-3]


def test_a_fitted_law_of_the_rate_is_a_recipe() -> None:
    law = {"coefficient": 2.0, "params": -0.5, "tokens": 0.1}
    for run in plan(recipe={"rate_law": law}).runs:
        wanted = 2.0 * params_fit(run.config.model) ** -0.5
        assert trained(run.config).optimizer.learning_rate == pytest.approx(
            wanted * trained(run.config).tokens ** 0.1, rel=1e-3
        )
    with pytest.raises(UserError, match="both given"):
        plan(recipe={"rate_law": law, "learning_rate": 0.01})


@pytest.mark.parametrize(
    ("design", "message"),
    [
        ({"kind": "isoflop", "rate_scales": [1, 2]}, "set kind to tuned"),
        ({"kind": "tuned", "budgets": []}, "either design.tokens or design.tokens_per_param"),
        ({"kind": "tuned", "budgets": [], "tokens": [4e6], "rate_scales": [0]}, "rate_scales"),
        (
            {"kind": "tuned", "budgets": [], "shapes": [], "cells": [{"width": 16, "depth": 2, "tokens": [4e6]}]},
            "need rates",
        ),
    ],
)
def test_rates_that_cannot_be_right_say_why(design: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(design=design)


def test_varied_fields_multiply_the_grid_and_label_its_runs() -> None:
    result = plan(vary={"recipe.rate_scale": [0.5, 1, 2], "seeds": [[0], [1]]})
    assert len(result.runs) == 4 * 6
    rates = {run.labels["recipe.rate_scale"]: trained(run.config).optimizer.learning_rate for run in result.runs}
    assert rates[2] == pytest.approx(4 * rates[0.5])


def test_a_plan_is_a_set_and_does_not_depend_on_the_order_of_its_lists() -> None:
    def shapes(order: int) -> ExpandedSweep:
        return plan(
            design={"budgets": [4e11, 8e11][::order], "shapes": [{"width": w, "depth": 2} for w in (16, 32)][::order]}
        )

    forward, backward = shapes(1), shapes(-1)
    assert ids(forward) == ids(backward)
    assert all(run_id(trained(run.config)) == run.run_id for run in forward.runs)


def test_recipes_that_read_size_alone_give_one_batch_and_rate_a_size() -> None:
    by_width: dict[int, set[tuple[float, int, int]]] = {}
    for run in plan().runs:
        config = trained(run.config)
        facts = (config.optimizer.learning_rate, config.batch_tokens, config.schedule.warmup_tokens)
        by_width.setdefault(config.model.width, set()).add(facts)
    assert all(len(facts) == 1 for facts in by_width.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"design": {"budgets": [1e8]}}, "fewer than 50 steps"),
        (
            {"design": {"shapes": [{"width": 18, "depth": 1, "num_heads": 4}]}},
            "width 18 is not divisible by num_heads 4",
        ),
        ({"recipe": {"warmup_tokens": 10**9}}, "do not fit"),
        ({"design": {"ratio_range": [1e6, 1e7]}}, "describes no run"),
    ],
)
def test_a_design_that_cannot_be_trained_says_why(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(**changes)
