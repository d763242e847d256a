"""From a sweep's YAML to its plan, and from a plan to the store: what `plan`, `run` and `status` share. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.config.counts import flops_of
from experiments.config.designs import Plan, expand
from experiments.config.reading import load_sweep
from experiments.config.recipes import RECIPES
from experiments.data.identity import known_train_tokens, resolve
from experiments.errors import UserError
from experiments.machine.devices import resolve_precision
from experiments.planning.compiler import Estimates, ExecutionPlan, compile_runs
from experiments.planning.costs import CostModel, checkpoint_bytes, training_memory_bytes
from experiments.planning.manifests import manifest_of
from experiments.store.checkpoints import available_checkpoints, declare_needed
from experiments.store.store import RunStore


def make_plan(path: Path, overrides: Sequence[str] = (), *, kind: str = "cpu", cache_dir: Path | None = None) -> Plan:
    """Read a sweep file and expand it; precision 'auto' is resolved for devices of `kind`.

    Raises
    ------
    UserError
        When the file, a shape or a budget cannot be right, before anything is written.
    """
    sweep = load_sweep(path, overrides)
    sweep = replace(sweep, precision=resolve_precision(sweep.precision, kind))
    plan = expand(sweep, resolve=lambda data: resolve(data, cache_dir))
    for run in plan.runs:
        available = known_train_tokens(run.config.data, cache_dir)
        if available is not None and run.config.tokens > available * run.config.data.max_epochs:
            from experiments.data.budget import budget_problem

            raise UserError(str(budget_problem(run.config.data, available, run.config.tokens)))
    return plan


def compile_plan(plan: Plan, store: RunStore, costs: CostModel, *, share: bool = True) -> ExecutionPlan:
    """What of a plan is left to train, with shared prefixes trained once."""
    extendable = share and not RECIPES[plan.sweep.recipe.name].depends_on_tokens
    return compile_runs(
        plan.runs,
        Estimates(
            seconds=costs.seconds,
            flops=flops_of,
            memory_bytes=training_memory_bytes,
            checkpoint_bytes=checkpoint_bytes,
        ),
        done={run.run_id for run in plan.runs if store.record_path(run.run_id).exists()},
        available=available_checkpoints(store),
        share=share,
        keep_last=extendable,
    )


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What writing a manifest changed."""

    added: tuple[str, ...] = ()
    """Runs that the sweep did not have."""
    removed: tuple[str, ...] = ()
    """Runs that it no longer lists; their records stay."""
    corpus: str | None = None
    """The corpus, when its content is not the one that the sweep had before."""


def write_plan(plan: Plan, source: Path, store: RunStore, *, kind: str = "cpu", share: bool = True) -> Changes:
    """Compile the plan, write configs and manifest; what changed against the manifest before."""
    store.prepare()
    known = store.read_manifest(plan.sweep.name)
    costs = cost_model(store, [run.run_id for run in plan.runs], kind)
    execution = compile_plan(plan, store, costs, share=share)
    store.write_manifest(manifest_of(plan, execution, source, store, kind))
    declare_needed(store, plan.sweep.name, execution.trunks)
    for run in plan.runs:
        store.write_config(run.run_id, run.config)
    before, after = set(known.runs) if known else set(), {run.run_id for run in plan.runs}
    if known is None:
        return Changes()
    old, data = known.sweep, plan.sweep.data
    changed = old.get("corpus") == data.corpus and old.get("content_hash") != data.content_hash
    return Changes(
        added=tuple(sorted(after - before)),
        removed=tuple(sorted(before - after)),
        corpus=data.corpus if changed else None,
    )


def cost_model(store: RunStore, run_ids: Sequence[str], kind: str) -> CostModel:
    """A cost model that has learnt from the finished ones among these runs."""
    records = (store.read_record(run_id) for run_id in run_ids)
    return CostModel(kind=kind).learn(record for record in records if record is not None)
