"""Archives of a sweep: what is written is read back, and what cannot be right is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import isoflop
from experiments.archives import archive_curves, is_archive, read_archive, read_curve, write_archive
from experiments.errors import UserError
from experiments.manifests import read_manifest, read_records
from experiments.records import RecordError
from tests.analysis.report.test_page import write_store


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep with its store."""
    return write_store(tmp_path_factory.mktemp("store"))


def test_an_archive_holds_every_record_label_and_curve(manifest: Path, tmp_path: Path) -> None:
    file = tmp_path / "records.parquet"
    number = write_archive(manifest, file)
    archive, curves = read_archive(file), archive_curves(file)
    assert is_archive(file)
    assert number == len(archive.records)
    assert archive.labelled() == list(read_records(manifest))
    assert archive.manifest.report == read_manifest(manifest).report
    for record in archive.records:
        metrics = manifest.parent.parent / "runs" / record.run_id / "metrics.jsonl"
        assert curves[record.run_id] == read_curve(metrics)
        assert len(curves[record.run_id]["tokens"]) > 1


def test_a_last_line_that_was_cut_off_is_left_out_and_another_is_named(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    good = json.dumps({"tokens": 10, "train_loss": 2.0})
    file.write_text(f'{good}\n{{"tok', encoding="utf-8")
    assert read_curve(file) == {"tokens": [10.0], "train_loss": [2.0]}
    file.write_text(f'{{"tok\n{good}\n', encoding="utf-8")
    with pytest.raises(UserError, match="line 1 is not JSON"):
        read_curve(file)


def test_the_verb_says_the_next_command_and_refuses_other_files(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study" / "records.parquet"
    assert isoflop.main(["archive", str(manifest), "--out", str(out)]) == 0
    assert f"next: isoflop report {out} --out {out.parent}" in capsys.readouterr().out
    assert isoflop.main(["archive", str(manifest), "--out", str(tmp_path / "records.csv")]) == 2
    assert "ends in .parquet" in capsys.readouterr().err


def test_a_plain_table_is_no_archive_and_a_damaged_record_is_named(manifest: Path, tmp_path: Path) -> None:
    plain = tmp_path / "runs.parquet"
    pd.DataFrame({"run_id": ["a"]}).to_parquet(plain)
    assert not is_archive(plain)
    plain.write_bytes(b"PAR1 and nothing else")
    assert not is_archive(plain)
    file = tmp_path / "records.parquet"
    write_archive(manifest, file)
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    broken = table.set_column(1, "record", [["{}"] * len(table)])
    pq.write_table(broken, file)
    with pytest.raises(RecordError, match=r"records\.parquet, run .* is not a run record"):
        read_archive(file)
