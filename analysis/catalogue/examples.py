"""How docs/laws.md shows each law: which table, how it is fitted, what is on the axes, and the command.

Prose is in prose.md, tables are in `tables`; fitting, drawing and counting are elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from analysis.catalogue import expert_tables, tables
from analysis.figures.laws import Labels
from analysis.fitting.spec import FitSpec
from analysis.published.constants import GADRE_RUNS
from analysis.published.curves import GADRE_DOWNSTREAM_RUNS, TRAINED_ON

BOOTSTRAP = 400
"""Draws behind the intervals."""
LOSS = "loss, nats per token"
"""Label of the usual y-axis."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One law on one table."""

    law: str
    """Name of the law."""
    table: Callable[[Path], pd.DataFrame]
    """Folder of published runs -> the law's inputs and target, `series` and `held`."""
    along: str
    """Column on the x-axis."""
    labels: Labels
    """Labels of the axes."""
    spec: FitSpec = field(default_factory=lambda: FitSpec(bootstrap=BOOTSTRAP))
    """How it is fitted."""
    command: str | None = None
    """Arguments of `isoflop fit` that make the same fit; None for tables made here."""
    truth: Mapping[str, float] | None = None
    """Parameters behind simulated runs; None for real ones."""
    option: str = ""
    """What follows the name where the law takes an option, such as ":5" for five domains."""
    through_rows: bool = False
    """Whether curves go through the rows, as for laws over a schedule."""


SQUARED = FitSpec(objective="squared", bootstrap=BOOTSTRAP)
"""Least squares of log residuals."""
FEW_RUNS = FitSpec(objective="squared", residuals="raw", bootstrap=0)
"""As Gadre et al. fit a handful of runs: least squares, with intervals from the covariance."""

COMPUTE = Labels(x="training FLOPs", x_ticks="flops", y=LOSS)
LLAMA = Example(
    law="hoffmann",
    table=tables.llama,
    along="params",
    labels=Labels(x="params", x_ticks="size", y="loss as published"),
)
LLAMA_COMMAND = (
    "DATA/isoflops/isoflops.csv --law {law} --columns flops=budget "
    "--where \"experiment == 'llama_3__raw_loss' and budget < 2e21\""
)
LAMBADA = Example(law="m4", table=tables.lambada, along="x", labels=replace(COMPUTE, y="error on LAMBADA"))
LAMBADA_COMMAND = (
    "DATA/gadre/models.csv --law {law} --columns x=flops,loss=err_lambada_openai "
    '--where "N < 1e9 and tok_mult >= 10 and tok_mult <= 80"'
)
GEMSTONES = Example(
    law="gemstones",
    table=tables.gemstones,
    along="tokens",
    labels=Labels(x="tokens", x_ticks="size", y=LOSS),
    spec=FitSpec(cluster="run", bootstrap=BOOTSTRAP),
)
GEMSTONES_COMMAND = 'DATA/gemstones/cool_begin.csv --law {law} --where "params < 1.5e9" --cluster run'
SCHEDULES = Example(
    law="multipower",
    table=tables.schedules,
    along="step",
    labels=Labels(x="step", x_ticks="size", y=LOSS),
    spec=FitSpec(cluster="curve", bootstrap=0),
    through_rows=True,
)
SCHEDULES_COMMAND = (
    " ".join(f"DATA/multipowerlaw/25M/{name}.csv" for name in TRAINED_ON) + " --law {law} --cluster curve --bootstrap 0"
)


SIZE = Labels(x="params", x_ticks="size", y=LOSS)
MIXTURES = Example(
    law="mixing",
    option=":5",
    table=expert_tables.mixtures,
    along="mixture",
    labels=Labels(x="mixture, in the order of its loss", x_ticks="number", y=LOSS),
    through_rows=True,
)
MIXTURES_COMMAND = (
    "DATA/scalebench/domain_mixture_train.csv --law {law}:5 --columns "
    + ",".join(f"{ours}={theirs}" for ours, theirs in expert_tables.SHARES.items())
    + ",loss=loss_domain_1 --where \"group == '70M'\""
)


def _several(example: Example, command: str, *laws: str) -> tuple[Example, ...]:
    """One example for each law on the same table."""
    return tuple(replace(example, law=law, command=command.format(law=law)) for law in laws)


