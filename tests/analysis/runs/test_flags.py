"""Flags of rows: one reader of `decayed`, and outliers that a tight law does not multiply."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.runs.flags import is_decayed, outliers, quality_flags
from analysis.runs.roles import undecayed_rows


@pytest.mark.parametrize(
    "values",
    [
        [True, False, True],
        [1, 0, 1],
        [1.0, 0.0, np.nan],
        ["True", "False", "true"],
        ["yes", " NO ", None],
        ["1", "0.0", "1.0"],
        [None, False, True],
    ],
)
def test_every_kind_of_column_says_the_same_about_decay(values: list[object]) -> None:
    column = pd.Series(values)
    assert is_decayed(column).tolist() == [True, False, True]
    frame = pd.DataFrame({"decayed": column, "flops": [1.0, 2.0, 3.0]})
    assert undecayed_rows(frame).tolist() == [False, True, False]
    assert quality_flags(frame).tolist() == ["", "learning rate not decayed", ""]


def test_an_outlier_is_far_by_robust_and_by_plain_deviations() -> None:
    residuals = 0.01 * np.random.default_rng(0).standard_normal(60)
    residuals[7] = 0.2
    fitted = np.ones(60, dtype=bool)
    assert np.flatnonzero(outliers(residuals, fitted)).tolist() == [7]
    fitted[7] = False
    assert not outliers(residuals, fitted).any()
    through_most = np.zeros(60)
    through_most[:20] = 0.01
    assert not outliers(through_most, np.ones(60, dtype=bool)).any()
