"""Labelled tasks made from fetched corpora.

Examples have one form per kind, no repetitions, and are split by a hash of the input.

A task never shows the same input in two of its splits, however often its source repeats it. Must not know models or
metrics.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.corpora.documents import documents
from experiments.data.corpora.places import spool_folder
from experiments.errors import UserError

TaskKind = Literal["classification", "tagging", "question-answering", "generation", "language"]
"""Kinds of labelled tasks."""
TEST_FRACTION, VAL_FRACTION = 0.2, 0.1
"""Shares of the inputs that go to test and to validation, where the source names no split of its own."""
SPLITS = ("train", "val", "test")
BASE_TAG = re.compile(r"(?:fw-)?([a-z$]+|--|[^a-z-]+)")
"""The base of a Brown tag: without the mark of foreign words, and without what follows it (-tl, -hl, +, *)."""
MAX_CONTEXT_CHARACTERS = 2000
QUESTIONS_PER_ARTICLE = 2


@dataclass(frozen=True, kw_only=True)
class Example:
    """One labelled example; fields that its kind of task has no use for are None."""

    text: str
    """The input: a text to classify or tag, the article of a question, the source of a translation or summary."""
    label: str | None = None
    """classification: the class."""
    tokens: tuple[str, ...] | None = None
    """tagging: the words."""
    tags: tuple[str, ...] | None = None
    """tagging: the tag of each word."""
    question: str | None = None
    """question answering: the question."""
    answer: tuple[int, int] | None = None
    """question answering: where in `text` the answer starts and ends, in characters."""
    target: str | None = None
    """translation and summarisation: the text to be written."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A loaded task."""

    name: str
    """Name in TASKS."""
    kind: TaskKind
    """What is asked of an input."""
    labels: tuple[str, ...]
    """Classes or tags in alphabetical order; empty for other kinds."""
    splits: dict[str, tuple[Example, ...]]
    """Examples of train, val and test."""


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """How a task is made."""

    kind: TaskKind
    """What is asked of an input."""
    corpus: str
    """The fetched corpus that it is made from; its licence holds."""
    summary: str
    """One line for people."""
    examples: Callable[[dict[str, Any]], Iterator[tuple[Example, str | None]]]
    """From one row of the corpus to examples, each with the split that the source puts it in, or None."""


def _classified(row: dict[str, Any], names: tuple[str, ...] | None = None) -> Iterator[tuple[Example, str | None]]:
    label = row["label"] if names is None else names[int(row["label"])]
    yield Example(text=row["text"], label=str(label)), None


def _topic(row: dict[str, Any], which: str) -> Iterator[tuple[Example, str | None]]:
    if row["set"] == which:
        yield Example(text=row["text"], label=row["label"]), row["part"]


def _entities(row: dict[str, Any]) -> Iterator[tuple[Example, str | None]]:
    yield Example(text=row["text"], tokens=tuple(row["tokens"]), tags=tuple(row["tags"])), None


def _parts_of_speech(row: dict[str, Any]) -> Iterator[tuple[Example, str | None]]:
    for line in row["tagged"].split("\n"):
        pairs = [pair.rsplit("/", 1) for pair in line.split() if "/" in pair]
        tags = [BASE_TAG.match(tag) for _, tag in pairs]
        words = tuple(word for word, _ in pairs)
        if words and all(tags):
            yield Example(text=" ".join(words), tokens=words, tags=tuple(tag[1] for tag in tags if tag)), None


def _cloze(row: dict[str, Any]) -> Iterator[tuple[Example, str | None]]:
    context = row["text"][:MAX_CONTEXT_CHARACTERS]
    found = []
    for word in dict.fromkeys(re.findall(r"\b[A-Z][A-Za-z]{3,}\b", row["title"])):
        place = re.search(rf"\b{word}\b", context)
        if place and len(re.findall(rf"\b{word}\b", row["title"])) == 1:
            question = re.sub(rf"\b{word}\b", "_", row["title"])
            found.append(Example(text=context, question=question, answer=place.span()))
    found.sort(key=lambda one: hashlib.sha256(str(one.question).encode()).digest())
    for example in found[:QUESTIONS_PER_ARTICLE]:
        yield example, None


def _summary(row: dict[str, Any]) -> Iterator[tuple[Example, str | None]]:
    if row["title"].strip():
        yield Example(text=row["text"], target=row["title"]), None


def _translation(row: dict[str, Any], language: str) -> Iterator[tuple[Example, str | None]]:
    if language in row:
        yield Example(text=row["text"], target=row[language]), None


