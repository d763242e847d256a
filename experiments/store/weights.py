"""The weights of finished runs, read only where they are those that the record names. Standard library only."""

from __future__ import annotations

import hashlib

from experiments.errors import UserError
from experiments.store.store import RunStore


def read_weights(store: RunStore, run_id: str) -> bytes:
    """Read the weights of a finished run.

    Parameters
    ----------
    store : RunStore
        The store.
    run_id : str
        The run.

    Returns
    -------
    bytes
        A safetensors file.

    Raises
    ------
    UserError
        When there are none, or they are not those that the record names.
    """
    path = store.run_folder(run_id) / "weights.safetensors"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: the run is not finished or was trained with --no-weights; train it again"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); see to the disk") from error
    record = store.find_record(run_id)
    known = None if record is None else record.execution.get("weights_sha256")
    if known is not None and known != hashlib.sha256(content).hexdigest():
        raise UserError(
            f"{path} has changed since it was written: its digest is another; remove the run's record.json and run "
            "its sweep again"
        )
    return content
