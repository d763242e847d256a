"""Designs: a SweepConfig becomes a set of RunConfigs with labels. Pure and torch-free.

Owns which sizes meet which budgets, rounding to whole steps, and what is left out with its reason. It must not know
stores, devices or what has been trained already.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from experiments.config.reading import build_sweep, set_path
from experiments.config.recipes import RECIPES
from experiments.config.run import RunConfig, run_id
from experiments.config.sweep import Shape, SweepConfig
from experiments.data.config import DataConfig
from experiments.errors import UserError
from models.config.accounting import params_fit, training_flops
from models.config.objective import ObjectiveConfig, check_objective, lengths
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig

MIN_STEPS = 50
"""Fewest steps of a run: rounding D to whole steps then moves a budget by at most one percent."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run of a sweep: identity, config and the labels that the sweep gives it."""

    run_id: str
    """Identity of `config`."""
    config: RunConfig
    """The run."""
    labels: Mapping[str, Any] = field(default_factory=dict)
    """budget (FLOPs or tokens, as designed), role (fit, heldout, replicate), and the varied fields."""


@dataclass(frozen=True, kw_only=True)
class ExpandedSweep:
    """The runs of a sweep, and what the design left out."""

    sweep: SweepConfig
    """The sweep, with its data resolved."""
    runs: tuple[PlannedRun, ...]
    """Unique by run_id, in the order of the design."""
    left_out: tuple[str, ...] = ()
    """One sentence for each combination that was not planned."""


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """One wanted run before its details: a shape, a budget, a seed and a role."""

    shape: Shape
    budget: float
    seed: int
    role: str
    tokens: Callable[[TransformerConfig], float]


def expand(sweep: SweepConfig, *, resolve: Callable[[DataConfig], DataConfig]) -> ExpandedSweep:
    """The set of runs that `sweep` describes.

    Parameters
    ----------
    sweep
        As read from YAML; `precision` already resolved.
    resolve
        Fills in content hashes.

    Raises
    ------
    UserError
        When a run cannot be made, naming the shape and the budget.
    """
    runs: dict[str, PlannedRun] = {}
    left_out: list[str] = []
    first: SweepConfig | None = None
    for variant, varied in _variants(sweep):
        variant = replace(variant, data=resolve(variant.data))
        first = first or variant
        for cell in _cells(variant):
            model = _model(variant, cell.shape)
            ratio = cell.tokens(model) / params_fit(model)
            window = variant.design.ratio_range
            if window and not window[0] <= ratio <= window[1] and cell.role == "fit":
                left_out.append(
                    f"{_name(cell)}: {ratio:.3g} tokens per parameter is outside ratio_range {window[0]:g} to "
                    f"{window[1]:g}"
                )
                continue
            config = _run_config(variant, cell, model)
            labels = {"budget": cell.budget, "role": cell.role, **varied}
            identity = run_id(config)
            if identity not in runs:
                runs[identity] = PlannedRun(run_id=identity, config=config, labels=labels)
    if not runs:
        raise UserError(
            f"sweep {sweep.name!r} describes no run: {left_out[0] if left_out else 'give shapes and budgets'}"
        )
    return ExpandedSweep(sweep=first or sweep, runs=tuple(runs.values()), left_out=tuple(left_out))


def _variants(sweep: SweepConfig) -> Iterator[tuple[SweepConfig, dict[str, Any]]]:
    """The sweep once for each combination of its varied fields, with those fields' values."""
    if not sweep.vary:
        yield sweep, {}
        return
    axes = [list(_arms(axis, values)) for axis, values in sweep.vary.items()]
    for arms in itertools.product(*axes):
        raw = asdict(replace(sweep, vary={}))
        for _, fields in arms:
            for path, value in fields.items():
                set_path(raw, path, value)
        varied = dict(zip(sweep.vary, (label for label, _ in arms), strict=True))
        yield build_sweep(raw, where=f"vary {varied}"), varied


def _arms(axis: str, values: Any) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """(label, fields to set) of each value of an axis."""
    if isinstance(values, Mapping):
        yield from values.items()
    else:
        yield from ((value, {axis: value}) for value in values)


