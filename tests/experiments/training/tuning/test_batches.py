"""Batches of a pass: each example once, the same for one seed, and with buckets of like lengths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.config.tuning.run import FinetuneRun, TaskRef
from experiments.data.cache import Cache
from experiments.training.tuning.loop import batches_of_pass
from models.config.finetuning import MethodConfig
from models.config.transformer import TransformerConfig
from tests.tuning import records, rows, train, write_sweep

RUN = FinetuneRun(
    pretrained="0",
    model=TransformerConfig(vocab_size=264, width=16, depth=1, num_heads=2, context=128, family="encoder"),
    pretrained_tokens=0,
    task=TaskRef(name="csv:a.csv", content_hash="0", labels=("a", "b")),
    examples=1000,
    method=MethodConfig(),
    learning_rate=0.01,
)


@given(
    lengths=st.lists(st.integers(1, 128), min_size=1, max_size=200),
    batch=st.integers(1, 17),
    buckets=st.one_of(st.none(), st.integers(2, 9)),
    seed=st.integers(0, 9),
)
def test_a_pass_has_each_example_once_in_batches_of_one_size_but_one_and_is_its_seed_s(
    lengths: list[int], batch: int, buckets: int | None, seed: int
) -> None:
    run = replace(RUN, batch=batch, bucket_batches=buckets)
    found = batches_of_pass(lengths, run, np.random.default_rng(seed))
    assert sorted(i for one in found for i in one) == list(range(len(lengths)))
    assert sorted(map(len, found), reverse=True)[:-1] == [batch] * (len(found) - 1)
    assert found == batches_of_pass(lengths, run, np.random.default_rng(seed))


def test_buckets_leave_little_padding_and_long_batches_anywhere_in_a_pass() -> None:
    lengths = np.random.default_rng(0).geometric(0.05, 3200).tolist()
    found = batches_of_pass(lengths, replace(RUN, batch=32, bucket_batches=20), np.random.default_rng(0))
    plain = batches_of_pass(lengths, replace(RUN, batch=32), np.random.default_rng(0))
    read, without = (sum(max(lengths[i] for i in one) * len(one) for one in each) for each in (found, plain))
    assert read < 1.25 * sum(lengths) < 0.5 * without
    means = np.array([np.mean([lengths[i] for i in one]) for one in found])
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.2


def test_without_buckets_batches_are_cut_from_one_order() -> None:
    found = batches_of_pass([5] * 10, replace(RUN, batch=4), np.random.default_rng(3))
    assert found == [one.tolist() for one in np.split(np.random.default_rng(3).permutation(10), [4, 8])]


@pytest.mark.parametrize("buckets", [None, 3])
def test_passes_differ(buckets: int | None) -> None:
    rng = np.random.default_rng(0)
    run = replace(RUN, batch=4, bucket_batches=buckets)
    assert batches_of_pass([3] * 40, run, rng) != batches_of_pass([3] * 40, run, rng)


def test_a_run_with_buckets_reads_fewer_tokens_and_is_another_run(tmp_path: Path, cache: Cache) -> None:
    table = rows(400)
    table["said"] += [" again" * (i % 5) for i in range(len(table))]
    table.to_csv(tmp_path / "rows.csv", index=False)
    body = {"scratch": True, "model": {"family": "encoder", "width": 8, "depth": 1, "num_heads": 1, "context": 64}}
    found = {}
    for name, buckets in (("plain", None), ("sorted", 4)):
        path = write_sweep(
            tmp_path / f"{name}.yaml",
            tmp_path / "rows.csv",
            pretrained=body,
            methods=["scratch"],
            examples=[128],
            rates={"span": 0},
            bucket_batches=buckets,
        )
        train(path, tmp_path / "store", cache)
        found[name] = records(name, tmp_path / "store").iloc[0]
    assert found["plain"]["run_id"] != found["sorted"]["run_id"]
    assert found["plain"]["steps"] == found["sorted"]["steps"]
    assert found["sorted"]["tokens"] < 0.9 * found["plain"]["tokens"]
    assert found["sorted"]["flops"] < 0.9 * found["plain"]["flops"]
