"""Identity of runs: what changes it, what does not, and the way back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.config import run as config_module
from experiments.config.codec import remove_path, set_path
from experiments.config.run import RunConfig, canonical, run_config_from_dict, run_id
from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.identity import resolve
from experiments.errors import UserError
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig


def golden(**changes: object) -> RunConfig:
    fields: dict[str, object] = {
        "model": TransformerConfig(vocab_size=264, width=32, depth=2, num_heads=2, context=128),
        "data": resolve(DataConfig(corpus="sotu", context=128), Cache()),
        "optimizer": OptimizerConfig(learning_rate=1e-2),
        "schedule": ScheduleConfig(name="wsd", warmup_tokens=20480, decay_tokens=204800),
        "tokens": 1024000,
        "batch_tokens": 2048,
    }
    return RunConfig(**(fields | changes))  # type: ignore[arg-type]


def test_run_ids_of_released_configs_stay_what_they_were() -> None:
    cosine = golden(schedule=ScheduleConfig(name="cosine", warmup_tokens=20480))
    assert {"wsd": run_id(golden()), "cosine": run_id(cosine)} == GOLDEN_IDS


GOLDEN_IDS = {"wsd": "1146b641e446", "cosine": "4bd426c01074"}
"""Written when the first release was made; a change here needs a raised SEMANTICS_VERSION."""


def test_canonical_json_and_reading_it_are_inverse(make_config: Callable[..., RunConfig]) -> None:
    config = make_config()
    again = run_config_from_dict(json.loads(json.dumps(canonical(config))))
    assert again == config
    assert run_id(again) == run_id(config)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"tokens": 25600 + 256},
        {"precision": "bf16"},
        {"semantics_version": 2},
        {"optimizer": OptimizerConfig(learning_rate=1.1e-2)},
    ],
)
def test_everything_that_changes_the_result_changes_the_run_id(
    make_config: Callable[..., RunConfig], change: dict[str, object]
) -> None:
    assert run_id(make_config(**change)) != run_id(make_config())


def test_a_declared_limit_of_epochs_is_no_part_of_the_identity(make_config: Callable[..., RunConfig]) -> None:
    config = make_config()
    assert run_id(replace(config, data=replace(config.data, max_epochs=7))) == run_id(config)


def test_the_place_of_a_text_file_is_no_part_of_the_identity_but_its_content_is(
    make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    def identity(folder: str, text: str) -> str:
        path = tmp_path / folder / "corpus.txt"
        path.parent.mkdir()
        path.write_text(text * 400)
        data = resolve(DataConfig(corpus=f"text:{path}", context=32), Cache(tmp_path / "cache"))
        return run_id(make_config(data=data))

    assert identity("here", "to be ") == identity("there", "to be ")
    assert identity("elsewhere", "not to be ") != identity("far", "to be ")


def test_a_field_added_later_leaves_old_identities_alone_at_its_default(
    make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    monkeypatch.setattr(config_module, "ADDED_LATER", {"model.qk_norm": False})
    before, after = canonical(config), canonical(make_config(model=replace(config.model, qk_norm=True)))
    assert "qk_norm" not in before["model"]
    assert after["model"]["qk_norm"] is True
    assert run_config_from_dict(before) == config


def test_a_run_without_content_hash_has_no_identity(make_config: Callable[..., RunConfig]) -> None:
    config = make_config()
    with pytest.raises(ValueError, match="content hash"):
        run_id(replace(config, data=replace(config.data, content_hash=None)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": 25601}, "whole number of steps"),
        ({"batch_tokens": 100}, "multiple of 32"),
        ({"precision": "auto"}, "'auto'"),
    ],
)
def test_a_config_that_cannot_be_trained_says_why(
    make_config: Callable[..., RunConfig], change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(**change)


def test_a_whole_number_in_a_field_for_any_number_stays_one_when_it_is_read_back(
    make_config: Callable[..., RunConfig],
) -> None:
    """1 and 1.0 have different hashes, so that reading may not make the one of the other."""
    config = make_config()
    whole = replace(config, model=replace(config.model, dropout=0, norm_eps=1))
    again = run_config_from_dict(json.loads(json.dumps(canonical(whole))))
    assert run_id(again) == run_id(whole)
    assert run_id(again) != run_id(replace(config, model=replace(config.model, dropout=0.0, norm_eps=1.0)))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.width", None, "model.width is missing"),
        ("optimizer", None, "optimizer is missing"),
        ("tokens", "many", "tokens is 'many'; give a whole number"),
        ("model.dropout", "high", "model.dropout is 'high'; give a number"),
        ("model.colour", "red", "unknown key model.colour"),
        ("data", [], "data must be a mapping"),
        ("batch_tokens", 7, "not a whole number of sequences"),
    ],
)
def test_a_config_file_that_is_incomplete_or_wrong_is_told_by_its_field(
    make_config: Callable[..., RunConfig], path: str, value: object, message: str
) -> None:
    raw = canonical(make_config())
    remove_path(raw, path)
    if value is not None:
        set_path(raw, path, value)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        run_config_from_dict(raw, where="config.json")
    assert str(caught.value).startswith("config.json: ")
