"""How far a sweep is: one row a run, totals, and the time left; from the store's files alone. Torch-free."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.digests import parse_metrics
from experiments.manifests import Segment
from experiments.planning.costs import CostModel
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.time_left import Remaining
from experiments.records import SETTLED_STATUSES, NewerLayout, RecordError, RunRecord, RunStatus
from experiments.store.claims import RunState

TAIL_BYTES = 4096
EXPLAINED_STATUSES = (RunStatus.FAILED, RunStatus.LOST, RunStatus.OOM)
"""Endings whose reason is shown while the run waits for its next attempt."""


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
    status: RunStatus
    """What has become of it."""
    seed: int | None = None
    """Its seed, where the manifest says it."""
    role: str | None = None
    """fit, heldout or replicate."""
    budget: float | None = None
    """FLOPs of an isoflop design, tokens or tokens per parameter of others."""
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
    published: bool = False
    """Whether it has a record that can be believed: nothing more is done for it."""
    reason: str | None = None
    """Why it is not done, where something went wrong."""
    seconds_left: float = 0.0
    """Estimate of the training that is left on one worker."""

    @property
    def share(self) -> float:
        """Fraction of the tokens that are trained; a run of none is done or not."""
        return self.tokens_done / self.tokens if self.tokens else float(self.status is RunStatus.DONE)


@dataclass(frozen=True, kw_only=True)
class SweepProgress:
    """A sweep now."""

    name: str
    """Name of the sweep."""
    runs: tuple[RunProgress, ...]
    """Every run."""
    seconds_left: float
    """Estimate for the whole sweep on its workers."""
    design: str | None = None
    """Kind of the design, which says what a budget counts."""

    def count(self, status: RunStatus) -> int:
        """Number of runs with a status."""
        return sum(run.status == status for run in self.runs)

    @property
    def settled(self) -> int:
        """Runs that nothing more will be done for: those with a record."""
        return sum(run.published for run in self.runs)

    flops_spent: float = 0.0
    """FLOPs that were spent; less than `flops_done` where runs share their first steps."""

    @property
    def flops_done(self) -> float:
        """FLOPs of the runs as far as they are trained, shared steps counted for each."""
        return sum(run.flops * run.share for run in self.runs)

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
            "design": self.design,
            "flops": self.flops,
            "flops_done": self.flops_done,
            "flops_spent": self.flops_spent,
            "seconds_left": self.seconds_left,
            "runs": [vars(run) | {"status": run.status.value} for run in self.runs],
        }


class ProgressReader:
    """Reads a sweep's progress again and again; records that were read once are remembered."""

    def __init__(self, sweep: PlannedSweep, costs: CostModel, workers: int) -> None:
        self.name, self.store, self.facts, self.costs, self.workers = (
            sweep.name,
            sweep.store,
            sweep.facts,
            costs,
            workers,
        )
        self._design: str | None = sweep.manifest.sweep.get("design")
        self._labels: dict[str, dict[str, Any]] = {
            run_id: {name: labels.get(name) for name in ("role", "budget")}
            for run_id, labels in sweep.manifest.runs.items()
        }
        self._records: dict[str, RunRecord] = {}
        self._damage: dict[str, str] = {}
        segments = sweep.segments()
        self._segments = {item.segment_id: item for item in segments}
        self._remaining = Remaining(facts=self.facts, segments=segments, costs=costs)

    def read(self) -> SweepProgress:
        """The sweep as its files say now."""
        states = self.store.claims.states()
        prefixes = self._prefixes(states)
        rows = tuple(self._row(run_id, states.get(run_id, RunState()), prefixes) for run_id in self.facts)
        return SweepProgress(
            name=self.name,
            runs=rows,
            design=self._design,
            seconds_left=self._remaining.seconds(
                {row.run_id: row.seconds_left for row in rows},
                {name: prefix.steps for name, prefix in prefixes.items()},
                workers=self.workers,
            ),
            flops_spent=self._spent(rows, prefixes),
        )

    def _prefixes(self, states: Mapping[str, RunState]) -> dict[str, _PrefixProgress]:
        """How far the prefixes are that something still waits for."""
        found: dict[str, _PrefixProgress] = {}
        for item in self._segments.values():
            if not item.is_prefix:
                continue
            prefix = found.setdefault(str(item.prefix), _PrefixProgress())
            if prefix.steps == 0:
                last = self._last_metrics(self.store.prefixes / str(item.prefix))
                prefix.steps = int(_number(last, "tokens") or 0) // self.facts[item.run_id].batch_tokens
                prefix.loss, prefix.rate = _number(last, "train_loss"), _number(last, "tokens_per_second")
            if states.get(item.segment_id, RunState()).running:
                prefix.running_to = item.end_step
        return found

    def _spent(self, rows: Sequence[RunProgress], prefixes: Mapping[str, _PrefixProgress]) -> float:
        """FLOPs of every step that was taken, shared ones counted once."""
        spent = 0.0
        shared: dict[str, float] = {}
        for row in rows:
            record, segment = self._records.get(row.run_id), self._segments.get(row.run_id)
            if record is not None:
                prefix = record.execution.get("trunk")
                tokens = record.execution.get("shared_steps", 0) * self.facts[row.run_id].batch_tokens
            else:
                prefix = segment.prefix if segment else None
                tokens = segment.start_step * self.facts[row.run_id].batch_tokens if segment else 0
                live = prefixes.get(str(prefix))
                if live is not None:
                    tokens = min(tokens, live.steps * self.facts[row.run_id].batch_tokens)
            per_token = row.flops / max(row.tokens, 1)
            spent += per_token * max(row.tokens_done - tokens, 0)
            if prefix is not None and row.tokens_done:
                shared[prefix] = max(shared.get(prefix, 0.0), per_token * tokens)
        return spent + sum(shared.values())

    def _row(self, run_id: str, state: RunState, prefixes: Mapping[str, _PrefixProgress]) -> RunProgress:
        facts = self.facts[run_id]
        record = self._record(run_id, state)
        if record is not None:
            return RunProgress(
                run_id=run_id,
                **facts.shown,
                **self._labels.get(run_id, {}),
                status=record.status,
                tokens_done=facts.tokens if record.status is RunStatus.DONE else 0,
                loss=record.outcome.get("loss"),
                tokens_per_second=record.outcome.get("tokens_per_second"),
                mfu=record.outcome.get("mfu"),
                attempts=max(state.attempts, 1),
                published=record.status in SETTLED_STATUSES,
                reason=record.reason,
            )
        segment = self._segments.get(run_id)
        prefix = prefixes.get(str(segment.prefix)) if segment else None
        if segment and prefix and not state.attempts and segment.start_step:
            return self._on_prefix(run_id, segment, prefix)
        last = self._last_metrics(self.store.run_folder(run_id)) if state.attempts else {}
        status, reason = self._unpublished(run_id, state)
        tokens_done = int(_number(last, "tokens") or 0)
        rate = _number(last, "tokens_per_second") if state.running else None
        whole = self._remaining.whole_seconds(run_id)
        if rate and tokens_done * 5 > facts.tokens:
            whole = facts.tokens / rate
        ahead = max(tokens_done, segment.start_step * facts.batch_tokens if segment else 0)
        return RunProgress(
            run_id=run_id,
            **facts.shown,
            **self._labels.get(run_id, {}),
            status=status,
            tokens_done=tokens_done,
            loss=_number(last, "train_loss"),
            tokens_per_second=rate,
            mfu=_number(last, "mfu") if state.running else None,
            attempts=state.attempts,
            reason=reason,
            seconds_left=whole * (1 - ahead / facts.tokens) if facts.tokens else whole,
        )

    def _on_prefix(self, run_id: str, segment: Segment, prefix: _PrefixProgress) -> RunProgress:
        """A run that waits for its prefix: as far as the prefix is, running while it is trained towards the run."""
        facts = self.facts[run_id]
        steps, ahead = min(prefix.steps, segment.start_step), segment.start_step * facts.batch_tokens
        running = prefix.running_to is not None and prefix.running_to <= segment.start_step
        return RunProgress(
            run_id=run_id,
            **facts.shown,
            **self._labels.get(run_id, {}),
            status=RunStatus.RUNNING if running else RunStatus.QUEUED,
            tokens_done=steps * facts.batch_tokens,
            loss=prefix.loss if running else None,
            tokens_per_second=prefix.rate if running else None,
            reason="shares its first steps" if running else None,
            seconds_left=self._remaining.whole_seconds(run_id) * (1 - ahead / facts.tokens),
        )

    def _unpublished(self, run_id: str, state: RunState) -> tuple[RunStatus, str | None]:
        """Status and reason of a run without a record that can be believed: never done or diverged."""
        if state.running:
            return RunStatus.RUNNING, None
        if run_id in self._damage:
            return RunStatus.QUEUED, self._damage[run_id]
        if not state.endings:
            return RunStatus.QUEUED, None
        status = state.endings[-1]
        if status in (RunStatus.DONE, RunStatus.DIVERGED):
            return RunStatus.QUEUED, f"it was {status}, and its record is gone: it is trained again"
        explained = status in EXPLAINED_STATUSES
        return status, self.store.claims.reason(run_id, state.attempts, status) if explained else None

    def _record(self, run_id: str, state: RunState) -> RunRecord | None:
        if run_id not in self._records:
            if state.running and state.heartbeat == 0:
                return None
            self._damage.pop(run_id, None)
            try:
                record = self.store.read_record(run_id)
            except NewerLayout:
                raise
            except RecordError as error:
                self._damage[run_id] = str(error)
                return None
            if record is None:
                return None
            self._records[run_id] = record
            self.costs.learn([record])
        return self._records[run_id]

    def read_again(self) -> SweepProgress:
        """The sweep as its files say now, without what is remembered of records that have gone or changed."""
        self._records = {run_id: record for run_id, record in self._records.items() if self.store.is_published(run_id)}
        return self.read()

    @staticmethod
    def _last_metrics(folder: Path) -> Mapping[str, Any]:
        rows = parse_metrics(tail(folder / "metrics.jsonl"))
        return rows[-1] if rows else {}


@dataclass
class _PrefixProgress:
    """How far a prefix is."""

    steps: int = 0
    loss: float | None = None
    rate: float | None = None
    running_to: int | None = None


def _number(row: Mapping[str, Any], name: str) -> float | None:
    """A value of a row, where it is a finite number."""
    value = row.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else None


def tail(path: Path, num_bytes: int = TAIL_BYTES) -> str:
    """The last bytes of a text file, empty when there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - num_bytes))
        return stream.read().decode("utf-8", errors="replace")
