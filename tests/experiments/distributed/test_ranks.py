"""Several processes that train one run together: the loss of one process, checkpoints that any number goes on from, one
worker's bookkeeping."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.fabric import Fabric

from experiments.__main__ import main
from experiments.config.designs import expand
from experiments.config.reading import build_sweep
from experiments.config.run import RunConfig, canonical, run_id
from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.corpus import prepare
from experiments.data.identity import resolve
from experiments.distributed.place import Place, first_host, place_of
from experiments.distributed.ranks import Ranks
from experiments.records import RunStatus
from experiments.store.store import RunStore
from experiments.training.job import train_run
from experiments.training.state import Interrupted, TrainSetup
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig
from tests.known import trained

ROOT = Path(__file__).resolve().parents[3]
EXACT = 1e-6
"""Relative: losses of two ranks and of one process differed by 4e-9 after 100 steps, rows' losses by 3e-7, norms by
8e-7."""


def ranks_of(size: int) -> list[Ranks]:
    """A group that has not met."""
    return [Ranks(Place(rank=rank, size=size, local_rank=rank, port=1)) for rank in range(size)]


# -- parts -------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 9), st.none() | st.integers(1, 12))
def test_ranks_take_every_sequence_of_a_batch_once_and_their_weights_average_to_its_mean(
    batch: int, size: int, micro_batch: int | None
) -> None:
    shares = [ranks.share(batch, micro_batch) for ranks in ranks_of(size)]
    taken, sums = list[int](), 0.0
    for share in shares:
        for part, weight in share.pieces:
            rows = range(share.begin, share.begin + share.count)[part]
            assert rows, "a rank without sequences would have nothing to exchange"
            assert micro_batch is None or len(rows) <= micro_batch
            taken += rows if weight else []
            sums += weight
            assert weight in (0, len(rows) * size / batch)
    assert taken == list(range(batch))
    assert sums / size == pytest.approx(1)
    assert len({len(share.pieces) for share in shares}) == 1


@given(st.integers(0, 30), st.integers(1, 7))
def test_items_are_dealt_once_and_every_rank_gets_as_many(number: int, size: int) -> None:
    hands = [list(ranks.shard_items(range(number))) for ranks in ranks_of(size)]
    assert sorted(item for hand in hands for item, own in hand if own) == list(range(number))
    assert len({len(hand) for hand in hands}) == 1


# -- places ------------------------------------------------------------------------------------------------------------


def test_a_place_is_read_from_what_torchrun_and_srun_say() -> None:
    torchrun = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "MASTER_PORT": "29500"}
    place = place_of(torchrun | {"MASTER_ADDR": "node0", "SLURM_STEP_NUM_TASKS": "3"})
    assert place == Place(rank=5, size=8, local_rank=1, num_nodes=2, address="node0", port=29500)
    srun = {
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "1",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_STEP_NODELIST": "gpu[07-08]",
        "SLURM_JOB_ID": "4242",
        "SLURM_STEP_ID": "0",
    }
    first, again = place_of(srun), place_of(srun | {"SLURM_STEP_ID": "1"})
    assert first is not None
    assert again is not None
    assert (first.rank, first.size, first.local_rank, first.local_size, first.address) == (3, 4, 1, 2, "gpu07")
    assert first.port != again.port, "a step that is started again in a job must not meet what the last one left"
    assert place_of({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) is None, "a batch script is no step"
    with pytest.raises(ValueError, match="do not make equal parts"):
        place_of(srun | {"SLURM_STEP_NUM_TASKS": "3"})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("a", "a"), ("a,b", "a"), ("a[03-05,9],b1", "a03"), ("a[7],b[1-2]", "a7"), ("r[1-2]n[03,5]-ib", "r1n03-ib")],
)
def test_the_first_host_of_a_node_list_is_found(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nodes", "2"], "start this by srun or torchrun"),
        (["--strategy", "fsdp"], "add --devices-per-run 2"),
        (["--devices-per-run", "0"], "give a number of at least 1"),
    ],
)
def test_a_group_that_nobody_can_start_is_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    assert main(["work", "nothing", *words]) == 2
    assert said in capsys.readouterr().err


def test_numbers_that_differ_from_what_was_started_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    assert main(["work", "nothing", "--devices-per-run", "4"]) == 2
    assert "--devices-per-run is 4, but 2 were started" in capsys.readouterr().err


# -- training ----------------------------------------------------------------------------------------------------------


def train_alone(config: RunConfig, cache: Cache, folder: Path, stop_at: int | None = None) -> dict[str, Any]:
    """What one process makes of a run."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    steps = iter(range(10**6))
    job = TrainSetup(
        config=config,
        corpus=prepare(config.data, cache),
        folder=folder,
        fabric=Fabric(accelerator="cpu", devices=1),
        write_rows=rows.extend,
        should_stop=lambda: stop_at is not None and next(steps) >= stop_at,
    )
    try:
        return asdict(train_run(job).outcome) | {"rows": rows}
    except Interrupted:
        return {"rows": rows}