def _cells(sweep: SweepConfig) -> Iterator[_Cell]:
    design = sweep.design
    if design.kind == "isoflop":
        heldout_shapes = design.heldout_shapes or design.shapes
        blocks = [(budget, design.shapes, "fit") for budget in design.budgets]
        blocks += [(budget, heldout_shapes, "heldout") for budget in design.heldout_budgets]
        for budget, shapes, role in blocks:
            for shape, seed in itertools.product(shapes, sweep.seeds):
                yield _Cell(shape=shape, budget=budget, seed=seed, role=role, tokens=_isoflop_tokens(budget, sweep))
    elif design.kind == "parametric":
        for place in design.cells:
            for tokens, seed in itertools.product(place.tokens, place.seeds or sweep.seeds):
                rule = _ladder_tokens(tokens, absolute=True)
                yield _Cell(shape=place, budget=tokens, seed=seed, role="fit", tokens=rule)
    else:
        rungs = design.tokens or design.tokens_per_param
        for shape, rung, seed in itertools.product(design.shapes, rungs, sweep.seeds):
            rule = _ladder_tokens(rung, absolute=bool(design.tokens))
            yield _Cell(shape=shape, budget=rung, seed=seed, role="fit", tokens=rule)
    for replicate in sweep.replicates:
        shape = Shape(width=replicate.width, depth=replicate.depth)
        known = [
            item
            for item in (*design.shapes, *design.heldout_shapes, *design.cells)
            if (item.width, item.depth) == (shape.width, shape.depth)
        ]
        budget = replicate.budget
        isoflop = design.kind == "isoflop"
        wanted = _isoflop_tokens(budget, sweep) if isoflop else _ladder_tokens(budget, absolute=True)
        for seed in replicate.seeds:
            yield _Cell(shape=(known or [shape])[0], budget=budget, seed=seed, role="replicate", tokens=wanted)


def _ladder_tokens(rung: float, absolute: bool) -> Callable[[TransformerConfig], float]:
    return lambda model: rung if absolute else rung * params_fit(model)


def _isoflop_tokens(budget: float, sweep: SweepConfig) -> Callable[[TransformerConfig], float]:
    context, objective = sweep.data.context, _objective(sweep)
    return lambda model: budget / training_flops(model, tokens=1, context=context, objective=objective)


def _objective(sweep: SweepConfig) -> ObjectiveConfig:
    """The sweep's objective, with its sentinels after the tokenizer's ids."""
    if sweep.objective.name != "span":
        return sweep.objective
    return replace(sweep.objective, first_sentinel=sweep.data.vocab_size)


def _model(sweep: SweepConfig, shape: Shape) -> TransformerConfig:
    objective = _objective(sweep)
    num_sentinels = lengths(objective, sweep.data.context).spans if objective.name == "span" else 0
    fields: dict[str, Any] = dict(sweep.model)
    if shape.ffn_width is not None:
        fields["ffn_width"] = shape.ffn_width
    heads = shape.num_heads or max(1, shape.width // sweep.design.head_width)
    try:
        model = TransformerConfig(
            width=shape.width,
            depth=shape.depth,
            num_heads=heads,
            vocab_size=sweep.data.vocab_size + num_sentinels,
            context=sweep.data.context,
            **fields,
        )
        check_objective(objective, model)
        return model
    except ValueError as error:
        raise UserError(f"shape {{width: {shape.width}, depth: {shape.depth}}} cannot be built: {error}") from error


def _run_config(sweep: SweepConfig, cell: _Cell, model: TransformerConfig) -> RunConfig:
    params, wanted = params_fit(model), cell.tokens(model)
    choice = sweep.recipe
    rule = RECIPES[choice.name](params, wanted)
    context = sweep.data.context
    batch = choice.batch_tokens or rule.batch_tokens * choice.batch_scale
    batch_tokens = max(1, round(batch / context)) * context
    tokens = round(wanted / batch_tokens) * batch_tokens
    if tokens < MIN_STEPS * batch_tokens:
        raise UserError(
            f"{_name(cell)}: {wanted:,.0f} tokens are fewer than {MIN_STEPS} steps of {batch_tokens:,}; "
            "raise the budget, leave this shape out, or lower recipe.batch_tokens"
        )
    warmup = rule.warmup_tokens if choice.warmup_tokens is None else choice.warmup_tokens
    warmup_tokens = round(warmup / batch_tokens) * batch_tokens
    decay_tokens = None
    if sweep.schedule.name == "wsd":
        decay_tokens = round(sweep.schedule.decay_fraction * tokens / batch_tokens) * batch_tokens
    if warmup_tokens + (decay_tokens or 0) > tokens:
        raise UserError(
            f"{_name(cell)}: warm-up of {warmup_tokens:,} and decay of {decay_tokens or 0:,} tokens do not fit into "
            f"{tokens:,}; "
            "lower recipe.warmup_tokens or raise the budget"
        )
    return RunConfig(
        model=model,
        data=sweep.data,
        objective=_objective(sweep),
        optimizer=OptimizerConfig(
            learning_rate=choice.learning_rate or rule.learning_rate * choice.rate_scale,
            beta2=rule.beta2,
            weight_decay=rule.weight_decay if choice.weight_decay is None else choice.weight_decay,
            grad_clip=choice.grad_clip,
        ),
        schedule=ScheduleConfig(
            name=sweep.schedule.name,
            warmup_tokens=warmup_tokens,
            decay_tokens=decay_tokens,
            decay_shape=sweep.schedule.decay_shape,
            final_fraction=sweep.schedule.final_fraction,
        ),
        tokens=tokens,
        batch_tokens=batch_tokens,
        seed=cell.seed,
        precision=sweep.precision,
    )


def _name(cell: _Cell) -> str:
    return f"width {cell.shape.width}, depth {cell.shape.depth} at budget {cell.budget:.3g}"
