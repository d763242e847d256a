"""`finetune RUN... --task TASK --examples 0,100,300 --methods full,lora`: trained runs learn a task, and one table."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from experiments.config.finetuning import METHODS, FinetuneRun, starting_rate
from experiments.data.cache import Cache
from experiments.errors import UserError
from experiments.files import write_atomic
from experiments.formatting import plain_table
from experiments.records import flat_row
from experiments.store.store import RunStore

if TYPE_CHECKING:
    import pandas as pd

Value = TypeVar("Value")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `finetune`."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run ids, or names of sweeps: all their runs")
    parser.add_argument("--store", type=Path, default=Path(), help="folder of runs/ and sweeps/ (default: here)")
    parser.add_argument("--task", required=True, help="a classification of `data list`, or csv:, jsonl:, parquet:PATH")
    parser.add_argument("--text", default="text", help="column of the inputs in a file (default: text)")
    parser.add_argument("--label", default="label", help="column of the labels in a file (default: label)")
    parser.add_argument(
        "--methods", default="full,head,lora", help=f"of {', '.join(METHODS)} (default: full,head,lora)"
    )
    parser.add_argument("--examples", default="0,100,300,1000", help="training examples; larger sets hold smaller ones")
    parser.add_argument("--seeds", default="0", help="every cell is trained once with each (default: 0)")
    parser.add_argument("--rank", type=int, default=8, help="LoRA's rank, adapters' width, vectors of a prompt")
    parser.add_argument("--epochs", type=int, default=3, help="passes over the examples (default: 3)")
    parser.add_argument(
        "--rate-factors",
        default="0.5,1,2",
        help="multiples of each method's starting rate that are tried (default: 0.5,1,2)",
    )
    parser.add_argument("--out", type=Path, required=True, help="table of all runs: .csv or .parquet")


def run(args: argparse.Namespace) -> int:
    """Train what is missing, print the best of each cell, and write the table."""
    if args.out.suffix not in (".csv", ".parquet"):
        raise UserError(f"--out is {args.out}; give a file that ends in .csv or .parquet")
    store = RunStore(args.store)
    grid = _grid(args)

    import pandas as pd
    import torch

    from experiments.data.corpora.task_files import find_task, task_hash
    from experiments.execution.finetuned import FinetunedStore, pretrained_problem

    names = pretrained_runs(store, args.runs)
    problem = next((text for text in (pretrained_problem(store, name) for name in names) if text), None)
    if problem is not None:
        raise UserError(problem)
    cache = Cache()
    task = find_task(args.task, cache, text=args.text, label=args.label)
    most, available = max(cell[1] for cell in grid), len(task.splits["train"])
    if most > available:
        raise UserError(f"--examples holds {most}, more than the {available} training examples of {args.task}")
    torch.set_num_threads(1)
    content, finetuned, rows = task_hash(task), FinetunedStore(store, cache), []
    for name in names:
        width = store.read_config(name).model.width
        for method, examples, seed, factor in grid:
            item = FinetuneRun(
                pretrained=name,
                task=args.task.partition(":")[0],
                task_hash=content,
                examples=examples,
                method=method,
                learning_rate=factor * starting_rate(method, width),
                rank=args.rank,
                epochs=args.epochs,
                seed=seed,
            )
            rows.append(flat_row(finetuned.train(item, task), {"rate_factor": factor}))
    frame = mark_best(pd.DataFrame(rows))
    content_out = frame.to_csv(index=False) if args.out.suffix == ".csv" else frame.to_parquet(index=False)
    write_atomic(args.out, content_out, remedy="choose another --out")
    print(_table(frame))
    print(
        f"{len(frame)} runs: {args.out}; fit them by `python -m analysis fit {args.out} --law bounded --columns "
        "x=examples --where \"method == 'full' and best\"`"
    )
    return 0


def _grid(args: argparse.Namespace) -> list[tuple[Any, int, int, float]]:
    """(method, examples, seed, rate factor) of every run; without examples nothing is trained, and one rate does."""
    methods = [word.strip() for word in args.methods.split(",") if word.strip()]
    examples = _numbers(args.examples, "--examples", int)
    seeds, factors = _numbers(args.seeds, "--seeds", int), _numbers(args.rate_factors, "--rate-factors", float)
    for method in methods:
        # refuses unknown methods and ranks
        FinetuneRun(pretrained="", task="", task_hash="", examples=0, method=method, learning_rate=1.0, rank=args.rank)
    if min(factors) <= 0:
        raise UserError(f"--rate-factors is {args.rate_factors}; give positive numbers such as 0.5,1,2")
    cells = itertools.product(methods, examples, seeds, factors)
    return [cell for cell in cells if cell[1] > 0 or cell[3] == factors[0]]


def _numbers(text: str, option: str, kind: Callable[[str], Value]) -> list[Value]:
    try:
        values = list(dict.fromkeys(kind(word) for word in text.split(",") if word.strip()))
    except ValueError:
        values = []
    if not values:
        raise UserError(f"{option} is {text!r}; give numbers such as 1,2")
    return values


def pretrained_runs(store: RunStore, names: Sequence[str]) -> list[str]:
    """The run ids that names of runs and of sweeps stand for.

    Parameters
    ----------
    store : RunStore
        Where they are.
    names : sequence of str
        Run ids, or names of sweeps.

    Raises
    ------
    UserError
        When the store holds neither.
    """
    found: list[str] = []
    for name in names:
        manifest = store.read_manifest(name) if name.replace("-", "").replace("_", "").isalnum() else None
        if manifest is not None:
            found += list(manifest.runs)
        elif name and (store.runs / name).is_dir() and "/" not in name and "." not in name:
            found.append(name)
        else:
            raise UserError(f"{name!r} is neither a run nor a sweep of {store.root.resolve()}; `list` names its sweeps")
    return list(dict.fromkeys(found))


def mark_best(frame: pd.DataFrame) -> pd.DataFrame:
    """Add `best`, the rate of least loss in a cell, and `rate_at_edge`, where that is the least or the largest tried.

    A cell is a body, a method and a number of examples; losses are means over seeds. A best rate at the edge makes the
    loss an upper bound.
    """
    cell = ["pretrained", "method", "examples"]
    mean = frame.groupby([*cell, "rate_factor"], as_index=False)["loss"].mean()
    least = mean.loc[mean.groupby(cell)["loss"].idxmin()].rename(columns={"rate_factor": "best_factor"})
    span = frame.groupby(cell)["rate_factor"].agg(["min", "max"]).reset_index()
    joined = frame.merge(least[[*cell, "best_factor"]], on=cell).merge(span, on=cell)
    edge = (joined["best_factor"] == joined["min"]) | (joined["best_factor"] == joined["max"])
    joined["best"] = joined["rate_factor"] == joined["best_factor"]
    joined["rate_at_edge"] = edge & (joined["examples"] > 0)
    return joined.drop(columns=["min", "max", "best_factor"])


def _table(frame: pd.DataFrame) -> str:
    """The best rate of every cell, means over seeds."""
    headers = ["pretrained", "N", "method", "examples", "trainable", "loss", "accuracy", "rate"]
    cells = []
    best = frame[frame["best"]]
    for (name, method, examples), rows in best.groupby(["pretrained", "method", "examples"], sort=False):
        first = rows.iloc[0]
        cells.append(
            [
                str(name),
                str(first["params"]),
                str(method),
                str(examples),
                str(first["trainable_params"]),
                f"{rows['loss'].mean():.4f}",
                f"{rows['accuracy'].mean():.3f}",
                f"{first['lr']:.2g}" + (" at the edge: loss is an upper bound" if first["rate_at_edge"] else ""),
            ]
        )
    return plain_table(headers, cells, left=3)
