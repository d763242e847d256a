"""Laws that are an offset plus power terms, L = E + sum_j A_j * prod_i x_i**(-a_ij).

Derivatives are exact and fast for all of them.

Owns the arithmetic shared by power, hoffmann, gemstones and their like; a member of the family is a list of terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter

MIN_EXPONENT, MAX_EXPONENT = 0.01, 6.0
"""Working bounds of an exponent: below, a term cannot be told from the offset; above, one row carries it."""


def exponent_grid(count: int) -> tuple[float, ...]:
    """Exponents from .03 to 2.5, evenly spaced in their logarithm: published ones lie between .05 and 1.3."""
    return tuple(float(v) for v in np.geomspace(0.03, 2.5, count))


@dataclass(frozen=True, kw_only=True)
class SumOfPowers(Law):
    """L = E + sum over terms of amplitude * input**(-exponent)."""

    terms: tuple[tuple[str, str, str], ...]
    """(amplitude, input, exponent) of every term; parameters are the offset first, then amplitudes, then exponents."""

    def _indices(self) -> list[tuple[int, int, int]]:
        names = self.param_names
        return [(names.index(a), self.inputs.index(x), names.index(e)) for a, x, e in self.terms]

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Offset plus terms."""
        named = dict(zip(self.param_names, theta, strict=True))
        return sum((named[a] * x[name] ** -named[e] for a, name, e in self.terms), start=theta[0])

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """1, x**-a, -A x**-a log x."""
        named = dict(zip(self.param_names, theta, strict=True))
        rows: dict[str, Array] = {self.param_names[0]: np.ones_like(next(iter(x.values())))}
        for a, name, e in self.terms:
            power = x[name] ** -named[e]
            rows[a] = power
            rows[e] = -named[a] * power * np.log(x[name])
        return [rows[name] for name in self.param_names]

    def _terms_at(self, phi: Array, z: Array) -> list[Array]:
        return [np.exp(phi[:, [a]] - phi[:, [e]] * z[i]) for a, i, e in self._indices()]

    def working_value(self, phi: Array, z: Array) -> Array:
        """Loss (B, n)."""
        total: Array = phi[:, [0]] + np.zeros((1, z.shape[1]))
        for term in self._terms_at(phi, z):
            total += term
        return total

    def working_jacobian(self, phi: Array, z: Array) -> tuple[Array, Array]:
        """Loss and derivatives."""
        out = np.empty((phi.shape[0], phi.shape[1], z.shape[1]))
        out[:, 0] = 1.0
        total: Array = phi[:, [0]] + np.zeros((1, z.shape[1]))
        for (a, i, e), term in zip(self._indices(), self._terms_at(phi, z), strict=True):
            total += term
            out[:, a] = term
            np.multiply(term, -z[i], out=out[:, e])
        return total, out

    def working_curvature(self, phi: Array, z: Array, weights: Array, jacobian: Array | None = None) -> Array:
        """Exact: each term curves only in its own logarithm of the amplitude and exponent."""
        out = np.zeros((phi.shape[0], phi.shape[1], phi.shape[1]))
        terms = self._terms_at(phi, z) if jacobian is None else [jacobian[:, a] for a, _, _ in self._indices()]
        for (a, i, e), term in zip(self._indices(), terms, strict=True):
            weighted = weights * term
            moments = weighted @ np.stack([np.ones_like(z[i]), z[i], z[i] ** 2], axis=1)
            out[:, a, a] += moments[:, 0]
            out[:, a, e] -= moments[:, 1]
            out[:, e, a] -= moments[:, 1]
            out[:, e, e] += moments[:, 2]
        return out

    def basis(self, eta: Array, z: Array) -> Array:
        """A constant column and one power column for each term."""
        order = {j: c for c, j in enumerate(self.nonlinear())}
        columns = [np.ones((eta.shape[0], z.shape[1]))]
        columns += [np.exp(-eta[:, [order[e]]] * z[i]) for _, i, e in self._indices()]
        return np.stack(columns, axis=1)


def power_parameters(
    terms: Sequence[tuple[str, str, str]], *, count: int, offset: str = "irreducible loss"
) -> tuple[Parameter, ...]:
    """Parameters of an offset E and of the given (amplitude, input, exponent) terms."""
    return (
        Parameter(name="E", kind="offset", meaning=f"{offset}, in the loss's unit"),
        *(
            Parameter(
                name=a, kind="amplitude", meaning=f"amplitude of the {x} term, loss times {x}**{e}", scales=((x, e),)
            )
            for a, x, e in terms
        ),
        *(
            Parameter(
                name=e,
                kind="exponent",
                meaning=f"exponent of the {x} term",
                lower=MIN_EXPONENT,
                upper=MAX_EXPONENT,
                grid=exponent_grid(count),
            )
            for _, x, e in terms
        ),
    )
