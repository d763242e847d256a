"""Broken neural scaling law (Caballero et al. 2023): power-law segments joined by smooth breaks, as many as asked for.

Owns the law for every number of breaks; with none it is the power law. Breaks are searched for inside the range of the
data, by the slopes of the segments on both sides.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT, exponent_grid

MAX_BREAKS = 4
"""More breaks have more parameters (3 n + 3) than a curve of published length can determine."""
_SLOPES = {
    0: exponent_grid(60),
    1: (-0.15, 0.02, 0.08, 0.2, 0.4, 0.7, 1.2, 2.5),
    2: (0.02, 0.15, 0.4, 1.0, 2.5),
    3: (0.02, 0.15, 0.5, 1.5),
    4: (0.02, 0.2, 1.0),
}
"""Local exponents of a segment from which the search starts, by number of breaks."""
_PLACES = {0: 0, 1: 15, 2: 11, 3: 8, 4: 7}
"""Places of a break from which the search starts, evenly spaced over the logarithm of the data's range."""
_WIDTHS = {0: (1.0,), 1: (0.05, 0.2, 0.6, 1.5), 2: (0.1, 0.6), 3: (0.3,), 4: (0.3,)}
"""Widths f of a break from which the search starts."""


@dataclass(frozen=True, kw_only=True)
class BrokenPower(Law):
    """L = E + A x**-c0 prod_i (1 + (x / d_i)**(1 / f_i))**(-c_i f_i).

    Left of all breaks the local exponent is c0; the break at d_i, about f_i wide in log x, adds c_i.
    """

    breaks: int
    """Number of breaks n."""

    @property
    def options(self) -> dict[str, int]:
        """The number of breaks."""
        return {"breaks": self.breaks}

    def _terms(self, log_x: Array, breaks: Sequence[tuple[Array, Array, Array]]) -> tuple[Array, list[Array]]:
        """log of the product over breaks, given (c, log d, f), and log(1 + (x / d)**(1 / f)) of each."""
        bends = [np.logaddexp(0.0, (log_x - log_d) / f) for _, log_d, f in breaks]
        total: Array = np.zeros(np.broadcast_shapes(*(b.shape for b in bends), log_x.shape))
        for (c, _, f), bend in zip(breaks, bends, strict=True):
            total = total - c * f * bend
        return total, bends

    def _by_break(
        self, power: Array, log_x: Array, brk: tuple[Array, Array, Array], bend: Array
    ) -> tuple[Array, Array, Array]:
        """Derivatives of the power by c, log d and f of one break."""
        c, log_d, f = brk
        inside = (log_x - log_d) / f
        share = np.exp(inside - bend)  # (x / d)**(1 / f) / (1 + (x / d)**(1 / f))
        return -power * f * bend, power * c * share, -power * c * (bend - inside * share)

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """The broken power."""
        E, A, c0 = theta[:3]
        log_x = np.log(x["x"])
        product, _ = self._terms(log_x, self._public_breaks(theta))
        return E + A * np.exp(product - c0 * log_x)

    def _public_breaks(self, theta: Sequence[Array]) -> list[tuple[Array, Array, Array]]:
        return [(theta[j], np.log(theta[j + 1]), theta[j + 2]) for j in range(3, len(theta), 3)]

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By E, A, c0 and c, d, f of every break."""
        _, A, c0 = theta[:3]
        log_x, breaks = np.log(x["x"]), self._public_breaks(theta)
        product, bends = self._terms(log_x, breaks)
        scaled = np.exp(product - c0 * log_x)
        power = A * scaled
        columns = [np.ones_like(power), scaled, -power * log_x]
        for brk, bend in zip(breaks, bends, strict=True):
            by_c, by_log_d, by_f = self._by_break(power, log_x, brk, bend)
            columns += [by_c, by_log_d / np.exp(brk[1]), by_f]
        return columns

    def _working_breaks(self, phi: Array) -> list[tuple[Array, Array, Array]]:
        return [(phi[:, [j]], phi[:, [j + 1]], np.exp(phi[:, [j + 2]])) for j in range(3, phi.shape[1], 3)]

    def working_value(self, phi: Array, z: Array) -> Array:
        """Loss (B, n)."""
        return phi[:, [0]] + self._power(phi, z[0])

    def _power(self, phi: Array, log_x: Array) -> Array:
        product, _ = self._terms(log_x, self._working_breaks(phi))
        return np.asarray(np.exp(np.minimum(phi[:, [1]] - phi[:, [2]] * log_x + product, 700.0)))

    def working_jacobian(self, phi: Array, z: Array) -> tuple[Array, Array]:
        """Loss and derivatives."""
        breaks = self._working_breaks(phi)
        product, bends = self._terms(z[0], breaks)
        power = np.exp(np.minimum(phi[:, [1]] - phi[:, [2]] * z[0] + product, 700.0))
        columns = [np.ones_like(power), power, -power * z[0]]
        for brk, bend in zip(breaks, bends, strict=True):
            by_c, by_log_d, by_f = self._by_break(power, z[0], brk, bend)
            columns += [by_c, by_log_d, by_f * brk[2]]
        return phi[:, [0]] + power, np.stack(columns, axis=1)

    def canonical(self, phi: Array) -> Array:
        """Breaks in order of their place."""
        order = np.argsort(phi[:, 4::3], axis=1, kind="stable")
        columns = 3 + 3 * order[:, :, None] + np.arange(3)
        sorted_breaks = np.take_along_axis(phi, columns.reshape(phi.shape[0], -1), axis=1)
        return np.concatenate([phi[:, :3], sorted_breaks], axis=1)

    def to_public(self, phi: Array, log_refs: Array) -> Array:
        """Also of draws, breaks are in order of their place."""
        return super().to_public(self.canonical(phi), log_refs)

    def grid_for(self, z: Array) -> Array:
        """Slopes of the segments, places of the breaks inside the data's range, and a width common to all breaks."""
        n = self.breaks
        slopes = np.array(list(itertools.product(_SLOPES[n], repeat=n + 1)))
        inside = np.linspace(0.0, 1.0, _PLACES[n] + 2)[1:-1]
        low, high = float(z[0].min()), float(z[0].max())
        places = low + (high - low) * np.array(list(itertools.combinations(inside, n)))
        widths = np.log(np.array(_WIDTHS[n]) * max((high - low) / 5, 1e-3))
        s, p, w = (
            a.ravel() for a in np.meshgrid(range(len(slopes)), range(len(places)), range(len(widths)), indexing="ij")
        )
        changes = np.diff(slopes, axis=1)
        eta = np.empty((s.size, 1 + 3 * n))
        eta[:, 0] = slopes[s, 0]
        for i in range(n):
            eta[:, 1 + 3 * i], eta[:, 2 + 3 * i], eta[:, 3 + 3 * i] = changes[s, i], places[p, i], widths[w]
        return eta

    def grid_shape(self) -> tuple[int, ...]:
        """Slopes of each segment, sets of places, widths."""
        n = self.breaks
        sets = sum(1 for _ in itertools.combinations(range(_PLACES[n]), n))
        return (*[len(_SLOPES[n])] * (n + 1), sets, len(_WIDTHS[n]))

    def offset_columns(self) -> tuple[int, ...]:
        """The first column is E."""
        return (0,)

    def basis(self, eta: Array, z: Array) -> Array:
        """A constant, and the broken power."""
        power = self._power(np.concatenate([np.zeros((eta.shape[0], 2)), eta], axis=1), z[0])
        return np.stack([np.ones_like(power), power], axis=1)

    def assemble(self, eta: Array, coefficients: Array) -> Array:
        """E and log A from the coefficients."""
        log_a = np.log(np.maximum(coefficients[:, 1], 1e-300))
        return np.concatenate([coefficients[:, [0]], log_a[:, None], eta], axis=1)


