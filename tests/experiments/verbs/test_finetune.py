"""Fine-tuning from a pre-trained run to a fitted law: every method, what is saved, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.__main__ import main as analysis
from experiments.__main__ import main
from experiments.config.finetuning import METHODS, FinetuneRun, starting_rate
from experiments.data.cache import Cache
from experiments.data.corpora.task_files import check_leaks, find_task
from experiments.data.tasks import Example, Task
from experiments.errors import UserError
from experiments.execution.finetuned import FinetunedStore
from experiments.store.store import RunStore
from experiments.training.finetuning import build, encode, evaluate, finetune, learned

SWEEP = """
name: bodies
data: {corpus: "text:TEXT", context: 32, val_size: 2048, val_fraction: 0.2, max_epochs: 50, val_document_size: 512}
model: {family: encoder, bias: true}
objective: {name: masked}
design: {kind: ladder, tokens: [12800], shapes: [{width: 16, depth: 1}, {width: 32, depth: 1}], head_width: 8}
recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 2560}
"""
WORDS = {"warm": ["sun", "fire", "heat", "summer"], "cold": ["ice", "snow", "frost", "winter"]}


def rows(count: int) -> pd.DataFrame:
    """Sentences of which one word says the label."""
    rng = np.random.default_rng(0)
    labels = rng.choice(list(WORDS), count)
    texts = [f"the {rng.choice(WORDS[label])} of {rng.integers(10**6)}" for label in labels]
    return pd.DataFrame({"said": texts, "what": labels})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, cache: Cache) -> Path:
    """A store with two encoders trained by masking, and a table of labelled sentences."""
    root = tmp_path_factory.mktemp("store")
    (root / "text.txt").write_text("\n".join(rows(4000)["said"]))
    (root / "bodies.yaml").write_text(SWEEP.replace("TEXT", str(root / "text.txt")))
    rows(400).to_csv(root / "rows.csv", index=False)
    command = ["run", str(root / "bodies.yaml"), "--store", str(root), "--workers", "1", "--wandb", "off"]
    assert main(command) == 0
    return root


@pytest.fixture(scope="module")
def task(store: Path, cache: Cache) -> Task:
    return find_task(f"csv:{store / 'rows.csv'}", cache, text="said", label="what")


def command(store: Path, *words: str) -> list[str]:
    columns = ["--text", "said", "--label", "what", "--store", str(store)]
    return ["finetune", "bodies", "--task", f"csv:{store / 'rows.csv'}", *columns, *words]


def make(store: Path, method: str, **changes: object) -> FinetuneRun:
    body = sorted(path.name for path in (store / "runs").iterdir())[0]
    fields: dict[str, object] = {"pretrained": body, "task": "csv", "task_hash": "0", "examples": 32, "min_steps": 4}
    fields |= {"method": method, "learning_rate": 1e-2, "rank": 4}
    return FinetuneRun(**(fields | changes))  # type: ignore[arg-type]  # fields of several types


def test_from_bodies_to_a_table_to_a_law_and_labels(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = store / "table.csv"
    words = ["--methods", "full,lora", "--examples", "0,16,64", "--rate-factors", "2,4", "--out", str(out)]
    assert main(command(store, *words)) == 0
    table = pd.read_csv(out)
    assert len(table) == 2 * 2 * (1 + 2 * 2)
    assert {"loss", "accuracy", "macro_f1", "mcc", "trainable_params", "flops", "pretrained_loss"} <= set(table)
    most = table[(table["method"] == "lora") & (table["examples"] == 64) & table["best"]]
    assert (most["accuracy"] > 0.8).all()
    by_method = table[table["examples"] == 64].groupby("method")[["trainable_params", "flops"]].mean()
    assert (by_method.loc["lora"] < by_method.loc["full"]).all()
    again = table.copy()
    assert main(command(store, *words)) == 0
    pd.testing.assert_frame_equal(pd.read_csv(out), again)  # nothing is trained twice
    capsys.readouterr()
    fit = ["fit", str(out), "--law", "bounded", "--columns", "x=examples", "--bootstrap", "0", "--json", "--where"]
    assert analysis([*fit, "method == 'full' and best"]) == 0
    assert json.loads(capsys.readouterr().out)["num_rows"] == 6
    name = most.iloc[0]["run_id"]
    assert main(["label", name, "--store", str(store), "--text", "the frost of 12"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] == "cold"


@pytest.mark.parametrize("method", METHODS)
def test_what_is_frozen_stays_and_what_is_saved_gives_the_same_outputs(
    method: str, store: Path, task: Task, cache: Cache
) -> None:
    from experiments.data.tokenizers.tokenizer import load_tokenizer

    finetuned = FinetunedStore(RunStore(store), cache)
    run = make(store, method)
    config, weights = finetuned.body(run.pretrained)
    tokenizer = load_tokenizer(config.data, cache)
    done = finetune(run, config.model, weights, task, tokenizer)
    fresh = build(run, config.model, weights, len(task.labels))
    before = dict(fresh.named_parameters())
    moved = {name for name, p in done.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all(before[name].requires_grad for name in moved)
    assert done.trainable == sum(p.numel() for p in done.model.parameters() if p.requires_grad)
    fresh.load_state_dict(learned(done.model), strict=False)
    data = encode(task.splits["test"], task.labels, tokenizer, 28)
    np.testing.assert_array_equal(evaluate(fresh.eval(), data)[0], evaluate(done.model, data)[0])
    repeated = finetune(run, config.model, weights, task, tokenizer)
    assert repeated.outcome["val_sums"] == done.outcome["val_sums"]
    if method == "lora":
        assert done.trainable < 0.5 * sum(p.numel() for p in done.model.parameters())


def test_without_examples_nothing_is_trained(store: Path, task: Task, cache: Cache) -> None:
    finetuned = FinetunedStore(RunStore(store), cache)
    record = finetuned.train(make(store, "lora", examples=0), task)
    assert record.design["flops"] == record.design["tokens"] == 0
    assert record.outcome["loss"] > 0


def test_identities_and_rates() -> None:
    run = FinetuneRun(pretrained="a", task="t", task_hash="0", examples=100, method="full", learning_rate=1e-3)
    assert run.run_id == FinetuneRun(**vars(run)).run_id
    assert run.run_id != FinetuneRun(**(vars(run) | {"seed": 1})).run_id
    assert starting_rate("lora", 768) == pytest.approx(10 * starting_rate("full", 768))
    assert run.num_steps == 60


def test_an_input_in_two_splits_is_named() -> None:
    one = Example(text="a  b", label="x")
    splits = {"train": (one,), "val": (), "test": (Example(text="a b", label="y"),)}
    with pytest.raises(UserError, match="row 1 of test is row 1 of train"):
        check_leaks(Task(name="t", kind="classification", labels=("x", "y"), splits=splits))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--methods", "lorra"], "did you mean lora"),
        (["--examples", "many"], "--examples is 'many'"),
        (["--examples", "100000"], "more than the"),
        (["--label", "absent"], "has no column 'absent'"),
        (["--task", "sentimental"], "task 'sentimental' is unknown"),
        (["--rate-factors", "0"], "give positive numbers"),
        (["--out", "table.txt"], "ends in .csv or .parquet"),
    ],
)
def test_bad_input_is_one_sentence(
    words: list[str], sentence: str, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command(store, "--out", str(store / "t.csv")), *words]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.strip().splitlines()) == 1


def test_an_unfinished_run_is_refused(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (store / "runs" / "0123456789ab").mkdir()
    assert main(["finetune", "0123456789ab", "--store", str(store), "--task", "sentiment", "--out", "t.csv"]) == 2
    (store / "runs" / "0123456789ab").rmdir()
    assert "is not finished" in capsys.readouterr().err
