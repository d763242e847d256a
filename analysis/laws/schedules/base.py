"""Losses along a learning-rate schedule: what the rows of one curve owe to the rows before them.

Owns the reading of curves (areas and falls of the rate) and the form L = L0 + A * area**(-alpha) - B * reduction, which
the laws over a schedule share; how much a fall reduces the loss is theirs. It must not know objectives or tables.

A curve is the rows that share a label. Between two rows the rate is taken to change once, halfway: with a row for every
step this is the papers' sum over steps, with a row for every hundred it is right to the second order in their distance.
Before its first row a curve is taken to have warmed up linearly from zero; that rise counts as any other, a fall below
zero.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT

MAX_PAIRS = 50_000_000
"""Most (row, fall) pairs that are held."""
WARM_PIECES = 16
"""Jumps in which the rate is taken to rise before the first row of a curve."""
WARM_RATIO = 0.7
"""Distance of one of them to the first row over that of the one before: they are closest where they are last felt."""
AT_ONCE = 25_000
"""Most (parameter vector, row, fall) triples computed at once."""
Second = dict[tuple[int, int], Array]
"""Second derivatives by pairs of parameters."""

AREA_PARAMETERS = (
    Parameter(name="L0", kind="offset", meaning="loss that no amount of training removes"),
    Parameter(
        name="A",
        kind="amplitude",
        meaning="area term, loss times area**alpha; area S1 is the sum of rates up to the step, warm-up included",
        scales=(("lr", "alpha"),),
    ),
    Parameter(
        name="alpha",
        kind="exponent",
        meaning="exponent of the area",
        lower=MIN_EXPONENT,
        upper=MAX_EXPONENT,
        grid=(0.1, 0.2, 0.35, 0.5, 0.8, 1.2),
    ),
)
"""What every law over a schedule begins with: L0 + A * area**(-alpha)."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One schedule: the area at its rows, and the falls of the rate before and between them."""

    area: Array
    """Sum of rates up to each row, shape (n,)."""
    first: NDArray[np.intp]
    """Index of the first row that has seen each fall, shape (K,)."""
    fall: Array
    """How far the rate falls, shape (K,); negative where it rises."""
    rate: Array
    """Rate after each fall, shape (K,)."""
    at_step: Array
    """Step after which the rate is the new one, shape (K,)."""
    at_area: Array
    """Sum of rates up to each fall, shape (K,)."""


def read_curve(step: Array, rate: Array) -> Curve:
    """Read one curve, with the warm-up before its first row.

    Parameters
    ----------
    step : Array, shape (n,)
        Steps of the rows, ascending.
    rate : Array, shape (n,)
        Learning rate at each of them.

    Returns
    -------
    Curve
        Areas and falls of the rate.
    """
    pieces = int(min(WARM_PIECES, max(np.ceil(step[0]), 1)))
    warm = 1 - WARM_RATIO ** np.arange(pieces)
    steps, rates = np.concatenate([warm * step[0], step]), np.concatenate([warm * rate[0], rate])
    middle = np.maximum(0.5 * (steps[:-1] + steps[1:] - 1), steps[:-1])
    before, after = rates[:-1] * (middle - steps[:-1]), rates[1:] * (steps[1:] - middle)
    area = np.concatenate([[0.0], np.cumsum(before + after)])
    fall, length = rates[:-1] - rates[1:], np.maximum(np.diff(steps), 1.0)
    ramp = np.where(np.arange(fall.size) < pieces, fall * (length - 1) / (2 * length), 0.0)  # to the piece's mean rate
    k = np.flatnonzero(np.abs(fall) > 1e-12 * rate.max())
    return Curve(
        area=area[pieces:],
        first=np.maximum(k + 1 - pieces, 0),
        fall=fall[k],
        rate=(rates[1:] + ramp)[k],
        at_step=middle[k],
        at_area=(area[:-1] + before)[k],
    )


