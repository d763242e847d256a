"""One table of runs under every counting convention: how a, N_opt and tokens per parameter move with the count.

The shapes of the runs give N and training FLOPs per token as each paper or tool counts them; the law is fitted once for
each N, and its frontier is taken along the shapes at each C. It must not know verbs or figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.fitting.spec import FitOptions
from analysis.frontiers.counting import table_ladder
from analysis.frontiers.parametric import parametric_frontier
from analysis.laws.allocation import six_n
from analysis.runs.columns import checked
from models.config.accounting import params_fit
from models.config.published_counts import CONVENTIONS, count_by_convention
from models.config.transformer import TransformerConfig

FIELDS = {
    "width": ("width",),
    "depth": ("depth",),
    "num_heads": ("num_heads", "heads"),
    "vocab_size": ("vocab_size", "vocab"),
    "context": ("context",),
    "num_kv_heads": ("num_kv_heads", "kv_heads"),
    "head_dim": ("head_dim",),
    "ffn_width": ("ffn_width",),
    "activation": ("activation",),
    "positions": ("positions",),
    "tie_embeddings": ("tie_embeddings",),
    "bias": ("bias",),
}
"""Fields of a shape, and the columns that may hold them."""
NEEDED = ("width", "depth", "num_heads", "vocab_size", "context")
"""Fields without a default."""
SAME = 1e-3
"""Counts of N that differ by more than this fraction are said to differ."""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """One table under one convention."""

    convention: str
    """Its name in `CONVENTIONS`."""
    flops_over_6n: tuple[float, float]
    """Smallest and largest training FLOPs per token over 6 N, both as it counts them."""
    a: Estimate
    """d log N_opt / d log C."""
    flops: float
    """Budget: that of the largest run, as it counts C."""
    params: Estimate
    """N_opt at that budget, as it counts N."""
    tokens_per_param: Estimate
    """D_opt / N_opt there."""
    params_own: float
    """The same model's N as this suite counts it."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "convention": self.convention,
            "flops_over_6n": list(self.flops_over_6n),
            "a": self.a.to_dict(),
            "flops": self.flops,
            "params": self.params.to_dict(),
            "tokens_per_param": self.tokens_per_param.to_dict(),
            "params_own": self.params_own,
            "source": CONVENTIONS[self.convention].source,
            "differs": CONVENTIONS[self.convention].differs,
        }


@dataclass(frozen=True, kw_only=True)
class CountedTable:
    """One table under every convention."""

    law: str
    """The law that was fitted."""
    rows: tuple[Counted, ...]
    """One for each convention."""
    notes: tuple[str, ...]
    """What to know before using the numbers."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `conventions --json`."""
        return {"law": self.law, "rows": [row.to_dict() for row in self.rows], "notes": list(self.notes)}


def missing_fields(data: Mapping[str, Any], model: Mapping[str, Any] | None = None) -> list[str]:
    """Fields of a shape that neither the table nor `model` gives.

    Parameters
    ----------
    data : mapping
        Columns by name.
    model : mapping, optional
        Fields of TransformerConfig that all runs share.

    Returns
    -------
    list of str
        Those without a default.
    """
    return [name for name in NEEDED if name not in (model or {}) and not any(column in data for column in FIELDS[name])]


def shapes_of(data: Mapping[str, Any], model: Mapping[str, Any] | None = None) -> list[TransformerConfig]:
    """The shape of every run.

    Parameters
    ----------
    data : mapping
        Columns by name; those of FIELDS are read.
    model : mapping, optional
        Fields of TransformerConfig that all runs share; they go before the table's.

    Returns
    -------
    list of TransformerConfig
        One for each row; equal shapes are one object.

    Raises
    ------
    UserError
        When a field is missing, or a row is no shape.
    """
    model = dict(model or {})
    missing = missing_fields(data, model)
    if missing:
        raise UserError(
            f"the table has no {', '.join(missing)} of its models; add the columns, or give them by --set FIELD=VALUE"
        )
    columns: dict[str, list[Any]] = {}
    for name, names in FIELDS.items():
        column = next((one for one in names if one in data), None)
        if name not in model and column is not None:
            columns[name] = [_plain(value) for value in np.asarray(data[column]).tolist()]
    known: dict[tuple[Any, ...], TransformerConfig] = {}
    out = []
    for values in zip(*columns.values(), strict=True):
        if values not in known:
            fields = {name: value for name, value in zip(columns, values, strict=True) if value is not None}
            known[values] = TransformerConfig(**fields, **model)
        out.append(known[values])
    return out


