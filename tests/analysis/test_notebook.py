"""What results show of themselves: a short repr, and small escaped tables in a notebook."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.api import advise, compare, multiplier
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.frontiers.isoflop_fit import IsoflopFit, fit_isoflop
from analysis.frontiers.parametric import parametric_frontier
from analysis.laws.registry import LAWS
from analysis.runs.columns import as_columns
from analysis.runs.table import RunTable
from analysis.selection.select import select_law

DANGER = "<script>alert(1)</script>"
"""Text that a page must not run."""


@pytest.fixture(scope="module")
def table() -> RunTable:
    """Six budgets of seven sizes."""
    flops = np.repeat(np.geomspace(1e18, 1e21, 6), 7)
    params = np.sqrt(flops / 120) * np.tile(np.geomspace(0.2, 5, 7), 6)
    frame = pd.DataFrame({"params": params, "tokens": flops / (6 * params), "flops": flops})
    loss = LAWS["hoffmann"]([1.8172, 482.01, 2085.43, 0.3478, 0.3658], as_columns(frame))
    frame["loss"] = loss * np.exp(0.004 * np.random.default_rng(0).standard_normal(loss.size))
    flags = pd.Series([""] * len(frame), dtype=object)
    flags.iloc[1] = DANGER
    return RunTable(
        frame=frame, excluded=frame[:0], flags=flags, conventions={"flops": "6ND"}, notes=(f"1 row flagged: {DANGER}",)
    )


@pytest.fixture(scope="module")
def fit(table: RunTable) -> Fit:
    """Hoffmann's law on them."""
    return fit_law("hoffmann", table.frame, bootstrap=20)


@pytest.fixture(scope="module")
def isoflop(table: RunTable) -> IsoflopFit:
    """Their minima."""
    return fit_isoflop(table, bootstrap=30)


def shown(result: object) -> str:
    """What a notebook shows, which must be small, and must not run what it holds."""
    html = result._repr_html_()  # type: ignore[attr-defined]  # the protocol of notebooks
    assert isinstance(html, str)
    assert len(html) < 12_000
    assert "<script>" not in html
    assert html.count("<table") == html.count("</table>") == 1
    assert len(repr(result)) < 400
    return html


def test_a_table_shows_its_first_rows_its_flags_and_its_notes(table: RunTable) -> None:
    html = shown(table)
    assert repr(table) == "RunTable(42 runs, 0 left out, 1 flagged)"
    assert html.count("<tr") == 11
    assert html.count("&lt;script&gt;") == 2


def test_a_fit_shows_parameters_with_intervals_and_warnings(fit: Fit) -> None:
    html = shown(replace(fit, warnings=(DANGER,)))
    assert repr(fit).startswith("Fit(hoffmann: E=1.8")
    assert repr(fit).endswith("42 rows, converged)")
    for name, estimate in fit.estimates.items():
        assert f"<td>{name}</td>" in html
        assert estimate.lo is not None
    assert "&lt;script&gt;" in html


def test_a_frontier_shows_its_exponents_and_points(fit: Fit, isoflop: IsoflopFit) -> None:
    frontier = parametric_frontier(fit)
    html = shown(replace(frontier, warnings=(DANGER,)))
    assert f"a = {frontier.a}" in html
    assert "&lt;script&gt;" in html
    assert repr(frontier).startswith("Frontier(parametric hoffmann, 6ND, a = 0.5")
    assert "isoflop parabola" in shown(isoflop)


def test_a_selection_shows_its_ranking_and_its_reason(table: RunTable) -> None:
    found = select_law(as_columns(table.frame), laws=["hoffmann", "kaplan"], bootstrap=50)
    html = shown(replace(found, why=DANGER))
    assert f"<b>{found.chosen}</b>" in html
    assert "&lt;script&gt;" in html
    assert repr(found).startswith(f"SelectionResult({found.chosen} of ")


def test_a_comparison_shows_every_approach_and_the_verdict(table: RunTable) -> None:
    found = compare(table, bootstrap=20, simulations=10)
    html = shown(replace(found, verdict=DANGER))
    assert html.count("<tr") == 1 + len(found.frontiers) + len(found.missing)
    for frontier in found.frontiers:
        assert f"<td>{frontier.a}</td>" in html
        assert str(frontier.a) in repr(found)


def test_an_optimum_shows_its_intervals_and_the_shapes_about_it(fit: Fit) -> None:
    found = advise(fit, budget=1e21)
    html = shown(found)
    assert html.count("<tr") == 1 + len(found.shapes)
    for estimate in (found.params, found.tokens, found.loss):
        assert estimate.lo is not None
        assert str(estimate) in html
        assert str(estimate) in repr(found)


def test_multipliers_show_every_arm_at_every_budget(table: RunTable) -> None:
    frame = table.frame
    twice = pd.concat([frame.assign(arm=DANGER), frame.assign(arm="plain", loss=frame["loss"] * 1.01)])
    found = multiplier(twice, arm="arm", reference="plain", bootstrap=100, at=[1e20, 1e21])
    html = shown(found)
    assert html.count("<tr") == 3
    assert html.count("&lt;script&gt;") == 3
    assert repr(found).startswith("Multipliers(over plain: ")
