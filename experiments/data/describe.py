"""What there is to know about a corpus before anything is trained on it.

Size, split, tokens, compressibility and blemishes.
"""

from __future__ import annotations

import lzma
from collections import Counter
from typing import Any

from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.corpus import TokenCorpus, prepare
from experiments.data.registry import CORPORA
from experiments.data.split import split_documents
from experiments.data.tasks import TASKS, load_task

XZ_BYTES = 5_000_000
"""The yardstick compresses this many bytes at most, the first ones."""


def describe(data: DataConfig, cache: Cache) -> dict[str, Any]:
    """Collect the facts about a corpus; its tokens are built where they are not there yet.

    Parameters
    ----------
    data : DataConfig
        Corpus, tokenizer and context.
    cache : Cache
        The cache folder.

    Returns
    -------
    dict of str to object
        Plain JSON values: corpus, summary, licence, source, content_hash, tokenizer, vocab_size, documents (train,
        held_out, validation), train_tokens and validation_tokens. For text also bytes, bytes_per_token,
        xz_bits_per_byte (`xz -6` on the first 5 MB), duplicate_documents and documents_with_replacement_character; for
        a language entropy_rate in nats per scored token.
    """
    corpus = prepare(data, cache)
    info = data.info
    facts: dict[str, Any] = {
        "corpus": data.corpus,
        "summary": info.summary,
        "licence": info.licence,
        "source": info.source,
        "content_hash": corpus.data.content_hash,
        "tokenizer": None if data.is_language else data.tokenizer,
        "vocab_size": corpus.vocab_size,
        "documents": corpus.documents,
        "train_tokens": corpus.num_train_tokens,
        "validation_tokens": corpus.num_val_tokens,
    }
    return facts | (_text_facts(corpus, cache) if corpus.language is None else _language_facts(corpus))


def describe_task(name: str, cache: Cache) -> dict[str, Any]:
    """Collect the facts about a labelled task.

    Parameters
    ----------
    name : str
        Name in TASKS.
    cache : Cache
        The cache folder.

    Returns
    -------
    dict of str to object
        Plain JSON values: task, kind, summary, corpus, licence, examples by split, num_labels. For classification also
        majority_fraction, the accuracy on test of always answering with the commonest class of train.
    """
    task, info = load_task(name, cache), TASKS[name]
    facts: dict[str, Any] = {
        "task": name,
        "kind": task.kind,
        "summary": info.summary,
        "corpus": info.corpus,
        "licence": CORPORA[info.corpus].licence,
        "examples": {split: len(examples) for split, examples in task.splits.items()},
        "num_labels": len(task.labels),
    }
    if task.kind == "classification" and task.splits["train"] and task.splits["test"]:
        commonest = Counter(example.label for example in task.splits["train"]).most_common(1)[0][0]
        hits = sum(example.label == commonest for example in task.splits["test"])
        facts["majority_fraction"] = hits / len(task.splits["test"])
    return facts


def _language_facts(corpus: TokenCorpus) -> dict[str, Any]:
    assert corpus.language is not None
    sums, counts = corpus.source_val_sums()
    return {
        "options": corpus.data.options,
        "entropy_rate": corpus.language.entropy_rate,
        "source_validation_loss": float(sums.sum() / counts.sum()),
    }


def _text_facts(corpus: TokenCorpus, cache: Cache) -> dict[str, Any]:
    seen: set[bytes] = set()
    num_documents = num_bytes = num_broken = 0
    sample = bytearray()
    for document, document_hash, _ in split_documents(corpus.data, cache):
        num_documents += 1
        num_bytes += len(document)
        num_broken += "\ufffd".encode() in document
        seen.add(document_hash)
        if len(sample) < XZ_BYTES:
            sample += document[: XZ_BYTES - len(sample)]
    return {
        "bytes": num_bytes,
        "bytes_per_token": corpus.bytes_per_token,
        "validation_bytes": corpus.num_val_bytes,
        "xz_bits_per_byte": 8 * len(lzma.compress(bytes(sample), preset=6)) / len(sample),
        "duplicate_documents": num_documents - len(seen),
        "documents_with_replacement_character": num_broken,
    }
