"""Tasks from a user's own table, with a column of texts and one of what is asked of them.

A table is a csv, JSON lines or Parquet file, or a data set of Hugging Face. It holds labels of texts, lists of
tags of words, questions whose answers are parts of the text, or texts to be written.

Inputs are deduplicated before they are split, and a split is a hash of the input. It must not know models. Planning
imports this file, so that it reads without pandas; pyarrow is imported by the one reader that needs it.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from experiments.data.cache import Cache
from experiments.data.corpora.hub import labelled_rows
from experiments.data.corpora.passages import load_passages
from experiments.data.tasks import SPLITS, Example, Task, TaskKind, load_task, split_of
from experiments.errors import UserError

Rows = list[dict[str, Any]]
"""Rows of a table by column."""


def _csv(path: Path) -> Rows:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream, strict=True))


def _json_lines(path: Path) -> Rows:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a line is no JSON object")
    return rows


def _parquet(path: Path) -> Rows:
    import pyarrow.parquet as pq

    rows: Rows = pq.read_table(path).to_pylist()
    return rows


READERS: dict[str, Callable[[Path], Rows]] = {"csv": _csv, "jsonl": _json_lines, "parquet": _parquet}
"""Kinds of files."""


class Named(Protocol):
    """What names the columns of a file."""

    @property
    def text(self) -> str:
        """Column of the inputs."""

    @property
    def label(self) -> str:
        """Column of the labels, or of the answers to questions."""

    @property
    def question(self) -> str | None:
        """Column of the questions; with one, answers are parts of the text."""

    @property
    def target(self) -> str | None:
        """Column of the texts to be written."""

    @property
    def passage(self) -> int | None:
        """Characters of a passage of a corpus."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a file hold what."""

    text: str = "text"
    """Inputs."""
    label: str = "label"
    """Labels, or answers to questions."""
    question: str | None = None
    """Questions; with one, answers are parts of the text."""
    target: str | None = None
    """Texts to be written."""
    passage: int | None = None
    """Characters of a passage of a corpus."""

    def read(self) -> dict[str, str]:
        """Field of the sweep file -> column, of those that are read."""
        named = {"text": self.text}
        if self.target is not None:
            return named | {"target": self.target}
        return named | ({"question": self.question} if self.question is not None else {}) | {"label": self.label}


def columns_of(named: Named) -> Columns:
    """Take the columns that a sweep file or a run names."""
    return Columns(
        text=named.text, label=named.label, question=named.question, target=named.target, passage=named.passage
    )


def find_task(name: str, cache: Cache, columns: Columns | None = None) -> Task:
    """Load a task by its name, or from a file.

    Parameters
    ----------
    name : str
        A name of TASKS, csv:PATH, jsonl:PATH or parquet:PATH, hf:FOLDER or hf:NAME, or corpus:NAME.
    cache : Cache
        Holds the fetched corpora.
    columns : Columns, optional
        Which columns of the file hold what.

    Returns
    -------
    Task
        Without an input in two splits; its labels are all seen in training.

    Raises
    ------
    UserError
        When there is no such task, file or column, or a label is seen in test alone.
    """
    kind, colon, where = name.partition(":")
    columns = columns or Columns()
    if colon and kind == "corpus":
        task = load_passages(where, cache, columns.passage)
    elif colon and kind in READERS:
        task = _from_rows(kind, where, [(row, None) for row in _read(kind, Path(where))], columns)
    elif colon and kind == "hf":
        task = _from_rows(kind, where, labelled_rows(where), columns)
    else:
        task = load_task(name, cache)
    check_leaks(task)
    if not all(task.splits.values()):
        raise UserError(f"{name} has {sum(map(len, task.splits.values()))} inputs, too few for three splits; give more")
    if task.kind not in ("classification", "tagging"):
        return task
    seen = {label for example in task.splits["train"] for label in _labels_of(example)}
    missing = sorted({la for split in ("val", "test") for e in task.splits[split] for la in _labels_of(e)} - seen)
    if missing:
        raise UserError(
            f"label {missing[0]!r} of {name} is in no training example; give more rows of it or leave it out"
        )
    if len(task.labels) < 2:
        count = sum(map(len, task.splits.values()))
        raise UserError(f"{name} has {count} inputs with {len(task.labels)} labels; give two labels and more rows")
    return task


