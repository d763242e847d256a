"""The explorable part of a page: charts whose points, budgets and curves answer one another, as one Vega-Lite chart.

Owns what is in the charts. `explore.js` puts them into the page, `calculator` fills the table behind the sliders, and
without JavaScript the static figures say the same.
"""

from __future__ import annotations

import functools
import json
import re
import warnings
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

from analysis.figures.drawing.theme import CSS
from analysis.figures.isoflop import isoflop_curves
from analysis.formatting import format_compute, format_number, format_percent
from analysis.runs.columns import as_columns
from analysis.study.study import Study

CURVE_POINTS = 50
"""Most points of a training curve in the page."""
ALL_POINTS = 40_000
"""Most points of all of them, but for the two ends of each: a browser draws so many at once."""
BAND_POINTS = 40
"""Most points of a line over compute in the page."""
COUNTS = {
    "params": "as fitted",
    "params_total": "all parameters",
    "params_non_embedding": "without embeddings",
}
"""Columns that may count N, and what a reader calls them."""
APPROACHES = {"envelope": "envelope", "isoflop": "IsoFLOP minima", "parametric": "fitted law"}
"""What a reader calls the approaches to the frontier."""
GLOBALS = "window.vegaEmbed = vegaEmbed;"
"""What the bundle leaves for the page's own script."""
Charts = alt.LayerChart | alt.FacetChart
"""What layers of charts are to Altair."""
ALL = "all"
"""The choice of every budget or approach."""


def explore_spec(study: Study) -> dict[str, Any]:
    """The charts of a study.

    Parameters
    ----------
    study : Study
        What is shown.

    Returns
    -------
    dict
        A Vega-Lite specification. Colours are the placeholders of `theme.CSS`, which the page replaces by those of its
        background; the four charts are under `concat`, so that the page can set how many stand side by side.
    """
    runs = runs_frame(study)
    labels = [format_compute(budget) for budget in study.budgets]
    scale = alt.Scale(domain=labels, range=CSS.budget_colours(len(labels)))
    budget = alt.param(
        name="budget", value=ALL, bind=alt.binding_select(options=[ALL, *labels], name="Compute budget (FLOPs) ")
    )
    clicked = alt.selection_point(name="clicked", fields=["budget"], on="click", toggle="true")
    shown = f"budget == '{ALL}' || datum.budget == budget"
    style = {"scale": scale, "shown": shown, "opacity": _visible(shown, faint=0.08), "clicked": clicked}
    charts = [
        _isoflop_chart(study, runs, style),
        _frontier_chart(study),
        _residual_chart(runs, style),
        _loss_chart(study, runs, style),
    ]
    with warnings.catch_warnings(), alt.data_transformers.enable("default", max_rows=None):
        # One selection in several charts is what is meant: a click in one of them shows in all.
        warnings.filterwarnings("ignore", message="Automatically deduplicated selection parameter")
        chart = alt.concat(*charts, columns=2).resolve_scale(color="independent").add_params(budget)
        spec: dict[str, Any] = _renumbered(chart.to_dict())
    spec["params"].sort(key=lambda param: param["name"] != "budget")  # the choice that all charts answer comes first
    return spec


def _renumbered(spec: dict[str, Any]) -> dict[str, Any]:
    """The chart with its views counted from one: Altair counts them over all charts that a process makes."""
    text = json.dumps(spec)
    names = dict.fromkeys(re.findall(r"view_\d+", text))
    numbers = {name: f"view_{place}" for place, name in enumerate(names, start=1)}
    renumbered: dict[str, Any] = json.loads(re.sub(r"view_\d+", lambda found: numbers[found.group()], text))
    return renumbered


