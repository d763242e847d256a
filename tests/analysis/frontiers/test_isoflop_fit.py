"""IsoFLOP minima: exact recoveries, published exponents, known biases, intervals and warnings."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.__main__ import main
from analysis.errors import UserError
from analysis.frontiers.curves import METHODS, Method, curve_minima
from analysis.frontiers.isoflop_fit import fit_isoflop
from analysis.runs.budgets import group_budgets
from analysis.runs.table import RunTable, load_tables


def table_of(frame: pd.DataFrame) -> RunTable:
    frame = frame.assign(row=range(1, len(frame) + 1), source="made")
    flags = pd.Series([""] * len(frame), dtype=object)
    return RunTable(frame=frame, excluded=frame[:0], flags=flags, conventions={"flops": "6ND"})


def hoffmann(
    alpha: float = 0.34, beta: float = 0.28, *, reach: float = 16.0, points: int = 15, shift: float = 1.0
) -> tuple[RunTable, float]:
    """Noise-free runs on the Chinchilla surface around each budget's optimum, and ln of its constant G."""
    E, A, B = 1.69, 406.4, 410.7
    constant = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    rows = []
    for flops in np.logspace(17, 21, 5):
        best = constant * (flops / 6) ** (beta / (alpha + beta))
        for params in best * shift * np.geomspace(1 / reach, reach, points):
            tokens = flops / 6 / params
            rows.append((params, tokens, flops, E + A / params**alpha + B / tokens**beta))
    return table_of(pd.DataFrame(rows, columns=["params", "tokens", "flops", "loss"])), math.log(constant)


