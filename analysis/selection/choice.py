"""The rule by which one law is taken, and the words for it: what is identified, ties at the noise floor, the reference.

It sees candidates with their scores, and nothing of how these were made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.estimate import Estimate
from analysis.formatting import counted, format_percent
from analysis.selection.candidates import Candidate
from analysis.selection.windows import Window, held_rows

REFERENCE = "hoffmann"
"""The law that others have to beat: the form that most studies report."""
SURE = 0.975
"""Share of the redraws in which a law must be better than the reference to be chosen in its place."""
WORSE = 0.1
"""No law is chosen that errs by more than this fraction more than the reference, and for SURE, even where the reference
is not identified and cannot be chosen itself."""


@dataclass(frozen=True, kw_only=True)
class Tie:
    """A law whose error differs from another's by less than seeds alone make it differ."""

    law: str
    """The law that was given up."""
    chosen: str
    """The one with fewer parameters, taken in its place."""
    difference: float
    """Error of the one taken less error of the one given up, a fraction."""
    floor: float
    """The noise floor of an error over these runs: the standard deviation that seeds give it, a fraction."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Which law is taken, and what led to it."""

    chosen: str | None
    """The law that is taken; None when the runs identify none, or only laws that the reference surely outdoes."""
    best: str | None
    """The best-ranked law that is identified."""
    contender: str | None
    """The best, or the simpler law that ties with it: what the reference is held against."""
    ties: tuple[Tie, ...]
    """What the noise floor decided."""
    reference: str | None
    """The reference law; None where it was not scored."""
    sureness: float | None
    """Share of redraws in which the contender beats the reference; None where it is that, or without redraws."""


def choose(
    scored: Sequence[Candidate], windows: Sequence[Window], *, reference: str | None, noise: Estimate | None
) -> Decision:
    """The best-ranked identified law, then the tie with a simpler one, then the reference.

    Parameters
    ----------
    scored : sequence of Candidate
        Laws by their error, least first.
    windows : sequence of Window
        The splits.
    reference : str or None
        The law that others have to beat.
    noise : Estimate or None
        Standard deviation between seeds, a fraction of the loss; None without replicates.

    Returns
    -------
    Decision
        The law that is taken, and what led to it.
    """
    identified = [one for one in scored if one.reason is None]
    if not identified:
        return Decision(chosen=None, best=None, contender=None, ties=(), reference=None, sureness=None)
    best = identified[0]
    taken, ties = _simplest_tie(best, identified, windows, noise)
    contender = taken
    standard = next((one for one in scored if one.name == reference), None)
    share = None
    outdone = False
    if standard is not None and taken is not standard:
        share = _share_better(taken, standard)
        if standard.reason is not None:
            far = taken.score.mape.value > (1 + WORSE) * standard.score.mape.value
            behind = _share_better(standard, taken)
            outdone = far and behind is not None and behind >= SURE
        elif share is not None and share < SURE and not (ties and taken.num_params < standard.num_params):
            taken = standard
    return Decision(
        chosen=None if outdone else taken.name,
        best=best.name,
        contender=contender.name,
        ties=ties,
        reference=None if standard is None else standard.name,
        sureness=share,
    )


def _simplest_tie(
    best: Candidate, identified: Sequence[Candidate], windows: Sequence[Window], noise: Estimate | None
) -> tuple[Candidate, tuple[Tie, ...]]:
    """The simplest law that ties with the best by the noise floor, else the best itself."""
    if noise is None:
        return best, ()
    floor = noise_of_mean(noise.value, windows)
    simpler = sorted((one for one in identified if one.num_params < best.num_params), key=lambda one: one.num_params)
    for one in simpler:
        difference = one.score.mape.value - best.score.mape.value
        if difference < floor:
            return one, (Tie(law=best.name, chosen=one.name, difference=difference, floor=floor),)
    return best, ()


def _share_better(one: Candidate, other: Candidate) -> float | None:
    """Share of the redraws in which `one` errs less than `other`; None without redraws."""
    gain = other.score.draws - one.score.draws
    known = gain[np.isfinite(gain)]
    return float((known > 0).mean()) if known.size else None


