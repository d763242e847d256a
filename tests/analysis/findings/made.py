"""Stores of made records, whose losses follow what a test says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.records import RunRecord, RunStatus
from models.config.accounting import params_fit
from models.config.transformer import TransformerConfig

DATA = {"corpus": "sotu", "corpus_options": {}, "context": 64}
"""Text, of which nothing is known exactly."""


def made_run(
    number: int, *, width: int, depth: int, tokens: float, loss: float, data: Mapping[str, Any] = DATA, **more: Any
) -> RunRecord:
    """One finished run of a decoder.

    Parameters
    ----------
    number : int
        Its id.
    width, depth : int
        Its shape.
    tokens : float
        D.
    loss : float
        What was measured, nats per token.
    data : mapping
        The data of its config.
    **more
        Further fields of its design.
    """
    model: dict[str, Any] = {"vocab_size": 264, "width": width, "depth": depth, "num_heads": 1, "context": 64}
    params = params_fit(TransformerConfig(**model))
    design = {"params": params, "params_total": params * 1.1, "params_non_embedding": params, "tokens": tokens}
    design |= {"flops": 6.5 * params * tokens, "flops_6nd": 6 * params * tokens, "width": width, "depth": depth}
    design |= {"num_heads": 1, "vocab": 264, "context": 64, "seed": 0, "batch": 1024, "lr": 0.01, **more}
    sums = [loss * 100.0 * part for part in (0.9, 1.1, 1.0)]
    return RunRecord(
        run_id=f"{number:012x}",
        status=RunStatus.DONE,
        config={"model": model, "data": dict(data)},
        design=design,
        outcome={"loss": loss, "val_sums": sums, "val_counts": [100, 100, 100]},
        execution={"trunk": f"{width}-{depth}-{more.get('arm', '')}-{more.get('seed', 0)}"},
    )


def made_store(
    root: Path, runs: Iterable[tuple[RunRecord, Mapping[str, Any]]], *, design: str = "ladder", **report: Any
) -> Path:
    """Write a store and give the path of its manifest.

    Parameters
    ----------
    root : Path
        The store.
    runs : iterable of (RunRecord, mapping)
        Records, each with the labels of the sweep.
    design : str
        Kind of the sweep's design.
    **report
        Choices of the report.
    """
    labels = {}
    for record, more in runs:
        folder = root / "runs" / record.run_id
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(record.to_json(), encoding="utf-8")
        labels[record.run_id] = {"budget": record.design["tokens"], "role": "fit", **more}
    manifest = {"name": "made", "runs": labels, "report": report, "sweep": {"design": design}}
    path = root / "sweeps" / "made.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return path
