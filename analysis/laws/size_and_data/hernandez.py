"""Transfer (Hernandez et al. 2021): pretraining is worth D_T = k D_F**alpha N**beta tokens of the fine-tuning data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter
from analysis.laws.size_and_data.kaplan import BALANCE
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT

FROM_SCRATCH = 1e-300
"""What a 0 in the column `pretrained` is read as, since inputs are fitted by their logarithms."""


@dataclass(frozen=True, kw_only=True)
class Hernandez(Law):
    """L = ((N_c / N)**(alpha_N / alpha_D) + D_c / D_E)**alpha_D, D_E = D_F + D_T for pretrained models.

    The loss is Kaplan's at the effective data D_E = D_F + k D_F**alpha N**beta; a model trained from scratch on the
    same data (`pretrained` 0) has D_E = D_F. Both kinds of run are fitted together: those from scratch say what data
    are worth, the others how much was transferred.
    """

    def effective_data(self, theta: Sequence[Array], x: Mapping[str, Array]) -> tuple[Array, Array]:
        """What the fine-tuning data and the pretraining are worth together.

        Parameters
        ----------
        theta : sequence of Array
            Public parameters in order.
        x : mapping
            Raw inputs by name.

        Returns
        -------
        effective, transferred : Array
            D_E and D_T, in tokens of the fine-tuning data.
        """
        k, alpha, beta = theta[4:]
        transferred = x["pretrained"] * k * x["finetune_tokens"] ** alpha * x["params"] ** beta
        return x["finetune_tokens"] + transferred, transferred

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Kaplan's law at the effective data."""
        alpha_n, alpha_d, n_c, d_c = theta[:4]
        effective, _ = self.effective_data(theta, x)
        return ((n_c / x["params"]) ** (alpha_n / alpha_d) + d_c / effective) ** alpha_d

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By alpha_N, alpha_D, N_c, D_c, k, alpha and beta."""
        alpha_n, alpha_d, n_c, d_c, k = theta[:5]
        effective, transferred = self.effective_data(theta, x)
        ratio, log_size = alpha_n / alpha_d, np.log(n_c / x["params"])
        size, data = np.exp(ratio * log_size), d_c / effective
        total = size + data
        loss = total**alpha_d
        slope = alpha_d * loss / total
        by_log_k = -slope * data * transferred / effective
        return [
            slope * size * log_size / alpha_d,
            loss * np.log(total) - slope * size * log_size * ratio / alpha_d,
            slope * size * ratio / n_c,
            slope * data / d_c,
            by_log_k / k,
            by_log_k * np.log(x["finetune_tokens"]),
            by_log_k * np.log(x["params"]),
        ]

    def prepare(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Without the column `pretrained` all runs are; 0 is read as FROM_SCRATCH."""
        given = dict(data)
        if "pretrained" in given:
            column = np.asarray(given["pretrained"])
            if np.issubdtype(column.dtype, np.number) or column.dtype == bool:
                given["pretrained"] = np.where(column == 0, FROM_SCRATCH, column.astype(np.float64))
        elif "params" in given:
            given["pretrained"] = np.ones(np.shape(given["params"]))
        return given

    def centred_inputs(self) -> tuple[str, ...]:
        """Not `pretrained`, which is 0 or 1."""
        return ("params", "finetune_tokens")

    def undetermined(self, features: Array) -> dict[str, str]:
        """The parameters of the transfer where no run is pretrained."""
        if bool((features[2] > np.log(0.5)).any()):
            return {}
        reason = "no run is pretrained; give pretrained runs, or fit kaplan"
        return dict.fromkeys(("k", "alpha", "beta"), reason)

    def _unit_shift(self, j: int, theta_or_phi: Array, log_refs: Array) -> Array:
        """k carries tokens**(1 - alpha) / params**beta."""
        if self.parameters[j].name != "k":
            return super()._unit_shift(j, theta_or_phi, log_refs)
        return np.asarray((1 - theta_or_phi[:, 5]) * log_refs[1] - theta_or_phi[:, 6] * log_refs[0])

    def grid(self) -> Array:
        """alpha_N, alpha_D, the balance of the two terms, k, alpha and beta."""
        axes = (
            [self.parameters[j].grid for j in (0, 1)] + [BALANCE[1::2]] + [self.parameters[j].grid for j in (4, 5, 6)]
        )
        return np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)

    def grid_shape(self) -> tuple[int, ...]:
        """As `grid`."""
        axes = (
            [self.parameters[j].grid for j in (0, 1)] + [BALANCE[1::2]] + [self.parameters[j].grid for j in (4, 5, 6)]
        )
        return tuple(len(axis) for axis in axes)

    def offset_columns(self) -> tuple[int, ...]:
        """None: the one column is an amplitude."""
        return ()

    def basis(self, eta: Array, z: Array) -> Array:
        """One column: the law with D_c at the middle of the data."""
        alpha_n, alpha_d, balance, log_k, alpha, beta = (eta[:, [j]] for j in range(6))
        effective = np.logaddexp(z[1], z[2] + log_k + alpha * z[1] + beta * z[0])
        column = alpha_d * np.logaddexp(balance - alpha_n / alpha_d * z[0], -effective)
        return np.asarray(np.exp(column)[:, None, :])

    def assemble(self, eta: Array, coefficients: Array) -> Array:
        """D_c from the amplitude, N_c from the balance."""
        alpha_n, alpha_d, balance, log_k, alpha, beta = eta.T
        log_d = np.log(np.maximum(coefficients[:, 0], 1e-12)) / alpha_d
        log_n = (balance + log_d) * alpha_d / alpha_n
        return np.stack([alpha_n, alpha_d, log_n, log_d, log_k, alpha, beta], axis=1)


