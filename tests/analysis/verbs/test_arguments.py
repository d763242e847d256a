"""What verbs share: one table has the same clusters in every verb, and an explicit --cluster wins."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.errors import UserError
from analysis.laws.registry import LAWS
from analysis.runs.columns import as_columns
from analysis.study.build import build_study
from analysis.study.study import Choices
from analysis.verbs.arguments import cluster_of, parse_point, spec_of

VERBS = {
    "fit": ["--law", "hoffmann", "--bootstrap", "8"],
    "select": ["--laws", "hoffmann,kaplan", "--bootstrap", "8"],
    "compare": ["--bootstrap", "8", "--simulations", "0"],
    "isoflop": ["--bootstrap", "8"],
    "frontier": ["--bootstrap", "8"],
}


def table(folder: Path, num_trunks: int) -> Path:
    """Six budgets of seven sizes, of which several share a trunk."""
    flops = np.repeat(np.geomspace(1e18, 1e21, 6), 7)
    params = np.sqrt(flops / 120) * np.tile(np.geomspace(0.2, 5, 7), 6)
    frame = pd.DataFrame({"params": params, "tokens": flops / (6 * params), "flops": flops})
    loss = LAWS["hoffmann"]([1.8172, 482.01, 2085.43, 0.3478, 0.3658], as_columns(frame))
    noise = np.random.default_rng(0).standard_normal(len(frame))
    frame["loss"] = loss * np.exp(0.004 * noise)
    frame["trunk"] = [f"t{index % num_trunks}" for index in range(len(frame))]
    frame["curve"] = np.arange(len(frame)) // 2
    frame["row_label"] = np.arange(len(frame))
    path = folder / f"runs{num_trunks}.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("num_trunks", "note"),
    [
        (
            14,
            "runs that share their first steps (one trunk) are drawn together for intervals: "
            "28 fitted runs share training with another",
        ),
        (
            4,
            "4 trunks (shared first steps) are too few for 5 parameters: intervals take runs of one trunk as",
        ),
    ],
)
def test_every_verb_gives_one_table_the_same_clusters(
    verb: str, num_trunks: int, note: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(table(tmp_path, num_trunks))
    arguments = [verb, path, *VERBS[verb], "--json"]
    assert main(arguments) == 0
    chosen = capsys.readouterr()
    assert note in chosen.err + json.dumps(json.loads(chosen.out))
    named = "trunk" if num_trunks == 14 else "none"
    assert main([*arguments, "--cluster", named]) == 0
    given = capsys.readouterr()
    assert note not in given.err
    first, second = json.loads(chosen.out), json.loads(given.out)
    first.pop("notes", None), second.pop("notes", None)
    assert first == second


def test_a_report_draws_by_the_same_rule(tmp_path: Path) -> None:
    choices = Choices(bootstrap=8, simulations=0, holdout="flops > 5e20")
    study = build_study([table(tmp_path, 14)], choices)
    assert study.choices.cluster == "trunk"
    assert any(
        note.startswith("runs that share their first steps (one trunk) are drawn together for intervals")
        for note in study.notes
    )
    assert build_study([table(tmp_path, 4)], choices).choices.cluster is None


def test_an_explicit_column_wins_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    frame = pd.read_csv(table(tmp_path, 14))
    notes: list[str] = []
    assert cluster_of(argparse.Namespace(cluster="row_label"), frame, 5, notes) == "row_label"
    assert cluster_of(argparse.Namespace(cluster="none"), frame, 5, notes) is None
    assert notes == []
    with pytest.raises(UserError, match=r"--cluster names 'trunks', which is no column of the table \(nearest: trunk"):
        cluster_of(argparse.Namespace(cluster="trunks"), frame, 5, notes)


def test_options_of_a_verb_become_one_spec() -> None:
    args = argparse.Namespace(objective="lad", bootstrap=7, level=0.9, seed=3, json=True)
    spec = spec_of(args, "trunk")
    assert (spec.objective, spec.bootstrap, spec.level, spec.seed, spec.cluster) == ("lad", 7, 0.9, 3, "trunk")
    assert spec.residuals == "log"
    with pytest.raises(UserError, match="seed is -1"):
        spec_of(argparse.Namespace(seed=-1), None)


def test_the_field_s_own_names_say_the_same_as_ours_in_a_point() -> None:
    assert parse_point("N=7e9,D=1.4e12") == parse_point("params=7e9,tokens=1.4e12")
    assert parse_point("C=1e21") == {"flops": 1e21}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("parms=1e6,tokens=2e7", r"^--at names 'parms', which no law reads \(nearest: params\)$"),
        ("flps=1e16", r"^--at names 'flps', which no law reads \(nearest: flops\)$"),
        ("N=1e6,params=2e6", "^--at gives params twice"),
    ],
)
def test_a_misspelt_name_of_a_point_is_one_sentence_with_the_nearest(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_point(text)
