"""The bodies of a fine-tuning sweep: runs, finished or still to be trained, checkpoints, or fresh weights.

It must not know tasks, methods or rates. Writes nothing; torch-free.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.config.codec import plain
from experiments.config.designs import ExpandedSweep
from experiments.config.run import RunConfig
from experiments.config.tuning.run import Source
from experiments.config.tuning.sweep import PretrainedConfig
from experiments.data.config import FIRST_OWN_ID, DataConfig, bpe_size
from experiments.data.tokenizers.bpe import BPE_VERSION
from experiments.errors import UserError
from experiments.records import RunStatus
from experiments.store.store import RunStore
from experiments.store.weights import WEIGHTS
from models.config.transformer import TransformerConfig
from models.huggingface.folder import DIGITS, folder_config, folder_digest


@dataclass(frozen=True, kw_only=True)
class Body:
    """What is tuned."""

    run_id: str
    """Id of a pre-trained run, or a hash of what stands for one."""
    model: TransformerConfig
    """Its shape."""
    tokens: int = 0
    """Tokens of pre-training; 0 where nobody knows."""
    source: Source = "run"
    """Where its weights are from."""
    folder: str | None = None
    """huggingface: the checkpoint."""
    tokenizer: str = "bytes"
    """scratch: bytes or bpe-SIZE."""
    data: DataConfig | None = None
    """run: what it was trained on."""
    waits: bool = False
    """Whether the pre-trained run is still to be trained."""


def find_bodies(
    wanted: PretrainedConfig, store: RunStore, before: ExpandedSweep | None = None, content: str = ""
) -> tuple[list[Body], list[str]]:
    """Find the bodies of a fine-tuning sweep.

    Parameters
    ----------
    wanted : PretrainedConfig
        What the sweep file says.
    store : RunStore
        Holds the pre-trained runs.
    before : ExpandedSweep, optional
        The sweep of the bodies, where `wanted` names its file.
    content : str
        Content hash of the task, on whose training split a body from scratch may learn its vocabulary.

    Returns
    -------
    bodies : list of Body
        At least one.
    left_out : list of str
        One sentence for each run that cannot be tuned.

    Raises
    ------
    UserError
        When there is no body, or it cannot be read.
    """
    if wanted.huggingface is not None:
        return [_checkpoint(Path(wanted.huggingface))], []
    if wanted.scratch:
        return [_fresh(wanted, content)], []
    if wanted.run is not None:
        run = _run_named(store, wanted.run)
        problem = pretrained_problem(store, run, store.read_config(run))
        if problem is None and store.find_record(run) is None:
            problem = f"pre-trained run {run} is not finished; train it with `isoflop run`"
        if problem is not None:
            raise UserError(problem)
        return [_of_run(store, run, store.read_config(run))], []
    configs = _of_sweep(str(wanted.sweep), store) if before is None else _expanded(before)
    problems = {run: pretrained_problem(store, run, config) for run, config in configs.items()}
    left_out = [problem for problem in problems.values() if problem is not None]
    bodies = [_of_run(store, run, configs[run]) for run, problem in problems.items() if problem is None]
    if not bodies:
        raise UserError(
            f"no run of sweep {wanted.sweep!r} can be tuned: {left_out[0] if left_out else 'it lists none'}"
        )
    return bodies, left_out


def _of_run(store: RunStore, run: str, config: RunConfig) -> Body:
    waits = store.find_record(run) is None
    return Body(run_id=run, model=config.model, tokens=config.tokens, data=config.data, waits=waits)


def _of_sweep(name: str, store: RunStore) -> dict[str, RunConfig]:
    """Configs of the runs of a sweep that the store knows."""
    manifest = store.read_manifest(name) if "/" not in name else None
    if manifest is None:
        known = sorted(path.stem for path in store.sweeps.glob("*.json"))
        hint = f"it knows {', '.join(known)}" if known else "it holds no sweep yet"
        raise UserError(
            f"pretrained.sweep is {name!r}, which is not in the store {store.root.resolve()}; {hint}; train it first "
            f"with `isoflop run`, or name its file"
        )
    return {run: store.read_config(run) for run in manifest.runs}


def _expanded(before: ExpandedSweep) -> dict[str, RunConfig]:
    return {item.run_id: item.config for item in before.runs if isinstance(item.config, RunConfig)}


def _run_named(store: RunStore, name: str) -> str:
    found = sorted(path.name for path in store.runs.glob(f"{name}*") if path.is_dir()) if name.isalnum() else []
    if len(found) != 1:
        why = "no run" if not found else f"{len(found)} runs"
        raise UserError(
            f"pretrained.run is {name!r}, and {why} of the store {store.root.resolve()} begins so; give the id of a "
            f"finished run, as `status` shows it"
        )
    return found[0]


def pretrained_problem(store: RunStore, run: str, config: RunConfig) -> str | None:
    """Say why a run cannot be fine-tuned, now or when it is trained.

    Parameters
    ----------
    store : RunStore
        Where it is.
    run : str
        Its id.
    config : RunConfig
        What it trains.

    Returns
    -------
    str or None
        One sentence; None when it can.
    """
    record = store.find_record(run)
    if record is not None and record.status is not RunStatus.DONE:
        return f"pre-trained run {run} is {record.status}; train it with `isoflop run --retry-failed`"
    if record is not None and not (store.run_folder(run) / WEIGHTS).exists():
        return f"pre-trained run {run} kept no weights; train it again without --no-weights"
    if config.data.is_language:
        return f"pre-trained run {run} knows tokens of {config.data.corpus!r}, which are no text; name a run on text"
    return None


def _checkpoint(folder: Path) -> Body:
    """A checkpoint folder, by its content."""
    if not folder.is_dir():
        raise UserError(f"pretrained.huggingface is {folder}, which is no folder; give that of a checkpoint")
    model = folder_config(folder)
    if not (folder / "tokenizer.json").is_file():
        raise UserError(f"{folder} holds no tokenizer.json; save the checkpoint with its fast tokenizer")
    if importlib.util.find_spec("tokenizers") is None:
        raise UserError("a checkpoint needs the package tokenizers; install it with `pip install 'isoflop[data]'`")
    return Body(run_id=folder_digest(folder), model=model, source="huggingface", folder=str(folder))


def _fresh(wanted: PretrainedConfig, content: str) -> Body:
    """A body of fresh weights, by its shape and its vocabulary."""
    missing = [name for name in ("width", "depth", "num_heads", "context") if name not in wanted.model]
    if missing:
        raise UserError(f"pretrained.scratch needs pretrained.model.{missing[0]}; give the shape of the body")
    try:
        fields: dict[str, Any] = dict(wanted.model)  # PretrainedConfig has checked each
        model = TransformerConfig(vocab_size=bpe_size(wanted.tokenizer) or FIRST_OWN_ID, **fields)
    except ValueError as error:
        raise UserError(f"pretrained.model cannot be built: {error}") from error
    shape = json.dumps(plain(model), sort_keys=True)
    words = "" if wanted.tokenizer == "bytes" else f" {wanted.tokenizer} {content} {BPE_VERSION}"
    name = hashlib.sha256(f"scratch {shape}{words}".encode()).hexdigest()[:DIGITS]
    return Body(run_id=name, model=model, source="scratch", tokenizer=wanted.tokenizer)
