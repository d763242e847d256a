"""The optimum of a budget under a law of params and tokens: N, D and loss, and the exponents a and b.

It must not know how a law was fitted, or how its intervals are made.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.laws.base import Law
from analysis.univariate import minimum

FlopsPerToken = Callable[[Array], Array]
"""Training FLOPs per token of a model with N parameters, along the ladder; 6 N is the usual rule."""
SIZES = (1e3, 1e15)
"""Smallest and largest N that is looked at."""
MIN_SPAN = 0.5
"""Least distance in log C between the two budgets of a slope."""
GOLDEN_STEPS = 52
"""Golden-section steps between them: to 4e-10 in log N."""


def six_n(params: Array) -> Array:
    """C = 6 N D."""
    return 6.0 * params


def ladder(params: ArrayLike, flops_per_token: ArrayLike) -> FlopsPerToken:
    """FLOPs per token between the shapes of a ladder: straight lines in the logarithms, continued at both ends.

    Parameters
    ----------
    params : array, shape (m,)
        N of each shape, ascending, at least two.
    flops_per_token : array, shape (m,)
        Counted training FLOPs per token of each shape, ascending.

    Returns
    -------
    callable
        N -> training FLOPs per token.

    Raises
    ------
    UserError
        When there are fewer than two shapes, or they do not ascend.
    """
    x, y = np.log(np.asarray(params, dtype=np.float64)), np.log(np.asarray(flops_per_token, dtype=np.float64))
    if x.size < 2 or x.size != y.size or not ((np.diff(x) > 0).all() and (np.diff(y) > 0).all()):
        raise UserError("a ladder needs two shapes or more, with params and FLOPs per token both ascending")

    def at(n: Array) -> Array:
        log_n = np.log(n)
        inside = np.interp(log_n, x, y)
        below = np.minimum(log_n - x[0], 0.0) * (y[1] - y[0]) / (x[1] - x[0])
        above = np.maximum(log_n - x[-1], 0.0) * (y[-1] - y[-2]) / (x[-1] - x[-2])
        return np.asarray(np.exp(inside + below + above))

    return at


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # far from the data a loss may be infinite
def optimum(
    law: Law, theta: Array, log_flops: Array, flops_per_token: FlopsPerToken = six_n
) -> tuple[Array, Array, Array]:
    """The optimum of each budget under a law, by golden section in log N.

    Parameters
    ----------
    law : Law
        A law of params and tokens.
    theta : Array, shape (B, p)
        Public parameters of each draw.
    log_flops : Array, shape (m,) or (B, m)
        log C; two dimensions when every draw has budgets of its own.
    flops_per_token : callable
        N -> training FLOPs per token; 6 N by default.

    Returns
    -------
    log_n, log_d, loss : Array, shape (B, m)
        Size, tokens and loss at the optimum.
    """
    columns = [theta[:, [j]] for j in range(theta.shape[1])]
    shape = np.broadcast_shapes((theta.shape[0], 1), log_flops.shape)

    def at(log_n: Array) -> tuple[Array, Array]:
        params = np.exp(log_n)
        log_d = log_flops - np.log(flops_per_token(params))
        loss = law.value(columns, {"params": params, "tokens": np.exp(log_d)})
        return log_d, np.broadcast_to(np.where(np.isnan(loss), np.inf, loss), shape)

    ends = (np.full(shape, np.log(size)) for size in SIZES)
    middle = minimum(lambda log_n: at(log_n)[1], *ends, steps=GOLDEN_STEPS)
    log_d, loss = at(middle)
    return middle, log_d, np.array(loss)


def exponents(
    law: Law, theta: Array, log_flops: tuple[float, float], flops_per_token: FlopsPerToken | None = None
) -> tuple[Array, Array]:
    """The exponents of the frontier, in closed form or as the slope between two budgets.

    Parameters
    ----------
    law : Law
        A law of params and tokens.
    theta : Array, shape (B, p)
        Public parameters of each draw.
    log_flops : (float, float)
        log C of the two budgets; those less than MIN_SPAN apart are moved apart.
    flops_per_token : callable, optional
        N -> training FLOPs per token; None for 6 N, where a law may have a closed form.

    Returns
    -------
    a, b : Array, shape (B,)
        d log N_opt / d log C and d log D_opt / d log C.
    """
    closed = law.frontier_exponent(theta) if flops_per_token is None else None
    if closed is not None:
        return closed, 1.0 - closed
    first, last = log_flops
    if last - first < MIN_SPAN:
        first, last = 0.5 * (first + last - MIN_SPAN), 0.5 * (first + last + MIN_SPAN)
    log_n, log_d, _ = optimum(law, theta, np.array([first, last]), flops_per_token or six_n)
    return (log_n[:, 1] - log_n[:, 0]) / (last - first), (log_d[:, 1] - log_d[:, 0]) / (last - first)


def supports_frontier(law: Law) -> bool:
    """Whether the law is a loss of params and tokens alone."""
    return law.target == "loss" and set(law.inputs) == {"params", "tokens"}
