"""A mirror of local records in W&B: which rows and outcomes it lacks, and sending them, run by run and once each.

One W&B run per RunConfig: id = run_id, group = sweep, config = the RunConfig, the tidy row of analysis as its summary.
What W&B holds is counted, never remembered, so a mirror that was killed leaves nothing to mend. It reads runs/, claims/
and sweeps/ of the store and writes to none of them; it must not know how the client sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any

from experiments.config.designs import PlannedRun
from experiments.config.kinds import canonical, design_of
from experiments.config.tuning.run import FinetuneRun
from experiments.machine.liveness import alive
from experiments.manifests import Manifest
from experiments.mirror.client import OVER_FLOPS, Client, Label, OpenRun, WandbError
from experiments.mirror.holdings import Holding, Holdings, Steps
from experiments.records import RunRecord, RunStatus, flat_row
from experiments.store.store import RunStore
from models.formatting import format_size

MAX_OPEN = 64
"""W&B runs that are held open at once while following."""
ROUNDS = 3
"""How often what W&B lacks is sent before it is given up."""
TAG_LENGTH = 64
"""Longest tag that W&B takes."""


@dataclass(frozen=True, kw_only=True)
class Local:
    """What the store holds of one run."""

    rows: Sequence[Mapping[str, Any]]
    """Rows of metrics.jsonl, by step."""
    record: RunRecord | None
    """The published record."""


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """A run that W&B does not hold as the store does."""

    run_id: str
    """The run."""
    reason: str
    """What W&B lacks, has too much, or answered."""


@dataclass
class _Progress:
    """What is known of one run while a mirror works."""

    held: Holding = field(default_factory=Holding)
    steps: Steps | None = None
    local: Local | None = None
    size: tuple[int, bool] | None = None
    open: OpenRun | None = None
    sent: bool = False
    counted: bool = False
    refusal: str | None = None

    def waiting(self, held: Holding) -> _Progress:
        """The same run counted anew, to be looked at from the start."""
        return _Progress(held=held, local=self.local, refusal=self.refusal)


@dataclass
class Mirror:
    """Sends what W&B lacks of one sweep."""

    store: RunStore
    """Where the records are."""
    manifest: Manifest
    """The sweep."""
    client: Client
    """Opens W&B runs."""
    holdings: Holdings
    """Says what W&B holds."""
    _progress: dict[str, _Progress] = field(default_factory=dict, init=False)

    def survey(self, runs: Sequence[PlannedRun]) -> None:
        """Count what W&B holds of these runs; WandbError when it does not answer."""
        held = self.holdings.look([run.run_id for run in runs])
        self._progress = {run.run_id: _Progress(held=held.get(run.run_id, Holding())) for run in runs}
        self._sweeps = _sweeps_by_run(self.store)

    def update(self, runs: Sequence[PlannedRun], *, live: bool) -> int:
        """Send what W&B lacks, as far as it is known; the number of rows handed over.

        Parameters
        ----------
        runs : sequence of PlannedRun
            Runs of the sweep, surveyed before.
        live : bool
            Leave the W&B runs of what is being trained open, for the rows to come.

        Returns
        -------
        int
            Rows handed over.
        """
        states = self.store.claims.states() if live else {}
        total = 0
        for run in runs:
            progress, state = self._progress[run.run_id], states.get(run.run_id)
            if progress.counted or (live and (progress.sent or progress.refusal)):
                continue
            if live and state is None and progress.local is not None:
                continue  # looked at once, and no worker has taken it since
            attempt = state.attempts if state is not None and state.running else None
            try:
                total += self._update_run(run, progress, attempt)
                if attempt is None:
                    self._suspend(progress)
            except WandbError as error:
                held = self.holdings.look([run.run_id])  # when W&B says nothing at all, no other run is tried
                progress.refusal = str(error)
                self._progress[run.run_id] = progress.waiting(held.get(run.run_id, Holding()))
        for progress in [one for one in self._progress.values() if one.open is not None][:-MAX_OPEN]:
            self._suspend(progress)
        return total

    def _update_run(self, run: PlannedRun, progress: _Progress, attempt: int | None) -> int:
        size = self._size(run.run_id)
        if size == progress.size:
            return 0
        local = Local(rows=self.store.read_metrics(run.run_id), record=self.store.find_record(run.run_id))
        progress.local = local
        if progress.open is None:
            if self._complete(run.run_id, local, progress.held):
                progress.counted = local.record is not None
                return 0
            if progress.held.num_rows > len(local.rows):
                return 0  # nothing that is sent makes it right; reported as a shortfall
        if progress.steps is None:
            progress.steps = self.holdings.steps(run.run_id, progress.held)
        if progress.steps is None:
            return 0  # W&B is still filing what it counts; to send now could send twice
        steps = progress.steps
        missing = [row for row in local.rows if row["step"] not in steps.training]
        target = progress.open or self._open(run, progress, attempt)
        progress.steps = _send(target, missing, steps)
        if local.record is not None:
            progress.open = None
            self._finish(run, target, local.record)
            progress.sent = True
        progress.size = size
        return len(missing)

    def _finish(self, run: PlannedRun, target: OpenRun, record: RunRecord) -> None:
        labels = {"sweep": self.manifest.name, **run.labels}
        target.finish(
            done=record.status is RunStatus.DONE,
            summary=_present(flat_row(record, labels)),
            config={"execution": dict(record.execution)},
        )

    def _size(self, run_id: str) -> tuple[int, bool]:
        metrics = self.store.run_folder(run_id) / "metrics.jsonl"
        return (metrics.stat().st_size if metrics.exists() else 0, self.store.is_published(run_id))

    def _open(self, run: PlannedRun, progress: _Progress, attempt: int | None) -> OpenRun:
        pid = None if attempt is None else self._worker_here(run.run_id, attempt)
        wanted = self._tags(run.run_id) | progress.held.tags
        label = label_of(run, self.manifest.name, wanted)
        progress.open = self.client.open(label, fragment=progress.held.num_fragments, worker_pid=pid)
        return progress.open

    def _worker_here(self, run_id: str, attempt: int) -> int | None:
        """Process id of the run's worker when it lives on this machine."""
        owner = self.store.claims.owner(run_id, attempt)
        return int(owner["pid"]) if owner is not None and alive(owner) else None

    def _suspend(self, progress: _Progress) -> None:
        target, progress.open = progress.open, None
        if target is not None:
            target.suspend()

    # -- what is right ---------------------------------------------------------------------------------------------

    def _tags(self, run_id: str) -> frozenset[str]:
        return frozenset(name[:TAG_LENGTH] for name in self._sweeps.get(run_id, ())) | {self.manifest.name[:TAG_LENGTH]}

    def _tagged(self, run_id: str, held: Holding) -> bool:
        return self._tags(run_id) <= held.tags

    def _complete(self, run_id: str, local: Local, held: Holding) -> bool:
        """Whether W&B holds all of what the store does, by count."""
        if held.num_rows != len(local.rows):
            return False
        if local.record is None:
            return not local.rows or self._tagged(run_id, held)
        states = ("finished",) if local.record.status is RunStatus.DONE else ("failed", "crashed", "killed")
        return held.state in states and self._tagged(run_id, held)

    def complete(self, runs: Sequence[PlannedRun]) -> tuple[int, list[Shortfall]]:
        """Send everything, count what arrived, and send again what lacks; rows handed over and what is still short."""
        total, short = 0, list[Shortfall]()
        for _ in range(ROUNDS):
            for run in runs:
                self._progress[run.run_id].refusal = None
            total += self.update(runs, live=False)
            short = self._verify([run.run_id for run in runs if not self._progress[run.run_id].counted])
            if short:
                self.client.drop()  # what is under way would else arrive beside what is sent again
                short = self._verify([one.run_id for one in short])
            if not short:
                break
        return total, short

    def _verify(self, run_ids: Sequence[str]) -> list[Shortfall]:
        """Count until W&B holds what was sent or its counts had time to follow."""
        deadline, pause = monotonic() + self.holdings.settle_seconds, 0.1
        while True:
            short, all_held = list[Shortfall](), self.holdings.look(run_ids)
            for run_id in run_ids:
                progress = self._progress[run_id].waiting(all_held.get(run_id, Holding()))
                reason = self._reason(run_id, progress)
                if reason is None:
                    progress.counted = progress.local is not None and progress.local.record is not None
                else:
                    short.append(Shortfall(run_id=run_id, reason=reason))
                self._progress[run_id] = progress
            run_ids = [one.run_id for one in short]
            if not short or monotonic() > deadline:
                return short
            sleep(pause)
            pause = min(2 * pause, 5.0)

    def _reason(self, run_id: str, progress: _Progress) -> str | None:
        """What is wrong with W&B's copy of a run; None when it is right."""
        local, held = progress.local, progress.held
        if local is None or self._complete(run_id, local, held):
            return None
        if progress.refusal:
            return progress.refusal
        if held.num_rows < len(local.rows):
            return f"{held.num_rows} of {len(local.rows)} rows"
        if held.num_rows > len(local.rows):
            return f"{held.num_rows} rows instead of {len(local.rows)}"
        if not self._tagged(run_id, held):
            return f"all rows, but not the tag {self.manifest.name!r}"
        return f"all rows, but its state is {held.state!r}"

    def num_complete(self) -> int:
        """Runs whose record and rows W&B was counted to hold."""
        return sum(progress.counted for progress in self._progress.values())

    def all_sent(self) -> bool:
        """Whether every run's record was sent or refused."""
        return all(one.counted or one.sent or one.refusal for one in self._progress.values())