def _exponent(name: str, meaning: str, grid: tuple[float, ...], lower: float = MIN_EXPONENT) -> Parameter:
    return Parameter(name=name, kind="exponent", meaning=meaning, lower=lower, upper=MAX_EXPONENT, grid=grid)


def _scale(name: str, of: str) -> Parameter:
    return Parameter(
        name=name, kind="amplitude", meaning=f"scale of {of}", scales=((of, 1.0),), lower=-400.0, upper=400.0
    )


HERNANDEZ = Hernandez(
    name="hernandez",
    formula="L = ((N_c / params)**(alpha_N / alpha_D) + D_c / D_E)**alpha_D, "
    "D_E = finetune_tokens + pretrained * k * finetune_tokens**alpha * params**beta",
    inputs=("params", "finetune_tokens", "pretrained"),
    optional=("pretrained",),
    parameters=(
        _exponent("alpha_N", "exponent of the loss in params at infinite data", (0.03, 0.08, 0.2, 0.5)),
        _exponent("alpha_D", "exponent of the loss in finetune_tokens from scratch", (0.03, 0.08, 0.2, 0.5)),
        _scale("N_c", "params"),
        _scale("D_c", "finetune_tokens"),
        Parameter(
            name="k",
            kind="amplitude",
            meaning="transfer: tokens**(1 - alpha) per params**beta",
            lower=-200.0,
            upper=200.0,
            grid=tuple(float(v) for v in np.log([0.3, 3.0, 30.0])),
        ),
        _exponent("alpha", "exponent of finetune_tokens in the data transferred", (0.1, 0.4, 0.8), -1.0),
        _exponent("beta", "exponent of params in the data transferred", (0.1, 0.4, 0.8), -1.0),
    ),
    source="Hernandez et al. 2021, arXiv 2102.01293; the loss from scratch is Kaplan et al.'s, arXiv 2001.08361",
    domain="runs from scratch and pretrained ones on the same fine-tuning data; params without embeddings; no "
    "irreducible loss",
    units="loss in nats per token of the fine-tuning data; pretrained is 1, or 0 from scratch",
)
