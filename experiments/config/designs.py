"""Designs: a SweepConfig becomes a set of RunConfigs with labels. Pure and torch-free.

Owns which sizes meet which budgets, rounding to whole steps, and what is left out with its reason. It must not know
stores, devices or what has been trained already.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

from experiments.config.codec import set_path
from experiments.config.counts import schedule_of, whole_steps
from experiments.config.kinds import AnyRun
from experiments.config.reading import build_sweep
from experiments.config.recipes import RECIPES, Hyperparameters
from experiments.config.run import RunConfig, run_id
from experiments.config.sweep import Arm, Axis, Shape, SweepConfig
from experiments.config.tuning.run import FinetuneRun
from experiments.config.tuning.sweep import FinetuneSweep
from experiments.data.config import DataConfig
from experiments.errors import UserError
from experiments.machine.devices import DeviceKind, Precision, resolve_precision
from models.config.accounting import params_fit, training_flops
from models.config.objective import ObjectiveConfig, check_objective, lengths
from models.config.optimizer import OptimizerConfig
from models.config.transformer import TransformerConfig

Role = Literal["fit", "heldout", "replicate"]
"""What a run is for: to be fitted, to test the prediction, to measure the noise between seeds."""
MIN_STEPS = 50
"""Fewest steps of a run: rounding D to whole steps then moves a budget by at most one percent."""
MIN_LAW_STEPS = 350
"""Shorter runs are in the steep first part of training, which no power law of N and D describes
(docs/decisions/2026-11-22-quickstart.md)."""

RATE_SCALES = (0.5, 1.0, 2.0)
"""Peak rates of a cell in the first round of a tuned design, as multiples of the recipe's."""
MAX_TOKENS = 1e18
"""Most tokens of a run; more is a slip of the pen."""

MAX_VARIANTS = 10_000
"""Combinations of varied fields that a sweep may have."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run of a sweep: identity, config and the labels that the sweep gives it."""

    run_id: str
    """Identity of `config`."""
    config: AnyRun
    """The run."""
    labels: Mapping[str, Any] = field(default_factory=dict)
    """budget (FLOPs or tokens, as designed), role (fit, heldout, replicate), and the varied fields."""


@dataclass(frozen=True, kw_only=True)
class ExpandedSweep:
    """The runs of a sweep, and what the design left out."""

    sweep: SweepConfig | FinetuneSweep
    """The sweep; the data of one that pre-trains are resolved."""
    runs: tuple[PlannedRun, ...]
    """Unique by run_id, in the order of the design."""
    left_out: tuple[str, ...] = ()
    """One sentence for each combination that was not planned."""
    before: ExpandedSweep | None = None
    """The sweep whose runs these tune, where its file is named; the same command trains it first."""
    waits: Mapping[str, str] = field(default_factory=dict)
    """run_id -> the pre-trained run that is still to be trained before."""

    @property
    def about(self) -> dict[str, Any]:
        """What the manifest says of the sweep: kind of design, and the corpus or task with its content hash."""
        first, kind = self.runs[0].config, self.sweep.design.kind
        data = first.task if isinstance(first, FinetuneRun) else first.data
        corpus = data.corpus if isinstance(data, DataConfig) else data.short
        return {"design": kind, "corpus": corpus, "content_hash": data.content_hash}


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """One wanted run before its details: a shape, a budget, a seed and a role."""

    shape: Shape
    budget: float
    seed: int
    role: Role
    tokens: Callable[[TransformerConfig], float]
    """D for the model."""
    rate: float | None = None
    """Peak learning rate; None: the recipe's."""
    rate_scale: float = 1.0
    """Factor on the recipe's peak rate."""

    def __str__(self) -> str:
        return f"width {self.shape.width}, depth {self.shape.depth} at budget {self.budget:.3g}"


