"""What a scaling law is to the engine: a frozen callable with derivatives, parameters, units and a source.

A law states its formula once, for public parameters and raw inputs (`value`, `jacobian`). The engine fits in *working*
parameters: inputs divided by their geometric means, positive parameters by their logarithm. `Parameter.scales` says how
a parameter carries the units of the inputs, so that the change back is exact and a fit does not depend on those units.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from analysis.arrays import Array, Columns
from analysis.laws.differences import curvature_by_differences
from analysis.laws.parameter import Parameter

LOG_ZERO = -1e6
"""Stands for the logarithm of zero: every power of it is exactly zero, and a product with that power is no NaN."""


@dataclass(frozen=True, kw_only=True)
class Law(abc.ABC):
    """A loss as a function of inputs and parameters.

    Subclasses give `value` and `jacobian`, and may speed up the rest.
    """

    name: str
    """Name on the command line."""
    formula: str
    """The formula in plain text."""
    inputs: tuple[str, ...]
    """Names of the columns it reads (params, tokens, flops, width, depth, ...)."""
    parameters: tuple[Parameter, ...]
    """Free parameters in order."""
    source: str
    """Paper, and equation number where it is known."""
    domain: str = "inputs above zero"
    """Where the law is meant to hold."""
    units: str = "loss in nats per token; params, tokens and flops are counts"
    """Units of inputs and loss."""
    target: str = "loss"
    """Column that is fitted and predicted: loss, or error, optimum, batch, steps where the law is of something else."""
    optional: tuple[str, ...] = ()
    """Inputs that a table may leave out; `prepare` fills them in."""
    zero_inputs: tuple[str, ...] = ()
    """Inputs that may be zero, such as a number of examples."""
    by_default: bool = True
    """Whether a choice among laws offers it unless laws are named."""
    min_starts: int = 1
    """Fewest starts to polish; where the grid has fewer minima, the best of each slice of its first axis are added."""

    @abc.abstractmethod
    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """The loss.

        Parameters
        ----------
        theta : sequence of Array
            Public parameters in order, each of which broadcasts against the rows.
        x : mapping
            Raw inputs by name, each of shape (n,).

        Returns
        -------
        Array, shape (n,), or (B, n) for parameters of shape (B, 1)
            In the unit of the target.
        """

    @abc.abstractmethod
    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """Derivatives of `value`.

        Parameters
        ----------
        theta : sequence of Array
            Public parameters in order.
        x : mapping
            Raw inputs by name, each of shape (n,).

        Returns
        -------
        sequence of Array
            One for each parameter in order, in the shape of `value`.
        """

    # -- laws whose rows depend on other rows -------------------------------------------------------------------------
    def prepare(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Columns as the law takes them.

        Parameters
        ----------
        data : mapping
            Columns of a table by name.

        Returns
        -------
        dict
            The columns, with labels put as numbers and `optional` inputs filled in; most laws take them as they are.
        """
        return dict(data)

    def logs(self, columns: Array) -> Array:
        """Logarithms of inputs (k, n), LOG_ZERO where one is zero."""
        positive = columns > 0
        return np.where(positive, np.log(np.where(positive, columns, 1.0)), LOG_ZERO)

    def features(self, z: Array) -> Array:
        """What `working_value` and its derivatives read.

        The inputs themselves for most laws. A law over a schedule computes the features of a row from all rows of its
        curve; rows can then be left out or drawn on their own.

        Parameters
        ----------
        z : Array, shape (k, n)
            Centred log inputs.

        Returns
        -------
        Array, shape (m, n)
            Features of each row.
        """
        return z

    @property
    def row_by_row(self) -> bool:
        """Whether a row's features are its own inputs alone."""
        return True

    def row_weights(self, x: Mapping[str, Array]) -> Array | None:
        """Weights of rows where none are given.

        Parameters
        ----------
        x : mapping
            Raw inputs of the fitted rows, each of shape (n,).

        Returns
        -------
        Array, shape (n,), or None
            None for rows that count alike.
        """
        return None

    def undetermined(self, features: Array) -> dict[str, str]:
        """Parameters that some rows cannot determine, whatever the losses.

        Parameters
        ----------
        features : Array, shape (m, n)
            Features of the rows.

        Returns
        -------
        dict of str
            Reasons by parameter; empty where the general checks suffice.
        """
        return {}

    @property
    def options(self) -> Mapping[str, int]:
        """What was chosen beside the name, such as the number of breaks: what `get_law(name, **options)` needs."""
        return {}

    @property
    def param_names(self) -> tuple[str, ...]:
        """Names of the parameters in order."""
        return tuple(p.name for p in self.parameters)

    def __call__(self, theta: Mapping[str, float] | ArrayLike, data: Columns) -> Array:
        """The loss at the rows of a table.

        Parameters
        ----------
        theta : mapping, or array, shape (p,)
            Public parameters by name, or in order.
        data : mapping or DataFrame
            Inputs by name, each of shape (n,).

        Returns
        -------
        Array, shape (n,)
            In the unit of the target.
        """
        given = self.prepare(dict(data))
        values = [theta[name] for name in self.param_names] if isinstance(theta, Mapping) else theta
        columns = [np.asarray(v, dtype=np.float64) for v in np.atleast_1d(np.asarray(values, dtype=np.float64))]
        x = {name: np.atleast_1d(np.asarray(given[name], dtype=np.float64)) for name in self.inputs}
        n = len(next(iter(x.values())))
        return np.broadcast_to(self.value(columns, x), (n,)).astype(np.float64)

    # -- working parameters (B, p) at centred log inputs z (k, n) ------------------------------------------------------
    def bounds(self) -> tuple[Array, Array]:
        """Working bounds, two arrays of shape (p,)."""
        pairs = np.array([p.bounds for p in self.parameters], dtype=np.float64)
        return pairs[:, 0], pairs[:, 1]

    def _public_at_unit_scale(self, phi: Array) -> list[Array]:
        return [np.exp(phi[:, [j]]) if p.kind == "amplitude" else phi[:, [j]] for j, p in enumerate(self.parameters)]

    def working_value(self, phi: Array, z: Array) -> Array:
        """The loss for many parameter vectors.

        Parameters
        ----------
        phi : Array, shape (B, p)
            Working parameters.
        z : Array, shape (m, n)
            Features: centred log inputs for most laws.

        Returns
        -------
        Array, shape (B, n)
            In the unit of the target.
        """
        x = dict(zip(self.inputs, np.exp(z), strict=True))
        return np.broadcast_to(self.value(self._public_at_unit_scale(phi), x), (phi.shape[0], z.shape[1]))

    def working_jacobian(self, phi: Array, z: Array) -> tuple[Array, Array]:
        """The loss with its derivatives, for many parameter vectors.

        Parameters
        ----------
        phi : Array, shape (B, p)
            Working parameters.
        z : Array, shape (m, n)
            Features: centred log inputs for most laws.

        Returns
        -------
        value : Array, shape (B, n)
            In the unit of the target.
        jacobian : Array, shape (B, p, n)
            Derivatives by the working parameters.
        """
        theta, x = self._public_at_unit_scale(phi), dict(zip(self.inputs, np.exp(z), strict=True))
        shape = (phi.shape[0], z.shape[1])
        out = np.empty((shape[0], len(self.parameters), shape[1]))
        for j, (p, column) in enumerate(zip(self.parameters, self.jacobian(theta, x), strict=True)):
            out[:, j, :] = column * theta[j] if p.kind == "amplitude" else column
        return np.array(np.broadcast_to(self.value(theta, x), shape)), out

    def working_curvature(self, phi: Array, z: Array, weights: Array, jacobian: Array | None = None) -> Array:
        """Weighted sum over rows of second derivatives; here by central differences.

        Parameters
        ----------
        phi : Array, shape (B, p)
            Working parameters.
        z : Array, shape (m, n)
            Features of the rows.
        weights : Array, shape (B, n)
            Weight of each row.
        jacobian : Array, shape (B, p, n), optional
            What `working_jacobian` gave at the same place, for laws that can use it again.

        Returns
        -------
        Array, shape (B, p, p)
            The sum.
        """
        return curvature_by_differences(lambda moved: self.working_jacobian(moved, z)[1], phi, weights)

    @property
    def curves_cheaply(self) -> bool:
        """Whether second derivatives have a form of their own, and cost no more than first ones."""
        return type(self).working_curvature is not Law.working_curvature

    def _unit_shift(self, j: int, theta_or_phi: Array, log_refs: Array) -> Array:
        shift = np.zeros(theta_or_phi.shape[0])
        for name, power in self.parameters[j].scales:
            ref = log_refs[self.inputs.index(name)]
            shift += ref * (theta_or_phi[:, self.param_names.index(power)] if isinstance(power, str) else power)
        return shift

    def to_public(self, phi: Array, log_refs: Array) -> Array:
        """Public parameters of working ones.

        Parameters
        ----------
        phi : Array, shape (B, p)
            Working parameters.
        log_refs : Array, shape (k,)
            Logarithms of what the inputs were divided by.

        Returns
        -------
        Array, shape (B, p)
            Public parameters, in the units of the table.
        """
        theta = np.array(phi, dtype=np.float64)
        for j, p in enumerate(self.parameters):
            if p.kind == "amplitude":
                theta[:, j] = np.exp(np.clip(phi[:, j] + self._unit_shift(j, phi, log_refs), -700, 700))
        return theta

    def to_working(self, theta: Array, log_refs: Array) -> Array:
        """Working parameters of public ones: the inverse of `to_public`, with its shapes."""
        phi = np.array(theta, dtype=np.float64)
        for j, p in enumerate(self.parameters):
            if p.kind == "amplitude":
                phi[:, j] = np.log(np.maximum(theta[:, j], 1e-300)) - self._unit_shift(j, theta, log_refs)
        return phi

    def canonical(self, phi: Array) -> Array:
        """The same laws (B, p) with their parts in order, where parts can be exchanged (the breaks of a curve)."""
        return phi

    # -- where the search starts -------------------------------------------------------------------------------------
    def grid(self) -> Array:
        """Nonlinear working parameters to search, shape (G, k): the product of the parameters' grids."""
        axes = [np.array(self.parameters[j].grid) for j in self.nonlinear()]
        if not axes:
            return np.zeros((1, 0))
        return np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)

    def grid_for(self, z: Array) -> Array:
        """`grid` for runs at centred log inputs z (k, n); for laws whose starts depend on the range of the data."""
        return self.grid()

    def grid_shape(self) -> tuple[int, ...]:
        """Number of grid values along every nonlinear parameter."""
        return tuple(len(self.parameters[j].grid) for j in self.nonlinear())

    def nonlinear(self) -> tuple[int, ...]:
        """Indices of the parameters that the grid covers."""
        return tuple(j for j, p in enumerate(self.parameters) if p.grid)

    def offset_columns(self) -> tuple[int, ...]:
        """Which columns of `basis` belong to an offset."""
        linear = [p for p in self.parameters if not p.grid]
        return tuple(c for c, p in enumerate(linear) if p.kind == "offset")

    def centred_inputs(self) -> tuple[str, ...]:
        """Inputs that may be divided by their geometric mean without leaving the law's form."""
        return self.inputs

    def shared_units(self) -> Mapping[str, str]:
        """Inputs that are compared with another and therefore divided by the same number: {unique_tokens: tokens}."""
        return {}

    def basis(self, eta: Array, z: Array) -> Array:
        """Columns whose nonnegative combination is the loss.

        By default the loss at unit amplitude and zero offset, one column for each amplitude and offset alone: right
        for every law that is a sum of one term per amplitude. Others override `basis` and `assemble`.

        Parameters
        ----------
        eta : Array, shape (G, k)
            Nonlinear working parameters.
        z : Array, shape (m, n)
            Features of the rows.

        Returns
        -------
        Array, shape (G, q, n)
            q columns for each grid point.
        """
        linear = [j for j, p in enumerate(self.parameters) if not p.grid]
        columns = []
        for j in linear:
            phi = np.full((eta.shape[0], len(self.parameters)), -np.inf)
            phi[:, [i for i, p in enumerate(self.parameters) if p.kind == "offset"]] = 0.0
            phi[:, list(self.nonlinear())] = eta
            phi[:, j] = 1.0 if self.parameters[j].kind == "offset" else 0.0
            columns.append(self.working_value(phi, z))
        return np.stack(columns, axis=1)

    def assemble(self, eta: Array, coefficients: Array) -> Array:
        """Working parameters from nonlinear ones and the coefficients of `basis`.

        Parameters
        ----------
        eta : Array, shape (G, k)
            Nonlinear working parameters.
        coefficients : Array, shape (G, q)
            Of the columns of `basis`.

        Returns
        -------
        Array, shape (G, p)
            Working parameters.
        """
        phi = np.empty((eta.shape[0], len(self.parameters)))
        phi[:, list(self.nonlinear())] = eta
        for c, j in enumerate(j for j, p in enumerate(self.parameters) if not p.grid):
            amplitude = self.parameters[j].kind == "amplitude"
            phi[:, j] = np.log(np.maximum(coefficients[:, c], 1e-12)) if amplitude else coefficients[:, c]
        return phi

    def frontier_exponent(self, theta: Array) -> Array | None:
        """d log N_opt / d log C under C = 6 N D for public parameters (B, p), or None where there is no closed form."""
        return None
