"""Methods beside each other: paired on test examples, at equal compute, and along their sizes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.paired.difference import paired_difference
from analysis.study import methods
from analysis.study.methods import equal_flops, paired_methods, rate_vertices, size_slopes


def cells(**columns: list[Any]) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    return pd.DataFrame({"pretrained": ["a"] * count, "params": [1e4] * count, **columns})


def test_pairs_average_seeds_and_cancel_what_is_hard_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    hard, counts = 3 * rng.random(200), np.ones(200)
    sums = {f"full{seed}": (hard + 0.1 * rng.standard_normal(200), counts) for seed in range(2)}
    sums |= {f"lora{seed}": (hard + 0.05 + 0.1 * rng.standard_normal(200), counts) for seed in range(2)}
    monkeypatch.setattr(methods, "_sums", lambda path: sums)
    best = cells(arm=["full"] * 2 + ["lora"] * 2, examples=[100] * 4, run_id=list(sums))
    found = paired_methods(Path("absent"), best).iloc[0]
    means = [np.mean([sums[f"{arm}{seed}"][0] for seed in range(2)], axis=0) for arm in ("lora", "full")]
    expected = paired_difference(means[0], means[1], counts)
    assert (found["difference"], found["lo"], found["hi"]) == (expected.value, expected.lo, expected.hi)
    assert found["lo"] < 0.05 < found["hi"]
    assert found["hi"] - found["lo"] < 0.06  # the spread of hard examples alone would give .24


def test_at_equal_compute_a_method_is_read_off_its_own_curve() -> None:
    table = cells(
        arm=["full"] * 3 + ["lora"] * 3,
        flops=[1.0, 2.0, 8.0, 1.0, 4.0, 0.5],
        loss=[1.0, 0.9, 0.7, 0.8, 0.2, 0.9],
        loss_se=[0.3, 0.1, 0.1, 0.4, 0.02, math.nan],
        examples=[1, 2, 8, 2, 8, 1],
    )
    found = equal_flops(table)
    assert found["flops"].tolist() == [1.0, 2.0]  # beyond a method's curve nothing is said
    assert found["loss_arm"].to_numpy() == pytest.approx([0.8, math.sqrt(0.8 * 0.2)])
    assert found["difference"].to_numpy() == pytest.approx([-0.2, 0.4 - 0.9])
    ends = found["hi"].to_numpy() - found["difference"].to_numpy()
    # a cell on the curve has its own error; halfway between two, half of each relative error remains
    between = 0.4 * math.hypot(0.5 * 0.4 / 0.8, 0.5 * 0.02 / 0.2)
    assert ends == pytest.approx([1.96 * math.hypot(0.3, 0.4), 1.96 * math.hypot(0.1, between)], rel=1e-4)
    assert found["lo"].to_numpy() == pytest.approx((found["difference"] - ends).to_numpy())


def test_at_equal_compute_one_seed_has_no_interval() -> None:
    table = cells(
        arm=["full", "lora", "lora"],
        flops=[2.0, 1.0, 4.0],
        loss=[1.0, 0.8, 0.2],
        loss_se=[math.nan] * 3,
        examples=[1] * 3,
    )
    assert equal_flops(table)[["lo", "hi"]].isna().all(axis=None)


def test_slopes_leave_out_rates_at_the_edge_and_say_what_is_too_few() -> None:
    sizes = [1, 2, 4, 8, 16]
    table = cells(
        method=["lora"] * 5,
        size=sizes,
        examples=[100] * 5,
        lr_vertex=[0.01 * size**0.22 for size in sizes[:-1]] + [math.nan],
        loss=[0.5 * size**-0.4 for size in sizes],
        rate_at_edge=[False] * 4 + [True],
    )
    found = size_slopes(table)
    assert found["measure"].tolist() == ["lr", "loss"]
    assert found["slope"].astype(float).to_numpy() == pytest.approx([0.22, -0.4])
    assert found["lo"].astype(float).to_numpy() == pytest.approx([0.22, -0.4])
    assert found["sizes"].eq(4).all()
    few = size_slopes(table.head(2))
    assert few["slope"].isna().all()
    assert few["reason"].str.contains("2 sizes").all()


def test_the_best_rate_lies_between_those_tried_and_seeds_with_one_rate_do_not_count() -> None:
    best, rates = {"lora 1": 0.013, "lora 2": 0.017, "lora 4": 10.0}, 0.01 * 2.0 ** np.arange(-2, 3)
    rows = [
        {"arm": arm, "seed": seed, "lr": rate, "val_loss": 1 + 0.1 * seed + np.log(rate / there) ** 2}
        for arm, there in best.items()
        for seed in (0, 1)
        for rate in rates
    ]
    rows.append({"arm": "lora 1", "seed": 2, "lr": 0.01, "val_loss": -9.0})
    found = rate_vertices(pd.DataFrame(rows), ["arm"])
    assert found["arm"].tolist() == ["lora 1", "lora 2"]  # the best rate of the third lies at an edge
    assert found["lr_vertex"].to_numpy() == pytest.approx([0.013, 0.017])
