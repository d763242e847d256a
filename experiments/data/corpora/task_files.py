"""Tasks from a user's own table: csv, JSON lines or Parquet with a text and a label column.

Lists in the label column are tags of words.

Inputs are deduplicated before they are split, and a split is a hash of the input. It must not know models. Planning
imports this file, so that it reads without pandas; pyarrow is imported by the one reader that needs it.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.data.cache import Cache
from experiments.data.tasks import SPLITS, Example, Task, load_task, split_of
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


def find_task(name: str, cache: Cache, *, text: str = "text", label: str = "label") -> Task:
    """Load a task by its name, or from a file.

    Parameters
    ----------
    name : str
        A name of TASKS, or csv:PATH, jsonl:PATH or parquet:PATH.
    cache : Cache
        Holds the fetched corpora.
    text : str
        Column of the file that holds the text.
    label : str
        Column of the file that holds the label.

    Returns
    -------
    Task
        Without an input in two splits; its labels are all seen in training.

    Raises
    ------
    UserError
        When there is no such task, file or column, the task is of another kind, or a label is seen in test alone.
    """
    kind, colon, where = name.partition(":")
    task = _from_file(kind, Path(where), text, label) if colon and kind in READERS else load_task(name, cache)
    if task.kind not in ("classification", "tagging"):
        raise UserError(f"task {name!r} is of the kind {task.kind}; name one such as sentiment or entities")
    check_leaks(task)
    seen = {label for example in task.splits["train"] for label in _labels_of(example)}
    missing = sorted({la for split in ("val", "test") for e in task.splits[split] for la in _labels_of(e)} - seen)
    if missing:
        raise UserError(
            f"label {missing[0]!r} of {name} is in no training example; give more rows of it or leave it out"
        )
    if len(task.labels) < 2 or not all(task.splits.values()):
        count = sum(map(len, task.splits.values()))
        raise UserError(f"{name} has {count} inputs with {len(task.labels)} labels; give two labels and more rows")
    return task


def _from_file(kind: str, path: Path, text: str, label: str) -> Task:
    if not path.is_file():
        raise UserError(f"there is no file {path}; name a {kind} file")
    try:
        table = READERS[kind](path)
    except (ValueError, OSError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as {kind} ({str(error).splitlines()[0]}); mend it") from error
    for field, column in (("text", text), ("label", label)):
        lacks = next((number for number, row in enumerate(table, start=1) if row.get(column) is None), None)
        if lacks is not None or not table:
            there = ", ".join(map(str, table[lacks - 1 if lacks else 0])) if table else "no rows"
            raise UserError(f"{path} has no column {column!r} in row {lacks or 1} (it has {there}); set task.{field}")
    splits: dict[str, list[Example]] = {name: [] for name in SPLITS}
    known: dict[str, tuple[str, ...]] = {}
    for number, row in enumerate(table, start=1):
        example = _example(path, number, row[text], row[label])
        key, said = " ".join(example.text.split()), _labels_of(example)
        if known.get(key, said) != said:
            raise UserError(
                f"{path} labels the text of row {number} {' '.join(said)!r} there and {' '.join(known[key])!r} before; "
                f"mend one"
            )
        if key not in known:
            known[key] = said
            splits[split_of(key, None)].append(example)
    unique = {name: tuple(some) for name, some in splits.items()}
    every = [one for some in unique.values() for one in some]
    labels = tuple(sorted({word for one in every for word in _labels_of(one)}))
    are_tagged = {one.tags is not None for one in every}
    if len(are_tagged) > 1:
        raise UserError(f"{path} has lists of tags in some rows of {label!r} and labels in others; split the file")
    return Task(name=kind, kind="tagging" if True in are_tagged else "classification", labels=labels, splits=unique)


def _labels_of(example: Example) -> tuple[str, ...]:
    """The label of a text, or the tags of its words."""
    return example.tags if example.tags is not None else (str(example.label),)


def _example(path: Path, number: int, words: Any, answer: Any) -> Example:
    """A row of a file: lists of words and of their tags, or a text with its label."""
    if not isinstance(answer, list):
        return Example(text=str(words), label=str(answer))
    tokens = tuple(map(str, words)) if isinstance(words, list) else tuple(str(words).split())
    tags = tuple(map(str, answer))
    if len(tokens) != len(tags) or not tokens:
        raise UserError(f"{path} has {len(tokens)} words and {len(tags)} tags in row {number}; give one tag for each")
    return Example(text=" ".join(tokens), tokens=tokens, tags=tags)


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
    rows = [
        [split, e.text, e.label] if e.tags is None else [split, e.tokens, e.tags]
        for split in SPLITS
        for e in task.splits[split]
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]
