"""What a sweep forces of the execution reaches its workers and records, and changes no loss beyond rounding."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.config.codec import convert
from experiments.config.designs import expand
from experiments.config.reading import build_sweep
from experiments.data.cache import Cache
from experiments.data.identity import resolve
from experiments.errors import UserError
from experiments.execution.worker import Worker, WorkerOptions
from experiments.machine.choices import ExecutionChoices
from experiments.planning.planned_sweep import PlannedSweep
from experiments.store.store import RunStore
from tests.marks import needs_compiler

RAW: dict[str, Any] = {
    "name": "forced",
    "data": {"corpus": "markov", "corpus_options": {"num_symbols": 8, "num_tokens": 65536}, "context": 32},
    "design": {"kind": "ladder", "tokens": [12800], "shapes": [{"width": 16, "depth": 1}]},
    "recipe": {"learning_rate": 0.01, "batch_tokens": 256, "warmup_tokens": 2560},
}


def trained(execution: dict[str, Any], cache: Cache, folder: Path) -> tuple[str, float, dict[str, Any]]:
    folder.mkdir()
    source = folder / "forced.yaml"
    source.write_text("name: forced")
    expanded = expand(build_sweep({**RAW, "execution": execution}, where="test"), resolve=lambda d: resolve(d, cache))
    sweep, _ = PlannedSweep.write(expanded, source, RunStore(folder))
    assert ("execution" in json.loads(sweep.path.read_text())) == bool(execution)
    choices = convert(ExecutionChoices, dict(PlannedSweep.find("forced", folder).manifest.execution), where="test")
    Worker(store=sweep.store, segments=sweep.segments(), options=WorkerOptions(execution=choices), cache=cache).work()
    (run_id,) = sweep.run_ids
    record = sweep.store.read_record(run_id)
    assert record is not None
    return run_id, record.outcome["loss"], dict(record.execution)


def test_what_is_forced_is_recorded_and_changes_no_identity_and_no_loss(cache: Cache, tmp_path: Path) -> None:
    free = trained({}, cache, tmp_path / "free")
    forced = trained({"attention": "explicit", "micro_batch": 3, "threads": 2}, cache, tmp_path / "forced")
    torch.set_num_threads(1)
    assert free[0] == forced[0]
    assert forced[1] == pytest.approx(free[1], abs=1e-5)
    assert (free[2]["attention_backend"], free[2]["micro_batch"], free[2]["threads"]) == ("blockwise", 8, 1)
    assert (forced[2]["attention_backend"], forced[2]["micro_batch"], forced[2]["threads"]) == ("explicit", 3, 2)


def test_layers_that_are_computed_again_change_no_bit_of_the_loss_and_are_recorded(
    cache: Cache, tmp_path: Path
) -> None:
    held = trained({}, cache, tmp_path / "held")
    again = trained({"recompute": True}, cache, tmp_path / "again")
    assert again[:2] == held[:2]
    assert again[2]["recomputed"] is True
    assert "recomputed" not in held[2]


@pytest.mark.slow
@needs_compiler
def test_a_second_worker_takes_the_compiled_kernels_from_the_disk_and_reaches_the_same_losses(
    run_verb: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = tmp_path / "kernels"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(kernels))
    (tmp_path / "forced.yaml").write_text(json.dumps(RAW))
    options = ["--device", "cpu", "--workers", 1, "--wandb", "off"]
    made, found = [], []
    for name, compiled in (("eager", "false"), ("first", "true"), ("second", "true")):
        store = tmp_path / name
        words = [tmp_path / "forced.yaml", "--store", store, *options, f"--execution.compile={compiled}"]
        ended = run_verb("run", *words, timeout=900)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        (record,) = (json.loads(path.read_text()) for path in store.glob("runs/*/record.json"))
        assert record["execution"].get("compiled", False) is (compiled == "true")
        found.append(record["outcome"]["loss"])
        made.append({path.name for path in kernels.rglob("*.so")})
    assert not made[0]
    assert made[1]
    assert made[2] == made[1]
    assert found[1] == pytest.approx(found[0], abs=1e-5)
    assert found[2] == found[1]


@pytest.mark.parametrize(
    ("execution", "words"),
    [
        ({"attention": "flash"}, "execution.attention"),
        ({"micro_batch": 0}, "execution.micro_batch is 0; give a whole number of at least 1"),
        ({"thread": 2}, "did you mean threads"),
        ({"precision": "bf16"}, "unknown key execution.precision; precision is a field of its own: write precision"),
        (
            {"cuda_graphs": True},
            "execution.cuda_graphs replays compiled steps; set execution.compile to true beside it",
        ),
        (
            {"cuda_graphs": True, "compile": True, "micro_batch": 2},
            "execution.cuda_graphs and execution.micro_batch exclude each other; leave one of them out",
        ),
        (
            {"cuda_graphs": True, "compile": True, "stacked": "auto"},
            "execution.cuda_graphs and execution.stacked exclude each other",
        ),
        ({"compile": "yes"}, "execution.compile is 'yes'; give true or false"),
    ],
)
def test_an_execution_that_cannot_be_says_why(execution: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        build_sweep({**RAW, "execution": execution}, where="test")


def test_cuda_graphs_are_for_batches_held_as_a_whole_whatever_was_measured() -> None:
    choices = ExecutionChoices(compile=True, cuda_graphs=True)
    assert choices.completed({"micro_batch": 2, "stacked": 4, "threads": 2}) == replace(choices, threads=2)
    assert [choices.replays(8, held) for held in (None, 8, 4)] == [True, True, False]  # halved after memory ran out
    assert not ExecutionChoices(compile=True).replays(8, None)
    assert choices.in_words().startswith("compiled, replayed as CUDA graphs, ")


def test_cuda_graphs_on_a_cpu_are_refused_in_one_sentence(
    run_verb: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "forced.yaml").write_text(json.dumps({**RAW, "execution": {"compile": True, "cuda_graphs": True}}))
    ended = run_verb("run", tmp_path / "forced.yaml", "--store", tmp_path, "--device", "cpu", "--wandb", "off")
    assert ended.returncode != 0
    assert "execution.cuda_graphs needs a GPU; leave it out on a CPU" in ended.stdout + ended.stderr
    assert not list(tmp_path.glob("runs/*/record.json"))
