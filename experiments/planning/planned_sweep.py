"""PlannedSweep: a sweep as a store holds it.

Written from an expanded sweep, or found by name; answers what its runs, segments and facts are.

It must not know YAML fields, or how anything is trained. Torch-free.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from experiments.config.designs import ExpandedSweep, PlannedRun
from experiments.config.reading import load_sweep
from experiments.config.sweep import SweepConfig
from experiments.errors import UserError
from experiments.files import set_aside, write_atomic
from experiments.machine.devices import DeviceKind
from experiments.manifests import Manifest, RunFacts, Segment, read_manifest
from experiments.planning.costs import CostModel, facts_of, learned_costs
from experiments.planning.plans import compile_sweep
from experiments.planning.prefix_tree import CompiledSweep
from experiments.records import NewerLayout, RecordError
from experiments.store.checkpoints import declare_needed
from experiments.store.store import RunStore
from experiments.store.weights import UNPUBLISHED, WEIGHTS, place_weights


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What writing a manifest changed."""

    added: tuple[str, ...] = ()
    """Runs that the sweep did not have."""
    removed: tuple[str, ...] = ()
    """Runs that it no longer lists; their records stay."""
    corpus: str | None = None
    """The corpus, when its content is not the one that the sweep had before."""
    damage: tuple[str, ...] = ()
    """What was wrong with files that were set aside or not used, each as a sentence."""


@dataclass(frozen=True)
class PlannedSweep:
    """A sweep in its store."""

    store: RunStore
    """Where configs, claims and records are."""
    manifest: Manifest
    """Which runs the sweep has, and what was left to train when it was planned."""
    file: Path | None = None
    """Where the manifest lies; None: where the store keeps the sweep's."""

    @classmethod
    def find(cls, sweep: str, store: Path | None = None) -> PlannedSweep:
        """Find the sweep that a command line means.

        Parameters
        ----------
        sweep : str
            Path of a manifest, path of a sweep's YAML, or a sweep's name.
        store : Path or None
            Root of the store; None: the manifest's, or the working folder.

        Returns
        -------
        PlannedSweep
            As it was written last.

        Raises
        ------
        UserError
            When the sweep has never been run in that store.
        """
        path = Path(sweep)
        if path.suffix == ".json" and path.exists():
            return cls(RunStore(path.resolve().parent.parent), read_manifest(path))
        if path.suffix == ".parquet" and path.is_file():
            raise UserError(
                f"{sweep} is a table of finished runs, not a sweep in a store; read it with `isoflop report {sweep}` "
                "or any verb that takes a TABLE, such as fit, select and frontier"
            )
        root = RunStore(store or Path())
        name = load_sweep(path).name if path.suffix in (".yaml", ".yml") else sweep
        manifest = root.read_manifest(name)
        if manifest is None:
            known = sorted(file.stem for file in root.sweeps.glob("*.json"))
            hint = f"it knows {', '.join(known)}" if known else "it holds no sweep yet"
            raise UserError(
                f"sweep {name!r} is not in the store {root.root.resolve()}; {hint}; start it with `isoflop run`"
            )
        return cls(root, manifest)

    @classmethod
    def write(
        cls,
        expanded: ExpandedSweep,
        source: Path,
        store: RunStore,
        *,
        kind: DeviceKind = "cpu",
        share: bool = True,
        measured: bool = True,
    ) -> tuple[PlannedSweep, Changes]:
        """Write the configs and the manifest of a sweep.

        Parameters
        ----------
        expanded : ExpandedSweep
            Its runs.
        source : Path
            The YAML file; it claims the sweep's name.
        store : RunStore
            Where to write; its folders are made.
        kind : str
            Kind of device, cpu or cuda, whose speed orders the runs.
        share : bool
            Whether runs share the training that they have in common.
        measured : bool
            Whether times that were measured on this machine decide how runs are executed; else it stays as it was.

        Returns
        -------
        PlannedSweep
            The sweep as it was written.
        Changes
            What is new against the manifest before.

        Raises
        ------
        UserError
            When the name belongs to another file, or the store cannot be written.
        """
        store.prepare()
        damage = _set_aside_damage(store, expanded)
        before = store.read_manifest(expanded.sweep.name)
        costs = learned_costs(store, [run.run_id for run in expanded.runs], kind)
        profile = None if measured else before.profile if before is not None else {}
        compiled = compile_sweep(expanded, store, costs, share=share, profile=profile)
        manifest = _manifest_of(expanded, compiled, os.path.relpath(source.resolve(), store.root.resolve()), kind)
        manifest = replace(manifest, dropped=_dropped(before, manifest))
        damage += [item.problem for item in compiled.profile if item.problem is not None]
        store.write_manifest(manifest)
        declare_needed(store, manifest.name, compiled.prefixes)
        for run in expanded.runs:
            store.write_config(run.run_id, run.config)
            _place_weights(store, run.run_id)
        return cls(store, manifest), replace(_changes(before, manifest), damage=tuple(damage))

    def part(self, expanded: ExpandedSweep, *, kind: DeviceKind = "cpu", share: bool = True) -> PlannedSweep:
        """Write a manifest of some of the sweep's runs, so that workers train those alone.

        It lies beside the logs, and is no sweep of the store: the runs stay those of this sweep.

        Parameters
        ----------
        expanded : ExpandedSweep
            The sweep with only the runs that are wanted.
        kind : str
            Kind of device, cpu or cuda, whose speed orders the runs.
        share : bool
            Whether runs share the training that they have in common.

        Returns
        -------
        PlannedSweep
            Those runs; its `path` is the file for workers.
        """
        costs = learned_costs(self.store, [run.run_id for run in expanded.runs], kind)
        compiled = compile_sweep(expanded, self.store, costs, share=share, profile=self.manifest.profile)
        manifest = _manifest_of(expanded, compiled, self.manifest.source or "", kind)
        file = self.store.root / "logs" / f"{self.name}-part.json"
        file.parent.mkdir(exist_ok=True)
        write_atomic(file, manifest.to_json())
        return PlannedSweep(self.store, manifest, file)

    @property
    def name(self) -> str:
        """Name of the sweep."""
        return self.manifest.name

    @property
    def path(self) -> Path:
        """The manifest's file."""
        return self.file or self.store.manifest_path(self.name)

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Every run, the longest first."""
        return self.manifest.order or tuple(self.manifest.runs)

    def runs(self) -> list[PlannedRun]:
        """The runs with their configs, in the workers' order; UserError when a config cannot be read."""
        labels = self.manifest.runs
        return [
            PlannedRun(run_id=run_id, config=self.store.read_any(run_id), labels=labels[run_id])
            for run_id in self.run_ids
        ]

    @cached_property
    def facts(self) -> Mapping[str, RunFacts]:
        """What is shown of each run, in the workers' order; from its config where an older manifest lacks it."""
        known, costs = self.manifest.facts, CostModel(kind="cpu")
        return {run_id: known.get(run_id) or facts_of(self.store.read_any(run_id), costs) for run_id in self.run_ids}

    def segments(self) -> list[Segment]:
        """What workers take, the most urgent first; runs that no segment of the manifest covers are trained alone."""
        covered = {item.run_id for item in self.manifest.segments if not item.is_prefix}
        left = [name for name in self.run_ids if name not in covered and not self.store.is_published(name)]
        return [*self.manifest.segments, *(alone(self.store, run_id) for run_id in left)]

    def costs(self, kind: DeviceKind) -> CostModel:
        """A cost model for a kind of device (cpu or cuda) that has learnt from the sweep's finished runs."""
        return learned_costs(self.store, self.run_ids, kind)

    def missing(self) -> list[str]:
        """Runs without a record that can be believed."""
        return [run_id for run_id in self.run_ids if not self.store.is_published(run_id)]


