"""Where a part of the benchmark runs, and how large its work is: full on a GPU, tiny in a dry run on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.config.yaml_text import dump_yaml

ROOT = Path(__file__).resolve().parents[2]


class Skipped(Exception):
    """A part cannot run here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A device, the size of the work, and a folder for what it writes."""

    device: str
    """cpu or cuda."""
    is_dry: bool
    """Whether shapes and budgets are tiny, to walk the code and measure nothing."""
    folder: Path
    """Where sweeps, stores and reports go."""
    seconds: float
    """How long a part may take."""

    def write_sweep(self, name: str, fields: Mapping[str, Any]) -> Path:
        """Write the file of a sweep.

        Parameters
        ----------
        name : str
            Of the sweep.
        fields : mapping
            All other fields.

        Returns
        -------
        Path
            The YAML file.
        """
        path = self.folder / f"{name}.yaml"
        path.write_text(dump_yaml({"name": name, **fields}), encoding="utf-8")
        return path

    def isoflop(self, *words: object) -> str:
        """Run a command of the suite to its end.

        Parameters
        ----------
        *words : object
            What stands behind `isoflop`.

        Returns
        -------
        str
            What it printed.

        Raises
        ------
        RuntimeError
            When it ends with another status than 0; the message holds the end of what it said.
        """
        ended = subprocess.run(
            command(*words), capture_output=True, text=True, check=False, timeout=self.seconds, env=environment()
        )
        if ended.returncode != 0:
            raise RuntimeError(f"isoflop {words[0]} ended with {ended.returncode}: {ended.stderr[-1500:]}")
        return ended.stdout

    def train(self, sweep: Path, store: Path, *options: object) -> None:
        """Train a sweep on the device of this setting, without a mirror."""
        self.isoflop("run", sweep, "--store", store, "--device", self.device, "--wandb", "off", *options)


def command(*words: object) -> list[str]:
    """The words that run `isoflop` with this interpreter."""
    return [sys.executable, "-m", "isoflop", *map(str, words)]


def environment() -> dict[str, str]:
    """The environment of a command: this checkout first on the path."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def records(store: Path) -> dict[str, dict[str, Any]]:
    """run_id -> record of a store."""
    return {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(store.glob("runs/*/record.json"))
    }


def losses(store: Path) -> dict[str, float]:
    """run_id -> validation loss, nats per token."""
    return {name: record["outcome"]["loss"] for name, record in records(store).items()}
