"""The sentences of a report.

Every number in them is computed, and none stands without its interval or the reason for lacking one.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.estimate import Estimate, percent_text
from analysis.formatting import format_compute, format_number, format_percent
from analysis.study.study import Study


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


def warnings(study: Study) -> list[str]:
    """What the reader must know, each once."""
    out = list(study.notes)
    out += [f"{frontier.method}: {text}" for frontier in study.comparison.frontiers for text in frontier.warnings]
    out += [f"{name}: {why}" for name, why in study.comparison.missing.items()]
    fit = study.comparison.fit
    out += [f"{name} is not identified: {why}" for name, why in fit.identified.items() if why]
    if fit.doubt is not None:
        out.append(fit.doubt)
    if fit.status != "converged":
        out.append(f"the fit ended with status {fit.status}")
    return list(dict.fromkeys(out))
