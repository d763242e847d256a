"""Domain mixtures (Ye et al. 2024): the loss on one domain is exponential in the shares of the training mixture.

Shares sum to one, so that the last domain's is what the others leave: it is not read, and k is the amplitude where all
data come from it. What identifies it: more mixtures than domains, in which every share varies by itself. The number of
domains is an option, `mixing:5`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.errors import UserError
from analysis.laws.log_polynomials import LogPolynomial, Term
from analysis.laws.parameter import Parameter

MAX_DOMAINS = 12
"""Most domains: every one costs a parameter, and starts of each are tried together."""
_STEPS = (-2.0, -0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class Mixing(LogPolynomial):
    """L = c + k exp(sum of t_j share_j)."""

    domains: int
    """How many domains are mixed."""

    @property
    def options(self) -> Mapping[str, int]:
        """The number of domains."""
        return {"domains": self.domains}


def mixing(domains: int = 3) -> Mixing:
    """The law of `domains` domains, from 2 to MAX_DOMAINS.

    Parameters
    ----------
    domains : int
        How many domains are mixed.

    Returns
    -------
    Mixing
        The law.

    Raises
    ------
    UserError
        For another number of domains.
    """
    if domains not in range(2, MAX_DOMAINS + 1):
        raise UserError(f"mixing has from 2 to {MAX_DOMAINS} domains, not {domains}")
    shares = [f"share_{j}" for j in range(1, domains)]
    slopes = [f"t_{j}" for j in range(1, domains)]
    grid = _STEPS if domains <= 6 else (-0.5,)
    return Mixing(
        name="mixing",
        formula=f"L = c + k * exp({' + '.join(f'{t} * {r}' for t, r in zip(slopes, shares, strict=True))})",
        inputs=tuple(shares),
        zero_inputs=tuple(shares),
        plain=tuple(shares),
        domains=domains,
        terms=(Term(amplitude="k", factors=tuple((t, 1, (share,)) for t, share in zip(slopes, shares, strict=True))),),
        parameters=(
            Parameter(name="c", kind="offset", meaning="loss that no mixture lowers, in the loss's unit"),
            Parameter(name="k", kind="amplitude", meaning="what is above it when all data are of the last domain"),
            *(
                Parameter(
                    name=t,
                    kind="real",
                    meaning=f"what {share} does against the last domain; below zero it helps",
                    lower=-60.0,
                    upper=60.0,
                    grid=grid,
                )
                for t, share in zip(slopes, shares, strict=True)
            ),
        ),
        source="Ye et al. 2024, arXiv 2403.16952",
        domain="share_1, share_2, ... are the shares of all domains but the last, each from zero to one; one size of "
        "model and one amount of data",
        units="loss in nats per token on one domain's validation set; shares are fractions",
    )


MIXING = mixing()
