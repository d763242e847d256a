"""The reporting checklist of a report: what the study and its origin answer beyond the fit and the runs.

Owns these facts and their wording; the questions are in checklist.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.estimate import percent_text
from analysis.formatting import format_compute, format_number, format_percent
from analysis.report.checklist import Answer, checklist
from analysis.study.study import Study


def answers(study: Study, origin: Mapping[str, Any]) -> tuple[Answer, ...]:
    """The checklist of a report."""
    frame = study.table.frame
    given = {
        **_training(study, origin.get("settings", {})),
        **_collected(study),
        **_fit(study, origin),
        **_validation(study),
    }
    facts = {key: text for key, text in given.items() if text is not None}
    return checklist(study.comparison.fit, runs=frame[study.fitted], facts=facts)


def _training(study: Study, settings: Mapping[str, list[str]]) -> dict[str, str | None]:
    low, high = study.shapes.ratio_range
    convention = study.table.conventions.get("flops", "as given")
    ratio = f"{format_number(low, 3)} to {format_number(high, 3)}"
    return {
        "count_flops": f"{convention}; C / 6ND from {ratio}",
        "optimizer": _settings(settings, "optimizer"),
        "tuning": _recipe(settings.get("recipe.name")),
    }


def _settings(settings: Mapping[str, list[str]], group: str) -> str | None:
    """One group of a run's config in words, `adamw: beta1 0.9, ...`; None where no config was read."""
    mine = {key.partition(".")[2]: values for key, values in settings.items() if key.startswith(f"{group}.")}
    name = " or ".join(mine.pop("name", []))
    rest = [f"{key.replace('_', ' ')} {' or '.join(values)}" for key, values in mine.items()]
    if not name:
        return None
    return f"{name}: {', '.join(rest)}" if rest else name


def _recipe(names: list[str] | None) -> str | None:
    """The named rule that set rates and batches; None where the sweep's file was not found."""
    return None if not names else f"by the recipe {' or '.join(names)}: a rule that all runs share"


def _collected(study: Study) -> dict[str, str | None]:
    table = study.table
    flagged = [flag for flag in table.flags[study.fitted] if flag]
    left_out = {str(why): int(count) for why, count in table.excluded["excluded_because"].value_counts().items()}
    roles = table.frame["role_shown"].value_counts()
    others = [f"{roles[name]} {name}" for name in ("replicate", "mid-run", "other arm", "other rate") if name in roles]
    counted = [f"{count}: {why}" for why, count in left_out.items()] + [f"{text} rows not fitted" for text in others]
    metric = f"the column loss as it was given, {study.loss_unit}"
    if "loss_se" in table.frame.columns:
        metric = f"validation loss of the trained model, {study.loss_unit}, as recorded"
    seeds = None
    if study.noise_floor is not None:
        seeds = f"{percent_text(study.noise_floor)} of the loss between seeds, {len(study.noise)} designs replicated"
    outliers = f"{len(flagged)} of {int(study.fitted.sum())} fitted runs flagged, none dropped"
    return {
        "metric": metric,
        "left_out": "; ".join(counted) if counted else "none",
        "outliers": outliers if flagged else "none flagged",
        "seeds": seeds,
        "raw": "tables/runs.csv beside the page",
    }


def _fit(study: Study, origin: Mapping[str, Any]) -> dict[str, str | None]:
    choices = study.choices
    commit = origin["git"]["commit"]
    intervals = None
    if choices.bootstrap:
        unit = f"over {choices.cluster}, whose runs are drawn together" if choices.cluster else "over runs"
        level = format_percent(choices.level)
        intervals = f"{level}, {choices.bootstrap} bootstrap draws {unit}, seed {choices.seed}"
    weights = next((note for note in study.notes if note.startswith("weights ")), "runs count alike")
    changed = ", with uncommitted changes" if origin["git"]["uncommitted_changes"] else ""
    return {
        "weights": weights,
        "intervals": intervals,
        "code": None if commit is None else f"{origin['commands'][-1]} at commit {commit[:12]}{changed}",
    }


def _validation(study: Study) -> dict[str, str | None]:
    comparison, held = study.comparison, study.heldout
    exponents = "; ".join(f"{one.method} {one.a}" for one in comparison.frontiers if np.isfinite(one.a.value))
    scale = "log loss" if study.isoflop_all is not None and study.isoflop_all.log_loss else "loss"
    curve = f"IsoFLOP curves: {study.choices.method} on log N, {scale}."
    out: dict[str, str | None] = {"methods": f"a = {exponents}. {comparison.verdict} {curve}"}
    if held is None:
        return out
    low, high = float(held.rows["flops"].min()), float(held.rows["flops"].max())
    span = format_compute(low) if high / low < 1.1 else f"{format_compute(low)} to {format_compute(high)}"
    covered = f"{round(held.coverage * len(held.rows))} of {len(held.rows)} within their prediction intervals"
    return out | {
        "heldout": f"{len(held.rows)} of the largest at C = {span}: {held_rule(study)}",
        "heldout_error": f"mean absolute error {percent_text(held.mape)}; carrying the best smaller run forward errs "
        f"by {percent_text(held.carried_mape)}",
        "coverage": covered if study.choices.bootstrap else None,
        "extrapolation": f"{format_number(held.reach, 2)} times the largest fitted compute",
    }


def held_rule(study: Study) -> str:
    """Which rule held runs out."""
    if study.choices.holdout:
        return study.choices.holdout
    given = "role" in study.table.frame.columns and bool((study.table.frame["role"].astype(str) == "heldout").any())
    return "the runs whose role is heldout" if given else "the largest budget"