def _read(kind: str, path: Path) -> Rows:
    """The rows of a file."""
    if not path.is_file():
        raise UserError(f"there is no file {path}; name a {kind} file")
    try:
        return READERS[kind](path)
    except (ValueError, OSError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as {kind} ({str(error).splitlines()[0]}); fix it") from error


def _from_rows(kind: str, path: str, table: list[tuple[dict[str, Any], str | None]], columns: Columns) -> Task:
    """A task of rows, each with the split that its source puts it in, or None; `path` names them in messages."""
    for field, column in columns.read().items():
        lacks = next((number for number, (row, _) in enumerate(table, start=1) if row.get(column) is None), None)
        if lacks is not None or not table:
            there = ", ".join(map(str, table[lacks - 1 if lacks else 0][0])) if table else "no rows"
            raise UserError(f"{path} has no column {column!r} in row {lacks or 1} (it has {there}); set task.{field}")
    splits: dict[str, list[Example]] = {name: [] for name in SPLITS}
    known: dict[str, tuple[str, ...]] = {}
    tested: set[str] = set()
    for number, (row, named) in enumerate(table, start=1):
        example = _example(path, number, row, columns)
        text = " ".join(example.text.split())
        key, said = f"{text}\n{example.question}", _labels_of(example)
        if known.get(key, said) != said:
            raise UserError(
                f"{path} labels the text of row {number} {' '.join(said)!r} there and {' '.join(known[key])!r} before; "
                f"fix one"
            )
        if named == "test":
            tested.add(text)
        if key not in known:
            known[key] = said
            # all questions on a text are in one split
            splits[split_of(text, "test" if text in tested else named)].append(example)
    unique = {name: tuple(some) for name, some in splits.items()}
    every = [one for some in unique.values() for one in some]
    task_kind = _kind(path, columns, every)
    is_labelled = task_kind in ("classification", "tagging")
    labels = tuple(sorted({word for one in every for word in _labels_of(one)})) if is_labelled else ()
    return Task(name=kind, kind=task_kind, labels=labels, splits=unique)


def _kind(path: str, columns: Columns, every: list[Example]) -> TaskKind:
    """What the columns of a file ask for."""
    if columns.target is not None:
        return "generation"
    if columns.question is not None:
        return "question-answering"
    are_tagged = {one.tags is not None for one in every}
    if len(are_tagged) > 1:
        raise UserError(f"{path} has lists of tags in some rows of {columns.label!r} and labels in others; split it")
    return "tagging" if True in are_tagged else "classification"


def _labels_of(example: Example) -> tuple[str, ...]:
    """What is to be said of an example: its label, the tags of its words, its answer, or the text to be written."""
    if example.answer is not None:
        return (example.text[slice(*example.answer)],)
    if example.target is not None:
        return (example.target,)
    return example.tags if example.tags is not None else (str(example.label),)


def _example(path: str, number: int, row: dict[str, Any], columns: Columns) -> Example:
    """A row of a file: a text with its label, a question or a target; or lists of words and of their tags."""
    words = row[columns.text]
    if columns.target is not None:
        target = str(row[columns.target])
        if not target.strip():
            raise UserError(f"{path} has nothing to write in row {number} of {columns.target!r}; leave the row out")
        return Example(text=str(words), target=target)
    answer = row[columns.label]
    if columns.question is not None:
        span = _find_answer(path, number, str(words), answer)
        return Example(text=str(words), question=str(row[columns.question]), answer=span)
    if not isinstance(answer, list):
        return Example(text=str(words), label=str(answer))
    tokens = tuple(map(str, words)) if isinstance(words, list) else tuple(str(words).split())
    tags = tuple(map(str, answer))
    if len(tokens) != len(tags) or not tokens:
        raise UserError(f"{path} has {len(tokens)} words and {len(tags)} tags in row {number}; give one tag for each")
    return Example(text=" ".join(tokens), tokens=tokens, tags=tags)


def _find_answer(path: str, number: int, text: str, answer: Any) -> tuple[int, int]:
    """Where an answer stands in its text: as SQuAD says it, {text: [...], answer_start: [...]}, or its first place."""
    start: Any = None
    if isinstance(answer, dict):
        said, starts = answer.get("text"), answer.get("answer_start")
        answer = said[0] if isinstance(said, list) and said else said
        start = starts[0] if isinstance(starts, list) and starts else starts
    words = str(answer)
    place = text.find(words) if start is None else int(start)
    if not words.strip() or place < 0 or text[place : place + len(words)] != words:
        raise UserError(f"{path} has the answer {words!r} in row {number}, which is no part of its text; fix the row")
    return place, place + len(words)


def check_leaks(task: Task) -> None:
    """Refuse a task that shows one input in two splits.

    Parameters
    ----------
    task : Task
        Its splits.

    Raises
    ------
    UserError
        Naming the rows.
    """
    seen: dict[str, str] = {}
    for split in SPLITS:
        for row, example in enumerate(task.splits[split], start=1):
            key = f"{' '.join(example.text.split())}\n{example.question}"
            if seen.setdefault(key, f"{split} {row}").split()[0] != split:
                raise UserError(
                    f"row {row} of {split} is row {seen[key].split()[1]} of {seen[key].split()[0]}; drop one"
                )


def task_hash(task: Task) -> str:
    """12 hex digits of the sha256 of all inputs and labels with their splits."""
    rows = [_content(split, example) for split in SPLITS for example in task.splits[split]]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]


def _content(split: str, example: Example) -> list[Any]:
    """What of an example defines a task."""
    if example.target is not None:
        return [split, example.text, "->", example.target]
    if example.question is not None:
        return [split, example.text, example.question, example.answer]
    return [split, example.text, example.label] if example.tags is None else [split, example.tokens, example.tags]
