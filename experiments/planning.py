"""From a sweep's YAML to its plan, and from a plan to the store: what `plan`, `run` and `status` share. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from experiments.compiler import Estimates, ExecutionPlan, Segment, compile_runs
from experiments.costs import CostModel, checkpoint_bytes, training_memory_bytes
from experiments.data.identity import known_train_tokens, resolve
from experiments.describe import flops_of
from experiments.designs import Plan, PlannedRun, expand
from experiments.devices import resolve_precision
from experiments.errors import UserError
from experiments.progress import RunFacts
from experiments.recipes import RECIPES
from experiments.records import Manifest, read_manifest
from experiments.store import RunStore
from experiments.sweep import load_sweep
from experiments.trunk_store import available_checkpoints, declare_needed


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
            from experiments.data.corpus import budget_problem  # numpy; only for its sentence

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


def manifest_of(plan: Plan, execution: ExecutionPlan, source: Path, store: RunStore, kind: str) -> Manifest:
    """The manifest of a plan; the file that claims the name is named relative to the store."""
    report = asdict(plan.sweep.report)
    if report["holdout"] is None and any(run.labels.get("role") == "heldout" for run in plan.runs):
        report["holdout"] = "role == 'heldout'"
    return Manifest(
        name=plan.sweep.name,
        runs={run.run_id: dict(run.labels) for run in plan.runs},
        order=longest_first(plan, CostModel(kind=kind)),
        facts={run.run_id: asdict(RunFacts.of(run.config, CostModel(kind=kind))) for run in plan.runs},
        segments=[segment.to_dict() for segment in execution.segments],
        trunks=execution.trunks,
        report=report,
        source=os.path.relpath(source.resolve(), store.root.resolve()),
        sweep={
            "design": plan.sweep.design.kind,
            "corpus": plan.sweep.data.corpus,
            "content_hash": plan.sweep.data.content_hash,
        },
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


def longest_first(plan: Plan, costs: CostModel) -> list[str]:
    """Run ids by falling estimated time, so that the last ones to finish are short."""
    seconds = {run.run_id: costs.seconds(run.config) for run in plan.runs}
    return sorted(seconds, key=lambda run_id: (-seconds[run_id], run_id))


def find_manifest(sweep: str, store: Path | None) -> tuple[RunStore, Manifest]:
    """The store and manifest that a command line means: a manifest's path, a sweep's YAML, or a sweep's name.

    Raises
    ------
    UserError
        When the sweep has never been run in that store.
    """
    path = Path(sweep)
    if path.suffix == ".json" and path.exists():
        return RunStore(path.resolve().parent.parent), read_manifest(path)
    root = RunStore(store or Path())
    name = load_sweep(path).name if path.suffix in (".yaml", ".yml") else sweep
    manifest = root.read_manifest(name)
    if manifest is None:
        known = sorted(file.stem for file in root.sweeps.glob("*.json"))
        hint = f"it knows {', '.join(known)}" if known else "it holds no sweep yet"
        raise UserError(
            f"sweep {name!r} is not in the store {root.root.resolve()}; {hint}; start it with `python -m experiments "
            f"run`"
        )
    return root, manifest


def planned_runs(store: RunStore, manifest: Manifest) -> list[PlannedRun]:
    """The runs of a manifest with their configs, in the workers' order."""
    order = manifest.order or list(manifest.runs)
    return [
        PlannedRun(run_id=run_id, config=store.read_config(run_id), labels=manifest.runs[run_id]) for run_id in order
    ]


def facts_of(store: RunStore, manifest: Manifest) -> dict[str, RunFacts]:
    """What is shown of each run, in the order of the plan; read from configs where an older manifest holds none."""
    known = {run_id: RunFacts.from_dict(raw) for run_id, raw in manifest.facts.items()}
    costs = CostModel(kind="cpu")
    return {
        run_id: known.get(run_id) or RunFacts.of(store.read_config(run_id), costs)
        for run_id in manifest.order or list(manifest.runs)
    }


def segments_of(store: RunStore, manifest: Manifest) -> list[Segment]:
    """What workers take, the most urgent first; runs that the manifest's segments do not cover are trained alone."""
    segments = [Segment(**item) for item in manifest.segments]
    covered = {item.run_id for item in segments if not item.is_stretch}
    return segments + [
        alone(store, run_id)
        for run_id in manifest.order or list(manifest.runs)
        if run_id not in covered and not store.record_path(run_id).exists()
    ]


def alone(store: RunStore, run_id: str) -> Segment:
    """A run of the store as one segment."""
    return Segment(segment_id=run_id, run_id=run_id, end_step=store.read_config(run_id).num_steps)