def bnsl(breaks: int = 1) -> BrokenPower:
    """The law with `breaks` breaks, from none (the power law) to MAX_BREAKS.

    Parameters
    ----------
    breaks : int
        How often the exponent changes.

    Returns
    -------
    BrokenPower
        Its parameters are E, A and c0, and three for each break.

    Raises
    ------
    UserError
        For another number of breaks.
    """
    if breaks not in range(MAX_BREAKS + 1):
        raise UserError(f"bnsl has from 0 to {MAX_BREAKS} breaks, not {breaks}")
    factors = [f"(1 + (x/d{i})**(1/f{i}))**(-c{i} f{i})" for i in range(1, breaks + 1)]
    first = MIN_EXPONENT if breaks == 0 else -MAX_EXPONENT
    return BrokenPower(
        name="bnsl",
        formula=" * ".join(["L = E + A * x**-c0", *factors]),
        inputs=("x",),
        breaks=breaks,
        parameters=(
            Parameter(name="E", kind="offset", meaning="irreducible loss, in the loss's unit"),
            Parameter(name="A", kind="amplitude", meaning="amplitude, loss times x**c0", scales=(("x", "c0"),)),
            Parameter(
                name="c0",
                kind="exponent",
                meaning="exponent before the first break",
                lower=first,
                upper=MAX_EXPONENT,
                grid=_SLOPES[breaks],
            ),
            *(p for i in range(1, breaks + 1) for p in _break_parameters(i)),
        ),
        source="Caballero et al. 2023, arXiv 2210.14891",
        domain="x above zero; three parameters for each break, which must lie among the runs to be determined",
        units="loss in nats per token; x is whatever column is named, such as flops, params or tokens",
    )


def _break_parameters(i: int) -> tuple[Parameter, ...]:
    reach = 2 * MAX_EXPONENT
    return (
        Parameter(
            name=f"c{i}",
            kind="exponent",
            meaning=f"change of exponent at break {i}",
            lower=-reach,
            upper=reach,
            grid=(0.0,),
        ),
        Parameter(
            name=f"d{i}",
            kind="amplitude",
            meaning=f"place of break {i}, in the unit of x",
            scales=(("x", 1.0),),
            lower=-30.0,
            upper=30.0,
            grid=(0.0,),
        ),
        Parameter(
            name=f"f{i}",
            kind="amplitude",
            meaning=f"width of break {i} in log x; zero is a corner",
            lower=-6.0,
            upper=3.0,
            grid=(0.0,),
        ),
    )


BNSL = bnsl()
