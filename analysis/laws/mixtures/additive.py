"""Domain mixtures with size and data (the additive law of Shukor et al. 2025): a term of the mixture beside Hoffmann's.

L = E + 1 / sum_j C_j share_j**g_j, and in the joint form + A / params**alpha + B / tokens**beta. A domain that helps
has a large C. In what they call their joint law A and B depend on the shares as well, so that the best mixture moves
with compute; it is not here. All shares are read, also the last. What identifies it: more mixtures than twice the
domains, in which every share varies over a factor of a few; a share that is zero everywhere says nothing of its C
and g.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.laws.base import LOG_ZERO, Law
from analysis.laws.parameter import Parameter
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT

MAX_DOMAINS = 12
"""Most domains."""
SIZE_AND_DATA = (("A", "params", "alpha"), ("B", "tokens", "beta"))
"""Amplitude, input and exponent of the terms of the joint form."""


@dataclass(frozen=True, kw_only=True)
class Additive(Law):
    """Parameters: E, then C_j, then g_j, then A, alpha, B, beta in the joint form."""

    domains: int
    """How many domains are mixed."""

    @property
    def options(self) -> Mapping[str, int]:
        """The number of domains."""
        return {"domains": self.domains}

    @property
    def _joint(self) -> bool:
        return "params" in self.inputs

    def _shares(self) -> tuple[str, ...]:
        return self.inputs[: self.domains]

    def centred_inputs(self) -> tuple[str, ...]:
        """Params and tokens; a share is a fraction."""
        return self.inputs[self.domains :]

    def _logs(self, x: Mapping[str, Array]) -> list[Array]:
        """Log inputs, LOG_ZERO where a share is zero."""
        columns = [np.asarray(x[name], dtype=np.float64) for name in self.inputs]
        return [np.where(c > 0, np.log(np.where(c > 0, c, 1.0)), LOG_ZERO) for c in columns]

    def _terms(
        self, log_c: Sequence[Array], rest: Sequence[Array], logs: Sequence[Array]
    ) -> tuple[list[Array], Array, list[Array]]:
        """What each domain gives, their sum, and the terms of size and data."""
        k = self.domains
        given = [np.exp(c + g * z) for c, g, z in zip(log_c[:k], rest[:k], logs[:k], strict=True)]
        total = sum(given[1:], start=given[0])
        pairs = zip(log_c[k:], rest[k:], logs[k:], strict=True)
        return given, np.maximum(total, 1e-300), [np.exp(a - e * z) for a, e, z in pairs]

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Floor, mixture, size and data."""
        m = len(self.inputs)
        log_c = [np.log(t) for t in theta[1 : m + 1]]
        _, total, others = self._terms(log_c, theta[m + 1 :], self._logs(x))
        return np.asarray(sum(others, start=theta[0] + 1 / total))

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By every parameter."""
        k, m = self.domains, len(self.inputs)
        logs = self._logs(x)
        amplitudes = theta[1 : m + 1]
        given, total, others = self._terms([np.log(t) for t in amplitudes], theta[m + 1 :], logs)
        pull = -1 / total**2
        by_c = [pull * one / c for one, c in zip(given, amplitudes[:k], strict=True)]
        by_c += [one / a for one, a in zip(others, amplitudes[k:], strict=True)]
        by_g = [pull * one * np.maximum(z, LOG_ZERO) for one, z in zip(given, logs[:k], strict=True)]
        by_g += [-one * z for one, z in zip(others, logs[k:], strict=True)]
        return [np.ones_like(total), *by_c, *by_g]

    def working_value(self, phi: Array, z: Array) -> Array:
        """Loss (B, n)."""
        m = len(self.inputs)
        columns = [phi[:, [j]] for j in range(phi.shape[1])]
        _, total, others = self._terms(columns[1 : m + 1], columns[m + 1 :], list(z))
        return np.asarray(sum(others, start=columns[0] + 1 / total))

    def working_jacobian(self, phi: Array, z: Array) -> tuple[Array, Array]:
        """Loss and derivatives."""
        k, m = self.domains, len(self.inputs)
        columns = [phi[:, [j]] for j in range(phi.shape[1])]
        given, total, others = self._terms(columns[1 : m + 1], columns[m + 1 :], list(z))
        pull = -1 / total**2
        rows = [np.ones_like(total), *(pull * one for one in given), *others]
        rows += [pull * one * row for one, row in zip(given, z[:k], strict=True)]
        rows += [-one * row for one, row in zip(others, z[k:], strict=True)]
        return np.asarray(sum(others, start=columns[0] + 1 / total)), np.stack(rows, axis=1)

    def nonlinear(self) -> tuple[int, ...]:
        """The relative C_j of every domain and all exponents."""
        k, m = self.domains, len(self.inputs)
        return (*range(1, k + 1), *range(m + 1, 2 * m + 1))

    def offset_columns(self) -> tuple[int, ...]:
        """The first column is E."""
        return (0,)

    def basis(self, eta: Array, z: Array) -> Array:
        """A constant, the mixture at the relative C_j, size and data."""
        k = self.domains
        columns = [eta[:, [j]] for j in range(eta.shape[1])]
        zeros = [np.zeros_like(columns[0])] * (len(self.inputs) - k)
        _, total, others = self._terms([*columns[:k], *zeros], columns[k:], list(z))
        return np.stack([np.ones_like(total), 1 / total, *others], axis=1)

    def assemble(self, eta: Array, coefficients: Array) -> Array:
        """Every C_j is its relative one over the mixture's coefficient."""
        k = self.domains
        logs = np.log(np.maximum(coefficients[:, 1:], 1e-12))
        parts = [coefficients[:, [0]], eta[:, :k] - logs[:, [0]], logs[:, 1:], eta[:, k:]]
        return np.concatenate(parts, axis=1)


