"""Sparsity (Abnar et al. 2025): size, data and the active share each have a term, and sparse models one of their own.

What identifies it: three active shares or more, each at sizes and token budgets that vary apart; ten parameters need
many runs.
"""

from __future__ import annotations

from analysis.laws.log_polynomials import LogPolynomial, Term
from analysis.laws.parameter import Parameter
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT


def _exponent(name: str, meaning: str, *grid: float, lower: float = MIN_EXPONENT) -> Parameter:
    return Parameter(name=name, kind="exponent", meaning=meaning, lower=lower, upper=MAX_EXPONENT, grid=grid)


MOE_SPARSITY = LogPolynomial(
    name="moe-sparsity",
    formula="L = E + A / params**alpha + B / tokens**beta + C / active_fraction**lam "
    "+ F / (active_fraction**delta * params**gamma)",
    inputs=("params", "tokens", "active_fraction"),
    terms=(
        Term(amplitude="A", factors=(("alpha", -1, ("params",)),)),
        Term(amplitude="B", factors=(("beta", -1, ("tokens",)),)),
        Term(amplitude="C", factors=(("lam", -1, ("active_fraction",)),)),
        Term(amplitude="F", factors=(("delta", -1, ("active_fraction",)), ("gamma", -1, ("params",)))),
    ),
    parameters=(
        Parameter(name="E", kind="offset", meaning="irreducible loss, in the loss's unit"),
        Parameter(name="A", kind="amplitude", meaning="size term, loss times params**alpha"),
        Parameter(name="B", kind="amplitude", meaning="data term, loss times tokens**beta"),
        Parameter(name="C", kind="amplitude", meaning="sparsity term, in the loss's unit"),
        Parameter(name="F", kind="amplitude", meaning="size term of sparse models, loss times params**gamma"),
        _exponent("alpha", "exponent of params", 0.3, 0.7),
        _exponent("beta", "exponent of tokens", 0.2, 0.4, 0.8),
        _exponent("lam", "exponent of the active share; below zero it helps", -0.4, -0.15, 0.2, lower=-MAX_EXPONENT),
        _exponent("delta", "exponent of the active share in the sparse size term", 0.1, 0.3, lower=-MAX_EXPONENT),
        _exponent("gamma", "exponent of params in the sparse size term", 0.1, 0.2),
    ),
    source="Abnar et al. 2025, arXiv 2501.12370, equation 6; lam is their lambda",
    domain="params are all parameters; active_fraction is the share active for a token, one less their sparsity S",
    units="loss in nats per token; params and tokens are counts, active_fraction a share",
    by_default=False,
)

UPCYCLED = LogPolynomial(
    name="moe-active",
    formula="L = E + A * sparsity**-alpha * active_params**-(beta - kappa * ln(sparsity))",
    inputs=("active_params", "sparsity"),
    terms=(
        Term(
            amplitude="A",
            factors=(
                ("alpha", -1, ("sparsity",)),
                ("beta", -1, ("active_params",)),
                ("kappa", 1, ("active_params", "sparsity")),
            ),
        ),
    ),
    parameters=(
        Parameter(name="E", kind="offset", meaning="irreducible loss at this amount of data, in the loss's unit"),
        Parameter(name="A", kind="amplitude", meaning="amplitude, loss times active_params**beta"),
        Parameter(
            name="alpha",
            kind="real",
            meaning="exponent of sparsity at one active parameter",
            lower=-MAX_EXPONENT,
            upper=MAX_EXPONENT,
            grid=(-0.05, 0.02, 0.15),
        ),
        Parameter(
            name="beta",
            kind="exponent",
            meaning="exponent of active_params in a dense model",
            lower=MIN_EXPONENT,
            upper=MAX_EXPONENT,
            grid=(0.05, 0.15, 0.3, 0.5, 0.9),
        ),
        Parameter(
            name="kappa",
            kind="real",
            meaning="what the exponent of active_params loses for a factor of e in sparsity",
            lower=-3.0,
            upper=3.0,
            grid=(-0.1, 0.0, 0.1),
        ),
    ),
    source="after Liew et al. 2025, arXiv 2502.03009: a power of sparsity and active parameters; kappa is ours",
    domain="models trained on one amount of data; sparsity is total over active parameters, one or more",
    units="loss in nats per token; active_params in any unit, sparsity a ratio",
)
