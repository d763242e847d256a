"""Starts beside those of the grid: between its points, along profiles, and hops away from minima found so far.

The same numbers for every law, in its working units; drawn by a generator that the search seeds, so that a fit is a
function of its table alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.solver.certificate import Kind
from analysis.solver.newton import polish
from analysis.solver.problem import Problem
from analysis.solver.starts import projected

BEYOND = 0.15
"""How far beyond the ends of the grid starts are drawn, as a fraction of its width."""
HOPS = (0.1, 0.5, 2.0)
"""Standard deviations of hops: of logarithms and exponents, and of offsets in typical losses."""
PROFILE_REACH = 3.0
"""How far a parameter is moved along its profile at most, in the same unit."""
FEW_STEPS = 8
"""Steps of the other parameters while one is held."""


@dataclass(frozen=True, kw_only=True)
class Starts:
    """Places to descend from."""

    phi: Array
    """Working parameters, shape (S, p)."""
    kinds: Sequence[Kind]
    """Where each came from."""


def scattered(problem: Problem, minima: Array, size: int, rng: np.random.Generator) -> Starts:
    """Starts of three kinds, about `size` of each.

    Parameters
    ----------
    problem : Problem
        What is minimised.
    minima : Array, shape (M, p)
        Minima found so far, best first.
    size : int
        Starts of each kind.
    rng : numpy Generator
        Draws them.

    Returns
    -------
    Starts
        Within the working bounds.
    """
    parts: list[tuple[Kind, Array]] = [
        ("between", between(problem, size, rng)),
        ("profile", profile_points(problem, minima[0], size, rng)),
        ("hop", hops(problem, minima, size, rng)),
    ]
    phi = np.concatenate([part for _, part in parts])
    kinds = [kind for kind, part in parts for _ in range(len(part))]
    return Starts(phi=np.clip(phi, problem.lower, problem.upper), kinds=kinds)


def between(problem: Problem, size: int, rng: np.random.Generator) -> Array:
    """Random points of the grid's box (size, p), amplitudes and offset solved for."""
    grid = problem.law.grid_for(problem.z)
    if not grid.shape[1]:
        return np.zeros((0, problem.num_params))
    low, high = grid.min(axis=0), grid.max(axis=0)
    eta = low - BEYOND * (high - low) + (1 + 2 * BEYOND) * (high - low) * rng.random((size, low.size))
    lower, upper = (bound[list(problem.law.nonlinear())] for bound in (problem.lower, problem.upper))
    if lower.size == low.size:
        eta = np.clip(eta, lower, upper)
    phi, value = projected(problem, eta)
    phi = phi[np.isfinite(value)]
    loose = rng.random(len(phi)) < 0.5  # parameters that the grid leaves alone move too
    return np.asarray(phi + loose[:, None] * 0.5 * problem.steps * rng.standard_normal(phi.shape))


def profile_points(problem: Problem, best: Array, size: int, rng: np.random.Generator) -> Array:
    """`best` with one parameter moved, after a few steps of the others with it held: (size, p)."""
    moved = rng.permutation(np.resize(np.arange(best.size), max(size, best.size)))[:size]
    phi = np.repeat(best[None, :], size, axis=0)
    reach = PROFILE_REACH * problem.steps[moved] * rng.uniform(-1, 1, size)
    exponents = np.array([problem.law.parameters[j].kind == "exponent" for j in moved])
    at = phi[np.arange(size), moved]
    phi[np.arange(size), moved] = np.where(exponents & (at > 0), at * np.exp(reach / 2), at + reach)
    phi = np.clip(phi, problem.lower, problem.upper)
    held = np.zeros(phi.shape, dtype=bool)
    held[np.arange(size), moved] = True
    return polish(problem, phi, max_iterations=FEW_STEPS, fixed=held, descent="coarse").phi


def hops(problem: Problem, minima: Array, size: int, rng: np.random.Generator) -> Array:
    """Random steps away from the minima found so far, the best one as often as all others: (size, p)."""
    chosen = np.where(rng.random(size) < 0.5, 0, rng.integers(0, len(minima), size))
    lengths = rng.choice(HOPS, size)[:, None] * np.minimum(problem.steps, 0.5 * (problem.upper - problem.lower))
    return np.asarray(minima[chosen] + lengths * rng.standard_normal((size, minima.shape[1])))
