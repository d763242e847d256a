"""The figures of a report, in the order of the page, each with its title, size and caption."""

from __future__ import annotations

from functools import partial

from analysis.figures.drawing.plate import Plate
from analysis.figures.exponents import draw_exponents
from analysis.figures.heldout import draw_heldout
from analysis.figures.isoflop import draw_isoflop
from analysis.figures.residuals import draw_residuals
from analysis.figures.surface import draw_envelope, draw_surface
from analysis.figures.training import draw_collapse, draw_training, training_budgets, training_size
from analysis.formatting import format_percent
from analysis.study.study import Study

MARKS = "Circles are fitted runs, squares held-out ones, hollow circles flagged ones; one colour per compute budget."
"""What the markers of most figures mean."""
SLOPES_CITED = (
    "Grey lines have the slopes of Kaplan et al. 2020 (N ~ C^0.73, D ~ C^0.27) and Hoffmann et al. 2022 (both 0.50), "
    "drawn through the middle of ours: slopes compare across data sets, heights do not."
)
"""Said under the figures that show published slopes."""


def plates(study: Study) -> list[Plate]:
    """The figures that a study has data for.

    Parameters
    ----------
    study : Study
        What the report shows.

    Returns
    -------
    list of Plate
        In the order of the page.
    """
    found = [
        make(study) for make in (_isoflop, _heldout, _surface, _exponents, _envelope, _residuals, _training, _collapse)
    ]
    return [plate for plate in found if plate is not None]


def _level(study: Study) -> str:
    return format_percent(study.choices.level)


def _isoflop(study: Study) -> Plate:
    level = _level(study)
    return Plate(
        name="isoflop",
        draw=partial(draw_isoflop, study),
        title="Compute-optimal size and tokens",
        size=(11.0, 4.3),
        caption=f"{MARKS} Diamonds are the budgets' minima with {level} intervals (hollow: held out, not used). "
        f"Lines are solid within the fitted compute and dashed beyond; bands are {level} intervals. {SLOPES_CITED}",
    )


def _heldout(study: Study) -> Plate | None:
    if study.heldout is None:
        return None
    return Plate(
        name="heldout",
        draw=partial(draw_heldout, study),
        title="The held-out prediction",
        size=(9.0, 3.7),
        caption="The law never saw these runs. Bars show the prediction interval of one run; the dotted line is the "
        "lowest loss among the fitted runs: what carrying the best smaller run forward predicts.",
    )


def _surface(study: Study) -> Plate:
    return Plate(
        name="surface",
        draw=partial(draw_surface, study),
        title="Iso-loss contours",
        size=(8.0, 4.8),
        caption=f"Along a line the law's loss is constant; where it bends back, compute is best spent. {MARKS} "
        f"The band is the {_level(study)} interval of the compute-optimal size.",
    )


def _exponents(study: Study) -> Plate:
    return Plate(
        name="exponents",
        draw=partial(draw_exponents, study),
        title="Three approaches side by side",
        size=(8.0, 3.1),
        caption=f"{study.comparison.verdict} Grey: Hoffmann et al. 2022, table 2 (10th and 90th percentiles), and "
        "Kaplan et al. 2020, equation 6.1.",
    )


def _envelope(study: Study) -> Plate:
    return Plate(
        name="envelope",
        draw=partial(draw_envelope, study),
        title="Loss by compute",
        size=(8.0, 4.5),
        caption=f"{MARKS} The envelope is taken over runs whose learning rate has decayed.",
    )


def _residuals(study: Study) -> Plate:
    return Plate(
        name="residuals",
        draw=partial(draw_residuals, study),
        title="Residuals",
        size=(10.5, 3.3),
        caption=f"{MARKS} The law was fitted to the circles.",
    )


def _training(study: Study) -> Plate | None:
    shown = training_budgets(study)
    if not shown:
        return None
    budgets = len({study.colour_index(value) for value in study.table.frame["budget_group"]})
    left_out = f" The {len(shown)} largest of {budgets} budgets are shown." if len(shown) < budgets else ""
    return Plate(
        name="training",
        draw=partial(draw_training, study),
        title="Training curves",
        size=training_size(study),
        caption="Training loss by tokens, deeper colour for larger models; the dot at the end is the validation loss "
        f"of the run.{left_out}",
    )


def _collapse(study: Study) -> Plate | None:
    if study.collapse is None:
        return None
    return Plate(
        name="collapse",
        draw=partial(draw_collapse, study),
        title="Do the training curves collapse?",
        size=(8.0, 3.6),
        caption="Training loss above the irreducible one over its last value, by the part of a run's tokens: curves of "
        f"runs that are trained alike fall on one (Qiu et al. 2025, arXiv 2507.02119). {study.collapse.sentence()}",
    )
