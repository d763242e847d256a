"""What a figure writes can be read: inside the figure, beside no marker, in colours that tell budgets apart."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.figures.drawing.axes import EndLabel, label_ends
from analysis.figures.drawing.theme import CSS, DARK, LIGHT, Theme
from analysis.figures.isoflop import MAX_LABELS, draw_isoflop, plot_isoflop
from analysis.figures.paired import plot_arm_rates, plot_arms, plot_rates
from analysis.figures.surface import draw_surface
from analysis.figures.training import draw_training, plot_training, training_budgets, training_size
from analysis.laws.registry import LAWS
from analysis.study.build import build_study
from analysis.study.study import Choices, Study

Box = tuple[float, float, float, float]


def study_of(folder: Path, num_budgets: int) -> Study:
    """Runs of Hoffmann's law at some budgets."""
    rng = np.random.default_rng(num_budgets)
    rows = []
    for flops in np.geomspace(1e17, 1e20, num_budgets):
        params = np.geomspace(0.25, 4, 6) * (flops / 120) ** 0.5
        data = {"params": params, "tokens": flops / 6 / params}
        loss = LAWS["hoffmann"]([1.7, 400.0, 410.0, 0.34, 0.28], data)
        noisy = loss * np.exp(0.003 * rng.standard_normal(6))
        rows.append(pd.DataFrame(data).assign(flops=flops, loss=noisy))
    frame = pd.concat(rows, ignore_index=True)
    frame["run_id"] = [f"{row:012x}" for row in range(len(frame))]
    frame.to_csv(folder / "runs.csv", index=False)
    return build_study([folder / "runs.csv"], Choices(bootstrap=0, simulations=0))


@pytest.fixture(scope="module", params=[5, 28])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study_of(tmp_path_factory.mktemp("study"), request.param)


