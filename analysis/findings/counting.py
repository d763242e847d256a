"""One set of runs as Kaplan et al. 2020 counted N and C, and as Hoffmann et al. 2022 did: how the exponent moves.

It must not know how conventions count; `frontiers.conventions` does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.figures.drawing.plate import Plate
from analysis.figures.findings.intervals import Row, draw_intervals
from analysis.findings.base import Finding, FoundTable
from analysis.formatting import format_compute, format_number, format_percent, format_size
from analysis.frontiers.recounted import FIELDS, CountedTable, compare_conventions, shapes_of
from analysis.laws.allocation import supports_frontier
from analysis.published.constants import PUBLISHED_SLOPES
from analysis.study.arms import arm_axis
from analysis.study.study import Study
from models.config.published_counts import count_by_convention

DRAWS = 200
"""Bootstrap draws of each fit."""
TWO = ("kaplan", "hoffmann")
"""The conventions that are set side by side in words and in the power laws."""
PUBLISHED_LAWS = {"L(N)": 0.076, "L(D)": 0.095, "L(C)": 0.050}
"""Kaplan et al. 2020, arXiv 2001.08361, equations 1.1 to 1.3."""
ENOUGH_HELDOUT = 2
"""A ladder that holds out so many runs was made to be predicted: its page does not open with ways of counting."""
MIN_POINTS = 4
"""Fewest runs of a power law."""


def counting(study: Study) -> Finding | None:
    """Count the runs of a study in every convention, and fit each count.

    Parameters
    ----------
    study : Study
        With the configs of its runs.

    Returns
    -------
    Finding or None
        None for a sweep with arms, runs that have no configs, models that are no decoders, and shapes of which a
        larger one is not always the dearer one.
    """
    frame = study.table.frame[study.fitted]
    axis = arm_axis(study.manifest, study.table.frame)
    models = [config.get("model") for config in study.configs.values()]
    decoders = all(model is not None and model.get("family", "decoder") == "decoder" for model in models)
    if axis is not None or not models or not decoders or not supports_frontier(study.comparison.fit.law):
        return None
    data = {str(name): frame[name].to_numpy() for name in frame.columns}
    options: dict[str, Any] = {"bootstrap": DRAWS, "cluster": study.choices.cluster, "level": study.choices.level}
    model = _shared(study.configs)
    try:
        found = compare_conventions(data, law=study.choices.law, model=model, seed=study.choices.seed, **options)
    except UserError:
        return None  # these shapes cannot be counted otherwise
    every = study.shown[study.shown["role_shown"].isin(["fit", "heldout"])]
    columns = {str(name): every[name].to_numpy() for name in every.columns}
    powers = _power_laws(columns, model, level=study.choices.level)
    ladder = study.manifest is not None and study.manifest.sweep.get("design") == "ladder"
    leads = ladder and int((study.shown["role_shown"] == "heldout").sum()) < ENOUGH_HELDOUT
    return Finding(
        sentences=tuple(_sentences(found, powers if ladder else pd.DataFrame())),
        plate=Plate(
            name="conventions",
            title="The same runs, counted otherwise",
            draw=partial(draw_intervals, _groups(found), digits=2),
            size=(8.0, 3.6),
            caption="The exponent a of the best size by compute, at the budget of the largest run, fitted to the same "
            f"runs under each way of counting N and C, with {format_percent(study.choices.level)} intervals. Grey: "
            "what the two papers print.",
        ),
        tables=(_table(found), *([_powers_table(powers)] if len(powers) else [])),
        cards=tuple((f"a as {name.capitalize()} counted", _row(found, name).a) for name in TWO) if leads else (),
        leads=leads,
    )


def _shared(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Fields of the model that all runs share and no column holds."""
    models = [config["model"] for config in configs.values()]
    first = models[0]
    return {
        name: value
        for name, value in first.items()
        if name not in FIELDS and value is not None and all(one.get(name) == value for one in models)
    }


def _row(found: CountedTable, name: str) -> Any:
    return next(row for row in found.rows if row.convention == name)


def _sentences(found: CountedTable, powers: pd.DataFrame) -> list[str]:
    kaplan, hoffmann = (_row(found, name) for name in TWO)
    moved = abs(kaplan.a.value - hoffmann.a.value)
    out = [
        f"Counting alone moves the exponent of the best size: a = {kaplan.a.text(2)} as Kaplan et al. 2020 counted (N "
        f"without embeddings and head, C = 6ND), and {hoffmann.a.text(2)} as Hoffmann et al. 2022 did, a difference "
        f"of {format_number(moved, 2)} between counts of the same runs. The papers print "
        f"{PUBLISHED_SLOPES['params'][0][1]:.2f} and {PUBLISHED_SLOPES['params'][1][1]:.2f}."
    ]
    rows = [row for row in powers.to_dict("records") if row["convention"] == "kaplan"]
    if rows:
        exponents = "; ".join(
            f"{row['law']} falls as {row['law'][2]}^-{_text(row, 3)}, published {row['published']:g}" for row in rows
        )
        out.append(
            f"Kaplan's laws, without an irreducible loss and in his counts: {exponents} (web text, far larger models)."
        )
    return out


