"""Sizes that can be trained: a ladder of widths and depths with counted parameters and training FLOPs per token.

It owns which shapes are offered: widths that heads divide, and depths that follow the shapes already trained, those of
a template, or the Chinchilla ladder. It must not know laws or designs; of a fit it reads how compute was counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.frontiers.flops_per_token import Shapes
from analysis.frontiers.frontier import fit_line
from analysis.laws.allocation import FlopsPerToken, ladder, six_n
from models.config.accounting import params_fit, training_flops
from models.config.transformer import TransformerConfig

Convention = Literal["6ND", "counted", "as given"]
"""How the compute of a ladder is counted: 6 N D, matrix products shape by shape, or by the ratio to 6 N D of runs."""
CHINCHILLA_ENDS = ((512, 8), (5120, 47))
"""(width, depth) of the smallest and largest model of Hoffmann et al. 2022, table A9: between them depth grows as
width^0.77."""
MAX_WIDTH = 1 << 17
"""Widths beyond this are not looked at."""
SPACING = 1.02
"""Least factor in N between one size and the next."""
MIN_WHOLE_HEADS = 4
"""Below this many heads, widths go in steps of FINE_STEP instead of whole heads."""
FINE_STEP = 4
"""Step of small widths."""

EVERY_SIZE = (1e2, 1e13)
"""Sizes among which advice looks for the best one."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """One size that can be trained."""

    width: int
    """d_model."""
    depth: int
    """Layers."""
    num_heads: int
    """Attention heads."""
    params: float
    """N: non-embedding parameters plus an untied head."""
    flops_per_token: float
    """Training FLOPs per token, in the convention of the ladder."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {name: getattr(self, name) for name in ("width", "depth", "num_heads", "params", "flops_per_token")}


