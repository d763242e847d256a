"""Laws of several arms fitted together: one problem, many targets at once, each its own minimum.

Every arm has a law of its own form, and all may share the irreducible loss. Owns the model, its starts and a damped
Gauss-Newton solver that fits thousands of bootstrap targets in one go. It must not know tables, blocks or intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array

Form = Literal["surface", "compute", "power"]
"""surface: E + A / N**alpha + B / D**beta; compute: E + A / C**gamma; power: A / C**gamma."""

EXPONENTS = (0.005, 6.0)
"""Smallest and largest exponent."""
EXPONENT_GRID = tuple(float(v) for v in np.geomspace(0.06, 1.6, 10))
"""Exponents from which the search starts."""
FLOOR_GRID = (0.0005, 0.2, 0.4, 0.55, 0.7, 0.8, 0.88, 0.94, 0.98)
"""Irreducible losses from which the search starts, as fractions of the smallest loss."""
FLOOR_BOUNDS = (1e-4, 0.9999)
"""Range of the irreducible loss, as fractions of the smallest loss."""
HUBER = 1.345
"""Where the terms turn linear, in robust standard deviations of the residuals: 95 % as efficient as least squares for
normal residuals (Huber 1964)."""
CHUNK = 60_000
"""(Draw, row) pairs that are fitted at once."""
KEPT_STARTS = 3
"""Starts that are polished."""


@dataclass(frozen=True, kw_only=True)
class JointLaw:
    """The rows of all arms, and how their laws share parameters."""

    form: Form
    """Form of every arm's law."""
    shared_floor: bool
    """Whether one irreducible loss serves all arms."""
    arms: tuple[NDArray[np.intp], ...]
    """Rows of each arm."""
    x: Array
    """Log inputs less their means, shape (1 or 2, n): N and D, or C."""
    y: Array
    """Log losses, shape (n,)."""

    @property
    def num_local(self) -> int:
        """Parameters of one arm's law."""
        return {"surface": 5, "compute": 3, "power": 2}[self.form]

    @property
    def num_params(self) -> int:
        """Free parameters of all arms."""
        repeated = len(self.arms) - 1 if self.form != "power" and self.shared_floor else 0
        return len(self.arms) * self.num_local - repeated

    def slots(self, arm: int) -> NDArray[np.intp]:
        """Where the parameters of one arm stand in the vector of all."""
        m = self.num_local
        if self.form == "power" or not self.shared_floor:
            return np.arange(arm * m, (arm + 1) * m)
        return np.concatenate([[0], 1 + arm * (m - 1) + np.arange(m - 1)])

    def rows(self, keep: NDArray[np.bool_]) -> JointLaw:
        """The same law on some rows, its inputs centred as they are."""
        place = np.cumsum(keep) - 1
        arms = tuple(place[rows[keep[rows]]] for rows in self.arms)
        return JointLaw(form=self.form, shared_floor=self.shared_floor, arms=arms, x=self.x[:, keep], y=self.y[keep])

    def bounds(self) -> tuple[Array, Array]:
        """Smallest and largest value of every parameter."""
        low, high = np.full(self.num_params, -60.0), np.full(self.num_params, 60.0)
        first = 0 if self.form == "power" else 1
        for arm in range(len(self.arms)):
            slots = self.slots(arm)
            if first:
                least = float(self.y.min())
                low[slots[0]], high[slots[0]] = (least + np.log(fraction) for fraction in FLOOR_BOUNDS)
            low[slots[first + 1 :: 2]], high[slots[first + 1 :: 2]] = EXPONENTS
        return low, high

    def evaluate(self, theta: Array, arm: int, x: Array) -> tuple[Array, Array]:
        """Log losses of one arm, with their derivatives.

        Parameters
        ----------
        theta : Array, shape (B, P)
            Parameters of all arms.
        arm : int
            Which arm.
        x : Array, shape (k, n)
            Centred log inputs.

        Returns
        -------
        value : Array, shape (B, n)
            Log losses.
        jacobian : Array, shape (B, n, num_local)
            Derivatives by the arm's own parameters.
        """
        local = theta[:, self.slots(arm)][:, :, None]
        first = 0 if self.form == "power" else 1
        loss = np.exp(local[:, 0]) if first else np.zeros((theta.shape[0], 1))
        slopes = [np.broadcast_to(loss, (theta.shape[0], x.shape[1]))] if first else []
        for j, axis in enumerate(x):
            amplitude, exponent = local[:, first + 2 * j], local[:, first + 2 * j + 1]
            term = np.exp(amplitude - exponent * axis)
            loss = loss + term
            slopes += [term, -term * axis]
        return np.log(loss), np.stack(slopes, axis=2) / loss[:, :, None]

    def predict(self, theta: Array) -> Array:
        """Log loss of every row, shape (B, n)."""
        out = np.empty((theta.shape[0], self.y.size))
        for arm, rows in enumerate(self.arms):
            out[:, rows] = self.evaluate(theta, arm, self.x[:, rows])[0]
        return out

    def jacobian(self, theta: Array) -> Array:
        """Derivatives of the log losses by all parameters, shape (n, P), for one vector (P,)."""
        out = np.zeros((self.y.size, self.num_params))
        for arm, rows in enumerate(self.arms):
            out[np.ix_(rows, self.slots(arm))] = self.evaluate(theta[None], arm, self.x[:, rows])[1][0]
        return out


