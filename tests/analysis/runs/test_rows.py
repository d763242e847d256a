"""Rows are runs, in every verb: copies count once, held-out runs are not fitted, and units are what they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import isoflop
from analysis.errors import UserError
from analysis.runs.table import RowRules, load_tables

VERBS = {
    "fit": ["--law", "hoffmann", "--bootstrap", "0"],
    "isoflop": ["--bootstrap", "0"],
    "compare": ["--bootstrap", "0", "--simulations", "0"],
    "frontier": ["--bootstrap", "0"],
    "select": ["--laws", "hoffmann,kaplan", "--bootstrap", "0"],
}

MESSAGES = ("warnings", "notes", "predictions")
"""Keys of the JSON that name rows, whose numbers differ between the tables."""


def runs(**columns: list[str] | pd.Series) -> pd.DataFrame:
    """Runs of four budgets on Hoffmann's surface, of which the largest is held out."""
    rng = np.random.default_rng(5)
    rows = [
        {"params": params, "tokens": flops / 6 / params, "flops": flops, "role": "heldout" if flops > 1e19 else "fit"}
        for flops in (1e17, 1e18, 1e19, 1e20)
        for params in np.geomspace(0.15, 6, 6) * (flops / 120) ** 0.5
    ]
    frame = pd.DataFrame(rows)
    frame["loss"] = 1.7 + 400 / frame["params"] ** 0.34 + 410 / frame["tokens"] ** 0.28
    frame["loss"] *= np.exp(0.002 * rng.standard_normal(len(frame)))
    return frame.assign(**columns)


def answer(verb: str, file: Path, *options: str, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """What a verb prints as JSON."""
    assert isoflop.main([verb, str(file), *VERBS[verb], *options, "--json"]) == 0
    told: dict[str, object] = json.loads(capsys.readouterr().out)
    return told


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_fits_leaves_out_what_the_sweep_holds_out(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = runs()
    frame.to_csv(tmp_path / "all.csv", index=False)
    frame[frame["role"] == "fit"].drop(columns="role").to_csv(tmp_path / "fitted.csv", index=False)
    frame.drop(columns="role").to_csv(tmp_path / "roleless.csv", index=False)
    fitted = answer(verb, tmp_path / "fitted.csv", capsys=capsys)
    held = answer(verb, tmp_path / "all.csv", capsys=capsys)
    every = answer(verb, tmp_path / "all.csv", "--include-heldout", capsys=capsys)
    plain = answer(verb, tmp_path / "roleless.csv", capsys=capsys)
    for told in (fitted, held, every, plain):
        for key in MESSAGES:
            told.pop(key, None)
    assert held == fitted
    assert every == plain
    assert held != every


@pytest.mark.parametrize("verb", VERBS)
def test_a_run_that_stands_twice_counts_once_in_every_verb(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = runs()
    frame.to_csv(tmp_path / "once.csv", index=False)
    pd.concat([frame, frame]).to_csv(tmp_path / "twice.csv", index=False)
    once = answer(verb, tmp_path / "once.csv", capsys=capsys)
    twice = answer(verb, tmp_path / "twice.csv", capsys=capsys)
    for told in (once, twice):
        for key in MESSAGES:
            told.pop(key, None)
    assert twice == once


def test_the_same_run_in_two_tables_is_one_row_whatever_its_labels(tmp_path: Path) -> None:
    frame = runs(run_id=[f"{number:012x}" for number in range(24)])
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.assign(sweep="other", role="fit").to_csv(tmp_path / "b.csv", index=False)
    table = load_tables([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert len(table.frame) == 24
    assert "24 rows left out: the same run stands in an earlier row" in table.notes


def test_copies_are_counted_once_with_a_note_and_twice_when_asked(tmp_path: Path) -> None:
    frame = runs()
    pd.concat([frame, frame.head(3)]).to_csv(tmp_path / "runs.csv", index=False)
    once = load_tables([tmp_path / "runs.csv"])
    assert len(once.frame) == 24
    assert any(note.startswith("3 rows left out: exact copy") for note in once.notes)
    assert len(load_tables([tmp_path / "runs.csv"], rules=RowRules(keep_copies=True)).frame) == 27


def test_counts_are_read_as_people_write_them(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("params,tokens,loss\n7B,1.4T,1.9\n300M, 6e3M,2.6\n70b,2e12,1.8\n")
    frame = load_tables([tmp_path / "runs.csv"]).frame
    assert frame["params"].tolist() == [7e9, 3e8, 7e10]
    assert frame["tokens"].tolist() == [1.4e12, 6e9, 2e12]


def test_a_column_may_be_computed_from_others(tmp_path: Path) -> None:
    runs(size_M=runs()["params"] / 1e6).drop(columns="params").to_csv(tmp_path / "runs.csv", index=False)
    frame = load_tables([tmp_path / "runs.csv"], {"params": "size_M*1e6"}).frame
    np.testing.assert_allclose(frame["params"], runs()["params"])
    with pytest.raises(UserError, match="cannot be computed"):
        load_tables([tmp_path / "runs.csv"], {"params": "size_N*1e6"})


@pytest.mark.parametrize(
    ("column", "factor", "remedy"),
    [
        ("params", 1e-6, "params=COLUMN\\*1e6"),
        ("params", 1e-9, "1e9"),
        ("tokens", 1e-9, "1e9"),
        ("flops", 1e-18, "flops="),
    ],
)
def test_a_slip_of_units_is_refused_with_the_likely_factor(
    column: str, factor: float, remedy: str, tmp_path: Path
) -> None:
    frame = runs()
    frame[column] *= factor
    frame.to_csv(tmp_path / "runs.csv", index=False)
    with pytest.raises(UserError, match=remedy):
        load_tables([tmp_path / "runs.csv"])
