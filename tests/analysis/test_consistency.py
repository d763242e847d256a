"""No verb prints an interval for what `fit` calls not identified, and every verb counts the same rows.

Random small tables, good ones and hopeless ones: few sizes, one budget, tokens that follow the size, runs that stand
twice, runs that are held out, runs that failed.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import isoflop

KINDS = ("grid", "ladder", "one budget", "one size", "two tokens", "scattered")
DRAWS = ["--bootstrap", "15"]
LEFT_OUT = re.compile(r"\d+ rows? left out: ")


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """A small table of runs of Hoffmann's law with noise, some of them no good."""
    kind = draw(st.sampled_from(KINDS))
    sizes = np.geomspace(1e6, 1e6 * draw(st.sampled_from([4, 30, 300])), draw(st.integers(3, 6)))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    if kind == "ladder":
        params, tokens = sizes, 20 * sizes
    elif kind == "one budget":
        params, tokens = sizes, 1e17 / 6 / sizes
    elif kind == "one size":
        params, tokens = np.full(6, 1e7), np.geomspace(1e7, 1e10, 6)
    elif kind == "two tokens":
        params, tokens = np.repeat(sizes, 2), np.tile([1e8, 1.2e8], sizes.size)
    elif kind == "scattered":
        params, tokens = 10 ** rng.uniform(6, 8, 9), 10 ** rng.uniform(7.5, 10, 9)
    else:
        params, tokens = np.repeat(sizes, 4), np.tile(np.geomspace(2e7, 2e9, 4), sizes.size)
    loss = 1.7 + 400 / params**0.34 + 410 / tokens**0.28
    noise = draw(st.sampled_from([0.0, 0.002, 0.03]))
    frame = pd.DataFrame(
        {"params": params, "tokens": tokens, "loss": loss * np.exp(noise * rng.standard_normal(len(loss)))}
    )
    frame["flops"] = 6 * params * tokens
    frame["run_id"] = [f"{row:012x}" for row in range(len(frame))]
    frame["status"], frame["role"] = "done", "fit"
    frame["trunk"] = frame["params"].rank(method="dense").astype(int).map("t{}".format)
    if draw(st.booleans()):
        frame.loc[len(frame) - 1, "role"] = "heldout"
    if draw(st.booleans()):
        frame.loc[0, "status"] = "diverged"
    if draw(st.booleans()):
        frame = pd.concat([frame, frame.iloc[[1]]], ignore_index=True)
    return frame


def told(*words: str) -> tuple[dict[str, Any] | None, str]:
    """What a verb says as JSON, and on standard error; None where it refuses."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = isoflop.main([*words, "--json"])
    assert status in (0, 2), err.getvalue()
    return (json.loads(out.getvalue()) if status == 0 else None), err.getvalue()


def has_interval(estimate: dict[str, Any] | None) -> bool:
    """Whether an estimate, or a part of one, has two ends."""
    return estimate is not None and (estimate.get("lo") is not None or estimate.get("hi") is not None)


def left_out(text: str) -> set[str]:
    """The lines that say which rows are not counted, and how runs are drawn."""
    lines = {line.removeprefix("note: ") for line in text.splitlines()}
    return {line for line in lines if LEFT_OUT.match(line) or line.startswith("runs are drawn")}


@seed(20261128)
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking would fit for minutes
)
@given(frame=tables())
def test_no_verb_knows_more_than_the_fit(frame: pd.DataFrame) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table, saved = str(Path(folder) / "runs.csv"), str(Path(folder) / "fit.json")
        frame.to_csv(table, index=False)
        fit, notes = told("fit", table, "--law", "hoffmann", *DRAWS, "--out", saved)
        frontier, frontier_notes = told("frontier", table, *DRAWS)
        compared, compared_notes = told("compare", table, *DRAWS, "--simulations", "0")
        if fit is None:
            assert frontier is None, notes
            return
        good = frame.drop_duplicates("run_id")
        good = good[(good["status"] == "done") & (good["role"] == "fit")]
        assert fit["num_rows"] == len(good)
        for text in (frontier_notes, compared_notes):
            assert left_out(text) == left_out(notes), (text, notes)
        unknown = {name for name, one in fit["params"].items() if not one["identified"]}
        for name in unknown:
            assert not has_interval(fit["params"][name])
        exponents = [fit["frontier"]] if fit["frontier"] else []
        exponents += [frontier] if frontier else []
        exponents += (
            [one for one in compared["frontiers"] if one["method"].startswith("parametric")] if compared else []
        )
        if unknown & {"alpha", "beta"}:
            for one in exponents:
                assert not has_interval(one["a"]), one["method"]
                assert not has_interval(one["b"])
                for point in one.get("points", ()):
                    assert point["params_lo"] is None
                    assert point["tokens_lo"] is None
        _check_predictions(saved, unknown)


def _check_predictions(saved: str, unknown: set[str]) -> None:
    """Far beyond the runs, `predict` and `advise` agree on whether there is an interval."""
    far = 1e22
    advice, _ = told("advise", saved, "--budget", f"{far:g}", "--max-runs", "5")
    if advice is None:
        return
    best = advice["optimum"]
    if unknown & {"alpha", "beta"}:
        assert not has_interval(best["params"])
        assert not has_interval(best["tokens"])
        assert not any(has_interval(row["same_compute_loss"]) for row in advice["overtraining"])
    at = f"params={best['params']['value']!r},tokens={best['tokens']['value']!r}"
    predicted, _ = told("predict", saved, "--at", at)
    assert predicted is not None
    known = predicted["confidence"][0] is not None
    assert has_interval(best["loss"]) == known, (best["loss"], predicted)
    if unknown:
        assert not known
