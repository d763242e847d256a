"""The sentences of a report. Every number in them is computed, and none stands without its interval or the reason
for lacking one."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.estimate import Estimate, format_compute, format_number, format_percent, format_size, percent_text
from analysis.report_data import Study


@dataclass(frozen=True, kw_only=True)
class Card:
    """One number at the head of the page."""

    label: str
    """What it is."""
    value: str
    """The number."""
    interval: str
    """Its interval, or why there is none."""


def headline(study: Study) -> str:
    """The held-out prediction in one or two sentences, or why there is none."""
    fit = study.comparison.fit
    name = fit.law.name.capitalize()
    frame = study.table.frame[study.fitted]
    fitted = f"{len(frame)} runs up to C = {format_compute(frame['flops'].max())} FLOPs"
    if study.heldout is None:
        reasons = [note for note in study.notes if "held out" in note]
        return f"{name}'s form was fitted to {fitted}; nothing was held out. {' '.join(reasons)}".strip()
    held = study.heldout
    low, high = held.rows["flops"].min(), held.rows["flops"].max()
    span = format_compute(low) if high / low < 1.1 else f"{format_compute(low)} to {format_compute(high)}"
    plural = "s" if len(held.rows) > 1 else ""
    inside = round(held.coverage * len(held.rows))
    return (
        f"{name}'s form, fitted to {fitted}, predicts the loss of {len(held.rows)} held-out run{plural} at C = {span} "
        f"({format_number(held.reach, 2)} times the largest fitted compute) with a mean absolute error of "
        f"{percent_text(held.mape)}. Carrying the best smaller run's loss forward errs by "
        f"{percent_text(held.carried_mape)}. {inside} of {len(held.rows)} lie within their "
        f"{format_percent(study.choices.level)} prediction intervals, whose half-width is "
        f"{format_percent(held.half_width)} of the loss on average."
    )


def cards(study: Study) -> list[Card]:
    """The numbers at the head of the page."""
    out = []
    if study.heldout is not None:
        out.append(_percent_card("held-out error of the law", study.heldout.mape))
        out.append(_percent_card("error of carrying forward", study.heldout.carried_mape))
    names = {"envelope": "a by envelope", "isoflop": "a by IsoFLOP minima", "parametric": "a by the fitted law"}
    for frontier in study.comparison.frontiers:
        kind = frontier.method.split()[0]
        if kind != "envelope":
            out.append(_card(names[kind], frontier.a))
    if "E" in study.comparison.fit.estimates:
        out.append(_card("irreducible loss E, nats per token", study.comparison.fit.estimates["E"]))
    return out


def _card(label: str, estimate: Estimate) -> Card:
    if estimate.has_interval:
        interval = f"{format_number(estimate.lo, 3)} to {format_number(estimate.hi, 3)}"
    else:
        interval = f"no interval: {estimate.reason}"
    return Card(label=label, value=format_number(estimate.value, 3), interval=interval)


def _percent_card(label: str, estimate: Estimate) -> Card:
    if estimate.has_interval:
        interval = f"{format_percent(estimate.lo)} to {format_percent(estimate.hi)}"
    else:
        interval = f"no interval: {estimate.reason}"
    return Card(label=label, value=format_percent(estimate.value), interval=interval)


def method_rows(study: Study) -> list[tuple[str, str]]:
    """How the fit was made: what the (Mis)Fitting checklist (Li et al. 2025) asks of a scaling-law study."""
    fit, choices = study.comparison.fit, study.choices
    frame = study.table.frame
    fitted = frame[study.fitted]
    options = fit.options
    delta = f", delta {options['delta']:g}" if options.get("delta") else ""
    low, high = study.shapes.ratio_range
    convention = study.table.conventions.get("flops", "as given")
    scale = "log loss" if study.isoflop_all is not None and study.isoflop_all.log_loss else "loss"
    rows = [
        ("law", f"{fit.law.name}: {fit.law.formula}"),
        ("source", fit.law.source),
        (
            "objective",
            f"{options['objective']}{delta} on {options['residuals']} residuals, summed: {fit.objective:.6g}",
        ),
        ("solver", f"status {fit.status}; {format_percent(fit.agreement)} of the polished starts end at this minimum"),
        ("condition number", format_number(fit.condition, 2)),
        ("residual standard deviation", format_percent(fit.residual_scale)),
        ("runs fitted", f"{fit.num_rows}, in {fit.num_clusters} independent units"),
        ("sizes fitted", f"{format_size(fitted['params'].min())} to {format_size(fitted['params'].max())}"),
        ("tokens fitted", f"{format_size(fitted['tokens'].min())} to {format_size(fitted['tokens'].max())}"),
        ("compute fitted", f"{format_compute(fitted['flops'].min())} to {format_compute(fitted['flops'].max())}"),
        ("tokens per parameter", _span(fitted["tokens"] / fitted["params"])),
        ("intervals", _intervals(study)),
        ("held out", choices.holdout or _held_rule(study)),
        ("N", study.table.conventions.get("params", "as given")),
        ("C", f"{convention}; C / 6ND from {format_number(low, 3)} to {format_number(high, 3)}"),
        ("D", study.table.conventions.get("tokens", "as given")),
        ("IsoFLOP curve", f"{choices.method} on log N, {scale}"),
        ("loss", "validation loss of the decayed model, nats per token"),
    ]
    if study.noise_floor is not None:
        rows.append(("noise floor", f"{percent_text(study.noise_floor)} of the loss between seeds"))
    else:
        rows.append(("noise floor", "not known: no two runs differ in their seed alone"))
    return rows


def _span(values: object) -> str:
    """The range of a positive quantity."""
    import numpy as np

    numbers = np.asarray(values, dtype=float)
    return f"{format_number(float(numbers.min()), 3)} to {format_number(float(numbers.max()), 3)}"


def _intervals(study: Study) -> str:
    """How intervals were made."""
    choices = study.choices
    if not choices.bootstrap:
        return "none: no draws were asked for"
    unit = f"draws over {choices.cluster}" if choices.cluster else "draws over runs"
    return f"{format_percent(choices.level)}, {choices.bootstrap} bootstrap {unit}, seed {choices.seed}"


def _held_rule(study: Study) -> str:
    """Which rule held runs out when no expression was given."""
    if study.heldout is None:
        return "nothing"
    given = "role" in study.table.frame.columns and bool((study.table.frame["role"].astype(str) == "heldout").any())
    return "the runs whose role is heldout" if given else "the largest budget"


def warnings(study: Study) -> list[str]:
    """What the reader must know, each once."""
    out = list(study.notes)
    out += [f"{frontier.method}: {text}" for frontier in study.comparison.frontiers for text in frontier.warnings]
    out += [f"{name}: {why}" for name, why in study.comparison.missing.items()]
    fit = study.comparison.fit
    out += [f"{name} is not identified: {why}" for name, why in fit.identified.items() if why]
    if fit.status != "converged":
        out.append(f"the fit ended with status {fit.status}")
    return list(dict.fromkeys(out))