def _place_weights(store: RunStore, run_id: str) -> None:
    """Finish what a worker left undone that was killed right after it had published a run."""
    folder = store.run_folder(run_id)
    if (folder / WEIGHTS).exists() or not any(folder.glob(f"{UNPUBLISHED}*")):
        return
    record = store.find_record(run_id)
    if record is not None:
        place_weights(folder, record)


def _set_aside_damage(store: RunStore, expanded: ExpandedSweep) -> list[str]:
    """Move what cannot be believed out of the sweep's way: its manifest, records of its runs; what was wrong."""
    found = []
    try:
        store.read_manifest(expanded.sweep.name)
    except NewerLayout:
        raise
    except RecordError as error:
        set_aside(store.manifest_path(expanded.sweep.name))
        found.append(str(error))
    problems = (store.set_aside_damage(run.run_id) for run in expanded.runs)
    return found + [problem for problem in problems if problem is not None]


def alone(store: RunStore, run_id: str) -> Segment:
    """Make one segment of a run that shares nothing.

    Parameters
    ----------
    store : RunStore
        Where its config is.
    run_id : str
        The run.

    Returns
    -------
    Segment
        From nothing to its last step; without estimates.

    Raises
    ------
    UserError
        When its config cannot be read.
    """
    return Segment(segment_id=run_id, run_id=run_id, end_step=store.read_any(run_id).num_steps)


def _manifest_of(expanded: ExpandedSweep, compiled: CompiledSweep, source: str, kind: DeviceKind) -> Manifest:
    sweep, costs = expanded.sweep, CostModel(kind=kind)
    report = asdict(sweep.report)
    if report.get("holdout") is None and any(run.labels.get("role") == "heldout" for run in expanded.runs):
        report["holdout"] = "role == 'heldout'"
    facts = {run.run_id: facts_of(run.config, costs) for run in expanded.runs}
    return Manifest(
        name=sweep.name,
        runs={run.run_id: dict(run.labels) for run in expanded.runs},
        order=tuple(sorted(facts, key=lambda run_id: (-facts[run_id].seconds, run_id))),  # the last to finish are short
        facts=facts,
        segments=compiled.segments,
        trunks=compiled.prefixes,
        report=report,
        source=source,
        sweep=expanded.about,
        execution=sweep.execution.forced if isinstance(sweep, SweepConfig) else {},
        profile=compiled.measured,
    )


def _dropped(before: Manifest | None, after: Manifest) -> dict[str, float]:
    """Since when runs that the sweep once had are no longer listed."""
    if before is None:
        return {}
    since = dict.fromkeys(before.runs, time.time()) | dict(before.dropped)
    return {run_id: when for run_id, when in since.items() if run_id not in after.runs}


def _changes(before: Manifest | None, after: Manifest) -> Changes:
    if before is None:
        return Changes()
    same_name = before.sweep.get("corpus") == after.sweep["corpus"]
    changed = same_name and before.sweep.get("content_hash") != after.sweep["content_hash"]
    return Changes(
        added=tuple(sorted(set(after.runs) - set(before.runs))),
        removed=tuple(sorted(set(before.runs) - set(after.runs))),
        corpus=after.sweep["corpus"] if changed else None,
    )
