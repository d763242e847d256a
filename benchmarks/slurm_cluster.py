"""A real Slurm on this machine, for tests and benchmarks: munge, a controller and virtual nodes with fake GPUs.

Everything lives in one folder, listens on loopback ports that were free, and ends with this process. Each node has a
host name of its own where that is permitted (root), so that workers on two nodes see each other as on two machines. It
must not know what the jobs do.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "setpriv", "unshare")
SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"

CONFIG = """\
ClusterName=mini
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={port}
SlurmctldParameters={parameters}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool.%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core,CR_LLN
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
ReturnToService=2
MaxArraySize={max_array_size}
MinJobAge=600
KillWait=10
SlurmdTimeout=10
JobRequeue=1
SlurmdParameters=config_overrides
{nodes}
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace}
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=off
"""


def missing_programs() -> list[str]:
    """Programs that a cluster needs and this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name, path=_search_path()) is None]


def _search_path() -> str:
    return os.environ.get("PATH", "") + ":" + SYSTEM_FOLDERS


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


@dataclass(kw_only=True)
class SlurmCluster:
    """One cluster; use `running` to start and end it."""

    root: Path
    """An empty folder of its own."""
    num_nodes: int = 2
    """Virtual nodes n1, n2 ..."""
    num_gpus: int = 4
    """Fake GPUs a node: they can be counted and given out, not computed on."""
    num_cpus: int = 8
    """Cores that a node claims to have."""
    grace_seconds: int = 10
    """Time between a preemption's warning and its kill."""
    user_signal: bool = True
    """Whether a preemption sends the signal that the job asked for (`preempt_send_user_signal`)."""
    max_array_size: int = 1001
    """MaxArraySize."""
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which Slurm's commands speak to this cluster."""
        return os.environ | {"SLURM_CONF": str(self.root / "slurm.conf"), "PATH": _search_path()}

    @contextmanager
    def running(self) -> Iterator[SlurmCluster]:
        """Start every daemon, wait until all nodes are idle, and end everything afterwards."""
        self._write_config()
        try:
            self._start_munge()
            self._spawn("slurmctld", "slurmctld", "-D", "-i")
            for number in range(1, self.num_nodes + 1):
                self.start_node(f"n{number}")
            self.wait_for_nodes("idle", self.num_nodes)
            yield self
        finally:
            self._end()

    def command(self, *words: object, check: bool = True, timeout_seconds: float = 60.0) -> str:
        """What a Slurm command says on standard output."""
        answer = subprocess.run(
            [str(word) for word in words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        if check and answer.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, words))} ended with {answer.returncode}: {answer.stderr}")
        return answer.stdout.strip()

    def start_node(self, name: str) -> None:
        """Start, or start again, the daemon of a node, under a host name of its own where that is permitted."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        for file in ("slurm.conf", "gres.conf"):  # a name of its own for the configuration tells a node's processes
            if not (folder / file).exists():
                (folder / file).symlink_to(self.root / file)
        (self.root / f"spool.{name}").mkdir(exist_ok=True)
        daemon = ["slurmd", "-D", "-N", name]
        if os.geteuid() == 0:
            own_name = f"hostname {name} && mount --bind {self.root}/hosts /etc/hosts"
            daemon = ["unshare", "--uts", "--mount", "sh", "-c", f"{own_name} && exec {' '.join(daemon)}"]
        self._spawn(name, *daemon, config=folder / "slurm.conf")

    def kill_node(self, name: str) -> int:
        """SIGKILL everything that runs on a node, as when its power fails; the number of processes."""
        victims = self.node_processes(name)
        for number in (signal.SIGSTOP, signal.SIGKILL):  # halted first, so that none tells of another's end
            for victim in victims:
                _signal(victim, number)
        psutil.wait_procs(victims, timeout=30)
        self._processes.pop(name).wait()
        return len(victims)

    def node_processes(self, name: str) -> list[psutil.Process]:
        """The daemon of a node, its step daemons, and all that these have started."""
        found: dict[int, psutil.Process] = {}
        mark = f"SLURM_CONF={self.root}/{name}/slurm.conf".encode()
        for process in psutil.process_iter():
            try:  # not psutil's environ(), which stops where a process has written its title over the first variables
                if mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                    found |= {item.pid: item for item in (process, *process.children(recursive=True))}
            except (psutil.Error, OSError):
                continue  # it ended meanwhile, or is another user's
        return list(found.values())

    def wait_for_nodes(self, state: str, count: int, timeout_seconds: float = 60.0) -> None:
        """Wait until `count` nodes are in a state."""
        self.wait_until(
            lambda: (
                len(self.command("sinfo", "-h", "-N", "-p", "low", "-t", state, "-o", "%N", check=False).split())
                >= count
            ),
            f"{count} nodes being {state}",
            timeout_seconds,
        )

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_seconds: float = 60.0) -> None:
        """Ask `condition` again and again until it holds; TimeoutError names what was waited for."""
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended with {process.returncode}: {self.log(name)[-2000:]}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {timeout_seconds:.0f} s for {what}")
            time.sleep(0.2)  # between two questions to a daemon, which gives no other sign

    def log(self, name: str) -> str:
        """What a daemon has logged."""
        return (self.root / f"{name}.log").read_text(errors="replace")

    # -- inside --------------------------------------------------------------------------------------------------------

    def _write_config(self) -> None:
        import pwd

        ports = _free_ports(self.num_nodes + 1)
        shape = f"CPUs={self.num_cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={self.num_cpus} ThreadsPerCore=1"
        nodes = "\n".join(
            f"NodeName=n{number} NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[number]} {shape} "
            f"RealMemory=4000 Gres=gpu:{self.num_gpus} State=UNKNOWN"
            for number in range(1, self.num_nodes + 1)
        )
        for folder in ("state", "dev"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(self.num_gpus):  # a device file is wanted, and its trailing number is read
            (self.root / "dev" / f"nvidia{number}").symlink_to("/dev/null")
        (self.root / "gres.conf").write_text(f"Name=gpu File={self.root}/dev/nvidia[0-{self.num_gpus - 1}]\n")
        names = " ".join(f"n{number}" for number in range(1, self.num_nodes + 1))
        (self.root / "hosts").write_text(f"127.0.0.1 localhost {names}\n")
        (self.root / "slurm.conf").write_text(
            CONFIG.format(
                user=pwd.getpwuid(os.geteuid()).pw_name,
                root=self.root,
                port=ports[0],
                parameters="preempt_send_user_signal" if self.user_signal else "node_reg_mem_percent=1",
                max_array_size=self.max_array_size,
                nodes=nodes,
                grace=self.grace_seconds,
            )
        )

    def _start_munge(self) -> None:
        key = self.root / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        options = {"key-file": key, "socket": self.root / "munge.socket", "pid-file": self.root / "munge.pid"}
        options |= {"seed-file": self.root / "munge.seed", "log-file": self.root / "munged.own.log"}
        self._spawn(
            "munged", "munged", "--foreground", "--force", *(f"--{name}={value}" for name, value in options.items())
        )
        self.wait_until((self.root / "munge.socket").exists, "munge's socket")

    def _spawn(self, name: str, *command: str, config: Path | None = None) -> None:
        """Start a daemon that ends with this process."""
        with (self.root / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment | ({} if config is None else {"SLURM_CONF": str(config)}),
                start_new_session=True,
            )

    def _end(self) -> None:
        for name in [name for name in self._processes if name not in ("munged", "slurmctld")]:
            self.kill_node(name)
        for process in self._processes.values():
            process.send_signal(signal.SIGKILL)
            process.wait()
        self._processes.clear()


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
