"""Places where an engine is confidently wrong unless it looks: each is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law

ROOT = Path(__file__).resolve().parents[3]


def test_what_repetition_costs_is_not_identified_without_repetition() -> None:
    """R_D and R_N are no exponents; their profiles are walked all the same."""
    params = np.repeat(np.geomspace(1e7, 1e9, 7), 5)
    tokens = params * np.tile(np.geomspace(4, 100, 5), 7)
    data = {"params": params, "tokens": tokens, "unique_tokens": 0.9 * tokens}
    truth = (1.8, 480.0, 2000.0, 0.35, 0.37, 15.4, 5.3)
    noise = np.exp(0.003 * np.random.default_rng(0).standard_normal(params.size))
    fit = fit_law("muennighoff", data | {"loss": get_law("muennighoff")(truth, data) * noise}, bootstrap=0)
    assert fit.identified["R_D"] is not None
    assert fit.identified["alpha"] is None


def test_shifted_and_m3_are_different_laws() -> None:
    """M3 of Alabdulmohsin et al. 2022 is beta (1 / x + gamma)**c, without a floor."""
    x = {"x": np.geomspace(1.0, 1e6, 7)}
    np.testing.assert_allclose(get_law("m3")((3.0, 0.4, 1e-3), x), 3.0 * (1 / x["x"] + 1e-3) ** 0.4)
    assert [p.name for p in get_law("shifted").parameters] != [p.name for p in get_law("m3").parameters]
    assert "M3" not in get_law("shifted").source


def test_a_chosen_law_that_predicts_worse_than_the_mean_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flops = np.geomspace(1e18, 1e21, 40)
    loss = 2 + (flops / 1e18) ** -0.1 + 0.15 * (np.arange(40) > 25) * np.linspace(0, 1, 40)
    pd.DataFrame({"flops": flops, "loss": loss}).to_csv(tmp_path / "runs.csv", index=False)
    words = ["select", str(tmp_path / "runs.csv"), "--laws", "power", "--bootstrap", "20", "--json"]
    assert main([*words, "--reference", "none"]) == 0
    captured = capsys.readouterr()
    ranking = json.loads(captured.out)["ranking"]
    assert ranking[0]["r2"] < 0
    assert "no law of these extrapolates here" in captured.err


def test_pages_say_what_was_chosen_with_test_curves_in_view_and_where_intervals_are_narrow() -> None:
    assert "with the test curves in view" in (ROOT / "docs" / "published.md").read_text(encoding="utf-8")
    assert "`--bootstrap 0`" in (ROOT / "docs" / "concepts" / "intervals.md").read_text(encoding="utf-8")
