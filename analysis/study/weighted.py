"""Which laws predict the held-out runs of a study: the fitted one, or a weighted set.

Owns the choice and its sentence; how laws are weighed is `analysis.selection.auto`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from analysis.errors import UserError
from analysis.fitting.spec import FitSpec
from analysis.laws.registry import AUTO, get_law
from analysis.runs.bootstrap_clusters import choose
from analysis.runs.columns import as_columns
from analysis.selection.auto import SPARE, AutoFit, fit_auto
from analysis.study.study import Choices

FIRST_LAW = "hoffmann"
"""The law by whose parameters clusters are counted where no single law was named."""


def clusters_for(fitted: pd.DataFrame, law: str) -> tuple[str | None, str | None]:
    """The column whose rows are drawn together for a law or, with `auto`, for the weighted set, and a note."""
    name, spare = (FIRST_LAW, SPARE) if law == AUTO else (law, 0)
    return choose(fitted, len(get_law(name).parameters), spare=spare)


def weigh_laws(
    choices: Choices, asked: Choices, fitted: pd.DataFrame, spec: FitSpec, notes: list[str], *, num_held: int
) -> tuple[Choices, AutoFit | None]:
    """The weighted set of laws that predicts the held-out runs.

    Parameters
    ----------
    choices : Choices
        With the column of the clusters.
    asked : Choices
        As they were given.
    fitted : DataFrame
        The fitted runs.
    spec : FitSpec
        How the law is fitted.
    notes : list of str
        A sentence on the set is added, or why there is none.
    num_held : int
        Held-out runs; without any, a set is fitted only where `auto` was asked for.

    Returns
    -------
    Choices
        With the heaviest law in place of `auto`.
    AutoFit or None
        The set; None where the fitted law predicts alone.

    Raises
    ------
    UserError
        When `auto` was asked for and no law can be fitted.
    """
    named = choices.law == AUTO
    if not named and not (choices.weigh and num_held):
        return choices, None
    if not named and asked.cluster is None:  # a set takes more clusters than one law: runs may have to be drawn singly
        cluster, note = clusters_for(fitted, AUTO)
        if cluster != spec.cluster and note is not None:
            notes.append(f"for the weighted set of laws, {note}")
        spec = replace(spec, cluster=cluster)
    try:
        auto = fit_auto(as_columns(fitted, _needed(spec)), spec)
    except UserError as error:
        if named:
            raise
        notes.append(f"held-out runs are predicted by {choices.law} alone: {error}")
        return choices, None
    law = auto.law.name if named else choices.law
    notes.append(
        f"held-out runs are predicted by a weighted set of laws ({auto.shares}): {auto.verdict}. Figures, exponents "
        f"and fit.json are of {law} alone, whose own intervals hold if that law does"
    )
    return replace(choices, law=law), auto


def _needed(spec: FitSpec) -> Sequence[str]:
    """Columns that the fits read."""
    return [name for name in ("params", "tokens", "flops", "loss", spec.cluster) if isinstance(name, str)]
