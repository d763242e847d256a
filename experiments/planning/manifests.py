"""A sweep's manifest: made from a plan, found by name or path, and read back as runs, facts and segments."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from experiments.config.designs import Plan, PlannedRun
from experiments.config.reading import load_sweep
from experiments.errors import UserError
from experiments.planning.compiler import ExecutionPlan, Segment
from experiments.planning.costs import CostModel
from experiments.planning.facts import RunFacts
from experiments.records import Manifest, read_manifest
from experiments.store.store import RunStore


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
