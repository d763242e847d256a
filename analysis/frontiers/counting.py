"""Counting conventions side by side.

The same runs are fitted under each N and each C that a table holds, and the exponent that each implies is given.

Also the local exponent of Pearce and Song 2024: what a law in total parameters says to somebody who counts without
embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.fit_law import fit_law
from analysis.fitting.spec import FitOptions
from analysis.frontiers.parametric import parametric_frontier
from analysis.laws.allocation import FlopsPerToken, ladder
from analysis.runs.conventions import COUNTED, SIX_ND, FlopsConvention

PEARCE_SONG_OMEGA = 47491.0
"""N_total = N + omega N**(1/3): Pearce and Song 2024, arXiv 2406.12907, a fit to the shapes of Hoffmann et al.'s
table A9."""
KAPLAN_SIZES = (7.9e2, 1.6e9)
"""Sizes without embeddings that Kaplan et al. 2020 trained, as Pearce and Song take them."""
SIZE_COLUMNS = ("params", "params_non_embedding", "params_total")
"""Columns that count N."""


def local_exponents(
    theta: Mapping[str, float], params: ArrayLike, *, omega: float = PEARCE_SONG_OMEGA
) -> tuple[Array, Array]:
    """Compute at which each non-embedding N is optimal, and d log N / d log C there, both counted without embeddings.

    The law is Hoffmann's in total parameters N_T = N + omega N**(1/3), and C = 6 N D. Setting dL/dN = 0 at fixed C
    gives C**beta = 6**beta (beta B / alpha A) N**(beta - 1) N_T**(alpha + 1) / (1 + omega / 3 N**(-2/3)), explicit in
    N.

    Parameters
    ----------
    theta : mapping
        A, B, alpha and beta by name.
    params : array, shape (m,)
        N without embeddings.
    omega : float
        Embedding parameters are omega N**(1/3).

    Returns
    -------
    flops, exponents : Array, shape (m,)
        Compute and exponent at each size.
    """
    n = np.atleast_1d(np.asarray(params, dtype=np.float64))
    A, B, alpha, beta = (float(theta[k]) for k in ("A", "B", "alpha", "beta"))
    total = n + omega * np.cbrt(n)
    bend = 1 + omega / 3 * n ** (-2 / 3)
    log_c = (
        np.log(6.0)
        + (np.log(beta * B / (alpha * A)) + (beta - 1) * np.log(n) + (alpha + 1) * np.log(total) - np.log(bend)) / beta
    )
    slope = (beta - 1 + (alpha + 1) * n * bend / total + (2 / 3) * (bend - 1) / bend) / beta
    return np.exp(log_c), 1 / slope


def implied_exponent(
    theta: Mapping[str, float], sizes: tuple[float, float] = KAPLAN_SIZES, *, omega: float = PEARCE_SONG_OMEGA
) -> float:
    """The exponent that a straight line through the non-embedding optima shows, budgets evenly spaced in log C.

    Parameters
    ----------
    theta : mapping
        A, B, alpha and beta by name.
    sizes : (float, float)
        Smallest and largest N without embeddings.
    omega : float
        Embedding parameters are omega N**(1/3).

    Returns
    -------
    float
        The slope of log N on log C.
    """
    n = np.geomspace(*sizes, 4000)
    log_c = np.log(local_exponents(theta, n, omega=omega)[0])
    grid = np.linspace(log_c[0], log_c[-1], 400)
    return float(np.polyfit(grid, np.interp(grid, log_c, np.log(n)), 1)[0])


def side_by_side(
    data: Mapping[str, Any],
    *,
    law: str = "hoffmann",
    flops: Sequence[FlopsConvention] = (SIX_ND, COUNTED),
    **options: Unpack[FitOptions],
) -> list[dict[str, Any]]:
    """Fit `law` once for each N that the table holds and give the frontier's exponents under each C.

    Parameters
    ----------
    data : mapping or DataFrame
        Columns tokens, loss, flops (counted) and two or more of params, params_non_embedding and params_total.
    law : str
        A law of params and tokens.
    flops : sequence of str
        "6ND" (closed form) and "counted" (along the table's own shapes; left out when flops is absent or is 6 N D).
    **options
        Fields of a FitSpec.

    Returns
    -------
    list of dict
        One {"params", "flops", "a", "b", "objective"} for each pair, a and b with intervals.

    Raises
    ------
    UserError
        When the table holds no count of N.
    """
    names = [name for name in SIZE_COLUMNS if name in data]
    if not names:
        raise UserError(
            f"the table counts N in none of {', '.join(SIZE_COLUMNS)}; name one with --columns params=COLUMN"
        )
    rows = []
    for name in names:
        columns = {"params": data[name], "tokens": data["tokens"], "loss": data["loss"]}
        fit = fit_law(law, columns, **options)
        for convention in flops:
            shapes = None
            if convention == COUNTED:
                shapes = table_ladder(data, name)
                if shapes is None:
                    continue
            frontier = parametric_frontier(fit, flops_per_token=shapes, convention=convention)
            a, b = frontier.a.to_dict(), frontier.b.to_dict() if frontier.b else None
            rows.append({"params": name, "flops": convention, "a": a, "b": b, "objective": fit.objective})
    return rows


def table_ladder(data: Mapping[str, Any], name: str) -> FlopsPerToken | None:
    """FLOPs per token along the table's shapes, or None when the table does not count them apart from 6 N."""
    if "flops" not in data:
        return None
    n, per_token = (
        np.asarray(data[name], dtype=float),
        np.asarray(data["flops"], dtype=float) / np.asarray(data["tokens"], dtype=float),
    )
    sizes, where = np.unique(n, return_inverse=True)
    if sizes.size < 2 or np.abs(per_token / (6 * n) - 1).max() < 1e-3:
        return None
    means = np.exp(np.bincount(where, np.log(per_token)) / np.bincount(where))
    rising = np.concatenate([[True], means[1:] > np.maximum.accumulate(means)[:-1]])
    return ladder(sizes[rising], means[rising]) if rising.sum() > 1 else None