def _topics(which: str, summary: str) -> TaskInfo:
    return TaskInfo(kind="classification", corpus="topics", summary=summary, examples=partial(_topic, which=which))


def _translations(language: str, name: str) -> TaskInfo:
    examples = partial(_translation, language=language)
    return TaskInfo(
        kind="generation", corpus="translations", summary=f"English to {name}, short texts", examples=examples
    )


TASKS: dict[str, TaskInfo] = {
    "sentiment": TaskInfo(
        kind="classification",
        corpus="imdb",
        summary="is a film review positive",
        examples=partial(_classified, names=("negative", "positive")),
    ),
    "question-type": TaskInfo(
        kind="classification", corpus="questions", summary="TREC-6: what a question asks for", examples=_classified
    ),
    "r8": _topics("r8", "topic of a Reuters message, 8 classes"),
    "r52": _topics("r52", "topic of a Reuters message, 52 classes"),
    "20news": _topics("20news", "newsgroup of a message, 20 classes"),
    "entities": TaskInfo(
        kind="tagging", corpus="tweets", summary="named entities in tweets, BIO, 10 types", examples=_entities
    ),
    "parts-of-speech": TaskInfo(
        kind="tagging", corpus="brown", summary="part of speech of every word, base tags", examples=_parts_of_speech
    ),
    "cloze": TaskInfo(
        kind="question-answering",
        corpus="news",
        summary="which word of the article is missing in its title",
        examples=_cloze,
    ),
    "headlines": TaskInfo(kind="generation", corpus="news", summary="title of a news article", examples=_summary),
    "translate-de": _translations("de", "German"),
    "translate-es": _translations("es", "Spanish"),
    "translate-cs": _translations("cs", "Czech"),
    "translate-tr": _translations("tr", "Turkish"),
    "translate-zh": _translations("zh", "Chinese"),
}
"""Every task by name."""


def split_of(text: str, named: str | None) -> str:
    """Find the split of an input: a pure function of its text, within what the source says.

    Test takes the lowest TEST_FRACTION of the hashes where the source names no split; validation takes VAL_FRACTION of
    what is not test, by other bits of the hash.

    Parameters
    ----------
    text : str
        The input.
    named : str or None
        The split that the source puts it in, or None.

    Returns
    -------
    str
        One of SPLITS.
    """
    value = hashlib.sha256(text.encode()).digest()
    first, second = int.from_bytes(value[:8], "big") / 2**64, int.from_bytes(value[8:16], "big") / 2**64
    if named == "test" or (named is None and first < TEST_FRACTION):
        return "test"
    return "val" if second < VAL_FRACTION else "train"


def load_task(name: str, cache: Cache) -> Task:
    """Load a task with its splits.

    Parameters
    ----------
    name : str
        Name in TASKS.
    cache : Cache
        The cache folder.

    Returns
    -------
    Task
        Every input stands in one split alone.

    Raises
    ------
    UserError
        When there is no such task, or its corpus has not been fetched.
    """
    info = TASKS.get(name)
    if info is None:
        raise UserError(f"task {name!r} is unknown; there are {', '.join(sorted(TASKS))}")
    data = DataConfig(corpus=info.corpus)
    next(documents(data, cache))  # says so where the corpus has not been fetched
    chosen: dict[str, tuple[str, list[Example]]] = {}
    with (spool_folder(data, cache) / "documents.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            for example, named in info.examples(json.loads(line)):
                key = " ".join(example.text.split())
                split, kept = chosen.setdefault(key, (split_of(key, named), []))
                if named == "test" and split != "test":
                    chosen[key] = ("test", kept)
                if all(one.question != example.question for one in kept):
                    kept.append(example)
    splits = {
        name: tuple(example for split, kept in chosen.values() if split == name for example in kept) for name in SPLITS
    }
    return Task(name=name, kind=info.kind, labels=_labels(splits), splits=splits)


def training_texts(task: Task) -> list[str]:
    """All texts of a task's training split: inputs, questions, and texts to be written.

    Parameters
    ----------
    task : Task
        Its splits.
    """
    examples = task.splits["train"]
    return [text for one in examples for text in (one.text, one.question, one.target) if text]


def _labels(splits: dict[str, tuple[Example, ...]]) -> tuple[str, ...]:
    found: set[str] = set()
    for examples in splits.values():
        for example in examples:
            found.update(example.tags or (() if example.label is None else (example.label,)))
    return tuple(sorted(found))
