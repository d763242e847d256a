"""From a sweep's YAML to its runs, and from runs to what is left to train. Writes nothing; torch-free."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.config.designs import ExpandedSweep, expand
from experiments.config.kinds import AnyRun, flops_of
from experiments.config.reading import load_sweep
from experiments.config.recipes import RECIPES
from experiments.config.run import RunConfig
from experiments.config.sweep import RecipeConfig
from experiments.config.tuning.sweep import FinetuneSweep
from experiments.data.budget import budget_problem
from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.identity import known_train_tokens, resolve
from experiments.errors import UserError
from experiments.machine.choices import ExecutionChoices
from experiments.machine.devices import DeviceKind, gpu_memory_bytes
from experiments.manifests import Segment
from experiments.planning.costs import CostModel, checkpoint_bytes, training_memory_bytes
from experiments.planning.holdout import check_holdout
from experiments.planning.prefix_tree import CompiledSweep, Estimates, compile_runs
from experiments.planning.profile.choice import profile_sweep
from experiments.planning.profile.table import shape_key
from experiments.planning.stacks import stack_segments
from experiments.planning.tuning import expand_finetune
from experiments.store.checkpoints import available_checkpoints
from experiments.store.store import RunStore

Measure = Callable[[DataConfig], int]
"""Builds the tokens of a resolved config and counts those of one pass."""


def expand_file(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    cache: Cache,
    kind: DeviceKind = "cpu",
    measure: Measure | None = None,
    store: RunStore | None = None,
) -> ExpandedSweep:
    """Read a sweep file and expand it to its runs.

    Parameters
    ----------
    path : Path
        The sweep's YAML.
    overrides : sequence of str
        Options such as `--design.budgets=[1e11]` that replace its fields.
    cache : Cache
        The cache folder.
    kind : str
        Kind of device, cpu or cuda, for which precision 'auto' is resolved.
    measure : callable or None
        Asked once for each corpus whose tokens nobody has counted yet; None: such a corpus goes unchecked.
    store : RunStore, optional
        Holds the pre-trained runs of a fine-tuning sweep, and what is known of its rates; the working folder by
        default.

    Returns
    -------
    ExpandedSweep
        With resolved data.

    Raises
    ------
    UserError
        When the file, a shape or a budget cannot be right, before anything is written.
    """
    sweep = load_sweep(path, overrides)
    if isinstance(sweep, FinetuneSweep):
        file, before = sweep.pretrained.file, None
        if file is not None:
            before = expand_file(file, cache=cache, kind=kind, measure=measure, store=store)
            if isinstance(before.sweep, FinetuneSweep):
                raise UserError(f"pretrained.sweep is {file}, which fine-tunes itself; name a sweep that pre-trains")
        return expand_finetune(sweep, store=store or RunStore(Path()), cache=cache, kind=kind, before=before)
    expanded = expand(sweep, resolve=lambda data: resolve(data, cache), kind=kind)
    check_holdout(expanded)
    available = train_tokens(expanded, cache, measure)
    largest = sorted(expanded.runs, key=lambda run: -run.config.tokens)  # its sentence settles all others
    for run in largest:
        tokens = available[run.run_id]
        if tokens is None or not isinstance(run.config, RunConfig):
            continue
        problem = budget_problem(run.config.data, tokens, run.config.tokens)
        if problem is not None:
            raise UserError(problem)
    return expanded


def train_tokens(expanded: ExpandedSweep, cache: Cache, measure: Measure | None = None) -> dict[str, int | None]:
    """Find the tokens of one pass over the training split, for each run.

    Parameters
    ----------
    expanded : ExpandedSweep
        The runs; many hold the same data, which is looked up once.
    cache : Cache
        The cache folder.
    measure : callable or None
        Counts the tokens of a corpus that nobody has counted yet.

    Returns
    -------
    dict of str to int or None
        By run id; None where nobody knows before the corpus is built, and for fine-tuning runs.
    """
    data = {run.run_id: run.config.data for run in expanded.runs if isinstance(run.config, RunConfig)}
    by_data = {id(one): one for one in data.values()}
    known = {name: known_train_tokens(one, cache) for name, one in by_data.items()}
    if measure is not None:
        known = {name: measure(by_data[name]) if count is None else count for name, count in known.items()}
    return {run.run_id: known[id(data[run.run_id])] if run.run_id in data else None for run in expanded.runs}


def _depends_on_tokens(recipe: RecipeConfig) -> bool:
    """Whether a run's rates follow its tokens, so that none can go on from another's checkpoint."""
    if recipe.rate_law is not None and recipe.rate_law.tokens != 0:
        return True
    return RECIPES[recipe.name].depends_on_tokens


def compile_sweep(
    expanded: ExpandedSweep,
    store: RunStore,
    costs: CostModel,
    *,
    share: bool = True,
    profile: Mapping[str, Mapping[str, Any]] | None = None,
) -> CompiledSweep:
    """Arrange what is left to train, so that shared prefixes are trained once.

    Parameters
    ----------
    expanded : ExpandedSweep
        The runs.
    store : RunStore
        What is trained already.
    costs : CostModel
        Estimates the time of each.
    share : bool
        Whether runs share the training that they have in common.
    profile : mapping of str to mapping, optional
        Shape -> what measured times decided before; by default it is decided from what the store holds of this
        machine's device.

    Returns
    -------
    CompiledSweep
        The segments of the missing runs.
    """
    sweep = expanded.sweep
    first = _before(expanded, store, costs, share=share)
    extendable = share and not isinstance(sweep, FinetuneSweep) and not _depends_on_tokens(sweep.recipe)
    compiled = compile_runs(
        expanded.runs,
        Estimates(
            seconds=costs.seconds,
            flops=flops_of,
            memory_bytes=training_memory_bytes,
            checkpoint_bytes=checkpoint_bytes,
        ),
        done={run.run_id for run in expanded.runs if store.is_published(run.run_id)},
        available=available_checkpoints(store),
        share=share,
        keep_last=extendable,
    )
    later = tuple(replace(item, after=expanded.waits.get(item.segment_id, item.after)) for item in compiled.segments)
    if isinstance(sweep, FinetuneSweep):
        return replace(compiled, segments=(*first.segments, *later), profile=first.profile, measured=first.measured)
    configs = {run.run_id: run.config for run in expanded.runs}
    timed: dict[str, Mapping[int, float]] = {}
    if profile is None:
        gpu_bytes = gpu_memory_bytes() if costs.kind == "cuda" else None
        shapes = profile_sweep(expanded.runs, later, store, sweep.execution, sweep.name, costs.kind, gpu_bytes)
        compiled, profile = replace(compiled, profile=shapes), {item.key: item.values for item in shapes if item.values}
        timed = {item.key: item.stacked for item in shapes}

    choices_of = choices_by(expanded, profile)

    def gain_of(config: RunConfig, members: int) -> float:
        known = {number: gain for number, gain in timed.get(shape_key(config) or "", {}).items() if number <= members}
        return max(1.0, known[max(known)]) if known and members > 1 else costs.stack_gain(config, members)

    held = {run_id: training_memory_bytes(config, choices_of(config)) for run_id, config in configs.items()}
    later = tuple(replace(item, memory_bytes=held[item.run_id]) for item in later)
    segments, stacks = stack_segments(later, configs, choices_of, costs.kind, gain_of)
    return replace(compiled, segments=(*first.segments, *segments), stacks=stacks, measured=profile)


def choices_by(
    expanded: ExpandedSweep, decided: Mapping[str, Mapping[str, Any]]
) -> Callable[[AnyRun], ExecutionChoices]:
    """Return what says how each run of a sweep is executed.

    Parameters
    ----------
    expanded : ExpandedSweep
        The sweep, whose file may force choices; fine-tuning sweeps force none.
    decided : mapping of str to mapping
        Shape -> what is decided of it, as `CompiledSweep.measured` says.

    Returns
    -------
    callable
        Takes a run's config.
    """
    sweep = expanded.sweep
    forced = ExecutionChoices() if isinstance(sweep, FinetuneSweep) else sweep.execution
    return lambda config: forced.completed(decided.get(shape_key(config) or "", {}))


def _before(expanded: ExpandedSweep, store: RunStore, costs: CostModel, *, share: bool) -> CompiledSweep:
    """The segments of the pre-trained runs for which fine-tuning runs wait; they come first."""
    bodies = {expanded.waits[run.run_id] for run in expanded.runs if run.run_id in expanded.waits}
    if not bodies or not isinstance(expanded.sweep, FinetuneSweep):
        return CompiledSweep(segments=())
    if expanded.before is not None:
        return compile_sweep(expanded.before, store, costs, share=share)
    manifest = store.read_manifest(str(expanded.sweep.pretrained.sweep))
    known = () if manifest is None else manifest.segments
    covered = {item.segment_id for item in known}
    alone = (
        Segment(segment_id=run, run_id=run, end_step=store.read_any(run).num_steps) for run in sorted(bodies - covered)
    )
    return CompiledSweep(segments=(*known, *alone))
