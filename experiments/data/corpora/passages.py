"""Passages of a corpus of text, to go on with pre-training on it: what a language model is tuned to predict.

A document lies in one split as a whole, and a passage that occurs twice is kept once. It must not know models.
"""

from __future__ import annotations

from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.corpora.documents import documents
from experiments.data.tasks import SPLITS, Example, Task, split_of
from experiments.errors import UserError

PASSAGE_CHARACTERS = 256
"""Characters of a passage where the sweep does not say."""


def load_passages(corpus: str, cache: Cache, size: int | None = None) -> Task:
    """Cut the documents of a corpus into passages.

    Parameters
    ----------
    corpus : str
        As `data.corpus` of a sweep names it.
    cache : Cache
        Holds fetched corpora.
    size : int, optional
        Characters of a passage; PASSAGE_CHARACTERS by default. What is left of a document at its end is shorter.

    Returns
    -------
    Task
        Of the kind language: examples have a text alone.

    Raises
    ------
    UserError
        When the corpus is not there, or is no text.
    """
    length = size or PASSAGE_CHARACTERS
    data = DataConfig(corpus=corpus)
    if data.is_language:
        raise UserError(f"corpus {corpus!r} has tokens and no text; name a corpus of text, such as shakespeare")
    splits: dict[str, list[Example]] = {name: [] for name in SPLITS}
    seen: set[str] = set()
    for document in documents(data, cache):
        text = document.decode("utf-8", errors="replace")
        split = split_of(text, None)
        for begin in range(0, len(text), length):
            passage = text[begin : begin + length]
            key = " ".join(passage.split())
            if key and key not in seen:
                seen.add(key)
                splits[split].append(Example(text=passage))
    found = {name: tuple(some) for name, some in splits.items()}
    return Task(name="corpus", kind="language", labels=(), splits=found)
