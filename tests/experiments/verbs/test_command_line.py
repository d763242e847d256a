"""What the command line imports, and what it says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from experiments.formatting import duration

Verb = Callable[..., subprocess.CompletedProcess[str]]
HEAVY = ("torch", "lightning", "pandas", "numpy", "wandb", "matplotlib", "scipy")


def imported(*words: object) -> tuple[set[str], str]:
    """Heavy packages that a verb imports, and its output."""
    code = (
        "import sys; from experiments.__main__ import main; status = main(sys.argv[1:]); "
        f"print('|', status, [name for name in {HEAVY} if name in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True, timeout=60
    )
    body, _, last = told.stdout.rpartition("|")
    assert last.strip().startswith("0"), told.stdout + told.stderr
    return {name for name in HEAVY if f"'{name}'" in last}, body


def test_plan_imports_nothing_heavy_and_writes_nothing(sweep_text: str, tmp_path: Path) -> None:
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(sweep_text)
    heavy, text = imported("plan", sweep, "--store", tmp_path)
    assert heavy == set()
    assert "4 runs" in text
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_planning_data_without_a_sweep_in_the_store_says_what_to_do(run_verb: Verb, tmp_path: Path) -> None:
    told = run_verb("status", "nothing", "--store", tmp_path)
    assert told.returncode == 2
    assert "isoflop run" in told.stderr


def test_an_unknown_option_of_a_verb_is_refused(run_verb: Verb) -> None:
    told = run_verb("status", "x", "--jsn")
    assert told.returncode == 2
    assert "--jsn" in told.stderr


def test_durations_print_as_people_write_them() -> None:
    assert [duration(seconds) for seconds in (4.4, 200, 7500, 273600)] == ["4s", "3m 20s", "2h 05m", "3d 04h"]
