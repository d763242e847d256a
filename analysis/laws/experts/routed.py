"""Routed models (Clark et al. 2022): a power of size whose exponent changes with a number of experts that saturates.

ln L = d + a ln(params) + b ln(R) + c ln(params) ln(R) with 1 / R = 1 / (experts - 1 + 1 / (1 / start - 1 / max)) + 1 /
max: R runs from start at one expert to max at very many. What identifies it: sizes and numbers of experts that vary
apart; start needs dense models among them, and max numbers of experts at which more do not help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter


@dataclass(frozen=True, kw_only=True)
class Routed(Law):
    """L = exp(d) params**a R**(b + c ln params); start = 1 + rise and max = start + span, so that one < start < max."""

    def centred_inputs(self) -> tuple[str, ...]:
        """Params only: one expert must stay one."""
        return ("params",)

    def _experts(self, rise: Array, span: Array, experts: Array) -> tuple[Array, Array, Array]:
        """ln R and its derivatives by rise and span."""
        start = 1 + rise
        top = start + span
        least = start * top / span
        sum_of = experts - 1 + least
        inverse = 1 / sum_of + 1 / top
        by_least, by_top = 1 / sum_of**2 / inverse, 1 / top**2 / inverse
        least_by_rise = (top + start) / span
        least_by_span = -start * top / span**2 + start / span
        return -np.log(inverse), by_least * least_by_rise + by_top, by_least * least_by_span + by_top

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Loss."""
        K, a, b, c, rise, span = theta
        log_r = self._experts(rise, span, x["experts"])[0]
        log_n = np.log(x["params"])
        return np.asarray(K * np.exp(-a * log_n - b * log_r + c * log_n * log_r))

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By K, a, b, c, rise and span."""
        K, _, b, c, rise, span = theta
        log_r, by_rise, by_span = self._experts(rise, span, x["experts"])
        log_n = np.log(x["params"])
        loss = self.value(theta, x)
        pull = loss * (c * log_n - b)
        return [loss / K, -loss * log_n, -loss * log_r, loss * log_n * log_r, pull * by_rise, pull * by_span]

    def to_public(self, phi: Array, log_refs: Array) -> Array:
        """b and K at one parameter from those at the middle size."""
        theta = super().to_public(phi, np.zeros_like(log_refs))
        place = log_refs[0]
        theta[:, 0] = np.exp(np.clip(phi[:, 0] + phi[:, 1] * place, -700, 700))
        theta[:, 2] = phi[:, 2] + phi[:, 3] * place
        return theta

    def to_working(self, theta: Array, log_refs: Array) -> Array:
        """The inverse of `to_public`."""
        phi = super().to_working(theta, np.zeros_like(log_refs))
        place = log_refs[0]
        phi[:, 0] = np.log(np.maximum(theta[:, 0], 1e-300)) - theta[:, 1] * place
        phi[:, 2] = theta[:, 2] - theta[:, 3] * place
        return phi


MOE_ROUTED = Routed(
    name="moe-routed",
    formula="L = K * params**-a * R**-(b - c * ln(params)), 1 / R = 1 / (experts - 1 + 1 / (1 / start - 1 / max)) "
    "+ 1 / max, start = 1 + rise, max = start + span",
    inputs=("params", "experts"),
    parameters=(
        Parameter(name="K", kind="amplitude", meaning="loss of one parameter and one expert, loss times params**a"),
        Parameter(
            name="a", kind="exponent", meaning="exponent of params", lower=1e-3, upper=3.0, grid=(0.03, 0.08, 0.2)
        ),
        Parameter(
            name="b",
            kind="real",
            meaning="exponent of the effective number of experts at one parameter",
            lower=-6.0,
            upper=6.0,
            grid=(0.02, 0.06),
        ),
        Parameter(
            name="c",
            kind="real",
            meaning="what that exponent loses for a factor of e in params",
            lower=-1.0,
            upper=1.0,
            grid=(0.0,),
        ),
        Parameter(
            name="rise",
            kind="amplitude",
            meaning="effective experts of a dense model, less one",
            lower=-8.0,
            upper=4.0,
            grid=(-2.0, 0.5),
        ),
        Parameter(
            name="span",
            kind="amplitude",
            meaning="most effective experts, less those of a dense model",
            lower=0.0,
            upper=14.0,
            grid=(4.0, 7.0),
        ),
    ),
    source="Clark et al. 2022, arXiv 2202.01169, equation 1",
    domain="one amount of data; params are those of the dense part, experts is one for a dense model",
    units="loss in nats per token; params and experts are counts",
)
