"""The envelope of decayed end points, shapes along a ladder, and the comparison of the three approaches."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.frontiers.compare import compare_approaches, rank_of
from analysis.frontiers.envelope import fit_envelope
from analysis.frontiers.flops_per_token import Shapes
from analysis.frontiers.frontier import Frontier, fit_line, fit_lines
from analysis.runs.roles import undecayed_rows
from analysis.runs.table import RunTable, load_tables
from analysis.verbs.fitting.frontier import parse_flops


def ladder(*, sizes: int = 9, budgets: int = 6, noise: float = 0.0, seed: int = 0) -> RunTable:
    """Sizes crossed with nested budgets on the Chinchilla surface: a = .4516."""
    rng = np.random.default_rng(seed)
    rows = []
    for flops in np.geomspace(1e18, 1e21, budgets):
        for params in np.geomspace(3e7, 1e10, sizes):
            tokens = flops / 6 / params
            loss = 1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28
            rows.append((params, tokens, flops, loss * math.exp(rng.normal(0, noise) if noise else 0.0)))
    frame = pd.DataFrame(rows, columns=["params", "tokens", "flops", "loss"])
    frame = frame.assign(row=range(1, len(frame) + 1), source="made")
    flags = pd.Series([""] * len(frame), dtype=object)
    return RunTable(frame=frame, excluded=frame[:0], flags=flags, conventions={"flops": "6ND"})


def test_the_envelope_of_a_fine_ladder_finds_the_exponent_of_the_surface() -> None:
    frontier = fit_envelope(ladder(sizes=41, budgets=7), bootstrap=0)
    assert frontier.a.value == pytest.approx(0.28 / 0.62, abs=0.03)
    assert frontier.b is not None
    assert frontier.a.value + frontier.b.value == pytest.approx(1, abs=0.01)
    assert frontier.a.reason == "no draws were asked for"
    fine = frontier.points
    assert (fine["loss"].diff().dropna() <= 1e-12).all()


def test_the_envelope_of_published_runs_agrees_with_hoffmanns_first_approach(published_data: Path) -> None:
    path = published_data / "epoch_chinchilla" / "svg_extracted_data.csv"
    table = load_tables([path], {"params": "Model Size", "flops": "Training FLOP"}, None, 5)
    frontier = fit_envelope(table, bootstrap=60)
    assert frontier.a.covers(0.50)
    assert 0.4 < frontier.a.value < 0.6


def test_points_in_mid_run_enter_only_when_allowed_and_are_named() -> None:
    table = ladder()
    frame = table.frame.assign(curve=table.frame["params"].round(-3).astype(str))
    curves = RunTable(frame=frame, excluded=table.excluded, flags=table.flags, conventions=table.conventions)
    assert undecayed_rows(frame).sum() == len(frame) - frame["curve"].nunique()
    left = fit_envelope(curves, bootstrap=0)
    assert "left out (--allow-undecayed" in left.warnings[0]
    taken = fit_envelope(curves, bootstrap=0, allow_undecayed=True)
    assert "undecayed learning rate" in taken.warnings[0]
    assert taken.method == "envelope with mid-run points"
    flagged = frame.assign(decayed=False)
    none = RunTable(frame=flagged, excluded=table.excluded, flags=table.flags, conventions=table.conventions)
    with pytest.raises(UserError, match="fewer than two decayed end points"):
        fit_envelope(none)


def test_shapes_turn_compute_into_tokens_under_any_counting() -> None:
    six = Shapes.from_frame(ladder().frame)
    assert six.is_six_n
    assert six.tokens(6e18, 1e8) == pytest.approx(1e10)
    params = np.geomspace(1e4, 1e6, 7)
    counted = pd.DataFrame({"params": params, "tokens": 1e7, "flops": 6 * params * 1e7 * (1 + 30 * params**-0.4)})
    shapes = Shapes.from_frame(counted)
    assert shapes.form == "excess"
    assert np.allclose(shapes.tokens(counted["flops"], params), 1e7, rtol=1e-9)
    assert shapes.ratio(1e12) == pytest.approx(1.0, abs=1e-3)
    falling = counted.assign(flops=6 * params * 1e7 * (params / 1e5) ** -0.05)
    assert Shapes.from_frame(falling).form == "power"
    assert np.allclose(Shapes.from_frame(falling).flops_per_token(params) * 1e7, falling["flops"])


def test_lines_of_draws_equal_lines_one_by_one() -> None:
    rng = np.random.default_rng(0)
    x, y = np.arange(5.0), rng.normal(size=(4, 5))
    y[1, 2] = math.nan
    y[3, 1:] = math.nan
    lines = fit_lines(x, y)
    for row, line in zip(y[:3], lines, strict=False):
        assert line == pytest.approx(fit_line(x, row))
    assert np.isnan(lines[3]).all()


def test_a_frontier_without_a_power_law_says_what_it_needs() -> None:
    points = pd.DataFrame({"flops": [1e18]})
    frontier = Frontier(method="isoflop", convention="6ND", a=Estimate(value=math.nan), b=None, points=points)
    with pytest.raises(ValueError, match="at least two compute budgets"):
        frontier.at(1e19)
    json.dumps(frontier.to_dict(), allow_nan=False)


def test_three_approaches_on_one_surface_do_not_disagree() -> None:
    table = ladder(noise=0.003)
    comparison = compare_approaches(table, bootstrap=40, simulations=29)
    assert len(comparison.frontiers) == 3
    assert comparison.p_value is not None
    assert comparison.p_value > 0.05
    assert "do not disagree" in comparison.verdict
    assert comparison.frontiers[-1].a.covers(0.28 / 0.62)
    assert set(comparison.differences) == {"envelope", "isoflop parabola"}
    json.dumps(comparison.to_dict(), allow_nan=False)


def test_differences_that_no_simulation_reaches_get_the_smallest_p_and_typical_ones_a_large_one() -> None:
    rng = np.random.default_rng(0)
    simulated = rng.multivariate_normal([0.01, -0.02], [[4e-4, 3e-4], [3e-4, 4e-4]], size=199)
    assert rank_of(np.array([0.2, 0.2]), simulated) == pytest.approx(1 / 200)
    assert rank_of(np.array([0.01, -0.02]), simulated) > 0.95
    assert rank_of(np.array([0.05, -0.06]), simulated) < 0.05
    assert rank_of(np.array([0.05, 0.02]), simulated) > 0.05


def test_without_curves_two_approaches_remain_and_the_reason_is_given() -> None:
    comparison = compare_approaches(ladder(sizes=2), bootstrap=0, simulations=0)
    assert comparison.isoflop is None
    assert "needs" in comparison.missing["isoflop"]
    assert comparison.verdict.startswith("Not tested")


def test_the_verbs_answer_in_text_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs.csv"
    ladder(noise=0.002).frame.drop(columns=["row", "source"]).to_csv(path, index=False)
    quick = [str(path), "--bootstrap", "40"]
    assert main(["compare", *quick, "--simulations", "25", "--json"]) == 0
    raw = json.loads(capsys.readouterr().out)
    assert [one["method"] for one in raw["frontiers"]] == ["envelope", "isoflop parabola", "parametric hoffmann"]
    assert main(["compare", *quick, "--simulations", "0"]) == 0
    assert "Not tested" in capsys.readouterr().out
    for approach in ("parametric", "isoflop", "envelope"):
        assert main(["frontier", *quick, "--approach", approach, "--flops", "1e19:1e22:4"]) == 0
        out = capsys.readouterr().out
        assert out.count("beyond the runs") == 1
    assert main(["frontier", *quick, "--flops", "1e19,1e20", "--json"]) == 0
    assert [row["flops"] for row in json.loads(capsys.readouterr().out)["points"]] == [1e19, 1e20]
    assert main(["frontier", *quick, "--law", "power"]) == 2
    assert "\n" not in capsys.readouterr().err.strip()


@pytest.mark.parametrize("words", ["", "a", "1:2:3:4", "2:1", "-1,2", "1e18:inf", "1:2:1", "nan"])
def test_compute_that_cannot_be_is_refused(words: str) -> None:
    with pytest.raises(UserError, match="is no compute"):
        parse_flops(words, 1.0, 2.0)
