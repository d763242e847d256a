"""Laws of an offset and terms whose logarithm is a polynomial in the inputs' logarithms: exponents that change.

L = E + sum_t exp(log A_t + sum_k s_k theta_k m_k), with m_k a product of log inputs.

Owns the arithmetic shared by laws of experts and mixtures; a member of the family is a list of terms. Inputs in `plain`
enter as they are, not by their logarithm, and may be zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law

Factor = tuple[str, int, tuple[str, ...]]
"""(parameter, sign, inputs): sign * parameter * the product of the inputs' logarithms."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One term of a law."""

    amplitude: str | None
    """Its amplitude; None for one."""
    factors: tuple[Factor, ...]
    """What its logarithm adds."""


@dataclass(frozen=True, kw_only=True)
class LogPolynomial(Law):
    """L = E + sum over terms of exp(log amplitude + sum of factors)."""

    terms: tuple[Term, ...]
    """The terms; a parameter stands in one of them."""
    plain: tuple[str, ...] = ()
    """Inputs that enter as they are."""

    def centred_inputs(self) -> tuple[str, ...]:
        """Inputs whose unit can be absorbed: a shift of their logarithm leaves the same products in every term."""
        return tuple(name for name in self.inputs if name not in self.plain and self._absorbs(name))

    def _absorbs(self, name: str) -> bool:
        for term in self.terms:
            known = {_sorted(inputs) for _, _, inputs in term.factors}
            known |= {()} if term.amplitude is not None else set()
            for _, _, inputs in term.factors:
                rest = list(inputs)
                while name in rest:
                    rest.remove(name)
                    if _sorted(rest) not in known:
                        return False
        return True

    def _logs(self, theta: Sequence[Array], logs: Mapping[str, Array]) -> list[Array]:
        """Logarithm of every term, from log amplitudes and other parameters in order."""
        named = dict(zip(self.param_names, theta, strict=True))
        out = []
        for term in self.terms:
            total: Array = np.zeros_like(next(iter(logs.values()))) if term.amplitude is None else named[term.amplitude]
            for name, sign, inputs in term.factors:
                total = total + sign * named[name] * _product(inputs, logs)
            out.append(np.asarray(total))
        return out

    def _inputs(self, x: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs' logarithms, or the inputs themselves."""
        return {name: x[name] if name in self.plain else np.log(x[name]) for name in self.inputs}

    def _offset(self, theta: Sequence[Array]) -> Array:
        return theta[0] if self.parameters[0].kind == "offset" else np.zeros_like(theta[0])

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Offset plus terms."""
        kinds = [p.kind for p in self.parameters]
        working = [np.log(t) if kind == "amplitude" else t for t, kind in zip(theta, kinds, strict=True)]
        total = self._offset(theta)
        for log_term in self._logs(working, self._inputs(x)):
            total = total + np.exp(log_term)
        return np.asarray(total)

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """1, term / amplitude, and the term times its factor."""
        kinds = [p.kind for p in self.parameters]
        working = [np.log(t) if kind == "amplitude" else t for t, kind in zip(theta, kinds, strict=True)]
        logs = self._inputs(x)
        rows: dict[str, Array] = {}
        named = dict(zip(self.param_names, theta, strict=True))
        for term, log_term in zip(self.terms, self._logs(working, logs), strict=True):
            value = np.exp(log_term)
            if term.amplitude is not None:
                rows[term.amplitude] = value / named[term.amplitude]
            for name, sign, inputs in term.factors:
                rows[name] = value * sign * _product(inputs, logs)
            rows.setdefault(self.param_names[0], np.ones_like(value))
        return [rows[name] for name in self.param_names]

    def _working_inputs(self, z: Array) -> dict[str, Array]:
        return {name: np.exp(z[i]) if name in self.plain else z[i] for i, name in enumerate(self.inputs)}

    def _working_terms(self, phi: Array, z: Array) -> list[Array]:
        logs = self._working_inputs(z)
        with np.errstate(over="ignore", invalid="ignore"):
            parts = self._logs([phi[:, [j]] for j in range(phi.shape[1])], logs)
            return [np.exp(np.minimum(part, 700.0)) for part in parts]

    def working_value(self, phi: Array, z: Array) -> Array:
        """Loss (B, n)."""
        total = self._offset([phi[:, [j]] for j in range(phi.shape[1])]) + np.zeros((1, z.shape[1]))
        for term in self._working_terms(phi, z):
            total = total + term
        return total

    def _slopes(self, term: Term, logs: Mapping[str, Array]) -> tuple[list[int], Array]:
        """Indices of a term's parameters, and the derivatives (k, n) of its logarithm by them."""
        names = self.param_names
        n = len(next(iter(logs.values())))
        indices = [] if term.amplitude is None else [names.index(term.amplitude)]
        rows = [np.ones(n)] if indices else []
        for name, sign, inputs in term.factors:
            indices.append(names.index(name))
            rows.append(sign * _product(inputs, logs))
        return indices, np.stack(rows)

    def working_jacobian(self, phi: Array, z: Array) -> tuple[Array, Array]:
        """Loss and derivatives."""
        logs = self._working_inputs(z)
        out = np.zeros((phi.shape[0], phi.shape[1], z.shape[1]))
        total = self._offset([phi[:, [j]] for j in range(phi.shape[1])]) + np.zeros((1, z.shape[1]))
        if self.parameters[0].kind == "offset":
            out[:, 0] = 1.0
        for term, value in zip(self.terms, self._working_terms(phi, z), strict=True):
            total = total + value
            indices, slopes = self._slopes(term, logs)
            out[:, indices] = value[:, None, :] * slopes
        return total, out

    def working_curvature(self, phi: Array, z: Array, weights: Array, jacobian: Array | None = None) -> Array:
        """Exact: the logarithm of a term is linear in its parameters."""
        logs = self._working_inputs(z)
        out = np.zeros((phi.shape[0], phi.shape[1], phi.shape[1]))
        for term, value in zip(self.terms, self._working_terms(phi, z), strict=True):
            indices, slopes = self._slopes(term, logs)
            block = np.einsum("bn,in,jn->bij", weights * value, slopes, slopes)
            out[:, np.array(indices)[:, None], indices] += block
        return out

    def basis(self, eta: Array, z: Array) -> Array:
        """As for every law; a law without amplitude or offset has its own value as the one column."""
        if len(self.nonlinear()) < len(self.parameters):
            return super().basis(eta, z)
        return self.working_value(eta, z)[:, None, :]

    def _moved(self, term: Term, log_refs: Array) -> tuple[list[int], Array]:
        """A term's parameters, and the matrix from their coefficients for raw inputs to those for centred ones."""
        places = {name: float(log_refs[i]) for i, name in enumerate(self.inputs)}
        products: list[tuple[str, ...]] = [] if term.amplitude is None else [()]
        products += [_sorted(inputs) for _, _, inputs in term.factors]
        names = ([term.amplitude] if term.amplitude is not None else []) + [name for name, _, _ in term.factors]
        matrix = np.zeros((len(products), len(products)))
        for column, inputs in enumerate(products):
            for size in range(len(inputs) + 1):
                for kept in combinations(range(len(inputs)), size):
                    rest = [places[inputs[i]] for i in range(len(inputs)) if i not in kept]
                    shift = float(np.prod(rest)) if rest else 1.0
                    if shift:
                        matrix[products.index(_sorted(inputs[i] for i in kept)), column] += shift
        return [self.param_names.index(name) for name in names], matrix

    def _change(self, vectors: Array, log_refs: Array, *, inverse: bool) -> Array:
        """Coefficients for centred inputs from those for raw ones, or the other way, with logs of amplitudes."""
        out = np.array(vectors, dtype=np.float64)
        for term in self.terms:
            indices, matrix = self._moved(term, log_refs)
            signs = np.array(([1] if term.amplitude is not None else []) + [sign for _, sign, _ in term.factors])
            change = np.linalg.inv(matrix) if inverse else matrix
            out[:, indices] = signs * ((signs * vectors[:, indices]) @ change.T)
        return out

    def _amplitudes(self) -> list[int]:
        return [j for j, p in enumerate(self.parameters) if p.kind == "amplitude"]

    def to_public(self, phi: Array, log_refs: Array) -> Array:
        """Parameters for raw inputs, amplitudes as they are."""
        theta = self._change(phi, log_refs, inverse=True)
        theta[:, self._amplitudes()] = np.exp(np.clip(theta[:, self._amplitudes()], -700, 700))
        return theta

    def to_working(self, theta: Array, log_refs: Array) -> Array:
        """The inverse of `to_public`."""
        phi = np.array(theta, dtype=np.float64)
        phi[:, self._amplitudes()] = np.log(np.maximum(theta[:, self._amplitudes()], 1e-300))
        return self._change(phi, log_refs, inverse=False)


def _sorted(inputs: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(inputs))


def _product(inputs: Sequence[str], logs: Mapping[str, Array]) -> Array:
    """Product of the named columns."""
    out = logs[inputs[0]]
    for name in inputs[1:]:
        out = out * logs[name]
    return out
