"""Files reach the disk whole or not at all, whoever writes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from experiments.data.cache import explain_write_errors, write_json
from experiments.errors import UserError
from experiments.files import StoreError, append_rows, link_once, write_atomic

ROOT = Path(__file__).parents[2]


def test_a_written_file_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on" / "the way.txt"
    for text in ("first", "second"):
        write_atomic(path, text)
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_disk_that_refuses_is_told_with_its_remedy_and_the_old_file_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(StoreError, match=r"cannot write .*file/below: .*; choose another --out"):
        write_atomic(tmp_path / "file" / "below", "new", remedy="choose another --out")
    assert (tmp_path / "file").read_text() == "old"


def test_a_torn_last_line_is_ended_before_rows_are_added(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a"')
    append_rows(path, [{"a": 2}])
    assert path.read_text().splitlines() == ['{"a": 1}', '{"a"', '{"a": 2}']


def test_only_the_first_of_two_gives_a_file_its_name(tmp_path: Path) -> None:
    for text in ("first", "second"):
        (tmp_path / text).write_text(text)
    assert link_once(tmp_path / "first", tmp_path / "name", lock=None)
    assert not link_once(tmp_path / "second", tmp_path / "name", lock=None)
    assert (tmp_path / "name").read_text() == "first"


def test_a_cache_folder_that_cannot_be_made_is_told_with_its_remedy() -> None:
    with pytest.raises(UserError, match=r"could not write /proc/no/such/x\.json: .*; point ISOFLOP_CACHE at"):
        write_json(Path("/proc/no/such/x.json"), {})


def test_an_error_about_another_file_is_not_blamed_on_the_cache(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), explain_write_errors(tmp_path / "cache" / "x"):
        (tmp_path / "corpus.txt").read_text()


def test_no_package_has_a_second_atomic_write() -> None:
    """A rename after a write of one's own is what `write_atomic` is for."""
    other = re.compile(r"\.write_text\(|\.write_bytes\(|\.to_csv\([a-z]\w*[ ,./]|\.to_parquet\([a-z]\w*[ ,./)]")
    allowed = {
        "experiments/store/claims.py": "a claim's temporary file, which link_once names",
        "experiments/data/corpora/fetch.py": "a file for pip in a temporary folder",
        "models/huggingface/weights.py": "beside weights that another library writes",
    }
    found = {
        path.relative_to(ROOT).as_posix()
        for package in ("models", "experiments", "analysis")
        for path in (ROOT / package).rglob("*.py")
        if other.search(path.read_text())
    }
    assert found <= set(allowed)
