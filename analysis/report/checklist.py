"""The reporting checklist of a scaling-law study, filled in by the machine; what is missing is named as missing.

After Li et al. 2025, "(Mis)Fitting: A Survey of Scaling Laws", arXiv 2502.18969: the parts are theirs (the form, the
training, the data that were collected, the fit), the questions are in our words, and validation has a part of its own.
Owns the questions and what a fit and its runs answer by themselves; what only a report knows comes in as `facts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.fitting.fit import Fit
from analysis.formatting import format_compute, format_number, format_percent, format_size

PARTS = ("form", "training", "data collected", "fit", "validation")
"""Parts of the checklist in order."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One thing that a reader needs in order to check or repeat a scaling law."""

    key: str
    """Name in JSON and among the facts."""
    part: str
    """One of PARTS."""
    text: str
    """The question in a few words."""
    advice: str
    """Where the answer would come from: said when it is missing."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A question with its answer."""

    question: Question
    """The question."""
    text: str | None
    """The answer; None when nothing that the machine has says it."""


def _part(part: str, rows: tuple[tuple[str, str, str], ...]) -> tuple[Question, ...]:
    return tuple(Question(key=key, part=part, text=text, advice=advice) for key, text, advice in rows)


QUESTIONS = (
    *_part(
        "form",
        (
            ("form", "law", "fit a law"),
            ("variables", "variables", "fit a law"),
            ("parameters", "parameters fitted", "fit a law"),
            ("source", "where the form comes from", "name the law's source"),
            ("assumptions", "where it is meant to hold", "give the law's domain"),
        ),
    ),
    *_part(
        "training",
        (
            ("models", "models trained", "give the table of runs"),
            ("sizes", "sizes", "give a column params"),
            ("tokens", "tokens", "give a column tokens"),
            ("compute", "compute", "give a column flops"),
            ("tokens_per_param", "tokens per parameter", "give columns params and tokens"),
            ("count_params", "how N is counted", "name the column: --columns params=COLUMN"),
            ("count_tokens", "how D is counted", "name the column: --columns tokens=COLUMN"),
            ("count_flops", "how C is counted", "name the column: --columns flops=COLUMN"),
            ("architecture", "architecture", "give columns family, width and depth"),
            ("corpus", "training text", "give a column corpus"),
            ("tokenizer", "tokenizer, vocabulary and context", "give columns tokenizer, vocab and context"),
            ("repetition", "repeated data", "give a column epochs or unique_tokens"),
            ("optimizer", "optimiser", "train with a run store, whose configs say it"),
            ("rates", "learning rate, batch and weight decay", "give columns lr, batch and weight_decay"),
            ("schedule", "schedule", "give columns schedule, warmup_tokens and decay_tokens"),
            (
                "tuning",
                "how hyperparameters follow size",
                "say which recipe set them, and compare rates: analysis rates",
            ),
            ("precision", "precision and device", "give columns precision and device"),
        ),
    ),
    *_part(
        "data collected",
        (
            ("metric", "what is fitted", "say which loss the column holds"),
            ("evaluation", "evaluated on", "give the validation set, its size and a column loss_se"),
            ("checkpoints", "checkpoints per model", "give a column curve or decayed"),
            ("left_out", "rows left out", "read the table with --where, which counts them"),
            ("outliers", "far runs", "fit in a report, which flags them"),
            ("seeds", "seeds, and the noise between them", "train replicates, and give a column seed"),
            ("raw", "raw numbers", "publish the table of runs"),
        ),
    ),
    *_part(
        "fit",
        (
            ("objective", "objective", "fit a law"),
            ("algorithm", "algorithm and starts", "fit a law"),
            ("convergence", "convergence", "fit a law"),
            ("weights", "weights of runs", "say --weights, or that runs count alike"),
            ("identification", "what the runs do not determine", "fit a law"),
            ("intervals", "intervals", "draw with --bootstrap 1000"),
            ("code", "code and command", "write a report from a git checkout"),
        ),
    ),
    *_part(
        "validation",
        (
            ("goodness", "goodness of fit", "fit a law"),
            ("heldout", "held-out runs", "hold out the largest budget: --holdout EXPR"),
            ("heldout_error", "held-out error", "hold out the largest budget: --holdout EXPR"),
            ("coverage", "coverage of the intervals on them", "hold out runs, and draw with --bootstrap 1000"),
            ("extrapolation", "reach of the extrapolation", "hold out the largest budget: --holdout EXPR"),
            ("methods", "other ways to the same exponent", "run analysis compare"),
            ("other_laws", "other laws", "run isoflop select on the same table"),
        ),
    ),
)
"""Every question, in order."""


