"""Ticks, labels and colours of figures, and the files that they become."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from analysis.figures.drawing.axes import EndLabel, label_ends, log_axis, nice_log_ticks, panels, spread
from analysis.figures.drawing.render import colour_counts, save_png, standalone_svg, svg_text
from analysis.figures.drawing.theme import CSS, DARK, LIGHT, Theme, css_variables


def sketch(figure: Figure, theme: Theme) -> None:
    (ax,) = panels(figure)
    ax.plot([1e18, 1e21], [2.0, 4.0], color=theme.budget_colours(2)[1])
    ax.set_xlim(1e18, 1e21)
    ax.set_ylim(2.0, 4.0)
    log_axis(ax, "x", "C", kind="flops")
    log_axis(ax, "y", "loss", kind="number")
    label_ends(ax, [EndLabel(1e21, 4.0, "one", theme.ink), EndLabel(1e21, 3.98, "two", theme.ink)])


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-3, 1e20), st.floats(1.05, 1e9))
def test_a_log_axis_always_has_some_readable_ticks_within_its_limits(low: float, ratio: float) -> None:
    major, minor = nice_log_ticks(low, low * ratio)
    assert 2 <= len(major) <= 9
    assert all(low * 0.999 <= tick <= low * ratio * 1.001 for tick in major + minor)
    assert not set(major) & set(minor)


def test_ticks_prefer_decades() -> None:
    assert nice_log_ticks(1e18, 1e22)[0] == [1e18, 1e19, 1e20, 1e21, 1e22]
    assert nice_log_ticks(1e4, 1e6)[0] == [1e4, 1e5, 1e6]
    assert nice_log_ticks(2.0, 2.4)[0][:2] == pytest.approx([2.0, 2.1])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_labels_never_overlap_when_there_is_room(places: list[float]) -> None:
    out = spread(sorted(places), 10.0, low=0.0, high=100.0)
    assert all(second - first >= 10.0 - 1e-9 for first, second in itertools.pairwise(out))
    assert out[-1] <= 100.0 + 1e-9


def test_an_svg_is_drawn_in_css_variables_and_the_same_every_time() -> None:
    first, second = (svg_text(sketch, size=(4, 3)) for _ in range(2))
    assert first == second
    assert "var(--figure-ink" in first
    assert "var(--budget-1" in first
    assert "#0a0b" not in first
    assert "#0b01" not in first
    assert "<metadata>" not in first
    alone = standalone_svg(first)
    assert "prefers-color-scheme: dark" in alone
    assert alone.startswith("<?xml")


def test_a_figure_of_few_colours_spans_the_whole_map_beside_one_of_many() -> None:
    def many(figure: Figure, theme: Theme) -> None:
        axes = figure.add_subplot()
        for level, colour in enumerate(theme.budget_colours(9)):
            axes.axhline(level, color=colour)

    counts = colour_counts(svg_text(sketch, size=(4, 3)), svg_text(many, size=(4, 3)))
    assert counts == [2, 9]
    page = css_variables(LIGHT, *counts)
    assert f"--budget-1-of-2: {LIGHT.budget_colours(9)[-1]};" in page
    assert f"--budget-8-of-9: {LIGHT.budget_colours(9)[-1]};" in page


def test_drawing_leaves_the_callers_settings_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    save_png(sketch, tmp_path / "a.png", size=(4, 3), theme=DARK, dpi=50)
    save_png(sketch, tmp_path / "b.png", size=(4, 3), theme=DARK, dpi=50)
    assert dict(mpl.rcParams) == before
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_budgets_have_distinct_ascending_colours_in_every_theme() -> None:
    for theme in (LIGHT, DARK, CSS):
        assert len(set(theme.budget_colours(9))) == 9
    assert "--budget-2" in css_variables(LIGHT, 3)


def test_things_without_an_order_have_hues_of_their_own_that_follow_the_page() -> None:
    def methods(figure: Figure, theme: Theme) -> None:
        axes = figure.add_subplot()
        for level, colour in enumerate(theme.category_colours(8)):
            axes.axhline(level, color=colour)

    text = svg_text(methods, size=(4, 3))
    assert all(f"var(--category-{index}, {LIGHT.categories[index]})" in text for index in range(8))
    assert "#0c0d" not in text
    assert f"--category-7: {DARK.categories[7]};" in standalone_svg(text)
    for theme in (LIGHT, DARK, CSS):
        assert len(set(theme.category_colours(8))) == 8
        assert theme.category_colours(9) == theme.budget_colours(9)


def luminance(colour: str) -> float:
    channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def perceived(colour: str, sight: np.ndarray) -> np.ndarray:
    """CIELAB under a white of D65, after a matrix of colour vision in linear RGB."""
    channels = np.array([int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ np.clip(sight @ linear, 0, 1) / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_hues_are_told_apart_by_those_who_do_not_see_red_or_green(theme: Theme) -> None:
    deuteranopia = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    protanopia = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    for sight in (np.eye(3), deuteranopia, protanopia):  # Machado, Oliveira and Fernandes 2009
        seen = [perceived(colour, np.array(sight)) for colour in theme.categories]
        assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 15


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_text_and_lines_stand_out_from_their_background(theme: Theme) -> None:
    def contrast(colour: str) -> float:
        first, second = sorted((luminance(colour), luminance(theme.paper)))
        return (second + 0.05) / (first + 0.05)

    assert contrast(theme.ink) > 12
    assert contrast(theme.muted) > 3.5
    assert all(contrast(colour) > 2.0 for colour in theme.budget_colours(6))
    assert all(contrast(colour) > 4.5 for colour in theme.category_colours(8))