@dataclass(frozen=True, kw_only=True)
class ScheduleLaw(Law):
    """L = L0 + A * area**(-alpha) - B * sum over falls of fall * kernel.

    Parameters are the floor, the amplitude and exponent of the area, the amplitude of the reduction, then those of the
    kernel. Features of a row are its log area, then for each of at most K falls before it (zero where there are fewer)
    the fall and the kernel's quantities.
    """

    optional: tuple[str, ...] = ("curve",)
    """Without labels all rows are one curve; the command line takes each file as a curve."""

    @property
    @abc.abstractmethod
    def num_quantities(self) -> int:
        """Quantities of a fall, seen from a row, that the kernel reads."""

    @abc.abstractmethod
    def quantities(self, curve: Curve, step: Array) -> Sequence[Array]:
        """What the kernel reads.

        Parameters
        ----------
        curve : Curve
            A curve with K falls.
        step : Array, shape (n,)
            Steps of its rows.

        Returns
        -------
        sequence of Array, shape (n, K)
            For each row and fall; right where the fall came before the row.
        """

    @abc.abstractmethod
    def kernel(self, q: Array, quantities: Sequence[Array], order: int) -> tuple[Array, list[Array], Second]:
        """Reduction by a unit fall, with its derivatives.

        Parameters
        ----------
        q : Array, shape (B, m)
            Working parameters of the kernel.
        quantities : sequence of Array, shape (P,)
            What the kernel reads, for each pair of a row and a fall.
        order : int
            Highest derivative that is wanted.

        Returns
        -------
        value : Array, shape (B, P)
            The reduction.
        first : list of Array, shape (B, P)
            Derivatives by each parameter; empty below order 1.
        second : dict of Array, shape (B, P)
            Second derivatives by pairs (i, j) with i <= j; empty below order 2.
        """

    # -- rows of curves ------------------------------------------------------------------------------------------------
    @property
    def row_by_row(self) -> bool:
        """A row owes its features to the rows of its curve before it."""
        return False

    def row_weights(self, x: Mapping[str, Array]) -> Array:
        """Every curve counts alike, however often it was recorded: its rows share their errors."""
        _, code, count = np.unique(x["curve"], return_inverse=True, return_counts=True)
        return np.asarray(code.size / count.size / count[code])

    def prepare(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Labels of curves as whole numbers from 1, in sorted order; one curve without labels."""
        out = dict(data)
        if "step" not in out:
            return out
        labels = out.get("curve", np.ones(np.size(out["step"])))
        out["curve"] = np.unique(np.asarray(labels).ravel().astype(str), return_inverse=True)[1].astype(float) + 1
        return out

    def centred_inputs(self) -> tuple[str, ...]:
        """The rate: steps are counted, curves are labels."""
        return ("lr",)

    def features(self, z: Array) -> Array:
        """Log area; falls (K, n); quantities of the kernel, (K, n) each."""
        step, rate, label = np.round(np.exp(z[0]), 6), np.exp(z[1]), np.round(np.exp(z[2]))
        parts = []
        for code in np.unique(label):
            rows = np.flatnonzero(label == code)
            rows = rows[np.argsort(step[rows], kind="stable")]
            if rows.size == 1:
                raise UserError(
                    f"a curve has one row, at step {step[rows][0]:g}; {self.name} needs the rows of the whole schedule"
                )
            twice = np.flatnonzero(np.diff(step[rows]) <= 0)
            if twice.size:
                raise UserError(
                    f"a curve has two rows at step {step[rows][twice[0]]:g}; name what tells curves apart, "
                    "e.g. --columns curve=COLUMN"
                )
            parts.append((rows, read_curve(step[rows], rate[rows])))
        most = max(curve.fall.size for _, curve in parts)
        if most * step.size > MAX_PAIRS:
            raise UserError(f"{step.size} rows with up to {most} falls each are too many; thin the curves")
        out = np.zeros((1 + (1 + self.num_quantities) * most, step.size))
        for rows, curve in parts:
            out[0, rows] = np.log(curve.area)
            seen = np.arange(rows.size)[:, None] >= curve.first
            blocks = (np.broadcast_to(curve.fall, seen.shape), *self.quantities(curve, step[rows]))
            for b, block in enumerate(blocks):
                at = 1 + b * most + np.arange(curve.fall.size)
                out[np.ix_(at, rows)] = np.where(seen, block, 0.0).T
        return out

    def undetermined(self, features: Array) -> dict[str, str]:
        """Everything but the first three where no rate falls."""
        falls = features[1 : 1 + self._most(features)]
        if (falls > 0).any():
            return {}
        return dict.fromkeys(self.param_names[3:], "no rate falls in these rows; give a curve whose rate decays")

    def _most(self, features: Array) -> int:
        return int((features.shape[0] - 1) // (1 + self.num_quantities))

    # -- the reduction -------------------------------------------------------------------------------------------------
    def _pairs(
        self, q: Array, z: Array, order: int
    ) -> Iterator[tuple[slice, NDArray[np.intp], Array, Array, list[Array], Second]]:
        """The pairs of steps and falls, in chunks of q.

        Each chunk has its slice, row (P,) and fall (P,) of every pair with rows ascending, and the kernel (B, P) with
        its derivatives.
        """
        most = self._most(z)
        row, k = np.nonzero(z[1 : 1 + most].T)
        fall = z[1 + k, row]
        seen = [z[1 + (1 + j) * most + k, row] for j in range(self.num_quantities)]
        size = max(1, AT_ONCE // max(row.size, 1))
        for s in range(0, q.shape[0], size):
            value, first, second = self.kernel(q[s : s + size], seen, order)
            yield slice(s, s + size), row, fall, value, first, second

    @staticmethod
    def _by_row(pairs: Array, row: NDArray[np.intp], n: int) -> Array:
        """Sums (B, n) of pairs (B, P)."""
        out = np.zeros((pairs.shape[0], n))
        if row.size:
            first = np.flatnonzero(np.concatenate([[True], np.diff(row) > 0]))
            out[:, row[first]] = np.add.reduceat(pairs, first, axis=1)
        return out

    def _reduction(self, q: Array, z: Array) -> Array:
        """Sum over falls (B, n)."""
        out = np.empty((q.shape[0], z.shape[1]))
        for part, row, fall, value, _, _ in self._pairs(q, z, 0):
            out[part] = self._by_row(fall * value, row, z.shape[1])
        return out

    # -- working form --------------------------------------------------------------------------------------------------
    def working_value(self, phi: Array, z: Array) -> Array:
        """Loss (B, n)."""
        base = phi[:, [0]] + np.exp(phi[:, [1]] - phi[:, [2]] * z[0])
        return np.asarray(base - np.exp(phi[:, [3]]) * self._reduction(phi[:, 4:], z))

    def working_jacobian(self, phi: Array, z: Array) -> tuple[Array, Array]:
        """Loss and derivatives."""
        n = z.shape[1]
        out = np.empty((phi.shape[0], phi.shape[1], n))
        out[:, 0] = 1.0
        out[:, 1] = np.exp(phi[:, [1]] - phi[:, [2]] * z[0])
        out[:, 2] = -z[0] * out[:, 1]
        for part, row, fall, value, first, _ in self._pairs(phi[:, 4:], z, 1):
            pull = -np.exp(phi[part, 3])[:, None] * fall
            for j, entry in enumerate((value, *first)):
                out[part, 3 + j] = self._by_row(pull * entry, row, n)
        return phi[:, [0]] + out[:, 1] + out[:, 3], out

    def working_curvature(self, phi: Array, z: Array, weights: Array, jacobian: Array | None = None) -> Array:
        """Exact: the area term by its moments, the reduction by the kernel's second derivatives."""
        J = self.working_jacobian(phi, z)[1] if jacobian is None else jacobian
        out = np.zeros((phi.shape[0], phi.shape[1], phi.shape[1]))
        moments = (weights * J[:, 1]) @ np.stack([np.ones_like(z[0]), z[0], z[0] ** 2], axis=1)
        out[:, 1, 1], out[:, 2, 2] = moments[:, 0], moments[:, 2]
        out[:, 1, 2] = out[:, 2, 1] = -moments[:, 1]
        mixed = np.matmul(J[:, 3:], weights[:, :, None])[:, :, 0]
        out[:, 3, 3:] = mixed
        out[:, 3:, 3] = mixed
        for part, row, fall, _, _, second in self._pairs(phi[:, 4:], z, 2):
            pull = -np.exp(phi[part, 3])[:, None] * fall * weights[part][:, row]
            for (i, j), entry in second.items():
                out[part, 4 + i, 4 + j] = out[part, 4 + j, 4 + i] = np.einsum("bp,bp->b", pull, entry)
        return out

    # -- public form ---------------------------------------------------------------------------------------------------
    def _raw(self, theta: Sequence[Array], x: Mapping[str, Array]) -> tuple[Array, Array]:
        """Working parameters and features for rates as they are."""
        refs = np.zeros(len(self.inputs))
        stacked = np.stack(np.broadcast_arrays(*(np.atleast_1d(np.asarray(t, dtype=float)).ravel() for t in theta)))
        return self.to_working(stacked.T, refs), self.features(np.log(np.stack([x[name] for name in self.inputs])))

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Loss at every row of whole curves."""
        loss = self.working_value(*self._raw(theta, x))
        return loss if max(np.ndim(t) for t in theta) > 1 else loss[0]

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """Derivatives by the public parameters."""
        phi, z = self._raw(theta, x)
        J = self.working_jacobian(phi, z)[1]
        columns = [J[:, j] * self.working_slope(j, phi)[:, None] for j in range(phi.shape[1])]
        return columns if max(np.ndim(t) for t in theta) > 1 else [column[0] for column in columns]

    def working_slope(self, j: int, phi: Array) -> Array:
        """Derivative of a working parameter by its public one, at raw inputs.

        Parameters
        ----------
        j : int
            Index of the parameter.
        phi : Array, shape (B, p)
            Working parameters.

        Returns
        -------
        Array, shape (B,)
            The derivative.
        """
        return np.exp(-phi[:, j]) if self.parameters[j].kind == "amplitude" else np.ones(phi.shape[0])

    # -- starts --------------------------------------------------------------------------------------------------------
    def offset_columns(self) -> tuple[int, ...]:
        """The first column is L0."""
        return (0,)

    def basis(self, eta: Array, z: Array) -> Array:
        """A constant, the power of the area, and what the falls take off."""
        kernels, where = np.unique(eta[:, 1:], axis=0, return_inverse=True)
        area = np.exp(-eta[:, [0]] * z[0])
        return np.stack([np.ones_like(area), area, -self._reduction(kernels, z)[where.ravel()]], axis=1)

    def assemble(self, eta: Array, coefficients: Array) -> Array:
        """L0, A and B from the coefficients."""
        logs = np.log(np.maximum(coefficients[:, 1:], 1e-12))
        return np.column_stack([coefficients[:, 0], logs[:, 0], eta[:, 0], logs[:, 1], eta[:, 1:]])
