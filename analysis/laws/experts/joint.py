"""Mixtures of experts (Ludziejewski et al. 2025): exponents of size and data that change with the number of experts.

At one expert it is Hoffmann's law, so that dense and sparse models are fitted together. More experts lower the size
term by experts**-delta at one parameter, and each factor of e in experts lowers the exponent of params by gamma; in
data it is the other way round. Their number of experts saturates at both ends (Clark et al. 2022); here it enters as it
is. What identifies it: three numbers of experts or more, each with sizes and token budgets that vary apart.
"""

from __future__ import annotations

from analysis.laws.log_polynomials import LogPolynomial, Term
from analysis.laws.parameter import Parameter
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT

_SLOPES = (0.08, 0.2, 0.4, 0.8)
_GAINS = (-0.1, 0.05, 0.25)


def _exponent(name: str, meaning: str) -> Parameter:
    return Parameter(name=name, kind="exponent", meaning=meaning, lower=MIN_EXPONENT, upper=MAX_EXPONENT, grid=_SLOPES)


def _change(name: str, meaning: str, grid: tuple[float, ...]) -> Parameter:
    return Parameter(name=name, kind="real", meaning=meaning, lower=-3.0, upper=3.0, grid=grid)


MOE_JOINT = LogPolynomial(
    name="moe-joint",
    formula="L = E + A * experts**-delta * params**-(alpha - gamma * ln(experts)) "
    "+ B * experts**omega * tokens**-(beta + zeta * ln(experts))",
    inputs=("params", "tokens", "experts"),
    terms=(
        Term(
            amplitude="A",
            factors=(
                ("delta", -1, ("experts",)),
                ("alpha", -1, ("params",)),
                ("gamma", 1, ("params", "experts")),
            ),
        ),
        Term(
            amplitude="B",
            factors=(
                ("omega", 1, ("experts",)),
                ("beta", -1, ("tokens",)),
                ("zeta", -1, ("tokens", "experts")),
            ),
        ),
    ),
    parameters=(
        Parameter(name="E", kind="offset", meaning="irreducible loss, in the loss's unit"),
        Parameter(name="A", kind="amplitude", meaning="size term of one expert, loss times params**alpha"),
        Parameter(name="B", kind="amplitude", meaning="data term of one expert, loss times tokens**beta"),
        _exponent("alpha", "exponent of params at one expert"),
        _exponent("beta", "exponent of tokens at one expert"),
        _change("delta", "exponent of experts in the size term, at one parameter", _GAINS),
        _change("gamma", "what the exponent of params loses for a factor of e in experts", (0.0,)),
        _change("omega", "exponent of experts in the data term, at one token", (-0.1, 0.1)),
        _change("zeta", "what the exponent of tokens gains for a factor of e in experts", (0.0,)),
    ),
    source="Ludziejewski et al. 2025, arXiv 2502.05172",
    domain="params are those active for a token; experts is one for a dense model",
    units="loss in nats per token; params, tokens and experts are counts",
)