def _terms(law: JointLaw, rows: NDArray[np.intp], excess: Array) -> tuple[float, Array]:
    """The best amplitudes and exponents of one arm for a given excess over the floor.

    Their squared error in log loss comes with them.
    """
    x, weight = law.x[:, rows], np.exp(-law.y[rows])
    if law.form != "surface":
        design = np.stack([np.ones(rows.size), -x[0]], axis=1)
        scaled = excess * weight
        found = np.linalg.lstsq(design * scaled[:, None], np.log(excess) * scaled, rcond=None)[0]
        found[1] = np.clip(found[1], *EXPONENTS)
        error = (np.exp(design @ found) - excess) * weight
        return float(error @ error), np.asarray(found, dtype=np.float64)
    powers = np.exp(-np.array(EXPONENT_GRID)[:, None, None] * x) * weight
    left, right, target = powers[:, 0], powers[:, 1], excess * weight
    gram = left @ right.T
    norms, moments = ((left**2).sum(1), (right**2).sum(1)), (left @ target, right @ target)
    determinant = norms[0][:, None] * norms[1] - gram**2
    a = (norms[1] * moments[0][:, None] - gram * moments[1]) / np.maximum(determinant, 1e-300)
    b = (norms[0][:, None] * moments[1] - gram * moments[0][:, None]) / np.maximum(determinant, 1e-300)
    gain = np.where((a > 0) & (b > 0), a * moments[0][:, None] + b * moments[1], -np.inf)
    i, j = np.unravel_index(int(np.argmax(gain)), gain.shape)
    small = 1e-3 * float(np.mean(excess))
    coefficients = [max(float(a[i, j]), small), max(float(b[i, j]), small)]
    found = np.array([np.log(coefficients[0]), EXPONENT_GRID[i], np.log(coefficients[1]), EXPONENT_GRID[j]])
    return float(target @ target) - float(max(gain[i, j], 0.0)), np.asarray(found, dtype=np.float64)


def starts(law: JointLaw) -> Array:
    """Parameter vectors (S, P) from which the search starts, the most promising first."""
    loss = np.exp(law.y)
    vectors, errors = [], []
    for fraction in FLOOR_GRID if law.form != "power" else (0.0,):
        theta, error = np.zeros(law.num_params), 0.0
        for arm, rows in enumerate(law.arms):
            floor = fraction * float((loss if law.shared_floor else loss[rows]).min())
            more, found = _terms(law, rows, np.maximum(loss[rows] - floor, 1e-9))
            error += more
            theta[law.slots(arm)] = found if law.form == "power" else np.concatenate([[np.log(floor)], found])
        vectors.append(theta)
        errors.append(error)
    return np.array(vectors)[np.argsort(errors)]


def fit_squares(law: JointLaw) -> Array:
    """Parameters (P,) of least squared log residuals from the most promising start; quick, for comparisons of forms."""
    return np.asarray(polish(law, starts(law)[:1], law.y[None], np.inf)[0][0])


