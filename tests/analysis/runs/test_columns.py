"""Columns of any kind of table as arrays; N, D and C from any two of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.errors import UserError
from analysis.runs.columns import COUNTS, as_columns, checked, completed
from analysis.runs.conventions import conventions_of, flops_convention

N, D = np.array([1e6, 2e6]), np.array([3e7, 5e8])
WHOLE = {"params": N, "tokens": D, "flops": 6 * N * D}


@pytest.mark.parametrize("missing", COUNTS)
def test_any_two_counts_give_the_third(missing: str) -> None:
    two = {name: column for name, column in WHOLE.items() if name != missing}
    np.testing.assert_allclose(completed(two)[missing], WHOLE[missing])
    assert missing not in completed(two, wanted=[name for name in COUNTS if name != missing])
    one = dict(list(two.items())[:1])
    assert completed(one) == one


def test_a_count_that_is_there_stays_and_a_bad_one_is_named() -> None:
    other = {**WHOLE, "flops": np.array([1.0, 2.0])}
    assert completed(other)["flops"] is other["flops"]
    with pytest.raises(UserError, match="flops is not positive in row 2"):
        completed({"params": N, "flops": [1e15, 0.0]})


def test_frames_and_mappings_give_the_same_columns() -> None:
    frame = pd.DataFrame(WHOLE)
    assert set(as_columns(frame)) == set(as_columns(WHOLE)) == set(WHOLE)
    assert list(as_columns(frame, ["tokens"])) == ["tokens"]
    np.testing.assert_array_equal(as_columns(frame)["tokens"], as_columns(WHOLE)["tokens"])
    assert checked({"params": 7}, "params", positive=True).tolist() == [7.0]


def test_a_table_says_how_it_counts_compute() -> None:
    frame = pd.DataFrame(WHOLE)
    assert conventions_of(frame, {}, ())["flops"] == "6ND"
    assert conventions_of(frame.assign(flops=2 * frame["flops"]), {}, ())["flops"] == "as given"
    counted = frame.assign(flops_6nd=frame["flops"], flops=2 * frame["flops"])
    assert conventions_of(counted, {"params": "N"}, ()) == {
        "params": "column 'N' as given",
        "flops": "counted",
        "tokens": "column 'tokens'",
    }
    assert flops_convention({}) == "as given"
