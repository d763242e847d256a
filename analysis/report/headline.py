"""The sentences of a report.

Every number in them is computed, and none stands without its interval or the reason for lacking one.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.advice.compute_optimal import compute_optimal
from analysis.advice.shapes import ladder_of
from analysis.advice.target_loss import target_loss
from analysis.errors import UserError
from analysis.estimate import Estimate, percent_text
from analysis.figures.drawing.plate import Plate
from analysis.findings.base import Finding
from analysis.formatting import format_compute, format_number, format_percent, format_size
from analysis.laws.allocation import supports_frontier
from analysis.selection.auto import AutoFit
from analysis.study.study import Study

NEXT = 10.0
"""The next budget that is looked at, as a multiple of the largest run's compute."""
STEP = 0.1
"""The gain in loss whose price is named, in the unit of the losses."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The answer to one of the three questions that open a page."""

    question: str
    """What a reader asks."""
    sentences: tuple[str, ...]
    """The answer; every number with its interval, or the reason for lacking one."""
    command: str | None = None
    """A command that goes on from there."""


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
    name = f"{fit.law.name.capitalize()}'s form" if study.auto is None else "A weighted set of laws"
    frame = study.table.frame[study.fitted]
    fitted = f"{len(frame)} runs up to C = {format_compute(frame['flops'].max())} FLOPs"
    if study.heldout is None:
        reasons = [note for note in study.notes if "held out" in note]
        return f"{name} was fitted to {fitted}; nothing was held out. {' '.join(reasons)}".strip()
    held = study.heldout
    low, high = held.rows["flops"].min(), held.rows["flops"].max()
    span = format_compute(low) if high / low < 1.1 else f"{format_compute(low)} to {format_compute(high)}"
    plural = "s" if len(held.rows) > 1 else ""
    beyond = "within the compute that was fitted"
    if held.reach > 1:
        beyond = f"{format_number(held.reach, 2)} times the largest fitted compute"
    inside = round(held.coverage * len(held.rows))
    within = "There are no prediction intervals, for the runs do not determine the law."
    if math.isfinite(held.half_width):
        within = (
            f"{inside} of {len(held.rows)} lie within their {format_percent(study.choices.level)} prediction "
            f"intervals, whose half-width is {format_percent(held.half_width)} of the loss on average."
        )
    return (
        f"{name}, fitted to {fitted}, predicts the loss of {len(held.rows)} held-out run{plural} at C = {span} "
        f"({beyond}) with a mean absolute error of "
        f"{percent_text(held.mape)}. Carrying the best smaller run's loss forward errs by "
        f"{percent_text(held.carried_mape)}. {within}{_if_the_law_holds(study)}"
    )


def _if_the_law_holds(study: Study) -> str:
    """What the fitted law says alone where a weighted set predicts; nothing where one law does."""
    if study.auto is None or study.heldout is None:
        return ""
    rows = study.heldout.rows
    inside = int(((rows["law_lo"] <= rows["measured"]) & (rows["measured"] <= rows["law_hi"])).sum())
    half = float(((rows["law_hi"] - rows["law_lo"]) / (2 * rows["predicted"])).mean())
    law = study.comparison.fit.law.name
    if not math.isfinite(half):
        return f" The runs do not determine {law}'s law, which has no intervals of its own here."
    return (
        f" If {law} holds, {format_percent(half)} on average would do: {inside} of {len(rows)} lie within the "
        "intervals of that law alone."
    )


def replies(study: Study, found: Sequence[Finding] = ()) -> tuple[Reply, Reply, Reply]:
    """What was learned, how far it can be trusted, and what to do next."""
    return (
        Reply(question="What did we learn?", sentences=(*_own(found), *_learned(study))),
        Reply(question="How far can it be trusted?", sentences=(headline(study), *_doubts(study))),
        _next(study),
    )


def _own(found: Sequence[Finding]) -> tuple[str, ...]:
    """What the study was made for."""
    return tuple(sentence for finding in found if finding.leads for sentence in finding.sentences)


def _learned(study: Study) -> list[str]:
    """How the best size grows, what it is now, and what no compute removes."""
    frontier, fit = study.comparison.frontiers[-1], study.comparison.fit
    a, b = frontier.a, frontier.b
    if a.lo is None or a.hi is None:
        out = [f"These runs do not show how the best size of a model grows with compute: {a.reason}."]
    else:
        more = ", ".join(f"{NEXT**end:.1f}" for end in (a.lo, a.hi))
        text = ""
        if b is not None and b.lo is not None and b.hi is not None:
            ends = ", ".join(f"{NEXT**end:.1f}" for end in (b.lo, b.hi))
            text = f" on {NEXT**b.value:.1f} ({ends}) times as much text"
        out = [
            f"Ten times the compute is best spent on a model {NEXT**a.value:.1f} ({more}) times as large{text}: "
            f"the best size grows as C^{a.value:.2f} ({a.lo:.2f}, {a.hi:.2f})."
        ]
    floor = fit.estimates.get("E")
    if floor is not None and floor.has_interval:
        out.append(f"No amount of compute is expected to bring the loss below {floor.text(3)} ({study.loss_unit}).")
    elif floor is not None:
        out.append(f"These runs do not say which loss remains with unlimited compute: {floor.reason}.")
    return out


def _doubts(study: Study) -> list[str]:
    """What the fit itself says against being believed, in a sentence."""
    fit = study.comparison.fit
    unknown = [name for name, why in fit.identified.items() if why]
    out = [] if fit.doubt is None else [fit.doubt[0].upper() + fit.doubt[1:].rstrip(".") + "."]
    if unknown:
        names = ", ".join(unknown)
        out.append(f"The runs do not determine {names} of the law; what rests on {names} alone has no interval here.")
    return out