def noise_of_mean(noise: float, windows: Sequence[Window]) -> float:
    """Standard deviation that seeds give an error which is averaged over runs and windows.

    Parameters
    ----------
    noise : float
        Standard deviation of one run, a fraction of the loss.
    windows : sequence of Window
        The splits.

    Returns
    -------
    float
        `noise` times the root of the sum of squared weights of the runs: noise / sqrt(n) for one window of n runs.
    """
    held = held_rows(windows)
    weights = (held / held.sum(axis=1, keepdims=True)).mean(axis=0)
    return noise * float(np.sqrt((weights**2).sum()))


def why(choice: Decision, scored: Sequence[Candidate], windows: Sequence[Window]) -> str:
    """A decision in words: what was measured, what was passed over and what decided.

    Parameters
    ----------
    choice : Decision
        What was decided.
    scored : sequence of Candidate
        Laws by their error, least first.
    windows : sequence of Window
        The splits.

    Returns
    -------
    str
        One sentence or two.
    """
    error = {one.name: format_percent(one.score.mape.value) for one in scored}
    reasons = {one.name: one.reason for one in scored}
    runs = _held_out_text(windows)
    if choice.best is None:
        return (
            f"No law is chosen: of {len(scored)} the runs identify none. {scored[0].name} errs least, by "
            f"{error[scored[0].name]} on {runs}, but is {scored[0].reason}."
        )
    if choice.chosen is None:
        return (
            f"No law is chosen: of those that the runs identify {choice.best} errs least, by {error[choice.best]} on "
            f"{runs}, and {choice.reference} errs by {error[str(choice.reference)]}, but is "
            f"{reasons[str(choice.reference)]}."
        )
    if choice.chosen == choice.best:
        sentences = _best_is_chosen(choice, scored, error, runs)
    elif choice.ties and choice.ties[0].chosen == choice.chosen:
        sentences = [_tie_is_chosen(choice.ties[0], error, runs)]
    else:
        sentences = [_reference_is_kept(choice, error, runs)]
    passed = scored[: next(i for i, one in enumerate(scored) if one.name == choice.best)]
    if passed:
        listed = "; ".join(f"{one.name} ({error[one.name]}) is {one.reason}" for one in passed)
        sentences.append(f"Ranked higher but not chosen: {listed}.")
    return " ".join(sentences)


def _held_out_text(windows: Sequence[Window]) -> str:
    num = int(held_rows(windows).any(axis=0).sum())
    if len(windows) > 1:
        return f"the larger runs ({num} in all) at {len(windows)} nested cut-offs"
    return counted(num, "held-out run")


def _best_is_chosen(choice: Decision, scored: Sequence[Candidate], error: Mapping[str, str], runs: str) -> list[str]:
    rest = [one for one in scored if one.reason is None and one.name != choice.best]
    behind = f", before {rest[0].name} with {error[rest[0].name]}" if rest else ", the only law that is identified"
    sentences = [f"{choice.chosen} errs least, by {error[str(choice.chosen)]} on {runs}{behind}."]
    if choice.sureness is not None:
        share = format_percent(choice.sureness, 3)
        sentences.append(f"It beats {choice.reference} in {share} of the redraws.")
    return sentences


def _tie_is_chosen(tie: Tie, error: Mapping[str, str], runs: str) -> str:
    return (
        f"{tie.chosen} ({error[tie.chosen]}) ties with {tie.law} ({error[tie.law]}) on {runs}: the difference of "
        f"{format_percent(tie.difference)} is below the noise floor of {format_percent(tie.floor)}, and it has fewer "
        "parameters."
    )


def _reference_is_kept(choice: Decision, error: Mapping[str, str], runs: str) -> str:
    rival, kept = str(choice.contender), str(choice.chosen)
    return (
        f"{kept} is kept: {rival} errs by {error[rival]} and {kept} by {error[kept]} on {runs}, but it beats {kept} in "
        f"only {format_percent(choice.sureness, 3)} of the redraws, and {format_percent(SURE, 3)} is asked for."
    )
