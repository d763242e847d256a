"""How docs/laws.md shows each law: which table, how it is fitted, what is on the axes, and the command.

Prose is in prose.md, tables are in `tables`; fitting, drawing and counting are elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.catalogue import tables as laws_tables
from analysis.published.constants import GADRE_RUNS
from analysis.published.curves import GADRE_DOWNSTREAM_RUNS, TRAINED_ON


@dataclass(frozen=True, kw_only=True)
class Example:
    """One law on one table."""

    law: str
    """Name of the law."""
    table: Callable[[Path], pd.DataFrame]
    """Folder of published runs -> the law's inputs and target, `series` and `held`."""
    along: str
    """Column on the x-axis."""
    label: str
    """Its label."""
    kind: str
    """How its ticks are written: flops, size or number."""
    ylabel: str = "loss, nats per token"
    """Label of the y-axis."""
    log_y: str | None = None
    """How the ticks of a logarithmic y-axis are written; None for a linear axis."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `fit_law`."""
    command: str | None = None
    """Arguments of `python -m analysis fit` that make the same fit; None for tables made here."""
    truth: Mapping[str, float] | None = None
    """Parameters behind simulated runs; None for real ones."""
    through_rows: bool = False
    """Curves go through the rows (laws over a schedule)."""


_FLOPS: dict[str, Any] = {"along": "x", "label": "training FLOPs", "kind": "flops"}
_LLAMA: dict[str, Any] = {
    "table": laws_tables.llama,
    "along": "params",
    "label": "params",
    "kind": "size",
    "ylabel": "loss as published",
}
_LLAMA_COMMAND = (
    "DATA/isoflops/isoflops.csv --law {law} --columns flops=budget "
    "--where \"experiment == 'llama_3__raw_loss' and budget < 2e21\""
)
_LAMBADA: dict[str, Any] = {"table": laws_tables.lambada, "ylabel": "error on LAMBADA", **_FLOPS}
_LAMBADA_COMMAND = (
    "DATA/gadre/models.csv --law {law} --columns x=flops,loss=err_lambada_openai "
    '--where "N < 1e9 and tok_mult >= 10 and tok_mult <= 80"'
)
_GEMSTONES: dict[str, Any] = {
    "table": laws_tables.gemstones,
    "along": "tokens",
    "label": "tokens",
    "kind": "size",
    "options": {"cluster": "run"},
}
_SCHEDULES: dict[str, Any] = {
    "table": laws_tables.schedules,
    "along": "step",
    "label": "step",
    "kind": "size",
    "options": {"cluster": "curve", "bootstrap": 0},
    "through_rows": True,
}
_SCHEDULES_COMMAND = (
    " ".join(f"DATA/multipowerlaw/25M/{name}.csv" for name in TRAINED_ON) + " --law {law} --cluster curve --bootstrap 0"
)
_GEMSTONES_COMMAND = 'DATA/gemstones/cool_begin.csv --law {law} --where "params < 1.5e9" --cluster run'

