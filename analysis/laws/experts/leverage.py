"""Leverage of experts (Tian et al. 2025): how many times the compute a dense model needs for the loss of a sparse one.

ln leverage = ln(active_fraction) (a + d ln(flops) + b ln(granularity) + c ln(granularity)**2). A dense model has
leverage one whatever the parameters. The paper does not name the bases of its logarithms. Its constants give its own
results (best granularity of 8 to 12; leverage above 7 at 1e22 FLOPs, 3.1 % active, granularity 12) with base ten for
compute and base two for granularity, and with no other pair of two, e and ten. What identifies it: several active
shares at one budget give a, budgets d, granularities b and c (three or more). `multiplier` measures leverages with
their intervals.
"""

from __future__ import annotations

from analysis.laws.log_polynomials import LogPolynomial, Term
from analysis.laws.parameter import Parameter


def _real(name: str, meaning: str, *grid: float) -> Parameter:
    return Parameter(name=name, kind="real", meaning=meaning, lower=-60.0, upper=60.0, grid=grid)


LEVERAGE = LogPolynomial(
    name="leverage",
    formula="leverage = active_fraction**(a + d * ln(flops) + b * ln(granularity) + c * ln(granularity)**2)",
    inputs=("active_fraction", "flops", "granularity"),
    target="leverage",
    terms=(
        Term(
            amplitude=None,
            factors=(
                ("a", 1, ("active_fraction",)),
                ("d", 1, ("active_fraction", "flops")),
                ("b", 1, ("active_fraction", "granularity")),
                ("c", 1, ("active_fraction", "granularity", "granularity")),
            ),
        ),
    ),
    parameters=(
        _real("a", "exponent of the active share at one FLOP and granularity one", -0.6, -0.2),
        _real("d", "what the exponent gains for a factor of e in compute", 0.0),
        _real("b", "what it gains for a factor of e in granularity", 0.0),
        _real("c", "how that bends", 0.0),
    ),
    source="Tian et al. 2025, arXiv 2507.17702, equation 13, in natural logarithms; their share saturates at both ends",
    domain="active_fraction above zero and at most one; granularity is the width of a dense layer over an expert's, "
    "theirs twice the model's width over an expert's",
    units="leverage is a ratio of compute; flops is a count",
)
