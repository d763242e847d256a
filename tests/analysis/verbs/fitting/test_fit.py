"""`fit`, `predict`, `laws` and `published` from the command line: their JSON is what other people's scripts read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.laws.registry import LAWS

TRUTH = [1.8172, 482.01, 2085.43, 0.3478, 0.3658]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV with foreign column names."""
    rng = np.random.default_rng(0)
    params = np.repeat(np.geomspace(4e7, 1e10, 8), 5)
    data = {"params": params, "tokens": params * np.tile(np.geomspace(2.5, 160, 5), 8)}
    loss = LAWS["hoffmann"](TRUTH, data) * np.exp(0.005 * rng.standard_normal(40))
    path = tmp_path_factory.mktemp("tables") / "runs.csv"
    pd.DataFrame(
        {"N size": params, "C": 6 * params * data["tokens"], "L": loss, "trunk": np.repeat(range(8), 5)}
    ).to_csv(path)
    return path


COLUMNS = ["--columns", "params=N size,flops=C,loss=L"]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Status, output and errors of one command."""
    status = main([str(a) for a in arguments])
    out = capsys.readouterr()
    return status, out.out, out.err


def test_fit_prints_one_json_object_of_the_interface(
    table: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "fit.json"
    status, text, errors = run(
        capsys,
        "fit",
        table,
        "--law",
        "hoffmann",
        *COLUMNS,
        "--bootstrap",
        "50",
        "--cluster",
        "trunk",
        "--out",
        out,
        "--json",
    )
    fit = json.loads(text)
    assert status == 0
    assert fit["columns"] == {"params": "N size", "flops": "C", "loss": "L"}
    assert set(fit["params"]) == {"E", "A", "B", "alpha", "beta"}
    assert set(fit["params"]["alpha"]) >= {"value", "se", "lo", "hi", "identified", "reason"}
    assert fit["status"] in {"converged", "bound_hit", "flat", "max_iterations"}
    assert fit["num_rows"] == 40
    assert fit["num_clusters"] == 8
    assert np.array(fit["cov"]).shape == (5, 5)
    assert set(fit["frontier"]["a"]) >= {"value", "lo", "hi"}
    assert fit["draws"] == "fit.draws.parquet"
    assert fit["conventions"]["flops"] == "6ND"
    assert any("8 clusters are few" in w for w in fit["warnings"])
    assert "tokens = flops / (6 params)" in errors
    assert len(pd.read_parquet(tmp_path / "fit.draws.parquet")) == 50

    status, text, _ = run(capsys, "predict", out, "--at", "params=7e9,tokens=1.4e12", "--json")
    point = json.loads(text)
    assert set(point) == {"loss", "confidence", "prediction", "extrapolates", "reason"}
    assert (
        point["prediction"][0]
        < point["confidence"][0]
        < point["loss"]
        < point["confidence"][1]
        < point["prediction"][1]
    )
    status, text, _ = run(capsys, "predict", out, "--table", table, "--json")
    assert len(json.loads(text)["rows"]) == 40
    status, text, _ = run(capsys, "predict", out, "--at", "params=7e9,tokens=1.4e12")
    assert text.startswith("loss ")


def test_fit_without_draws_still_has_intervals_and_nulls_where_none(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, text, _ = run(capsys, "fit", table, "--law", "hoffmann", *COLUMNS, "--bootstrap", "0", "--json")
    fit = json.loads(text)
    assert fit["draws"] is None
    assert fit["params"]["alpha"]["lo"] < fit["params"]["alpha"]["value"]
    _, text, _ = run(
        capsys, "fit", table, "--law", "power", "--columns", "flops=C,loss=L", "--bootstrap", "0", "--json"
    )
    fit = json.loads(text)
    assert fit["frontier"] is None
    assert fit["conventions"]["x"] == "flops"
    _, text, _ = run(
        capsys, "fit", table, "--law", "hoffmann", *COLUMNS, "--where", "`N size` < 6e7", "--bootstrap", "20", "--json"
    )
    fit = json.loads(text)
    assert not fit["params"]["alpha"]["identified"]
    assert fit["params"]["alpha"]["lo"] is None


def test_the_same_seed_gives_the_same_fit(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", table, "--law", "hoffmann", *COLUMNS, "--bootstrap", "30", "--seed", "3", "--json"]
    assert run(capsys, *arguments)[1] == run(capsys, *arguments)[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--law", "chinchila", *COLUMNS], "no law is called 'chinchila'"),
        (["--law", "hoffmann", "--columns", "params=N size,loss=L"], "tokens"),
        (["--law", "hoffmann", *COLUMNS, "--cluster", "seed"], "--cluster names 'seed'"),
        (["--law", "hoffmann", *COLUMNS, "--where", "__import__('os')"], "error:"),
        (["--law", "hoffmann", *COLUMNS, "--bootstrap", "-3"], "or 0 for none"),
        (["--law", "power", "--columns", "params=N size,flops=C,loss=L"], "reads one input"),
    ],
)
def test_bad_requests_are_one_sentence_and_status_two(
    table: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    status, _, errors = run(capsys, "fit", table, *arguments)
    assert status == 2
    assert message in errors
    assert errors.strip().splitlines()[-1].startswith("error: ")


def test_predict_refuses_what_it_cannot_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no file" in run(capsys, "predict", tmp_path / "none.json", "--at", "params=1,tokens=1")[2]
    assert "either --at" in run(capsys, "predict", tmp_path / "none.json")[2]


def test_laws_lists_formula_inputs_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(run(capsys, "laws", "--json")[1])["laws"]
    assert {law["law"] for law in listed} == set(LAWS)
    assert all(law["formula"] and law["inputs"] and law["source"] for law in listed)
    text = run(capsys, "laws", "hoffmann")[1]
    assert "2203.15556" in text
    assert "alpha" in text


def test_fit_needs_no_scipy_and_no_matplotlib(table: Path) -> None:
    import subprocess
    import sys

    arguments = ["fit", str(table), "--law", "hoffmann", *COLUMNS, "--bootstrap", "5"]
    code = (
        f"import sys; from analysis.__main__ import main; main({arguments!r}); "
        "assert not {'scipy', 'matplotlib', 'torch'} & set(sys.modules), set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_student_quantiles_agree_with_scipy() -> None:
    from scipy.special import stdtrit

    from analysis.uncertainty.quantiles import normal_quantile, student_quantile

    p = np.array([0.0005, 0.025, 0.6, 0.975, 0.9999])
    for dof in (1.0, 3.0, 15.0, 235.0):
        np.testing.assert_allclose(student_quantile(p, dof), stdtrit(dof, p), rtol=1e-10)
    assert student_quantile(0.975, 1e6) == pytest.approx(normal_quantile(0.975))
    assert math.isclose(normal_quantile(0.975), 1.959963984540054)


def test_a_table_with_both_counts_of_size_shows_them_side_by_side(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    params = np.repeat(np.geomspace(1e6, 1e9, 8), 6)
    data = {"params_non_embedding": params, "params_total": params + 2e4 * np.sqrt(params)}
    data |= {"params": params, "tokens": params * np.tile(np.geomspace(3, 150, 6), 8), "trunk": np.repeat(range(8), 6)}
    data["loss"] = LAWS["hoffmann"](TRUTH, data)
    pd.DataFrame(data).to_csv(tmp_path / "both.csv")
    _, text, errors = run(capsys, "fit", tmp_path / "both.csv", "--law", "hoffmann", "--bootstrap", "0", "--json")
    rows = json.loads(text)["conventions"]["side_by_side"]
    assert {row["params"] for row in rows} == {"params", "params_non_embedding", "params_total"}
    assert (
        "runs that share their first steps (one trunk) are drawn together for intervals: "
        "40 fitted runs share training with another" in errors
    )
