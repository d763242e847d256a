"""Over-fitting under repetition (after Lovelace et al. 2026): Hoffmann's law plus a penalty for what a model memorises.

Where `muennighoff` says that repeated tokens are worth less and less, this law lets more passes over the same tokens
make the loss rise: the penalty grows with size and tokens and falls with unique tokens. What identifies it: runs that
pass many times over few tokens, at several sizes, beside runs without repetition.
"""

from __future__ import annotations

from analysis.laws.log_polynomials import LogPolynomial, Term
from analysis.laws.parameter import Parameter
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT


def _exponent(name: str, meaning: str, *grid: float) -> Parameter:
    return Parameter(name=name, kind="exponent", meaning=meaning, lower=MIN_EXPONENT, upper=MAX_EXPONENT, grid=grid)


OVERFITTING = LogPolynomial(
    name="overfitting",
    formula="L = E + A / params**alpha + B / tokens**beta + P * params**k * tokens**r / unique_tokens**u",
    inputs=("params", "tokens", "unique_tokens"),
    terms=(
        Term(amplitude="A", factors=(("alpha", -1, ("params",)),)),
        Term(amplitude="B", factors=(("beta", -1, ("tokens",)),)),
        Term(amplitude="P", factors=(("k", 1, ("params",)), ("r", 1, ("tokens",)), ("u", -1, ("unique_tokens",)))),
    ),
    parameters=(
        Parameter(name="E", kind="offset", meaning="irreducible loss, in the loss's unit"),
        Parameter(name="A", kind="amplitude", meaning="size term, loss times params**alpha"),
        Parameter(name="B", kind="amplitude", meaning="data term, loss times tokens**beta"),
        Parameter(name="P", kind="amplitude", meaning="penalty of one parameter and one pass over one token"),
        _exponent("alpha", "exponent of params", 0.1, 0.3, 0.6),
        _exponent("beta", "exponent of tokens", 0.1, 0.3, 0.6, 1.0),
        _exponent("k", "exponent of params in the penalty", 0.1, 0.5, 1.0),
        _exponent("r", "exponent of tokens in the penalty", 0.2, 0.6, 1.2),
        _exponent("u", "exponent of unique tokens in the penalty", 0.4, 0.9, 1.8),
    ),
    source="after Lovelace et al. 2026, arXiv 2605.01640: an additive over-fitting penalty; the powers are ours",
    domain="tokens are counted once a pass; unique_tokens at most tokens; some runs repeat their tokens often",
    by_default=False,
)