@dataclass(frozen=True, kw_only=True)
class ShapeRules:
    """What fixes a model apart from its width and depth."""

    vocab_size: int = 32_768
    """Token ids."""
    context: int = 2048
    """Tokens in a sequence."""
    head_width: int = 64
    """Width of one head; a model has width / head_width heads, at least one."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of TransformerConfig."""
    trained: Sequence[tuple[int, int]] = CHINCHILLA_ENDS
    """(width, depth) of the shapes that depth follows."""
    source: str = "defaults: Chinchilla's depths, 32,768 tokens, context 2,048"
    """Where these rules come from, for the output."""

    def depth(self, width: float) -> int:
        """Layers at a width.

        Parameters
        ----------
        width : float
            d_model.

        Returns
        -------
        int
            By a power law through `trained`; by their common ratio where they have one width.
        """
        widths, depths = (np.log(np.array(side, dtype=float)) for side in zip(*self.trained, strict=True))
        intercept, slope = fit_line(widths, depths)
        if not np.isfinite(slope):
            intercept, slope = float((depths - widths).mean()), 1.0
        return max(1, round(float(np.exp(intercept + slope * np.log(width)))))

    def config(self, width: int, depth: int) -> TransformerConfig:
        """The model of a shape.

        Parameters
        ----------
        width : int
            Size of the residual stream.
        depth : int
            Number of blocks.

        Returns
        -------
        TransformerConfig
            As it would be trained.

        Raises
        ------
        UserError
            When the other fields do not allow any.
        """
        try:
            return TransformerConfig(
                width=width,
                depth=depth,
                num_heads=self.heads(width),
                vocab_size=self.vocab_size,
                context=self.context,
                **self.model,
            )
        except (ValueError, TypeError) as error:
            raise UserError(f"no model of width {width} and depth {depth} can be built: {error}") from error

    def heads(self, width: int) -> int:
        """Attention heads at a width: the rule of sweeps."""
        return max(1, width // self.head_width)

    def widths(self) -> list[int]:
        """Widths that heads divide into even parts, ascending."""
        small = range(2 * FINE_STEP, MIN_WHOLE_HEADS * self.head_width, FINE_STEP)
        large = range(MIN_WHOLE_HEADS * self.head_width, MAX_WIDTH, self.head_width)
        return [w for w in (*small, *large) if w % self.heads(w) == 0 and (w // self.heads(w)) % 2 == 0]


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Sizes in ascending order, all counted in one convention."""

    sizes: tuple[Size, ...]
    """At least one."""
    convention: Convention
    """How their compute is counted."""
    source: str
    """Where shapes and counts come from, for the output."""

    @property
    def params(self) -> Array:
        """N of every size."""
        return np.array([size.params for size in self.sizes])

    @property
    def per_token(self) -> FlopsPerToken:
        """N -> training FLOPs per token, between the sizes."""
        if self.convention == "6ND":
            return six_n
        return ladder(self.params, [size.flops_per_token for size in self.sizes])

    def between(self, low: float, high: float, num: int) -> tuple[Size, ...]:
        """Some of the sizes.

        Parameters
        ----------
        low : float
            Smallest N.
        high : float
            Largest N.
        num : int
            Most sizes.

        Returns
        -------
        tuple of Size
            Evenly spread in log N.
        """
        inside = [size for size in self.sizes if _is_between(size, low, high)]
        if len(inside) <= num:
            return tuple(inside)
        logs = np.log([size.params for size in inside])
        nearest = [int(np.abs(logs - goal).argmin()) for goal in np.linspace(logs[0], logs[-1], num)]
        return tuple(inside[index] for index in dict.fromkeys(nearest))


def _is_between(size: Size, low: float, high: float) -> bool:
    return low * (1 - 1e-9) <= size.params <= high * (1 + 1e-9)


def make_ladder(
    rules: ShapeRules, low: float, high: float, *, convention: Convention, ratio: FlopsPerToken | None = None
) -> Ladder:
    """Sizes with N between two numbers, and the next one beyond either end.

    Parameters
    ----------
    rules : ShapeRules
        What fixes a model apart from width and depth.
    low : float
        Smallest N.
    high : float
        Largest N.
    convention : "6ND", "counted" or "as given"
        How compute is counted; "as given" needs `ratio`.
    ratio : callable, optional
        N -> training FLOPs per token, for "as given".

    Returns
    -------
    Ladder
        Ascending in N and in FLOPs per token.

    Raises
    ------
    UserError
        When no shape lies in the range.
    """
    sizes: list[Size] = []
    for width in rules.widths():
        size = _size(rules, width, convention, ratio)
        if sizes and (size.params < SPACING * sizes[-1].params or size.flops_per_token <= sizes[-1].flops_per_token):
            continue
        if size.params < low and sizes:
            sizes[-1] = size
            continue
        sizes.append(size)
        if size.params > high:
            break
    if not any(_is_between(size, low, high) for size in sizes):
        raise UserError(
            f"no shape has between {low:.3g} and {high:.3g} parameters; the nearest has {sizes[-1].params:.3g}: widen "
            "--min-params and --max-params, or give --template with a smaller head_width"
        )
    return Ladder(sizes=tuple(sizes), convention=convention, source=rules.source)


def _size(rules: ShapeRules, width: int, convention: Convention, ratio: FlopsPerToken | None) -> Size:
    """The size of one width, counted."""
    depth = rules.depth(width)
    model = rules.config(width, depth)
    params = float(params_fit(model))
    if convention == "counted":
        per_token = training_flops(model, tokens=1, context=rules.context)
    else:
        per_token = 6.0 * params if ratio is None else float(ratio(np.array([params]))[0])
    return Size(width=width, depth=depth, num_heads=rules.heads(width), params=params, flops_per_token=per_token)


def build_ladder(fit: Fit, rules: ShapeRules, low: float, high: float, *, from_config: bool) -> Ladder:
    """The ladder for advice from a fit, counted as the fit's own compute was.

    Parameters
    ----------
    fit : Fit
        With its conventions, and its runs where they were kept.
    rules : ShapeRules
        What fixes a model apart from width and depth.
    low : float
        Smallest N.
    high : float
        Largest N.
    from_config : bool
        Whether `rules` say all that counting needs. Otherwise counted FLOPs follow the ratio of the fit's runs.

    Returns
    -------
    Ladder
        In the fit's convention, or in 6 N D where nothing says what a token costs.

    Raises
    ------
    UserError
        When no shape lies in the range.
    """
    counted_as = fit.conventions.get("flops", "6ND")
    if counted_as == "counted" and from_config:
        return make_ladder(rules, low, high, convention="counted")
    if counted_as == "6ND" or fit.runs is None or "flops" not in fit.runs:
        return make_ladder(rules, low, high, convention="6ND")
    runs = Shapes.from_frame(pd.DataFrame(dict(fit.runs)))
    return make_ladder(rules, low, high, convention="as given", ratio=runs.flops_per_token)


def ladder_of(fit: Fit, rules: ShapeRules | None = None) -> Ladder:
    """Shapes of every size for advice from a fit.

    Parameters
    ----------
    fit : Fit
        Whose runs say what counting needs, where they were kept.
    rules : ShapeRules, optional
        How shapes are made; the defaults without them.

    Returns
    -------
    Ladder
        As `build_ladder` makes it.
    """
    known = fit.runs is not None and "context" in fit.runs
    return build_ladder(fit, rules or ShapeRules(), *EVERY_SIZE, from_config=known)
