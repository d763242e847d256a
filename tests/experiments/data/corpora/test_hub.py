"""Labelled data sets of Hugging Face: folders of files and of `save_to_disk`, and sentences for what cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from experiments.__main__ import main
from experiments.data.cache import Cache
from experiments.data.corpora.task_files import Columns, find_task, task_hash
from experiments.errors import UserError
from tests.tuning import records, rows, train, write_sweep

FRESH = {"family": "encoder", "width": 16, "depth": 1, "num_heads": 2, "context": 32}
COLUMNS = Columns(text="said", label="what")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf-cache"))


@pytest.fixture
def datasets() -> Any:
    return pytest.importorskip("datasets")


def test_a_folder_of_parquet_is_the_task_that_its_file_is(datasets: Any, tmp_path: Path, cache: Cache) -> None:
    place = tmp_path / "reviews"
    place.mkdir()
    rows(200).to_parquet(place / "train.parquet")
    found = find_task(f"hf:{place}", cache, COLUMNS)
    alone = find_task(f"parquet:{place / 'train.parquet'}", cache, COLUMNS)
    assert task_hash(found) == task_hash(alone)


def test_classes_have_their_names_and_a_test_split_stays_apart(datasets: Any, tmp_path: Path, cache: Cache) -> None:
    table = rows(300).assign(what=lambda t: (t["what"] == "warm").astype(int))
    names = datasets.Features({"said": datasets.Value("string"), "what": datasets.ClassLabel(names=["cold", "warm"])})
    parts = {"train": table[:200], "test": table[200:240], "unsupervised": table[240:].assign(what=-1)}
    saved = datasets.DatasetDict(
        {
            name: datasets.Dataset.from_pandas(part.reset_index(drop=True), features=names)
            for name, part in parts.items()
        }
    )
    saved.save_to_disk(str(tmp_path / "saved"))
    task = find_task(f"hf:{tmp_path / 'saved'}", cache, COLUMNS)
    assert task.labels == ("cold", "warm")
    assert {one.text for one in task.splits["test"]} == set(table["said"][200:240])
    assert {one.text for name in ("train", "val") for one in task.splits[name]} == set(table["said"][:200])
    saved["test"] = saved["unsupervised"]  # as data sets do whose test labels are kept secret
    saved.save_to_disk(str(tmp_path / "secret"))
    task = find_task(f"hf:{tmp_path / 'secret'}", cache, COLUMNS)
    assert {one.text for some in task.splits.values() for one in some} == set(table["said"][:200])


def test_an_input_of_the_test_split_is_never_trained_on(datasets: Any, tmp_path: Path, cache: Cache) -> None:
    table = rows(200)
    for name, part in {"train": table, "test": table[:30]}.items():
        (tmp_path / "both").mkdir(exist_ok=True)
        part.to_parquet(tmp_path / "both" / f"{name}.parquet")
    task = find_task(f"hf:{tmp_path / 'both'}", cache, COLUMNS)
    assert {one.text for one in task.splits["test"]} == set(table["said"][:30])


def test_tags_of_words_have_their_names(datasets: Any, tmp_path: Path, cache: Cache) -> None:
    names = datasets.ClassLabel(names=["O", "B-PER"])
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "tags": datasets.List(names)})
    some = {"tokens": [["so", f"Ann{i}"] for i in range(60)], "tags": [[0, 1]] * 60}
    datasets.Dataset.from_dict(some, features=features).save_to_disk(str(tmp_path / "saved"))
    task = find_task(f"hf:{tmp_path / 'saved'}", cache, Columns(text="tokens", label="tags"))
    assert task.kind == "tagging"
    assert task.splits["train"][0].tags == ("O", "B-PER")


def test_a_sweep_learns_from_a_folder_beside_it(datasets: Any, tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "mine").mkdir()
    rows(400).to_parquet(tmp_path / "mine" / "data.parquet")
    path = write_sweep(
        tmp_path / "hub.yaml",
        tmp_path / "rows.csv",
        pretrained={"scratch": True, "model": FRESH},
        task={"name": "hf:mine", "text": "said", "label": "what"},
        methods=["scratch"],
        rates={"span": 0},
    )
    train(path, tmp_path / "store", cache)
    assert list(records("hub", tmp_path / "store")["task"]) == ["hf"]


@pytest.mark.parametrize(
    ("name", "columns", "sentence"),
    [
        ("nobody/nothing", COLUMNS, "could not be had"),
        ("FOLDER", Columns(text="said", label="verdict"), "has no column 'verdict' in row 1"),
        ("EMPTY", COLUMNS, "could not be had"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(
    datasets: Any, name: str, columns: Columns, sentence: str, tmp_path: Path, cache: Cache
) -> None:
    for folder in ("FOLDER", "EMPTY"):
        (tmp_path / folder).mkdir()
    rows(60).to_parquet(tmp_path / "FOLDER" / "train.parquet")
    where = str(tmp_path / name) if name.isupper() else name
    with pytest.raises(UserError, match=sentence) as caught:
        find_task(f"hf:{where}", cache, columns)
    assert len(str(caught.value).splitlines()) == 1


def test_without_the_package_the_sentence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    path = write_sweep(
        tmp_path / "hub.yaml",
        tmp_path / "rows.csv",
        pretrained={"scratch": True, "model": FRESH},
        task={"name": "hf:mine", "text": "said", "label": "what"},
        methods=["scratch"],
    )
    assert main(["plan", str(path), "--store", str(tmp_path / "store")]) == 2
    assert "pip install 'isoflop[data]'" in capsys.readouterr().err
