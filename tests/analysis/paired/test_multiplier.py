"""Compute multipliers: known gains are found, pairs are what they should be, and what cannot be known is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import isoflop
from analysis.api import load_runs, multiplier
from analysis.errors import UserError
from analysis.paired.blocks import pair_runs
from analysis.paired.multiplier import compute_multiplier

E, A, B, ALPHA, BETA = 1.69, 406.4, 410.7, 0.34, 0.28


def study(gain: float = 2.0, *, noise: float = 0.0, num_seeds: int = 1, floor: float = E) -> dict[str, Any]:
    """An IsoFLOP grid of two arms, of which the second has the loss of `gain` times its N and D's compute."""
    rng = np.random.default_rng(0)
    rows = []
    for flops in np.geomspace(1e18, 1e20, 4):
        for ratio in (3.0, 12.0, 40.0, 130.0):
            n = np.sqrt(flops / 6 / ratio)
            d = flops / 6 / n
            for seed in range(num_seeds):
                shared = rng.normal(0, noise)
                for name, cm, e in (("base", 1.0, E), ("new", gain, floor)):
                    share = BETA / (ALPHA + BETA)
                    loss = e + A * (n * cm**share) ** -ALPHA + B * (d * cm ** (1 - share)) ** -BETA
                    rows.append((name, n, d, flops, seed, loss * np.exp(shared + rng.normal(0, noise / 2))))
    names = ("arm", "params", "tokens", "flops", "seed", "loss")
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def test_a_gain_without_noise_is_found_to_four_digits_in_compute_and_tokens() -> None:
    found = compute_multiplier(study(2.0), arm="arm", reference="base", at=[1e19, 1e22], bootstrap=100)
    assert found.form == "surface"
    for one in found.arms["new"].by_budget:
        assert one.multiplier is not None
        assert one.tokens is not None
        assert one.multiplier.value == pytest.approx(2.0, rel=1e-4)
        assert one.tokens.value == pytest.approx(2 ** (ALPHA / (ALPHA + BETA)), rel=1e-3)
    assert found.arms["new"].grows.value == pytest.approx(0.0, abs=1e-5)


def test_the_multiplier_of_the_reference_over_the_arm_is_the_inverse() -> None:
    columns = study(3.0)
    there = compute_multiplier(columns, arm="arm", reference="base", at=[1e19], bootstrap=100).arms["new"].by_budget[0]
    back = compute_multiplier(columns, arm="arm", reference="new", at=[3e19], bootstrap=100).arms["base"].by_budget[0]
    assert there.multiplier is not None
    assert back.multiplier is not None
    assert there.multiplier.value * back.multiplier.value == pytest.approx(1.0, rel=1e-4)


def test_intervals_are_those_of_pairs_and_cover_a_gain_under_noise() -> None:
    columns = study(1.5, noise=0.006, num_seeds=2)
    found = compute_multiplier(columns, arm="arm", reference="base", at=[1e19], bootstrap=400)
    one = found.arms["new"].by_budget[0].multiplier
    assert one is not None
    assert one.covers(1.5)
    shuffled = columns | {"seed": np.arange(len(columns["loss"]))}
    alone = compute_multiplier(shuffled, arm="arm", reference="base", at=[1e19], bootstrap=400)
    other = alone.arms["new"].by_budget[0].multiplier
    assert other is not None
    assert one.hi is not None
    assert one.lo is not None
    assert other.hi is not None
    assert other.lo is not None
    assert one.hi - one.lo < 0.8 * (other.hi - other.lo)
    assert any("not paired" in warning for warning in alone.warnings)


def test_probabilities_of_being_best_sum_to_one() -> None:
    found = compute_multiplier(study(1.01, noise=0.01), arm="arm", bootstrap=200)
    assert sum(found.p_best.values()) == pytest.approx(np.ones(3))


def test_a_loss_that_the_reference_never_reaches_is_not_determined() -> None:
    columns = study(1.5, floor=1.0)
    found = compute_multiplier(columns, arm="arm", reference="base", at=[1e26], bootstrap=100)
    assert not found.shared_floor
    one = found.arms["new"].by_budget[0]
    assert one.multiplier is None
    assert one.reason is not None
    assert "never reaches" in one.reason


def test_seconds_count_the_measured_throughput() -> None:
    columns = study(2.0)
    columns["train_seconds"] = columns["flops"] / np.where(columns["arm"] == "new", 1e12, 4e12)
    one = compute_multiplier(columns, arm="arm", reference="base", at=[1e19], bootstrap=100).arms["new"].by_budget[0]
    assert one.seconds is not None
    assert one.seconds.value == pytest.approx(0.5, rel=1e-3)


def test_runs_of_a_ladder_get_laws_of_compute() -> None:
    flops = np.geomspace(1e15, 1e18, 7)
    loss = np.concatenate([2.0 + 400 * flops**-0.2, 2.0 + 400 * (1.7 * flops) ** -0.2])
    columns = {"arm": np.repeat(["a", "b"], 7), "flops": np.tile(flops, 2), "loss": loss}
    found = compute_multiplier(columns, arm="arm", at=[1e17], bootstrap=100)
    one = found.arms["b"].by_budget[0].multiplier
    assert found.form == "compute"
    assert one is not None
    assert one.value == pytest.approx(1.7, rel=1e-3)


