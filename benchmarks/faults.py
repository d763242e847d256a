"""Let every operation on the disk fail once, restart, and compare every digit. `python -m benchmarks.faults`.

Generated, not chosen: a counting run says how often a tiny sweep, from its planning to its last record, opens, writes,
syncs, renames, links, removes, makes folders and forks. Then each of these calls fails once, in a run of its own: with
an error of the disk after half of a write, by a SIGKILL before the call, by a SIGTERM before it. The sweep is started
again without faults. At the end every loss and every row must equal those of an undisturbed run, every record that
was published before the restart must still be there, and `verify` must find nothing damaged.
"""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tiny_sweep import finish, in_child, outcomes, same, train, warm_up, write_sweep
from experiments.data.cache import Cache
from experiments.execution.supervisor import supervise
from experiments.machine.liveness import HeartbeatWatch
from experiments.mirror.lock import MirrorLock
from experiments.store.store import RunStore
from experiments.store.verify import verify_store

MODES = ("error", "kill", "term")
"""How a call fails: the disk's error, SIGKILL to this process before it, SIGTERM to this process before it."""
AUDITED = {"open": "open", "os.rename": "rename", "os.link": "link", "os.remove": "remove", "os.mkdir": "mkdir"}
"""Events of the interpreter's audit -> the operation."""
OPERATIONS = (*AUDITED.values(), "write", "fsync", "fork")


@dataclass(frozen=True)
class Point:
    """One fault."""

    scenario: str
    """train or mirror."""
    operation: str
    """Which kind of call fails."""
    number: int
    """Which of these calls, from 1."""
    mode: str
    """How."""


