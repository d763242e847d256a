"""Bootstrap over runs or clusters of runs: drawing weights and refitting every draw.

Long tables are drawn in blocks, so that memory stays bounded, and every draw starts from the one-step estimate that the
clusters' scores give. It must not know tables, verbs or intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.solver.newton import polish
from analysis.solver.problem import Problem

LONG_TABLE = 5000
"""Rows above which draws start from the one-step estimate and are drawn in blocks."""
MANY_FEATURES = 100_000
"""The same for numbers that the law reads: rows of a schedule each see all falls before them."""
AT_ONCE = 2_000_000
"""Most (draw, row) weights of a long table held at once."""


def resample(
    problem: Problem,
    starts: Array,
    codes: NDArray[np.intp],
    *,
    num_draws: int,
    rng: np.random.Generator,
    strata: Any = None,
) -> Array:
    """Working parameters (B, p) of `num_draws` bootstrap draws.

    Parameters
    ----------
    starts : distinct local minima of the fit to all rows, best first
    codes : cluster of each row, whole numbers from 0; rows of a cluster are drawn together
    strata : a label for each row; clusters are drawn within the stratum of their first row
    """
    n = problem.num_rows
    if n <= LONG_TABLE and problem.z.size <= MANY_FEATURES:
        drawn = bootstrap_rows(n, num_draws, rng=rng, cluster=codes, strata=strata)
        return bootstrap_fits(problem, starts, drawn)[0]
    _, first = np.unique(codes, return_index=True)
    layers = None if strata is None else np.asarray(strata)[first]
    step = _one_step(problem, starts[0], codes)
    block = max(1, AT_ONCE // n)
    out = []
    for begin in range(0, num_draws, block):
        drawn = bootstrap_rows(first.size, min(block, num_draws - begin), rng=rng, strata=layers)
        guess = np.clip(starts[0] + (drawn - 1.0) @ step, problem.lower, problem.upper)
        weights = drawn[:, codes] * problem.weights
        out.append(polish(problem, guess, weights, max_iterations=30, tolerance=1e-6).phi)
    return np.concatenate(out)


def bootstrap_fits(problem: Problem, starts: Array, multiplicities: Array) -> tuple[Array, Array]:
    """Working parameters (B, p) and objectives (B,) of every draw, the best over the given starts (S, p).

    Parameters
    ----------
    starts : distinct local minima of the fit to all rows, best first
    multiplicities : (B, n) how often each row was drawn
    """
    weights = multiplicities * problem.weights
    best = polish(problem, np.repeat(starts[:1], weights.shape[0], axis=0), weights)
    phi, value = best.phi, best.value
    for start in starts[1:3]:
        other = polish(problem, np.repeat(start[None, :], weights.shape[0], axis=0), weights)
        better = other.value < value * (1 - 1e-12)
        phi[better], value[better] = other.phi[better], other.value[better]
    return phi, value


def _one_step(problem: Problem, phi: Array, codes: NDArray[np.intp]) -> Array:
    """Change of the estimate (G, p) for one more copy of each cluster, by one Newton step."""
    r, J, _ = problem.scaled_jacobian(phi[None, :])
    smooth = problem.objective.smoothed(float(np.median(np.abs(r))))
    scores = J[0] * (problem.weights * smooth.psi(r[0]))
    totals = np.stack([np.bincount(codes, weights=row) for row in scores], axis=1)
    hessian = problem.with_objective(smooth).derivatives(phi[None, :], problem.weights)[1][0]
    root = np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-300))
    inverse = np.linalg.pinv(hessian / np.outer(root, root), rcond=1e-10, hermitian=True) / np.outer(root, root)
    return np.asarray(-totals @ inverse)


def bootstrap_rows(
    num_rows: int,
    num_draws: int,
    *,
    rng: np.random.Generator,
    cluster: Sequence[object] | NDArray[Any] | None = None,
    strata: Sequence[object] | NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """Weights of `num_draws` bootstrap samples over runs: how often each row was drawn.

    Parameters
    ----------
    num_rows, num_draws : sizes of the table and of the bootstrap.
    rng : the same state and arguments give the same weights, so that approaches that share them are paired.
    cluster : a label per row; rows that share one are drawn together (runs of one training trunk, say).
    strata : a label per row; clusters are drawn within each stratum (a cluster belongs to the stratum of its first
        row).

    Returns
    -------
    weights : (num_draws, num_rows) float64 array of whole numbers; without clusters every row of weights sums to
        num_rows.
    """
    names = np.arange(num_rows) if cluster is None else _codes(cluster)
    groups, first = np.unique(names, return_index=True)
    layers = np.zeros(groups.size, dtype=int) if strata is None else _codes(strata)[first]
    counts = np.zeros((num_draws, groups.size))
    for layer in np.unique(layers):
        members = np.flatnonzero(layers == layer)
        counts[:, members] = rng.multinomial(members.size, np.full(members.size, 1 / members.size), size=num_draws)
    return np.asarray(counts[:, np.searchsorted(groups, names)])


def _codes(labels: Sequence[object] | NDArray[Any]) -> NDArray[np.int64]:
    """Whole numbers for labels of any kind, in order of first appearance."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(str(label), len(seen)) for label in labels], dtype=np.int64)


def cluster_codes(labels: object, num_rows: int) -> NDArray[np.intp]:
    """Whole numbers from 0 for cluster labels; every row its own cluster without labels."""
    if labels is None:
        return np.arange(num_rows)
    _, codes = np.unique(np.asarray([str(label) for label in np.asarray(labels).ravel()]), return_inverse=True)
    return codes.astype(np.intp)
