"""The command `python -m models describe`: what it prints, that it needs no torch, and how it refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from models.__main__ import main
from models.config.accounting import params_total, training_flops
from models.config.presets import preset, preset_names


def test_describe_prints_counts_flops_memory_and_compute(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "gpt2-xl"]) == 0
    text = capsys.readouterr().out
    for words in ("1,557,611,200", "embedding", "attention_scores", "memory, training", "memory, inference", "6 N D"):
        assert words in text


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_described_as_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", name, "--json"]) == 0
    facts, config = json.loads(capsys.readouterr().out), preset(name)
    assert facts["params"]["total"] == params_total(config) == sum(facts["params"]["groups"].values())
    tokens = facts["compute_optimal"]["tokens"]
    assert tokens == 20 * params_total(config)
    assert facts["compute_optimal"]["flops"] == training_flops(config, tokens=tokens)


def test_a_family_scaled_to_the_size_told_of_gpt_4_is_labelled(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "gpt2-xl", "--params", "1.8e12"]) == 0
    text = capsys.readouterr().out
    assert "dense" in text
    assert "unconfirmed" in text
    assert "1.8" in text.split("parameters")[1]


def test_fields_can_be_set_with_and_without_a_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "gpt2", "--set", "vocab_size=264", "--set", "positions=rotary", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["config"]["positions"] == "rotary"
    assert facts["params"]["groups"]["embedding"] == 264 * 768
    shape = ["vocab_size=264", "width=64", "depth=2", "num_heads=2", "context=128"]
    assert main(["describe", *(word for item in shape for word in ("--set", item))]) == 0


def test_conventions_stand_beside_each_other_with_their_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "gpt2", "--conventions"]) == 0
    text = capsys.readouterr().out
    for words in ("859,885,056", "Megatron-LM", "softmax"):
        assert words in text
    assert main(["describe", "gpt2", "--conventions", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["palm"]["flops_per_token"] == 859_885_056
    assert told["isoflop"]["flops_over_6n"] == pytest.approx(1.6743, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gtp2"], "did you mean 'gpt2'"),
        (["gpt2", "--set", "heads=3"], "names no field"),
        (["gpt2", "--set", "num_heads=7"], "not divisible"),
        (["gpt2", "--params", "5"], "at least 1e4"),
        (["gpt2", "--precision", "fp8"], "precision"),
        (["bert-base", "--conventions"], "count decoders"),
        ([], "without a preset"),
    ],
)
def test_bad_input_is_one_sentence_and_status_two(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["describe", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert error.count("\n") == 1


def test_configs_counts_and_descriptions_need_no_torch() -> None:
    script = (
        "import sys; from models.__main__ import main; main(['describe', 'gpt2']);"
        "import models.config.schedules, models.config.objective, models.huggingface.names;"
        "heavy = {'torch', 'numpy', 'pandas', 'lightning'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
