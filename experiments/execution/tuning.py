"""Train one claimed fine-tuning run, publish its record, and bring a tuned run back to answer.

It must not know loops over segments, heartbeats, or what becomes of an error.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from experiments.config.tuning import run as tuning
from experiments.config.tuning.run import FinetuneRun
from experiments.data.cache import Cache
from experiments.data.corpora.task_files import columns_of, find_task, task_hash
from experiments.data.tasks import Example, Task, training_texts
from experiments.data.tokenizers.bpe import task_merges
from experiments.data.tokenizers.checkpoint import OWN, CheckpointTokenizer, Marks
from experiments.data.tokenizers.tokenizer import BpeTokenizer, BytesTokenizer, Tokenizer, load_tokenizer
from experiments.digests import checked_row
from experiments.errors import UserError
from experiments.execution.engine import Execution
from experiments.execution.queue import Claimed
from experiments.execution.retries import micro_batch_of
from experiments.files import append_rows, write_atomic
from experiments.records import RunRecord, RunStatus
from experiments.store.store import RunStore
from experiments.store.weights import UNPUBLISHED, WEIGHTS, read_weights
from experiments.training.tuning.answers import Answers
from experiments.training.tuning.classification import Classification
from experiments.training.tuning.forgetting import pretraining_loss
from experiments.training.tuning.loop import Tuned, TuningSetup, finetune
from experiments.training.tuning.model import learned, load_learned, make_body
from experiments.training.tuning.tagging import Tagging
from experiments.training.tuning.tasks import TuningTask
from experiments.training.tuning.writing import Writing
from models.huggingface.folder import folder_digest
from models.huggingface.weights import load_huggingface


@dataclass
class Bodies:
    """Pre-trained runs and tasks of one store; the last of each is kept, for runs come sorted by them."""

    store: RunStore
    """Where the runs are."""
    cache: Cache
    """Holds tokenizers and corpora."""
    _body: tuple[str, Mapping[str, Tensor]] | None = field(default=None, init=False)
    _task: tuple[str, Task] | None = field(default=None, init=False)

    def body(self, run: FinetuneRun) -> Mapping[str, Tensor]:
        """Weights of what a run tunes; none from scratch. UserError when they are not those that were planned."""
        if self._body is None or self._body[0] != run.pretrained:
            self._body = (run.pretrained, self._read(run))
        return self._body[1]

    def _read(self, run: FinetuneRun) -> Mapping[str, Tensor]:
        if run.source == "scratch":
            return {}
        if run.source == "huggingface":
            folder = Path(str(run.folder))
            found = folder_digest(folder)
            if found != run.pretrained:
                raise UserError(
                    f"checkpoint {folder} changed under this sweep: it was planned with content {run.pretrained} and "
                    f"now has {found}; restore the old content, or plan a new sweep"
                )
            return load_huggingface(folder).state_dict()
        path = self.store.run_folder(run.pretrained) / WEIGHTS
        if not path.exists():
            raise UserError(f"pre-trained run {run.pretrained} has no {path}; train it again, without --no-weights")
        return safetensors.torch.load(read_weights(self.store, run.pretrained))

    def tokenizer(self, run: FinetuneRun) -> tuple[Tokenizer, Marks]:
        """The tokenizer of what a run tunes, and the marks around its texts."""
        if run.source == "scratch" and run.tokenizer == "bytes":
            return BytesTokenizer(), OWN
        if run.source == "scratch":
            content = run.task.content_hash
            merges = task_merges(run.tokenizer, content, lambda: training_texts(self.task(run)), self.cache)
            return BpeTokenizer(merges, run.task.name), OWN
        if run.source == "huggingface":
            found = CheckpointTokenizer(Path(str(run.folder)))
            return found, found.marks()
        return load_tokenizer(self.store.read_config(run.pretrained).data, self.cache), OWN

    def task(self, run: FinetuneRun) -> Task:
        """The task of a run; UserError when its content is not that which was planned."""
        wanted = run.task
        if self._task is None or self._task[0] != wanted.content_hash:
            task = find_task(wanted.name, self.cache, columns_of(wanted))
            found = task_hash(task)
            if found != wanted.content_hash:
                raise UserError(
                    f"task {wanted.name!r} changed under this sweep: it was planned with content "
                    f"{wanted.content_hash} and now has {found}; restore the old content, or plan a new sweep"
                )
            self._task = (found, task)
        return self._task[1]

    def head(self, run: FinetuneRun) -> TuningTask:
        """What the kind of task asks of the model."""
        tokenizer, marks = self.tokenizer(run)
        if run.task.kind == "tagging":
            return Tagging(run.task.labels, tokenizer, run.model.family != "encoder", marks)
        if run.task.kind == "question-answering":
            return Answers(tokenizer, marks, run.task.overlap)
        if run.task.kind in ("generation", "language"):
            return Writing(tokenizer, marks, run)
        return Classification(run.task.labels, tokenizer, marks)

    def load(self, run_id: str) -> tuple[FinetuneRun, nn.Module]:
        """A tuned run with its model in evaluation mode, on the CPU.

        Parameters
        ----------
        run_id : str
            A finished fine-tuning run.

        Returns
        -------
        FinetuneRun
            Its config.
        Module
            Gives the outputs that it gave after training, to the last bit.

        Raises
        ------
        UserError
            When there is no such run, or it kept no weights.
        """
        run = self.store.read_any(run_id)
        if not isinstance(run, FinetuneRun):
            raise UserError(f"run {run_id} was trained from nothing and has learnt no task; name a fine-tuning run")
        path = self.store.run_folder(run_id) / WEIGHTS
        if not path.exists():
            raise UserError(f"fine-tuning run {run_id} kept no weights; train it again without --no-weights")
        model = self.head(run).model(make_body(run, self.body(run)), run.seed)
        load_learned(model, safetensors.torch.load(read_weights(self.store, run_id)))
        return run, model.eval()

    def predict(self, run_id: str, texts: Sequence[str], questions: Sequence[str] = ()) -> list[dict[str, Any]]:
        """The likeliest label of each text with its probability, tags of its words, a part of it, or another text.

        Parameters
        ----------
        run_id : str
            A finished fine-tuning run.
        texts : sequence of str
            Cut at the context; `is_cut` says so.
        questions : sequence of str
            Each is asked of each text; only of a run that has learnt to answer them.

        Raises
        ------
        UserError
            When there is no such run, it kept no weights, or it takes questions and there are none, or the other way
            round.
        """
        run, model = self.load(run_id)
        if (run.task.kind == "question-answering") is not bool(questions):
            wants = "answers questions on a text; give --question" if not questions else "takes no --question"
            raise UserError(f"fine-tuning run {run_id} has learnt {run.task.kind}: it {wants}")
        head = self.head(run)
        asked: Sequence[str | None] = questions or (None,)
        examples = [Example(text=text, question=question) for text in texts for question in asked]
        rows = head.rows(examples, run.longest)
        with torch.no_grad():
            answers = [head.answers(model, [row], torch.device("cpu"))[0] for row in rows]
        return [head.say(one.text, answer, row) for one, row, answer in zip(examples, rows, answers, strict=True)]


@dataclass(frozen=True, kw_only=True)
class TuningTrainer:
    """Trains claimed fine-tuning runs on one store."""

    store: RunStore
    """Where configs and records are."""
    execution: Execution
    """The means to train."""
    keep_weights: bool
    """Whether what a run trained is kept."""
    bodies: Bodies
    """Pre-trained runs and tasks."""

    def train(self, run: FinetuneRun, claimed: Claimed) -> RunRecord:
        """Train a run and publish its record; the published one, whoever won.

        Parameters
        ----------
        run : FinetuneRun
            What to train.
        claimed : Claimed
            The attempt.

        Returns
        -------
        RunRecord
            That names the weights to keep, which lie under the name of the attempt.

        Raises
        ------
        UserError
            When several processes train together, or the body or the task is not as it was planned.
        Interrupted, Diverged
            As `training.tuning.loop.finetune`.
        """
        if self.execution.ranks.many:
            raise UserError("a fine-tuning run is trained by one process; leave out --devices-per-run and --nodes")
        began, run_id = time.time(), claimed.segment.run_id
        folder = self.store.run_folder(run_id)
        micro_batch = micro_batch_of(run, claimed.num_ooms, 1)
        done = finetune(
            TuningSetup(
                run=run,
                weights=self.bodies.body(run),
                task=self.bodies.task(run),
                head=self.bodies.head(run),
                fabric=self.execution.fabric(run.precision),
                write_rows=lambda rows: append_rows(folder / "metrics.jsonl", [checked_row(row) for row in rows]),
                should_stop=partial(self.execution.should_stop, None),
                micro_batch=micro_batch,
            )
        )
        outcome = done.outcome | self._forgetting(run, done)
        facts = self.execution.facts(run, attempt=claimed.attempt, began=began, micro_batch=micro_batch)
        if self.keep_weights:
            content = safetensors.torch.save(learned(done.model))
            write_atomic(folder / f"{UNPUBLISHED}{claimed.attempt}", content)
            facts["weights_sha256"] = hashlib.sha256(content).hexdigest()
        counted = {"tokens": done.tokens, "flops": done.flops, "flops_6nd": _flops_6nd(run, done.tokens)}
        record = RunRecord(
            run_id=run_id,
            status=RunStatus.DONE,
            config=tuning.canonical(run),
            design=tuning.design_of(run) | counted,
            outcome=outcome,
            execution=facts,
        )
        return record if self.store.publish(record) else self.store.find_record(run_id) or record

    def _forgetting(self, run: FinetuneRun, done: Tuned) -> dict[str, Any]:
        """The pre-training validation loss before and after tuning.

        A body that is frozen has not changed, one from scratch has nothing to forget, and of a checkpoint nobody knows
        what it was trained on. Where positions are learned,
        a prompt leaves no room for whole sequences of pre-training.
        """
        record = self.store.find_record(run.pretrained) if run.source == "run" else None
        before = None if record is None or run.method.name == "scratch" else float(record.outcome["loss"])
        after = before
        no_room = run.method.name == "prompt" and bool(run.method.size) and run.model.positions == "learned"
        if before is None or not run.forgetting or no_room:
            after = None
        elif not run.method.is_frozen and run.num_steps:
            body: Any = done.model.body
            config = self.store.read_config(run.pretrained)
            fabric = self.execution.fabric(config.precision)
            after = pretraining_loss(body, config, self.execution.corpus(config), fabric)
        gain = None if before is None or after is None else after - before
        return {"pretrained_loss": before, "pretrained_loss_after": after, "forgetting": gain}


def _flops_6nd(run: FinetuneRun, tokens: int) -> float:
    """6 N D with the N of the body, whatever learns."""
    return 6.0 * float(tuning.design_of(run)["params"]) * tokens