class Faults:
    """Counts operations below a folder, and lets one of them fail; installed in a process of its own."""

    def __init__(self, root: Path, point: Point | None, counts: Path | None = None) -> None:
        self.root, self.point, self.counts = str(root), point, counts
        self.seen: Counter[str] = Counter()
        self.fired = root.with_name("fired")

    def install(self) -> None:
        """Stand before the calls of this process from now on."""
        sys.addaudithook(self._audit)
        fsync, opened = os.fsync, io.open

        def faulty_fsync(fd: Any) -> None:  # a number, or an object with one
            self.meet("fsync", _name_of(fd if isinstance(fd, int) else fd.fileno()))
            fsync(fd)

        def faulty_open(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            stream = opened(file, mode, *rest, **options)
            if any(letter in mode for letter in "wax+"):
                name = _name_of(stream.fileno())
                if name.startswith(self.root):
                    return _Stream(stream, lambda data: self._write(stream, data, name))
            return stream

        os.fsync = faulty_fsync
        io.open = faulty_open

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.fork":
            self.meet("fork", self.root)
        elif event in AUDITED:
            is_write = event != "open" or bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if is_write and not isinstance(arguments[0], int):
                self.meet(AUDITED[event], os.fsdecode(arguments[0]))

    def _write(self, stream: Any, data: Any, name: str) -> Any:
        if self._is_next("write") and self.point is not None and self.point.mode == "error":
            stream.write(data[: len(data) // 2])
            stream.flush()
        self.meet("write", name)
        return stream.write(data)

    def _is_next(self, operation: str) -> bool:
        point = self.point
        reached = point is not None and point.operation == operation and self.seen[operation] + 1 == point.number
        return reached and not self.fired.exists()

    def meet(self, operation: str, name: str) -> None:
        """Count one call, and let it fail when it is the one."""
        if not name.startswith(self.root):
            return
        fails = self._is_next(operation)
        self.seen[operation] += 1
        if self.counts is not None:
            handle = os.open(self.counts, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(handle, f"{operation}\n".encode())
            os.close(handle)
        if not fails or self.point is None:
            return
        os.close(os.open(self.fired, os.O_CREAT | os.O_WRONLY))  # a process that is forked anew meets it no more
        if self.point.mode == "error":
            code = errno.EAGAIN if operation == "fork" else (errno.ENOSPC, errno.EIO)[self.point.number % 2]
            raise OSError(code, os.strerror(code), name)
        os.kill(os.getpid(), signal.SIGKILL if self.point.mode == "kill" else signal.SIGTERM)


def _name_of(handle: int) -> str:
    """The file that a handle is open on."""
    return str(Path(f"/proc/self/fd/{handle}").readlink())


class _Stream:
    """A file whose writes are met."""

    def __init__(self, stream: Any, write: Callable[[Any], Any]) -> None:
        self._stream, self.write = stream, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: Any) -> None:
        self._stream.close()


class Sweep:
    """The sweep that is disturbed again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder, Cache(folder / "cache")
        self.file = write_sweep(folder)
        self.peace = folder / "peace"
        self.log = folder / "log"
        warm_up(self.file, self.peace, self.cache)
        self.wanted = outcomes(self.peace)
        if len(self.wanted) != 2:
            raise SystemExit("the undisturbed sweep did not end")

    def counts(self) -> dict[str, Counter[str]]:
        """How often each scenario does what, when nothing fails."""
        found = {}
        for scenario in ("train", "mirror"):
            root, counts = self.folder / "counted" / scenario, self.folder / f"{scenario}.counts"
            self._disturb(scenario, root, None, counts)
            found[scenario] = Counter(counts.read_text().split())
        return found

    def points(self) -> list[Point]:
        """Every fault there is."""
        return [
            Point(scenario, operation, number, mode)
            for scenario, counts in self.counts().items()
            for operation in OPERATIONS
            for number in range(1, counts[operation] + 1)
            for mode in MODES
        ]

    def _disturb(self, scenario: str, root: Path, point: Point | None, counts: Path | None = None) -> int:
        """Run a scenario in a process with a fault; its exit status."""

        def work() -> int:
            Faults(root, point, counts).install()
            if scenario == "mirror":
                return self._mirror(root)
            return supervise(lambda parent: train(self.file, root, self.cache), parent=None)

        root.mkdir(parents=True, exist_ok=True)
        return in_child(work, self.log)

    @staticmethod
    def _mirror(root: Path) -> int:
        """What one mirror does with its place: it takes it twice, shows life and lets go."""
        for _ in range(2):
            lock = MirrorLock(root / "wandb", "tiny")
            if lock.take() is None:
                lock._store.claims.beat("tiny", lock._attempt or 0)
                lock.release()
        return 0

    def strike(self, point: Point) -> str | None:
        """Let one call fail and start again: what is wrong then, or None."""
        root = self.folder / "struck"
        shutil.rmtree(root, ignore_errors=True)
        root.with_name("fired").unlink(missing_ok=True)
        self._disturb(point.scenario, root, point)
        if point.scenario == "mirror":
            return self._mirror_problem(root)
        before = {path: path.read_bytes() for path in root.glob("runs/*/record.json")}
        finish(self.file, root, self.cache, self.log)
        if not same(outcomes(root), self.wanted):
            return "a loss or a row differs"
        if any(path.read_bytes() != content for path, content in before.items()):
            return "a published record was replaced"
        damaged = [item for item in verify_store(RunStore(root)).damaged if "torn" not in item.problem]
        if damaged:
            return f"verify: {damaged[0]}"
        lengths = {name: len({row["step"] for row in rows}) for name, (_, _, rows) in outcomes(root).items()}
        if lengths != {name: len(rows) for name, (_, _, rows) in self.wanted.items()}:
            return "rows are missing"
        return None

    @staticmethod
    def _mirror_problem(root: Path) -> str | None:
        lock = MirrorLock(root / "wandb", "tiny", watch=HeartbeatWatch(expiry_seconds=-1.0))
        holder = lock.take()
        if holder is not None:  # a claim without an owner is judged by its heartbeat, which stands still
            holder = lock.take()
        if holder is not None:
            return f"the place of the mirror stays taken by {holder.who}"
        lock.release()
        return None


def main() -> None:
    """Strike every point, or a sample, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, help="strike so many points, drawn at random (default: all)")
    parser.add_argument("--go-on", action="store_true", help="after the points that the record says were struck")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        sweep = Sweep(Path(folder).resolve())
        points = sweep.points()
        random.Random(args.seed).shuffle(points)
        known = json.loads(args.out.read_text()) if args.go_on and args.out.exists() else {}
        if known and known["points"] != len(points):
            sys.exit(f"error: {args.out} is of {known['points']} points, not of {len(points)}; leave --go-on out")
        struck: Counter[str] = Counter(known.get("by_operation_and_mode", {}))
        failures: list[dict[str, Any]] = known.get("failures", [])
        for point in points[sum(struck.values()) : args.points]:
            if time.monotonic() - began > 60 * args.minutes:
                break
            problem = sweep.strike(point)
            struck[f"{point.scenario} {point.operation} {point.mode}"] += 1
            if problem is not None:
                failures.append({**vars(point), "problem": problem})
                print(json.dumps(failures[-1]), flush=True)
            result = {
                "points": len(points),
                "struck": sum(struck.values()),
                "by_operation_and_mode": dict(sorted(struck.items())),
                "failures": failures,
                "seconds": round(known.get("seconds", 0) + time.monotonic() - began),
            }
            args.out.write_text(json.dumps(result, indent=1) + "\n")
            if sum(struck.values()) % 25 == 0:
                print(f"{sum(struck.values())} of {len(points)} points, {len(failures)} failures", flush=True)
    if failures:
        sys.exit("error: a fault changed a result, lost something or left damage")


if __name__ == "__main__":
    main()