EXAMPLES: tuple[Example, ...] = (
    Example(law="power", table=tables.llama_minima, along="x", labels=replace(COMPUTE, y="loss as published")),
    Example(
        law="shifted",
        table=tables.constant_rate,
        along="x",
        labels=Labels(x="step", x_ticks="size", y=LOSS),
        command='DATA/multipowerlaw/25M/constant_72000.csv --law shifted --columns x=step --where "step <= 24000"',
    ),
    Example(law="m3", table=tables.llama_minima, along="x", labels=replace(COMPUTE, y="loss as published")),
    *_several(LAMBADA, LAMBADA_COMMAND, "m4", "bnsl"),
    *_several(LLAMA, LLAMA_COMMAND, "hoffmann", "kaplan", "skaling", "farseer"),
    *_several(GEMSTONES, GEMSTONES_COMMAND, "gemstones", "gemstones-shape"),
    Example(
        law="muennighoff",
        table=tables.repeated,
        along="tokens",
        labels=Labels(x="tokens, repetitions counted", x_ticks="size", y=LOSS),
        command="DATA/scalebench/data_constrained_train.csv --law muennighoff",
    ),
    Example(
        law="overfitting",
        table=expert_tables.penalised,
        along="tokens",
        labels=Labels(x="tokens, repetitions counted", x_ticks="size", y=LOSS),
        command="DATA/scalebench/data_constrained_train.csv --law overfitting",
    ),
    Example(
        law="saturating",
        table=expert_tables.penalised,
        along="tokens",
        labels=Labels(x="tokens, repetitions counted", x_ticks="size", y=LOSS),
        command="DATA/scalebench/data_constrained_train.csv --law saturating",
    ),
    Example(
        law="gadre",
        table=tables.over_trained,
        along="ratio",
        labels=Labels(x="tokens per parameter", x_ticks="number", y=LOSS),
        spec=FEW_RUNS,
        command="DATA/gadre/models.csv --law gadre --columns params=N,tokens=D,loss=loss_c4_val --objective squared "
        f"--residuals raw --bootstrap 0 --where \"dataset_name == 'c4_original' and ({GADRE_RUNS})\"",
    ),
    Example(
        law="vocabulary",
        table=tables.vocabularies,
        along="tokens",
        labels=Labels(x="characters", x_ticks="size", y="loss normalised by unigrams"),
        spec=FitSpec(residuals="raw", bootstrap=BOOTSTRAP),
        command="DATA/scalebench/vocab_train.csv --law vocabulary --residuals raw --columns "
        "params=non_vocab_parameters,vocab=vocab_size,tokens=num_characters,loss=unigram_normalized_loss "
        '--where "non_vocab_parameters < 1e9"',
    ),
    Example(
        law="zhang",
        table=tables.fine_tuning,
        along="finetune_tokens",
        labels=Labels(x="fine-tuning tokens", x_ticks="size", y=LOSS),
        truth=tables.FINE_TUNED,
    ),
    Example(
        law="hernandez",
        table=tables.transfer,
        along="finetune_tokens",
        labels=Labels(x="fine-tuning tokens", x_ticks="size", y=LOSS),
        truth=tables.TRANSFERRED,
    ),
    Example(
        law="bounded",
        table=tables.bounded_curve,
        along="x",
        labels=Labels(x="fine-tuning examples", x_ticks="size", y=LOSS),
        truth=tables.BOUNDED_CURVE,
    ),
    Example(
        law="bounded-size",
        table=tables.bounded_sizes,
        along="x",
        labels=Labels(x="fine-tuning examples", x_ticks="size", y=LOSS),
        truth=tables.BOUNDED_SIZES,
    ),
    Example(
        law="parallel",
        table=tables.streams,
        along="params",
        labels=Labels(x="params", x_ticks="size", y=LOSS),
        command="DATA/scalebench/parallel_train.csv --law parallel --columns params=num_params "
        "--where \"group == 'pile' and num_params < 4e9\"",
    ),
    Example(
        law="rate-batch",
        table=tables.rates,
        along="lr",
        labels=Labels(x="peak learning rate, at a batch of 256 sequences", x_ticks="number", y=LOSS),
        spec=FitSpec(bootstrap=0),
        command="DATA/scalebench/lr_bsz_train.csv --law rate-batch --bootstrap 0 --columns "
        "params=non_embedding_param_size,tokens=data_size,batch=bsz,loss=lm_loss "
        '--where "non_embedding_param_size < 1e9"',
    ),
    Example(
        law="moe-routed",
        table=expert_tables.routed,
        along="params",
        labels=SIZE,
        command="DATA/scalebench/moe_train.csv --law moe-routed --columns "
        'params=dense_parameter_count,experts=num_experts,loss=loss_validation --where "dense_parameter_count < 3e8"',
    ),
    Example(law="hoffmann-break", table=tables.bent, along="params", labels=SIZE, truth=tables.BENT),
    Example(law="moe-joint", table=expert_tables.joint, along="params", labels=SIZE, truth=expert_tables.JOINT),
    Example(law="moe-sparsity", table=expert_tables.sparse, along="params", labels=SIZE, truth=expert_tables.SPARSE),
    Example(
        law="moe-active",
        table=expert_tables.active,
        along="active_params",
        labels=Labels(x="active params, billions", x_ticks="number", y=LOSS),
        command="DATA/scalebench/sparsity_train.csv --law moe-active --columns active_params=N_active,sparsity=P "
        '--where "D2 < 1.5 and N_active < 0.3"',
    ),
    Example(
        law="leverage",
        table=expert_tables.leveraged,
        along="flops",
        labels=replace(COMPUTE, y="leverage over a dense model", y_ticks="number"),
        truth=expert_tables.LEVERAGED,
    ),
    *(replace(MIXTURES, law=law, command=MIXTURES_COMMAND.format(law=law)) for law in ("mixing", "mixing-power")),
    Example(
        law="mixing-joint",
        table=expert_tables.mixed,
        along="share_1",
        labels=Labels(x="share of domain 1", x_ticks="number", y=LOSS),
        truth=expert_tables.MIXED,
    ),
    Example(law="precision", table=expert_tables.quantized, along="params", labels=SIZE, truth=expert_tables.QUANTIZED),
    Example(
        law="distillation",
        table=expert_tables.distilled,
        along="teacher_loss",
        labels=Labels(x="loss of the teacher", x_ticks="number", y="loss of the student"),
        truth=expert_tables.DISTILLED,
    ),
    *_several(SCHEDULES, SCHEDULES_COMMAND, "multipower", "tissue"),
    Example(
        law="lr-batch",
        table=tables.best_rates,
        along="params",
        labels=Labels(x="params", x_ticks="size", y="best peak learning rate", y_ticks="number"),
        spec=SQUARED,
        command="reports/recipe/rates.csv --law lr-batch --columns optimum=best_lr --objective squared "
        '--where "lr == best_lr"',
    ),
    Example(
        law="optimum-power",
        table=tables.best_sizes,
        along="x",
        labels=replace(COMPUTE, y="best size", y_ticks="size"),
        spec=SQUARED,
        command="DATA/porian/optimal_pairs.csv --law optimum-power --columns x=flops,optimum=n --objective squared "
        "--where \"hparams == 'tuned' and flops < 3e18\"",
    ),
    Example(
        law="critical-batch",
        table=tables.critical,
        along="loss",
        labels=Labels(x="loss, nats per token", x_ticks="number", y="critical batch, tokens", y_ticks="size"),
        truth=tables.CRITICAL,
    ),
    Example(
        law="batch-tradeoff",
        table=tables.traded,
        along="batch",
        labels=Labels(x="batch, tokens", x_ticks="size", y="steps to the loss", y_ticks="size"),
        truth=tables.TRADED,
    ),
    Example(
        law="downstream-direct",
        table=expert_tables.straight,
        along="x",
        labels=replace(COMPUTE, y="mean error of 17 tasks"),
        command="DATA/gadre/models.csv --law downstream-direct --columns x=flops,error=err_avg_subset "
        "--where \"dataset_name == 'c4_original' and tok_mult >= 10 and tok_mult <= 80 and N < 1e9\"",
    ),
    Example(
        law="downstream-direct-size",
        table=expert_tables.straight_sizes,
        along="tokens",
        labels=Labels(x="tokens", x_ticks="size", y="mean error of 17 tasks"),
        command="DATA/gadre/models.csv --law downstream-direct-size --columns params=N,tokens=D,error=err_avg_subset "
        "--where \"dataset_name == 'c4_original' and N < 1e9\"",
    ),
    Example(
        law="downstream-exponential",
        table=tables.task_mean,
        along="loss",
        labels=Labels(x="loss on C4, nats per token", x_ticks="number", y="mean error of 17 tasks"),
        spec=FEW_RUNS,
        command="DATA/gadre/models.csv --law downstream-exponential --columns loss=loss_c4_val,error=err_avg_subset "
        "--objective squared --residuals raw --bootstrap 0 "
        f"--where \"dataset_name == 'c4_original' and ({GADRE_DOWNSTREAM_RUNS})\"",
    ),
    Example(
        law="downstream-sigmoid",
        table=tables.one_task,
        along="loss",
        labels=Labels(x="loss on C4, nats per token", x_ticks="number", y="error on HellaSwag"),
        command="DATA/gadre/models.csv --law downstream-sigmoid --columns loss=loss_c4_val,error=err_hellaswag "
        '--where "N < 1e9"',
    ),
)
"""One example for each law."""
