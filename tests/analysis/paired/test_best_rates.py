"""Best rates of cells: recovery of the law, intervals that hold the truth, rounds that end inside."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml

import isoflop as iso
from analysis.__main__ import main
from analysis.errors import UserError
from analysis.paired.best_rates import tune
from analysis.paired.cells import make_cells, varying
from analysis.paired.rounds import STEP, anchors, wanted_rates
from tests.known import sweep_of

SIZES, TOKENS = np.geomspace(1e6, 1e9, 5), np.geomspace(1e9, 1e11, 4)


def best_rate(params: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The true law."""
    return 2.0 * params**-0.5 * tokens**0.1


def runs(
    offsets: tuple[float, ...], *, noise: float = 0.0005, spread: float = 0.15, seed: int = 0
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Runs at rates that lie some steps off a guess; the cells' own best rates scatter about the law."""
    rng = np.random.default_rng(seed)
    params, tokens = (axis.ravel() for axis in np.meshgrid(SIZES, TOKENS, indexing="ij"))
    places = np.log(best_rate(params, tokens)) + spread * rng.standard_normal(params.size)
    rows = []
    for n, d, place in zip(params, tokens, places, strict=True):
        for offset in offsets:
            rate = math.log(float(best_rate(np.array(n), np.array(d)))) + 0.2 + offset * STEP
            level = 1.7 + 400 / n**0.34 + 410 / d**0.28
            loss = level * math.exp(0.01 * (rate - place) ** 2 + noise * rng.standard_normal())
            rows.append((n, d, math.exp(rate), loss))
    columns = dict(zip(("params", "tokens", "lr", "loss"), np.array(rows).T, strict=True))
    return columns, places


def test_the_law_and_the_cells_are_recovered() -> None:
    columns, places = runs((-2, -1, 0, 1, 2), seed=1)
    found = tune(make_cells(columns, ["params", "tokens"])[0])
    assert found.exponents["params"].covers(-0.5)
    assert found.exponents["tokens"].covers(0.1)
    assert found.curvature == pytest.approx(0.02, rel=0.1)
    assert 0.05 < found.spread < 0.25
    assert np.sqrt(np.mean((found.log_rates - places) ** 2)) < 0.1


def test_intervals_hold_the_best_rate_of_nineteen_cells_in_twenty() -> None:
    held = []
    for seed in range(8):
        columns, places = runs((-1.5, -0.5, 0.5, 1.5), seed=seed)
        for cell, place in zip(tune(make_cells(columns, ["params", "tokens"])[0]).cells, places, strict=True):
            held.append(cell.rate.covers(math.exp(float(place))))
    assert np.mean(held) >= 0.9


def test_a_cell_whose_best_run_is_at_an_edge_is_asked_for_one_beyond() -> None:
    columns, _ = runs((1, 2, 3), spread=0.0)
    cells, _ = make_cells(columns, ["params", "tokens"])
    found = tune(cells)
    assert {cell.edge for cell in found.cells} == {"low"}
    tried = [cells.log_rate[cells.cell == c] for c in range(cells.num_cells)]
    for rates, before in zip(wanted_rates(found, tried), tried, strict=True):
        assert rates == pytest.approx([before.min() - STEP])
    inside = runs((-1, 0, 1), spread=0.0)[0]
    cells, _ = make_cells(inside, ["params", "tokens"])
    tried = [cells.log_rate[cells.cell == c] for c in range(cells.num_cells)]
    assert all(len(rates) == 0 for rates in wanted_rates(tune(cells), tried))


def test_a_cell_without_runs_gets_three_rates_about_the_law() -> None:
    columns, _ = runs((-1, 0, 1), spread=0.0)
    cells, values = make_cells(columns, ["params", "tokens"])
    kept = cells.cell != 7
    some = type(cells)(
        cell=cells.cell[kept],
        log_rate=cells.log_rate[kept],
        log_loss=cells.log_loss[kept],
        covariates=cells.covariates,
        names=cells.names,
        means=cells.means,
    )
    found = tune(some)
    truth = float(np.log(best_rate(values[7, 0], values[7, 1])))
    assert found.cells[7].loss.lo is None
    tried = [some.log_rate[some.cell == c] for c in range(some.num_cells)]
    assert np.sort(wanted_rates(found, tried)[7]) == pytest.approx([truth - STEP, truth, truth + STEP], abs=0.2)


def test_anchors_lie_far_apart() -> None:
    points = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), axis=-1).reshape(-1, 2)
    chosen = {tuple(point) for point in points[anchors(points, 5)]}
    assert chosen == {(2.0, 2.0), (0.0, 0.0), (0.0, 4.0), (4.0, 0.0), (4.0, 4.0)}


