"""Whatever rests on measured rows reaches the disk after them, so that a machine that dies loses neither alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments.config.run import RunConfig, run_id
from experiments.data.cache import Cache
from experiments.execution.worker import Worker, WorkerOptions
from experiments.planning.planned_sweep import alone
from experiments.store.store import RunStore


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """A worker takes over signal handlers; give them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to tell which file is synced")
def test_rows_are_on_the_disk_before_the_checkpoint_and_the_record(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tokens=12800)
    store, identity = RunStore(tmp_path), run_id(config)
    store.prepare()
    store.write_config(identity, config)
    metrics = store.metrics_path(identity)
    synced = 0
    seen: list[tuple[str, int, int]] = []
    real_sync, real_link, real_replace = os.fsync, os.link, os.replace

    def sync(handle: int) -> None:
        nonlocal synced
        real_sync(handle)
        if Path(f"/proc/self/fd/{handle}").resolve() == metrics.resolve():
            synced = os.fstat(handle).st_size

    def settled(target: Path) -> None:
        if target.name in ("latest.pt", "record.json"):
            seen.append((target.name, synced, metrics.stat().st_size if metrics.exists() else 0))

    def rename(path: Path, target: Path) -> Path:
        settled(Path(target))
        real_replace(path, target)
        return Path(target)

    def link(path: Path, target: Path) -> None:
        settled(Path(target))
        real_link(path, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", rename)
    monkeypatch.setattr(os, "link", link)
    segments = [alone(store, identity)]
    assert Worker(store, segments, options=WorkerOptions(checkpoint_seconds=0.0), cache=cache).work() == 0

    assert {name for name, _, _ in seen} == {"latest.pt", "record.json"}
    assert any(size > 0 for name, _, size in seen if name == "latest.pt")
    assert all(on_disk == size for _, on_disk, size in seen), seen