def label_of(run: PlannedRun, sweep: str, tags: Iterable[str]) -> Label:
    """What a run is called in W&B."""
    design = design_of(run.config, num_train_tokens=None)
    size = f"{design['width']}x{design['depth']}"
    name = f"{size} {format_size(design['tokens'])} tokens"
    if isinstance(run.config, FinetuneRun):
        name = f"{size} {run.config.method} from {run.config.examples} examples"
    return Label(
        run_id=run.run_id,
        name=name,
        group=sweep,
        job_type=str(run.labels.get("role", "run")),
        tags=tuple(sorted({*tags, str(design["corpus"])[:TAG_LENGTH], str(design["family"])})),
        config={**canonical(run.config), "design": design, "labels": dict(run.labels)},
    )


def logged_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """What W&B gets of a row of metrics.jsonl: what is known, and the loss once more for its curve over FLOPs."""
    logged = _present(row)
    if "flops" in logged and "train_loss" in logged:
        logged[f"{OVER_FLOPS}train_loss"] = logged["train_loss"]
    return logged


def _send(target: OpenRun, missing: Sequence[Mapping[str, Any]], steps: Steps) -> Steps:
    """Log rows by rising step; one that W&B has passed already follows at the end, under a W&B step of its own."""
    last = steps.last
    for row in sorted(missing, key=lambda row: (row["step"] <= steps.last, row["step"])):
        last = max(last + 1, row["step"])
        target.log(logged_row(row), step=last)
    return Steps(training=steps.training | {row["step"] for row in missing}, last=last)


def _present(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def _sweeps_by_run(store: RunStore) -> dict[str, set[str]]:
    """run_id -> names of the sweeps of the store that list it."""
    found: dict[str, set[str]] = {}
    for path in sorted(store.sweeps.glob("*.json")):
        manifest = store.read_manifest(path.stem)
        for run_id in manifest.runs if manifest else ():
            found.setdefault(run_id, set()).add(path.stem)
    return found
