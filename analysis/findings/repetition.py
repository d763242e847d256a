"""Text that is read several times: what it costs against fresh text, and how soon repetitions lose their worth.

Runs are paired: same shape, tokens and seed, same validation documents. It must not know how a sweep is planned.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from analysis.estimate import Estimate, percent_text
from analysis.figures.drawing.plate import Plate
from analysis.figures.findings.repeated import draw_repeated
from analysis.findings.base import Finding, FoundTable
from analysis.fitting.fit_law import fit_law
from analysis.fitting.spec import FitSpec
from analysis.formatting import format_number, format_percent, format_size
from analysis.laws.size_and_data.muennighoff import REPEATS
from analysis.published.constants import MUENNIGHOFF_2023
from analysis.runs.columns import as_columns
from analysis.study.study import Study

CELL = ["width", "depth", "tokens", "seed"]
"""What a repeated run shares with its fresh partner."""
DRAWS = 400
"""Bootstrap draws of the law of repeated data."""


def repetition(study: Study) -> Finding | None:
    """Compare runs that repeat their text with runs that do not.

    Parameters
    ----------
    study : Study
        Any.

    Returns
    -------
    Finding or None
        None where no run repeats its text, or none has a partner that does not.
    """
    pairs = repeated_pairs(study.table.frame)
    if not len(pairs):
        return None
    by_epoch = cost_by_epoch(pairs, level=study.choices.level)
    scale, why = _scale(study)
    text = f"R_D = {scale.text(2)}; {why}. Muennighoff et al. 2023 found {MUENNIGHOFF_2023['R_D']} for web text."
    last = by_epoch[-1]
    shown = "; ".join(f"{_times(epochs)} {percent_text(cost)}" for epochs, cost in by_epoch)
    largest = pairs[pairs["params"] == pairs["params"].max()].iloc[-1]
    return Finding(
        sentences=(
            f"Against as many fresh tokens, the loss on repeated text is higher after {shown}, on average over sizes; "
            f"for the largest model (N = {format_size(largest['params'])}) after {_times(largest['epochs'])} by "
            f"{format_percent(largest['cost'])} (one pair).",
            text,
        ),
        plate=Plate(
            name="repeated",
            title="Fresh text against repeated text",
            draw=partial(draw_repeated, pairs),
            size=(10.5, 3.7),
            caption="Left: validation loss by tokens; full circles and lines are fresh text, hollow ones and dashes "
            "text that is repeated, one colour for each size. Right: how much higher the loss is by the passes over "
            "the repeated text.",
        ),
        tables=(_table(pairs),),
        percent_cards=((f"cost of {_times(last[0])}", last[1]),),
        cards=(("R_D, repetitions that keep their worth", scale),),
    )


def repeated_pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs that repeat their text beside their fresh partners.

    Parameters
    ----------
    frame : DataFrame
        Runs with unique_tokens, width, depth, tokens, seed and loss.

    Returns
    -------
    DataFrame
        width, depth, params, tokens, seed, unique_tokens, epochs, fresh, repeated, cost: the loss of the repeated run
        over that of its partner, less one. Empty without pairs.
    """
    if not {"unique_tokens", *CELL} <= set(frame.columns):
        return pd.DataFrame()
    frame = frame.assign(unique_tokens=pd.to_numeric(frame["unique_tokens"], errors="coerce"))  # None where not known
    epochs = frame["tokens"] / frame["unique_tokens"]
    again = np.log(epochs) > REPEATS
    least = frame.loc[again, "unique_tokens"].min()
    text = frame["unique_tokens"] == least  # its first pass too, for the left panel and the first row
    fresh = frame[~again & ~text].drop_duplicates(CELL)
    mine = frame[text].assign(epochs=epochs).drop_duplicates(CELL)
    if not again.any() or not len(fresh):
        return pd.DataFrame()
    both = mine.merge(fresh[[*CELL, "loss"]], on=CELL, suffixes=("", "_fresh"))
    names = ["width", "depth", "params", "tokens", "seed", "unique_tokens", "epochs"]
    out = both[names].assign(fresh=both["loss_fresh"], repeated=both["loss"])
    return out.assign(cost=out["repeated"] / out["fresh"] - 1).sort_values(["params", "tokens"]).reset_index(drop=True)


def cost_by_epoch(pairs: pd.DataFrame, *, level: float) -> list[tuple[float, Estimate]]:
    """Mean cost of repeated text by passes, with a t interval over sizes and seeds.

    Parameters
    ----------
    pairs : DataFrame
        As `repeated_pairs` makes it.
    level : float
        Coverage.

    Returns
    -------
    list of (float, Estimate)
        Passes and cost, a fraction of the loss.
    """
    out = []
    for tokens, group in pairs.groupby("tokens"):
        del tokens
        cost = group["cost"].to_numpy(dtype=float)
        passes, mean = float(group["epochs"].mean()), float(cost.mean())
        if cost.size < 2:
            out.append((passes, Estimate(value=mean, level=level, reason="one pair")))
            continue
        se = float(cost.std(ddof=1)) / np.sqrt(cost.size)
        reach = float(stats.t.ppf((1 + level) / 2, cost.size - 1)) * se
        out.append((passes, Estimate(value=mean, lo=mean - reach, hi=mean + reach, se=se, level=level)))
    return out


def _times(epochs: float) -> str:
    """Passes in words."""
    rounded = round(epochs)
    return f"{rounded} pass" if rounded == 1 else f"{rounded} passes"


def _scale(study: Study) -> tuple[Estimate, str]:
    """R_D of Muennighoff's law, fitted to all arms together, and what it means."""
    frame = study.table.frame
    names = ["params", "tokens", "unique_tokens", "loss", *([study.choices.cluster] if study.choices.cluster else [])]
    spec = FitSpec(bootstrap=DRAWS, cluster=study.choices.cluster, level=study.choices.level, seed=study.choices.seed)
    fit = fit_law("muennighoff", as_columns(frame, names), spec)
    meaning = "it is how many passes beyond the first keep most of their worth"
    return fit.estimates["R_D"], meaning


def _table(pairs: pd.DataFrame) -> FoundTable:
    rows = tuple(
        (
            format_size(row["params"]),
            format_size(row["tokens"]),
            format_number(row["epochs"], 3),
            f"{row['fresh']:.4f}",
            f"{row['repeated']:.4f}",
            format_percent(row["cost"]),
        )
        for row in pairs.to_dict("records")
    )
    head = ("N", "tokens", "passes", "loss, fresh text", "loss, repeated text", "cost of repeating")
    return FoundTable(name="repetition", heading="Pair by pair", frame=pairs, head=head, rows=rows)
