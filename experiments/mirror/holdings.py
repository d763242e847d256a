"""What W&B holds of runs, by count: asked of the server online, read back from the .wandb files offline.

It must not know what W&B ought to hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from experiments.mirror.client import Client, check_reachable, wandb_errors
from experiments.mirror.files import OfflineFile, read_offline_file

RUNS_PER_QUERY = 50
CONNECT_SECONDS = 10.0
"""Longest wait for a first connection."""


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What W&B holds of one run."""

    num_rows: int = 0
    """Rows of its history."""
    state: str | None = None
    """running, finished, failed, crashed, preempted, ...; None when W&B does not know the run."""
    tags: frozenset[str] = frozenset()
    """Its tags."""
    num_fragments: int = 0
    """Offline files of the run."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Which rows W&B holds of one run."""

    training: frozenset[int] = frozenset()
    """Training steps of the rows, by their column `step`."""
    last: int = -1
    """Highest of W&B's own steps; the next row needs a higher one."""


class Holdings(Protocol):
    """Looks at what W&B holds."""

    @property
    def settle_seconds(self) -> float:
        """How long a count may lag behind what was sent."""
        ...

    def look(self, run_ids: Sequence[str]) -> dict[str, Holding]:
        """What W&B holds of these runs; those that it does not know are left out. WandbError when it does not say."""
        ...

    def steps(self, run_id: str, held: Holding) -> Steps | None:
        """Which rows W&B holds of a run that was looked at; None while it does not show them all."""
        ...

    def artifact_digest(self, run_id: str, name: str) -> str | None:
        """Digest of the newest version of an artifact; None when there is none."""
        ...


@dataclass
class OnlineHoldings:
    """Asks the W&B server."""

    client: Client
    """Whose project and patience count."""
    _api: Any = field(default=None, init=False)
    _drops: int = field(default=0, init=False)
    _runs: dict[str, Any] = field(default_factory=dict, init=False)

    @property
    def settle_seconds(self) -> float:
        """A sixth of the client's patience."""
        return self.client.patience / 6

    def api(self) -> Any:
        """wandb's public API; its credentials are checked once."""
        if self._api is None or self._drops != self.client.drops:
            import wandb

            self.client.place()
            check_reachable(wandb.setup().settings.base_url, timeout=min(CONNECT_SECONDS, self.client.patience))
            self._drops = self.client.drops
            self._runs.clear()
            self._api = wandb.Api(
                overrides={"project": self.client.project}
                | ({"entity": self.client.entity} if self.client.entity else {}),
                timeout=max(1, round(self.client.patience / 2)),
            )
        return self._api

    def _path(self) -> str:
        return f"{self.client.entity}/{self.client.project}" if self.client.entity else self.client.project

    def look(self, run_ids: Sequence[str]) -> dict[str, Holding]:
        """See `Holdings`; one request for every fifty runs."""
        found: dict[str, Holding] = {}
        with wandb_errors():
            self.api().flush()  # it would else answer from memory
            for begin in range(0, len(run_ids), RUNS_PER_QUERY):
                wanted = list(run_ids[begin : begin + RUNS_PER_QUERY])
                for run in self._query(wanted):
                    self._runs[run.id] = run
                    found[run.id] = Holding(
                        num_rows=int(run.history_line_count or 0), state=run.state, tags=frozenset(run.tags or ())
                    )
        return found

    def _query(self, run_ids: list[str]) -> Iterator[Any]:
        runs = self.api().runs(self._path(), filters={"name": {"$in": run_ids}}, per_page=RUNS_PER_QUERY)
        try:
            yield from runs
        except ValueError as error:
            if "Could not find project" not in str(error):  # a new project begins with the first run
                raise

    def steps(self, run_id: str, held: Holding) -> Steps | None:
        """See `Holdings`; reads the column `step` of the run's history, and the summary, where the client goes on."""
        if held.state is None:
            return Steps()
        with wandb_errors():
            run = self._runs[run_id]
            rows = list(run.scan_history(keys=["step"], use_cache=False)) if held.num_rows else []
            last = max(int(run.lastHistoryStep), int(run.summary.get("_step") or -1))
        if len(rows) < held.num_rows:
            return None
        return Steps(training=frozenset(row["step"] for row in rows), last=last)

    def artifact_digest(self, run_id: str, name: str) -> str | None:
        """See `Holdings`."""
        with wandb_errors():
            api = self.api()
            if not api.artifact_exists(f"{self._path()}/{name}:latest"):
                return None
            return str(api.artifact(f"{self._path()}/{name}:latest").digest)


@dataclass
class OfflineHoldings:
    """Reads the files of offline runs."""

    folder: Path
    """Folder that holds wandb/."""
    settle_seconds: float = 2.0
    """The client finishes a run before its file is on the disk."""
    _read: dict[Path, tuple[int, OfflineFile]] = field(default_factory=dict, init=False)

    def files(self, run_id: str) -> list[OfflineFile]:
        """The files of one run, oldest first."""
        return self._files().get(run_id, [])

    def _files(self) -> dict[str, list[OfflineFile]]:
        found: dict[str, list[OfflineFile]] = {}
        for path in sorted((self.folder / "wandb").glob("offline-run-*/run-*.wandb")):
            size = path.stat().st_size
            if path not in self._read or self._read[path][0] != size:
                self._read[path] = (size, read_offline_file(path))
            found.setdefault(path.stem.removeprefix("run-"), []).append(self._read[path][1])
        return found

    def look(self, run_ids: Sequence[str]) -> dict[str, Holding]:
        """See `Holdings`."""
        files = self._files()
        return {run_id: _holding(files[run_id]) for run_id in run_ids if run_id in files}

    def steps(self, run_id: str, held: Holding) -> Steps | None:
        """See `Holdings`."""
        rows = [row for file in self.files(run_id) for row in file.rows]
        return Steps(
            training=frozenset(row["step"] for row in rows if "step" in row),
            last=max((row["_step"] for row in rows), default=-1),
        )

    def artifact_digest(self, run_id: str, name: str) -> str | None:
        """See `Holdings`."""
        return next((file.artifacts[name] for file in reversed(self.files(run_id)) if name in file.artifacts), None)


def _holding(files: Sequence[OfflineFile]) -> Holding:
    last = files[-1]
    if last.exit_code is None:
        state = "running"
    elif last.preempted:
        state = "preempted"
    else:
        state = "finished" if last.exit_code == 0 else "failed"
    return Holding(
        num_rows=sum(len(file.rows) for file in files),
        state=state,
        tags=last.tags,
        num_fragments=len(files),
    )


def holdings_of(client: Client) -> OnlineHoldings | OfflineHoldings:
    """Where to look for what a client has sent."""
    return OnlineHoldings(client) if client.online else OfflineHoldings(client.folder)