def _next(study: Study) -> Reply:
    """The next budget and its best run, and the price of the next gain in loss."""
    question, fit = "What should be run next?", study.comparison.fit
    if not supports_frontier(fit.law):
        return Reply(question=question, sentences=(f"{fit.law.name} says nothing about the best use of a budget.",))
    largest, best = float(study.shown["flops"].max()), float(study.shown["loss"].min())
    budget = float(f"{NEXT * largest:.2g}")
    try:
        ladder = ladder_of(fit)
        optimum, priced = compute_optimal(fit, budget, ladder), target_loss(fit, best - STEP, ladder)
    except UserError as error:
        return Reply(question=question, sentences=(f"The law cannot say: {error}.",))
    who, loss = "law predicts", optimum.loss
    if study.auto is not None:
        who, loss = "weighted set of laws predicts", _of_set(study.auto, optimum.params.value, optimum.tokens.value)
    sentences = [
        f"With C = {format_compute(budget)} FLOPs, {NEXT:.0f} times the largest run, train about "
        f"{_sized(optimum.params)} parameters on {_sized(optimum.tokens)} tokens; the {who} a loss of "
        f"{loss.text(4) if loss.has_interval else format_number(loss.value, 4)}."
    ]
    unknown, cost = study.comparison.frontiers[-1].a.reason, priced.flops
    if optimum.params.reason is not None and optimum.params.reason == unknown:
        sentences.append("The size has no interval, because these runs do not show how the best size grows.")
    elif optimum.params.reason is not None:
        sentences.append(f"The size has no interval: {optimum.params.reason}.")
    if priced.reachable != "yes":
        sentences.append(f"Whether {STEP:g} less than the best loss so far ({best:.3f}) can be reached is open.")
    elif cost.lo is None or cost.hi is None:
        why = ", for the same reason" if cost.reason == unknown else f": {cost.reason}"
        sentences.append(f"What the next {STEP:g} below the best loss ({best:.3f}) would cost is open{why}.")
    else:
        sentences.append(
            f"The next {STEP:g} below the best loss so far ({best:.3f}) would cost about "
            f"{format_compute(cost.value)} FLOPs ({format_compute(cost.lo)}, {format_compute(cost.hi)}), "
            f"{format_number(cost.value / largest, 2)} times the largest run."
        )
    return Reply(question=question, sentences=tuple(sentences), command=_advise_command(study, budget))


def _of_set(auto: AutoFit, params: float, tokens: float) -> Estimate:
    """The expected loss of one size and number of tokens by a weighted set of laws."""
    row = auto.predict({"params": [params], "tokens": [tokens]}, interval="confidence").iloc[0]
    lo, hi = float(row["confidence_lo"]), float(row["confidence_hi"])
    return Estimate(value=float(row["loss"]), lo=lo, hi=hi, level=auto.level)


def _advise_command(study: Study, budget: float) -> str | None:
    """The command that says which runs narrow the answer; None where no sweep file says what shapes there are."""
    if study.manifest is None or study.manifest.source is None:
        return None
    words = ["isoflop", "advise", "fit.json", "--budget", f"{budget:.2g}", "--at", f"flops={NEXT * budget:.2g}"]
    return shlex.join([*words, "--template", study.manifest.source])


def _sized(estimate: Estimate) -> str:
    """A size or number of tokens with its interval."""
    if estimate.lo is None or estimate.hi is None:
        return format_size(estimate.value)
    return f"{format_size(estimate.value)} ({format_size(estimate.lo)}, {format_size(estimate.hi)})"


def cards(study: Study, found: Sequence[Finding] = ()) -> list[Card]:
    """The numbers at the head of the page; those of what the study was made for come first."""
    out = []
    for finding in found:
        if finding.leads:
            out += [_percent_card(label, estimate) for label, estimate in finding.percent_cards]
            out += [_card(label, estimate) for label, estimate in finding.cards]
    if study.heldout is not None:
        out.append(_percent_card("held-out error of the law", study.heldout.mape))
        out.append(_percent_card("error of carrying forward", study.heldout.carried_mape))
    names = {"envelope": "a by envelope", "isoflop": "a by IsoFLOP minima", "parametric": "a by the fitted law"}
    for frontier in study.comparison.frontiers:
        kind = frontier.method.split()[0]
        if kind != "envelope":
            out.append(_card(names[kind], frontier.a))
    if "E" in study.comparison.fit.estimates:
        out.append(_card(f"irreducible loss E, {study.loss_unit}", study.comparison.fit.estimates["E"]))
    if study.collapse is not None:
        out.append(_percent_card("spread of normalised curves", study.collapse.spread))
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


def summary(title: str, figure: Plate, replies: Sequence[Reply], numbers: Sequence[Card]) -> dict[str, Any]:
    """What a gallery shows of a report: title, first figure, sentences and numbers.

    Parameters
    ----------
    title : str
        Heading of the page.
    figure : Plate
        The first figure, whose PNG is there on a light and on a dark background.
    replies : sequence of Reply
        The answers that open the page.
    numbers : sequence of Card
        The numbers at its head.

    Returns
    -------
    dict
        Plain JSON.
    """
    return {
        "title": title,
        "figure": figure.name,
        "figure_title": figure.title,
        "replies": [{"question": reply.question, "sentences": list(reply.sentences)} for reply in replies],
        "cards": [{"label": card.label, "value": card.value, "interval": card.interval} for card in numbers],
    }
