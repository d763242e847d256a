"""Checks of config fields: what they let through, what they refuse, and the name that a misspelt one is near."""

from __future__ import annotations

import math

import pytest

from models.config.checks import (
    did_you_mean,
    nearest_names,
    require_count,
    require_fraction,
    require_name,
    require_positive,
)
from models.errors import UserError

KNOWN = ("rotary", "learned", "Sinusoidal")


def test_the_nearest_name_is_found_whatever_its_case() -> None:
    assert nearest_names("rotery", KNOWN) == ["rotary"]
    assert nearest_names("SINUSOIDL", KNOWN) == ["Sinusoidal"]
    assert did_you_mean("lerned", KNOWN) == "did you mean 'learned'?"


def test_no_name_is_suggested_where_none_is_similar() -> None:
    assert nearest_names("qqqq", KNOWN) == []
    assert did_you_mean("qqqq", KNOWN) == ""
    with pytest.raises(UserError, match="positions is 'qqqq'; choose one of rotary"):
        require_name("positions", "qqqq", KNOWN)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1", None, math.nan])
def test_only_whole_numbers_from_the_minimum_on_are_counts(value: object) -> None:
    require_count("depth", 1)
    with pytest.raises(UserError, match="depth"):
        require_count("depth", value)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, True, "0.5"])
def test_only_numbers_from_zero_to_one_are_fractions(value: float) -> None:
    require_fraction("dropout", 0.5)
    require_fraction("dropout", 1)
    with pytest.raises(UserError, match="dropout"):
        require_fraction("dropout", value)
    with pytest.raises(UserError, match="not including, 1"):
        require_fraction("dropout", 1.0, below_one=True)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, True, "1"])
def test_only_finite_numbers_above_zero_are_positive(value: float) -> None:
    require_positive("eps", 1e-8)
    with pytest.raises(UserError, match="eps"):
        require_positive("eps", value)
