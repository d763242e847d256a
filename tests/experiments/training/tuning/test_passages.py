"""Passages of a corpus: their splits, what of them is predicted, and a sweep that goes on with pre-training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.fitting.spec import FitSpec
from analysis.laws.registry import LAWS
from analysis.study.tuning import _transfer
from experiments.__main__ import main
from experiments.config.tuning.run import FinetuneRun, TaskRef
from experiments.data.cache import Cache
from experiments.data.corpora.passages import load_passages
from experiments.data.tasks import SPLITS, Example
from experiments.data.tokenizers.checkpoint import OWN
from experiments.data.tokenizers.tokenizer import EOD, BytesTokenizer
from experiments.training.tuning.writing import Writing
from models.config.finetuning import MethodConfig
from models.config.transformer import TransformerConfig
from models.modules.transformer import Transformer
from tests.tuning import records, train, write_sweep

SHAPE: dict[str, Any] = {"family": "decoder", "width": 16, "depth": 1, "num_heads": 2, "context": 32}


def test_passages_are_whole_scenes_in_one_split_and_occur_once(cache: Cache) -> None:
    task = load_passages("shakespeare", cache, 200)
    texts = [example.text for split in SPLITS for example in task.splits[split]]
    assert len({" ".join(text.split()) for text in texts}) == len(texts)
    assert max(map(len, texts)) == 200
    shares = [sum(len(example.text) for example in task.splits[split]) / sum(map(len, texts)) for split in SPLITS]
    assert shares == pytest.approx([0.72, 0.08, 0.2], abs=0.06)
    longer = load_passages("shakespeare", cache, 400)
    for split in SPLITS:  # a document stays where it is, however it is cut
        whole = "".join(example.text for example in longer.splits[split])
        assert all(example.text in whole for example in task.splits[split][:50])


def test_every_token_of_a_passage_is_predicted_from_those_before(cache: Cache) -> None:
    model = TransformerConfig(vocab_size=264, **SHAPE)
    run = FinetuneRun(
        pretrained="0",
        model=model,
        pretrained_tokens=0,
        task=TaskRef(name="corpus:a", content_hash="0", kind="language"),
        examples=2,
        method=MethodConfig(),
        learning_rate=0.01,
    )
    writing = Writing(BytesTokenizer(), OWN, run)
    rows = writing.rows([Example(text="to be or not"), Example(text="x" * 40)], run.longest)
    assert [row.length for row in rows] == [12, 32]
    assert [row.is_cut for row in rows] == [False, True]
    body = Transformer(model, seed=1)
    got = writing.losses(writing.model(body, 0), rows, torch.device("cpu"))
    for row, nats in zip(rows, got, strict=True):
        read = torch.tensor([[EOD, *row.target.ids[:-1]]])
        true = torch.tensor(row.target.ids)
        expected = torch.nn.functional.cross_entropy(body(read)[0], true, reduction="sum")
        assert nats.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_sweep_goes_on_with_text(tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(60):
        (tmp_path / f"{number}.txt").write_text("".join(f"so says the king {number} {k}. " for k in range(8)))
    source: dict[str, Any] = {"scratch": True, "model": SHAPE}
    path = write_sweep(
        tmp_path / "goes-on.yaml",
        tmp_path / "rows.csv",
        pretrained=source,
        task={"name": f"corpus:text:{tmp_path}/*.txt", "passage": 30, "test_examples": 20},
        methods=[{"name": "scratch", "learning_rate": 0.02}],
        examples=[100],
        min_steps=60,
        rates={"span": 0},
        controls=True,
    )
    store = tmp_path / "store"
    train(path, store, cache)
    untrained, trained = records("goes-on", store).sort_values("examples").to_dict("records")
    assert trained["loss"] < untrained["loss"] - 1
    assert trained["finetune_tokens"] > 2000
    capsys.readouterr()
    run = str(trained["run_id"])
    assert main(["label", run, "--store", str(store), "--text", "so says the king", "--text", "qzx vwk jjq"]) == 0
    likely, odd = (json.loads(line)["nats_per_token"] for line in capsys.readouterr().out.splitlines())
    assert likely < odd
    source["model"] = SHAPE | {"family": "encoder"}
    bad = write_sweep(
        tmp_path / "bad.yaml",
        tmp_path / "rows.csv",
        pretrained=source,
        task={"name": f"corpus:text:{tmp_path}/*.txt"},
        methods=["scratch"],
    )
    assert main(["plan", str(bad), "--store", str(store)]) == 2
    assert "name decoders" in capsys.readouterr().err


def test_what_pre_training_is_worth_is_recovered_from_both_arms() -> None:
    law, rng = LAWS["hernandez"], np.random.default_rng(0)
    theta = [np.array(value) for value in (0.08, 0.1, 8e13, 5e13, 1e4, 0.2, 0.4)]
    rows = []
    for method in ("full", "scratch"):
        for params in (1e4, 1e5, 1e6):
            for tokens in np.geomspace(1e4, 1e7, 6):
                x = {"params": params, "finetune_tokens": tokens, "pretrained": float(method == "full") or 1e-300}
                loss = float(law.value(theta, {name: np.array(value) for name, value in x.items()}))
                known = {"method": method, "task": "corpus", "role": "fit", "rate_at_edge": False, "examples": tokens}
                rows.append({**known, **x, "loss": loss * np.exp(1e-4 * rng.standard_normal())})
    found = {row["parameter"]: row["value"] for row in _transfer(pd.DataFrame(rows), FitSpec(bootstrap=0))}
    assert found["alpha"] == pytest.approx(0.2, abs=0.05)
    assert found["beta"] == pytest.approx(0.4, abs=0.05)
    few = pd.DataFrame(rows)
    few = few[few["params"] == 1e4]
    assert "needs two sizes" in str(_transfer(few, FitSpec(bootstrap=0))[0]["reason"])
    assert _transfer(few.assign(task="csv"), FitSpec(bootstrap=0)) == []
