"""The wandb client, as the mirror uses it: W&B runs opened, logged to and finished, each call within a bounded time.

Only this folder imports wandb. What a run is called and what is sent is decided in sending.py; this file must not know
stores or records.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import psutil

from experiments.errors import UserError

_log = logging.getLogger(__name__)

MODES = ("offline", "online")
OVER_FLOPS = "over_flops/"
"""Prefix of columns whose x-axis is FLOPs; all others have tokens."""


class WandbError(Exception):
    """W&B did not do what it was asked within its time; the message is the client's, in one line."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """What a W&B run is called."""

    run_id: str
    """Id of the W&B run."""
    name: str
    """Name for people."""
    group: str
    """Name of the sweep."""
    job_type: str
    """Role in the sweep."""
    tags: tuple[str, ...] = ()
    """Tags."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Config."""


@dataclass
class Client:
    """Opens W&B runs."""

    mode: str
    """offline: files under <folder>/wandb. online: to the server that wandb is logged in to."""
    folder: Path
    """Folder that gets wandb/."""
    project: str = "isoflop"
    """W&B project."""
    entity: str | None = None
    """W&B user or team; None for the account's default."""
    patience: float = 60.0
    """Seconds that opening and finishing a run may take."""
    stats_seconds: float = 15.0
    """Seconds between two samples of system metrics."""
    transmit_seconds: float = 15.0
    """Seconds between two transmissions of what an open run was given."""
    drops: int = field(default=0, init=False)
    """How often the connection to the client's service was given up."""
    _scratch: tempfile.TemporaryDirectory[str] | None = field(default=None, init=False)
    _environment: dict[str, str] = field(default_factory=dict, init=False)
    _open: list[OpenRun] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UserError(f"W&B mode is {self.mode!r}; use offline or online")
        if self.patience <= 0:
            raise UserError(f"patience is {self.patience} seconds; it must be positive")

    @property
    def online(self) -> bool:
        """Whether W&B is asked over the network."""
        return self.mode == "online"

    def place(self) -> Path:
        """The folder that wandb writes to: a temporary one online, since the local record is kept anyway."""
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="isoflop-wandb-", ignore_cleanup_errors=True)
            scratch = self._scratch.name
            staging = scratch if self.online else str(self.folder / "wandb" / "staging")  # holds unsent artifacts
            wanted = {
                "WANDB_DIR": scratch,
                "WANDB_CACHE_DIR": scratch,
                "WANDB_DATA_DIR": staging,
                "WANDB_SILENT": "true",
            }
            self._environment = {name: value for name, value in wanted.items() if name not in os.environ}
            os.environ.update(self._environment)  # wandb would otherwise litter home and /tmp
        folder = Path(self._scratch.name) if self.online else self.folder
        (folder / "wandb").mkdir(parents=True, exist_ok=True)
        return folder

    def open(self, label: Label, *, fragment: int = 0, worker_pid: int | None = None) -> OpenRun:
        """Start or resume a W&B run; WandbError when that fails or takes longer than `patience`.

        Parameters
        ----------
        label : Label
            What it is called. A resumed run is described again: offline files know nothing of those before them.
        fragment : int
            How many offline files of this run there are: two of one second must differ by name.
        worker_pid : int, optional
            Process on this machine that trains the run: its processor, memory and GPUs are watched. None watches
            nothing, since a mirror elsewhere would report its own machine.

        Returns
        -------
        OpenRun
            Which takes rows until it is closed.

        Raises
        ------
        WandbError
            When W&B refuses, or does not answer in time.
        """
        import wandb

        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            init_timeout=self.patience,
            finish_timeout=self.patience,
            finish_timeout_raises=True,
            stop_fn=_go_on,
            x_graphql_timeout_seconds=max(1.0, self.patience / 3),
            x_file_stream_timeout_seconds=max(1.0, self.patience / 3),
            x_file_stream_transmit_interval=max(1.0, self.transmit_seconds),  # wandb counts whole seconds
            x_skip_transaction_log=self.online,
            x_sync_dir_suffix=f"{fragment:04d}",
            x_disable_meta=True,
            x_disable_machine_info=worker_pid is None,
            x_save_requirements=False,
            x_disable_stats=worker_pid is None,
            x_stats_sampling_interval=self.stats_seconds,
            **({} if worker_pid is None else {"x_stats_pid": worker_pid}),
        )
        with wandb_errors():
            run = wandb.init(
                entity=self.entity,
                project=self.project,
                group=label.group,
                job_type=label.job_type,
                id=label.run_id,
                name=label.name,
                tags=list(label.tags),
                config=dict(label.config),
                dir=str(self.place()),
                mode=self.mode,  # type: ignore[arg-type]  # a str that __post_init__ checked
                resume="allow",
                reinit="create_new",
                settings=settings,
            )
            for axis in ("tokens", "flops"):
                run.define_metric(axis)
            run.define_metric("lr", step_metric="tokens", summary="none")  # the summary's lr is the recipe's peak
            run.define_metric(f"{OVER_FLOPS}*", step_metric="flops")
            run.define_metric("*", step_metric="tokens")
        opened = OpenRun(run, self._open)
        self._open.append(opened)
        return opened

    def drop(self) -> None:
        """End all that is under way: after it, nothing more is sent or written.

        What is still unsent gets `patience` seconds, for all runs together; so does the service to end. They can be
        opened again.
        """
        import wandb

        self.drops += 1
        if self._open:
            with ThreadPoolExecutor(len(self._open)) as pool:
                list(pool.map(OpenRun.abandon, list(self._open)))
        # The service may wait without bound for a server that takes connections and never answers.
        killing = Timer(self.patience, _kill_service)
        killing.start()
        try:
            wandb.teardown(exit_code=1)
        except SystemExit as error:  # teardown ends the process when the client's service failed; we count and go on
            _log.info("the wandb service ended with status %s", error.code)
        finally:
            killing.cancel()

    def close(self) -> None:
        """Remove what wandb wrote for online runs."""
        if self._scratch is not None:
            self.drop()
            for name in self._environment:
                os.environ.pop(name, None)
            self._scratch.cleanup()
            self._scratch = None


