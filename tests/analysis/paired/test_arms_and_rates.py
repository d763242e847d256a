"""Arms and rates from records: who is compared with whom, and what is said when nothing can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.errors import UserError
from analysis.paired.arms import arm_table, at_best_rates, gains, pooled
from analysis.paired.rates import chosen, rate_table
from analysis.verbs.deciding.arms import cells_text, pooled_text, rates_text
from analysis.verbs.deciding.rates import markdown
from experiments.records import RunRecord, RunStatus

COUNTS = [100] * 20


def record(
    loss: float, *, seed: int = 0, lr: float = 0.01, status: RunStatus = RunStatus.DONE, counts: list[int] = COUNTS
) -> RunRecord:
    noise = np.random.default_rng(seed).normal(0, 0.2, len(counts))
    design: dict[str, float | str] = {
        "params": 1000,
        "params_total": 1000,
        "params_non_embedding": 900,
        "tokens": 10**6,
        "flops": 6e9,
    }
    design |= {"flops_6nd": 6e9, "width": 16, "depth": 2, "seed": seed, "objective": "causal", "batch": 512, "lr": lr}
    sums = [(loss + extra) * count for extra, count in zip(noise, counts, strict=True)]
    outcome = {"loss": sum(sums) / sum(counts), "loss_se": 0.05, "val_sums": sums, "val_counts": counts}
    return RunRecord(
        run_id=f"{loss}{seed}{lr}", status=status, design=design, outcome=outcome if status is RunStatus.DONE else {}
    )


def labels(arm: str) -> dict[str, Any]:
    return {"model.positions": arm, "budget": 1e6}


def test_an_arm_that_is_worse_everywhere_is_found_though_documents_vary_ten_times_more() -> None:
    pairs = [(record(2.00, seed=seed), labels("rotary")) for seed in (0, 1, 2)]
    pairs += [(record(2.02, seed=seed), labels("none")) for seed in (0, 1, 2)]
    frame = arm_table(pairs, "model.positions")
    found = frame[frame["arm"] == "none"]
    assert found["difference"].tolist() == pytest.approx([0.02] * 3)
    assert (found["lo"] > 0).all()
    (row,) = pooled(frame).to_dict("records")
    assert row["num_cells"] == 3
    assert row["lo"] == pytest.approx(0.02)
    assert "the reference" in cells_text(frame)
    assert "+0.0200" in pooled_text(pooled(frame))


def test_arms_of_a_tuned_sweep_meet_at_the_best_rate_of_each() -> None:
    losses = {"adamw": {0.01: 2.0, 0.02: 1.9, 0.04: 2.1}, "muon": {0.01: 1.9, 0.02: 1.8, 0.04: 1.7}}
    pairs = [
        (record(loss, seed=seed, lr=rate), labels(arm))
        for arm, by_rate in losses.items()
        for rate, loss in by_rate.items()
        for seed in (0, 1, 2)
    ]
    pairs[5] = (record(0.1, seed=2, lr=0.02, status=RunStatus.DIVERGED), labels("adamw"))
    kept, best = at_best_rates(pairs, "model.positions")
    assert best[["arm", "lr", "num_seeds", "num_rates", "edge"]].to_numpy().tolist() == [
        ["adamw", 0.01, 3, 3, "low"],  # at .02 a seed diverged
        ["muon", 0.04, 3, 3, "high"],
    ]
    (row,) = pooled(arm_table(kept, "model.positions", reference="adamw")).to_dict("records")
    assert row["difference"] == pytest.approx(-0.3)
    assert row["num_cells"] == 3
    assert "3; the best is the highest" in rates_text(best)
    alone, nothing = at_best_rates(kept[:3], "model.positions")
    assert len(alone) == 3
    assert nothing.empty


def test_losses_of_different_objectives_are_not_subtracted() -> None:
    pairs = [(record(2.0), labels("rotary")), (record(1.0, counts=[15] * 20), labels("masked"))]
    frame = arm_table(pairs, "model.positions")
    assert frame["difference"].isna().all()
    assert "objectives differ" in " ".join(frame["reason"])
    assert pooled(frame).empty


def test_an_unknown_arm_or_reference_is_named() -> None:
    with pytest.raises(UserError, match=r"varies 'model\.depth'"):
        arm_table([(record(2.0), labels("rotary"))], "model.depth")
    with pytest.raises(UserError, match="arms are rotary"):
        arm_table([(record(2.0), labels("rotary"))], "model.positions", reference="alibi")


def test_the_excess_of_a_rate_is_over_the_best_of_its_size_and_a_diverged_run_has_none() -> None:
    losses = {0.5: 2.02, 1.0: 2.0, 2.0: 2.01}
    pairs = [(record(loss, lr=0.01 * scale), {"recipe.rate_scale": scale}) for scale, loss in losses.items()]
    pairs.append((record(9.0, lr=0.04, status=RunStatus.DIVERGED), {"recipe.rate_scale": 4.0}))
    frame = rate_table(pairs)
    assert frame["excess_fraction"].tolist()[:3] == pytest.approx([0.01, 0, 0.005], abs=2e-4)
    assert np.isnan(frame["excess_fraction"].iloc[3])
    assert chosen(frame)["excess_fraction"].tolist() == [0]
    assert "diverged" in markdown(frame)


def test_a_sweep_that_varies_no_rate_says_how_to_vary_it() -> None:
    with pytest.raises(UserError, match="vary"):
        rate_table([(record(2.0), {})])


def test_what_more_tokens_gain_is_told_within_each_arm_as_a_fraction() -> None:
    from dataclasses import replace

    def longer(run: RunRecord, tokens: int) -> RunRecord:
        return replace(run, design={**run.design, "tokens": tokens})

    pairs = [(record(2.0), labels("rotary")), (longer(record(1.9), 2 * 10**6), labels("rotary"))]
    pairs += [(record(1.0, counts=[15] * 20), labels("masked"))]
    (row,) = gains(pairs, "model.positions").to_dict("records")
    assert (row["arm"], row["tokens_from"], row["tokens_to"]) == ("rotary", 10**6, 2 * 10**6)
    assert row["change"] == pytest.approx(-0.1 / record(2.0).outcome["loss"])
    assert row["hi"] < 0
