"""The published re-fits themselves, in every clone: on runs made from the published constants, in the files' format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.laws.registry import LAWS
from analysis.published.constants import BESIROGLU_2024, GADRE, GEMSTONES
from analysis.published.curves import GADRE_DOWNSTREAM, MULTIPOWER_2025, TRAINED_ON
from analysis.published.refits import compare

SHAPES = {"d=96_l=8_h=4": 1.1e7, "d=512_l=8_h=4": 7.9e7, "d=576_l=24_h=8": 1.54e8, "d=1024_l=24_h=8": 4.11e8}
"""Models of Gadre et al., with their sizes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs without noise in the folders and columns of the published ones."""
    out = tmp_path_factory.mktemp("published")
    for name in ("epoch_chinchilla", "gadre", "gemstones", "multipowerlaw/25M", "multipowerlaw/100M"):
        (out / name).mkdir(parents=True)
    _epoch().to_csv(out / "epoch_chinchilla" / "svg_extracted_data.csv", index=False)
    _gadre().to_csv(out / "gadre" / "models.csv", index=False)
    for name in GEMSTONES:
        _gemstones(name).to_csv(out / "gemstones" / f"{name}.csv", index=False)
    for size in MULTIPOWER_2025:
        for name, curve in _schedules(size).items():
            curve.to_csv(out / "multipowerlaw" / size / f"{name}.csv", index=False)
    return out


def _epoch() -> pd.DataFrame:
    """49 sizes with five ratios of tokens to parameters: 245 rows, of which the re-fit drops the five worst."""
    params = np.repeat(np.geomspace(5e7, 1.6e10, 49), 5)
    tokens = params * np.tile(np.geomspace(2, 200, 5), 49)
    theta = [BESIROGLU_2024[name] for name in LAWS["hoffmann"].param_names]
    loss = LAWS["hoffmann"](theta, {"params": params, "tokens": tokens})
    return pd.DataFrame({"Model Size": params, "Training FLOP": 6 * params * tokens, "loss": loss})


def _gadre() -> pd.DataFrame:
    """The runs that the paper fits its two laws to, of both training sets."""
    rows = []
    for label, (data_set, constants) in GADRE.items():
        law, error = LAWS["gadre"], LAWS["downstream-exponential"]
        runs = [(name, size, 20) for name, size in SHAPES.items()]
        for name, size, multiple in (*runs, ("open_lm_1b", 1.4e9, 20), ("d=96_l=8_h=4", 1.1e7, 320)):
            at = {"params": [size], "tokens": [size * multiple]}
            loss = float(law([constants[p] for p in law.param_names], at)[0])
            gone = float(error([GADRE_DOWNSTREAM[label][1][p] for p in error.param_names], {"loss": [loss]})[0])
            row = {"dataset_name": data_set, "model_name": name, "tok_mult": multiple, "N": size, "D": size * multiple}
            rows.append({**row, "loss_c4_val": loss, "err_avg_subset": gone})
    return pd.DataFrame(rows)


def _gemstones(name: str) -> pd.DataFrame:
    """Ten runs with six checkpoints each; the paper prints exponents and floor, and amplitudes are made up."""
    _, alpha, beta, floor = GEMSTONES[name]
    params = np.repeat(np.geomspace(5e7, 2e9, 10), 6)
    tokens = np.tile(np.geomspace(2e9, 3.5e11, 6), 10)
    width = np.repeat(np.resize([256.0, 512.0, 1024.0, 768.0, 1792.0], 10), 6)
    columns = {"run": np.repeat(np.arange(10), 6), "width": width, "depth": params / 12 / width**2}
    loss = floor + 30 / params**alpha + 4e6 / tokens**beta
    return pd.DataFrame({**columns, "params": params, "tokens": tokens, "step": tokens / 2e6, "loss": loss})


def _schedules(size: str) -> dict[str, pd.DataFrame]:
    """The three schedules that the paper fits, and two that it tests on."""
    law = LAWS["multipower"]
    theta = [MULTIPOWER_2025[size][1][name] for name in law.param_names]
    step = np.arange(2160.0, 24_000.0, 360.0)
    part = (step - step[0]) / (step[-1] - step[0])
    rates = {
        "cosine_24000": 3e-4 * (0.1 + 0.45 * (1 + np.cos(np.pi * part))),
        "constant_24000": np.full(step.size, 3e-4),
        "wsdcon_9": np.where(part < 0.4, 3e-4, 9e-5),
        "wsdcon_18": np.where(part < 0.4, 3e-4, 1.8e-4),
        "wsd_20000_24000": 3e-4 * np.minimum(1, 0.1 + (1 - part) / 0.2),
    }
    assert set(TRAINED_ON) <= set(rates)
    curves = {name: {"step": step, "lr": rate, "curve": np.zeros(step.size)} for name, rate in rates.items()}
    return {
        name: pd.DataFrame({"step": step, "lr": curve["lr"], "loss": law(theta, curve)})
        for name, curve in curves.items()
    }


@pytest.mark.parametrize(
    ("section", "wanted"),
    [
        ("epoch", ("Epoch: E", "Epoch: alpha", "Epoch: beta", "Epoch: frontier a", "Epoch: least objective")),
        ("gadre", tuple(f"Gadre {label}: {name}" for label in GADRE for name in ("E", "eta", "a", "b"))),
        (
            "downstream",
            tuple(f"Gadre {label}: {name} of error from loss" for label in GADRE for name in ("eps", "k", "gamma")),
        ),
        ("gemstones", tuple(f"Gemstones {name}: {p}" for name in GEMSTONES for p in ("alpha", "beta", "E"))),
        (
            "multipower",
            tuple(f"Multi-power {size}: test error of ours, to be at most 0.0045" for size in MULTIPOWER_2025),
        ),
    ],
)
def test_re_fits_of_made_runs_give_the_published_constants(section: str, wanted: tuple[str, ...], folder: Path) -> None:
    rows = {row.what: row for row in compare(folder, sections=[section], bootstrap=0)[section]}
    assert set(wanted) <= set(rows)
    assert [what for what in wanted if not rows[what].agrees] == []
    exact = [row for what, row in rows.items() if what in wanted and not row.at_most and what != "Epoch: frontier a"]
    assert [row.ours for row in exact] == pytest.approx([row.published for row in exact], rel=1e-5)
