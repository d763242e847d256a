"""`Sweep`: plan, train and read a sweep from Python; the public face of this package. Nothing inside it imports it."""

from __future__ import annotations

import argparse
import html
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

from experiments.errors import UserError
from experiments.manifests import read_records
from experiments.planning.planned_sweep import PlannedSweep
from experiments.records import flat_row
from experiments.verbs.planning import plan as plan_verb
from experiments.verbs.records import verify as verify_verb
from experiments.verbs.training import run as run_verb
from experiments.verbs.training import status as status_verb

if TYPE_CHECKING:
    import pandas as pd


class VerbModule(Protocol):
    """What a module in verbs/ offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the verb's options."""


class _Parser(argparse.ArgumentParser):
    """A parser that raises instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


class Sweep:
    """A sweep file and the store in which its runs are kept.

    Parameters
    ----------
    file : path
        The sweep's YAML.
    *overrides : str
        Fields that replace those of the file, such as `"design.budgets=[1e13,3e13]"`.
    store : path
        Folder of runs/ and sweeps/; the working folder by default.

    Examples
    --------
    >>> sweep = Sweep("experiments/sweeps/smoke.yaml", store="build/smoke")
    >>> sweep.plan()[["params", "tokens", "flops", "seconds"]]  # doctest: +SKIP
    >>> sweep.run(wandb="off")  # doctest: +SKIP
    0
    """

    def __init__(self, file: str | Path, *overrides: str, store: str | Path = ".") -> None:
        self.file = Path(file)
        """The sweep's YAML."""
        self.overrides = tuple(word if word.startswith("--") else f"--{word}" for word in overrides)
        """Fields that replace those of the file, as options."""
        self.store = Path(store)
        """Folder of runs/ and sweeps/."""

    def plan(self) -> pd.DataFrame:
        """Say what the sweep would train; nothing is written.

        Returns
        -------
        DataFrame
            One row a run: run_id, role, budget, params, tokens, flops, steps, lr, memory_bytes, seconds, done.

        Raises
        ------
        UserError
            When the file, a shape or a budget cannot be right.
        """
        import pandas as pd

        summary = plan_verb.summary_from_args(self._arguments(plan_verb))
        return pd.DataFrame(summary["runs"])

    def run(self, **options: str | int | float | bool) -> int:
        """Train what is missing; the same call starts, resumes and extends a sweep.

        Parameters
        ----------
        **options : str, int, float or bool
            Options of `isoflop run` with underscores, such as `workers=2`, `wandb="off"`, `retry_failed=True`.

        Returns
        -------
        int
            0 when every run is done, 1 when some failed or diverged.

        Raises
        ------
        UserError
            When the sweep or an option cannot be right.
        """
        return run_verb.run(self._arguments(run_verb, **options))

    def status(self) -> pd.DataFrame:
        """Say how far the sweep is.

        Returns
        -------
        DataFrame
            One row a run: run_id, status, tokens_done, loss, seconds_left and more.

        Raises
        ------
        UserError
            When the sweep was never run in this store.
        """
        import pandas as pd

        progress = status_verb.progress_of(str(self.file), self.store)
        return pd.DataFrame(progress.to_dict()["runs"])

    def records(self) -> pd.DataFrame:
        """Read the published records of the sweep.

        Returns
        -------
        DataFrame
            One row a finished run: design, outcome and execution; what `isoflop collect` writes.

        Raises
        ------
        UserError
            When the sweep was never run in this store.
        """
        import pandas as pd

        rows = read_records(PlannedSweep.find(str(self.file), self.store).path)
        return pd.DataFrame([flat_row(record, labels) for record, labels in rows])

    def verify(self) -> pd.DataFrame:
        """Say which files of the store are not those that were written.

        Returns
        -------
        DataFrame
            One row a damaged file: path, problem, remedy; empty where all is right.

        Raises
        ------
        UserError
            When the folder is no store.
        """
        import pandas as pd

        found = verify_verb.verify(self.store)
        return pd.DataFrame([vars(item) for item in found.damaged], columns=["path", "problem", "remedy"])

    def _arguments(self, verb: VerbModule, **options: str | int | float | bool) -> argparse.Namespace:
        """What the command line would make of this sweep and these options."""
        words = [str(self.file), "--store", str(self.store)]
        for name, value in options.items():
            flag = f"--{name.replace('_', '-')}"
            if value is True:
                words.append(flag)
            elif value is not False:
                words += [flag, str(value)]
        parser = _Parser(add_help=False)
        verb.add_arguments(parser)
        args, rest = parser.parse_known_args(words)
        if rest:
            raise UserError(f"unknown option {' '.join(rest)}; see `isoflop run --help`")
        args.overrides = list(self.overrides)
        return args

    def __repr__(self) -> str:
        changed = f" with {' '.join(self.overrides)}" if self.overrides else ""
        return f"Sweep({str(self.file)!r}, store={str(self.store)!r}){changed}"

    def _repr_html_(self) -> str:
        columns = ["run_id", "params", "tokens", "flops", "seconds", "done"]
        return f"<p>{html.escape(repr(self))}</p>{self.plan()[columns].to_html(index=False)}"