def extents(figure: Figure, texts: list[Text]) -> list[Box]:
    """Boxes of texts in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib leaves it untyped
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]  # so is this
    boxes = [Text.get_window_extent(text, renderer) for text in texts]  # without arrows
    return [(box.x0, box.y0, box.x1, box.y1) for box in boxes]


def written(figure: Figure) -> list[Text]:
    """Every text that is seen."""
    return [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text() and text.get_visible()]


@pytest.mark.parametrize("draw", [draw_isoflop, draw_surface])
def test_every_text_lies_within_the_figure(study: Study, draw: Callable[[Study, Figure, Theme], None]) -> None:
    size = (11.0, 4.3) if draw is draw_isoflop else (8.0, 4.8)
    figure = Figure(figsize=size, dpi=100)
    draw(study, figure, LIGHT)
    for text, (left, bottom, right, top) in zip(written(figure), extents(figure, written(figure)), strict=True):
        shown = text.axes is None or text.get_window_extent().width > 0
        assert not shown or (left >= -1 and bottom >= -1), text
        assert right <= 100 * size[0] + 1, text
        assert top <= 100 * size[1] + 1, text


def test_contours_are_labelled_within_their_axes(study: Study) -> None:
    figure = Figure(figsize=(8.0, 4.8), dpi=100)
    draw_surface(study, figure, LIGHT)
    (ax,) = figure.axes
    labels = [text for text in ax.texts if "N_" not in text.get_text()]
    assert labels
    frame = ax.get_window_extent()
    for left, bottom, right, top in extents(figure, list(labels)):
        assert frame.x0 <= left < right <= frame.x1
        assert frame.y0 <= bottom < top <= frame.y1


def test_the_key_of_the_frontier_crosses_no_curve(study: Study) -> None:
    figure = Figure(figsize=(11.0, 4.3), dpi=100)
    draw_isoflop(study, figure, LIGHT)
    for ax in figure.axes[1:3]:
        keyed = [text for text in ax.texts if "Hoffmann's form" in text.get_text() or "IsoFLOP" in text.get_text()]
        assert keyed
        for _, _, _, top in extents(figure, list(keyed)):
            assert top < ax.get_window_extent().y0


def test_many_budgets_have_a_bar_of_colours_and_few_have_labels(study: Study) -> None:
    ax = plot_isoflop(study)
    if len(study.budgets) > MAX_LABELS:
        (bar,) = ax.child_axes
        assert len(bar.patches) == len(study.budgets)
        assert 3 <= len(bar.get_yticks()) <= 8
        assert not ax.texts
    else:
        assert not ax.child_axes
        assert len(ax.texts) == len(study.budgets)


@pytest.mark.parametrize("theme", [LIGHT, DARK, CSS], ids=lambda theme: theme.name)
def test_every_budget_has_a_colour_of_its_own(theme: Theme) -> None:
    for count in (3, 24, 25, 60):
        assert len(set(theme.budget_colours(count))) == count


def test_labels_outside_stand_right_of_the_axes_in_the_order_of_their_curves() -> None:
    figure = Figure(figsize=(5, 3), dpi=100)
    ax = figure.add_axes((0.1, 0.1, 0.6, 0.8))
    ax.set(xlim=(0, 10), ylim=(0, 1))
    ends = [EndLabel(x, y, f"curve {index}", "k") for index, (x, y) in enumerate([(2, 0.5), (9.9, 0.52), (5, 0.9)])]
    label_ends(ax, ends, outside=True)
    boxes = extents(figure, list(ax.texts))
    assert all(box[0] >= ax.get_window_extent().x1 for box in boxes)
    lowest_first = sorted(range(3), key=lambda index: boxes[index][1])
    assert lowest_first == [0, 1, 2]
    for low, high in itertools.pairwise(lowest_first):
        assert boxes[low][3] <= boxes[high][1] + 1


def curves_of(study: Study) -> Study:
    """The study with a training curve of each run."""
    from dataclasses import replace

    curves = {}
    for _, run in study.table.frame.iterrows():
        tokens = np.geomspace(run["tokens"] / 100, run["tokens"], 40)
        curves[run["run_id"]] = pd.DataFrame({"tokens": tokens, "train_loss": run["loss"] * (2 - np.arange(40) / 40)})
    return replace(study, curves=curves)


def test_sizes_of_training_curves_are_named_once_beside_the_panels(study: Study) -> None:
    shown = curves_of(study)
    figure = Figure(figsize=training_size(shown), dpi=100)
    draw_training(shown, figure, LIGHT)
    sizes = [text for text in figure.texts if text.get_text() != "N, parameters"]
    assert 3 <= len(sizes) <= 12
    panels = [ax.get_window_extent() for ax in figure.axes]
    assert len(panels) == len(training_budgets(shown))
    for left, bottom, right, top in extents(figure, list(sizes)):
        for panel in panels:
            assert right < panel.x0 or left > panel.x1 or top < panel.y0 or bottom > panel.y1
    alone = plot_training(shown, training_budgets(shown)[-1])
    assert len(alone.texts) == 6


def test_the_best_rate_of_each_arm_is_ringed_among_those_at_which_every_seed_finished() -> None:
    adamw, muon = {0.01: (2.0, 2.2), 0.02: (1.0,)}, {0.01: (1.5, 1.7), 0.02: (1.8, 1.9)}
    rows = [
        {"arm": arm, "params": 1e4, "tokens": 1e6, "lr": rate, "seed": seed, "loss": loss}
        for arm, losses in (("adamw", adamw), ("muon", muon))
        for rate, values in losses.items()
        for seed, loss in enumerate(values)
    ]
    ax = plot_arm_rates(pd.DataFrame(rows))
    rings = [np.asarray(line.get_xydata()) for line in ax.lines if line.get_markersize() == 10]
    assert np.allclose(np.concatenate(rings), [[0.01, 2.1], [0.01, 1.6]])
    assert [text.get_text() for text in ax.texts] == ["adamw", "muon"]


def test_the_reference_of_arms_is_named_and_thin_lines_are_explained() -> None:
    rows = [
        {"arm": arm, "params": 1e4, "difference": value, "lo": value - 0.1, "hi": value + 0.1, "reason": reason}
        for arm, value, reason in (("rotary", np.nan, "the reference"), ("alibi", 0.2, None))
    ]
    ax: Axes = plot_arms(pd.DataFrame(rows))
    assert "reference: rotary" in [text.get_text() for text in ax.texts]
    rates = pd.DataFrame(
        {
            "status": "done",
            "params": 1e4,
            "tokens": 1e6,
            "seed": [0, 0, 1, 1],
            "lr": [0.01, 0.02] * 2,
            "scale": [1.0, 2.0] * 2,
            "excess_fraction": [0.0, 0.01] * 2,
            "excess_lo": [0.0, 0.005] * 2,
            "excess_hi": [0.001, 0.015] * 2,
        }
    )
    assert "thin lines: other seeds" in plot_rates(rates).get_title()
