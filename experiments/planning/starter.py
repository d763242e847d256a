"""A first study for a corpus: sizes and budgets that its tokens and the given time allow, as a commented sweep file.

Pure and torch-free; it must not know how a corpus is read, or where the file goes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from experiments.config.designs import MIN_LAW_STEPS, expand
from experiments.config.recipes import RECIPES
from experiments.config.sweep import DesignConfig, RecipeConfig, ReplicateConfig, Shape, SweepConfig
from experiments.data.config import DataConfig
from experiments.errors import UserError
from experiments.machine.devices import DeviceKind
from experiments.planning.costs import CostModel
from models.config.accounting import params_fit, training_flops
from models.config.transformer import TransformerConfig

WIDTHS = (12, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 1024)
"""Widths that a first study chooses from."""
BUDGET_RATIOS = (1.0, 1.6, 2.5, 4.0)
"""Fitted budgets over the smallest."""
HELDOUT_OVER_FITTED = 3.0
"""The held-out budget over the largest that is fitted."""
RATIO_RANGE = (5.0, 320.0)
"""Tokens per parameter of the fitted runs."""
CENTRE_RATIO = 20.0
"""Tokens per parameter about which sizes are chosen (Hoffmann et al. 2022)."""
TRIAL_STEPS = 56
"""Fewest steps of a trial's fitted runs: its path is whole, and its numbers say nothing."""
TRIAL_RATIOS = (1.0, 1.3, 1.7, 2.2)
"""A trial's fitted budgets over the smallest."""
MAX_EPOCHS = 4
"""Passes over the corpus up to which repeated tokens count almost like new ones (Muennighoff et al. 2023)."""
MIN_SIZES = 4
"""Sizes that every budget needs, so that a curve through its losses has a minimum."""
RECIPE = "byte-small"
FIRST_LINES = {
    False: "# A first study of {corpus}. `isoflop help config` explains every field.\n",
    True: "# A trial of {corpus}: it shows the path in a minute or two, with runs too short for any law.\n"
    "# `isoflop init` without --trial writes a study. `isoflop help config` explains every field.\n",
}
"""What the file says of itself, by whether it is a trial."""
TEMPLATE = """\
name: {name}
data: {{corpus: "{corpus}", tokenizer: {tokenizer}, context: {context}{epochs}}}
design:
  kind: isoflop  # every size at every compute budget; the tokens follow: D = C / FLOPs per token
  # C, training FLOPs. The losses of one budget draw one curve over the sizes, and its minimum is the best size.
  budgets: [{budgets}]
  shapes:
{shapes}  ratio_range: [{low:g}, {high:g}]  # tokens per parameter; runs outside are left out
  heldout_budgets: [{heldout:.3g}]  # never fitted: it tests the prediction at three times the compute
  heldout_shapes:
{heldout_shapes}model: {{qk_norm: true}}  # normalised queries and keys: small models leave the first steep phase sooner
recipe: {{name: {recipe}}}  # learning rate, batch and warm-up by size
# Runs of one size share their first steps, until the shorter one lets its rate decay.
schedule: {{name: wsd, decay_fraction: 0.25}}
replicates:  # other seeds of one run measure the noise that no law explains
  - {{seeds: [1, 2], width: {width}, depth: {depth}, budget: {smallest:.3g}}}
report: {{law: hoffmann, title: "{name}"}}
"""
"""The file, for `str.format`."""


@dataclass(frozen=True, kw_only=True)
class Starter:
    """A first study."""

    shapes: tuple[Shape, ...]
    """Sizes of the fitted runs."""
    budgets: tuple[float, ...]
    """Fitted budgets, FLOPs."""
    heldout_budget: float
    """The budget that tests the prediction, FLOPs."""
    heldout_shapes: tuple[Shape, ...]
    """Sizes trained there."""
    repeated: Shape
    """The size that is trained with two more seeds at the smallest budget."""
    max_epochs: int
    """Passes over the corpus."""
    is_trial: bool
    """Whether its runs are too short for a law."""
    num_runs: int
    """Runs in all."""
    seconds: float
    """Estimated time of all runs on one worker."""


def plan_starter(
    data: DataConfig, *, num_train_tokens: int, seconds: float, kind: DeviceKind = "cpu", trial: bool = False
) -> Starter:
    """Find the largest first study that a corpus and a time allow, or the smallest trial.

    Parameters
    ----------
    data : DataConfig
        Corpus, tokenizer and context, with content hashes.
    num_train_tokens : int
        Training tokens of one pass.
    seconds : float
        Time of all runs on one worker.
    kind : str
        "cpu" or "cuda".
    trial : bool
        Take the smallest grid of runs, whatever the time, although no law holds for them.

    Returns
    -------
    Starter
        Four budgets, their sizes and a held-out budget.

    Raises
    ------
    UserError
        When the corpus or the time is too small for any study.
    """
    costs = CostModel(kind=kind)
    fewest = None
    for exponent in range(200, 80, -1):
        for epochs in range(1, MAX_EPOCHS + 1):
            repeated = replace(data, max_epochs=epochs)
            found = _at(10 ** (exponent / 10), repeated, num_train_tokens * epochs, costs, trial=trial)
            if found is None:
                continue
            fewest = found
            if found.seconds <= seconds and not trial:
                return found
            break
    if fewest is None:
        raise UserError(
            f"corpus {data.corpus!r} has {num_train_tokens:,} training tokens, too few for {MIN_SIZES} sizes at four "
            "budgets; add text"
        )
    if trial:
        return fewest
    raise UserError(
        f"the smallest study takes about {math.ceil(fewest.seconds / 60)} minutes on one worker; raise --minutes, or "
        "add --trial for runs of a minute or two in all, which show the path and no law"
    )