@pytest.mark.parametrize("method", METHODS)
def test_a_parabola_in_log_size_is_found_exactly_by_every_polynomial_and_nearly_by_akima(method: Method) -> None:
    x = np.linspace(10, 14, 9)
    found = curve_minima(method, x, (2 + 0.1 * (x - 12.3) ** 2)[None, :])
    assert found.log_params[0] == pytest.approx(12.3, abs=1e-9 if method != "akima" else 0.02)
    assert found.loss[0] == pytest.approx(2.0, abs=1e-4)
    assert found.interior[0]


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.9, 0.9), st.floats(-0.02, 0.02))
def test_a_cubic_finds_the_minimum_of_a_cubic(place: float, skew: float) -> None:
    x = np.linspace(-1, 1, 8)
    y = (x - place) ** 2 + skew * (x - place) ** 3
    assert curve_minima("cubic", x, y[None, :]).log_params[0] == pytest.approx(place, abs=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_that_only_falls_has_no_interior_minimum(method: Method) -> None:
    x = np.linspace(0, 1, 7)
    assert not curve_minima(method, x, np.exp(-x)[None, :]).interior[0]


@pytest.mark.parametrize(
    ("alpha", "beta", "true", "found", "error"),
    [(0.34, 0.28, -0.555357, -0.578092, -0.0510), (0.465, 0.155, -1.345791, -1.459957, -0.2312)],
)
def test_czechs_noise_free_intercepts_come_out_to_six_digits(
    alpha: float, beta: float, true: float, found: float, error: float
) -> None:
    table, log_g = hoffmann(alpha, beta)
    fit = fit_isoflop(table, bootstrap=0, exponents=(alpha, beta))
    assert fit.frontier.line is not None
    assert fit.frontier.b is not None
    _, a, intercept, b = fit.frontier.line
    assert a == pytest.approx(beta / (alpha + beta), abs=1e-9)
    exact = -(log_g + b * math.log(6)) / math.log(10)
    assert exact == pytest.approx(true, abs=5e-7)
    assert intercept / math.log(10) == pytest.approx(found, abs=5e-7)
    tokens = float(fit.frontier.at(1e24)["tokens"].iloc[0])
    assert tokens / 10 ** (exact + 24 * b) - 1 == pytest.approx(error, abs=5e-5)
    assert np.allclose(fit.frontier.points["bias"], 1 / (1 + error) - 1, rtol=2e-3)
    assert any("Czech" in text for text in fit.frontier.warnings)


def test_a_parabola_is_unbiased_when_both_exponents_agree_and_the_grid_is_centred() -> None:
    table, log_g = hoffmann(0.31, 0.31)
    fit = fit_isoflop(table, bootstrap=0, exponents=(0.31, 0.31))
    assert fit.frontier.line is not None
    assert fit.frontier.line[0] == pytest.approx(log_g - 0.5 * math.log(6), abs=1e-9)
    assert np.allclose(fit.frontier.points["bias"], 0, atol=1e-9)
    assert fit.frontier.warnings == ()


def test_an_off_centre_grid_is_warned_of_with_the_size_of_the_bias_that_it_has() -> None:
    table, log_g = hoffmann(shift=4.0)
    fit = fit_isoflop(table, bootstrap=0)
    point = fit.frontier.points.iloc[2]
    truth = math.exp(log_g) * (point["flops"] / 6) ** (0.28 / 0.62)
    assert point["off_centre"] < -0.25
    assert sum("off the centre" in text for text in fit.frontier.warnings) == 5
    assert point["params"] / truth - 1 == pytest.approx(point["bias"], rel=1e-6)


def test_minima_at_the_edge_are_left_out_of_the_exponents_and_named() -> None:
    table, _ = hoffmann()
    largest = table.frame["flops"].max()
    best = table.frame[table.frame["flops"] == largest]["params"].median()
    edge = table.subset((table.frame["flops"] < largest) | (table.frame["params"] < best / 3))
    fit = fit_isoflop(edge, bootstrap=50)
    assert fit.frontier.points["bracketed"].tolist() == [True] * 4 + [False]
    assert any("not bracketed" in text and "1.0e21" in text for text in fit.frontier.warnings)
    assert fit.frontier.a.value == pytest.approx(0.28 / 0.62, abs=1e-6)
    minimum = fit.to_dict()["minima"][-1]  # type: ignore[index]
    assert minimum["lo"] is None
    assert minimum["bracketed"] is False


def test_llama_3_by_parabola_and_its_interval(published_data: Path) -> None:
    table = load_tables([published_data / "isoflops" / "isoflops.csv"], where="experiment == 'llama_3__raw_loss'")
    fit = fit_isoflop(table, bootstrap=300)
    assert fit.frontier.b is not None
    assert fit.frontier.a.value == pytest.approx(0.463, abs=5e-4)
    assert fit.frontier.b.value == pytest.approx(0.537, abs=5e-4)
    assert fit.frontier.a.covers(0.463)
    assert fit.frontier.a.hi is not None
    assert fit.frontier.a.lo is not None
    assert fit.frontier.a.hi - fit.frontier.a.lo < 0.06


def test_porians_exponents_by_akima(published_data: Path) -> None:
    published = pd.read_csv(published_data / "porian" / "published_exponents.csv")
    assert len(published) == 5
    for _, row in published.iterrows():
        keys = ("hparams", "warmup", "decay", "param_count", "val")
        where = " and ".join(f"{key} == '{row[key]}'" for key in keys)
        points = [published_data / "porian" / "isoflop_points.csv"]
        table = load_tables(points, {"params": "n", "tokens": "t"}, where)
        fit = fit_isoflop(table, method="akima", bootstrap=0)
        assert fit.frontier.a.value == pytest.approx(row["a_basic"], abs=0.007)


def test_budgets_are_grouped_by_compute_and_a_named_budget_wins() -> None:
    frame = pd.DataFrame({"flops": [1e18, 1.03e18, 0.98e18, 1e19, 1.05e19, 2e19]})
    budgets, warnings = group_budgets(frame)
    assert budgets.round(-16).nunique() == 3
    assert warnings == ()
    named, _ = group_budgets(frame.assign(budget=[5.0, 5.0, 5.0, 7.0, 7.0, 7.0]))
    assert named.tolist() == [5.0, 5.0, 5.0, 7.0, 7.0, 7.0]
    partly, _ = group_budgets(frame.assign(budget=[5.0, np.nan, 5.0, 7.0, 7.0, 7.0]))
    assert partly.tolist() == budgets.tolist()
    ladder = pd.DataFrame({"flops": [1e18, 4e18, 4e18, 1.6e19], "budget": [1e9, 1e9, 4e9, 4e9]})
    by_compute, told = group_budgets(ladder)
    assert by_compute.round(-16).nunique() == 3
    assert "no compute budget" in told[0]
    chained = pd.DataFrame({"flops": 1e18 * 1.05 ** np.arange(30)})
    split, warned = group_budgets(chained)
    assert "name them with --columns budget" in warned[0]
    spans = chained["flops"].groupby(split).agg(lambda values: values.max() / values.min())
    assert spans.max() <= 1.35
    shuffled = group_budgets(chained.sample(frac=1, random_state=0))[0].sort_index()
    assert shuffled.tolist() == pytest.approx(split.tolist())


def test_intervals_of_the_exponent_have_their_coverage() -> None:
    table, _ = hoffmann(points=7, reach=5.0)
    rng = np.random.default_rng(0)
    truth, hits, studies = 0.28 / 0.62, 0, 60
    for _ in range(studies):
        noisy = table.frame.assign(loss=table.frame["loss"] * np.exp(rng.normal(0, 0.003, len(table.frame))))
        hits += fit_isoflop(table_of(noisy), bootstrap=120, rng=rng).frontier.a.covers(truth)
    assert 0.87 <= hits / studies <= 0.99


def test_clustered_deviations_widen_the_interval_when_a_trunk_deviates_as_one() -> None:
    table, _ = hoffmann(points=7)
    trunk = np.tile(np.arange(7), 5)
    rng = np.random.default_rng(1)
    loss = table.frame["loss"] * np.exp(rng.normal(0, 0.01, 7)[trunk])
    noisy = table_of(table.frame.assign(loss=loss, trunk=trunk))
    together = fit_isoflop(noisy, bootstrap=400, cluster="trunk").frontier.points
    assert together["params_lo"].notna().all()


def test_no_spare_runs_means_no_interval_and_says_so() -> None:
    table, _ = hoffmann(points=3)
    fit = fit_isoflop(table, bootstrap=100)
    assert not fit.frontier.a.has_interval
    assert "as many runs as its curve" in str(fit.frontier.a.reason)


def test_a_single_budget_gives_a_minimum_and_no_exponent() -> None:
    table, _ = hoffmann()
    one = table.subset(table.frame["flops"] == table.frame["flops"].min())
    fit = fit_isoflop(one, bootstrap=50)
    assert fit.frontier.line is None
    assert "an exponent needs two" in str(fit.frontier.a.reason)


def test_replicates_and_units_and_order_do_not_change_the_minima() -> None:
    table, _ = hoffmann(points=7)
    plain = fit_isoflop(table, bootstrap=0).frontier
    frame = table.frame.sample(frac=1.0, random_state=3)
    doubled = pd.concat([frame, frame], ignore_index=True)
    assert fit_isoflop(table_of(doubled), bootstrap=0).frontier.a.value == pytest.approx(plain.a.value, abs=1e-10)
    scaled = table.frame.assign(params=table.frame["params"] * 1e3, flops=table.frame["flops"] * 1e3)
    found = fit_isoflop(table_of(scaled), bootstrap=0).frontier.points["params"]
    assert np.allclose(found, plain.points["params"] * 1e3, rtol=1e-9)


def test_too_few_sizes_or_an_unknown_method_is_a_clear_error() -> None:
    table, _ = hoffmann(points=2)
    with pytest.raises(UserError, match="no compute budget has the 3 sizes that a parabola needs"):
        fit_isoflop(table)
    with pytest.raises(UserError, match="choose among parabola"):
        fit_isoflop(table, method="spline")  # type: ignore[arg-type]  # refused on purpose
    negative = table_of(hoffmann()[0].frame.assign(loss=lambda frame: -frame["loss"]))
    with pytest.raises(UserError, match="log losses need positive losses"):
        fit_isoflop(negative, method="akima")


def test_the_verb_prints_the_json_of_the_interface(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs.csv"
    hoffmann(points=7)[0].frame[["params", "flops", "loss"]].rename(columns={"params": "N", "flops": "C"}).to_csv(path)
    words = ["isoflop", str(path), "--columns", "params=N,flops=C,loss=loss", "--bootstrap", "50", "--json"]
    assert main(words) == 0
    raw = json.loads(capsys.readouterr().out)
    assert set(raw) >= {"a", "b", "minima", "warnings"}
    assert raw["a"]["value"] == pytest.approx(0.28 / 0.62, abs=1e-6)
    assert raw["b"]["value"] == pytest.approx(0.34 / 0.62, abs=1e-6)
    assert raw["convention"] == "6ND"
    assert set(raw["minima"][0]) >= {"flops", "params", "lo", "hi", "loss", "bracketed"}
    assert main(words[:-1]) == 0
    assert "N_opt ~ C^a" in capsys.readouterr().out
    assert main(["isoflop", str(path), "--columns", "params=M,flops=C"]) == 2
    assert "no column 'M'" in capsys.readouterr().err