def runs_frame(study: Study) -> pd.DataFrame:
    """One row a run, with what a reader sees when pointing at it; numbers are rounded to what a screen shows."""
    frame = study.shown
    fit = study.comparison.fit
    law = fit.predict(as_columns(frame, fit.law.inputs), interval="none")["loss"].to_numpy()
    loss = frame["loss"].to_numpy(dtype=float)
    out = pd.DataFrame(
        {
            "run": [str(value) for value in frame.get("run_id", frame["row"])],
            "budget": [format_compute(study.budgets[study.colour_index(b)]) for b in frame["budget_group"]],
            "role": frame["role_shown"].astype(str),
            "params": frame["params"].astype(float),
            "tokens": frame["tokens"].astype(float),
            "flops": frame["flops"].astype(float),
            "ratio": frame["tokens"] / frame["params"],
            "loss": loss,
            "law": law,
            "residual": loss / law - 1,
        }
    )
    for name in ("params_total", "params_non_embedding"):
        out[name] = frame[name].astype(float) if name in frame.columns else np.nan
    out["about"] = _about(frame)
    return out.round(dict.fromkeys(("loss", "law", "residual"), 5)).reset_index(drop=True)


def _about(frame: pd.DataFrame) -> list[str]:
    """Shape, seed and the error of the loss, where a run has them."""
    out = []
    for _, row in frame.iterrows():
        parts = [f"{name} {int(row[name])}" for name in ("width", "depth", "seed") if pd.notna(row.get(name))]
        if pd.notna(row.get("loss_se")):
            parts.append(f"loss ± {format_number(float(row['loss_se']), 2)}")
        out.append(", ".join(parts))
    return out


TOOLTIP = [
    alt.Tooltip("run:N"),
    alt.Tooltip("role:N"),
    alt.Tooltip("budget:N", title="budget, FLOPs"),
    alt.Tooltip("params:Q", title="N, parameters", format=".4s"),
    alt.Tooltip("tokens:Q", title="D, tokens", format=".4s"),
    alt.Tooltip("ratio:Q", title="D / N", format=".3~r"),
    alt.Tooltip("flops:Q", title="C, FLOPs", format=".3e"),
    alt.Tooltip("loss:Q", title="loss", format=".4f"),
    alt.Tooltip("law:Q", title="the law says", format=".4f"),
    alt.Tooltip("residual:Q", title="residual", format="+.2%"),
    alt.Tooltip("about:N", title="run"),
]
"""What pointing at a run shows."""
SHAPES = alt.Shape(
    "role:N",
    scale=alt.Scale(domain=["fit", "heldout", "replicate"], range=["circle", "square", "triangle-up"]),
    legend=None,
)
"""Circles are fitted runs, squares held-out ones, triangles replicates."""


def _points(runs: pd.DataFrame, x: alt.X, y: alt.Y, style: dict[str, Any]) -> alt.Chart:
    """Runs as points that answer the choice of a budget."""
    return (
        alt.Chart(runs)
        .mark_point(filled=True, size=55)
        .encode(
            x=x,
            y=y,
            color=alt.Color("budget:N", scale=style["scale"], legend=None),
            shape=SHAPES,
            opacity=style["opacity"],
            tooltip=TOOLTIP,
        )
        .add_params(style["clicked"])
    )


def _visible(test: str, *, faint: float = 0.0, full: float = 1.0, clicked: bool = True) -> alt.Opacity:
    """Full where a test holds and, with `clicked`, the budget is one that was clicked, or none was."""
    tests: list[Any] = [test, {"param": "clicked"}] if clicked else [test]
    return alt.Opacity(condition={"test": {"and": tests}, "value": full}, value=faint)


def _chosen(before: str, names: dict[str, str], param: str) -> alt.TitleParams:
    """A title that says what was chosen."""
    return alt.TitleParams(text=alt.expr(f"'{before}' + {json.dumps(names)}[{param}]"))


def _log(field: str, title: str, **axis: Any) -> alt.X:
    return alt.X(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(type="log", nice=False, padding=12),
        axis=alt.Axis(format=axis.pop("format", "~s"), tickCount=5, labelOverlap=True, **axis),
    )


def _loss_axis(field: str, unit: str) -> alt.Y:
    return alt.Y(f"{field}:Q", title=f"validation loss, {unit}", scale=alt.Scale(zero=False))


