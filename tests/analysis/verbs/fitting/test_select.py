"""`select` from the command line: its JSON, its files, what people read; and its choices on published runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.laws.registry import LAWS
from benchmarks.published_heldout import compare_set, largest_budgets, tables

HOFFMANN = (1.8172, 482.01, 2085.43, 0.3478, 0.3658)
QUICK = ["power", "hoffmann", "kaplan", "gadre"]
"""Laws whose fits take a few milliseconds."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV with foreign names, seeds and a column x that is nobody's input."""
    flops = np.repeat(np.geomspace(1e18, 1e21, 6), 7)
    params = np.sqrt(flops / 120) * np.tile(np.geomspace(0.2, 5, 7), 6)
    loss = LAWS["hoffmann"](HOFFMANN, {"params": params, "tokens": flops / (6 * params)})
    noise = np.exp(0.004 * np.random.default_rng(0).standard_normal(42))
    frame = pd.DataFrame({"N": params, "C": flops, "val loss": loss * noise, "seed": 0, "x": np.arange(42)})
    more = frame.iloc[10:14].assign(seed=1)
    more["val loss"] *= np.exp(0.004 * np.random.default_rng(8).standard_normal(4))
    path = tmp_path_factory.mktemp("tables") / "runs.csv"
    pd.concat([frame, more]).to_csv(path, index=False)
    return path


COLUMNS = ["--columns", "params=N,flops=C,loss=val loss", "--laws", ",".join(QUICK)]


def test_select_prints_one_json_object_of_the_interface(
    table: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "report"
    assert (
        main(
            ["select", str(table), *COLUMNS, "--average", "--at", "params=1e9,tokens=2e11", "--out", str(out), "--json"]
        )
        == 0
    )
    text = capsys.readouterr().out
    found = json.loads(text)
    assert text.count("\n") == 1
    assert "NaN" not in text
    assert found["chosen"] in QUICK
    assert isinstance(found["why"], str)
    keys = ["law", "mape", "mape_lo", "mape_hi", "rmse", "r2", "aic", "bic", "num_heldout"]
    assert all(set(keys) <= set(row) for row in found["ranking"])
    errors = [row["mape"] for row in found["ranking"]]
    assert errors == sorted(errors)
    assert all(0 < row["mape_lo"] <= row["mape"] <= row["mape_hi"] < 1 for row in found["ranking"])
    for row in found["predictions"]:
        assert row["error_fraction"] == pytest.approx((row["predicted"] - row["measured"]) / row["measured"])
    laws = {row["law"] for row in found["predictions"]}
    assert laws == {row["law"] for row in found["ranking"]} | {"average"}
    by_window = [
        np.mean(
            [
                abs(r["error_fraction"])
                for r in found["predictions"]
                if r["law"] == "hoffmann" and r["window"] == w["name"]
            ]
        )
        for w in found["windows"]
    ]
    mape = next(row["mape"] for row in found["ranking"] if row["law"] == "hoffmann")
    assert np.mean(by_window) == pytest.approx(mape)
    assert found["noise_floor"]["lo"] < 0.004 < found["noise_floor"]["hi"]
    assert found["conventions"]["flops"] == "6ND"
    at = found["average_at"]
    assert at["prediction"][0] < at["confidence"][0] < at["loss"] < at["confidence"][1] < at["prediction"][1]
    truth = LAWS["hoffmann"](HOFFMANN, {"params": [1e9], "tokens": [2e11]})[0]
    assert at["prediction"][0] < truth < at["prediction"][1]
    assert json.loads((out / "selection.json").read_text(encoding="utf-8"))["ranking"] == found["ranking"]
    assert len(pd.read_csv(out / "ranking.csv")) == len(found["ranking"])
    assert (out / "selection.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert (out / "selection-dark.png").stat().st_size > 20_000


def test_a_given_hold_out_is_scored_alone(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", str(table), *COLUMNS, "--holdout", "flops > 5e20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [w["name"] for w in found["windows"]] == ["flops > 5e20"]
    assert {row["num_heldout"] for row in found["ranking"]} == {7}
    rows = {row["row"] for row in found["predictions"]}
    assert rows == set(range(36, 43))


def test_people_read_a_table_the_reason_and_what_to_do_next(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", str(table), *COLUMNS]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert any(line.startswith(">") for line in lines)
    assert "errs least" in text or "is kept" in text or "ties with" in text
    assert "Noise floor: " in text
    assert "which overlap" in text
    assert f"--law {next(line.split()[1] for line in lines if line.startswith('>'))}" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--at", "params=1e9"], "--average"),
        (["--holdout", "flops > 1e30"], "holds out no run"),
        (["--cluster", "trunkk"], "no column"),
        (["--weights", "w"], "which the table lacks"),
        (["--windows", "0"], "--windows"),
        (["--laws", "muennighoff"], "unique_tokens"),
        (["--laws", "downstream-sigmoid"], "downstream-sigmoid"),
    ],
)
def test_mistakes_end_with_one_sentence(
    table: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    columns = COLUMNS[:2] if "--laws" in options else COLUMNS
    assert main(["select", str(table), *columns, *options]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_the_largest_budgets_are_held_out_whole(published_data: Path) -> None:
    for name, runs in tables(published_data):
        held = largest_budgets(runs.frame)
        flops = runs.frame["flops"].to_numpy()
        assert 0.1 <= held.mean() < 0.5, name
        assert flops[held].min() > flops[~held].max(), name


def test_on_published_runs_the_choice_is_not_worse_than_hoffmanns_form_by_a_tenth(published_data: Path) -> None:
    wanted = ("epoch_chinchilla", "gadre c4_original loss_c4_val", "gemstones hot")
    found = {name: table for name, table in tables(published_data) if name in wanted}
    assert len(found) == len(wanted)
    for name, runs in found.items():
        row, _ = compare_set(name, runs, laws=QUICK)
        assert row.ratio is not None
        assert row.ratio <= 1.1, row
