"""Row expressions: what they mean, and what they refuse."""

from __future__ import annotations

import contextlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import UserError
from analysis.runs.expressions import MAX_LENGTH, evaluate, nearest, select_rows

FRAME = pd.DataFrame(
    {
        "params": [1e6, 2e6, 4e6],
        "loss": [3.0, 2.5, np.nan],
        "status": ["done", "failed", "done"],
        "Model Size": [1.0, 2.0, 3.0],
        "held": [True, False, True],
    }
)


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ("params < 3e6", [True, True, False]),
        ("1e6 < params <= 4e6", [False, True, True]),
        ("status == 'done' and params > 1e6", [False, False, True]),
        ("status in ['failed', 'other'] or loss > 2.9", [True, True, False]),
        ("status not in ('failed',)", [True, False, True]),
        ("not status == 'done'", [False, True, False]),
        ("`Model Size` * 2 + 1 >= 5", [False, True, True]),
        ("loss == loss", [True, True, False]),
        ("-params < -1.5e6", [False, True, True]),
        ("params ** 2 / 1e12 % 3 == 1", [True, True, True]),
        ("held", [True, False, True]),
        ("held and not params > 2e6", [True, False, False]),
    ],
)
def test_an_expression_keeps_the_rows_that_it_describes(expression: str, kept: list[bool]) -> None:
    assert select_rows(expression, FRAME).tolist() == kept


@pytest.mark.parametrize(
    "hostile",
    [
        "__import__('os').system('true')",
        "params.__class__",
        "(lambda: 1)()",
        "[x for x in params]",
        "params[0]",
        "params @ params",
        "exec('1')",
        "(y := 3) > 2",
        "f'{params}' == 'x'",
        "params if held else loss",
        "params is None",
        "~held",
        "held & held",
        "'a' * 999999999 == 'b'",
        "(" * 400 + "1" + ")" * 400 + " > 0",
        "not " * 200 + "held",
        "params < 1" + "0" * 400,
        "params < 3e6 " + " " * MAX_LENGTH,
        "params <",
        "params = 3",
        "`Model Size > 3",
        "params < 'x'",
        "status < 3",
        "params + 1",
        "params and held",
        "missing > 3",
        "status in 'done'",
        "status in [params]",
        "b'x' == status",
        "1j == params",
        "*params",
        "params; loss",
        "\x00",
        "",
    ],
)
def test_a_hostile_or_broken_expression_is_one_clear_sentence(hostile: str) -> None:
    with pytest.raises(UserError) as caught:
        select_rows(hostile, FRAME)
    assert "\n" not in str(caught.value)


def test_an_unknown_column_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match="nearest: params"):
        evaluate("parms > 3", FRAME)
    assert "loss" in nearest("LOSS", ["params", "loss"])


def test_a_huge_power_overflows_to_infinity_instead_of_stopping_the_machine() -> None:
    assert select_rows("9 ** 9 ** 9 ** 9 > params", FRAME).all()


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="params<>=() 0123456789.'`+-*/%[],andotil", max_size=40))
def test_any_text_gives_a_series_or_a_user_error(text: str) -> None:
    with contextlib.suppress(UserError):
        assert len(evaluate(text, FRAME)) == len(FRAME)