def test_what_cannot_be_tuned_is_said() -> None:
    columns, _ = runs((0,))
    with pytest.raises(UserError, match="lowest loss among three rates"):
        tune(make_cells(columns, ["params", "tokens"])[0])
    with pytest.raises(UserError, match="no column 'batch'"):
        make_cells(columns, ["batch"])
    with pytest.raises(UserError, match="several cells"):
        varying({"params": [1e6, 1e6], "tokens": [1e9, 1e9]})
    assert varying({"params": [1e6, 1e7, 1e8], "tokens": [2e7, 2e8, 2e9], "batch": [8.0, 8.0, 8.0]}) == ["params"]


TEMPLATE = """
name: rates
data: {corpus: markov, corpus_options: {num_symbols: 8, num_tokens: 65536}, context: 32, val_size: 4096}
design: {kind: tuned, tokens: [12800, 25600], shapes: [{width: 8, depth: 1}, {width: 16, depth: 1}], head_width: 8}
recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 2560}
"""


def test_the_verb_writes_a_round_a_recipe_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns, _ = runs((1, 2, 3), spread=0.0)
    width = np.repeat(np.arange(1, 6) * 8, TOKENS.size * 3)
    rows = zip(*columns.values(), width, strict=True)
    lines = ["params,tokens,lr,loss,width,depth", *(",".join(map(str, (*row, 1))) for row in rows)]
    (tmp_path / "runs.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "rates.yaml").write_text(TEMPLATE)
    names = {name: str(tmp_path / name) for name in ("next.yaml", "recipe.yaml", "best.csv", "rates.yaml", "runs.csv")}
    words = ["tuned", names["runs.csv"], "--template", names["rates.yaml"], "--out", names["next.yaml"]]
    assert main([*words, "--recipe", names["recipe.yaml"], "--table", names["best.csv"]]) == 0
    assert "best run has the lowest rate tried" in capsys.readouterr().out
    cells = sweep_of(tmp_path / "next.yaml").design.cells
    assert len(cells) == 20
    assert all(len(cell.rates) == 1 for cell in cells)
    law = sweep_of(tmp_path / "recipe.yaml").recipe.rate_law
    assert law is not None
    truth = float(best_rate(np.array(1e7), np.array(1e10)))  # all runs lie above it, so the law is extrapolated
    assert abs(math.log(law(1e7, 1e10, 256) / truth)) < 0.5
    assert yaml.safe_load((tmp_path / "recipe.yaml").read_text())["design"]["kind"] == "ladder"
    assert main(["fit", names["best.csv"], "--law", "hoffmann", "--weights", "weight", "--bootstrap", "0"]) == 0
    capsys.readouterr()
    assert main(["tuned", names["runs.csv"], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    ours = iso.tuned(iso.load_runs(names["runs.csv"], required=("params", "tokens", "loss")))
    assert told["law"]["coefficient"] == pytest.approx(ours.coefficient)
    assert main(["tuned", names["runs.csv"], "--out", names["next.yaml"]]) == 2
    assert "need --template" in capsys.readouterr().err