def fit_point(law: JointLaw) -> tuple[Array, float]:
    """The best parameters (P,) by a Huber sum of log residuals, and the robust standard deviation of these."""
    begin = starts(law)[:KEPT_STARTS]
    scale = np.inf
    for _ in range(3):
        targets = np.broadcast_to(law.y, (len(begin), law.y.size))
        begin, value = polish(law, begin, targets, scale, max_iterations=80)
        best = begin[int(np.argmin(value))]
        residuals = law.y - law.predict(best[None])[0]
        used = max(law.y.size - law.num_params, 1) / law.y.size
        scale = max(1.4826 * float(np.median(np.abs(residuals))) / np.sqrt(used), 1e-9)
    return best, scale


def polish(
    law: JointLaw, theta: Array, targets: Array, scale: float, *, max_iterations: int = 40
) -> tuple[Array, Array]:
    """Minimise from each start, each against a target of its own.

    Parameters
    ----------
    law : JointLaw
        Rows and parameters.
    theta : Array, shape (B, P)
        Starts.
    targets : Array, shape (B, n)
        Log losses.
    scale : float
        Robust standard deviation of residuals; infinite for least squares.
    max_iterations : int
        Most steps.

    Returns
    -------
    theta : Array, shape (B, P)
        Where each start ended.
    value : Array, shape (B,)
        The Huber sum there.
    """
    size = max(1, CHUNK // max(law.y.size, 1))
    parts = [
        _polish(law, theta[s : s + size], targets[s : s + size], scale, max_iterations)
        for s in range(0, len(theta), size)
    ]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _rho(residuals: Array, width: float) -> Array:
    size = np.abs(residuals)
    if not np.isfinite(width):
        return np.asarray(0.5 * (size * size).sum(axis=1))
    inner = np.minimum(size, width)
    return np.asarray((inner * (size - 0.5 * inner)).sum(axis=1))


def _normal_equations(law: JointLaw, theta: Array, targets: Array, width: float) -> tuple[Array, Array]:
    """Gradient (B, P) and Gauss-Newton matrix (B, P, P) of the Huber sum."""
    B, P = theta.shape
    gradient, matrix = np.zeros((B, P)), np.zeros((B, P, P))
    for arm, rows in enumerate(law.arms):
        value, slopes = law.evaluate(theta, arm, law.x[:, rows])
        r = targets[:, rows] - value
        weighted = slopes
        if np.isfinite(width):
            weighted = slopes * np.minimum(1.0, width / np.maximum(np.abs(r), 1e-300))[:, :, None]
        slots = law.slots(arm)
        gradient[:, slots] += np.matmul(weighted.transpose(0, 2, 1), r[:, :, None])[:, :, 0]
        matrix[:, slots[:, None], slots] += np.matmul(weighted.transpose(0, 2, 1), slopes)
    return gradient, matrix


def _polish(law: JointLaw, theta: Array, targets: Array, scale: float, max_iterations: int) -> tuple[Array, Array]:
    low, high = law.bounds()
    theta, width = np.clip(theta, low, high), HUBER * scale
    value = _rho(targets - law.predict(theta), width)
    damping, active = np.full(len(theta), 1e-3), np.arange(len(theta))
    for _ in range(max_iterations):
        here = theta[active]
        gradient, matrix = _normal_equations(law, here, targets[active], width)
        held = ((here <= low) & (gradient < 0)) | ((here >= high) & (gradient > 0))
        gradient = np.where(held, 0.0, gradient)
        free = ~held
        matrix = matrix * (free[:, :, None] & free[:, None, :])
        diagonal = np.einsum("bpp->bp", matrix)
        largest = diagonal.max(axis=1, keepdims=True)
        add = damping[active][:, None] * np.maximum(diagonal, 1e-9 * largest) + 1e-12 * largest + 1e-300
        matrix[:, np.arange(matrix.shape[1]), np.arange(matrix.shape[1])] += add
        step = np.linalg.solve(matrix, gradient[:, :, None])[:, :, 0]
        trial = np.clip(here + np.clip(step, -2.0, 2.0), low, high)
        reached = _rho(targets[active] - law.predict(trial), width)
        before = value[active]
        better = reached < before
        theta[active[better]], value[active[better]] = trial[better], reached[better]
        damping[active] = np.clip(damping[active] * np.where(better, 0.2, 6.0), 1e-9, 1e9)
        small = (np.abs(before - reached) <= 1e-7 * before) | (np.abs(trial - here).max(axis=1) < 1e-7)
        active = active[~small & (damping[active] < 1e8)]
        if not active.size:
            break
    return theta, value
