"""Reports made again: from an archive they equal those from the store, and a changed number is found."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import isoflop
from analysis.catalogue.gallery import gallery
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


def test_pages_are_replaced_where_they_are_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = folder / "report.html"
    before = page.read_text(encoding="utf-8")
    page.write_text("an older page", encoding="utf-8")
    assert isoflop.main(["rebuild", str(folder)]) == 0
    assert page.read_text(encoding="utf-8") == "an older page"
    assert isoflop.main(["rebuild", str(folder), "--pages"]) == 0
    assert page.read_text(encoding="utf-8") == before
    assert isoflop.main(["rebuild", str(folder), "--pages", "--check"]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_predictions_of_a_weighted_set_are_made_again_as_they_were(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(folder / "records.parquet", tmp_path)
    words = ["--out", str(tmp_path), "--bootstrap", "20", "--simulations", "0", "--no-figures", "--law", "auto"]
    assert isoflop.main(["report", str(tmp_path / "records.parquet"), *words]) == 0
    assert (tmp_path / "auto.json").exists()
    assert isoflop.main(["rebuild", str(tmp_path), "--check"]) == 0
    assert "equal byte for byte" in capsys.readouterr().out


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


def test_several_reports_are_made_at_a_time_and_said_in_order(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copies = [shutil.copytree(folder, tmp_path / name) for name in ("b", "a")]
    assert isoflop.main(["rebuild", *map(str, copies), "--jobs", "2", "--check"]) == 0
    said = capfd.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == list(map(str, copies))
    assert isoflop.main(["rebuild", str(folder), "--jobs", "0"]) == 2
    assert "--jobs is 0; use 1 or more" in capfd.readouterr().err
    (copies[1] / "records.parquet").unlink()
    assert isoflop.main(["rebuild", *map(str, copies), "--jobs", "2", "--check"]) == 2
    assert "is not beside it" in capfd.readouterr().err


WITHOUT_TORCH = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "lightning", "wandb"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())  # as where they are not installed: SciPy looks for torch among the loaded modules
import isoflop
sys.exit(isoflop.main(sys.argv[1:]))
"""
"""A process in which torch cannot be imported."""


@pytest.mark.parametrize("report", COMMITTED, ids=[path.name for path in COMMITTED])
def test_committed_reports_are_those_of_their_records_and_need_no_torch(report: Path) -> None:
    words = [sys.executable, "-c", WITHOUT_TORCH, "rebuild", report.as_posix(), "--check"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_page_with_its_figures_needs_no_torch_either(folder: Path, tmp_path: Path) -> None:
    report = ["report", str(folder / "records.parquet"), "--out", str(tmp_path), "--bootstrap", "20", *FEW]
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *report], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").exists()
    blocked = [sys.executable, "-c", WITHOUT_TORCH.replace("import isoflop", "import torch"), "laws"]
    assert subprocess.run(blocked, cwd=ROOT, capture_output=True, check=False).returncode != 0


def test_the_gallery_shows_every_report_that_it_is_given_and_its_links_lead_somewhere(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = folder.parent / "index.html"
    assert isoflop.main(["rebuild", str(folder), "--index", str(index)]) == 0
    page = index.read_text(encoding="utf-8")
    links = re.findall(r'(?:href|src|srcset)="([^"]+)"', page)
    assert len(links) == 4
    assert all((index.parent / link).exists() for link in links)
    assert "Tiny &lt;sweep&gt; &amp; co" in page
    assert "What did we learn" not in page
    assert isoflop.main(["rebuild", str(folder), "--index", str(index), "--check"]) == 0
    index.write_text(page.replace("Tiny", "Huge"), encoding="utf-8")
    assert isoflop.main(["rebuild", str(folder), "--index", str(index), "--check"]) == 1
    (folder / "summary.json").rename(tmp_path / "summary.json")
    assert isoflop.main(["rebuild", str(folder), "--index", str(index), "--check"]) == 2
    assert "holds no summary.json" in capsys.readouterr().err
    (tmp_path / "summary.json").rename(folder / "summary.json")


def test_a_gallery_is_made_of_reports_as_they_are_without_their_records(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, index = tmp_path / "copy", tmp_path / "index.html"
    shutil.copytree(folder, copy)
    (copy / "records.parquet").unlink()
    words = ["rebuild", str(copy), "--index", str(index), "--only-index"]
    assert isoflop.main([*words, "--check"]) == 1
    assert not index.exists()
    assert isoflop.main(words) == 0
    assert isoflop.main([*words, "--check"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{index}: {how}" for how in ("differs", "written", "equal byte for byte")
    ]
    assert isoflop.main(["rebuild", str(copy), "--only-index"]) == 2
    assert "name its file with --index" in capsys.readouterr().err


def test_the_committed_gallery_is_that_of_the_reports() -> None:
    studies = re.search(r"^STUDIES := \$\(addprefix reports/,(.*)\)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert studies is not None
    names = studies.group(1).split()
    assert {*names, "muon"} == {path.name for path in COMMITTED}, "one size and budget: tables without a page"
    index = ROOT / "reports" / "index.html"
    folders = [ROOT / "reports" / name for name in names]
    assert index.read_text(encoding="utf-8") == gallery(folders, index)
