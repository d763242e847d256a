"""Texts that are written: rows, losses, beam search, measures, and a sweep from its file to a text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.__main__ import main
from experiments.config.tuning.run import FinetuneRun, TaskRef
from experiments.data.cache import Cache
from experiments.data.tasks import Example
from experiments.data.tokenizers.checkpoint import OWN
from experiments.data.tokenizers.tokenizer import EOD, SEP, BytesTokenizer
from experiments.training.tuning.measures import text_measures
from experiments.training.tuning.model import make_body
from experiments.training.tuning.writing import Writing
from models.config.finetuning import METHODS, SIZED, MethodConfig
from models.config.transformer import Family, TransformerConfig
from models.modules.transformer import Transformer
from tests.tuning import records, train, write_sweep

EXAMPLES = [Example(text="one two", target="ein zwei"), Example(text="three", target="drei, und noch viel mehr danach")]


def run_of(family: Family, method: MethodConfig | None = None, **fields: Any) -> FinetuneRun:
    model = TransformerConfig(
        vocab_size=264, width=16, depth=1, num_heads=2, context=40, family=family, bias=True, positions="learned"
    )
    return FinetuneRun(
        pretrained="0",
        model=replace(model, **fields),
        pretrained_tokens=0,
        task=TaskRef(name="jsonl:a", content_hash="0", kind="generation"),
        examples=2,
        method=method or MethodConfig(),
        learning_rate=0.01,
    )


def test_a_decoder_reads_a_source_and_a_separator_and_both_are_cut() -> None:
    run = run_of("decoder")
    rows = Writing(BytesTokenizer(), OWN, run).rows(EXAMPLES, run.longest)
    assert rows[0].ids == (EOD, *b"one two", SEP)
    assert rows[0].target.ids == (*b"ein zwei", EOD)
    assert [row.is_cut for row in rows] == [False, True]
    assert len(rows[1].target.ids) == run.target_room == 20
    longest = Writing(BytesTokenizer(), OWN, run).rows([Example(text="x" * 99, target="y" * 99)], run.longest)[0]
    assert len(longest.ids) + len(longest.target.ids) - 1 == run.model.context


@pytest.mark.parametrize("family", ["decoder", "encoder-decoder"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tied", [True, False])
def test_what_learns_is_counted_for_every_method(family: Family, method: Any, tied: bool) -> None:
    if method == "lora":
        pytest.importorskip("peft")
    run = run_of(family, MethodConfig(name=method, size=4 if method in SIZED else None), tie_embeddings=tied)
    writing = Writing(BytesTokenizer(), OWN, run)
    weights = Transformer(run.model, seed=3).state_dict()
    model = writing.model(make_body(run, weights), 0)
    assert sum(run.trainable.values()) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    rows = writing.rows(EXAMPLES, run.longest)
    losses = writing.losses(model, rows, torch.device("cpu"))
    losses.sum().backward()
    assert losses.shape == (2,)
    if method not in ("prompt", "scratch"):  # at the start a method computes what the model did
        plain = Writing(BytesTokenizer(), OWN, run_of(family, tie_embeddings=tied))
        body = Transformer(run.model)
        body.load_state_dict(weights)
        same = plain.losses(plain.model(body, 0), rows, torch.device("cpu"))
        torch.testing.assert_close(losses, same)
    assert len(writing.answers(model.eval(), rows, torch.device("cpu"))) == 2


@pytest.mark.parametrize("family", ["decoder", "encoder-decoder"])
def test_what_is_written_does_not_depend_on_the_batch(family: Family) -> None:
    run = run_of(family)
    writing = Writing(BytesTokenizer(), OWN, run)
    model = writing.model(Transformer(run.model, seed=1), 0).eval()
    rows, device = writing.rows(EXAMPLES, run.longest), torch.device("cpu")
    alone = [writing.answers(model, [row], device)[0] for row in rows]
    assert writing.answers(model, rows, device) == alone
    one = [writing.losses(model, [row], device) for row in rows]
    torch.testing.assert_close(writing.losses(model, rows, device), torch.cat(one), rtol=1e-5, atol=1e-5)


def test_measures_are_those_of_the_libraries_and_baselines_learn_nothing() -> None:
    import sacrebleu

    said, true = ["the cat sat on the mat", "a dog ran"], ["the cat sat on a mat", "a dog ran home"]
    sources = ["the cat sat on the mat. And more.", "something else"]
    found = text_measures(said, true, sources)
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(said, [true]).score)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(said, [true]).score)
    assert "tok:13a" in found["bleu_signature"]
    assert "version:" in found["chrf_signature"]
    assert found["rougeL_lo"] <= found["rougeL"] <= found["rougeL_hi"]
    assert 0 < found["lead_rougeL"] < found["rougeL"]
    chinese = text_measures(["你好世界"], ["你好世界"], ["hello"])
    assert "tok:zh" in chinese["bleu_signature"]


def test_draws_in_which_nothing_is_right_still_give_an_interval() -> None:
    import sacrebleu

    said, true = ["x", "x", "a cat", "x"], ["one dog", "my hat", "a cat", "red fire"]
    with pytest.raises(TypeError, match="coerce"):  # when sacrebleu is mended, `_chrf` can be CHRF again
        sacrebleu.metrics.CHRF().corpus_score(said, [true], n_bootstrap=1000)
    found = text_measures(said, true, ["y"] * 4)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(said, [true]).score)
    assert found["chrf_lo"] < found["chrf"] < found["chrf_hi"]


def test_gains_over_baselines_are_paired() -> None:
    import sacrebleu

    rng = np.random.default_rng(3)
    words = np.array(
        ["the", "cat", "sat", "on", "a", "mat", "while", "some", "dog", "ran", "home", "to", "eat", "its", "meat"]
    )
    true = [" ".join(rng.choice(words, 9)) for _ in range(60)]
    sources = [" ".join([*one.split()[:4], *rng.choice(words, 5)]) for one in true]
    said = [" ".join([*one.split()[:5], *rng.choice(words, 4)]) for one in true]
    found = text_measures(said, true, sources)
    gain = sacrebleu.corpus_bleu(said, [true]).score - sacrebleu.corpus_bleu(sources, [true]).score
    assert found["bleu_over_copy"] == pytest.approx(gain)
    assert found["bleu_over_copy_lo"] < gain < found["bleu_over_copy_hi"]
    assert found["rougeL_over_lead"] == pytest.approx(found["rougeL"] - found["lead_rougeL"])
    assert found["rougeL_over_lead_lo"] < found["rougeL_over_lead"] < found["rougeL_over_lead_hi"]
    copied = text_measures(sources, true, sources)
    assert [copied[f"bleu_over_copy{end}"] for end in ("", "_lo", "_hi")] == [0, 0, 0]
    noisy = copied["bleu_hi"] - copied["bleu_lo"]
    assert noisy > 0, "the interval of one text's score is wide where that of the difference is nothing"


def write_pairs(path: Path, count: int = 300) -> None:
    """Colours and their German, with a number that is to be left out."""
    words = {"red": "rot", "green": "grün", "blue": "blau", "white": "weiß"}
    names = list(words)
    rows = [(f"{names[i % 4]} and {names[i // 4 % 4]} {i}", i) for i in range(count)]
    lines = [{"en": text, "de": f"{words[names[i % 4]]} und {words[names[i // 4 % 4]]}"} for text, i in rows]
    path.write_text("\n".join(map(json.dumps, lines)))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["decoder", "encoder-decoder"])
def test_a_sweep_learns_to_write_above_copies(
    family: str, tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(tmp_path / "pairs.jsonl")
    task = {"name": "jsonl:pairs.jsonl", "text": "en", "target": "de", "target_tokens": 20}
    shape = {"family": family, "width": 32, "depth": 1, "num_heads": 2, "context": 48}
    path = write_sweep(
        tmp_path / "written.yaml",
        tmp_path / "rows.csv",
        pretrained={"scratch": True, "model": shape},
        task=task | {"val_examples": 10, "test_examples": 40, "beams": 2},
        methods=[{"name": "scratch", "learning_rate": 0.01}],
        examples=[150],
        min_steps=250,
        rates={"span": 0},
        evaluations=1,
    )
    store = tmp_path / "store"
    train(path, store, cache)
    record = records("written", store).iloc[0]
    assert record["chrf"] > 80 > record["copy_chrf"]
    assert record["rougeL"] > 0.8 > record["lead_rougeL"]
    assert record["loss_per_byte"] > record["loss"]  # a target has one token more than bytes
    capsys.readouterr()
    assert main(["label", record["run_id"], "--store", str(store), "--text", "red and blue 7"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == "rot und blau"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pretrained": {"scratch": True, "model": {"family": "encoder"}}}, "name decoders or encoder-decoders"),
        ({"task": {"target": "fr"}}, "no column 'fr'"),
        ({"task": {"text": "de", "target": "empty"}}, "has nothing to write in row 1"),
    ],
)
def test_texts_that_cannot_be_are_one_sentence(
    changes: dict[str, Any], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"en": "red", "de": "rot", "empty": " "}))
    write_pairs(tmp_path / "many.jsonl", 60)
    source = changes.get("pretrained", {"scratch": True, "model": {}})
    source["model"] |= {"width": 16, "depth": 1, "num_heads": 2, "context": 32}
    name = "jsonl:pairs.jsonl" if "task" in changes else "jsonl:many.jsonl"
    path = write_sweep(
        tmp_path / "bad.yaml",
        tmp_path / "rows.csv",
        pretrained=source,
        task={"name": name, "text": "en", "target": "de"} | changes.get("task", {}),
        methods=["scratch"],
    )
    assert main(["plan", str(path), "--store", str(tmp_path / "store")]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.strip().splitlines()) == 1
