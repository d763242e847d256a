"""Lack of fit: whether residuals hold a pattern that the law misses.

A smooth surface in the logarithms of the inputs, less what the law itself can follow, explains more of the residuals
of a wrong law than of noise. Owns this test; it must not know tables or reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.solver.problem import Problem

SURE = 0.05
"""Below this p-value the law is said to miss a pattern."""
SHUFFLES = 999
"""Random orders of the residuals against which the surface is held."""
MIN_FREE = 8
"""Rows beyond the law's parameters below which nothing is tested."""
MAX_ROWS = 2000
"""Longer tables are tested on this many of their rows."""
ROTATED_ROWS = 400
"""Up to this many rows the test is exact for normal errors; above, the few parameters do not matter."""
WINSOR = 3.0
"""Robust standard deviations at which residuals are cut off, so that one outlier is no pattern."""


@dataclass(frozen=True, kw_only=True)
class LackOfFit:
    """What the residuals say about the law."""

    p_value: float | None
    """Chance of a pattern this strong if the law is right; None where there are too few rows to tell."""
    largest_flops: float | None
    """Largest fitted compute, 6 N D, beyond which predictions rest on the law; None for laws without N and D."""

    @property
    def missed(self) -> bool:
        """Whether the law misses a pattern."""
        return self.p_value is not None and self.p_value < SURE

    @property
    def text(self) -> str | None:
        """One line for people; None where nothing is missed."""
        if not self.missed or self.p_value is None:
            return None
        beyond = "" if self.largest_flops is None else f" beyond C = {self.largest_flops:.2g}"
        return f"this law misses a pattern of the data (p = {self.p_value:.2g}); predictions{beyond} rest on it"

    def to_dict(self) -> dict[str, Any]:
        """JSON object."""
        return {"p_value": self.p_value, "missed": self.missed, "largest_flops": self.largest_flops}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> LackOfFit:
        """The inverse of `to_dict`."""
        return cls(p_value=raw["p_value"], largest_flops=raw["largest_flops"])


def lack_of_fit(problem: Problem, phi: Array, *, codes: NDArray[np.intp] | None = None, seed: int = 0) -> LackOfFit:
    """Test a law against its own residuals.

    Residuals are cut off at WINSOR robust deviations and made orthogonal to the law's own derivatives, as are the
    columns of a cubic surface in the logarithms of the inputs. The share of the residuals' squares on the surface
    is compared with its share after random permutations (Freedman and Lane 1983), so that neither their distribution
    nor the objective matters.

    Parameters
    ----------
    problem : Problem
        What was minimised.
    phi : Array, shape (p,)
        Working parameters at the minimum.
    codes : array of int, shape (n,), optional
        Clusters of rows that share their errors: signs are then flipped by cluster, and nothing is permuted.
    seed : int
        Of the permutations.

    Returns
    -------
    LackOfFit
        With a p-value where there are at least MIN_FREE rows beyond the parameters.
    """
    used = np.flatnonzero(problem.weights > 0)
    used = used[np.linspace(0, used.size - 1, min(used.size, MAX_ROWS)).astype(int)]
    beyond = _largest_flops(problem)
    surface = _surface(problem.z[:, used])
    groups = np.arange(used.size) if codes is None else np.unique(codes[used], return_inverse=True)[1]
    free = int(groups.max()) + 1 - problem.num_params
    if free < MIN_FREE or surface.shape[1] == 0 or not problem.law.row_by_row:
        return LackOfFit(p_value=None, largest_flops=beyond)
    r, J, _ = problem.scaled_jacobian(phi[None, :])
    residuals, tangent = r[0][used], J[0][:, used].T
    scale = 1.4826 * float(np.median(np.abs(residuals)))
    if not np.isfinite(tangent).all() or scale <= 0:
        return LackOfFit(p_value=None, largest_flops=beyond)
    residuals = np.clip(residuals, -WINSOR * scale, WINSOR * scale)
    own = _basis(tangent / np.maximum(np.abs(tangent).max(axis=0), 1e-300))
    extra = _basis(surface - own @ (own.T @ surface))
    extra = extra[:, : max(free // 3, 1)]
    if not extra.shape[1]:
        return LackOfFit(p_value=None, largest_flops=beyond)
    left = residuals - own @ (own.T @ residuals)
    rng = np.random.default_rng(seed)
    if free + problem.num_params < used.size:  # clusters
        signs = rng.choice([-1.0, 1.0], (SHUFFLES, int(groups.max()) + 1))[:, groups]
        return LackOfFit(p_value=_p_value(left, extra, left * signs), largest_flops=beyond)
    if used.size <= ROTATED_ROWS:
        # what the law's derivatives leave has fewer free directions than rows: shuffle in those directions
        rest = _complement(own)
        left, extra = rest.T @ left, rest.T @ extra
    shuffled = rng.permuted(np.tile(left, (SHUFFLES, 1)), axis=1) * rng.choice([-1.0, 1.0], (SHUFFLES, left.size))
    return LackOfFit(p_value=_p_value(left, extra, shuffled), largest_flops=beyond)


def _p_value(scores: Array, surface: Array, shuffled: Array) -> float:
    """How often shuffled scores (K, n) lie on the surface (n, q) as much as these (n,) do."""
    share = float(((surface.T @ scores) ** 2).sum())
    others = ((shuffled @ surface) ** 2).sum(axis=1)
    return float((1 + (others >= share).sum()) / (1 + len(shuffled)))


def _surface(z: Array) -> Array:
    """Columns (n, q) of a cubic in every log input and their products, at zero mean and unit spread."""
    varying = [row for row in z if np.ptp(row) > 1e-9]
    columns = [(row - row.mean()) / row.std() for row in varying]
    out = [c**k for c in columns for k in (1, 2, 3)]
    out += [a * b for i, a in enumerate(columns) for b in columns[i + 1 :]]
    out += [a * a * b for i, a in enumerate(columns) for j, b in enumerate(columns) if i != j]
    return np.stack(out, axis=1) if out else np.zeros((z.shape[1], 0))


def _basis(columns: Array) -> Array:
    """An orthonormal basis (n, k) of the columns, without directions that rounding made."""
    if not columns.size:
        return columns
    left, size, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(left[:, size > 1e-8 * max(size[0], 1e-300)])


def _complement(own: Array) -> Array:
    """An orthonormal basis (n, n - k) of what is orthogonal to `own`."""
    left, _, _ = np.linalg.svd(own, full_matrices=True)
    return np.asarray(left[:, own.shape[1] :])


def _largest_flops(problem: Problem) -> float | None:
    inputs = problem.law.inputs
    if not {"params", "tokens"} <= set(inputs) or not problem.law.row_by_row:
        return None
    logs = problem.z + problem.log_refs[:, None]
    return float(6 * np.exp((logs[inputs.index("params")] + logs[inputs.index("tokens")]).max()))
