"""The table that `collect` writes."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import pytest

from experiments.archives import write_archive
from experiments.errors import UserError
from experiments.manifests import Manifest
from experiments.records import DESIGN_FIELDS, RunRecord, RunStatus
from experiments.store.store import RunStore
from experiments.verbs.records import collect

RUNS = ("0" * 12, "1" * 12)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """Two runs that were trained by different code, and labels that look like formulas."""
    store = RunStore(tmp_path)
    store.prepare()
    for number, run_id in enumerate(RUNS):
        store.publish(
            RunRecord(
                run_id=run_id,
                status=RunStatus.DONE,
                design=dict.fromkeys(sorted(DESIGN_FIELDS), 1),
                outcome={"loss": 1.0, "train_loss": -1.0},
                execution={"commit": f"{number:012x}", "semantics_version": 1 + number},
            )
        )
    labels = {run_id: {"arm": "=HYPERLINK(1)", "note": "plain"} for run_id in RUNS}
    store.write_manifest(Manifest(name="study", runs=labels))
    return store


def test_no_cell_of_a_csv_is_a_formula_and_numbers_stay_numbers(store: RunStore, tmp_path: Path) -> None:
    out = tmp_path / "runs.csv"
    assert collect.run(argparse.Namespace(sweeps=["study"], store=store.root, out=out)) == 0
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["arm"] for row in rows] == ["'=HYPERLINK(1)"] * 2
    assert [(row["note"], float(row["train_loss"])) for row in rows] == [("plain", -1.0)] * 2


def test_runs_of_several_commits_and_meanings_are_named(
    store: RunStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collect.run(argparse.Namespace(sweeps=["study"], store=store.root, out=tmp_path / "runs.csv"))
    told = capsys.readouterr().err
    assert "mixture: commit differs among the runs: 000000000000, 000000000001" in told
    assert "mixture: semantics_version differs among the runs: 1, 2" in told


def test_an_archive_is_sent_to_the_verbs_that_read_it(store: RunStore, tmp_path: Path) -> None:
    archive = tmp_path / "records.parquet"
    assert write_archive(store.sweeps / "study.json", archive) == 2
    with pytest.raises(UserError, match=r"not a sweep in a store; read it with `isoflop report .*records\.parquet`"):
        collect.run(argparse.Namespace(sweeps=[str(archive)], store=None, out=tmp_path / "runs.csv"))
