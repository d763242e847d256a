"""The one rule for runs that are drawn together."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.runs.bootstrap_clusters import choose


def frame(**columns: object) -> pd.DataFrame:
    """Twelve runs."""
    return pd.DataFrame({"loss": np.linspace(3, 2, 12), **columns})


def test_runs_are_drawn_by_the_first_column_that_several_share() -> None:
    trunk, curve = np.repeat(np.arange(6), 2), np.repeat(np.arange(5), [2, 2, 2, 3, 3])
    assert choose(frame(trunk=trunk, curve=curve), 5) == (
        "trunk",
        "runs that share their first steps (one trunk) are drawn together for intervals: "
        "6 fitted runs share training with another",
    )
    assert choose(frame(trunk=np.arange(12), curve=curve), 5)[0] == "curve"
    assert choose(frame(run=trunk), 5) == (
        "run",
        "rows that share a run are drawn together for intervals: 6 fitted rows share a run with another",
    )
    holes = pd.Series(trunk).astype(float).mask(trunk == 3)
    assert choose(frame(trunk=holes, curve=curve), 5)[0] == "curve"


def test_runs_that_share_nothing_are_drawn_one_by_one_without_a_word() -> None:
    assert choose(frame(), 5) == (None, None)
    assert choose(frame(trunk=np.arange(12)), 5) == (None, None)


def test_fewer_clusters_than_parameters_are_named() -> None:
    labels, note = choose(frame(trunk=np.repeat(np.arange(4), 3), curve=np.repeat(np.arange(6), 2)), 5)
    assert labels is None
    assert note == (
        "4 trunks (shared first steps) are too few for 5 parameters: intervals take runs of one trunk as independent, "
        "and are likely too narrow"
    )
    assert choose(frame(trunk=np.repeat(np.arange(4), 3)), 4)[0] == "trunk"


def test_a_comparison_of_laws_needs_clusters_to_spare() -> None:
    six = frame(trunk=np.repeat(np.arange(6), 2))
    assert choose(six, 5)[0] == "trunk"
    labels, note = choose(six, 5, spare=4)
    assert labels is None
    assert "6 trunks (shared first steps) are too few" in str(note)
