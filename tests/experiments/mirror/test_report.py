"""The report of a sweep as an artifact in W&B."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.mirror.files import read_offline_file
from experiments.mirror.report import find_report
from experiments.planning.planned_sweep import PlannedSweep
from tests.experiments.mirror.conftest import Study
from tests.experiments.mirror.wandb_backend import Backend


@pytest.fixture
def reported(make_study: Callable[[int], Study]) -> tuple[Study, Path]:
    """A finished run, and the folder of a report that tells its loss."""
    study = make_study(1)
    study.write(0, range(1, 4))
    record = study.publish(0)
    folder = study.store.root / "reports" / study.name
    for part in ("tables", "figures"):
        (folder / part).mkdir(parents=True)
    (folder / "report.html").write_text("<html>report</html>")
    (folder / "figures" / "isoflop.png").write_bytes(b"figure")
    (folder / "tables" / "runs.csv").write_text(f"run_id,loss\n{record.run_id},{record.outcome['loss']!r}\n")
    return study, folder


def test_the_report_and_its_figures_arrive_and_are_sent_again_only_when_they_change(
    reported: tuple[Study, Path], backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    study, folder = reported
    assert study.sync("online") == 0
    assert study.sync("online") == 0
    assert f"report {folder} is in W&B as it is here" in capsys.readouterr().out
    (artifact,) = backend.artifacts
    assert (artifact.name, artifact.type, artifact.committed) == ("study-report", "report", True)
    sent = {name: backend.uploads[path] for name, path in artifact.files.items()}
    assert sent == {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.*")}
    (folder / "report.html").write_text("<html>another</html>")
    assert study.sync("online") == 0
    assert len(backend.artifacts) == 2
    run = backend.runs["isoflop/report-study"]
    assert (run.group, run.job_type, run.state) == ("study", "report", "finished")


def test_a_report_waits_in_offline_files_as_it_was(reported: tuple[Study, Path]) -> None:
    study, folder = reported
    assert study.sync("offline") == 0
    (folder / "figures" / "isoflop.png").write_bytes(b"changed later")
    (file,) = study.store.root.glob("wandb/offline-run-*/run-report-study.wandb")
    assert list(read_offline_file(file).artifacts) == ["study-report"]
    staged = [path.read_bytes() for path in (study.store.root / "wandb" / "staging").rglob("*") if path.is_file()]
    assert b"figure" in staged


def test_a_report_of_other_losses_is_not_the_sweeps_own(reported: tuple[Study, Path]) -> None:
    study, folder = reported
    runs = PlannedSweep(study.store, study.manifest).runs()
    assert find_report(study.store, study.manifest, runs) == folder
    (folder / "tables" / "runs.csv").write_text(f"run_id,loss\n{study.ids[0]},0.44\n")
    assert find_report(study.store, study.manifest, runs) is None


def test_a_folder_without_a_report_is_refused(reported: tuple[Study, Path], tmp_path: Path) -> None:
    study, _ = reported
    with pytest.raises(UserError, match=r"holds no report\.html"):
        study.sync("offline", report=tmp_path)