def expand(
    sweep: SweepConfig, *, resolve: Callable[[DataConfig], DataConfig], kind: DeviceKind = "cpu"
) -> ExpandedSweep:
    """Expand a sweep to the set of its runs.

    Parameters
    ----------
    sweep : SweepConfig
        As read from YAML.
    resolve : callable
        Fills in content hashes.
    kind : str
        Kind of device, cpu or cuda, for which precision 'auto' is resolved.

    Returns
    -------
    ExpandedSweep
        At least one run.

    Raises
    ------
    UserError
        When a run cannot be made, naming the shape and the budget; when there is none.
    """
    runs: dict[str, PlannedRun] = {}
    left_out: list[str] = []
    first: SweepConfig | None = None
    planned: set[tuple[Any, int]] = set()
    for variant, varied in _variants(sweep):
        precision = resolve_precision(variant.precision, kind)
        variant = replace(variant, data=resolve(variant.data), precision=precision)
        first = first or variant
        for cell in _cells(variant):
            model = _model(variant, cell.shape)
            outside = _outside(variant, cell, model)
            if outside is not None:
                left_out.append(outside)
                continue
            config = _run_config(variant, cell, model, precision)
            if cell.role != "replicate":
                planned.add((model, config.tokens))
            elif (model, config.tokens) not in planned:
                raise UserError(
                    f"replicates: {cell} repeats no run of the sweep; give the width, depth and budget of one of them"
                )
            identity = run_id(config)
            if identity not in runs:
                labels = {"budget": cell.budget, "role": cell.role, **varied}
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
    count = math.prod(map(len, axes))
    if count > MAX_VARIANTS:
        raise UserError(
            f"sweep {sweep.name!r} varies {len(axes)} fields in {count:,} combinations, more than {MAX_VARIANTS:,}; "
            "vary fewer fields, or make several sweeps"
        )
    for arms in itertools.product(*axes):
        raw = asdict(replace(sweep, vary={}))
        for _, fields in arms:
            for path, value in fields.items():
                set_path(raw, path, value)
        varied = dict(zip(sweep.vary, (label for label, _ in arms), strict=True))
        yield build_sweep(raw, where=f"vary {varied}"), varied


def _arms(axis: str, values: Axis) -> Iterator[tuple[Any, Arm]]:
    """(label, fields to set) of each value of an axis."""
    if isinstance(values, Mapping):
        yield from values.items()
    else:
        yield from ((value, {axis: value}) for value in values)


def _cells(sweep: SweepConfig) -> Iterator[_Cell]:
    """The wanted runs of a sweep without `vary`."""
    by_kind = {
        "isoflop": _isoflop_cells,
        "ladder": _ladder_cells,
        "parametric": _parametric_cells,
        "tuned": _tuned_cells,
    }
    yield from by_kind[sweep.design.kind](sweep)
    yield from _replicates(sweep)


def _isoflop_cells(sweep: SweepConfig) -> Iterator[_Cell]:
    design = sweep.design
    blocks: list[tuple[float, tuple[Shape, ...], Role]] = [(budget, design.shapes, "fit") for budget in design.budgets]
    blocks += [(budget, design.heldout_shapes or design.shapes, "heldout") for budget in design.heldout_budgets]
    for budget, shapes, role in blocks:
        for shape, seed in itertools.product(shapes, sweep.seeds):
            yield _Cell(shape=shape, budget=budget, seed=seed, role=role, tokens=_tokens_of_flops(budget, sweep))


def _ladder_cells(sweep: SweepConfig) -> Iterator[_Cell]:
    design = sweep.design
    for shape, rung, seed in itertools.product(design.shapes, design.tokens or design.tokens_per_param, sweep.seeds):
        rule = _tokens(rung) if design.tokens else _tokens_per_param(rung)
        yield _Cell(shape=shape, budget=rung, seed=seed, role="fit", tokens=rule)


def _parametric_cells(sweep: SweepConfig) -> Iterator[_Cell]:
    for place in sweep.design.cells:
        for tokens, seed in itertools.product(place.tokens, place.seeds or sweep.seeds):
            yield _Cell(shape=place, budget=tokens, seed=seed, role="fit", tokens=_tokens(tokens))


def _tuned_cells(sweep: SweepConfig) -> Iterator[_Cell]:
    scales = sweep.design.rate_scales or RATE_SCALES
    for cell, scale in itertools.product(_ladder_cells(sweep), scales):
        yield replace(cell, rate_scale=scale)
    for place in sweep.design.cells:
        for tokens, seed, rate in itertools.product(place.tokens, place.seeds or sweep.seeds, place.rates):
            yield _Cell(shape=place, budget=tokens, seed=seed, role="fit", tokens=_tokens(tokens), rate=rate)


def _replicates(sweep: SweepConfig) -> Iterator[_Cell]:
    design = sweep.design
    for replicate in sweep.replicates:
        size = (replicate.width, replicate.depth)
        listed = (*design.shapes, *design.heldout_shapes, *design.cells)
        known = [shape for shape in listed if (shape.width, shape.depth) == size]
        shape = known[0] if known else Shape(width=replicate.width, depth=replicate.depth)
        budget = replicate.budget
        rule = _tokens_of_flops(budget, sweep) if design.kind == "isoflop" else _tokens(budget)
        for seed in replicate.seeds:
            yield _Cell(shape=shape, budget=budget, seed=seed, role="replicate", tokens=rule)


