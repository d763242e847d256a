"""`sync SWEEP [--follow]`: make W&B hold what the local records hold, once or live; what arrived is counted."""

from __future__ import annotations

import argparse
import os
import signal
import stat
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from experiments.config.designs import PlannedRun
from experiments.errors import UserError
from experiments.machine.wake import Wake
from experiments.manifests import Manifest
from experiments.mirror.client import MODES, Client, WandbError
from experiments.mirror.holdings import holdings_of
from experiments.mirror.lock import MirrorLock
from experiments.mirror.report import check_report, find_report, send_report
from experiments.mirror.sending import Mirror, Shortfall
from experiments.planning.planned_sweep import PlannedSweep
from experiments.store.store import RunStore

MAX_PAUSE_SECONDS = 300.0
"""Between two tries of a follower whose W&B does not answer."""
MAX_SHORTFALLS_SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `sync`."""
    parser.add_argument("sweep", help="manifest (sweeps/NAME.json), sweep file or name")
    parser.add_argument("--store", type=Path, help="folder of runs/ and sweeps/ (default: the manifest's, or here)")
    parser.add_argument(
        "--mode", choices=MODES, default="offline", help="offline writes files under FOLDER/wandb (default)"
    )
    parser.add_argument("--project", default="isoflop", help="W&B project (default: isoflop)")
    parser.add_argument("--entity", help="W&B user or team (default: the account's)")
    parser.add_argument(
        "--follow", action="store_true", help="stay until every run is finished, a signal, or the end of piped input"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="time between two looks when following (default: 5)")
    parser.add_argument(
        "--report", type=Path, help="report folder to send (default: reports/SWEEP when it is of these records)"
    )
    parser.add_argument("--folder", type=Path, help="folder that gets wandb/ (default: the store)")
    parser.add_argument(
        "--patience", type=float, default=60.0, help="seconds that W&B may take to answer (default: 60)"
    )


def run(args: argparse.Namespace) -> int:
    """Send what W&B lacks and count it there; 0 when W&B holds all that is here, 1 when it does not."""
    if not 0 < args.seconds <= MAX_PAUSE_SECONDS:
        raise UserError(f"--seconds is {args.seconds}; it must be above 0 and at most {MAX_PAUSE_SECONDS:.0f}")
    lower_priority()
    sweep = PlannedSweep.find(args.sweep, args.store)
    store, manifest = sweep.store, sweep.manifest
    if args.report and not args.follow:
        check_report(args.report)
    folder = args.folder or store.root
    client = Client(
        mode=args.mode,
        folder=folder,
        project=args.project,
        entity=args.entity,
        patience=args.patience,
        transmit_seconds=args.seconds,
    )
    over = Wake()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    if args.follow and sys.stdin is not None and stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        threading.Thread(target=_wait_for_end, args=(over,), daemon=True).start()
    lock = MirrorLock(folder / "wandb" / "mirror", f"{manifest.name}-{args.mode}")
    if not lock.wait(until=over, patient=args.follow, warn=_warn):
        return 0
    try:
        sync = Sync(store=store, manifest=manifest, client=client, report=args.report)
        return sync.follow(over, args.seconds) if args.follow else sync.once()
    finally:
        client.close()
        lock.release()


@dataclass
class Sync:
    """One sweep and its mirror."""

    store: RunStore
    """Where the records are."""
    manifest: Manifest
    """The sweep."""
    client: Client
    """Opens W&B runs."""
    report: Path | None
    """Report folder that was asked for."""

    def __post_init__(self) -> None:
        self.rows = 0
        self._read()

    def _read(self) -> None:
        self.runs: list[PlannedRun] = PlannedSweep(self.store, self.manifest).runs()
        self.holdings = holdings_of(self.client)
        self.mirror = Mirror(store=self.store, manifest=self.manifest, client=self.client, holdings=self.holdings)

    def once(self) -> int:
        """Send, count, send again what lacks; the exit status."""
        try:
            self.mirror.survey(self.runs)
            return self._finish()
        except WandbError as error:
            return self._no_answer(error)

    def _finish(self) -> int:
        rows, short = self.mirror.complete(self.runs)
        where = f"{self.client.mode}, project {self.client.project}"
        total, complete = self.rows + rows, self.mirror.num_complete()
        print(f"{total} rows sent, {complete} of {len(self.runs)} runs complete in W&B ({where})", flush=True)
        folder = check_report(self.report) if self.report else find_report(self.store, self.manifest, self.runs)
        if folder is not None:
            sent = send_report(self.client, self.holdings, self.manifest, folder)
            print(f"report {folder} {'sent' if sent else 'is in W&B as it is here'}")
        return self._report_shortfalls(short) if short else 0

    def follow(self, over: Wake, seconds: float) -> int:
        """Send what is new again and again, until all is sent or `over`; then as `once`.

        While W&B does not answer, training goes on, and what it writes is sent later; when nothing is left to train,
        it is tried for some ten minutes more.
        """
        pause, surveyed = seconds, False
        while True:
            ending = over.is_set()
            try:
                if self._changed() and surveyed:
                    self.client.drop()  # a mirror of what is listed now begins anew
                    surveyed = False
                if not surveyed:
                    self._read()
                    self.mirror.survey(self.runs)
                    surveyed = True
                if ending or self.mirror.all_sent():
                    return self._finish()
                self.rows += self.mirror.update(self.runs, live=True)
                pause = seconds
            except WandbError as error:
                if ending or (pause >= MAX_PAUSE_SECONDS and self._all_published()):
                    return self._no_answer(error)
                if pause == seconds:
                    _warn(f"W&B does not answer ({error}); trying again until it does")
                self.client.drop()
                surveyed, pause = False, min(2 * pause, MAX_PAUSE_SECONDS)
            if not (surveyed and self.mirror.all_sent()):
                over.wait(pause)

    def _changed(self) -> bool:
        """Whether the sweep lists other runs than before."""
        manifest = self.store.read_manifest(self.manifest.name)
        if manifest is None or manifest.runs == self.manifest.runs:
            return False
        self.manifest = manifest
        return True

    def _all_published(self) -> bool:
        return all(self.store.is_published(run.run_id) for run in self.runs)

    def _no_answer(self, error: WandbError) -> int:
        print(
            f"W&B does not answer as it should ({error}); nothing is lost, the records are in "
            f"{self.store.root.resolve()}: when it does, run `{self._command()}`",
            file=sys.stderr,
        )
        return 1

    def _report_shortfalls(self, short: Sequence[Shortfall]) -> int:
        listed = "; ".join(f"{one.run_id}: {one.reason}" for one in short[:MAX_SHORTFALLS_SHOWN])
        more = f"; and {len(short) - MAX_SHORTFALLS_SHOWN} more" if len(short) > MAX_SHORTFALLS_SHOWN else ""
        fresh = "another --project" if self.client.online else "another --folder"
        print(
            f"{len(short)} of {len(self.runs)} runs are not in W&B as they are here ({listed}{more}); run "
            f"`{self._command()}` again, and where W&B holds too many rows, with {fresh}",
            file=sys.stderr,
        )
        return 1

    def _command(self) -> str:
        words = f"isoflop sync {self.store.manifest_path(self.manifest.name)} --mode {self.client.mode}"
        words += f" --project {self.client.project}" if self.client.project != "isoflop" else ""
        return words + (f" --entity {self.client.entity}" if self.client.entity else "")


def lower_priority() -> None:
    """Let training have the cores first."""
    with suppress(OSError, AttributeError):  # not everywhere allowed, and only a courtesy
        os.nice(10)


def _warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _wait_for_end(over: Wake) -> None:
    """The starter holds the other end of the pipe: when it ends, for whatever reason, so does this."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    over.set()