def _kill_service() -> None:
    """End the wandb processes that this one started."""
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.name().startswith("wandb"):
                child.kill()


@dataclass(eq=False)
class OpenRun:
    """A W&B run that takes rows."""

    run: Any
    """The client's run."""
    among: list[OpenRun]
    """The open runs of the same client."""

    def log(self, row: Mapping[str, Any], *, step: int) -> None:
        """Hand over one row; it is sent in the background."""
        self.run.log(dict(row), step=step, commit=True)

    def finish(self, *, done: bool, summary: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Add the outcome and wait until everything has arrived; WandbError after the client's patience."""
        with wandb_errors():
            self.run.config.update(dict(config), allow_val_change=True)
            self.run.summary.update(dict(summary))
            self._end(exit_code=0 if done else 1)

    def suspend(self) -> None:
        """Wait until everything has arrived and leave the run to go on later: its state in W&B is 'preempted'."""
        with wandb_errors():
            self.run.mark_preempting()
            self._end(exit_code=1)

    def abandon(self) -> None:
        """End the run whether or not everything arrives; what did is counted later."""
        try:
            self.suspend()
        except WandbError as error:
            _log.info("abandoned %s: %s", self.run.id, error)

    def _end(self, exit_code: int) -> None:
        self.among.remove(self)
        self.run.finish(exit_code=exit_code)


def _go_on() -> None:
    """What the button 'stop run' of W&B does: nothing, since the mirror of a run is not its training."""


def check_reachable(url: str, timeout: float) -> None:
    """Say at once when nothing listens at `url`, which the client would try for its whole patience; a proxy is trusted.

    Parameters
    ----------
    url : str
        Address of the server.
    timeout : float
        Seconds to wait for a connection.

    Raises
    ------
    WandbError
        When no connection is made within `timeout` seconds.
    """
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or (80 if address.scheme == "http" else 443)
    if address.scheme in getproxies() and not proxy_bypass(f"{host}:{port}"):
        return
    try:
        socket.create_connection((host, port), timeout=timeout).close()
    except OSError as error:
        raise WandbError(f"cannot connect to {host}:{port}: {error.strerror or error}") from error


@contextmanager
def wandb_errors() -> Iterator[None]:
    """Turn what the client raises into a WandbError; a missing login is the user's to mend."""
    import wandb.errors
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    try:
        yield
    except wandb.errors.UsageError as error:
        if "API key" not in str(error):
            raise WandbError(one_line(error)) from error
        raise UserError(
            "W&B knows no API key here: run `wandb login`, or use --mode offline and send the records later"
        ) from error
    except (
        wandb.errors.Error,
        WandbApiFailedError,
        HandleAbandonedError,
        MailboxClosedError,
        TimeoutError,
        ConnectionError,
    ) as error:
        raise WandbError(one_line(error)) from error


def one_line(error: BaseException, limit: int = 240) -> str:
    """What an exception says, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
