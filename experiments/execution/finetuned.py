"""Fine-tuned runs in a store: `finetuned/<run_id>/` with its record and what it trained, and nothing else.

Several processes may train the same list: the first to finish a run publishes it. It must not know command lines.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from experiments.config.counts import design_of
from experiments.config.finetuning import FinetuneRun
from experiments.config.run import RunConfig
from experiments.data.cache import Cache
from experiments.data.tasks import Task
from experiments.data.tokenizers.tokenizer import load_tokenizer
from experiments.errors import UserError
from experiments.files import link_once, write_atomic
from experiments.machine.hardware import versions
from experiments.records import RunRecord, RunStatus, read_record
from experiments.store.store import RunStore
from experiments.training.finetuning import Finetuned, build, encode, finetune, learned, padded
from models.modules.heads import SequenceClassifier


def pretrained_problem(store: RunStore, run_id: str) -> str | None:
    """Why a run cannot be fine-tuned, as one sentence; None when it can."""
    record = store.read_record(run_id)
    if record is None or record.status is not RunStatus.DONE:
        return f"pre-trained run {run_id} is not finished; train it with `python -m experiments run`"
    if not (store.run_folder(run_id) / "weights.safetensors").exists():
        return f"pre-trained run {run_id} kept no weights; train it again without --no-weights"
    config = store.read_config(run_id)
    if config.data.is_language:
        return f"pre-trained run {run_id} knows tokens of {config.data.corpus!r}, which are no text; name a run on text"
    if config.model.family == "encoder-decoder":
        return f"pre-trained run {run_id} is an encoder-decoder; name an encoder or a decoder"
    return None


@dataclass
class FinetunedStore:
    """What was fine-tuned in one store."""

    store: RunStore
    """Holds the pre-trained runs."""
    cache: Cache
    """Holds tokenizers."""
    _bodies: dict[str, tuple[RunConfig, Mapping[str, Tensor]]] = field(default_factory=dict, init=False)

    def folder(self, run_id: str) -> Path:
        """Where a fine-tuned run lies."""
        return self.store.root / "finetuned" / run_id

    def read(self, run_id: str) -> RunRecord | None:
        """The record of a fine-tuned run; None when there is none."""
        path = self.folder(run_id) / "record.json"
        return read_record(path) if path.exists() else None

    def body(self, run_id: str) -> tuple[RunConfig, Mapping[str, Tensor]]:
        """Config and weights of a pre-trained run, read once."""
        if run_id not in self._bodies:
            self._bodies.clear()
            weights = safetensors.torch.load_file(self.store.run_folder(run_id) / "weights.safetensors")
            self._bodies[run_id] = (self.store.read_config(run_id), weights)
        return self._bodies[run_id]

    def train(self, run: FinetuneRun, task: Task) -> RunRecord:
        """Train a run unless it is published, and publish it.

        Parameters
        ----------
        run : FinetuneRun
            What to train.
        task : Task
            Its task.

        Returns
        -------
        RunRecord
            The published one, whoever trained it.

        Raises
        ------
        UserError
            When the task has too few examples.
        """
        known = self.read(run.run_id)
        if known is not None:
            return known
        config, weights = self.body(run.pretrained)
        done = finetune(run, config.model, weights, task, load_tokenizer(config.data, self.cache))
        record = self._record(run, config, task, done)
        folder = self.folder(run.run_id)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "trained.safetensors", safetensors.torch.save(learned(done.model)))
        temporary = folder / f".record.{os.getpid()}.{os.urandom(4).hex()}"
        write_atomic(temporary, record.to_json())
        try:
            link_once(temporary, folder / "record.json", lock=folder / "record.lock")
        finally:
            temporary.unlink(missing_ok=True)
        published = self.read(run.run_id)
        assert published is not None
        return published

    def _record(self, run: FinetuneRun, config: RunConfig, task: Task, done: Finetuned) -> RunRecord:
        outcome = dict(done.outcome)
        flops, tokens = outcome.pop("flops"), outcome.pop("train_tokens")
        design = design_of(config, num_train_tokens=None)
        before = self.store.read_record(run.pretrained)
        return RunRecord(
            run_id=run.run_id,
            status=RunStatus.DONE,
            config=asdict(run) | {"labels": list(task.labels)},
            design=design
            | {
                "pretrained": run.pretrained,
                "pretrained_loss": None if before is None else before.outcome["loss"],
                "pretrained_tokens": config.tokens,
                "task": run.task,
                "method": run.method,
                "examples": run.examples,
                "rank": run.rank,
                "trainable_params": done.trainable,
                "tokens": tokens,
                "flops": flops,
                "flops_6nd": 6.0 * design["params"] * tokens,
                "steps": run.num_steps,
                "batch": run.batch,
                "lr": run.learning_rate,
                "seed": run.seed,
            },
            outcome=outcome,
            execution={"device": "cpu", "versions": versions()},
        )

    def load(self, run_id: str) -> tuple[SequenceClassifier, tuple[str, ...], RunConfig]:
        """A fine-tuned model in eval mode, its labels, and the config of its body.

        Parameters
        ----------
        run_id : str
            A fine-tuned run.

        Returns
        -------
        tuple
            The model gives the outputs that it gave after training, to the last bit.

        Raises
        ------
        UserError
            When there is no such run.
        """
        record = self.read(run_id)
        if record is None:
            raise UserError(f"fine-tuned run {run_id!r} is not in {self.store.root.resolve()}; see `finetune --out`")
        raw = dict(record.config)
        labels = tuple(raw.pop("labels"))
        run = FinetuneRun(**raw)
        config, weights = self.body(run.pretrained)
        model = build(run, config.model, weights, len(labels))
        trained = safetensors.torch.load_file(self.folder(run_id) / "trained.safetensors")
        model.load_state_dict(trained, strict=False)
        return model.eval(), labels, config

    def predict(self, run_id: str, texts: list[str]) -> list[dict[str, Any]]:
        """The likeliest label of each text and its probability.

        Parameters
        ----------
        run_id : str
            A fine-tuned run.
        texts : list of str
            Cut at the context.
        """
        import torch

        from experiments.data.tasks import Example

        model, labels, config = self.load(run_id)
        tokenizer = load_tokenizer(config.data, self.cache)
        examples = [Example(text=text, label=labels[0]) for text in texts]
        prompt = next((p for name, p in model.named_parameters() if name.endswith("prompt_PD")), None)
        longest = config.model.context - (0 if prompt is None else len(prompt))
        rows = encode(examples, labels, tokenizer, longest).tokens
        with torch.no_grad():
            likely = [model(*padded([row])).float().softmax(1)[0] for row in rows]
        return [
            {"text": text, "label": labels[int(p.argmax())], "probability": float(p.max())}
            for text, p in zip(texts, likely, strict=True)
        ]
