"""The mirror offline, by the real client: files read back equal the local records."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.mirror.files import read_offline_file
from experiments.mirror.holdings import OfflineHoldings
from tests.experiments.mirror.conftest import Study
from tests.experiments.mirror.test_online import assert_equal_to_records, own_columns, stored
from tests.experiments.mirror.wandb_backend import Backend


def inspected(file: Path) -> list[dict[str, Any]]:
    """History rows of a file, by wandb's own reader."""
    words = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    lines = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60).stdout.splitlines()
    return [record["history"]["item"] for record in map(json.loads, lines) if record["type"] == "history"]


def files_of(study: Study, index: int) -> list[Path]:
    """Offline files of a run, oldest first."""
    return sorted((study.store.root / "wandb").glob(f"offline-run-*/run-{study.ids[index]}.wandb"))


def rows_in(study: Study, index: int) -> list[dict[str, Any]]:
    """Rows in all offline files of a run."""
    return own_columns(row for file in files_of(study, index) for row in read_offline_file(file).rows)


def test_offline_files_equal_the_records_though_the_mirror_was_torn_off(make_study: Callable[[int], Study]) -> None:
    study = make_study(1)
    study.write(0, range(1, 400))
    assert study.sync("offline") == 0
    (file,) = files_of(study, 0)
    whole = list(read_offline_file(file).rows)
    assert whole == inspected(file)
    assert len(file.read_bytes()) > 2 * 32768  # rows lie across the blocks of the file
    file.write_bytes(file.read_bytes()[:100_000])
    kept = list(read_offline_file(file).rows)
    assert kept == inspected(file) == whole[: len(kept)]
    assert 100 < len(kept) < 399
    study.write(0, range(400, 410))
    study.publish(0)
    assert study.sync("offline") == 0
    assert study.sync("offline") == 0
    assert len(files_of(study, 0)) == 2
    assert rows_in(study, 0) == own_columns(study.store.read_metrics(study.ids[0]))
    held = OfflineHoldings(study.store.root).look(study.ids)[study.ids[0]]
    assert (held.num_rows, held.state) == (409, "finished")
    assert "study" in held.tags


def test_files_of_two_sittings_become_one_run_by_wandbs_own_sync(
    make_study: Callable[[int], Study], backend: Backend
) -> None:
    study = make_study(1)
    study.write(0, range(1, 6))
    assert study.sync("offline") == 0
    study.write(0, range(6, 9))
    study.publish(0)
    assert study.sync("offline") == 0
    folders = [str(file.parent) for file in files_of(study, 0)]
    assert len(folders) == 2
    words = [sys.executable, "-m", "wandb", "sync", "--yes", *folders]
    subprocess.run(words, capture_output=True, check=True, timeout=60)
    assert_equal_to_records(backend, study)
    run = stored(backend, study.ids[0])
    assert (run.group, run.state, run.x_axes["*"]) == ("study", "finished", "tokens")
    assert run.summary["loss"] == 0.45
    assert study.sync("online") == 0
    assert_equal_to_records(backend, study)


def test_a_mirror_with_a_folder_of_its_own_only_reads_the_store(
    make_study: Callable[[int], Study], tmp_path: Path
) -> None:
    study = make_study(2)
    study.write(0, range(1, 6))
    study.publish(0)
    study.write(1, range(1, 4))
    before = tree(study.store.root)
    words = study.command("--folder", tmp_path / "mine", "--seconds", 0.1)
    told = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 0, told.stderr
    assert "8 rows sent, 1 of 2 runs complete" in told.stdout
    assert tree(study.store.root) == before
    assert OfflineHoldings(tmp_path / "mine").look(study.ids)[study.ids[0]].num_rows == 5


def tree(folder: Path) -> dict[str, str]:
    """Hash of every file by its path, and every folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


def test_a_missing_login_is_told_with_the_remedy(
    make_study: Callable[[int], Study], backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(1)
    monkeypatch.delenv("WANDB_API_KEY")
    words = study.command("--mode", "online", "--patience", 5)
    told = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 2
    assert "run `wandb login`" in told.stderr


def test_training_never_imports_wandb() -> None:
    words = "import sys; import experiments.execution.worker; print('wandb' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True, timeout=120)
    assert told.stdout.strip() == "False"
