"""The difference of two runs on the same documents, with its interval."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from analysis.errors import UserError
from analysis.estimate import Estimate


def paired_difference(sums_a: ArrayLike, sums_b: ArrayLike, counts: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Loss of run a minus loss of run b on the same validation documents, with an interval clustered by document.

    The ratio estimator on differences: d = sum (a_j - b_j) / sum c_j, se^2 = n / (n - 1) sum (a_j - b_j - d c_j)^2 /
    (sum c_j)^2 (Cochran 1977, section 6.4), with Student's t of n - 1 degrees of freedom. Documents that are hard for
    both runs cancel, so that this is much narrower than the difference of two independent errors.

    Parameters
    ----------
    sums_a : array, shape (n,)
        Nats per document of run a.
    sums_b : array, shape (n,)
        Nats per document of run b.
    counts : array, shape (n,)
        Tokens per document, the same for both.
    level : float
        Coverage of the interval.

    Returns
    -------
    Estimate
        The difference in nats per token, with its interval and standard error.

    Raises
    ------
    UserError
        When the documents differ in number, or fewer than two are given.
    """
    a, b, c = (np.asarray(values, dtype=np.float64) for values in (sums_a, sums_b, counts))
    if not a.shape == b.shape == c.shape or a.ndim != 1:
        raise UserError(
            f"runs are compared on the same documents, but these have {a.size}, {b.size} and {c.size}; "
            "compare runs of one corpus, split and tokenizer"
        )
    num = int((c > 0).sum())
    if num < 2:
        raise UserError(
            f"{num} validation document gives no interval; use a corpus with two held-out documents or more"
        )
    difference = float((a - b).sum() / c.sum())
    residuals = a - b - difference * c
    se = math.sqrt(num / (num - 1) * float((residuals**2).sum())) / float(c.sum())
    reach = float(stats.t.ppf((1 + level) / 2, num - 1)) * se
    return Estimate(value=difference, lo=difference - reach, hi=difference + reach, se=se)
