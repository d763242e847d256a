"""A fine-tuning sweep from its YAML to records, a law and labels; its identities, its rates, and its refusals."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml

from analysis.__main__ import main as analysis
from experiments.__main__ import main
from experiments.config.kinds import config_from_dict, run_id
from experiments.config.tuning.run import FinetuneRun, canonical
from experiments.data.cache import Cache
from experiments.data.corpora.task_files import check_leaks
from experiments.data.tasks import Example, Task
from experiments.errors import UserError
from experiments.execution.tuning import Bodies
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.plans import expand_file
from experiments.store.store import RunStore
from experiments.training.tuning.loop import training_order
from tests.tuning import records, rows, train, write_bodies, write_sweep


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, cache: Cache) -> Path:
    """A store with two encoders trained by masking, and a table of labelled sentences."""
    root = tmp_path_factory.mktemp("store")
    train(write_bodies(root), root, cache)
    return root


@pytest.fixture
def write(store: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a fine-tuning sweep; keywords replace fields of its design, and whole blocks where they have the name."""

    def make(name: str = "tuned", **changes: Any) -> Path:
        return write_sweep(tmp_path / f"{name}.yaml", store / "rows.csv", **changes)

    return make


def test_from_a_yaml_to_records_to_a_law_and_labels(
    write: Callable[..., Path], store: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(
        examples=[16, 64],
        methods=["full", {"name": "lora", "sizes": [4], "learning_rate": 0.02}],
        min_steps=30,
        controls=True,
        seeds=[0, 1],
        rates={"limit": 2},
        pretrained={"run": _body(store)},
    )
    assert main(["plan", str(path), "--store", str(store)]) == 0
    assert "cells have no best rate yet" in capsys.readouterr().out
    train(path, store, cache)
    table = records("tuned", store)
    best = table[table["best"]]
    assert len(best) == 2 * (2 * 2 + 2 * 3)  # seeds, methods of two sizes and controls of three
    assert {"full", "lora", "head", "scratch"} == set(table["method"])
    cells = table[table["examples"] > 0].groupby(["pretrained", "method", "examples"])
    assert (cells["lr"].nunique() >= 3).all()
    for _, cell in cells:
        first = cell[cell["seed"] == 0].set_index("lr")["val_loss"]
        assert first.idxmin() == cell[cell["best"]]["lr"].iloc[0]  # by validation, never by test
        inside = first.index.min() < first.idxmin() < first.index.max()
        assert inside is not bool(cell["rate_at_edge"].any())
    assert (best[(best["method"] == "lora") & (best["examples"] == 64)]["accuracy"] > 0.8).all()
    assert best[best["method"] == "head"]["forgetting"].eq(0).all()
    assert best[best["method"] == "scratch"]["forgetting"].isna().all()
    assert best[best["examples"] == 0][["flops", "tokens"]].eq(0).all(axis=None)
    by_method = best[best["examples"] == 64].groupby("method")[["trainable_params", "flops"]].mean()
    assert (by_method.loc["lora"] < by_method.loc["full"]).all()
    capsys.readouterr()
    train(path, store, cache)  # nothing is trained twice
    pd.testing.assert_frame_equal(records("tuned", store), table)
    assert main(["status", "tuned", "--store", str(store), "--json"]) == 0
    capsys.readouterr()
    fit = ["fit", str(store / "sweeps" / "tuned.json"), "--law", "bounded", "--columns", "x=examples", "--json"]
    assert analysis([*fit, "--bootstrap", "0", "--where", "best"]) == 0
    assert json.loads(capsys.readouterr().out)["num_rows"] == 2 * (2 * 1 + 2 * 2)  # the most examples are held out
    assert analysis(["report", str(store / "sweeps" / "tuned.json"), "--out", str(store / "report"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {row["arm"] for row in said["heldout"]} <= {"full", "lora", "head", "scratch"}
    assert {row["arm"] for row in said["crossovers"]} == {"lora", "head", "scratch"}
    assert len(pd.read_csv(store / "report" / "tables" / "runs.csv")) == len(table)
    name = best[(best["method"] == "lora") & (best["examples"] == 64)].iloc[0]["run_id"]
    assert main(["label", name, "--store", str(store), "--text", "the frost of 12"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] == "cold"


METHODS: list[Any] = ["full", "head", "lora", "adapters", "prompt", "bitfit", "scratch"]


def test_what_is_saved_gives_the_same_outputs_and_what_is_frozen_stays(
    write: Callable[..., Path], store: Path, cache: Cache
) -> None:
    from experiments.training.tuning.model import make_body
    from experiments.training.tuning.tasks import first_of, measure

    path = write("saved", methods=METHODS, pretrained={"run": _body(store)}, rates={"span": 0})
    train(path, store, cache)
    bodies = Bodies(RunStore(store), cache)
    for name in records("saved", store)["run_id"]:
        config, model = bodies.load(name)
        record = bodies.store.read_record(name)
        assert record is not None
        head, task = bodies.head(config), bodies.task(config)
        tested = head.rows(first_of(task.splits["test"], None), config.longest)
        device = next(model.parameters()).device
        assert measure(head, model, tested, device).sums.tolist() == record.outcome["val_sums"]
        counted = {name: p for name, p in model.named_parameters() if p.requires_grad}
        assert record.design["trainable_params"] == sum(p.numel() for p in counted.values())
        fresh = head.model(make_body(config, bodies.body(config)), config.seed)
        before = dict(fresh.named_parameters())
        moved = {name for name, p in model.named_parameters() if not before[name].equal(p)}
        assert moved
        assert moved <= set(counted)


def _body(store: Path) -> str:
    manifest = RunStore(store).read_manifest("bodies")
    assert manifest is not None
    return manifest.order[-1]  # the smaller one


def test_a_killed_worker_leaves_one_record_each_and_the_same_digits(
    write: Callable[..., Path], store: Path, cache: Cache
) -> None:
    body, search = _body(store), {"span": 1, "limit": 1}
    path = write("killed", examples=[16, 32], min_steps=200, rates=search, pretrained={"run": body})
    root = RunStore(store)
    planned, _ = PlannedSweep.write(expand_file(path, cache=cache, store=root), path, root)
    process = subprocess.Popen([sys.executable, "-m", "experiments", "work", str(planned.path)])
    children = psutil.Process(process.pid).children
    while len(planned.missing()) == len(planned.run_ids):
        assert process.poll() is None
        time.sleep(0.05)  # the files are all that tells how far it is
    for child in [*children(recursive=True), psutil.Process(process.pid)]:
        child.kill()
    process.wait()
    assert planned.missing()
    train(path, store, cache)
    table = records("killed", store)
    assert table["run_id"].is_unique
    assert (table["status"] == "done").all()
    other = RunStore(store.parent / "other")
    other.prepare()
    (other.runs / body).symlink_to(root.runs / body)
    train(path, other.root, cache)
    columns = ["run_id", "loss", "val_loss", "accuracy", "forgetting"]
    pd.testing.assert_frame_equal(table[columns], records("killed", other.root)[columns])


def test_an_identity_is_what_defines_the_result(write: Callable[..., Path], store: Path, cache: Cache) -> None:
    path = write("named", methods=["lora"], pretrained={"run": _body(store)})
    expanded = expand_file(path, cache=cache, store=RunStore(store))
    first = expanded.runs[0].config
    assert isinstance(first, FinetuneRun)
    assert config_from_dict(json.loads(json.dumps(canonical(first))), where="here") == first
    moved = write("moved", methods=["lora"], pretrained={"run": _body(store)})
    table = store / "moved.csv"
    table.write_bytes((store / "rows.csv").read_bytes())
    raw = yaml.safe_load(moved.read_text())
    raw["task"]["name"] = f"csv:{table}"
    moved.write_text(yaml.safe_dump(raw))
    elsewhere = expand_file(moved, cache=cache, store=RunStore(store))
    assert [item.run_id for item in elsewhere.runs] == [item.run_id for item in expanded.runs]  # content, not place
    for field, value in (("seed", 1), ("data_seed", 1), ("examples", 17), ("learning_rate", 0.5), ("batch", 8)):
        raw = canonical(first)
        raw[field] = value
        assert run_id(config_from_dict(raw, where="here")) != expanded.runs[0].run_id


def test_larger_training_sets_hold_the_smaller_ones(write: Callable[..., Path], store: Path, cache: Cache) -> None:
    path = write("nested", examples=[10, 30, 100], methods=["head"], seeds=[0, 1])
    runs = [item.config for item in expand_file(path, cache=cache, store=RunStore(store)).runs]
    for seed in (0, 1):
        orders = [
            list(training_order(one, 200)) for one in runs if isinstance(one, FinetuneRun) and one.data_seed == seed
        ]
        for shorter in orders:
            assert all(longer[: len(shorter)] == shorter for longer in orders if len(longer) >= len(shorter))


def test_an_input_in_two_splits_is_named() -> None:
    one = Example(text="a  b", label="x")
    splits = {"train": (one,), "val": (), "test": (Example(text="a b", label="y"),)}
    with pytest.raises(UserError, match="row 1 of test is row 1 of train"):
        check_leaks(Task(name="t", kind="classification", labels=("x", "y"), splits=splits))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"methods": ["lorra"]}, "did you mean lora"),
        ({"methods": [{"name": "full", "sizes": [4]}]}, "method 'full' has no size"),
        ({"methods": [{"name": "lora", "targets": ["quary"]}]}, "did you mean 'query'"),
        ({"examples": [100000]}, "more than the"),
        ({"examples": []}, "design.examples is empty"),
        ({"task": {"name": "sentimental"}}, "task 'sentimental' is unknown"),
        ({"task": {"name": "csv:ROWS", "text": "said"}}, "no column 'label'"),
        ({"task": {"name": "csv:absent.csv"}}, "absent.csv; name a csv file"),
        ({"pretrained": {"sweep": "absent"}}, "it knows bodies"),
        ({"pretrained": {"run": "0123456789ab"}}, "no run of the store"),
        ({"pretrained": {}}, "give exactly one"),
        ({"rates": {"span": 3, "limit": 1}}, "give at least the span"),
        ({"seeds": [0], "rates": {"seeds": 2}}, "more than the 1 of seeds"),
    ],
)
def test_bad_input_is_one_sentence(
    changes: dict[str, Any],
    sentence: str,
    write: Callable[..., Path],
    store: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "task" in changes:
        changes["task"]["name"] = changes["task"]["name"].replace("ROWS", str(store / "rows.csv"))
    path = write("bad", **changes)
    assert main(["plan", str(path), "--store", str(store)]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.strip().splitlines()) == 1


def test_a_label_that_no_training_example_has_is_named(
    write: Callable[..., Path], store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments.data.tasks import split_of

    table = rows(200)
    rare = next(index for index, text in enumerate(table["said"]) if split_of(" ".join(text.split()), None) == "test")
    table.loc[rare, "what"] = "rare"
    table.to_csv(tmp_path / "rare.csv", index=False)
    path = write("rare", task={"name": f"csv:{tmp_path / 'rare.csv'}", "text": "said", "label": "what"})
    assert main(["plan", str(path), "--store", str(store)]) == 2
    assert "label 'rare'" in capsys.readouterr().err


def test_an_unfinished_run_is_waited_for_where_its_sweep_is_named_and_refused_alone(
    write: Callable[..., Path], store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = store / "runs" / _body(store) / "record.json"
    hidden = record.with_name("hidden")
    record.rename(hidden)
    try:
        assert main(["plan", str(write("one")), "--store", str(store)]) == 0
        assert "3 runs wait for 1 pre-trained runs, which `isoflop run` trains first" in capsys.readouterr().out
        assert main(["plan", str(write("two", pretrained={"run": _body(store)})), "--store", str(store)]) == 2
        assert "is not finished" in capsys.readouterr().err
    finally:
        hidden.rename(record)


def test_a_tuned_run_generates_nothing_and_a_body_labels_nothing(
    write: Callable[..., Path], store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["label", _body(store), "--store", str(store), "--text", "a"]) == 2
    assert "was trained from nothing" in capsys.readouterr().err


def test_words_are_tagged(
    write: Callable[..., Path], store: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"warm": "B-warm", "cold": "B-cold"}
    lines = []
    for said, what in rows(300).itertuples(index=False):
        words = said.split()
        lines.append(json.dumps({"words": words, "tags": ["O", names[what], *["O"] * (len(words) - 2)]}))
    (store / "tags.jsonl").write_text("\n".join(lines))
    task = {"name": f"jsonl:{store / 'tags.jsonl'}", "text": "words", "label": "tags"}
    body, rates = {"run": _body(store)}, {"span": 0}
    path = write("tags", task=task, pretrained=body, methods=["full"], examples=[64], min_steps=80, rates=rates)
    raw = yaml.safe_load(path.read_text())
    raw["design"]["methods"] = [{"name": "full", "learning_rate": 0.02}]
    path.write_text(yaml.safe_dump(raw))
    train(path, store, cache)
    record = records("tags", store).iloc[0]
    assert record["accuracy"] > 0.9
    assert 0 < record["entity_f1_lo"] <= record["entity_f1"] <= record["entity_f1_hi"]
    capsys.readouterr()
    assert main(["label", record["run_id"], "--store", str(store), "--text", "the frost of 12"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["tokens"] == ["the", "frost", "of", "12"]
    assert set(said["tags"]) <= {"O", "B-warm", "B-cold"}
    bad = write("bad-tags", task={**task, "name": f"jsonl:{store / 'odd.jsonl'}"})
    (store / "odd.jsonl").write_text('{"words": ["a", "b"], "tags": ["O"]}\n')
    assert main(["plan", str(bad), "--store", str(store)]) == 2
    assert "2 words and 1 tags in row 1" in capsys.readouterr().err
