"""What is tuned: checkpoints of Hugging Face, fresh weights, and runs that the same command trains first."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from experiments.__main__ import main
from experiments.config.tuning.run import FinetuneRun
from experiments.data.cache import Cache
from experiments.errors import UserError
from experiments.execution.tuning import Bodies
from experiments.execution.worker import Worker
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.plans import expand_file
from experiments.store.store import RunStore
from models.config.presets import bert
from models.huggingface.weights import save_huggingface
from models.modules.transformer import Transformer
from tests.tuning import BODIES, records, rows, train, write_bodies, write_sweep

FRESH = {"family": "encoder", "width": 16, "depth": 1, "num_heads": 2, "context": 32}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small BERT with a tokenizer of whole words."""
    tokenizers = pytest.importorskip("tokenizers")
    words = sorted({word for said in rows(400)["said"] for word in said.split()})
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    own = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    own.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    config = bert(width=16, depth=1, num_heads=2)
    folder = tmp_path / "checkpoint"
    config = replace(config, vocab_size=len(vocabulary), context=16, dropout=0.0)
    save_huggingface(Transformer(config), folder, kind="bert")
    own.save(str(folder / "tokenizer.json"))
    return folder


def test_a_checkpoint_is_tuned_by_its_content_wherever_it_lies(
    checkpoint: Path, tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    rows(400).to_csv(tmp_path / "rows.csv", index=False)
    choice = {"name": "full", "learning_rate": 0.02}
    path = write_sweep(
        tmp_path / "tuned.yaml",
        tmp_path / "rows.csv",
        pretrained={"huggingface": str(checkpoint)},
        methods=[choice],
        rates={"span": 0},
        examples=[100],
        min_steps=60,
    )
    store = tmp_path / "store"
    train(path, store, cache)
    record = records("tuned", store).iloc[0]
    assert record["accuracy"] > 0.9
    assert record["truncated_train"] == 0
    assert record["forgetting"] != record["forgetting"]  # nobody knows on what it was trained
    capsys.readouterr()
    assert main(["label", record["run_id"], "--store", str(store), "--text", "the frost of 12"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] == "cold"
    run = RunStore(store).read_any(record["run_id"])
    assert isinstance(run, FinetuneRun)
    shutil.copytree(checkpoint, tmp_path / "elsewhere")
    raw = yaml.safe_load(path.read_text())
    raw["pretrained"]["huggingface"] = "elsewhere"  # read from the folder of the sweep file
    path.write_text(yaml.safe_dump(raw))
    moved = expand_file(path, cache=cache, store=RunStore(store))
    assert [item.run_id for item in moved.runs] == [record["run_id"]]
    (checkpoint / "tokenizer.json").write_text((checkpoint / "tokenizer.json").read_text() + " ")
    with pytest.raises(UserError, match="changed under this sweep"):
        Bodies(RunStore(store), cache).body(run)


def test_fresh_weights_are_a_source(tmp_path: Path, cache: Cache) -> None:
    rows(400).to_csv(tmp_path / "rows.csv", index=False)
    source = {"scratch": True, "model": FRESH}
    path = write_sweep(
        tmp_path / "fresh.yaml", tmp_path / "rows.csv", pretrained=source, methods=["scratch"], controls=True
    )
    train(path, tmp_path / "store", cache)
    table = records("fresh", tmp_path / "store")
    assert set(table["method"]) == {"scratch"}
    assert set(table["examples"]) == {0, 16}
    assert table["pretrained_loss"].isna().all()
    wider = write_sweep(
        tmp_path / "wider.yaml",
        tmp_path / "rows.csv",
        pretrained={"scratch": True, "model": FRESH | {"width": 32}},
        methods=["scratch"],
    )
    others = {item.run_id for item in expand_file(wider, cache=cache, store=RunStore(tmp_path / "store")).runs}
    assert not others & set(table["run_id"])


def test_fresh_weights_may_learn_their_vocabulary_on_the_training_split(tmp_path: Path, cache: Cache) -> None:
    pytest.importorskip("tokenizers")
    rows(400).to_csv(tmp_path / "rows.csv", index=False)
    store = RunStore(tmp_path / "store")
    lengths, ids = {}, set()
    for tokenizer, size in (("bytes", 264), ("bpe-300", 300), ("bpe-320", 320)):
        source = {"scratch": True, "model": FRESH | {"context": 16}, "tokenizer": tokenizer}
        path = write_sweep(
            tmp_path / f"{tokenizer}.yaml",
            tmp_path / "rows.csv",
            pretrained=source,
            methods=["scratch"],
            rates={"span": 0},
        )
        (item,) = expand_file(path, cache=cache, store=store).runs
        assert isinstance(item.config, FinetuneRun)
        ids.add(item.run_id)
        tokens, _ = Bodies(store, cache).tokenizer(item.config)
        assert tokens.vocab_size == item.config.model.vocab_size == size
        (encoded,) = tokens.encode([b"the summer of 12"])
        assert tokens.decode([int(i) for i in encoded]) == b"the summer of 12"
        lengths[tokenizer] = len(encoded)
    assert len(ids) == 3
    assert lengths["bytes"] > lengths["bpe-300"] >= lengths["bpe-320"]


@pytest.mark.slow
def test_one_command_trains_the_bodies_and_tunes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bodies(tmp_path)
    path = write_sweep(
        tmp_path / "both.yaml", tmp_path / "rows.csv", pretrained={"sweep": "bodies.yaml"}, rates={"span": 0}
    )
    store = str(tmp_path / "store")
    assert main(["plan", str(path), "--store", store, "--workers", "1"]) == 0
    assert "2 runs wait for 2 pre-trained runs" in capsys.readouterr().out
    assert main(["run", str(path), "--store", store, "--wandb", "off", "--workers", "1"]) == 0
    assert "2 of 2 runs are done" in capsys.readouterr().out
    table = records("both", tmp_path / "store")
    assert set(table["pretrained"]) == set(records("bodies", tmp_path / "store")["run_id"])
    assert (table["status"] == "done").all()


def test_a_body_that_diverges_keeps_no_worker_waiting(
    tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    bodies = write_bodies(tmp_path, BODIES.replace("{learning_rate: 0.01,", "{learning_rate: 1.0e+30,"))
    path = write_sweep(tmp_path / "lost.yaml", tmp_path / "rows.csv", pretrained={"sweep": str(bodies)})
    store = RunStore(tmp_path / "store")
    expanded = expand_file(path, cache=cache, store=store)
    assert expanded.before is not None
    PlannedSweep.write(expanded.before, bodies, store)
    planned, _ = PlannedSweep.write(expanded, path, store)
    assert Worker(store=store, segments=planned.segments(), cache=cache).work() == 0
    assert len(planned.missing()) == len(planned.run_ids)
    assert main(["plan", str(path), "--store", str(store.root)]) == 2
    assert "is diverged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"huggingface": "absent"}, "which is no folder"),
        ({"huggingface": "."}, "holds no model.safetensors"),
        ({"scratch": True}, "needs pretrained.model.width"),
        ({"scratch": True, "model": FRESH | {"widht": 3}}, "did you mean"),
        ({"scratch": True, "model": FRESH | {"vocab_size": 3}}, "leave it out"),
        ({"scratch": True, "model": FRESH | {"num_heads": 3}}, "pretrained.model cannot be built"),
        ({"sweep": "bodies", "model": FRESH}, "set scratch: true"),
        ({"sweep": "bodies", "run": "0"}, "give exactly one"),
        ({"sweep": "bodies", "tokenizer": "bpe-300"}, "set scratch: true"),
        ({"scratch": True, "model": FRESH, "tokenizer": "words"}, "give bytes, or bpe-SIZE"),
        ({"scratch": True, "model": FRESH, "tokenizer": "bpe-99999"}, "the training split gives only"),
        ({"sweep": "absent.yaml"}, "absent.yaml"),
        ({"sweep": "bad.yaml"}, "fine-tunes itself"),
    ],
)
def test_a_source_that_cannot_be_is_one_sentence(
    source: dict[str, object], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows(400).to_csv(tmp_path / "rows.csv", index=False)
    methods = ["scratch"] if source.get("scratch") else ["full"]
    inner = {"scratch": True, "model": FRESH} if source.get("sweep") == "bad.yaml" else source
    write_sweep(tmp_path / "bad.yaml", tmp_path / "rows.csv", pretrained=inner, methods=["scratch"])
    path = write_sweep(tmp_path / "asked.yaml", tmp_path / "rows.csv", pretrained=source, methods=methods)
    assert main(["plan", str(path), "--store", str(tmp_path / "store")]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.strip().splitlines()) == 1


def test_methods_that_tune_need_something_to_tune(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows(400).to_csv(tmp_path / "rows.csv", index=False)
    source = {"scratch": True, "model": FRESH}
    path = write_sweep(tmp_path / "bad.yaml", tmp_path / "rows.csv", pretrained=source, methods=["lora"])
    assert main(["plan", str(path), "--store", str(tmp_path / "store")]) == 2
    assert "method 'lora' tunes what was pre-trained" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("package", "methods", "task", "sentence"),
    [
        ("peft", ["lora"], {}, "method lora needs the package peft; install it with"),
        ("sacrebleu", ["full"], {"target": "what"}, "texts are measured by the package sacrebleu; install it with"),
    ],
)
def test_a_package_that_is_missing_is_named_before_anything_is_written(
    package: str,
    methods: list[str],
    task: dict[str, str],
    sentence: str,
    tmp_path: Path,
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    bodies = write_bodies(tmp_path, BODIES.replace("encoder", "decoder").replace("objective: {name: masked}\n", ""))
    path = write_sweep(
        tmp_path / "lacking.yaml",
        tmp_path / "rows.csv",
        pretrained={"sweep": str(bodies)},
        methods=methods,
        task={"name": "csv:rows.csv", "text": "said", "label": "what"} | task,
    )
    with pytest.raises(UserError, match=sentence):
        expand_file(path, cache=cache, store=RunStore(tmp_path / "store"))
    assert not (tmp_path / "store").exists()
