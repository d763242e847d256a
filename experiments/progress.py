"""How far a sweep is: one row a run, totals, and the time left; from the store's files alone. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.costs import CostModel, makespan
from experiments.describe import flops_of
from experiments.designs import PlannedRun
from experiments.records import RunRecord
from experiments.store import RunState, RunStore, parse_metrics
from models.accounting import params_fit

TAIL_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """One run now."""

    run_id: str
    """Identity."""
    params: int
    """N of fits."""
    width: int
    """d_model."""
    depth: int
    """Layers."""
    tokens: int
    """D of the design."""
    flops: float
    """Counted training FLOPs of the whole run."""
    status: str
    """queued, running, done, failed, diverged, interrupted or lost."""
    tokens_done: int = 0
    """Tokens trained so far, as of the last row."""
    loss: float | None = None
    """Validation loss when done, else the latest training loss; nats per token."""
    tokens_per_second: float | None = None
    """Rate of the run."""
    mfu: float | None = None
    """Model-FLOPs utilisation, a fraction."""
    attempts: int = 0
    """Executions begun."""
    reason: str | None = None
    """Why it is not done, where something went wrong."""
    seconds_left: float = 0.0
    """Estimate of the training that is left on one worker."""


@dataclass(frozen=True, kw_only=True)
class SweepProgress:
    """A sweep now."""

    name: str
    """Name of the sweep."""
    runs: tuple[RunProgress, ...]
    """Every run."""
    seconds_left: float
    """Estimate for the whole sweep on its workers."""

    def count(self, status: str) -> int:
        """Number of runs with a status."""
        return sum(run.status == status for run in self.runs)

    @property
    def settled(self) -> int:
        """Runs that nothing more will be done for: done, diverged or failed for good."""
        return self.count("done") + self.count("diverged") + self.count("failed")

    @property
    def flops_done(self) -> float:
        """FLOPs spent so far."""
        return sum(run.flops * run.tokens_done / run.tokens for run in self.runs)

    @property
    def flops(self) -> float:
        """FLOPs of the whole sweep."""
        return sum(run.flops for run in self.runs)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `status --json`."""
        counts = {status: self.count(status) for status in sorted({run.status for run in self.runs})}
        return {
            "schema": 1,
            "name": self.name,
            "num_runs": len(self.runs),
            "counts": counts,
            "flops": self.flops,
            "flops_done": self.flops_done,
            "seconds_left": self.seconds_left,
            "runs": [vars(run) for run in self.runs],
        }


class ProgressReader:
    """Reads a sweep's progress again and again; records that were read once are remembered."""

    def __init__(self, name: str, store: RunStore, runs: Sequence[PlannedRun], costs: CostModel, workers: int) -> None:
        self.name, self.store, self.runs, self.costs, self.workers = name, store, runs, costs, workers
        self._records: dict[str, RunRecord] = {}
        self._facts = {run.run_id: _facts(run) for run in runs}

    def read(self) -> SweepProgress:
        """The sweep as its files say now."""
        states = self.store.states()
        rows = tuple(self._row(run, states.get(run.run_id, RunState())) for run in self.runs)
        left = [row.seconds_left for row in rows if row.seconds_left]
        return SweepProgress(name=self.name, runs=rows, seconds_left=makespan(left, self.workers))

    def _row(self, run: PlannedRun, state: RunState) -> RunProgress:
        facts = self._facts[run.run_id]
        record = self._record(run.run_id, state)
        if record is not None:
            return RunProgress(
                **facts,
                status=record.status,
                tokens_done=run.config.tokens if record.status == "done" else 0,
                loss=record.outcome.get("loss"),
                tokens_per_second=record.outcome.get("tokens_per_second"),
                mfu=record.outcome.get("mfu"),
                attempts=max(state.attempts, 1),
                reason=record.reason,
            )
        last = self._last_metrics(run.run_id) if state.attempts else {}
        status = "running" if state.running else (state.endings[-1] if state.endings else "queued")
        tokens_done = int(last.get("tokens", 0))
        rate = last.get("tokens_per_second") if state.running else None
        whole = self.costs.seconds(run.config)
        if rate and tokens_done * 5 > run.config.tokens:
            whole = run.config.tokens / rate
        return RunProgress(
            **facts,
            status=status,
            tokens_done=tokens_done,
            loss=last.get("train_loss"),
            tokens_per_second=rate,
            mfu=last.get("mfu") if state.running else None,
            attempts=state.attempts,
            reason=self.store.reason(run.run_id, state.attempts, status) if status in ("failed", "lost") else None,
            seconds_left=whole * (1 - tokens_done / run.config.tokens),
        )

    def _record(self, run_id: str, state: RunState) -> RunRecord | None:
        if run_id not in self._records:
            if state.running and state.heartbeat == 0:
                return None
            record = self.store.read_record(run_id)
            if record is None:
                return None
            self._records[run_id] = record
            self.costs.learn([record])
        return self._records[run_id]

    def _last_metrics(self, run_id: str) -> Mapping[str, Any]:
        rows = parse_metrics(tail(self.store.run_folder(run_id) / "metrics.jsonl"))
        return rows[-1] if rows else {}


def tail(path: Path, num_bytes: int = TAIL_BYTES) -> str:
    """The last bytes of a text file, empty when there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - num_bytes))
        return stream.read().decode("utf-8", errors="replace")


def _facts(run: PlannedRun) -> dict[str, Any]:
    config = run.config
    return {
        "run_id": run.run_id,
        "params": params_fit(config.model),
        "width": config.model.width,
        "depth": config.model.depth,
        "tokens": config.tokens,
        "flops": flops_of(config),
    }