def sweep_text(starter: Starter, data: DataConfig, name: str) -> str:
    """Write a first study as a commented sweep file.

    Parameters
    ----------
    starter : Starter
        Sizes and budgets.
    data : DataConfig
        Corpus, tokenizer and context.
    name : str
        Name of the sweep.

    Returns
    -------
    str
        YAML.
    """

    def listed(shapes: tuple[Shape, ...]) -> str:
        return "".join(f"    - {{width: {shape.width}, depth: {shape.depth}}}\n" for shape in shapes)

    epochs = f", max_epochs: {starter.max_epochs}" if starter.max_epochs > 1 else ""
    return (FIRST_LINES[starter.is_trial] + TEMPLATE).format(
        name=name,
        corpus=data.corpus,
        tokenizer=data.tokenizer,
        context=data.context,
        epochs=epochs,
        budgets=", ".join(f"{budget:.3g}" for budget in starter.budgets),
        shapes=listed(starter.shapes),
        low=RATIO_RANGE[0],
        high=RATIO_RANGE[1],
        heldout=starter.heldout_budget,
        heldout_shapes=listed(starter.heldout_shapes),
        recipe=RECIPE,
        width=starter.repeated.width,
        depth=starter.repeated.depth,
        smallest=starter.budgets[0],
    )


def _model(shape: Shape, data: DataConfig) -> TransformerConfig:
    heads = max(1, shape.width // 16)
    return TransformerConfig(
        width=shape.width,
        depth=shape.depth,
        num_heads=heads,
        vocab_size=data.vocab_size,
        context=data.context,
        qk_norm=True,
    )


def _at(base: float, data: DataConfig, available: int, costs: CostModel, *, trial: bool) -> Starter | None:
    """The study whose smallest budget is `base`; None where the corpus or the sizes do not allow it."""
    ratios = TRIAL_RATIOS if trial else BUDGET_RATIOS
    budgets = tuple(float(f"{base * ratio:.3g}") for ratio in ratios)
    heldout = float(f"{base * HELDOUT_OVER_FITTED * ratios[-1]:.3g}")
    every = [Shape(width=width, depth=max(2, width // 64)) for width in WIDTHS]
    sizes = [
        (shape, params_fit(model), training_flops(model, tokens=1)) for shape in every if (model := _model(shape, data))
    ]
    centre = math.sqrt(budgets[0] * budgets[-1])
    nearest = _nearest(sizes, centre)
    chosen = sizes[max(0, nearest - (2 if trial else 3)) : nearest + (2 if trial else 5)]
    fewest = (TRIAL_STEPS if trial else MIN_LAW_STEPS) * RECIPES[RECIPE](1e5, 1e6).batch_tokens
    for budget in budgets:
        tokens = [budget / flops for _, params, flops in chosen if _within(budget / flops / params)]
        if len(tokens) < MIN_SIZES or min(tokens) < fewest or max(tokens) > available:
            return None
    best = sorted(sizes, key=lambda size: abs(math.log(heldout / size[2] / size[1] / CENTRE_RATIO)))[:2]
    if max(heldout / flops for _, _, flops in best) > available:
        return None
    starter = Starter(
        shapes=tuple(shape for shape, _, _ in chosen),
        budgets=budgets,
        heldout_budget=heldout,
        heldout_shapes=tuple(sorted((shape for shape, _, _ in best), key=lambda shape: shape.width)),
        repeated=sizes[_nearest(sizes, budgets[0])][0],
        max_epochs=data.max_epochs,
        is_trial=trial,
        num_runs=0,
        seconds=0.0,
    )
    plan = expand(_sweep(starter, data), resolve=lambda given: given)
    return replace(starter, num_runs=len(plan.runs), seconds=sum(costs.seconds(run.config) for run in plan.runs) * 1.1)


def _nearest(sizes: list[tuple[Shape, int, float]], flops: float) -> int:
    """Which of (shape, N, FLOPs per token) comes nearest to the centre's tokens per parameter at a budget."""
    return min(range(len(sizes)), key=lambda i: abs(math.log(flops / sizes[i][2] / sizes[i][1] / CENTRE_RATIO)))


def _within(ratio: float) -> bool:
    return RATIO_RANGE[0] <= ratio <= RATIO_RANGE[1]


def _sweep(starter: Starter, data: DataConfig) -> SweepConfig:
    repeated = ReplicateConfig(
        seeds=(1, 2), width=starter.repeated.width, depth=starter.repeated.depth, budget=starter.budgets[0]
    )
    return SweepConfig(
        name="starter",
        data=data,
        design=DesignConfig(
            kind="isoflop",
            shapes=starter.shapes,
            budgets=starter.budgets,
            ratio_range=RATIO_RANGE,
            heldout_budgets=(starter.heldout_budget,),
            heldout_shapes=starter.heldout_shapes,
        ),
        model={"qk_norm": True},
        recipe=RecipeConfig(name=RECIPE),
        replicates=(repeated,),
    )
