"""A slice of `python -m benchmarks.faults`: a call on the disk fails, and the sweep goes on to the same digits."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.faults import MODES, OPERATIONS, Point, Sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A tiny sweep that was trained in peace."""
    return Sweep(Path(tmp_path_factory.mktemp("faults")).resolve())


@pytest.fixture(scope="module")
def points(sweep: Sweep) -> list[Point]:
    """Every fault that there is."""
    return sweep.points()


def test_the_points_are_every_call_of_every_kind_and_way_to_fail(points: list[Point]) -> None:
    assert len(points) > 500
    assert {point.operation for point in points} == set(OPERATIONS)
    assert {point.mode for point in points} == set(MODES)


@pytest.mark.parametrize("place", range(9))
def test_a_call_that_fails_once_changes_no_digit_loses_nothing_and_leaves_no_damage(
    sweep: Sweep, points: list[Point], place: int
) -> None:
    point = points[(2 * place + 1) * len(points) // 18]
    assert sweep.strike(point) is None, point
