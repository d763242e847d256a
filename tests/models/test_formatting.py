"""Counts print as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.formatting import format_binary_bytes, format_bytes, format_compute, format_size

LETTERS = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (123_750_000, "124M"),
        (2_600_000_000, "2.6B"),
        (9730, "9.73k"),
        (999_900, "1M"),
        (512, "512"),
        (1.8e12, "1.8T"),
        (0, "0"),
        (math.nan, "n/a"),
    ],
)
def test_sizes_print_with_a_letter(value: float, text: str) -> None:
    assert format_size(value) == text


@given(st.floats(1e3, 9.99e14))
def test_a_printed_size_is_the_count_to_its_digits(value: float) -> None:
    text = format_size(value, digits=4)
    assert float(text[:-1]) * LETTERS[text[-1]] == pytest.approx(value, rel=5.1e-4)


def test_compute_and_bytes_print_short() -> None:
    assert format_compute(3e18) == "3.0e18"
    assert format_compute(5e9, digits=3) == "5.00e9"
    assert format_compute(math.inf) == "n/a"
    assert [format_bytes(value) for value in (512, 12_400_000, 3.41e9)] == ["512 B", "12.4 MB", "3.41 GB"]
    assert [format_binary_bytes(value) for value in (512, 1.5 * 1024**3, 2**53)] == ["512 B", "1.5 GiB", "8,192 TiB"]