def _isoflop_chart(study: Study, runs: pd.DataFrame, style: dict[str, Any]) -> Charts:
    """Loss by size, with the curve of each budget; N under any count that the runs hold."""
    counts = {name: label for name, label in COUNTS.items() if runs[name].notna().all()}
    count = alt.param(
        name="count",
        value="params",
        bind=alt.binding_select(options=list(counts), labels=list(counts.values()), name="Count N "),
    )
    rows = [
        {"budget": format_compute(study.budgets[index]), "size": float(size), "loss": round(float(loss), 5)}
        for index, curve in isoflop_curves(study).items()
        for size, loss in zip(curve.params[::4], curve.loss[::4], strict=True)
    ]
    curves = (
        alt.Chart(pd.DataFrame(rows, columns=["budget", "size", "loss"]))
        .mark_line(strokeWidth=1.6)
        .encode(
            x=_log("size", "N, parameters"),
            y=_loss_axis("loss", study.loss_unit),
            color=alt.Color("budget:N", scale=style["scale"], legend=None),
            opacity=_visible(f"({style['shown']}) && count == 'params'"),
        )
    )
    points = _points(runs, _log("size", "N, parameters"), _loss_axis("loss", study.loss_unit), style)
    points = points.transform_calculate(size="datum[count]").add_params(count)
    layers = [curves, points] if rows else [points]  # without a row a chart has no extent, and says so on the console
    return alt.layer(*layers).properties(title="Loss by size: one curve per compute budget")


def _frontier_chart(study: Study) -> Charts:
    """What is compute-optimal by every approach: N, D or the loss."""
    kinds = {"params": "N_opt, parameters", "tokens": "D_opt, tokens"}
    quantity = alt.param(
        name="quantity",
        value="params",
        bind=alt.binding_select(options=list(kinds), labels=list(kinds.values()), name="Optimum of "),
    )
    rows = []
    for frontier in study.comparison.frontiers:
        points = frontier.points
        if "bracketed" in points.columns:
            points = points[points["bracketed"].astype(bool)]
        keep = np.unique(np.linspace(0, max(len(points) - 1, 0), BAND_POINTS).round().astype(int))
        label = APPROACHES[frontier.method.split()[0]]
        for _, point in points.iloc[keep if len(points) else []].iterrows():
            for kind in kinds:
                low, high = (point.get(f"{kind}_{end}", np.nan) for end in ("lo", "hi"))
                rows.append(
                    {
                        "approach": label,
                        "kind": kind,
                        "flops": point["flops"],
                        "value": point.get(kind),
                        "low": low,
                        "high": high,
                    }
                )
    frame = pd.DataFrame(rows, columns=["approach", "kind", "flops", "value", "low", "high"]).dropna(subset=["value"])
    names = [name for name in APPROACHES.values() if name in set(frame["approach"])]
    approach = alt.param(name="approach", value=ALL, bind=alt.binding_select(options=[ALL, *names], name="Approach "))
    chosen = f"approach == '{ALL}' || datum.approach == approach"
    base = alt.Chart(frame).transform_filter("datum.kind == quantity")
    colour = alt.Color(
        "approach:N",
        scale=alt.Scale(domain=list(APPROACHES.values()), range=[CSS.ink, CSS.accent, CSS.second]),
        legend=alt.Legend(orient="top-left", title=None, symbolOpacity=1.0, symbolType="stroke"),
    )
    x = _log("flops", f"C, FLOPs ({study.flops_convention})", format=".0e")
    y = alt.Y("value:Q", title="optimum", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(format="~s"))
    banded = frame[(frame["approach"] == APPROACHES["parametric"]) & frame["low"].notna()]
    band = alt.Chart(banded).transform_filter("datum.kind == quantity").mark_area()
    band = band.encode(x=x, y=alt.Y("low:Q", title="optimum"), y2="high:Q", color=colour)
    band = band.encode(opacity=_visible(chosen, full=0.16, clicked=False))
    tips = [
        alt.Tooltip("approach:N"),
        alt.Tooltip("flops:Q", title="C, FLOPs", format=".3e"),
        alt.Tooltip("value:Q", title="optimum", format=".4s"),
        alt.Tooltip("low:Q", title=f"lower end, {format_percent(study.choices.level)}", format=".4s"),
        alt.Tooltip("high:Q", title="upper end", format=".4s"),
    ]
    line = base.mark_line(point=alt.OverlayMarkDef(size=22)).encode(x=x, y=y, color=colour, tooltip=tips)
    line = line.encode(opacity=_visible(chosen, clicked=False))
    chart = alt.layer(*([band] if len(banded) else []), line).add_params(quantity, approach)
    return chart.properties(title=_chosen("Compute-optimal: ", kinds, "quantity"))


