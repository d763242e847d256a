"""The words and rooms of the house: what the glossary retired stands nowhere, and no room is crowded."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
PACKAGES = ("models", "experiments", "analysis")


def retired() -> list[str]:
    """The retired words of the glossary's last table."""
    table = GLOSSARY.read_text(encoding="utf-8").partition("<!-- retired -->")[2].partition("<!-- /retired -->")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    return [word for word in rows if word not in ("retired", "---")]


def tracked(*patterns: str) -> list[Path]:
    """Files of this checkout that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


@pytest.mark.parametrize("word", retired())
def test_a_retired_word_stands_nowhere(word: str) -> None:
    pattern = re.compile(rf"(?<![A-Za-z\"]){re.escape(word)}(?![a-z])")  # a quoted key belongs to a file's format
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked(*PACKAGES, "tests", "docs", "isoflop.py", "README.md", "CONTRIBUTING.md")
        if path.suffix in (".py", ".md", ".yaml", ".j2") and path != GLOSSARY
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert not found


def test_what_people_read_names_the_one_command() -> None:
    old = re.compile(r"(?<!/)python -m (models|experiments|analysis) [a-z]")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked(*PACKAGES, "docs", "README.md", "CONTRIBUTING.md", "reports/*.md")
        if path.suffix in (".py", ".md", ".yaml", ".j2") and path.name != "__main__.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if old.search(line)
    ]
    assert not found


def test_a_room_holds_at_most_twelve_files() -> None:
    folders: dict[Path, int] = {}
    for path in tracked(*(f"{package}/**.py" for package in PACKAGES)):
        if path.name not in ("__init__.py", "__main__.py"):
            folders[path.parent] = folders.get(path.parent, 0) + 1
    crowded = {str(folder.relative_to(ROOT)): count for folder, count in folders.items() if count > 12}
    assert not crowded


@pytest.mark.parametrize("name", ["said", "told", "heard"])
def test_no_variable_of_the_analysis_or_the_benchmarks_is_named_by_a_verb_of_speech(name: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in tracked("analysis/**.py", "benchmarks/**.py")
        if "finetuning" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Name) and node.id == name) or (isinstance(node, ast.arg) and node.arg == name)
    ]
    assert not found