def _tokens(tokens: float) -> Callable[[TransformerConfig], float]:
    return lambda model: tokens


def _tokens_per_param(ratio: float) -> Callable[[TransformerConfig], float]:
    return lambda model: ratio * params_fit(model)


def _tokens_of_flops(budget: float, sweep: SweepConfig) -> Callable[[TransformerConfig], float]:
    context, objective = sweep.data.context, _objective(sweep)
    return lambda model: budget / training_flops(model, tokens=1, context=context, objective=objective)


def _outside(sweep: SweepConfig, cell: _Cell, model: TransformerConfig) -> str | None:
    """Why a fitted run is left out, as one sentence; None when it is not."""
    window = sweep.design.ratio_range
    if window is None or cell.role != "fit":
        return None
    ratio = cell.tokens(model) / params_fit(model)
    if window[0] <= ratio <= window[1]:
        return None
    return f"{cell}: {ratio:.3g} tokens per parameter is outside ratio_range {window[0]:g} to {window[1]:g}"


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
    except UserError as error:
        raise UserError(f"shape {{width: {shape.width}, depth: {shape.depth}}} cannot be built: {error}") from error


def _run_config(sweep: SweepConfig, cell: _Cell, model: TransformerConfig, precision: Precision) -> RunConfig:
    params, wanted = params_fit(model), cell.tokens(model)
    if wanted > MAX_TOKENS:
        raise UserError(f"{cell}: {wanted:.3g} tokens are more than {MAX_TOKENS:.0e}; lower the budget")
    choice = sweep.recipe
    rule = RECIPES[choice.name](params, wanted)
    batch_tokens = batch_tokens_of(sweep, params, wanted)
    tokens = whole_steps(wanted, batch_tokens)
    if tokens < MIN_STEPS * batch_tokens:
        raise UserError(
            f"{cell}: {wanted:,.0f} tokens are fewer than {MIN_STEPS} steps of {batch_tokens:,}; "
            "raise the budget, leave this shape out, or lower recipe.batch_tokens"
        )
    try:
        return RunConfig(
            model=model,
            data=sweep.data,
            objective=_objective(sweep),
            optimizer=OptimizerConfig(
                learning_rate=_peak_rate(sweep, cell, rule, Counts(params, tokens, batch_tokens)),
                beta2=rule.beta2,
                weight_decay=rule.weight_decay if choice.weight_decay is None else choice.weight_decay,
                grad_clip=choice.grad_clip,
                **vars(sweep.optimizer),
            ),
            schedule=schedule_of(sweep, rule, tokens=tokens, batch_tokens=batch_tokens),
            tokens=tokens,
            batch_tokens=batch_tokens,
            seed=cell.seed,
            precision=precision,
        )
    except UserError as error:
        raise UserError(f"{cell} cannot be trained: {error}") from error


class Counts(NamedTuple):
    """What laws of a run's rate read."""

    params: float
    """N."""
    tokens: float
    """D."""
    batch_tokens: float
    """Tokens of a step."""


def _peak_rate(sweep: SweepConfig, cell: _Cell, rule: Hyperparameters, counts: Counts) -> float:
    """The cell's own rate, else a fixed one, else the law's or the rule's by its factors."""
    choice = sweep.recipe
    if cell.rate is not None:
        return cell.rate
    rate = rule.learning_rate if choice.rate_law is None else choice.rate_law(*counts)
    return (choice.learning_rate or rate * choice.rate_scale) * cell.rate_scale


def batch_tokens_of(sweep: SweepConfig, params: float, tokens: float) -> int:
    """Tokens of a step: whole sequences.

    Parameters
    ----------
    sweep : SweepConfig
        With its recipe and context.
    params : float
        N of the model.
    tokens : float
        D of the run.

    Returns
    -------
    int
        At least one sequence.

    Raises
    ------
    UserError
        When the recipe fixes less than a sequence.
    """
    fixed = sweep.recipe.batch_tokens
    if fixed is not None and fixed < sweep.data.context:
        raise UserError(
            f"recipe.batch_tokens is {fixed}, less than one sequence of context {sweep.data.context}; raise it, or "
            "lower data.context"
        )
    wanted = fixed or RECIPES[sweep.recipe.name](params, tokens).batch_tokens * sweep.recipe.batch_scale
    return max(1, round(wanted / sweep.data.context)) * sweep.data.context