def _text(row: Mapping[Any, Any], digits: int) -> str:
    return f"{row['exponent']:.{digits}f} ({row['lo']:.{digits}f}, {row['hi']:.{digits}f})"


def _power_laws(data: Mapping[str, Array], model: Mapping[str, Any], *, level: float) -> pd.DataFrame:
    """Slopes of log L: on log N at the most tokens, on log D at the largest size, on log C along the best runs."""
    shapes = shapes_of(data, model)
    tokens, loss = (np.asarray(data[name], dtype=float) for name in ("tokens", "loss"))
    rows: list[dict[str, Any]] = []
    for name in TWO:
        counts = [count_by_convention(shape)[name] for shape in shapes]
        params = np.array([count.params for count in counts], dtype=float)
        flops = np.array([count.flops_per_token for count in counts], dtype=float) * tokens
        longest = tokens > 0.98 * tokens.max()
        best = np.array([bool((loss[flops <= one] >= mine).all()) for one, mine in zip(flops, loss, strict=True)])
        chosen = {"L(N)": (params, longest), "L(D)": (tokens, params == params.max()), "L(C)": (flops, best)}
        for law, (x, rows_of) in chosen.items():
            if len(np.unique(x[rows_of])) < MIN_POINTS:
                continue
            line = stats.linregress(np.log(x[rows_of]), np.log(loss[rows_of]))
            reach = float(stats.t.ppf((1 + level) / 2, int(rows_of.sum()) - 2)) * float(line.stderr)
            exponent = -float(line.slope)
            ends = {"exponent": exponent, "lo": exponent - reach, "hi": exponent + reach}
            kept = {"law": law, "convention": name, "runs": int(rows_of.sum()), **ends}
            rows.append({**kept, "published": PUBLISHED_LAWS[law]})
    order = list(PUBLISHED_LAWS)
    rows.sort(key=lambda row: order.index(str(row["law"])))
    return pd.DataFrame(rows)


def _powers_table(powers: pd.DataFrame) -> FoundTable:
    rows = tuple(
        (row["law"], row["convention"], str(row["runs"]), _text(row, 3), f"{row['published']:g}")
        for row in powers.to_dict("records")
    )
    head = ("law", "N and C as", "runs", "exponent", "Kaplan et al. 2020")
    return FoundTable(
        name="power-laws",
        heading="Kaplan's laws: L(N) at the most tokens, L(D) at the largest size, L(C) along the best runs",
        frame=powers,
        head=head,
        rows=rows,
    )


def _groups(found: CountedTable) -> list[tuple[str, list[Row]]]:
    rows = [Row(f"counted as {row.convention}", row.a) for row in found.rows if math.isfinite(row.a.value)]
    published = [
        Row(f"{name} et al., published", Estimate(value=value, reason="as printed"), reference=True)
        for name, value in PUBLISHED_SLOPES["params"]
    ]
    return [("a, exponent of the optimal size by compute", rows + published)]


def _table(found: CountedTable) -> FoundTable:
    frame = pd.DataFrame(
        {
            "convention": row.convention,
            "a": row.a.value,
            "a_lo": row.a.lo,
            "a_hi": row.a.hi,
            "flops": row.flops,
            "params": row.params.value,
            "params_lo": row.params.lo,
            "params_hi": row.params.hi,
            "tokens_per_param": row.tokens_per_param.value,
            "flops_over_6n_lo": row.flops_over_6n[0],
            "flops_over_6n_hi": row.flops_over_6n[1],
        }
        for row in found.rows
    )
    rows = tuple(
        (
            row.convention,
            "{:.2f} to {:.2f}".format(*row.flops_over_6n),
            row.a.text(2),
            format_compute(row.flops),
            _size(row.params),
            format_number(row.tokens_per_param.value, 3),
        )
        for row in found.rows
    )
    head = ("convention", "C / 6ND", "a", "C of the largest run", "N_opt there", "tokens per N")
    return FoundTable(name="conventions", heading="Under every convention", frame=frame, head=head, rows=rows)


def _size(estimate: Estimate) -> str:
    if estimate.lo is None or estimate.hi is None:
        return f"{format_size(estimate.value)} (no interval)"
    return f"{format_size(estimate.value)} ({format_size(estimate.lo)}, {format_size(estimate.hi)})"
