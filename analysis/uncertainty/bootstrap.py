"""Bootstrap over runs or clusters of runs: drawing weights and refitting every draw.

Long tables are drawn in blocks, so that memory stays bounded, and every draw starts from the one-step estimate that the
clusters' scores give. It must not know tables, verbs or intervals.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import Array
from analysis.solver.newton import polish
from analysis.solver.problem import Problem

LONG_TABLE = 5000
"""Rows above which draws start from the one-step estimate and are drawn in blocks."""
MANY_FEATURES = 100_000
"""The same for numbers that the law reads: rows of a schedule each see all falls before them."""
AT_ONCE = 2_000_000
"""Most (draw, row) weights of a long table held at once."""
MAX_STARTS = 3
"""Most local minima from which each draw is fitted."""
LONG_WAY = 1000
"""Most iterations of a draw that has not converged after the usual number."""
UNFELT = 1e-8
"""Largest change of any residual by an exponent that a draw does not feel, per unit of the exponent."""
LEAST_TRIED = 50
"""Fewest draws that are fitted from another minimum before it may be given up; else a twentieth of them."""


def resample(
    problem: Problem,
    starts: Array,
    codes: NDArray[np.intp],
    *,
    num_draws: int,
    rng: np.random.Generator,
    strata: ArrayLike | None = None,
) -> Array:
    """Fit bootstrap draws.

    Parameters
    ----------
    problem : Problem
        What is minimised for each draw.
    starts : Array, shape (S, p)
        Distinct local minima of the fit to all rows, best first.
    codes : array of int, shape (n,)
        Cluster of each row, whole numbers from 0; rows of a cluster are drawn together.
    num_draws : int
        How many.
    rng : Generator
        What draws them.
    strata : array, shape (n,), optional
        A label for each row; clusters are drawn within the stratum of their first row.

    Returns
    -------
    Array, shape (num_draws, p)
        Working parameters.
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
    """Fit draws that were made, each from several starts.

    Every draw is fitted from the best minimum. From another minimum the draws are fitted in the order of how little it
    loses to the best one under their weights, a block at a time, until a block in which it won nowhere.

    Parameters
    ----------
    problem : Problem
        What is minimised for each draw.
    starts : Array, shape (S, p)
        Distinct local minima of the fit to all rows, best first; MAX_STARTS of them are used.
    multiplicities : Array, shape (B, n)
        How often each row was drawn.

    Returns
    -------
    phi : Array, shape (B, p)
        Working parameters of the best minimum of each draw.
    value : Array, shape (B,)
        Objectives there.
    """
    weights = multiplicities * problem.weights
    best = polish(problem, np.repeat(starts[:1], weights.shape[0], axis=0), weights)
    phi, value, converged = best.phi, best.value, best.converged
    for start in starts[1:MAX_STARTS]:
        there = polish(problem, np.repeat(start[None, :], weights.shape[0], axis=0), weights, max_iterations=0).value
        promising = np.argsort(there - value, kind="stable")
        size = max(LEAST_TRIED, weights.shape[0] // 20)
        for begin in range(0, promising.size, size):
            tried = promising[begin : begin + size]
            other = polish(problem, np.repeat(start[None, :], tried.size, axis=0), weights[tried])
            better = other.value < value[tried] * (1 - 1e-12)
            phi[tried[better]], value[tried[better]] = other.phi[better], other.value[better]
            converged[tried[better]] = other.converged[better]
            if not better.any():
                break
    left = np.flatnonzero(~converged)
    if left.size:  # flat valleys: a draw that stops on the way down makes intervals too narrow
        end = polish(problem, phi[left], weights[left], max_iterations=LONG_WAY)
        phi[left], value[left] = end.phi, end.value
    return _still(problem, phi, starts[0]), value


def _still(problem: Problem, phi: Array, start: Array) -> Array:
    """The draws with exponents that they do not feel where the fit has them.

    The exponent of a term that vanished from a draw is whatever rounding made of it, and changes no prediction.
    """
    exponents = np.flatnonzero([parameter.kind == "exponent" for parameter in problem.law.parameters])
    out, block = phi.copy(), max(1, AT_ONCE // problem.num_rows)
    for begin in range(0, len(phi), block):
        some = phi[begin : begin + block]
        moves = np.abs(problem.scaled_jacobian(some)[1][:, exponents]).max(axis=2, initial=0.0)
        out[begin : begin + block, exponents] = np.where(moves < UNFELT, start[exponents], some[:, exponents])
    return out


def _one_step(problem: Problem, phi: Array, codes: NDArray[np.intp]) -> Array:
    """Change of the estimate for one more copy of each cluster, by one Newton step, shape (G, p)."""
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
    cluster: ArrayLike | None = None,
    strata: ArrayLike | None = None,
) -> Array:
    """How often each row is drawn in bootstrap samples over runs.

    Parameters
    ----------
    num_rows : int
        Rows of the table.
    num_draws : int
        Samples.
    rng : Generator
        The same state and arguments give the same weights, so that approaches that share them are paired.
    cluster : array, shape (num_rows,), optional
        Labels; rows that share one are drawn together (runs of one shared prefix, say).
    strata : array, shape (num_rows,), optional
        Labels; clusters are drawn within each stratum. A cluster belongs to the stratum of its first row.

    Returns
    -------
    Array, shape (num_draws, num_rows)
        Whole numbers; without clusters every row sums to num_rows.
    """
    names = np.arange(num_rows) if cluster is None else _codes(cluster)
    groups, first = np.unique(names, return_index=True)
    layers = np.zeros(groups.size, dtype=int) if strata is None else _codes(strata)[first]
    counts = np.zeros((num_draws, groups.size))
    for layer in np.unique(layers):
        members = np.flatnonzero(layers == layer)
        counts[:, members] = rng.multinomial(members.size, np.full(members.size, 1 / members.size), size=num_draws)
    return np.asarray(counts[:, np.searchsorted(groups, names)])


def _codes(labels: ArrayLike) -> NDArray[np.int64]:
    """Whole numbers for labels of any kind, in order of first appearance."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(str(label), len(seen)) for label in np.asarray(labels)], dtype=np.int64)


def cluster_codes(labels: ArrayLike | None, num_rows: int) -> NDArray[np.intp]:
    """Whole numbers from 0 for cluster labels.

    Parameters
    ----------
    labels : array, shape (n,), or None
        Labels of any kind; None for rows that are drawn one by one.
    num_rows : int
        Rows, where there are no labels.

    Returns
    -------
    array of int, shape (n,)
        Cluster of each row, in the order of the sorted labels.
    """
    if labels is None:
        return np.arange(num_rows)
    _, codes = np.unique(np.asarray([str(label) for label in np.asarray(labels).ravel()]), return_inverse=True)
    return codes.astype(np.intp)