def checklist(
    fit: Fit, *, runs: pd.DataFrame | None = None, facts: Mapping[str, str | None] | None = None
) -> tuple[Answer, ...]:
    """Answers to every question as far as the fit, its runs and the given facts have them.

    Parameters
    ----------
    fit : Fit
        The fitted law.
    runs : DataFrame, optional
        The fitted rows, as tables of runs give them.
    facts : mapping, optional
        Further answers by key, which go before what fit and runs say; None says that there is none.

    Returns
    -------
    tuple of Answer
        One for each question, in order.

    Raises
    ------
    ValueError
        For a fact that answers no question.
    """
    known = {question.key for question in QUESTIONS}
    unknown = set(facts or {}) - known
    if unknown:
        raise ValueError(f"no question is called {sorted(unknown)[0]!r}; there are {', '.join(sorted(known))}")
    answers: dict[str, str | None] = {**_of_fit(fit), **({} if runs is None else _of_runs(runs)), **(facts or {})}
    return tuple(Answer(question=question, text=answers.get(question.key) or None) for question in QUESTIONS)


def to_dict(answers: Sequence[Answer]) -> dict[str, Any]:
    """Plain JSON: answers in order, and the keys of what is missing."""
    return {
        "source": "after Li et al. 2025, (Mis)Fitting: A Survey of Scaling Laws, arXiv 2502.18969",
        "num_answered": sum(answer.text is not None for answer in answers),
        "num_questions": len(answers),
        "missing": [answer.question.key for answer in answers if answer.text is None],
        "items": [
            {
                "key": answer.question.key,
                "part": answer.question.part,
                "question": answer.question.text,
                "answer": answer.text,
                "advice": answer.question.advice if answer.text is None else None,
            }
            for answer in answers
        ],
    }


def summary(answers: Sequence[Answer]) -> str:
    """How much of the checklist is answered, and what is missing, in one or two sentences."""
    missing = [answer.question.text for answer in answers if answer.text is None]
    summary = f"{len(answers) - len(missing)} of {len(answers)} questions are answered by the files of this study."
    return summary + (f" Missing: {'; '.join(missing)}." if missing else "")


def _of_fit(fit: Fit) -> dict[str, str | None]:
    """What the fit says by itself."""
    options = fit.options
    delta = f", delta {options['delta']:g}" if options.get("delta") else ""
    unknown: dict[str, list[str]] = {}
    for name, why in fit.identified.items():
        if why:
            unknown.setdefault(why, []).append(name)
    unit = "log loss" if fit.predictor.log_residuals else "loss"
    residual = format_percent(fit.residual_scale) if fit.predictor.log_residuals else format_number(fit.residual_scale)
    draws = options.get("bootstrap")
    clustered = f", {fit.num_clusters} clusters of runs drawn whole" if options.get("clustered") else " over runs"
    origin = "from the sandwich covariance; no draws were asked for"
    if draws:
        origin = f"{draws} bootstrap draws{clustered}"
    conventions = fit.conventions
    return {
        "form": f"{fit.law.name}: {fit.law.formula}",
        "variables": f"{', '.join(fit.law.inputs)}; {fit.law.units}",
        "parameters": f"{len(fit.law.param_names)}: {', '.join(fit.law.param_names)}",
        "source": fit.law.source,
        "assumptions": fit.law.domain,
        "models": f"{fit.num_rows} rows fitted",
        "count_params": conventions.get("params"),
        "count_tokens": conventions.get("tokens"),
        "count_flops": conventions.get("flops"),
        "objective": f"{options['objective']}{delta} on {options['residuals']} residuals, summed: {fit.objective:.6g}",
        "algorithm": "grid over the nonlinear parameters with the linear ones solved, every local minimum polished by "
        f"damped Newton steps; {format_percent(fit.agreement)} of the polished starts end at this minimum",
        "convergence": f"status {fit.status}, condition number {format_number(fit.condition, 2)}",
        "identification": "; ".join(f"{', '.join(names)} ({why})" for why, names in unknown.items())
        or "nothing: every parameter is identified",
        "intervals": f"{format_percent(fit.level)}, {origin}",
        "goodness": f"standard deviation of one run about the law {residual} ({unit}, {fit.num_rows} rows less "
        f"{len(fit.law.param_names)} parameters)",
    }


