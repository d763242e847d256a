"""What a design of runs is worth: the squared error of a target's prediction, and its cost in FLOPs.

It owns the criterion, and the cost and the correlated noise of runs that share a prefix of their training. It sees
gradients, costs and counts, and must not know laws, shapes or fits, nor how designs are found.

The criterion is the mean over scenarios s (a law at one draw of its parameters) of log (V_s + b_s^2). With the
information M_s = M0_s + sum of g g' over the runs, V_s = t' M_s^-1 t is the variance of the target's prediction
(V-optimality), and b_s its bias when another law holds (Box and Draper 1959). Averaging over what is not known is that
of Chaloner and Larntz 1989.

Shapes: S scenarios, n cells, p parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array

Counts = NDArray[np.int64]
"""How often each cell is run, shape (n,)."""
Cells = NDArray[np.intp]
"""Indices of cells."""


@dataclass(frozen=True, kw_only=True)
class Discrepancy:
    """How far another law lies from the scenario's own, in units of one run's noise.

    It is zero in scenarios whose own law holds.
    """

    cells: Array
    """Other law less own one at every cell, shape (S, n)."""
    target: Array
    """The same at the target, shape (S,)."""
    moment: Array
    """Sum of g times the difference over the existing runs, shape (S, p)."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Cells that may be run, what each says about the target, and what may be spent."""

    gradients: Array
    """d log L / d phi over the noise, by scenario and cell, shape (S, n, p)."""
    target: Array
    """Gradient of the target, shape (S, p)."""
    information: Array
    """M0 of the runs that exist, shape (S, p, p)."""
    weights: Array
    """Weight of each scenario, shape (S,), adding up to one."""
    tokens: Array
    """D of each cell, shape (n,)."""
    flops_per_token: Array
    """Training FLOPs per token of each cell's size, shape (n,)."""
    group: Cells
    """Size of each cell, whole numbers from 0, shape (n,): cells of one size and seed may share a prefix."""
    budget: float
    """FLOPs that may be spent."""
    discrepancy: Discrepancy | None = None
    """Of other laws that may hold; None when none may."""
    max_replicates: int = 1
    """Most seeds of one cell."""
    max_runs: int | None = None
    """Most runs; None: as many as the budget pays for."""
    decay_fraction: float | None = None
    """Part of a run that decays where runs share prefixes; None: every run is trained on its own."""
    correlation: float = 0.0
    """Share of the noise's variance that runs of one prefix have in common."""

    @property
    def flops(self) -> Array:
        """Training FLOPs of one run of each cell on its own, shape (n,)."""
        return self.tokens * self.flops_per_token

    def cost(self, counts: Counts) -> float:
        """FLOPs of a design.

        Parameters
        ----------
        counts : array of int, shape (n,)
            The design.

        Returns
        -------
        float
            Without sharing the sum over runs; with it, for each size and seed, the stable part of its longest run
            once, and every run's decay.
        """
        if self.decay_fraction is None:
            return float(self.flops @ counts)
        total = 0.0
        for cells in self.prefixes(counts):
            spent = (1 - self.decay_fraction) * self.tokens[cells].max()
            spent += self.decay_fraction * self.tokens[cells].sum()
            total += float(spent * self.flops_per_token[cells[0]])
        return total

    def prefixes(self, counts: Counts) -> list[Cells]:
        """Cells of every shared prefix: seed k of a size trains the cells that are wanted more than k times."""
        out: list[Cells] = []
        for size in np.unique(self.group[counts > 0]):
            cells = np.flatnonzero((self.group == size) & (counts > 0))
            out += [cells[counts[cells] > seed] for seed in range(int(counts[cells].max()))]
        return out

    def informations(self, counts: Counts) -> Array:
        """M of a design, shape (S, p, p)."""
        if not self.correlation:
            chosen = np.flatnonzero(counts)
            return self.information + gram(self.gradients[:, chosen], counts[chosen].astype(float))
        total = self.information.copy()
        for cells in self.prefixes(counts):
            g = self.gradients[:, cells]
            common = g.sum(axis=1)
            inner = gram(g, np.ones(cells.size))
            inner = inner - self.common_part(cells.size) * common[:, :, None] * common[:, None, :]
            total += inner / (1 - self.correlation)
        return total

    def common_part(self, num: float | Array) -> Array:
        """rho / (1 - rho + rho m): what the inverse of the covariance (1 - rho) I + rho 11' of m runs takes off."""
        return np.asarray(self.correlation / (1 - self.correlation + self.correlation * np.asarray(num)))

    def well_specified(self) -> Experiment:
        """The experiment when every law holds where it predicts: scenarios that differ in nothing else are one."""
        _, first, member = np.unique(self.target, axis=0, return_index=True, return_inverse=True)
        return replace(
            self,
            gradients=self.gradients[first],
            target=self.target[first],
            information=self.information[first],
            weights=np.asarray(np.bincount(member.ravel(), weights=self.weights), dtype=np.float64),
            discrepancy=None,
        )

    def variances(self, counts: Counts) -> Array:
        """V_s of a design, shape (S,)."""
        return np.asarray((self.target * self._solved(counts)).sum(axis=1))

    def _solved(self, counts: Counts) -> Array:
        """M^-1 t, shape (S, p)."""
        return np.asarray(np.linalg.solve(self.informations(counts), self.target[:, :, None])[:, :, 0])

    def moments(self, counts: Counts) -> Array:
        """Sum over all runs of g times the other law's difference, weighed as the runs are, shape (S, p)."""
        if self.discrepancy is None:
            return np.zeros_like(self.target)
        start, differences = self.discrepancy.moment, self.discrepancy.cells
        if not self.correlation:
            return np.asarray(start + np.einsum("snp,sn->sp", self.gradients, differences * counts))
        total = start.copy()
        for cells in self.prefixes(counts):
            g, d = self.gradients[:, cells], differences[:, cells]
            common = self.common_part(cells.size) * g.sum(axis=1) * d.sum(axis=1)[:, None]
            total += (np.einsum("snp,sn->sp", g, d) - common) / (1 - self.correlation)
        return total

    def biases(self, counts: Counts) -> Array:
        """b_s of a design, shape (S,): the target as fitted to the other law's values, less the other law's target."""
        if self.discrepancy is None:
            return np.zeros(self.target.shape[0])
        return np.asarray((self._solved(counts) * self.moments(counts)).sum(axis=1) - self.discrepancy.target)

    def criterion(self, counts: Counts) -> float:
        """Mean log squared error of a design; less is better."""
        return float(self.weights @ np.log(self.variances(counts) + self.biases(counts) ** 2))

    def criteria(self, designs: Array) -> Array:
        """The criterion of many designs of independent runs at once.

        Parameters
        ----------
        designs : Array, shape (K, n)
            Counts.

        Returns
        -------
        Array, shape (K,)
            Their criteria.
        """
        scenarios, cells, p = self.gradients.shape
        outer = self.gradients[:, :, :, None] * self.gradients[:, :, None, :]
        added = designs @ outer.transpose(1, 0, 2, 3).reshape(cells, scenarios * p * p)
        m = self.information + added.reshape(len(designs), scenarios, p, p)
        u = np.linalg.solve(m, np.broadcast_to(self.target[:, :, None], (len(designs), scenarios, p, 1)))[..., 0]
        squares = (self.target * u).sum(axis=2)
        if self.discrepancy is not None:
            each = self.gradients * self.discrepancy.cells[:, :, None]
            each = each.transpose(1, 0, 2).reshape(cells, scenarios * p)
            moment = self.discrepancy.moment + (designs @ each).reshape(len(designs), scenarios, p)
            squares = squares + ((u * moment).sum(axis=2) - self.discrepancy.target) ** 2
        return np.asarray(np.log(squares) @ self.weights)


def gram(rows: Array, weights: Array) -> Array:
    """Sum over rows of w g g'.

    Parameters
    ----------
    rows : Array, shape (S, n, p)
        g.
    weights : Array, shape (n,)
        w.

    Returns
    -------
    Array, shape (S, p, p)
        The sums.
    """
    return np.asarray(np.matmul((rows * weights[:, None]).transpose(0, 2, 1), rows))
