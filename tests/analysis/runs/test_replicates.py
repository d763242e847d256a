"""Rows with equal inputs and different losses are said."""

from __future__ import annotations

import pandas as pd

from analysis.runs.replicates import replicates_note


def test_rows_with_equal_inputs_and_different_losses_are_said() -> None:
    frame = pd.DataFrame({"params": [1e6, 1e6, 2e6], "tokens": [1e9, 1e9, 1e9], "loss": [3.0, 3.3, 2.9]})
    note = replicates_note(frame, ("params", "tokens"), "loss")
    assert note is not None
    assert note.startswith("2 of 3 rows share params, tokens")
    assert "9.1 %" in note or "10 %" in note


def test_different_inputs_or_equal_losses_are_not() -> None:
    frame = pd.DataFrame({"params": [1e6, 1e6, 2e6], "tokens": [1e9, 1e9, 1e9], "loss": [3.0, 3.0, 2.9]})
    assert replicates_note(frame, ("params", "tokens"), "loss") is None
    assert replicates_note(frame, ("x",), "loss") is None
