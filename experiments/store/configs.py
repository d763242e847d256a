"""The config of a run on the disk, `runs/<run_id>/config.json`: written once, believed where it describes its run.

Its digest is the run's own id. It must not know how runs are trained. Standard library and configs only.
"""

from __future__ import annotations

import json
from pathlib import Path

from experiments.config.kinds import AnyRun, canonical, config_from_dict
from experiments.config.kinds import run_id as identity_of
from experiments.errors import UserError
from experiments.files import set_aside, write_atomic
from experiments.records import read_text

REMEDY = "run the sweep's YAML again to write it anew"
"""What helps against a config that cannot be believed."""


class ConfigError(UserError):
    """The config of one run cannot be read; other runs are not concerned."""


def write_config(folder: Path, run_id: str, config: AnyRun) -> None:
    """Write a run's config.json, unless it says the same already; one that is no config of the run is set aside.

    Parameters
    ----------
    folder : Path
        runs/<run_id>; something else of that name is set aside.
    run_id : str
        The run.
    config : RunConfig or FinetuneRun
        What it trains.

    Raises
    ------
    StoreError
        When the disk refuses.
    """
    if folder.exists() and not folder.is_dir():
        set_aside(folder)
    path = folder / "config.json"
    text = json.dumps(canonical(config), indent=1, sort_keys=True) + "\n"
    if path.exists() or path.is_symlink():
        try:
            if path.is_file() and path.read_bytes() == text.encode():
                return
            read_config(folder, run_id)
        except (UserError, OSError):
            set_aside(path)
    write_atomic(path, text, durable=False)


def read_config(folder: Path, run_id: str) -> AnyRun:
    """Read the config of a run of either kind.

    Parameters
    ----------
    folder : Path
        runs/<run_id>.
    run_id : str
        The run.

    Returns
    -------
    RunConfig or FinetuneRun
        With the same identity as the one that was written.

    Raises
    ------
    ConfigError
        When its file is missing, incomplete, wrong, or describes another run.
    """
    path = folder / "config.json"
    try:
        raw = json.loads(read_text(path))
        if not isinstance(raw, dict):
            raise ConfigError(f"{path} holds no JSON object; {REMEDY}")
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing; {REMEDY}") from None
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not complete JSON; {REMEDY}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); {REMEDY}") from error
    try:
        config = config_from_dict(raw, where=str(path))
        identity = identity_of(config)
    except UserError as error:
        raise ConfigError(f"{error}; if a newer isoflop wrote it, upgrade, else {REMEDY}") from error
    if identity != run_id:
        raise ConfigError(f"{path} describes another run, {identity}; {REMEDY}")
    return config
