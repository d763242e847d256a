"""Synthetic languages: the fitted floor against the exact entropy, and exponents against theory.

What is exact comes from the language that the runs' configs name. It must not know how the law was fitted.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from analysis.estimate import Estimate
from analysis.figures.drawing.plate import Plate
from analysis.figures.findings.intervals import Row, draw_intervals
from analysis.findings.base import Finding, FoundTable
from analysis.formatting import format_number, format_percent
from analysis.study.study import Study
from experiments.data.config import DataConfig
from experiments.data.corpus import source_loss
from experiments.data.languages.base import Language
from experiments.data.languages.markov import MarkovLanguage
from experiments.data.languages.registry import build_language
from experiments.data.languages.zipf_memory import ZipfMemoryLanguage

_OF_VALIDATION = ("corpus", "corpus_options", "context", "val_size", "val_document_size")
"""Fields of a run's data that define the text on which it is measured."""
Truth = tuple[str, str, float, str]
"""Parameter of the law, what it should be in words, the number, and why."""


def known_truth(study: Study) -> Finding | None:
    """Compare a law that was fitted to runs on a synthetic language with what is known of the language.

    Parameters
    ----------
    study : Study
        With the configs of its runs.

    Returns
    -------
    Finding or None
        None where the corpus is no synthetic language, the runs are of several, or the law has no floor E.
    """
    data = _data(study)
    fit = study.comparison.fit
    if data is None or "E" not in fit.estimates:
        return None
    language = build_language(data)
    exact = _rounded(language.window_entropy(data.context))
    scored, chance = source_loss(data)
    scored = _rounded(scored)
    truths = [
        ("E", "source on this text", scored, "what the language itself scores where the runs are measured"),
        ("E", "exact entropy", exact, _why_floor(language, data)),
    ]
    truths += [truth for truth in _exponents(language, data, study) if truth[0] in fit.estimates]
    pairs = [(truth, fit.estimates[truth[0]]) for truth in truths]
    return Finding(
        sentences=(
            _floor_sentence(fit.estimates["E"], scored, exact, chance),
            *(_exponent_sentence(truth, estimate) for truth, estimate in pairs if truth[0] != "E"),
        ),
        plate=Plate(
            name="truth",
            title="What was fitted, and what is true",
            draw=partial(draw_intervals, _groups(pairs, study.loss_unit), digits=4),
            size=(9.4, 1.1 + 0.36 * max(2, len(pairs) - 2)),
            caption=f"Diamonds are parameters of {fit.law.name}'s law with {format_percent(study.choices.level)} "
            "intervals; the upright strokes are what they should be. All runs are measured on one validation text, so "
            "their floor is what the language itself scores there, which differs from the exact entropy by chance; "
            "exponents are what theory gives for much data.",
        ),
        tables=(_table(pairs),),
        cards=(("E less the floor of the validation text, nats", _less(fit.estimates["E"], scored)),),
    )


def _rounded(value: float) -> float:
    """Twelve digits: the last ones of a long sum differ between machines, and tables should not."""
    return float(f"{value:.12g}")


def _data(study: Study) -> DataConfig | None:
    """The one language of the runs."""
    found = {str(sorted(_plain(config).items())): _plain(config) for config in study.configs.values()}
    if len(found) != 1 or "[]" in found:
        return None
    data = DataConfig(**next(iter(found.values())))
    return data if data.is_language else None


def _plain(config: Any) -> dict[str, Any]:
    data = config.get("data", {})
    return {name: data[name] for name in _OF_VALIDATION if name in data}


def _why_floor(language: Language, data: DataConfig) -> str:
    """How the floor is known."""
    if language.window_entropy(data.context) == language.entropy_rate:
        return "entropy rate of the language"
    return (
        f"entropy rate {language.entropy_rate:.5f}, and what the first tokens of a window of {data.context} lack of "
        "their past"
    )