@pytest.fixture(scope="module")
def configs(cache: Cache) -> dict[str, RunConfig]:
    """Runs of 50 steps: an even batch, one of five sequences, dropout, and a masked encoder that has a pooler."""
    data = DataConfig(
        corpus="markov", corpus_options={"num_symbols": 8, "num_tokens": 65536}, context=32, val_size=4096
    )
    even = RunConfig(
        model=TransformerConfig(vocab_size=data.vocab_size, width=20, depth=2, num_heads=2, context=32),
        data=resolve(data, cache),
        optimizer=OptimizerConfig(learning_rate=1e-2),
        schedule=ScheduleConfig(name="linear", warmup_tokens=2560),
        tokens=12800,
        batch_tokens=256,
    )
    raw = {
        "name": "masked",
        "data": {"corpus": "sotu", "context": 32, "val_size": 8192},
        "design": {"kind": "ladder", "tokens": [12800], "shapes": [{"width": 16, "depth": 1}]},
        "model": {"family": "encoder", "pooler": True},
        "objective": {"name": "masked"},
        "recipe": {"learning_rate": 0.01, "batch_tokens": 256, "warmup_tokens": 2560},
    }
    plan = expand(build_sweep(raw, where="test"), resolve=lambda data: resolve(data, cache))
    return {
        "even": even,
        "uneven": replace(even, tokens=8000, batch_tokens=160),
        "dropout": replace(even, model=replace(even.model, dropout=0.2)),
        "masked": trained(plan.runs[0].config),
    }


@pytest.fixture(scope="module")
def together(
    configs: dict[str, RunConfig], cache: Cache, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, dict[str, Any]], list[int]]:
    """What two processes made of all cases: (folder, results by case, their exit statuses)."""
    folder = tmp_path_factory.mktemp("ranks")
    train_alone(configs["even"], cache, folder / "from-one", stop_at=20)
    cases: dict[str, dict[str, Any]] = {}
    for strategy in ("ddp", "fsdp"):
        cases[f"{strategy} even"] = {"strategy": strategy, "config": "even"}
        cases[f"{strategy} uneven"] = {"strategy": strategy, "config": "uneven", "micro_batch": 2}
        cases[f"{strategy} masked"] = {"strategy": strategy, "config": "masked"}
        cases[f"{strategy} recomputed"] = {"strategy": strategy, "config": "even", "recompute": True}
        cases[f"{strategy} stopped"] = {"strategy": strategy, "config": "even", "stop_at": 20}
    cases["goes on from one"] = {"strategy": "fsdp", "config": "even", "folder": "from-one"}
    cases["dropout"] = {"strategy": "fsdp", "config": "dropout"}
    cases["dropout stopped"] = {"strategy": "fsdp", "config": "dropout", "stop_at": 20, "folder": "halves"}
    cases["dropout goes on"] = {"strategy": "fsdp", "config": "dropout", "folder": "halves"}
    for name, case in cases.items():
        case["config"] = canonical(configs[case["config"]])
        case.setdefault("folder", name.replace(" ", "-"))
    (folder / "cases.json").write_text(json.dumps(cases))
    store = RunStore(folder / "store")
    store.prepare()
    store.write_config(run_id(configs["even"]), configs["even"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "tests.experiments.distributed.rank_process", str(folder), str(cache.root)]
    places = [
        {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} for rank in (0, 1)
    ]
    with (folder / "log").open("wb") as log:
        processes = [
            subprocess.Popen(command, cwd=ROOT, env=os.environ | place, stdout=log, stderr=log) for place in places
        ]
        try:
            statuses = [process.wait(timeout=300) for process in processes]
        finally:
            for process in processes:
                process.kill()
    assert (folder / "results.json").exists(), (folder / "log").read_text()
    return folder, json.loads((folder / "results.json").read_text()), statuses


Together = tuple[Path, dict[str, dict[str, Any]], list[int]]


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """The same outcome and rows up to rounding."""
    assert found["val_counts"] == wanted["val_counts"]
    for name in ("loss", "train_loss", "val_sums"):
        assert found[name] == pytest.approx(wanted[name], rel=EXACT)
    for mine, theirs in zip(found["rows"], wanted["rows"], strict=True):
        assert (mine["step"], mine["tokens"], mine["lr"]) == (theirs["step"], theirs["tokens"], theirs["lr"])
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=10 * EXACT)
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=10 * EXACT)


