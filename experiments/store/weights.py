"""The weights of finished runs: put in their place after the record, and read only where the record names them.

Until its record is published, a run's weights lie under another name, so that they are always those of the record that
won. Standard library only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from experiments.digests import file_digest
from experiments.errors import UserError
from experiments.files import replace
from experiments.records import RunRecord
from experiments.store.store import RunStore

WEIGHTS = "weights.safetensors"
"""Where a finished run keeps its weights; a fine-tuned one those that it trained."""
UNPUBLISHED = ".weights-"
"""How names of weights begin whose run has no record yet; the number of the attempt follows."""


def place_weights(folder: Path, record: RunRecord) -> None:
    """Give the weights of a published run their name, where a worker that was killed left that undone.

    Parameters
    ----------
    folder : Path
        runs/<run_id>.
    record : RunRecord
        The published one.

    Raises
    ------
    StoreError
        When the disk refuses.
    """
    final, known = folder / WEIGHTS, record.execution.get("weights_sha256")
    for path in sorted(folder.glob(f"{UNPUBLISHED}*")):
        try:
            is_wanted = file_digest(path) == known
        except FileNotFoundError:
            continue  # another worker was quicker
        if is_wanted:
            replace(path, final)
            return


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
    path = store.run_folder(run_id) / WEIGHTS
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
