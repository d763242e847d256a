"""Identities of fine-tuning runs hold, and every field of what defines a result is part of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from experiments.config.tuning.run import FinetuneRun, TaskRef, canonical, from_dict, run_id
from experiments.errors import UserError
from models.config.finetuning import MethodConfig
from models.config.transformer import TransformerConfig

RUN = FinetuneRun(
    pretrained="0123456789ab",
    model=TransformerConfig(vocab_size=264, width=16, depth=1, num_heads=2, context=32, family="encoder"),
    pretrained_tokens=12800,
    task=TaskRef(name="csv:a.csv", content_hash="ba9876543210", labels=("cold", "warm")),
    examples=100,
    method=MethodConfig(name="lora", size=4),
    learning_rate=0.01,
)


def test_a_golden_identity_holds() -> None:
    assert run_id(RUN) == "64491513f97d"
    assert from_dict(canonical(RUN), where="here") == RUN


def test_what_the_body_and_the_content_stand_for_is_no_identity() -> None:
    task = replace(RUN.task, name="jsonl:b.jsonl", text="said", kind="tagging")
    assert run_id(replace(RUN, task=task, pretrained_tokens=1)) == run_id(RUN)
    assert run_id(replace(RUN, model=replace(RUN.model, depth=2))) == run_id(RUN)


@pytest.mark.parametrize(
    "changes",
    [
        *({"pretrained": "0"}, {"examples": 99}, {"learning_rate": 0.02}, {"weight_decay": 0.0}, {"epochs": 4}),
        *(
            {"min_steps": 0},
            {"batch": 8},
            {"bucket_batches": 4},
            {"evaluations": 1},
            {"forgetting": False},
            {"seed": 1},
            {"data_seed": 1},
        ),
        *({"precision": "bf16"}, {"task": replace(RUN.task, content_hash="0")}),
        *({"task": replace(RUN.task, test_examples=10)}, {"task": replace(RUN.task, val_examples=10)}),
        *({"method": MethodConfig(name="lora", size=8)}, {"method": MethodConfig(name="lora", size=4, alpha=1.0)}),
        *({"method": MethodConfig(name="lora", size=4, scaling="rslora")},),
        *({"method": MethodConfig(name="lora", size=4, targets=("query",))}, {"method": MethodConfig()}),
    ],
)
def test_what_changes_the_result_changes_the_identity(changes: dict[str, Any]) -> None:
    assert run_id(replace(RUN, **changes)) != run_id(RUN)


def test_steps_are_epochs_or_the_fewest() -> None:
    assert replace(RUN, examples=0).num_steps == 0
    assert replace(RUN, examples=16).num_steps == 60
    assert replace(RUN, examples=1600).num_steps == 300


def test_a_field_that_cannot_be_is_one_sentence() -> None:
    with pytest.raises(UserError, match="batch"):
        replace(RUN, batch=0)
    with pytest.raises(UserError, match="bucket_batches"):
        replace(RUN, bucket_batches=1)
