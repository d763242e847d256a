"""Exponents that the noise hides are said, with many runs too."""

from __future__ import annotations

import numpy as np

from analysis.uncertainty.calibration import weak_signal


def test_an_exponent_with_a_large_standard_error_is_said() -> None:
    said = weak_signal(["alpha", "beta"], np.array([0.03, 0.3]), np.array([0.02, 0.03]))
    assert len(said) == 1
    assert "alpha to 67 %" in said[0]
    assert "beta" not in said[0]


def test_well_known_exponents_are_not() -> None:
    assert weak_signal(["alpha", "beta"], np.array([0.34, 0.37]), np.array([0.015, 0.02])) == []
