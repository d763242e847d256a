"""The compute-optimal loss of one arm in closed form, and the compute at which it reaches a given loss.

A law of N and D with FLOPs per token that grow as a power of N has a frontier whose reducible loss is a power of
compute. A law of compute is its own frontier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.paired.joint import JointLaw

SAME_TOKENS = 0.01
"""Runs whose log D differs by less have one number of tokens."""


@dataclass(frozen=True, kw_only=True)
class ArmFrontier:
    """The frontier of one arm for any parameters of the joint law."""

    law: JointLaw
    """The joint law."""
    arm: int
    """Which of its arms."""
    centre: Array
    """Means of the log inputs that were taken from them, shape (k,)."""
    cost: tuple[float, float]
    """(k, t): FLOPs per token are exp(k) N**t, from the arm's runs; unused for laws of compute."""
    tokens_line: tuple[float, float] | None
    """log D = first + second log C along the arm's runs, for laws of compute; None where tokens are not known or do not
    vary."""
    largest: float
    """log of the arm's largest fitted compute."""

    @property
    def has_tokens(self) -> bool:
        """Whether tokens are known."""
        return self.law.form == "surface" or self.tokens_line is not None

    def _local(self, theta: Array) -> Array:
        return theta[:, self.law.slots(self.arm)]

    def floor(self, theta: Array) -> Array:
        """Irreducible loss, shape (B, 1)."""
        if self.law.form == "power":
            return np.zeros((theta.shape[0], 1))
        return np.exp(self._local(theta)[:, :1])

    def exponent(self, theta: Array) -> Array:
        """Exponent of the reducible loss in compute, shape (B,): alpha beta / (alpha + t beta) for a law of N and D."""
        local = self._local(theta)
        if self.law.form != "surface":
            return local[:, -1]
        alpha, beta = local[:, 2], local[:, 4]
        return alpha * beta / (alpha + self.cost[1] * beta)

    def _log_size(self, theta: Array, log_c: Array) -> Array:
        """log N at the optimum: alpha A N**-alpha = t beta B D**-beta with D = C exp(-k) N**-t."""
        local, (k, t) = self._local(theta), self.cost
        alpha, beta = local[:, [2]], local[:, [4]]
        log_a = local[:, [1]] + alpha * self.centre[0]
        log_b = local[:, [3]] + beta * self.centre[1]
        return np.asarray((np.log(alpha / (t * beta)) + log_a - log_b + beta * (log_c - k)) / (alpha + t * beta))

    def log_reducible(self, theta: Array, log_c: Array) -> Array:
        """Logarithm of the loss above the floor at the optimum.

        Parameters
        ----------
        theta : Array, shape (B, P)
            Parameters of all arms.
        log_c : Array, shape (m,) or (B, m)
            Logarithm of each budget.

        Returns
        -------
        Array, shape (B, m)
            Logarithms of the reducible loss.
        """
        local = self._local(theta)
        if self.law.form != "surface":
            return np.asarray(local[:, [-2]] - local[:, [-1]] * (log_c - self.centre[0]))
        log_n = self._log_size(theta, log_c)
        log_d = log_c - self.cost[0] - self.cost[1] * log_n
        first = local[:, [1]] - local[:, [2]] * (log_n - self.centre[0])
        second = local[:, [3]] - local[:, [4]] * (log_d - self.centre[1])
        return np.asarray(np.logaddexp(first, second))

    def log_loss(self, theta: Array, log_c: Array) -> Array:
        """Logarithm of the loss at the optimum.

        Parameters
        ----------
        theta : Array, shape (B, P)
            Parameters of all arms.
        log_c : Array, shape (m,) or (B, m)
            Logarithm of each budget.

        Returns
        -------
        Array, shape (B, m)
            Log losses.
        """
        return np.log(self.floor(theta) + np.exp(self.log_reducible(theta, log_c)))

    def log_compute_for(self, theta: Array, log_loss: Array) -> Array:
        """Logarithm of the compute at which the frontier reaches a loss.

        Parameters
        ----------
        theta : Array, shape (B, P)
            Parameters of all arms.
        log_loss : Array, shape (B, m)
            Log losses.

        Returns
        -------
        Array, shape (B, m)
            Logarithms of compute; infinite where the floor lies above the loss.
        """
        excess = np.exp(log_loss) - self.floor(theta)
        at = np.array([self.largest])
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = np.where(excess > 0, np.log(np.maximum(excess, 1e-300)), -np.inf)
        return at - (wanted - self.log_reducible(theta, at)) / self.exponent(theta)[:, None]

    def log_tokens(self, theta: Array, log_c: Array) -> Array:
        """Logarithm of the tokens at the optimum.

        Parameters
        ----------
        theta : Array, shape (B, P)
            Parameters of all arms.
        log_c : Array, shape (m,) or (B, m)
            Logarithm of each budget.

        Returns
        -------
        Array, shape (B, m)
            Logarithms of tokens; NaN where tokens are not known.
        """
        if self.law.form == "surface":
            with np.errstate(invalid="ignore"):  # an infinite budget stays without tokens
                return log_c - self.cost[0] - self.cost[1] * self._log_size(theta, log_c)
        first, second = self.tokens_line or (np.nan, np.nan)
        return first + second * log_c


def arm_frontiers(
    law: JointLaw, columns: Mapping[str, Any], rows: Sequence[NDArray[np.intp]]
) -> tuple[ArmFrontier, ...]:
    """The frontier of every arm, with the cost of a token and the tokens of a budget as its runs have them.

    Parameters
    ----------
    law : JointLaw
        The law of all arms.
    columns : mapping
        flops, and params and tokens where they are known.
    rows : sequence of array of int
        Rows of each arm.

    Returns
    -------
    tuple of ArmFrontier
        One for each arm.
    """
    log_c = np.log(np.asarray(columns["flops"], dtype=np.float64))
    names = ("params", "tokens") if law.form == "surface" else ("flops",)
    centre = np.array([np.log(np.asarray(columns[name], dtype=np.float64)).mean() for name in names])
    out = []
    for arm, members in enumerate(rows):
        cost, line = (0.0, 1.0), None
        if "tokens" in columns:
            log_d = np.log(np.asarray(columns["tokens"], dtype=np.float64)[members])
            if law.form == "surface":
                log_n = np.log(np.asarray(columns["params"], dtype=np.float64)[members])
                cost = _line(log_n, log_c[members] - log_d)
            elif np.ptp(log_d) > SAME_TOKENS:
                line = _line(log_c[members], log_d)
        out.append(
            ArmFrontier(
                law=law, arm=arm, centre=centre, cost=cost, tokens_line=line, largest=float(log_c[members].max())
            )
        )
    return tuple(out)


def _line(x: Array, y: Array) -> tuple[float, float]:
    """Intercept and slope of a least-squares line."""
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / max(float(np.square(x - x.mean()).sum()), 1e-300))
    return float(y.mean() - slope * x.mean()), slope
