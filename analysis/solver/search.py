"""Point fits: the global minimum of a `Problem`, with its status, its certificate and its conditioning.

Starts of the grid are polished first; then rounds of starts of other kinds, until starts of several kinds agree or the
search says that they do not. It knows nothing of intervals or tables.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.solver.certificate import KINDS, Certificate, Kind
from analysis.solver.newton import Descent, polish
from analysis.solver.problem import Problem
from analysis.solver.scatter import Starts, scattered
from analysis.solver.starts import grid_starts

Status = Literal["converged", "bound_hit", "flat", "max_iterations"]
"""How a search ended: at a minimum; with a parameter at a bound; where some direction is not determined; before it was
done."""
SEARCH_ROWS = 500
"""The grid is searched on at most this many rows, spread evenly over the sorted table; polishing uses all."""
SAME_OPTIMUM = 1e-6
"""Starts whose objectives agree to this fraction count as one optimum."""
COARSE_ITERATIONS = 25
"""Cheap steps that every start is given."""
MAX_FINISHED = 3
"""Starts that are polished to the end."""
FIRST_ITERATIONS = 60
"""Newton steps that the lowest of them are given; the best three may go on."""
ENOUGH = 1e-8
"""Tolerance of further starts: enough to tell whether they end at the same minimum."""
FIRST_ROUND, LATER_ROUNDS = 3, 8
"""Starts of each further kind in the first round, and in later ones."""
POLISHED = 6
"""The lowest starts of a round are polished to the end."""
MAX_ROUNDS = 12
"""Rounds after which a search gives up and says so."""
QUIET_ROUNDS = 4
"""Rounds without a lower minimum that end a search whose first starts disagreed."""
ENOUGH_HITS, ENOUGH_SHARE = 3, 0.5
"""Starts of further kinds that must end at the minimum, and the share of all starts of the first round with which one
round is enough."""
FLAT_CONDITION = 1e12
"""A Hessian, scaled to a unit diagonal, with a condition number above this is flat: some direction is not
determined."""


@dataclass(frozen=True, kw_only=True)
class PointFit:
    """A minimum and how it was reached."""

    phi: Array
    """Working parameters, shape (p,)."""
    value: float
    """Objective, a sum."""
    status: Status
    """How the search ended."""
    bounds_hit: tuple[int, ...]
    """Indices of parameters at a bound."""
    agreement: float
    """Fraction of polished starts, of all kinds, that reached this minimum."""
    condition: float
    """Condition number of the Gauss-Newton Hessian in working parameters scaled to a unit diagonal; inf when
    singular."""
    minima: Array
    """Distinct local minima reached, best first, shape (M, p)."""
    certificate: Certificate
    """Which starts ended here."""


@dataclass
class _Found:
    """Where all polished starts of a search ended."""

    phi: Array
    value: Array
    converged: NDArray[np.bool_]
    kinds: list[Kind] = field(default_factory=list)

    @classmethod
    def nothing(cls, num_params: int) -> _Found:
        """Before the first start."""
        return cls(phi=np.zeros((0, num_params)), value=np.zeros(0), converged=np.zeros(0, dtype=bool))

    def descend(
        self, problem: Problem, starts: Starts, *, most: int, tolerance: float = 1e-11, descent: Descent = "full"
    ) -> None:
        """Polish all starts; for laws with dear derivatives the lowest `most` after cheap steps of all."""
        near, kinds = starts.phi, list(starts.kinds)
        if not problem.law.curves_cheaply:
            coarse = polish(problem, near, max_iterations=COARSE_ITERATIONS, tolerance=1e-7, descent="coarse")
            order = np.argsort(coarse.value, kind="stable")
            order = order[np.isfinite(coarse.value[order])][:most]
            near, kinds = coarse.phi[order], [starts.kinds[i] for i in order]
        if not len(near):
            return
        solution = polish(problem, near, max_iterations=FIRST_ITERATIONS, tolerance=tolerance, descent=descent)
        self.phi = np.concatenate([self.phi, solution.phi])
        self.value = np.concatenate([self.value, solution.value])
        self.converged = np.concatenate([self.converged, solution.converged])
        self.kinds += kinds

    def finish(self, problem: Problem, max_iterations: int) -> None:
        """Go on with the best three where they have not converged."""
        left = [i for i in _distinct(self.phi, self.value)[:MAX_FINISHED] if not self.converged[i]]
        if left:
            longer = polish(problem, self.phi[left], max_iterations=max_iterations)
            self.phi[left], self.value[left], self.converged[left] = longer.phi, longer.value, longer.converged

    def sharpen(self, problem: Problem, before: float) -> None:
        """Polish a minimum that lies below `before` to the last digit."""
        best = int(np.argmin(self.value))
        if self.value[best] < before:
            sharp = polish(problem, self.phi[[best]], max_iterations=FIRST_ITERATIONS)
            self.phi[best], self.value[best] = sharp.phi[0], sharp.value[0]
            self.converged[best] |= sharp.converged[0]

    @property
    def least(self) -> float:
        """The lowest objective."""
        return float(self.value.min())

    def reached(self, tiny: float) -> NDArray[np.bool_]:
        """Which starts ended at the lowest objective."""
        return np.asarray(self.value <= self.least * (1 + SAME_OPTIMUM) + tiny)


def solve(problem: Problem, *, keep: int = 8, max_iterations: int = 600, also: Array | None = None) -> PointFit:
    """The global minimum, by starts of several kinds until they agree.

    Parameters
    ----------
    problem : Problem
        What is minimised.
    keep : int
        Most local minima of the grid to start from.
    max_iterations : int
        Most Newton steps for the best starts.
    also : Array, shape (S, p), optional
        Further starts, such as points of a profile that lie lower than an earlier minimum.

    Returns
    -------
    PointFit
        The lowest minimum found, with its status and certificate.

    Raises
    ------
    UserError
        When the law gives no finite prediction anywhere on its grid.
    """
    search = problem.rows(_evenly_spaced(problem)) if problem.num_rows > 2 * SEARCH_ROWS else problem
    found = _Found.nothing(problem.num_params)
    starts, _ = grid_starts(search, keep=keep)
    if len(starts):
        of_grid: list[Kind] = ["grid"] * len(starts)
        found.descend(search, Starts(phi=starts, kinds=of_grid), most=len(starts))
    if also is not None:
        of_profile: list[Kind] = ["profile"] * len(also)
        found.descend(search, Starts(phi=also, kinds=of_profile), most=len(also))
    if not found.value.size:
        raise UserError(
            f"{problem.law.name} gives no finite prediction anywhere on its grid; check the units of the columns"
        )
    found.finish(search, max_iterations)
    certificate = _certify(search, found, max_iterations)
    if search is not problem:
        best = _distinct(found.phi, found.value)[:MAX_FINISHED]
        solution = polish(problem, found.phi[best], max_iterations=FIRST_ITERATIONS)
        found = _Found(phi=solution.phi, value=solution.value, converged=solution.converged)
        found.finish(problem, max_iterations)
    return _point(problem, found, certificate)


def _certify(problem: Problem, found: _Found, max_iterations: int) -> Certificate:
    """Rounds of starts of further kinds until they agree with the lowest minimum, or are given up."""
    rng = np.random.default_rng(0)
    tiny = 1e-18 * float(problem.weights.sum())
    of_grid, quiet, rounds, agreed = found.least, 0, 0, False
    while not agreed and rounds < MAX_ROUNDS:
        rounds += 1
        before = found.least
        minima = found.phi[_distinct(found.phi, found.value)]
        size = FIRST_ROUND if rounds == 1 else LATER_ROUNDS
        descent: Descent = "graduated" if rounds == 1 else "full"
        found.descend(problem, scattered(problem, minima, size, rng), most=POLISHED, tolerance=ENOUGH, descent=descent)
        found.finish(problem, max_iterations)
        found.sharpen(problem, before)
        lowered = found.least < before * (1 - SAME_OPTIMUM) - tiny
        quiet = 0 if lowered else quiet + 1
        reached = found.reached(tiny)
        kinds = {kind for kind, hit in zip(found.kinds, reached, strict=True) if hit}
        hits = sum(hit and kind != "grid" for kind, hit in zip(found.kinds, reached, strict=True))
        enough = len(kinds) > 1 and hits >= ENOUGH_HITS
        agreed = enough and (quiet >= QUIET_ROUNDS or (rounds == 1 and quiet > 0 and reached.mean() >= ENOUGH_SHARE))
    reached = found.reached(tiny)
    above = found.value[~reached & np.isfinite(found.value)]
    return Certificate(
        verdict="agreed" if agreed else "disagreed",
        starts={kind: found.kinds.count(kind) for kind in KINDS},
        reached={
            kind: sum(k == kind and bool(hit) for k, hit in zip(found.kinds, reached, strict=True)) for kind in KINDS
        },
        rounds=rounds,
        lowered_by=max(1 - found.least / of_grid, 0.0) if of_grid > 0 else 0.0,
        next_basin=float(above.min() / found.least - 1) if above.size and found.least > 0 else None,
    )


def _point(problem: Problem, found: _Found, certificate: Certificate) -> PointFit:
    """The best of what was found, with what it says of itself."""
    found.phi[:] = problem.law.canonical(found.phi)
    order = _distinct(found.phi, found.value)
    top = int(order[0])
    phi = found.phi[top]
    hit = bounds_hit(problem, phi)
    condition = condition_number(problem, phi)
    status: Status = "converged"
    if not found.converged[top]:
        status = "max_iterations"
    elif hit:
        status = "bound_hit"
    elif condition > FLAT_CONDITION or problem.num_rows <= problem.num_params:
        status = "flat"
    starts = sum(certificate.starts.values())
    return PointFit(
        phi=phi,
        value=float(found.value[top]),
        status=status,
        bounds_hit=hit,
        agreement=sum(certificate.reached.values()) / starts,
        condition=condition,
        minima=found.phi[order],
        certificate=certificate,
    )


def bounds_hit(problem: Problem, phi: Array) -> tuple[int, ...]:
    """Which parameters sit at a working bound.

    Parameters
    ----------
    problem : Problem
        With the bounds.
    phi : Array, shape (p,)
        Working parameters.

    Returns
    -------
    tuple of int
        Indices of the parameters.
    """
    span = np.where(np.isfinite(problem.upper - problem.lower), problem.upper - problem.lower, problem.steps)
    at = (phi - problem.lower <= 1e-9 * span) | (problem.upper - phi <= 1e-9 * span)
    return tuple(int(j) for j in np.flatnonzero(at))


def condition_number(problem: Problem, phi: Array) -> float:
    """Condition number of the Gauss-Newton Hessian J^T W J, scaled to a unit diagonal.

    Parameters
    ----------
    problem : Problem
        With rows and weights.
    phi : Array, shape (p,)
        Working parameters.

    Returns
    -------
    float
        Infinite when the Hessian is singular.
    """
    _, J, _ = problem.scaled_jacobian(phi[None, :])
    gram = (J[0] * problem.weights) @ J[0].T
    scale = np.sqrt(np.maximum(np.diag(gram), 0.0))
    if not (scale > 0).all() or not np.isfinite(gram).all():
        return float("inf")
    eigenvalues = np.linalg.eigvalsh(gram / np.outer(scale, scale))
    return float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > 0 else float("inf")


def _evenly_spaced(problem: Problem) -> NDArray[np.intp]:
    """About SEARCH_ROWS rows, evenly spaced in the table sorted by inputs and loss.

    They are the same rows in whatever order the table came.
    """
    order = np.lexsort((problem.weights, problem.y, *problem.z[::-1]))
    return np.asarray(np.sort(order[np.linspace(0, order.size - 1, SEARCH_ROWS).astype(int)]))


def _distinct(phi: Array, value: Array) -> NDArray[np.intp]:
    """Starts in order of their objective, without those that ended where a better one did."""
    order = np.argsort(value, kind="stable")
    kept: list[int] = []
    for i in order:
        if np.isfinite(value[i]) and all(
            np.abs(phi[i] - phi[j]).max() > 1e-4 * (1 + np.abs(phi[j]).max()) for j in kept
        ):
            kept.append(int(i))
    return np.array(kept or [int(order[0])])
