"""Tables for a terminal: the progress of a sweep and the jobs of a scheduler."""

from __future__ import annotations

from typing import Any

from experiments.cluster.scheduler import SchedulerView
from experiments.formatting import duration
from experiments.records import RunStatus
from experiments.status.progress import RunProgress, SweepProgress
from models.formatting import format_compute, format_size


def wide_console() -> Any:
    """A rich console as wide as the terminal, and wide enough for every column where the output is a file or a pipe."""
    import sys

    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)


STYLES = {
    RunStatus.DONE: "green",
    RunStatus.RUNNING: "bold cyan",
    RunStatus.FAILED: "red",
    RunStatus.DIVERGED: "magenta",
    RunStatus.LOST: "yellow",
    RunStatus.INTERRUPTED: "yellow",
}

ORDER = (
    RunStatus.RUNNING,
    RunStatus.FAILED,
    RunStatus.DIVERGED,
    RunStatus.LOST,
    RunStatus.INTERRUPTED,
    RunStatus.DONE,
    RunStatus.QUEUED,
    RunStatus.OOM,
)
"""What stands first in the table of a sweep."""


def progress_table(progress: SweepProgress, *, max_rows: int = 40) -> Any:
    """A rich table of a sweep: totals in its title, running runs first, at most `max_rows` rows."""
    from rich.table import Table

    done, total = progress.settled, len(progress.runs)
    share = progress.flops_done / progress.flops if progress.flops else 1.0
    left = f"about {duration(progress.seconds_left)} left" if done < total else "finished"
    title = (
        f"{progress.name}: {done} of {total} runs, {format_compute(progress.flops_done)} FLOPs ({share:.0%}), {left}"
    )
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    for name in ("run", "N", "width x depth", "tokens", "done", "loss", "tokens/s", "MFU", "time left", "status"):
        table.add_column(name, justify="left" if name in ("run", "status") else "right", no_wrap=name != "status")
    rows = sorted(progress.runs, key=lambda run: ORDER.index(run.status))
    for run in rows[:max_rows]:
        style = STYLES.get(run.status, "dim")
        table.add_row(*_cells(run), style=style if run.status is not RunStatus.DONE else None)
    if len(rows) > max_rows:
        table.caption = f"and {len(rows) - max_rows} more"
    return table


def _cells(run: RunProgress) -> list[str]:
    share = run.share
    return [
        run.run_id,
        format_size(run.params),
        f"{run.width} x {run.depth}",
        format_size(run.tokens),
        f"{share:.0%}" if run.tokens_done else "-",
        f"{run.loss:.4f}" if run.loss is not None else "-",
        format_size(run.tokens_per_second) if run.tokens_per_second is not None else "-",
        f"{run.mfu:.0%}" if run.mfu is not None else "-",
        duration(run.seconds_left) if run.seconds_left else "-",
        run.status + (f": {run.reason}" if run.reason else ""),
    ]


def jobs_table(view: SchedulerView, *, max_rows: int = 40) -> Any:
    """A rich table of a sweep's jobs: those that run, each with its run; those that wait are counted in the title."""
    from rich.table import Table

    waiting = [element for element in view.elements if element.state == "PENDING"]
    others = [element for element in view.elements if element.state != "PENDING"]
    title = f"Slurm: {view.num_running} running, {len(waiting)} pending"
    if reasons := sorted({element.reason for element in waiting if element.reason}):
        title += f" ({', '.join(reasons)})"
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    for name in ("job", "state", "node", "used", "left", "run"):
        table.add_column(name, justify="right" if name in ("used", "left") else "left", no_wrap=True)
    rows = [
        (item.name, item.state, item.nodes or "-", item.used or "-", item.left or "-", view.runs.get(item.name, "-"))
        for item in others
    ]
    rows += [(name, "vanished", "-", "-", "-", run_id) for name, run_id in sorted(view.vanished.items())]
    rows += [
        (item.name, item.state, item.nodes or "-", item.used or "-", "-", "-")
        for item in view.ended or ()
        if item.state != "COMPLETED"
    ]
    for row in rows[:max_rows]:
        table.add_row(*row)
    if len(rows) > max_rows:
        table.caption = f"and {len(rows) - max_rows} more"
    return table


def progress_line(progress: SweepProgress) -> str:
    """One line for logs: runs, compute, what is running, time left."""
    running = [run for run in progress.runs if run.status is RunStatus.RUNNING]
    shown = ", ".join(
        f"{run.run_id} {run.share:.0%}" + (f" loss {run.loss:.3f}" if run.loss is not None else "")
        for run in running[:4]
    )
    left = f", about {duration(progress.seconds_left)} left" if progress.seconds_left else ""
    return (
        f"{progress.name}: {progress.settled} of {len(progress.runs)} runs, {format_compute(progress.flops_done)} of "
        f"{format_compute(progress.flops)} FLOPs{left}" + (f"; {shown}" if shown else "")
    )