def test_pairs_share_cell_and_seed_and_a_shared_prefix_joins_them() -> None:
    columns = {"arm": ["a", "b"] * 4, "flops": [1e15] * 4 + [1e16] * 4, "seed": [0, 0, 1, 1] * 2}
    assert pair_runs(columns).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    trunks = ["t0", "t1", "t2", "t3", "t0", "t1", "t2", "t3"]
    assert pair_runs(columns | {"trunk": trunks}).tolist() == [0, 0, 1, 1, 0, 0, 1, 1]


def test_counts_that_differ_by_less_than_a_hundredth_are_one_cell() -> None:
    columns = {"params": np.array([10_000, 10_050, 20_000]), "tokens": np.array([1e6, 1e6, 1e6])}
    assert pair_runs(columns).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({}, {"reference": "old"}, "no value of"),
        ({"arm": np.array(["base"] * 32)}, {}, "one value"),
        ({}, {"at": [-1.0]}, "positive"),
        ({}, {"bootstrap": 5}, "100 draws"),
        ({"loss": np.full(32, -1.0)}, {}, "not a positive number in row 1"),
        ({"objective": ["causal", "masked"] * 16}, {}, "count different predictions and have no multiplier"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(change: Any, options: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        compute_multiplier(study() | change, arm="arm", **options)


def test_the_verb_gives_the_json_that_scripts_rely_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame(study(2.0, noise=0.004)).rename(
        columns={"flops": "C", "params": "N", "tokens": "D", "loss": "L"}
    )
    frame.to_csv(tmp_path / "runs.csv", index=False)
    words = [str(tmp_path / "runs.csv"), "--arm", "arm", "--reference", "base", "--bootstrap", "200"]
    words += ["--columns", "flops=C,params=N,tokens=D,loss=L", "--at", "flops=1e19,flops=1e20"]
    assert isoflop.main(["multiplier", *words, "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert {"reference", "arms", "warnings"} <= set(out)
    arm = out["arms"]["new"]
    assert [one["flops"] for one in arm["at"]] == pytest.approx([1e19, 1e20])
    assert set(arm["at"][0]["multiplier"]) == {"value", "lo", "hi"}
    assert {"value", "lo", "hi", "verdict"} == set(arm["grows"])
    assert set(arm["p_best"][0]) == {"flops", "value"}
    assert isoflop.main(["multiplier", *words]) == 0
    assert "| new |" in capsys.readouterr().out


def test_a_notebook_takes_a_table(tmp_path: Path) -> None:
    pd.DataFrame(study(2.0)).to_csv(tmp_path / "runs.csv", index=False)
    found = multiplier(load_runs(tmp_path / "runs.csv"), "arm", "base", at=[1e19], bootstrap=100)
    assert found.arms["new"].by_budget[0].multiplier is not None


def test_runs_without_a_partner_are_compared_in_seconds_by_the_mean_speed_of_their_arm() -> None:
    columns = study(2.0)
    columns["train_seconds"] = columns["flops"] / np.where(columns["arm"] == "new", 1e12, 4e12)
    columns["seed"] = np.arange(len(columns["loss"]))
    found = compute_multiplier(columns, arm="arm", reference="base", at=[1e19], bootstrap=100)
    one = found.arms["new"].by_budget[0]
    assert one.seconds is not None
    assert one.seconds.value == pytest.approx(0.5, rel=1e-3)
    assert any("mean speed of all runs" in warning for warning in found.warnings)


def test_a_run_without_a_time_leaves_the_seconds_of_the_others() -> None:
    columns = study(2.0)
    columns["train_seconds"] = columns["flops"] / np.where(columns["arm"] == "new", 1e12, 4e12)
    columns["train_seconds"][3] = np.nan
    found = compute_multiplier(columns, arm="arm", reference="base", at=[1e19], bootstrap=100)
    one = found.arms["new"].by_budget[0]
    assert one.seconds is not None
    assert one.seconds.value == pytest.approx(0.5, rel=1e-3)
    assert "1 of 32 runs have no time in train_seconds: seconds rest on the others" in found.warnings


def test_an_arm_without_times_takes_no_seconds_from_the_others() -> None:
    columns = study(2.0)
    third = {name: np.concatenate([column, column[1::2]]) for name, column in columns.items()}
    third["arm"] = np.concatenate([columns["arm"], np.full(16, "untimed")])
    third["train_seconds"] = third["flops"] / np.select(
        [third["arm"] == "new", third["arm"] == "base"], [1e12, 4e12], np.nan
    )
    arms = compute_multiplier(third, arm="arm", reference="base", at=[1e19], bootstrap=100).arms
    seconds = arms["new"].by_budget[0].seconds
    assert seconds is not None
    assert seconds.value == pytest.approx(0.5, rel=1e-3)
    assert arms["untimed"].by_budget[0].seconds is None


@pytest.mark.parametrize("name", ["seed", "data_seed", "replicate", "run_id"])
def test_a_column_that_tells_replicates_apart_is_no_arm(name: str) -> None:
    columns = study() | {name: np.tile([0, 1], 16), "optimizer": np.tile(["adamw", "muon"], 16)}
    with pytest.raises(UserError, match=f"^{name} tells runs of one setting apart.* such as optimizer$"):
        compute_multiplier(columns, arm=name, bootstrap=100)


def test_the_verb_refuses_seeds_as_arms_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame(study()).assign(seed=np.tile([0, 1], 16)).to_csv(tmp_path / "runs.csv", index=False)
    assert isoflop.main(["multiplier", str(tmp_path / "runs.csv"), "--arm", "seed"]) == 2
    assert "differ by chance" in capsys.readouterr().err
