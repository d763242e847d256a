"""A mirror of local records in W&B, made from the store's files in a process of its own; training never imports wandb
or waits for it.

One W&B run per RunConfig: id = run_id, group = sweep, config = the RunConfig, tokens as the x-axis. It must not write
anything that training or analysis reads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from experiments.describe import design_of
from experiments.designs import PlannedRun
from experiments.errors import UserError
from experiments.records import Manifest, RunRecord
from experiments.store import RunStore, write_atomic

MODES = ("offline", "online")
NOT_LOGGED = ("step",)
"""Columns of a metrics row that W&B gets by other means."""


@dataclass
class Mirror:
    """Sends what is new of one sweep."""

    store: RunStore
    """The store."""
    manifest: Manifest
    """The sweep."""
    mode: str = "offline"
    """offline: files under <store>/wandb, for `wandb sync`. online: to the server that wandb is logged in to."""
    project: str = "isoflop"
    """W&B project."""
    _open: dict[str, Any] = field(default_factory=dict)
    _sent: dict[str, int] = field(default_factory=dict)
    _finished: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UserError(f"W&B mode is {self.mode!r}; use offline or online")
        for run_id in self.manifest.runs:
            state = self._state_path(run_id)
            if state.exists():
                saved = json.loads(state.read_text(encoding="utf-8"))
                self._sent[run_id] = saved["rows"]
                if saved["finished"]:
                    self._finished.add(run_id)

    def finished(self, run_id: str) -> bool:
        """Whether everything of a run was sent."""
        return run_id in self._finished

    def _state_path(self, run_id: str) -> Any:
        return self.store.root / "wandb" / "mirror" / self.mode / f"{run_id}.json"

    def update(self, runs: list[PlannedRun]) -> int:
        """Send rows and records that are new; the number of rows sent."""
        total = 0
        for run in runs:
            if run.run_id in self._finished:
                continue
            rows = self.store.read_metrics(run.run_id)
            record = self.store.read_record(run.run_id)
            sent = self._sent.get(run.run_id, 0)
            if len(rows) <= sent and record is None:
                continue
            target = self._run(run)
            for row in rows[sent:]:
                target.log(
                    {name: value for name, value in row.items() if name not in NOT_LOGGED and value is not None},
                    step=row["step"],
                )
            total += len(rows) - sent
            self._sent[run.run_id] = len(rows)
            if record is not None:
                self._finish(run.run_id, target, record)
            self._remember(run.run_id)
        return total

    def close(self) -> None:
        """Finish the W&B runs that are open; their training may go on, and a later mirror goes on with them."""
        for run_id, target in self._open.items():
            target.finish()
            self._remember(run_id)
        self._open.clear()

    def _remember(self, run_id: str) -> None:
        state = {"rows": self._sent.get(run_id, 0), "finished": run_id in self._finished}
        write_atomic(self._state_path(run_id), json.dumps(state) + "\n")

    def _run(self, run: PlannedRun) -> Any:
        if run.run_id not in self._open:
            import wandb

            folder = self.store.root / "wandb"
            folder.mkdir(parents=True, exist_ok=True)
            design = design_of(run.config, num_train_tokens=None)
            config = wandb_config(run, design)
            labels = run.labels
            target = wandb.init(
                project=self.project,
                group=self.manifest.name,
                job_type=str(labels.get("role", "run")),
                id=run.run_id,
                name=f"{design['width']}x{design['depth']} {design['tokens']:.2g} tokens",
                tags=[self.manifest.name, str(design["corpus"]), str(design["family"])],
                config=config,
                dir=str(self.store.root),
                mode=self.mode,  # type: ignore[arg-type]  # a str that __post_init__ checked
                resume="allow",
                reinit="create_new",
                settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
            )
            target.define_metric("tokens")
            target.define_metric("*", step_metric="tokens")
            self._open[run.run_id] = target
        return self._open[run.run_id]

    def _finish(self, run_id: str, target: Any, record: RunRecord) -> None:
        scalars = {**record.design, **record.outcome, "status": record.status}
        target.summary.update({name: value for name, value in scalars.items() if not isinstance(value, (list, dict))})
        target.finish(exit_code=0 if record.status == "done" else 1)
        del self._open[run_id]
        self._finished.add(run_id)


def wandb_config(run: PlannedRun, design: Mapping[str, Any]) -> dict[str, Any]:
    """The run's config with the counted design and the sweep's labels beside it."""
    from experiments.config import canonical

    return {**canonical(run.config), "design": dict(design), "labels": dict(run.labels)}


def follow(mirror: Mirror, runs: list[PlannedRun], *, until: Any, seconds: float) -> Iterator[int]:
    """Update again and again until every run is finished or `until` (a threading.Event) is set; yields rows sent.

    When the event comes, one last update sends what was published meanwhile.
    """
    while True:
        ending = until.is_set()
        yield mirror.update(runs)
        if ending or all(mirror.finished(run.run_id) for run in runs):
            return
        until.wait(seconds)


def lower_priority() -> None:
    """Let training have the cores first."""
    with suppress(OSError, AttributeError):  # not everywhere allowed, and only a courtesy
        os.nice(10)
