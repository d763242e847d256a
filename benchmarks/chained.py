"""Coverage of downstream errors predicted through two fits, measured: `python -m benchmarks.chained`.

Each study draws 60 runs from Hoffmann's law with Besiroglu's coefficients and gives each an error by Gadre's
exponential at the loss that it reached, both with noise; fits loss by size and error by loss through the public API;
and asks whether the intervals of the chain hold the true expected error (confidence) and the error of a new run
(prediction) at three sizes beyond those fitted. Batches of studies go round the settings; `--record FILE` writes the
JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from analysis.arrays import Array
from analysis.fitting.downstream import predict_error
from analysis.fitting.fit_law import fit_law
from analysis.fitting.spec import FitSpec
from analysis.laws.registry import LAWS

LOSS = np.array([1.8172, 482.01, 2085.43, 0.3478, 0.3658])
"""E, A, B, alpha, beta of Besiroglu et al. 2024, arXiv 2404.10102."""
ERROR = np.array([0.850, 2.08, 0.756])
"""eps, k and gamma of Gadre et al. 2024, arXiv 2403.08540, C4, mean of 17 tasks."""
LOSS_NOISE = 0.01
"""Standard deviation of a run's log loss."""
ERROR_NOISE = 0.005
"""Standard deviation of a run's error at its loss."""
HELD_OUT = {"params": np.array([2e10, 2e10, 5e10]), "tokens": np.array([4e11, 2e12, 1e12])}
"""N and D of the held-out points."""
SETTINGS = {
    "drawn": FitSpec(bootstrap=200, objective="huber"),
    "drawn, least squares": FitSpec(bootstrap=200, objective="squared"),
    "by covariance": FitSpec(bootstrap=0, objective="squared"),
}
"""How both fits are made."""
BATCH = 25
"""Studies of a setting at a time."""


def study(seed: int, spec: FitSpec, num_runs: int = 60) -> tuple[Array, Array, Array]:
    """Which of the held-out points were covered, by confidence and by prediction, and the widths of the latter."""
    rng = np.random.default_rng([seed, num_runs])
    sizes = num_runs // 5
    params = np.repeat(np.geomspace(4e7, 1e10, sizes), 5)
    runs = {"params": params, "tokens": params * np.tile(np.geomspace(2.5, 160, 5), sizes)}
    loss_law, error_law = LAWS["hoffmann"], LAWS["downstream-exponential"]

    def draw(at: dict[str, Array]) -> dict[str, Array]:
        expected = loss_law(LOSS, at)
        loss = expected * np.exp(LOSS_NOISE * rng.standard_normal(expected.size))
        return {"loss": loss, "error": error_law(ERROR, {"loss": loss}) + ERROR_NOISE * rng.standard_normal(loss.size)}

    runs |= draw(runs)
    fit = fit_law(loss_law, runs, spec, rng=rng)
    error_fit = fit_law(error_law, runs, spec, residuals="raw", rng=rng)
    band = predict_error(fit, error_fit, HELD_OUT, rng=rng)
    truth = error_law(ERROR, {"loss": loss_law(LOSS, HELD_OUT)})
    new = draw(HELD_OUT)["error"]
    inside = [
        ((band[f"{kind}_lo"] <= value) & (value <= band[f"{kind}_hi"])).to_numpy()
        for kind, value in (("confidence", truth), ("prediction", new))
    ]
    return (
        inside[0].astype(float),
        inside[1].astype(float),
        (band["prediction_hi"] - band["prediction_lo"]).to_numpy(dtype=float),
    )


def summary(studies: list[tuple[Array, Array, Array]]) -> dict[str, Any]:
    """Shares covered over studies and points, with twice the Monte-Carlo standard error over studies."""
    out: dict[str, Any] = {"studies": len(studies)}
    for place, kind in enumerate(("confidence", "prediction")):
        shares = np.array([s[place].mean() for s in studies])
        out[kind] = round(float(shares.mean()), 4)
        out[f"{kind}_error"] = round(float(2 * shares.std(ddof=1) / np.sqrt(shares.size)), 4)
        out[f"{kind}_by_point"] = [round(float(v), 4) for v in np.mean([s[place] for s in studies], axis=0)]
    out["prediction_width"] = [round(float(v), 4) for v in np.median([s[2] for s in studies], axis=0)]
    return out


def main() -> None:
    """Run, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=500, help="studies to a setting")
    parser.add_argument("--record", type=Path, help="write the JSON here")
    args = parser.parse_args()
    begun = time.process_time()
    found: dict[str, list[tuple[Array, Array, Array]]] = {name: [] for name in SETTINGS}
    for start in range(0, args.studies, BATCH):
        for name, spec in SETTINGS.items():
            found[name] += [study(seed, spec) for seed in range(start, min(start + BATCH, args.studies))]
        done = {name: (round(s["confidence"], 3), round(s["prediction"], 3)) for name, s in _all(found).items()}
        print(
            f"{min(start + BATCH, args.studies)} studies, {time.process_time() - begun:.0f} CPU s: {done}", flush=True
        )
    record = {
        "made_by": f"python -m benchmarks.chained --studies {args.studies} --record benchmarks/chained.json",
        "nominal": 0.95,
        "runs_of_a_study": 60,
        "noise": {"log_loss": LOSS_NOISE, "error": ERROR_NOISE},
        "held_out": {name: values.tolist() for name, values in HELD_OUT.items()},
        "settings": _all(found),
    }
    text = json.dumps(record, indent=1) + "\n"
    if args.record:
        partial = args.record.with_name(args.record.name + ".part")
        partial.write_text(text, encoding="utf-8")
        partial.replace(args.record)
    print(text)


def _all(found: dict[str, list[tuple[Array, Array, Array]]]) -> dict[str, dict[str, Any]]:
    return {name: summary(studies) for name, studies in found.items()}


if __name__ == "__main__":
    main()
