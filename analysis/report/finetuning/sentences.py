"""What a report of fine-tuning opens with: what pre-training is worth, sizes of methods, and the held-out prediction.

It owns the sentences; their numbers are computed in `study`.
"""

from __future__ import annotations

import pandas as pd

from analysis.formatting import format_number, format_percent, format_size
from analysis.study.tuning import TuningStudy

SIZES = {"lora": "LoRA's rank", "adapters": "the width of adapters", "prompt": "the length of a prompt"}
"""What the size of a method is."""


def opening_sentences(study: TuningStudy) -> tuple[str, ...]:
    """The sentences of the head: what pre-training is worth, sizes of methods, and the held-out prediction.

    Parameters
    ----------
    study : TuningStudy
        What the report shows.
    """
    held = (tuning_headline(study),) if len(study.training_sizes) > 1 or not len(study.slopes) else ()
    return (*worth_sentences(study), *size_sentences(study), *held)


def tuning_headline(study: TuningStudy) -> str:
    """The held-out prediction in one or two sentences, or why there is none.

    Parameters
    ----------
    study : TuningStudy
        What the report shows.

    Returns
    -------
    str
        For the head of the report.
    """
    held = study.heldout.dropna(subset=["predicted"])
    if held.empty:
        return "No law has a held-out prediction: too few runs were fitted, or none was held out."
    law, carried = _mean_error(held, "predicted"), _mean_error(held, "carried_forward")
    known = held.dropna(subset=["lo", "hi"])
    inside = int(((known["measured"] >= known["lo"]) & (known["measured"] <= known["hi"])).sum())
    most, size = int(held["examples"].max()), format_size(float(held["params"].max()))
    none = len(held) - len(known)
    rest = f" {none} have none, because their runs do not identify the law." if none else ""
    return (
        f"Laws fitted to the smaller bodies and training sets predict the test loss of the largest body (N = {size}) "
        f"from {most} examples with a mean absolute error of {format_percent(law)} over {len(held)} methods. Carrying "
        f"forward the loss from the next smaller training set errs by {format_percent(carried)}. {inside} of "
        f"{len(known)} lie within their 95 % prediction intervals.{rest}"
    )


def worth_sentences(study: TuningStudy) -> tuple[str, ...]:
    """What pre-training is worth at the fewest examples, for the smallest and the largest body; nothing without it.

    Parameters
    ----------
    study : TuningStudy
        What the report shows.
    """
    if study.worth.empty:
        return ()
    fewest = study.worth[study.worth["examples"] == study.worth["examples"].min()].sort_values("params")
    said, least = [], []
    for row in (fewest.iloc[0], fewest.iloc[-1])[: len(fewest)]:
        times, fewest_times = _worth(row)
        said.append(f"{times} times as many for N = {format_size(float(row['params']))}")
        least.append(fewest_times)
    count = int(fewest["examples"].iloc[0])
    return (
        f"{'Pre-training saves examples: to' if min(least) > 1 else 'To'} reach the loss of a tuned body from {count} "
        f"examples, fresh weights need {' and '.join(said)}.",
    )


def _worth(row: pd.Series) -> tuple[str, float]:
    """How many times the examples fresh weights need, with an interval or as a bound, and the fewest that it may be."""
    ratio, reason = float(row["worth"] / row["examples"]), str(row["reason"])
    times = format_number(ratio, 2)
    if "lower bound" in reason:
        return f"at least {times}", ratio
    if "upper bound" in reason:
        return f"at most {times}", 0.0
    low, high = (None if pd.isna(row[end]) else float(row[end] / row["examples"]) for end in ("lo", "hi"))
    if low is None:
        return f"about {times}", 0.0
    known = (
        f"at least {format_number(low, 2)}" if high is None else f"{format_number(low, 2)}, {format_number(high, 2)}"
    )
    return f"about {times} ({known})", low


def size_sentences(study: TuningStudy) -> tuple[str, ...]:
    """How the loss and the best rate of each method with several sizes move along them, on the largest body.

    Parameters
    ----------
    study : TuningStudy
        What the report shows.
    """
    body = study.bodies["pretrained"].iloc[-1]
    here = study.slopes[study.slopes["pretrained"] == body]
    here = here[here["examples"] == here["examples"].max()]
    said = []
    for method, rows in here.groupby("method", sort=True):
        lines = {row["measure"]: row for row in rows.to_dict("records")}
        sizes = study.cells.loc[study.cells["method"] == method, "size"]
        name = SIZES.get(str(method), f"the size of {method}")
        if any(pd.isna(line["slope"]) for line in lines.values()):
            said.append(f"What {name} does to the loss and the best rate is not identified: {lines['lr']['reason']}.")
            continue
        powers = {of: f"{line['slope']:+.3f} ({line['lo']:+.3f}, {line['hi']:+.3f})" for of, line in lines.items()}
        said.append(
            f"As {name} rises from {int(sizes.min())} to {int(sizes.max())}, the test loss changes as its power "
            f"{powers['loss']} and the best rate as its power {powers['lr']}, with 95 % intervals."
        )
        said += _largest_beside_full(study, str(method))
    return tuple(said)


def _largest_beside_full(study: TuningStudy, method: str) -> list[str]:
    """The largest size of a method against full fine-tuning, on the same test examples of the largest body."""
    of = study.cells[
        (study.cells["method"] == method) & (study.cells["pretrained"] == study.bodies["pretrained"].iloc[-1])
    ]
    of = of[of["examples"] == of["examples"].max()]
    last = of.loc[of["size"].idxmax()]
    pair = study.pairs.merge(last.to_frame().T[["pretrained", "arm", "examples"]], on=["pretrained", "arm", "examples"])
    if pair.empty:
        return []
    row = pair.iloc[0]
    full = study.cells[(study.cells["pretrained"] == last["pretrained"]) & (study.cells["arm"] == "full")]
    share = float(last["trainable_params"]) / float(full["trainable_params"].iloc[0])
    return [
        f"At {int(last['size'])}, {format_percent(share)} as many parameters learn as under full fine-tuning, whose "
        f"loss on the same test examples is lower by {row['difference']:.3f} ({row['lo']:.3f}, {row['hi']:.3f}) nats."
    ]


def _mean_error(held: pd.DataFrame, column: str) -> float:
    return float((held[column].astype(float) / held["measured"] - 1).abs().mean())
