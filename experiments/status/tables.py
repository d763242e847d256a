"""Tables for a terminal: the progress of a sweep and the jobs of a scheduler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

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

SHORT_ROLES = {"replicate": "repeat"}
"""Roles whose word is too long for a narrow terminal."""
MAX_REASONS = 5
"""Reasons below the table."""
BAR_WIDTH = 80
"""Columns of the bar at most."""
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


def progress_table(progress: SweepProgress, *, width: int = 80, max_rows: int = 40) -> Any:
    """Lay out a sweep for a terminal: totals, a bar, one row a run, and why runs failed.

    Parameters
    ----------
    progress : SweepProgress
        The sweep now.
    width : int
        Columns of the terminal. In 80 of them every run has its role, seed, budget, loss and status; wider ones show
        tokens and speed too.
    max_rows : int
        Most rows, running runs first.

    Returns
    -------
    rich renderable
        To be printed, or shown by `rich.live`.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    done, total = progress.settled, len(progress.runs)
    share = progress.flops_done / progress.flops if progress.flops else 1.0
    left = f"about {duration(progress.seconds_left)} left" if done < total else "finished"
    title = (
        f"{progress.name}: {done} of {total} runs, {format_compute(progress.flops_done)} FLOPs ({share:.0%}), {left}"
    )
    columns = [column for column in COLUMNS if width >= column.from_width]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column.name, justify=column.justify, no_wrap=True)
    rows = sorted(progress.runs, key=lambda run: ORDER.index(run.status))
    for run in rows[:max_rows]:
        style = None if run.status is RunStatus.DONE else STYLES.get(run.status, "dim")
        table.add_row(*(column.cell(run, progress.design) for column in columns), style=style)
    notes = [f"and {len(rows) - max_rows} more"] if len(rows) > max_rows else []
    explained = [run for run in rows if run.reason and run.status is not RunStatus.RUNNING]
    notes += [f"{run.run_id} {run.status}: {run.reason}" for run in explained[:MAX_REASONS]]
    if len(explained) > MAX_REASONS:
        notes.append(f"and {len(explained) - MAX_REASONS} more that did not end well; --json has every reason")
    length = min(width, BAR_WIDTH)
    filled = round(length * min(share, 1.0))
    bar = Text.assemble(("━" * filled, "cyan"), ("─" * (length - filled), "dim"))
    return Group(Text(title, style="bold"), bar, table, *map(Text, notes))


@dataclass(frozen=True)
class _Column:
    """One column of the table of runs."""

    name: str
    cell: Callable[[RunProgress, str | None], str]
    """What stands there, from the run and the kind of its design."""
    justify: Literal["left", "right"] = "right"
    from_width: int = 0
    """Columns of a terminal from which on it is shown."""


def _budget(run: RunProgress, design: str | None) -> str:
    if run.budget is None:
        return "-"
    return format_compute(run.budget) if design == "isoflop" else format_size(run.budget)


COLUMNS = (
    _Column("run", lambda run, _: run.run_id, justify="left"),
    _Column("role", lambda run, _: SHORT_ROLES.get(run.role or "", run.role or "-"), justify="left"),
    _Column("seed", lambda run, _: "-" if run.seed is None else str(run.seed)),
    _Column("budget", _budget),
    _Column("N", lambda run, _: format_size(run.params)),
    _Column("shape", lambda run, _: f"{run.width}x{run.depth}"),
    _Column("tokens", lambda run, _: format_size(run.tokens), from_width=90),
    _Column("done", lambda run, _: f"{run.share:.0%}" if run.tokens_done else "-"),
    _Column("loss", lambda run, _: f"{run.loss:.4f}" if run.loss is not None else "-"),
    _Column(
        "tokens/s",
        lambda run, _: format_size(run.tokens_per_second) if run.tokens_per_second is not None else "-",
        from_width=100,
    ),
    _Column("MFU", lambda run, _: f"{run.mfu:.0%}" if run.mfu is not None else "-", from_width=100),
    _Column("left", lambda run, _: duration(run.seconds_left) if run.seconds_left else "-"),
    _Column("status", lambda run, _: run.status.value, justify="left"),
)
"""The table of runs, from left to right."""


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