@pytest.mark.parametrize("batch", ["even", "uneven", "masked"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_train_to_the_loss_of_one_process(
    together: Together, configs: dict[str, RunConfig], cache: Cache, tmp_path: Path, strategy: str, batch: str
) -> None:
    alone = train_alone(configs[batch], cache, tmp_path)
    assert_same(together[1][f"{strategy} {batch}"], alone)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_layers_computed_again_in_the_backward_pass_change_no_digit_of_two_ranks(
    together: Together, strategy: str
) -> None:
    plain, again = (together[1][f"{strategy} {case}"] for case in ("even", "recomputed"))
    steps, layers = 50, 2
    assert (plain["passes"], again["passes"]) == (steps * layers, 2 * steps * layers)
    for name in ("loss", "train_loss", "val_sums", "val_counts"):
        assert again[name] == plain[name]
    assert [row["grad_norm"] for row in again["rows"]] == [row["grad_norm"] for row in plain["rows"]]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_run_that_two_ranks_began_is_ended_by_one_process(
    together: Together, configs: dict[str, RunConfig], cache: Cache, tmp_path: Path, strategy: str
) -> None:
    folder, results, _ = together
    stopped = results[f"{strategy} stopped"]
    assert 20 <= len(stopped["rows"]) < 50, "rank 1 asked to stop, and both did"
    assert f"stopped after {len(stopped['rows'])} of 50" in stopped["interrupted"]
    rest = train_alone(configs["even"], cache, folder / f"{strategy}-stopped")
    assert len(rest["rows"]) == 50 - len(stopped["rows"])
    alone = train_alone(configs["even"], cache, tmp_path)
    assert_same(rest | {"rows": stopped["rows"] + rest["rows"]}, alone)


def test_a_run_that_one_process_began_is_ended_by_two_ranks(
    together: Together, configs: dict[str, RunConfig], cache: Cache, tmp_path: Path
) -> None:
    rest, alone = together[1]["goes on from one"], train_alone(configs["even"], cache, tmp_path)
    assert len(rest["rows"]) == 30
    assert_same(rest, alone | {"rows": alone["rows"][20:]})


def test_dropout_differs_between_ranks_and_is_taken_up_where_it_was_to_the_last_digit(together: Together) -> None:
    whole, stopped, rest = (together[1][name] for name in ("dropout", "dropout stopped", "dropout goes on"))
    assert (rest["loss"], rest["val_sums"], rest["train_loss"]) == (
        whole["loss"],
        whole["val_sums"],
        whole["train_loss"],
    )
    losses = [[row["train_loss"] for row in part["rows"]] for part in (whole, stopped, rest)]
    assert losses[0] == losses[1] + losses[2]


def test_checkpoints_of_ranks_hold_whole_plain_tensors(together: Together, configs: dict[str, RunConfig]) -> None:
    states = [
        torch.load(together[0] / f"{strategy}-stopped" / "checkpoints" / "latest.pt", weights_only=True)
        for strategy in ("ddp", "fsdp")
    ]
    shapes = [
        {name: value.shape for name, value in state["model"].items()}
        | {key: value["exp_avg"].shape for key, value in state["optimizer"]["state"].items()}
        for state in states
    ]
    assert shapes[0] == shapes[1]
    assert states[0]["optimizer"]["param_groups"][0].keys() == states[1]["optimizer"]["param_groups"][0].keys()
    assert states[1]["run_id"] == run_id(configs["even"])


def test_memory_that_does_not_suffice_on_another_rank_is_told_to_rank_0_which_writes_it_down(
    together: Together, configs: dict[str, RunConfig]
) -> None:
    folder, _, statuses = together
    store, name = RunStore(folder / "store"), run_id(configs["even"])
    assert statuses == [75, 75], "both ask for fresh processes"
    assert store.claims.states()[name].endings == (RunStatus.OOM,)
    assert (
        store.claims.reason(name, 1, RunStatus.OOM)
        == "out of memory with 4 sequences at a time; the next attempt takes 2"
    )
    assert "not enough for rank 1" in (store.run_folder(name) / "error.txt").read_text()


# -- a worker ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sweep(tmp_path: Path, sweep_text: str, cache: Cache) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts `run` of a sweep of two runs that share a trunk, in the store `tmp_path`; kills what is left of it."""
    (tmp_path / "tiny.yaml").write_text(sweep_text)
    shape = "--design.shapes=[{width: 16, depth: 1}]"
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "experiments", "run", str(tmp_path / "tiny.yaml"), "--store", str(tmp_path)]
        command += ["--workers", "1", "--wandb", "off", shape, *words]
        with (tmp_path / "log").open("wb") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        return started[0]

    yield start
    for process in started:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()


def finish(process: subprocess.Popen[bytes], store: RunStore, strategy: str) -> None:
    """Wait for a worker and check that every run has its record, made by two processes, and its weights."""
    assert process.wait(timeout=300) == 0, (store.root / "log").read_text()
    records = [store.read_record(path.name) for path in sorted(store.runs.iterdir())]
    assert [record.status for record in records if record is not None] == ["done", "done"]
    for record in records:
        assert record is not None
        assert (record.execution["world_size"], record.execution["strategy"]) == (2, strategy)
        assert (record.execution["micro_batch"], record.execution["shared_steps"]) == (4, 40)
        assert (store.run_folder(record.run_id) / "weights.safetensors").exists()
        assert store.claims.states()[record.run_id].endings.count(RunStatus.DONE) == 1
        steps = [row["step"] for row in store.read_metrics(record.run_id)]
        assert steps == list(range(1, record.design["tokens"] // 256 + 1))


def test_a_worker_of_two_processes_survives_the_death_of_one_and_makes_one_record_of_each_run(
    sweep: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    store = RunStore(tmp_path)
    process = sweep("--devices-per-run", "2", "--strategy", "fsdp", "--checkpoint-seconds", "0")
    while not list(store.root.glob("*/*/checkpoints/*.pt")):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)
        assert process.poll() is None, (tmp_path / "log").read_text()
    family = psutil.Process(process.pid).children(recursive=True)
    (second,) = (child for child in family if child.environ().get("RANK") == "1")
    second.kill()
    finish(process, store, "fsdp")
    endings = [ending for state in store.claims.states().values() for ending in state.endings]
    assert endings.count(RunStatus.LOST) == 1
    assert endings.count(RunStatus.DONE) == 3, "two runs and the prefix that they share"


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices on this machine")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_gpus_train_a_sweep(work: Callable[..., subprocess.Popen[bytes]], tmp_path: Path, strategy: str) -> None:
    finish(sweep("--device", "cuda", "--devices-per-run", "2", "--strategy", strategy), RunStore(tmp_path), strategy)