def _additive(name: str, domains: int, *, joint: bool) -> Additive:
    if domains not in range(2, MAX_DOMAINS + 1):
        raise UserError(f"{name} has from 2 to {MAX_DOMAINS} domains, not {domains}")
    shares = [f"share_{j}" for j in range(1, domains + 1)]
    terms = SIZE_AND_DATA if joint else ()
    mixture = " + ".join(f"C_{j} * {share}**g_{j}" for j, share in enumerate(shares, 1))
    more = "".join(f" + {a} / {x}**{e}" for a, x, e in terms)
    grid = (0.2, 0.8) if domains <= 5 else (0.4,)
    tilts = (-1.0, 1.0) if domains <= 3 else (0.0,)
    return Additive(
        name=name,
        formula=f"L = E + 1 / ({mixture}){more}",
        inputs=(*shares, *(x for _, x, _ in terms)),
        zero_inputs=tuple(shares),
        domains=domains,
        parameters=(
            Parameter(name="E", kind="offset", meaning="irreducible loss, in the loss's unit"),
            *(
                Parameter(
                    name=f"C_{j}", kind="amplitude", meaning=f"worth of {share}, one over the loss's unit", grid=tilts
                )
                for j, share in enumerate(shares, 1)
            ),
            *(
                Parameter(name=a, kind="amplitude", meaning=f"amplitude of the {x} term", scales=((x, e),))
                for a, x, e in terms
            ),
            *(
                Parameter(
                    name=f"g_{j}",
                    kind="exponent",
                    meaning=f"exponent of {share}",
                    lower=MIN_EXPONENT,
                    upper=MAX_EXPONENT,
                    grid=grid,
                )
                for j, share in enumerate(shares, 1)
            ),
            *(
                Parameter(
                    name=e,
                    kind="exponent",
                    meaning=f"exponent of the {x} term",
                    lower=MIN_EXPONENT,
                    upper=MAX_EXPONENT,
                    grid=(0.15, 0.4, 0.9),
                )
                for _, x, e in terms
            ),
        ),
        source="Shukor et al. 2025, arXiv 2507.09404, the additive law" + ("" if joint else ", at one size and budget"),
        domain="share_1, share_2, ... are the shares of all domains, each from zero to one",
        units="loss in nats per token on one domain's validation set; shares are fractions",
    )


def mixing_power(domains: int = 3) -> Additive:
    """L = E + 1 / sum_j C_j share_j**g_j, of 2 to MAX_DOMAINS domains.

    Parameters
    ----------
    domains : int
        How many domains are mixed.

    Returns
    -------
    Additive
        The law.

    Raises
    ------
    UserError
        For another number of domains.
    """
    return _additive("mixing-power", domains, joint=False)


def mixing_joint(domains: int = 3) -> Additive:
    """The same with terms of size and data.

    Parameters
    ----------
    domains : int
        How many domains are mixed.

    Returns
    -------
    Additive
        The law.

    Raises
    ------
    UserError
        For another number of domains.
    """
    return _additive("mixing-joint", domains, joint=True)


MIXING_POWER, MIXING_JOINT = mixing_power(), mixing_joint()