EXAMPLES: tuple[Example, ...] = (
    Example(law="power", table=laws_tables.llama_minima, ylabel="loss as published", **_FLOPS),
    Example(
        law="shifted",
        table=laws_tables.constant_rate,
        along="x",
        label="step",
        kind="size",
        command='DATA/multipowerlaw/25M/constant_72000.csv --law shifted --columns x=step --where "step <= 24000"',
    ),
    Example(law="m4", command=_LAMBADA_COMMAND.format(law="m4"), **_LAMBADA),
    Example(law="bnsl", command=_LAMBADA_COMMAND.format(law="bnsl"), **_LAMBADA),
    Example(law="hoffmann", command=_LLAMA_COMMAND.format(law="hoffmann"), **_LLAMA),
    Example(law="kaplan", command=_LLAMA_COMMAND.format(law="kaplan"), **_LLAMA),
    Example(law="skaling", command=_LLAMA_COMMAND.format(law="skaling"), **_LLAMA),
    Example(law="farseer", command=_LLAMA_COMMAND.format(law="farseer"), **_LLAMA),
    Example(law="gemstones", command=_GEMSTONES_COMMAND.format(law="gemstones"), **_GEMSTONES),
    Example(law="gemstones-shape", command=_GEMSTONES_COMMAND.format(law="gemstones-shape"), **_GEMSTONES),
    Example(
        law="muennighoff",
        table=laws_tables.repeated,
        along="tokens",
        label="tokens, repetitions counted",
        kind="size",
        command="DATA/scalebench/data_constrained_train.csv --law muennighoff",
    ),
    Example(
        law="gadre",
        table=laws_tables.over_trained,
        along="ratio",
        label="tokens per parameter",
        kind="number",
        options={"objective": "squared", "residuals": "raw", "bootstrap": 0},
        command="DATA/gadre/models.csv --law gadre --columns params=N,tokens=D,loss=loss_c4_val --objective squared "
        f"--residuals raw --bootstrap 0 --where \"dataset_name == 'c4_original' and ({GADRE_RUNS})\"",
    ),
    Example(
        law="vocabulary",
        table=laws_tables.vocabularies,
        along="tokens",
        label="characters",
        kind="size",
        ylabel="loss normalised by unigrams",
        options={"residuals": "raw"},
        command="DATA/scalebench/vocab_train.csv --law vocabulary --residuals raw --columns "
        "params=non_vocab_parameters,vocab=vocab_size,tokens=num_characters,loss=unigram_normalized_loss "
        '--where "non_vocab_parameters < 1e9"',
    ),
    Example(
        law="zhang",
        table=laws_tables.fine_tuning,
        along="finetune_tokens",
        label="fine-tuning tokens",
        kind="size",
        truth=laws_tables.FINE_TUNED,
    ),
    Example(
        law="hernandez",
        table=laws_tables.transfer,
        along="finetune_tokens",
        label="fine-tuning tokens",
        kind="size",
        truth=laws_tables.TRANSFERRED,
    ),
    Example(
        law="parallel",
        table=laws_tables.streams,
        along="params",
        label="params",
        kind="size",
        command="DATA/scalebench/parallel_train.csv --law parallel --columns params=num_params "
        "--where \"group == 'pile' and num_params < 4e9\"",
    ),
    Example(law="multipower", command=_SCHEDULES_COMMAND.format(law="multipower"), **_SCHEDULES),
    Example(law="tissue", command=_SCHEDULES_COMMAND.format(law="tissue"), **_SCHEDULES),
    Example(
        law="lr-batch",
        table=laws_tables.best_rates,
        along="params",
        label="params",
        kind="size",
        ylabel="best peak learning rate",
        log_y="number",
        options={"objective": "squared"},
        command="reports/recipe/rates.csv --law lr-batch --columns optimum=best_lr --objective squared "
        '--where "lr == best_lr"',
    ),
    Example(
        law="optimum-power",
        table=laws_tables.best_sizes,
        ylabel="best size",
        log_y="size",
        options={"objective": "squared"},
        command="DATA/porian/optimal_pairs.csv --law optimum-power --columns x=flops,optimum=n --objective squared "
        "--where \"hparams == 'tuned' and flops < 3e18\"",
        **_FLOPS,
    ),
    Example(
        law="critical-batch",
        table=laws_tables.critical,
        along="loss",
        label="loss, nats per token",
        kind="number",
        ylabel="critical batch, tokens",
        log_y="size",
        truth=laws_tables.CRITICAL,
    ),
    Example(
        law="batch-tradeoff",
        table=laws_tables.traded,
        along="batch",
        label="batch, tokens",
        kind="size",
        ylabel="steps to the loss",
        log_y="size",
        truth=laws_tables.TRADED,
    ),
    Example(
        law="downstream-exponential",
        table=laws_tables.task_mean,
        along="loss",
        label="loss on C4, nats per token",
        kind="number",
        ylabel="mean error of 17 tasks",
        options={"objective": "squared", "residuals": "raw", "bootstrap": 0},
        command="DATA/gadre/models.csv --law downstream-exponential --columns loss=loss_c4_val,error=err_avg_subset "
        "--objective squared --residuals raw --bootstrap 0 "
        f"--where \"dataset_name == 'c4_original' and ({GADRE_DOWNSTREAM_RUNS})\"",
    ),
    Example(
        law="downstream-sigmoid",
        table=laws_tables.one_task,
        along="loss",
        label="loss on C4, nats per token",
        kind="number",
        ylabel="error on HellaSwag",
        command="DATA/gadre/models.csv --law downstream-sigmoid --columns loss=loss_c4_val,error=err_hellaswag "
        '--where "N < 1e9"',
    ),
)
"""One example a law."""
