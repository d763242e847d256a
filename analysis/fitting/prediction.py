"""Losses at new inputs with a confidence band of the law and a prediction interval of one more run.

Owns what predictions need from a fit (working parameters, draws or covariance, residuals) and nothing of how it was
fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.laws.base import Law
from analysis.uncertainty.calibration import Calibration

Interval = Literal["both", "confidence", "prediction", "none"]
"""Intervals of the law, of one new run, both or neither."""
INTERVALS: tuple[Interval, ...] = get_args(Interval)
KEPT_RESIDUALS = 400
"""Residuals carried for prediction intervals: evenly spaced order statistics of them when there are more."""
CHUNK = 2_000_000
"""Most (draw, row) pairs evaluated at once."""


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """Everything predictions are made of."""

    phi: Array
    """Working parameters, shape (p,)."""
    log_refs: Array
    """Mean log input, shape (k,)."""
    covariance: Array
    """Covariance of the working parameters, shape (p, p)."""
    calibration: Calibration
    """What turns spread into intervals."""
    log_residuals: bool
    """Whether residuals are of log losses."""
    residuals: Array
    """Sorted residuals, scaled up for the parameters fitted."""
    draws: Array | None = None
    """Working parameters of the bootstrap draws, shape (B, p)."""
    region: Array | None = None
    """Working parameters on the profiles of all parameters, shape (m, p), where draws mislead: parameters and what
    follows from them have intervals by these (see `analysis.uncertainty.region`)."""
    reason: str | None = None
    """Why predictions have no interval (fewer runs than parameters, say); None when they have one."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Law's input -> the column that was used for it (x -> flops)."""

    @property
    def level(self) -> float:
        """Nominal coverage."""
        return self.calibration.level

    @np.errstate(over="ignore", invalid="ignore")
    def predict(self, law: Law, x: Mapping[str, Array], interval: Interval = "both") -> dict[str, Array]:
        """Columns of `Fit.predict`.

        Parameters
        ----------
        law : Law
            The law.
        x : mapping
            Its inputs, checked, each of shape (n,).
        interval : {"both", "confidence", "prediction", "none"}
            Which intervals are wanted.

        Returns
        -------
        dict
            The target and the ends of the intervals, each of shape (n,); NaN where there is no interval.

        Raises
        ------
        UserError
            When `interval` is none of these.
        """
        if interval not in INTERVALS:
            raise UserError(f"interval is both, confidence, prediction or none, not {interval!r}")
        z = self._features(law, x)
        centre = law.working_value(self.phi[None, :], z)[0]
        out = {law.target: np.array(centre)}
        if interval == "none":
            return out
        names = ("confidence_lo", "confidence_hi", "prediction_lo", "prediction_hi")
        wanted = [j for j, name in enumerate(names) if interval in ("both", name.split("_")[0])]
        if self.reason is not None:
            return out | {names[j]: np.full(centre.size, np.nan) for j in wanted}
        size = max(1, CHUNK // (1 if self.draws is None else self.draws.shape[0]))
        ends = [self._ends(law, z[:, s : s + size], centre[s : s + size]) for s in range(0, z.shape[1], size)]
        return out | {names[j]: np.concatenate([e[j] for e in ends]) for j in wanted}

    def _features(self, law: Law, x: Mapping[str, Array]) -> Array:
        shape = np.broadcast_shapes(*[v.shape for v in x.values()])
        z = law.logs(np.stack([np.broadcast_to(x[n], shape) for n in law.inputs]))
        return law.features(z - self.log_refs[:, None])

    def sample(self, law: Law, x: Mapping[str, Array], num: int, *, rng: np.random.Generator) -> tuple[Array, Array]:
        """What the law may say at given inputs, and one new run of each draw.

        Parameters
        ----------
        law : Law
            The law.
        x : mapping
            Its inputs, each of shape (n,).
        num : int
            How many draws.
        rng : Generator
            What draws them.

        Returns
        -------
        expected, new : Array, shape (num, n)
            The law's values, and the same with a residual added.
        """
        z = self._features(law, x)
        phi = self.parameters(law, num, rng)
        middle = self._scale(law.working_value(self.phi[None, :], z))
        deviations = np.empty((num, z.shape[1]))
        size = max(1, CHUNK // z.shape[1])
        for s in range(0, num, size):
            deviations[s : s + size] = self._scale(law.working_value(phi[s : s + size], z)) - middle
        return self._scattered(middle + self.calibration.inflation * deviations, rng)

    def sample_at(self, law: Law, x: Mapping[str, Array], *, rng: np.random.Generator) -> tuple[Array, Array]:
        """The same as `sample` where the inputs themselves were drawn.

        Parameters
        ----------
        law : Law
            The law.
        x : mapping
            Its inputs, each of shape (num, n); one draw of the law is made for each of num.
        rng : Generator
            What draws the law.

        Returns
        -------
        expected, new : Array, shape (num, n)
            The law's values, and the same with a residual added.
        """
        num = next(iter(x.values())).shape[0]
        public = law.to_public(np.concatenate([self.phi[None, :], self.parameters(law, num, rng)]), self.log_refs)
        middle = self._scale(law.value([public[:1, [j]] for j in range(public.shape[1])], x))
        drawn = self._scale(law.value([public[1:, [j]] for j in range(public.shape[1])], x))
        return self._scattered(middle + self.calibration.inflation * (drawn - middle), rng)

    def parameters(self, law: Law, num: int, rng: np.random.Generator) -> Array:
        """Working parameters that the fit leaves possible.

        Parameters
        ----------
        law : Law
            The law, for its bounds.
        num : int
            How many draws.
        rng : Generator
            What draws them.

        Returns
        -------
        Array, shape (num, p)
            Bootstrap draws, every one as often as every other; without these Student's draws of the covariance.
        """
        if self.draws is not None:
            return np.asarray(self.draws[rng.permutation(np.resize(np.arange(self.draws.shape[0]), num))])
        dof = self.calibration.dof
        eigenvalues, vectors = np.linalg.eigh(self.covariance)
        normal = rng.standard_normal((num, eigenvalues.size)) * np.sqrt(np.maximum(eigenvalues, 0.0))
        scale = np.sqrt(self.calibration.units / dof) / np.sqrt(rng.chisquare(dof, (num, 1)) / dof)
        return np.asarray(np.clip(self.phi + scale * (normal @ vectors.T), *law.bounds()))

    def _scattered(self, expected: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draws on the scale of the residuals, back in the unit of the target, without and with a residual added."""
        new = expected + rng.choice(self.residuals, expected.shape)
        return (np.exp(expected), np.exp(new)) if self.log_residuals else (expected, new)

    def _scale(self, value: Array) -> Array:
        if not self.log_residuals:
            return value
        return np.asarray(np.log(np.maximum(value, 1e-300)))

    def _ends(self, law: Law, z: Array, centre: Array) -> tuple[Array, Array, Array, Array]:
        middle = self._scale(centre)
        tails = [(1 - self.level) / 2, (1 + self.level) / 2]
        if self.draws is not None:
            deviations = self.calibration.inflation * (self._scale(law.working_value(self.draws, z)) - middle)
            confidence = np.quantile(deviations, tails, axis=0)
        else:
            J = law.working_jacobian(self.phi[None, :], z)[1][0]
            se = np.sqrt(np.maximum(np.einsum("pn,pq,qn->n", J, self.covariance, J), 0.0))
            se = se / np.maximum(centre, 1e-300) if self.log_residuals else se
            half = self.calibration.half_width(se)
            confidence = np.stack([-half, half])
            points = (np.arange(99) + 0.5) / 99
            deviations = self.calibration.quantiles(points)[:, None] * se
        prediction = np.stack([self._with_noise(deviations[:, j], tails) for j in range(deviations.shape[1])], axis=1)
        ends = (*(middle + confidence), *(middle + prediction))
        done = [np.exp(e) if self.log_residuals else e for e in ends]
        return done[0], done[1], done[2], done[3]

    def _with_noise(self, deviations: Array, tails: list[float]) -> Array:
        """Quantiles of a deviation of the law plus a residual, over every pair of thinned deviations and residuals."""
        order = np.sort(deviations)
        thin = order[np.linspace(0, order.size - 1, min(order.size, 300)).round().astype(int)]
        return np.asarray(np.quantile(thin[:, None] + self.residuals[None, :], tails))

    def to_dict(self) -> dict[str, Any]:
        """JSON without the draws."""
        return {
            "phi": self.phi.tolist(),
            "log_refs": self.log_refs.tolist(),
            "covariance": self.covariance.tolist(),
            "units": self.calibration.units,
            "num_params": self.calibration.num_params,
            "level": self.calibration.level,
            "stretch": self.calibration.inflation,
            "log_residuals": self.log_residuals,
            "residuals": self.residuals.tolist(),
            **({} if self.region is None else {"region": self.region.tolist()}),
            "reason": self.reason,
            "aliases": dict(self.aliases),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], *, draws: Array | None = None) -> Predictor:
        """The inverse of `to_dict`.

        Parameters
        ----------
        raw : mapping
            The JSON object.
        draws : Array, shape (B, p), optional
            Working parameters of the bootstrap draws, which the object does not hold.

        Returns
        -------
        Predictor
            As it was.
        """
        return cls(
            phi=np.array(raw["phi"], dtype=np.float64),
            log_refs=np.array(raw["log_refs"], dtype=np.float64),
            covariance=np.array(raw["covariance"], dtype=np.float64),
            calibration=Calibration(
                units=raw["units"], num_params=raw["num_params"], level=raw["level"], inflation=raw["stretch"]
            ),
            log_residuals=raw["log_residuals"],
            residuals=np.array(raw["residuals"], dtype=np.float64),
            draws=draws,
            region=None if raw.get("region") is None else np.array(raw["region"], dtype=np.float64),
            reason=raw["reason"],
            aliases=raw["aliases"],
        )


def kept_residuals(residuals: Array, num_params: int) -> Array:
    """The residuals that prediction intervals are made of.

    Parameters
    ----------
    residuals : Array, shape (n,)
        Residuals of the fit.
    num_params : int
        Free parameters.

    Returns
    -------
    Array
        Residuals times sqrt(n / (n - p)), sorted and thinned to KEPT_RESIDUALS.
    """
    n = residuals.size
    scaled = np.sort(residuals) * np.sqrt(n / max(n - num_params, 1))
    if n > KEPT_RESIDUALS:
        scaled = scaled[np.linspace(0, n - 1, KEPT_RESIDUALS).round().astype(int)]
    return np.asarray(scaled)
