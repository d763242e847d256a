"""The table that `plan` prints of a fine-tuning sweep."""

from __future__ import annotations

from typing import Any

from experiments.config.designs import ExpandedSweep
from experiments.formatting import duration, plain_table
from experiments.machine.devices import DeviceKind
from models.formatting import counted, format_compute, format_size


def print_tuning_plan(expanded: ExpandedSweep, summary: dict[str, Any], workers: int, kind: DeviceKind) -> None:
    """Print the runs of a fine-tuning sweep, what was left out, and how its rates will grow.

    Parameters
    ----------
    expanded : ExpandedSweep
        The runs.
    summary : dict
        What `plan.summarize` gives.
    workers : int
        Number of workers for the estimate of the time.
    kind : str
        Their kind of device.
    """
    rows = summary["runs"]
    headers = ["run", "role", "body", "method", "size", "examples", "N", "trainable", "steps", "rate", "C", "time", ""]
    cells = [
        [
            row["run_id"],
            row["role"],
            row["pretrained"],
            row["method"],
            "-" if row["size"] is None else str(row["size"]),
            str(row["examples"]),
            format_size(row["params"]),
            format_size(row["trainable_params"]),
            str(row["steps"]),
            f"{row['lr']:.2e}",
            format_compute(row["flops"]) if row["flops"] else "-",
            duration(row["seconds"]),
            _state(row),
        ]
        for row in rows
    ]
    print(f"{summary['name']}: {summary['num_runs']} runs by now, {format_compute(summary['flops'])} FLOPs at most\n")
    print(plain_table(headers, cells, left=4))
    bodies = len(set(expanded.waits.values()))
    if bodies:
        print(f"{len(expanded.waits)} runs wait for {bodies} pre-trained runs, which `isoflop run` trains first")
    if expanded.left_out:
        more = f", and {len(expanded.left_out) - 1} more (--json lists them)" if len(expanded.left_out) > 1 else ""
        print(f"left out: {expanded.left_out[0]}{more}")
    undecided = len({_cell(row) for row in rows} - {_cell(row) for row in rows if row["best"]})
    if undecided:
        print(f"{undecided} cells have no best rate yet: `isoflop run` tries further rates")
    edge = len({_cell(row) for row in rows if row["rate_at_edge"]})
    if edge:
        print(f"{edge} cells have their best rate at the edge of those tried, so their losses are upper bounds")
    print(
        f"{summary['num_done']} of {summary['num_runs']} runs are done; the others take about "
        f"{duration(float(summary['seconds']))} on {counted(workers, f'{kind} worker')}"
    )


def _cell(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("pretrained", "method", "size", "examples"))


def _state(row: dict[str, Any]) -> str:
    if not row["done"]:
        return ""
    best = "done, best" if row["best"] else "done"
    return f"{best} at the edge" if row["rate_at_edge"] else best
