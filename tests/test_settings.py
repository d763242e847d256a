"""No setting is dropped without a word: each is refused, with what to write instead, or obeyed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import isoflop

SWEEP = """
name: tiny
data: {corpus: markov, corpus_options: {num_symbols: 8, num_tokens: 65536}, context: 32, val_size: 4096}
design: {kind: ladder, tokens: [12800, 25600], shapes: [{width: 8, depth: 1}, {width: 16, depth: 1}], head_width: 8}
recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 2560}
"""
ISOFLOP = """
name: tiny
data: {corpus: markov, corpus_options: {num_symbols: 8, num_tokens: 65536}, context: 32, val_size: 4096}
design: {kind: isoflop, budgets: [5.0e+8], shapes: [{width: 8, depth: 1}, {width: 16, depth: 1}], head_width: 8}
recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 2560}
"""
DROPPED = [
    (SWEEP, "learning_rate: 0.01", "learning_rate: 0", "recipe.learning_rate is 0"),
    (SWEEP, "batch_tokens: 256", "batch_tokens: 0", "recipe.batch_tokens is 0"),
    (SWEEP, "batch_tokens: 256", "batch_tokens: -64", "recipe.batch_tokens is -64"),
    (SWEEP, "batch_tokens: 256", "batch_tokens: 16", "less than one sequence of context 32"),
    (SWEEP, "head_width: 8", "head_width: -16", "design.head_width is -16"),
    (SWEEP, "head_width: 8", "head_width: 8, heldout_budgets: [1.0e+9]", "heldout_budgets has no meaning in a ladder"),
    (SWEEP, "head_width: 8", "head_width: 8, ratio_range: [5, 50]", "ratio_range has no meaning in a ladder"),
    (SWEEP, "head_width: 8", "head_width: 8, budgets: [1.0e+9]", "budgets has no meaning in a ladder"),
    (ISOFLOP, "head_width: 8", "head_width: 8, heldout_budgets: [5.0e+8]", "stands in design.budgets and in"),
    (ISOFLOP, "head_width: 8", "head_width: 8, tokens: [12800]", "tokens has no meaning in an isoflop design"),
    (ISOFLOP, "head_width: 8", "head_width: 8, heldout_shapes: [{width: 8, depth: 1}]", "needs design.heldout_budgets"),
    (SWEEP, "name: tiny\n", "name: tiny\nname: other\n", "name"),
    (SWEEP, "warmup_tokens: 2560", "warmup_tokens: 2560, warmup_tokens: 0", "warmup_tokens"),
    (SWEEP, SWEEP.splitlines()[2] + "\n", "", "data is missing"),
    (SWEEP, "corpus: markov, corpus_options: {num_symbols: 8, num_tokens: 65536}, ", "", "data.corpus is missing"),
    (SWEEP, "name: tiny", "name: tiny\nreplicates: [{seeds: [1], width: 12, depth: 1, budget: 12800}]", "no run of"),
    (SWEEP, "name: tiny", "name: tiny\nreplicates: [{seeds: [1], width: 8, depth: 1, budget: 51200}]", "no run of"),
    (SWEEP, "name: tiny", "name: tiny\nreplicates: [{seeds: [0], width: 8, depth: 1, budget: 12800}]", "own seeds"),
    (ISOFLOP, "name: tiny", "name: tiny\nreplicates: [{seeds: [1], width: 8, depth: 1, budget: 6e+8}]", "no run of"),
    (SWEEP, "learning_rate: 0.01", "learning_rate: 0.01, rate_scale: 2", "rate_scale would do nothing"),
    (SWEEP, "batch_tokens: 256", "batch_tokens: 256, batch_scale: 2", "batch_scale would do nothing"),
    (SWEEP, "name: tiny", "name: tiny\nreport: {law: chinchila}", "report.law is 'chinchila'"),
    (SWEEP, "name: tiny", "name: tiny\nreport: {holdout: 'flop > 1e9'}", "did you mean flops?"),
    (SWEEP, "name: tiny", "name: tiny\nreport: {holdout: 'tokens > '}", "cannot be read"),
]


@pytest.mark.parametrize(("sweep", "old", "new", "told"), DROPPED, ids=[case[2][-60:] or case[3] for case in DROPPED])
def test_a_setting_that_would_be_dropped_is_refused_by_plan(
    sweep: str, old: str, new: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in sweep
    file = tmp_path / "tiny.yaml"
    file.write_text(sweep.replace(old, new, 1))
    assert isoflop.main(["plan", str(file), "--store", str(tmp_path), "--device", "cpu"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("sweep", [SWEEP, ISOFLOP])
def test_what_the_spoilt_sweeps_came_from_is_planned(sweep: str, tmp_path: Path) -> None:
    budget = "12800" if sweep is SWEEP else "5.0e+8"
    file = tmp_path / "tiny.yaml"
    more = "report: {law: chinchilla, holdout: \"role == 'fit' and tokens > 20000\"}\n"
    file.write_text(f"{sweep}{more}replicates: [{{seeds: [1, 2], width: 8, depth: 1, budget: {budget}}}]\n")
    assert isoflop.main(["plan", str(file), "--store", str(tmp_path), "--device", "cpu"]) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "fit.json", "--at", "params=1e9,tokens=2e10", "--at", "params=1e10,tokens=2e10"],
        ["fit", "runs.csv", "--law", "hoffmann", "--law", "kaplan"],
        ["fit", "runs.csv", "--law", "hoffmann", "--columns", "params=N", "--columns", "loss=L"],
        ["plan", "tiny.yaml", "--design.tokens=[12800]", "--design.tokens=[25600]"],
    ],
    ids=" ".join,
)
def test_an_option_that_is_given_twice_is_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(SWEEP)
    try:
        status = isoflop.main(words)
    except SystemExit as end:
        status = int(str(end.code))
    assert status == 2
    assert "given twice" in capsys.readouterr().err


def test_a_misspelt_column_is_refused_and_a_column_of_the_users_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "runs.csv"
    lines = [
        f"{n:g},{d:g},{1.7 + 400 / n**0.34 + 410 / d**0.28:.5f},{n / 1e6:g}"
        for n in (1e6, 3e6, 1e7, 3e7)
        for d in (2e7, 1e8, 5e8)
    ]
    table.write_text("params,tokens,loss,millions\n" + "\n".join(lines) + "\n")
    words = ["fit", str(table), "--law", "hoffmann", "--bootstrap", "0", "--json"]
    assert isoflop.main([*words, "--columns", "parms=millions"]) == 2
    assert "did you mean params?" in capsys.readouterr().err
    assert isoflop.main([*words, "--columns", "size=millions", "--where", "size > 2"]) == 0
    assert json.loads(capsys.readouterr().out)["num_rows"] == 9
