"""`plan SWEEP.yaml`: the runs of a sweep with their cost, as a table or as JSON.

Writes nothing; imports neither torch nor pandas.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from experiments.config.designs import ExpandedSweep
from experiments.config.kinds import AnyRun, design_of
from experiments.config.recipes import RECIPES
from experiments.config.sweep import SweepConfig
from experiments.config.tuning.sweep import FinetuneSweep
from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.formatting import duration, plain_table
from experiments.machine.choices import ExecutionChoices
from experiments.machine.devices import DeviceKind, find_devices
from experiments.planning.costs import CostModel, learned_costs, training_memory_bytes
from experiments.planning.packing import pack
from experiments.planning.plans import choices_by, compile_sweep, expand_file, train_tokens
from experiments.planning.prefix_tree import CompiledSweep
from experiments.store.store import RunStore
from experiments.verbs.planning.plan_tuning import print_tuning_plan
from models.command_line import next_step
from models.formatting import counted, format_bytes, format_compute, format_size

SHOWN = ("params", "width", "depth", "tokens", "epochs", "flops", "steps", "batch", "lr", "seed")
"""Fields of a run's design that its row holds."""
SHOWN_OF_TUNING = ("pretrained", "method", "size", "examples", "trainable_params")
"""More of them, of a fine-tuning run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `plan`; other `--dotted.field=value` options override the file's fields."""
    parser.add_argument("sweep", type=Path, help="sweep file (YAML)")
    parser.add_argument("--store", type=Path, default=Path(), help="folder of runs/ and sweeps/ (default: here)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where it would be trained")
    parser.add_argument("--workers", type=int, help="number of workers (default: one per core or GPU)")
    parser.add_argument(
        "--no-sharing", action="store_true", help="train every run alone, also where runs share their first steps"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    """Print the plan."""
    if args.json:
        print(json.dumps(summary_from_args(args), indent=1, allow_nan=False))
        return 0
    devices = find_devices(args.device, args.workers)
    expanded, summary = _planned(args)
    show = print_tuning_plan if isinstance(expanded.sweep, FinetuneSweep) else _print_table
    show(expanded, summary, len(devices), devices[0].kind)
    print(next_step(*_next_words(args, expanded.sweep.name, done=summary["num_done"] == summary["num_runs"])))
    return 0


def _next_words(args: argparse.Namespace, name: str, *, done: bool) -> list[object]:
    """The command after this plan: `run` with the same options, or `collect` where nothing is left to train."""
    store: list[object] = [] if args.store == Path() else ["--store", args.store]
    if done:
        return ["collect", name, *store, "--out", args.store / f"{name}.csv"]
    device = [] if args.device == "auto" else ["--device", args.device]
    workers = [] if args.workers is None else ["--workers", args.workers]
    alone = ["--no-sharing"] if args.no_sharing else []
    return ["run", args.sweep, *store, *device, *workers, *alone, *args.overrides]


def summary_from_args(args: argparse.Namespace) -> dict[str, Any]:
    """The plan that these options ask for, as plain data."""
    return _planned(args)[1]


def _planned(args: argparse.Namespace) -> tuple[ExpandedSweep, dict[str, Any]]:
    devices = find_devices(args.device, args.workers)
    cache, store = Cache(), RunStore(args.store)
    expanded = expand_file(
        args.sweep,
        args.overrides,
        cache=cache,
        kind=devices[0].kind,
        measure=partial(measure_corpus, cache=cache),
        store=store,
    )
    store.check_name(expanded.sweep.name, args.sweep)
    costs = learned_costs(store, [item.run_id for item in expanded.runs], devices[0].kind)
    compiled = compile_sweep(expanded, store, costs, share=not args.no_sharing)
    rows = run_rows(expanded, store, costs, train_tokens(expanded, cache), choices_by(expanded, compiled.measured))
    return expanded, summarize(expanded, compiled, rows, workers=len(devices))


def measure_corpus(data: DataConfig, *, cache: Cache) -> int:
    """Build the tokens of a corpus, which training needs anyway, and count those of one pass.

    Parameters
    ----------
    data : DataConfig
        The corpus with its tokenizer and context.
    cache : Cache
        Holds the tokens.

    Returns
    -------
    int
        Tokens of one pass over the training part.

    Raises
    ------
    UserError
        When the corpus cannot be trained on.
    """
    from experiments.data.corpus import prepare  # numpy: only for a corpus that nobody has measured yet

    print(f"measuring corpus {data.corpus} for the first time", file=sys.stderr)
    return prepare(data, cache).num_train_tokens


def run_rows(
    expanded: ExpandedSweep,
    store: RunStore,
    costs: CostModel,
    num_train_tokens: Mapping[str, int | None],
    choices_of: Callable[[AnyRun], ExecutionChoices],
) -> list[dict[str, Any]]:
    """One row a run: its labels, its design, and what it costs.

    Parameters
    ----------
    expanded : ExpandedSweep
        The runs.
    store : RunStore
        Knows which are done.
    costs : CostModel
        Estimates the time of each.
    num_train_tokens : mapping of str to int or None
        Tokens of one pass over the training split by run id.
    choices_of : callable
        How a run is executed, which decides what it holds in memory.
    """
    rows = []
    for item in expanded.runs:
        design = design_of(item.config, num_train_tokens=num_train_tokens[item.run_id])
        rows.append(
            {
                "run_id": item.run_id,
                **item.labels,
                **{name: design[name] for name in (*SHOWN, *SHOWN_OF_TUNING) if name in design},
                "memory_bytes": training_memory_bytes(item.config, choices_of(item.config)),
                "seconds": costs.seconds(item.config),
                "done": store.is_published(item.run_id),
            }
        )
    return rows


def summarize(
    expanded: ExpandedSweep, compiled: CompiledSweep, rows: list[dict[str, Any]], *, workers: int
) -> dict[str, Any]:
    """The plan as plain data: one row a run, and totals.

    Parameters
    ----------
    expanded : ExpandedSweep
        The runs.
    compiled : CompiledSweep
        What of them is missing, and what sharing saves; `sharing` tells of it.
    rows : list of dict
        What `run_rows` gives.
    workers : int
        Number of workers for the estimate of the time.
    """
    return {
        "name": expanded.sweep.name,
        "num_runs": len(rows),
        "num_done": sum(bool(row["done"]) for row in rows),
        "flops": sum(float(row["flops"]) for row in rows),
        "seconds": pack(compiled.segments, workers, None if compiled.stacks is None else compiled.stacks.gains).seconds,
        "sharing": {
            "num_segments": len(compiled.segments),
            "num_trunks": len({item.prefix for item in compiled.segments if item.is_prefix or item.start_step}),
            "flops_alone": compiled.flops_alone,
            "flops": compiled.flops,
            "saved_fraction": compiled.saved_fraction,
            "critical_seconds": compiled.critical_seconds,
            "checkpoint_bytes": compiled.checkpoint_bytes,
            "checkpoint_bytes_during": compiled.checkpoint_bytes_during,
            "why_not": list(compiled.why_not),
        },
        **({"execution": expanded.sweep.execution.forced} if isinstance(expanded.sweep, SweepConfig) else {}),
        **({"profile": [asdict(item) for item in compiled.profile]} if compiled.profile else {}),
        **({} if compiled.stacks is None else {"stacks": asdict(compiled.stacks)}),
        "left_out": list(expanded.left_out),
        "waits_for": sorted(set(expanded.waits.values())),
        "runs": rows,
    }


def _print_table(expanded: ExpandedSweep, summary: dict[str, Any], workers: int, kind: DeviceKind) -> None:
    assert not isinstance(expanded.sweep, FinetuneSweep)
    recipe = RECIPES[expanded.sweep.recipe.name]
    isoflop = expanded.sweep.design.kind == "isoflop"
    varied = list(expanded.sweep.vary)
    headers = [
        "run",
        "role",
        *varied,
        "budget",
        "N",
        "width x depth",
        "D",
        "D/N",
        "C",
        "steps",
        "rate",
        "memory",
        "time",
        "",
    ]
    format_budget = format_compute if isoflop else format_size
    rows = summary["runs"]
    assert isinstance(rows, list)
    cells = [
        [
            row["run_id"],
            row.get("role", ""),
            *(str(row.get(name, "")) for name in varied),
            "-" if row["budget"] is None else format_budget(row["budget"]),
            format_size(row["params"]),
            f"{row['width']} x {row['depth']}",
            format_size(row["tokens"]),
            f"{row['tokens'] / row['params']:.3g}",
            format_compute(row["flops"]),
            str(row["steps"]),
            f"{row['lr']:.2e}",
            format_bytes(row["memory_bytes"]),
            duration(row["seconds"]),
            "done" if row["done"] else "",
        ]
        for row in rows
    ]
    print(
        f"{expanded.sweep.name}: {counted(int(str(summary['num_runs'])), 'run')}, "
        f"{format_compute(float(str(summary['flops'])))} FLOPs\n"
    )
    print(plain_table(headers, cells, left=2 + len(varied)))
    if expanded.left_out:
        more = f", and {len(expanded.left_out) - 1} more (--json lists them)" if len(expanded.left_out) > 1 else ""
        print(f"left out: {expanded.left_out[0]}{more}")
    print(f"recipe {recipe.name}: {recipe.source}")
    _print_sharing(summary["sharing"])
    _print_execution(expanded.sweep.execution, summary.get("profile", []))
    _print_stacks(summary.get("stacks"))
    print(
        f"{summary['num_done']} of {summary['num_runs']} runs are done; the others take about "
        f"{duration(float(str(summary['seconds'])))} on {counted(workers, f'{kind} worker')}"
    )


def _print_execution(forced: ExecutionChoices, profile: Any) -> None:
    """How runs are executed: one line for all, or one for each shape that was measured, with the reasons."""
    told = [item for item in profile if item["measured"] or item["why"]]
    if len(told) < len(profile):
        hint = "" if not forced.profile else "; not measured (`isoflop profile` finds what is faster here)"
        print(f"execution{' of other shapes' if told else ''}: {forced.in_words()}{hint}")
    for item in told:
        print(f"execution of {item['shape']}: {item['execution']}")
        for reason in item["why"]:
            print(f"  {reason}")
    if any(item["not_taken"] for item in told):
        print("other choices are no faster or were not measured (`--json` gives the reason for each)")


def _print_stacks(stacks: Any) -> None:
    """How many runs are trained together, and what keeps others alone."""
    if stacks is None:
        return
    if stacks["num_runs"]:
        gains = [gain[-1] for gain in stacks["gains"].values()]
        print(
            f"stacked: {stacks['num_runs']} runs in {stacks['num_alike']} groups of equal shape, batch and steps, up "
            f"to {stacks['most_members']} trained together, about {min(gains):.2g} to {max(gains):.2g} times as fast"
        )
    for reason in stacks["why_not"]:
        print(f"not stacked: {reason}")


def _print_sharing(sharing: Any) -> None:
    """What shared prefixes save, and what keeps runs from sharing."""
    if sharing["num_trunks"]:
        print(
            f"{sharing['num_segments']} segments on {sharing['num_trunks']} shared prefixes: "
            f"{format_compute(sharing['flops'])} FLOPs instead of {format_compute(sharing['flops_alone'])} "
            f"({sharing['saved_fraction']:.0%} saved); "
            f"the longest chain of segments takes {duration(sharing['critical_seconds'])}"
        )
    if sharing["checkpoint_bytes"]:
        print(
            f"checkpoints of prefixes: at most {format_bytes(sharing['checkpoint_bytes_during'])} during training; "
            f"{format_bytes(sharing['checkpoint_bytes'])} are kept for longer budgets "
            "(`isoflop prune --trunks` removes them)"
        )
    for reason in sharing["why_not"]:
        print(f"not shared: {reason}")
