"""The one door: every verb is behind it, its names are those of the packages, and opening it imports no library."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import isoflop
from experiments.config.reference import find_fields

VERBS = [
    (package, verb)
    for package in ("models", "experiments", "analysis")
    for verb in importlib.import_module(f"{package}.__main__").VERBS
]


@pytest.mark.parametrize(("package", "verb"), VERBS, ids=lambda word: str(word))
def test_every_verb_of_a_package_is_a_verb_of_isoflop_with_the_same_options(
    package: str, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    helps = []
    for main in (isoflop.main, importlib.import_module(f"{package}.__main__").main):
        with pytest.raises(SystemExit) as end:
            main([verb, "--help"])
        assert end.value.code == 0
        helps.append(capsys.readouterr().out)
    options = [sorted(word for word in text.split() if word.startswith("--")) for text in helps]
    assert options[0] == options[1]


def test_the_help_lists_every_verb_once_under_what_people_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        isoflop.main(["--help"])
    assert end.value.code == 0
    listed = [
        line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ") and line.split()
    ]
    for _, verb in VERBS:
        assert listed.count(verb) == 1


def test_importing_isoflop_imports_no_library() -> None:
    code = (
        "import sys; import isoflop; "
        "print(sorted({'torch', 'lightning', 'numpy', 'pandas', 'scipy', 'matplotlib', 'yaml'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.strip() == "[]"


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(AttributeError, match="fit_law"):
        isoflop.fit_lew  # noqa: B018


def test_ctrl_c_ends_a_verb_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module("analysis.verbs.reporting.laws")

    def interrupted(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run", interrupted)
    assert isoflop.main(["laws"]) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_misspelt_option_is_named_and_no_field_of_a_sweep_file_is_taken_for_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert isoflop.main(["run", "missing.yaml", "--devce", "cpu"]) == 2
    assert capsys.readouterr().err == "error: unknown option --devce; did you mean --device?\n"
    fields = {note.path for tuning in (False, True) for note in find_fields("", tuning=tuning) if "." not in note.path}
    for field in fields:
        for verb in ("run", "plan", "profile"):
            assert isoflop.main([verb, "missing.yaml", f"--{field}=1"]) == 2
            assert "unknown option" not in capsys.readouterr().err, field