def _of_runs(runs: pd.DataFrame) -> dict[str, str | None]:
    """What the rows say by themselves."""
    out: dict[str, str | None] = {"models": _models(runs)}
    ranges = (("sizes", "params", format_size), ("tokens", "tokens", format_size), ("compute", "flops", format_compute))
    for key, name, write in ranges:
        values = _numbers(runs, name)
        if values is not None:
            out[key] = f"{_range(values, write)}, {np.unique(values).size} values"
    params, tokens = _numbers(runs, "params"), _numbers(runs, "tokens")
    if params is not None and tokens is not None:
        out["tokens_per_param"] = _range(tokens / params, format_number)
    out["architecture"] = _joined(runs, ("family", "positions", "width", "depth", "heads"), need=("width", "depth"))
    out["corpus"] = _joined(runs, ("corpus",), need=("corpus",), bare=True)
    out["tokenizer"] = _joined(runs, ("tokenizer", "vocab", "context"), need=("tokenizer",))
    out["repetition"] = _repetition(runs)
    out["rates"] = _joined(runs, ("lr", "batch", "weight_decay"), need=("lr", "batch"))
    out["schedule"] = _joined(runs, ("schedule", "warmup_tokens", "decay_tokens"), need=("schedule",))
    out["precision"] = _joined(runs, ("precision", "device", "device_name"), need=("precision",))
    out["checkpoints"] = _checkpoints(runs)
    errors = _numbers(runs, "loss_se")
    if errors is not None:
        where = _numbers(runs, "num_val_tokens")
        size = "" if where is None else f"{format_size(float(np.median(where)))} held-out tokens, "
        out["evaluation"] = f"{size}the same for every run; standard error of a loss {_range(errors, format_number)}"
    return out


def _models(runs: pd.DataFrame) -> str:
    """Rows and the models behind them."""
    for name, what in (("curve", "training curves"), ("trunk", "training trunks that runs share")):
        if name in runs.columns and runs[name].notna().all() and runs[name].nunique() < len(runs):
            return f"{len(runs)} rows fitted, from {runs[name].nunique()} {what}"
    return f"{len(runs)} rows fitted"


def _numbers(runs: pd.DataFrame, name: str) -> np.ndarray | None:
    """The column as finite numbers; None when it is absent or holds anything else."""
    if name not in runs.columns or not len(runs):
        return None
    values = pd.to_numeric(runs[name], errors="coerce").to_numpy(dtype=np.float64)
    return values if np.isfinite(values).all() else None


def _range(values: np.ndarray, write: Any) -> str:
    """`low to high`, or the one value."""
    low, high = write(float(values.min())), write(float(values.max()))
    return str(low) if low == high else f"{low} to {high}"


def _joined(runs: pd.DataFrame, names: tuple[str, ...], *, need: tuple[str, ...], bare: bool = False) -> str | None:
    """`name value` of the columns that are there; None unless all of `need` are."""
    parts = {name: _values(runs, name) for name in names}
    if any(parts[name] is None for name in need):
        return None
    return ", ".join(str(v) if bare else f"{name.replace('_', ' ')} {v}" for name, v in parts.items() if v is not None)


def _values(runs: pd.DataFrame, name: str) -> str | None:
    """The values of a column in words: a range of numbers, a list of texts."""
    numbers = _numbers(runs, name)
    if numbers is not None:
        return _range(numbers, _short)
    if name not in runs.columns or runs[name].isna().all():
        return None
    return " or ".join(dict.fromkeys(str(value) for value in runs[name].dropna()))


def _short(value: float) -> str:
    """A number in few characters: a size, a whole number, or three digits."""
    if value >= 1e4:
        return format_size(value)
    return f"{value:g}" if value == round(value) else f"{value:.3g}"


def _repetition(runs: pd.DataFrame) -> str | None:
    """Whether data were repeated."""
    epochs = _numbers(runs, "epochs")
    if epochs is not None:
        return (
            f"at most {format_number(float(epochs.max()), 2)} passes over the text"
            if epochs.max() > 1
            else (f"none: at most {format_number(float(epochs.max()), 2)} of the text was used")
        )
    unique, tokens = _numbers(runs, "unique_tokens"), _numbers(runs, "tokens")
    if unique is None or tokens is None:
        return None
    return f"at most {format_number(float((tokens / unique).max()), 2)} passes over the text"


def _checkpoints(runs: pd.DataFrame) -> str | None:
    """How many points of a run are fitted."""
    if "decayed" in runs.columns:
        return "the end of each run, after the decay of its learning rate"
    if "curve" in runs.columns and runs["curve"].notna().all():
        return f"{len(runs) / runs['curve'].nunique():.3g} of each run"
    if "run_id" in runs.columns:
        return "one: the end of each run"
    return None
