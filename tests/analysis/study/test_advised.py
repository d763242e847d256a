"""A sweep together with the sweep that was advised from it: budgets are compute, and smaller runs are smaller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.report.headline import headline
from analysis.runs.budgets import group_budgets
from analysis.study.build import build_study
from analysis.study.study import Choices


def both_sweeps(folder: Path) -> list[Path]:
    """An IsoFLOP sweep with a held-out budget, and an advised one of a few larger runs that names tokens."""
    rng = np.random.default_rng(3)

    def table(params: np.ndarray, flops: np.ndarray, **more: object) -> pd.DataFrame:
        tokens = flops / (6 * params)
        loss = (1.7 + 400 / params**0.34 + 410 / tokens**0.28) * np.exp(0.002 * rng.standard_normal(flops.size))
        return pd.DataFrame({"params": params, "tokens": tokens, "flops": flops, "loss": loss, **more})

    params, flops = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e6, 3e7, 6), [1e16, 4e16, 1.6e17, 6.4e17]))
    first = table(params, flops, budget=flops, role=np.where(flops == 6.4e17, "heldout", "fit"))
    tokens = np.repeat([3e9, 9e9], 2)
    sizes = np.array([1e7, 1.2e7, 2e7, 2.4e7])
    second = table(sizes, 6 * sizes * tokens, budget=tokens, role="fit")
    for name, frame in (("first", first), ("second", second)):
        frame.to_csv(folder / f"{name}.csv", index=False)
    return [folder / "first.csv", folder / "second.csv"]


def test_budgets_of_tokens_are_shown_as_the_compute_of_their_runs(tmp_path: Path) -> None:
    frame = pd.concat([pd.read_csv(path) for path in both_sweeps(tmp_path)], ignore_index=True)
    budgets, warnings = group_budgets(frame)
    assert (np.abs(np.log(budgets / frame["flops"])) < np.log(1.2)).all()
    assert "called by the mean compute of their runs" in warnings[0]
    assert budgets.nunique() == 6


def test_a_held_out_run_within_the_fitted_compute_is_called_so_and_smaller_runs_have_less(tmp_path: Path) -> None:
    study = build_study(both_sweeps(tmp_path), Choices(bootstrap=30, simulations=0))
    held = study.heldout
    assert held is not None
    assert held.reach < 1
    assert "(within the compute that was fitted)" in headline(study)
    fitted = study.table.frame[study.fitted]
    smaller = fitted[fitted["flops"] < held.rows["flops"].min()]
    assert held.rows["carried_forward"].iloc[0] == pytest.approx(smaller["loss"].min())
    assert held.rows["carried_forward"].iloc[0] > fitted["loss"].min()