def _exponents(language: Language, data: DataConfig, study: Study) -> list[Truth]:
    """What theory says of the exponents."""
    if isinstance(language, MarkovLanguage):
        return [("beta", "1, counted transitions", 1.0, "the excess loss of counts falls as 1 / D")]
    if not isinstance(language, ZipfMemoryLanguage):
        return []
    a = float(data.option("exponent"))
    items = study.table.frame.loc[study.fitted, "tokens"].to_numpy(dtype=float) / language.period
    low, high = float(items.min()), float(items.max())
    slope = -np.log(language.unseen(high) / language.unseen(low)) / np.log(high / low)
    return [
        ("alpha", "a, room for N facts", a, "Hutter 2021: N^-a where facts fill the parameters"),
        ("beta", "a / (1 + a), much data", a / (1 + a), "Hutter 2021: D^(-a / (1 + a)) for much data"),
        ("beta", "perfect memory, these D", _rounded(slope), "share of unseen keys between the fewest and most tokens"),
    ]


def _floor_sentence(floor: Estimate, scored: float, exact: float, chance: float | None) -> str:
    """The fitted floor beside what the source scores on the validation text, and beside the exact entropy."""
    spread = "" if chance is None else f", as texts of this length do by chance (standard error {chance:.2g})"
    off = format_percent(abs(floor.value / scored - 1))
    return (
        f"The language itself scores {format_number(scored, 4)} nats on the validation text, {abs(scored - exact):.2g} "
        f"{'above' if scored > exact else 'below'} its exact entropy of {format_number(exact, 4)}{spread}; the fitted "
        f"floor is E = {floor.text(4)}, {off} {'above' if floor.value > scored else 'below'} that score, and "
        f"{_end(floor, scored)}."
    )


def _exponent_sentence(truth: Truth, estimate: Estimate) -> str:
    """A fitted exponent beside that of theory."""
    name, what, value, _ = truth
    role = {"alpha": "size", "beta": "data"}[name]
    return (
        f"The {role} exponent {name} is {estimate.text(3)}; theory gives {format_number(value, 3)} ({what}): "
        f"{_end(estimate, value)}."
    )


def _end(estimate: Estimate, value: float) -> str:
    """Whether an interval covers a number, in words."""
    if not estimate.has_interval:
        return "there is no interval to cover it"
    return f"the interval {'covers it' if estimate.covers(value) else 'does not cover it'}"


def _less(estimate: Estimate, truth: float) -> Estimate:
    """An estimate less what it should be."""
    if estimate.lo is None or estimate.hi is None:
        return Estimate(value=estimate.value - truth, level=estimate.level, reason=estimate.reason)
    ends = (estimate.lo - truth, estimate.hi - truth)
    return Estimate(value=estimate.value - truth, lo=ends[0], hi=ends[1], se=estimate.se, level=estimate.level)


def _groups(pairs: list[tuple[Truth, Estimate]], unit: str) -> list[tuple[str, list[Row]]]:
    """The floor on one axis, exponents on another."""
    rows = [(truth[0], Row(_label(truth), estimate, truth[2])) for truth, estimate in pairs]
    floor = [row for name, row in rows if name == "E"]
    rest = [row for name, row in rows if name != "E"]
    return [(unit, floor), *([("exponent", rest)] if rest else [])]


def _label(truth: Truth) -> str:
    """A parameter and what it is held against, short enough for a figure."""
    return f"{truth[0]}: {truth[1].rpartition(', ')[2]}"


def _table(pairs: list[tuple[Truth, Estimate]]) -> FoundTable:
    frame = pd.DataFrame(
        {
            "parameter": truth[0],
            "fitted": estimate.value,
            "lo": np.nan if estimate.lo is None else estimate.lo,
            "hi": np.nan if estimate.hi is None else estimate.hi,
            "truth": truth[2],
            "covered": estimate.covers(truth[2]),
            "what": truth[1],
            "why": truth[3],
        }
        for truth, estimate in pairs
    )
    rows = tuple(
        (truth[0], estimate.text(4), format_number(truth[2], 4), "yes" if estimate.covers(truth[2]) else "no", truth[3])
        for truth, estimate in pairs
    )
    head = ("parameter", "fitted", "known", "covered", "how it is known")
    return FoundTable(name="truth", heading="Fitted and known", frame=frame, head=head, rows=rows)
