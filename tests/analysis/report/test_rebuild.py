"""Reports made again: from an archive they equal those from the store, and a changed number is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import isoflop
from experiments.archives import write_archive
from tests.analysis.report.test_page import FEW, write_store

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = sorted(path.parent for path in (ROOT / "reports").glob("*/records.parquet"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report made from the archive beside it, and one made from the store, in `store`."""
    root = tmp_path_factory.mktemp("root")
    manifest = write_store(root)
    out = root / "study"
    options = ["--bootstrap", "40", *FEW]
    assert isoflop.main(["report", str(manifest), "--out", str(root / "store"), *options]) == 0
    write_archive(manifest, out / "records.parquet")
    assert isoflop.main(["report", str(out / "records.parquet"), "--out", str(out), *options]) == 0
    return out


def test_tables_from_an_archive_equal_those_from_the_store(folder: Path) -> None:
    store = folder.parent / "store"
    for path in sorted((store / "tables").iterdir()):
        assert path.read_bytes() == (folder / "tables" / path.name).read_bytes(), path.name
    for name in ("heldout.json", "fit.json"):
        assert (store / name).read_bytes() == (folder / name).read_bytes()
    assert "None: the table has no run store" not in (folder / "report.html").read_text(encoding="utf-8")


def test_a_report_made_again_is_the_same_and_a_changed_number_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isoflop.main(["rebuild", str(folder), "--check"]) == 0
    assert "equal byte for byte" in capsys.readouterr().out
    table = folder / "tables" / "parameters.csv"
    before = table.read_text(encoding="utf-8")
    number = next(cell for cell in before.split(",") if cell.replace(".", "", 1).isdigit() and "." in cell)
    table.write_text(before.replace(number, str(float(number) * 1.01), 1), encoding="utf-8")
    assert isoflop.main(["rebuild", str(folder), "--check"]) == 1
    assert "tables/parameters.csv: value" in capsys.readouterr().out
    assert isoflop.main(["rebuild", str(folder)]) == 0
    assert table.read_text(encoding="utf-8") == before


def test_what_cannot_be_made_again_is_refused_with_the_remedy(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isoflop.main(["rebuild", str(tmp_path)]) == 2
    assert "holds no provenance.json" in capsys.readouterr().err
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(folder / "provenance.json", copy)
    assert isoflop.main(["rebuild", str(copy)]) == 2
    assert "is not beside it" in capsys.readouterr().err


@pytest.mark.parametrize("report", COMMITTED, ids=[path.name for path in COMMITTED])
def test_committed_reports_are_those_of_their_records(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert isoflop.main(["rebuild", str(report), "--check"]) == 0, capsys.readouterr().out
