"""What a reader must know before using a report's numbers, in plain words, and what to do about it.

The analysis warns in the place where it notices something, with the numbers that it noticed. A page gathers warnings of
one kind under one sentence that needs no knowledge of the analysis. A warning of no kind known here stands as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

METHODS = {"parametric": "fitted law", "isoflop": "IsoFLOP curves", "envelope": "envelope"}
"""How the page calls the method before a warning's first colon, by the method's first word."""
REPEATED = 25
"""A warning that contains another one of at least so many characters repeats it."""


@dataclass(frozen=True, kw_only=True)
class Caution:
    """One thing to know."""

    what: str
    """What was noticed, in a sentence."""
    advice: str
    """What to do about it; empty for a warning of no known kind."""
    page: str
    """Stem of the page of concepts that explains it; empty where there is none."""
    details: tuple[str, ...]
    """The warnings as the analysis words them; empty where `what` is one of them."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Warnings that mean the same to a reader."""

    pattern: str
    """Regular expression that finds them."""
    what: str
    """See Caution."""
    advice: str
    """See Caution."""
    page: str = ""
    """See Caution."""


KINDS = (
    Kind(
        pattern="misses a pattern",
        what="The law leaves out something that these runs show: its errors are more than noise.",
        advice="Compare other laws with `isoflop select`, and trust predictions beyond the largest runs less than "
        "their intervals say.",
        page="fitting",
    ),
    Kind(
        pattern="starts disagree|ran out of iterations",
        what="The search for the best fit did not settle.",
        advice="Take the fitted law as one of several that describe the runs alike. A law with fewer parameters may "
        "settle.",
        page="fitting",
    ),
    Kind(
        pattern="at the grid's edge",
        what="Nearly all models are smaller, or nearly all are larger, than the best size for their compute.",
        advice="Do not read the best size from these runs; add models on the other side.",
        page="intervals",
    ),
    Kind(
        pattern="is not identified|status flat|prediction intervals, for the runs",
        what="These runs do not determine some quantities, which therefore have no interval.",
        advice="Take them as unknown. More sizes and more numbers of tokens would determine them; `isoflop advise` "
        "names the runs that help most.",
        page="intervals",
    ),
    Kind(
        pattern="signal is weak",
        what="What size and data change in these runs is small beside the noise from run to run.",
        advice="Spread sizes and tokens over a wider range, or repeat runs with other seeds.",
        page="intervals",
    ),
    Kind(
        pattern="count different predictions",
        what="The arms' losses cannot be compared with one another.",
        advice="They count different predictions, because the objectives differ. Compare how fast each loss falls.",
        page="multipliers",
    ),
    Kind(
        pattern="pairs are few|are not paired|too few for an irreducible loss|no compute multiplier",
        what="The comparison of arms rests on few runs.",
        advice="Add seeds, and give every arm the same sizes, tokens and seeds.",
        page="multipliers",
    ),
    Kind(
        pattern="few for|too few to draw",
        what="Few runs are independent of one another, so intervals are probably too narrow.",
        advice="Take each interval as the least that is uncertain. More sizes help, and so do runs that share no "
        "training with others. Unless one law is named, a report predicts by all laws that fit as well.",
        page="intervals",
    ),
    Kind(
        pattern="not bracketed|no curve for|off the centre|bias|that a \\w+ needs|size\\(s\\) win|fewer than",
        what="Some curves of one compute budget do not show their lowest point well.",
        advice="Add smaller and larger models at these budgets. The fitted law does not rest on these curves.",
        page="fitting",
    ),
    Kind(
        pattern="rows? flagged",
        what="Some runs look unlike the others.",
        advice="Look at the column `flags` of the table of runs; `--where` leaves runs out.",
    ),
    Kind(
        pattern="at the edge of those tried",
        what="In some cells the best learning rate may lie beyond those that were tried.",
        advice="Take the losses of these cells as upper bounds, or allow more rates: `rates: {limit: ...}`.",
    ),
    Kind(
        pattern="have no record yet|their rates count as the worst",
        what="Not all runs of the sweep are there.",
        advice="Finish the sweep with `isoflop run`, and make the report again.",
    ),
    Kind(
        pattern="longer than the context",
        what="Some inputs were too long for the model and were cut.",
        advice="Train bodies of a longer context if the end of a text matters.",
    ),
)
"""Kinds in the order in which a page lists them; a warning belongs to the first that finds it."""
PROCEDURE = (
    "--holdout|held out:|points in mid-run|replicates tell|left out:|drawn (by|together)|weights (are|follow)|"
    "groups runs|grouped by|split into budgets|budgets of|other arms are compared|best rate of every cell|"
    "weighted set of laws|tokens = flops|flops = 6|is not used|says .* where width"
)
"""Warnings that say how runs were used; nothing is to be done about them."""


def cautions(warnings: Iterable[str]) -> tuple[list[Caution], list[str]]:
    """Sort a report's warnings for its reader.

    Parameters
    ----------
    warnings : iterable of str
        As the analysis words them; those of a method begin with its name and a colon.

    Returns
    -------
    list of Caution
        What to know before using the numbers, gravest first, one of each kind.
    list of str
        How the runs were used, as sentences.
    """
    texts = _without_repeats(dict.fromkeys(_renamed(text) for text in warnings))
    found: dict[Kind, list[str]] = {}
    unknown: list[Caution] = []
    procedure: list[str] = []
    for text in texts:
        kind = next((kind for kind in KINDS if re.search(kind.pattern, text)), None)
        if re.search(PROCEDURE, text):
            procedure.append(text[0].upper() + text[1:] + ".")
        elif kind is not None:
            found.setdefault(kind, []).append(text)
        else:
            unknown.append(Caution(what=text[0].upper() + text[1:] + ".", advice="", page="", details=()))
    known = [
        Caution(what=kind.what, advice=kind.advice, page=kind.page, details=tuple(found[kind]))
        for kind in KINDS
        if kind in found
    ]
    return [*known, *unknown], procedure


def _renamed(text: str) -> str:
    """A warning with its method called as the page calls it, once."""
    head, colon, rest = text.partition(": ")
    name = METHODS.get(head.split(" ")[0]) if colon else None
    return text if name is None else f"{name}: {rest.removeprefix(f'{name}: ')}"


def _without_repeats(texts: Iterable[str]) -> list[str]:
    """Warnings without those that another one says already, alone or joined to others, with or without its method."""
    kept: list[str] = []
    bare = {text: text.partition(": ")[2] if text.split(": ")[0] in METHODS.values() else text for text in texts}
    for text, words in bare.items():
        others = [other for other in bare.values() if len(other) >= REPEATED and other != words]
        if any(other in words for other in others) or any(words == bare[other] for other in kept):
            continue
        kept.append(text)
    return kept