def _plain(value: Any) -> Any:
    """Whole numbers as int and missing ones as None; text and truth values stay."""
    if isinstance(value, float):
        return None if np.isnan(value) else int(value)
    return value


def compare_conventions(
    data: Mapping[str, Any],
    *,
    law: str = "hoffmann",
    model: Mapping[str, Any] | None = None,
    **options: Unpack[FitOptions],
) -> CountedTable:
    """Fit a table once for each way of counting N, and give its frontier under each way of counting C.

    Parameters
    ----------
    data : mapping
        Columns by name: tokens, loss and every run's shape (width, depth, heads, vocab, context; others by FIELDS).
    law : str
        A law of params and tokens.
    model : mapping, optional
        Fields of TransformerConfig that all runs share.
    **options
        Fields of a FitSpec.

    Returns
    -------
    CountedTable
        Exponent, optimal size and tokens per parameter under each convention.

    Raises
    ------
    UserError
        When the table does not say its shapes.
    """
    shapes = shapes_of(data, model)
    tokens, loss = checked(data, "tokens", positive=True), checked(data, "loss", positive=False)
    counts = [count_by_convention(shape) for shape in shapes]
    own = np.array([params_fit(shape) for shape in shapes], dtype=np.float64)
    fits: dict[bytes, Fit] = {}
    rows = []
    for name in CONVENTIONS:
        params = np.array([one[name].params for one in counts], dtype=np.float64)
        per_token = np.array([one[name].flops_per_token for one in counts], dtype=np.float64)
        key = params.tobytes()
        if key not in fits:
            fits[key] = fit_law(law, {**data, "params": params, "tokens": tokens, "loss": loss}, **options)
        rows.append(_counted(name, fits[key], params, per_token, tokens=tokens, own=own))
    return CountedTable(law=law, rows=tuple(rows), notes=tuple(_notes(data, shapes, own)))


def _counted(name: str, fit: Fit, params: Array, per_token: Array, *, tokens: Array, own: Array) -> Counted:
    """The frontier of a fit under one convention, at the budget of its largest run."""
    columns = {"params": params, "tokens": tokens, "flops": per_token * tokens}
    shapes = table_ladder(columns, "params")
    budget = float(columns["flops"].max())
    frontier = parametric_frontier(fit, [budget], flops_per_token=shapes)
    point = frontier.points.iloc[0]
    size, lo, hi = (float(point[column]) for column in ("params", "params_lo", "params_hi"))
    cost = shapes or six_n
    ratios = [budget / float(cost(np.array([n]))[0]) / n for n in (size, hi, lo)]
    order = np.argsort(params)
    ratio = per_token / (6 * params)
    return Counted(
        convention=name,
        flops_over_6n=(float(ratio.min()), float(ratio.max())),
        a=frontier.a,
        flops=budget,
        params=_estimate(frontier.a, size, lo, hi),
        tokens_per_param=_estimate(frontier.a, *ratios),
        params_own=float(np.exp(np.interp(np.log(size), np.log(params[order]), np.log(own[order])))),
    )


def _estimate(exponent: Estimate, value: float, lo: float, hi: float) -> Estimate:
    """An interval where the exponent has one, else its reason."""
    if not (np.isfinite(lo) and np.isfinite(hi)):
        return Estimate(value=value, level=exponent.level, reason=exponent.reason)
    return Estimate(value=value, lo=lo, hi=hi, level=exponent.level)


def _notes(data: Mapping[str, Any], shapes: list[TransformerConfig], own: Array) -> list[str]:
    """What the table's own counts say against those of its shapes."""
    notes = []
    if "params_total" in data or "params" in data:
        column = "params" if "params" in data else "params_total"
        given = checked(data, column, positive=True)
        off = np.abs(given / own - 1)
        worst = int(off.argmax())
        if off[worst] > SAME:
            shape = shapes[worst]
            notes.append(
                f"column {column} says {given[worst]:,.0f} where width {shape.width} and depth {shape.depth} count "
                f"{own[worst]:,.0f} here: another convention, or a field that the table lacks (--set FIELD=VALUE)"
            )
    return notes