def _residual_chart(runs: pd.DataFrame, style: dict[str, Any]) -> Charts:
    """Measured over predicted loss, against N, D, C or D/N."""
    kinds = {"flops": "C, FLOPs", "params": "N, parameters", "tokens": "D, tokens", "ratio": "D / N"}
    against = alt.param(
        name="against",
        value="flops",
        bind=alt.binding_select(options=list(kinds), labels=list(kinds.values()), name="Residuals against "),
    )
    y = alt.Y("residual:Q", title="measured over predicted, less 1", axis=alt.Axis(format="+.1%"))
    x = _log("place", "", format=".1e")
    points = _points(runs, x, y, style).transform_calculate(place="datum[against]").add_params(against)
    zero = alt.Chart(pd.DataFrame({"zero": [0.0]})).mark_rule(strokeDash=[4, 3]).encode(y=alt.Y("zero:Q"))
    return alt.layer(zero, points).properties(title=_chosen("Residuals of the law against ", kinds, "against"))


def _loss_chart(study: Study, runs: pd.DataFrame, style: dict[str, Any]) -> Charts:
    """Loss by compute with training curves; runs at their ends."""
    known = runs.set_index("run")
    length = int(np.clip(ALL_POINTS // max(len(study.curves), 1), 2, CURVE_POINTS))
    parts = []
    for run, curve in study.curves.items():
        if run not in known.index:
            continue
        row = known.loc[run]
        kept = curve.iloc[np.unique(np.geomspace(1, len(curve), length).round().astype(int) - 1)]
        parts.append(
            pd.DataFrame(
                {
                    "run": run,
                    "budget": row["budget"],
                    "flops": [float(f"{value:.4g}") for value in kept["tokens"] * row["flops"] / row["tokens"]],
                    "loss": kept["train_loss"].round(4),
                }
            )
        )
    columns = ["run", "budget", "flops", "loss"]
    lines = pd.concat(parts) if parts else pd.DataFrame(columns=columns)
    x = _log("flops", f"C, FLOPs ({study.flops_convention})", format=".0e")
    curves = (
        alt.Chart(lines)
        .mark_line(strokeWidth=0.9, clip=True)
        .encode(
            x=x,
            y=_loss_axis("loss", study.loss_unit),
            detail="run:N",
            color=alt.Color("budget:N", scale=style["scale"], legend=None),
            opacity=style["opacity"],
        )
    )
    lowest, highest = float(runs["loss"].min()), float(runs["loss"].max())
    top = highest + 0.35 * (highest - lowest)
    y = alt.Y(
        "loss:Q",
        title=f"loss, {study.loss_unit}",
        scale=alt.Scale(zero=False, domain=[lowest - 0.05 * (highest - lowest), top], nice=False),
    )
    points = _points(runs, x, y, style)
    layers = [curves.encode(y=y), points] if parts else [points]
    return alt.layer(*layers).properties(title="Loss by compute; lines are training curves")


def embedded_json(value: Any) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")


@functools.cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed (BSD-3) as one script, from the package vl-convert: the page asks no server."""
    return str(vl_convert.javascript_bundle(GLOBALS)).replace("</script", "<\\/script")


def explore_script() -> str:
    """The script that puts charts and sliders into the page."""
    return (Path(__file__).parent / "explore.js").read_text(encoding="utf-8")
