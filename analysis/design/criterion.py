"""What a design of runs is worth: the squared error of a target's prediction, and its cost in FLOPs.

Owns the criterion, and the cost and the correlated noise of runs that share a trunk. It must not know laws, shapes or
fits, nor how designs are found: it sees gradients, costs and counts.

The criterion is the mean over scenarios s (a law at one draw of its parameters) of log (V_s + b_s^2): V_s = t' M_s^-1 t
with the information M_s = M0_s + sum of g g' over the runs is the variance of the target's prediction (V-optimality),
and b_s its bias when another law holds (Box and Draper 1959). Averaging over what is not known is that of Chaloner and
Larntz 1989.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array

Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """How far another law lies from the scenario's own, in units of one run's noise; zero where none is doubted."""

    cells: Array
    """Other law less own one at every cell, shape (S, n)."""
    target: Array
    """The same at the target, shape (S,)."""
    pull: Array
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
    group: NDArray[np.intp]
    """Size of each cell, whole numbers from 0, shape (n,): cells of one size and seed may share a trunk."""
    budget: float
    """FLOPs that may be spent."""
    doubt: Doubt | None = None
    """Other laws that may hold; None: none."""
    max_replicates: int = 1
    """Most seeds of one cell."""
    max_runs: int | None = None
    """Most runs; None: as many as the budget pays for."""
    decay_fraction: float | None = None
    """Part of a run that decays where runs share trunks; None: every run is trained on its own."""
    correlation: float = 0.0
    """Share of the noise's variance that the runs of one trunk have in common."""

    def cost(self, counts: Counts) -> float:
        """FLOPs of a design: without sharing the sum over runs; with it, for each size and seed, the stable part of
        its longest run once, and every run's decay."""
        if self.decay_fraction is None:
            return float((self.tokens * self.flops_per_token) @ counts)
        total = 0.0
        for trunk in self.trunks(counts):
            spent = (1 - self.decay_fraction) * self.tokens[trunk].max()
            spent += self.decay_fraction * self.tokens[trunk].sum()
            total += float(spent * self.flops_per_token[trunk[0]])
        return total

    def trunks(self, counts: Counts) -> list[NDArray[np.intp]]:
        """Cells of every trunk: seed k of a size trains the cells that are wanted more than k times."""
        out = []
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
        for trunk in self.trunks(counts):
            g = self.gradients[:, trunk]
            common = g.sum(axis=1)
            inner = gram(g, np.ones(trunk.size)) - self.taken(trunk.size) * common[:, :, None] * common[:, None, :]
            total += inner / (1 - self.correlation)
        return total

    def taken(self, num: float | Array) -> Array:
        """rho / (1 - rho + rho m): what the inverse of a trunk's covariance (1 - rho) I + rho 11' takes off."""
        return np.asarray(self.correlation / (1 - self.correlation + self.correlation * np.asarray(num)))

    def trusting(self) -> Experiment:
        """The experiment without doubt: scenarios that differ in nothing else are one."""
        _, first, member = np.unique(self.target, axis=0, return_index=True, return_inverse=True)
        return replace(
            self,
            gradients=self.gradients[first],
            target=self.target[first],
            information=self.information[first],
            weights=np.asarray(np.bincount(member.ravel(), weights=self.weights), dtype=np.float64),
            doubt=None,
        )

    def variances(self, counts: Counts) -> Array:
        """V_s of a design, shape (S,)."""
        return np.asarray((self.target * self._solved(counts)).sum(axis=1))

    def _solved(self, counts: Counts) -> Array:
        """M^-1 t, shape (S, p)."""
        return np.asarray(np.linalg.solve(self.informations(counts), self.target[:, :, None])[:, :, 0])

    def pulls(self, counts: Counts) -> Array:
        """Sum over all runs of g times the other law's difference, weighed as the runs are, shape (S, p)."""
        if self.doubt is None:
            return np.zeros_like(self.target)
        if not self.correlation:
            return np.asarray(self.doubt.pull + np.einsum("snp,sn->sp", self.gradients, self.doubt.cells * counts))
        total = self.doubt.pull.copy()
        for trunk in self.trunks(counts):
            g, d = self.gradients[:, trunk], self.doubt.cells[:, trunk]
            common = self.taken(trunk.size) * g.sum(axis=1) * d.sum(axis=1)[:, None]
            total += (np.einsum("snp,sn->sp", g, d) - common) / (1 - self.correlation)
        return total

    def biases(self, counts: Counts) -> Array:
        """b_s of a design, shape (S,): the target as fitted to the other law's values, less the other law's target."""
        if self.doubt is None:
            return np.zeros(self.target.shape[0])
        return np.asarray((self._solved(counts) * self.pulls(counts)).sum(axis=1) - self.doubt.target)

    def criterion(self, counts: Counts) -> float:
        """Mean log squared error of a design; less is better."""
        return float(self.weights @ np.log(self.variances(counts) + self.biases(counts) ** 2))

    def criteria(self, designs: Array) -> Array:
        """The criterion of many designs of independent runs at once: counts (K, n) to values (K,)."""
        scenarios, cells, p = self.gradients.shape
        outer = self.gradients[:, :, :, None] * self.gradients[:, :, None, :]
        added = designs @ outer.transpose(1, 0, 2, 3).reshape(cells, scenarios * p * p)
        m = self.information + added.reshape(len(designs), scenarios, p, p)
        u = np.linalg.solve(m, np.broadcast_to(self.target[:, :, None], (len(designs), scenarios, p, 1)))[..., 0]
        squares = (self.target * u).sum(axis=2)
        if self.doubt is not None:
            each = (self.gradients * self.doubt.cells[:, :, None]).transpose(1, 0, 2).reshape(cells, scenarios * p)
            pull = self.doubt.pull + (designs @ each).reshape(len(designs), scenarios, p)
            squares = squares + ((u * pull).sum(axis=2) - self.doubt.target) ** 2
        return np.asarray(np.log(squares) @ self.weights)


def gram(rows: Array, weights: Array) -> Array:
    """Sum over rows of w g g', shape (S, p, p), for rows (S, n, p) and weights (n,)."""
    return np.asarray(np.matmul((rows * weights[:, None]).transpose(0, 2, 1), rows))
