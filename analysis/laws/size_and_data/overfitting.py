"""Over-fitting under repetition: laws with a term for what a model memorises beside those of size and data.

Where `muennighoff` says that repeated tokens are worth less and less, `overfitting` (after Lovelace et al. 2026) lets
more passes over the same tokens make the loss rise: the penalty grows with size and tokens and falls with unique
tokens. In `saturating` (arXiv 2605.09189) it grows with size over unique tokens, however often these are passed, and
the loss stays below that of a model that knows nothing. What identifies both: runs that pass many times over few
tokens, at several sizes, beside runs without repetition. The ceiling of `saturating` needs runs near it; elsewhere it
trades for the amplitudes, and only their product is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
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


@dataclass(frozen=True, kw_only=True)
class Saturating(LogPolynomial):
    """L = E + G h / (1 + h), h the sum of the terms; parameters are E, G, then those of the terms."""

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Between E and E + G."""
        h = super().value([np.zeros_like(theta[0]), *theta[1:]], x)
        return np.asarray(theta[0] + theta[1] * h / (1 + h))

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By E, G and the parameters of h."""
        h = super().value([np.zeros_like(theta[0]), *theta[1:]], x)
        pull = theta[1] / (1 + h) ** 2
        by_terms = list(self._by_terms(theta, x))[2:]
        return [np.ones_like(h), h / (1 + h), *(pull * column for column in by_terms)]

    def _by_terms(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """Derivatives of h; those by E and G are not h's."""
        kinds = [p.kind for p in self.parameters]
        working = [np.log(t) if kind == "amplitude" else t for t, kind in zip(theta, kinds, strict=True)]
        logs, named = self._inputs(x), dict(zip(self.param_names, theta, strict=True))
        rows: dict[str, Array] = dict.fromkeys(self.param_names[:2], np.zeros(1))
        for term, log_term in zip(self.terms, self._logs(working, logs), strict=True):
            value, (indices, slopes) = np.exp(log_term), self._slopes(term, logs)
            for j, slope in zip(indices, slopes, strict=True):
                name = self.param_names[j]
                rows[name] = value * slope / (named[name] if name == term.amplitude else 1.0)
        return [rows[name] for name in self.param_names]

    def working_value(self, phi: Array, z: Array) -> Array:
        """Loss (B, n)."""
        h = sum(self._working_terms(phi, z), start=np.zeros((1, z.shape[1])))
        return np.asarray(phi[:, [0]] + np.exp(phi[:, [1]]) * h / (1 + h))

    def working_jacobian(self, phi: Array, z: Array) -> tuple[Array, Array]:
        """Loss and derivatives."""
        terms, logs = self._working_terms(phi, z), self._working_inputs(z)
        h = sum(terms, start=np.zeros((1, z.shape[1])))
        above = np.exp(phi[:, [1]]) * h / (1 + h)
        out = np.ones((phi.shape[0], phi.shape[1], z.shape[1]))
        out[:, 1] = above
        pull = np.exp(phi[:, [1]]) / (1 + h) ** 2
        for term, value in zip(self.terms, terms, strict=True):
            indices, slopes = self._slopes(term, logs)
            out[:, indices] = (pull * value)[:, None, :] * slopes
        return phi[:, [0]] + above, out

    def working_curvature(self, phi: Array, z: Array, weights: Array, jacobian: Array | None = None) -> Array:
        """By central differences: h enters through a quotient."""
        return Law.working_curvature(self, phi, z, weights, jacobian)

    @property
    def curves_cheaply(self) -> bool:
        """No: differences."""
        return False

    def basis(self, eta: Array, z: Array) -> Array:
        """A constant, and the share of the way to the ceiling."""
        phi = np.concatenate([np.zeros((eta.shape[0], 2)), eta], axis=1)
        share = self.working_value(phi, z)
        return np.stack([np.ones_like(share), share], axis=1)


def _amplitude(name: str, meaning: str) -> Parameter:
    return Parameter(name=name, kind="amplitude", meaning=meaning, grid=(-4.0, -2.0, -0.5))


SATURATING = Saturating(
    name="saturating",
    formula="L = E + G * h / (1 + h), h = a / params**alpha + b / tokens**beta + c * params**k / unique_tokens**u",
    inputs=("params", "tokens", "unique_tokens"),
    terms=(
        Term(amplitude="a", factors=(("alpha", -1, ("params",)),)),
        Term(amplitude="b", factors=(("beta", -1, ("tokens",)),)),
        Term(amplitude="c", factors=(("k", 1, ("params",)), ("u", -1, ("unique_tokens",)))),
    ),
    parameters=(
        Parameter(name="E", kind="offset", meaning="irreducible loss, in the loss's unit"),
        Parameter(name="G", kind="amplitude", meaning="loss of a model that knows nothing less E, in the loss's unit"),
        _amplitude("a", "size term of one parameter, over G"),
        _amplitude("b", "data term of one token, over G"),
        _amplitude("c", "over-fitting term of one parameter and one unique token, over G"),
        _exponent("alpha", "exponent of params", 0.2, 0.6),
        _exponent("beta", "exponent of tokens", 0.2, 0.6),
        _exponent("k", "exponent of params in the over-fitting term", 0.2, 0.8),
        _exponent("u", "exponent of unique tokens in it", 0.4, 1.2),
    ),
    source="Practical Scaling Laws, 2026, arXiv 2605.09189; G is their L0 - E, k and u their gamma and delta",
    domain="tokens are counted once a pass; unique_tokens at most tokens; some runs repeat their tokens often",
    by_default=False,
)
