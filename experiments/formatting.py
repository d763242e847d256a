"""Numbers as people read them: sizes 124M, tokens 2.6B, compute 3.0e18, durations 2h 05m; and the tables of the
terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.progress import RunProgress, SweepProgress
from experiments.scheduler import SchedulerView


def count(value: float | None) -> str:
    """A count with three significant digits and a letter: 124M, 2.6B."""
    if value is None:
        return "-"
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            text = f"{value / size:.3g}"
            return (f"{value / size:.0f}" if "e" in text else text) + letter
    return f"{value:.0f}"


def compute(value: float | None) -> str:
    """FLOPs: 3.0e18."""
    if value is None:
        return "-"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def duration(seconds: float) -> str:
    """Seconds as 45s, 3m 20s, 2h 05m or 3d 04h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


def size(num_bytes: float) -> str:
    """Bytes as 12 MB, 3.4 GB."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= limit:
            return f"{num_bytes / limit:.3g} {unit}"
    return f"{num_bytes:.0f} B"


def plain_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Aligned columns under a rule, the first `left` to the left and the rest to the right; costs nothing to import."""
    widths = [max(len(cell) for cell in column) for column in zip(headers, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(headers), "  ".join("-" * width for width in widths).rstrip(), *map(line, rows), ""])


def wide_console() -> Any:
    """A rich console as wide as the terminal, and wide enough for every column where the output is a file or a pipe."""
    import sys

    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)


STYLES = {
    "done": "green",
    "running": "bold cyan",
    "failed": "red",
    "diverged": "magenta",
    "lost": "yellow",
    "interrupted": "yellow",
}


def progress_table(progress: SweepProgress, *, max_rows: int = 40) -> Any:
    """A rich table of a sweep: totals in its title, running runs first, at most `max_rows` rows."""
    from rich.table import Table

    done, total = progress.settled, len(progress.runs)
    share = progress.flops_done / progress.flops if progress.flops else 1.0
    left = f"about {duration(progress.seconds_left)} left" if done < total else "finished"
    title = f"{progress.name}: {done} of {total} runs, {compute(progress.flops_done)} FLOPs ({share:.0%}), {left}"
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    for name in ("run", "N", "width x depth", "tokens", "done", "loss", "tokens/s", "MFU", "time left", "status"):
        table.add_column(name, justify="left" if name in ("run", "status") else "right", no_wrap=name != "status")
    order = {"running": 0, "failed": 1, "diverged": 2, "lost": 3, "interrupted": 4, "done": 5, "queued": 6}
    rows = sorted(progress.runs, key=lambda run: order.get(run.status, 9))
    for run in rows[:max_rows]:
        style = STYLES.get(run.status, "dim")
        table.add_row(*_cells(run), style=style if run.status != "done" else None)
    if len(rows) > max_rows:
        table.caption = f"and {len(rows) - max_rows} more"
    return table


def _cells(run: RunProgress) -> list[str]:
    share = run.tokens_done / run.tokens
    return [
        run.run_id,
        count(run.params),
        f"{run.width} x {run.depth}",
        count(run.tokens),
        f"{share:.0%}" if run.tokens_done else "-",
        f"{run.loss:.4f}" if run.loss is not None else "-",
        count(run.tokens_per_second),
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
