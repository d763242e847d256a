"""From a fine-tuning sweep to its runs: bodies from the store, the task's content, cells, and the rates of each cell.

A cell is a body, a method with its size, and a number of examples. Its rates grow with the validation losses that the
store holds, so that the same command goes on until the best rate of every cell is inside. Writes nothing; torch-free.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from experiments.config.designs import ExpandedSweep, PlannedRun, Role
from experiments.config.tuning.rates import Rates, grow, starting_rate
from experiments.config.tuning.run import FinetuneRun, TaskRef, run_id
from experiments.config.tuning.sweep import FinetuneSweep, MethodChoice, TaskConfig
from experiments.config.tuning.windows import mean_windows, pieces_of
from experiments.data.cache import Cache
from experiments.data.corpora.task_files import columns_of, find_task, task_hash
from experiments.data.tasks import Task, training_texts
from experiments.data.tokenizers.bpe import task_merges
from experiments.data.tokenizers.lengths import corpus_counter, count_bytes, file_counter, merges_counter
from experiments.errors import UserError
from experiments.machine.devices import DeviceKind, Precision, resolve_precision
from experiments.planning.bodies import Body, find_bodies
from experiments.records import RunStatus
from experiments.store.store import RunStore
from models.config.accounting import params_fit
from models.config.finetuning import MethodConfig, method_params

MARKS = 3
"""Most marks around a question and a text."""
SAMPLE = 500
"""Training examples whose windows are counted for a plan, evenly over the split."""


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """What is trained with every seed, at the rates that the search asks for."""

    body: Body
    choice: MethodChoice
    method: MethodConfig
    examples: int
    role: Role


def expand_finetune(
    sweep: FinetuneSweep,
    *,
    store: RunStore,
    cache: Cache,
    kind: DeviceKind = "cpu",
    before: ExpandedSweep | None = None,
) -> ExpandedSweep:
    """Expand a fine-tuning sweep to the runs that it has by now.

    Parameters
    ----------
    sweep : FinetuneSweep
        As its file says.
    store : RunStore
        Holds the pre-trained runs, and the fine-tuning runs from whose validation losses rates are chosen.
    cache : Cache
        Holds the task's corpus.
    kind : str
        Kind of device, cpu or cuda, for which precision 'auto' is resolved.
    before : ExpandedSweep, optional
        The sweep of the bodies, where the file names the file of one.

    Returns
    -------
    ExpandedSweep
        Its labels say which runs are `best` of their cell, and whether that rate lies at the edge of those tried.

    Raises
    ------
    UserError
        When the task, a body or a method cannot be used, before anything is written.
    """
    trained = None if sweep.pretrained.scratch else find_bodies(sweep.pretrained, store, before)
    found, task = _task(sweep.task, cache)
    available = len(found.splits["train"])
    bodies, left_out = trained or find_bodies(sweep.pretrained, store, content=task.content_hash)
    _check_kind(task, bodies)
    _check_windows(task, bodies)
    for choice in sweep.choices():
        _check_method(choice, bodies)
    most = max(sweep.design.examples)
    if most > available:
        raise UserError(
            f"design.examples holds {most}, more than the {available} training examples of {sweep.task.name}; lower it"
        )
    if sweep.pretrained.tokenizer != "bytes":  # too few merges are an error before anything is written
        task_merges(sweep.pretrained.tokenizer, task.content_hash, partial(training_texts, found), cache)
    tasks = {body.run_id: replace(task, windows=_windows(body, task, found, cache)) for body in bodies}
    maker = _Maker(sweep, store, tasks, resolve_precision(sweep.precision, kind))
    runs: dict[str, PlannedRun] = {}
    waits: dict[str, str] = {}
    for cell in _cells(sweep, bodies):
        for run in maker.runs(cell):
            runs.setdefault(run.run_id, run)
            if cell.body.waits:
                waits[run.run_id] = cell.body.run_id
    return ExpandedSweep(
        sweep=sweep,
        runs=tuple(runs.values()),
        left_out=tuple(left_out),
        before=before,
        waits=waits,
    )


def _cells(sweep: FinetuneSweep, bodies: list[Body]) -> Iterator[_Cell]:
    """The cells; those of the largest body, or of the only one, with the most examples are held out of every fit."""
    design, most = sweep.design, max(sweep.design.examples)
    largest = max(params_fit(body.model) for body in bodies)
    for body in bodies:
        for choice in sweep.choices():
            counts = dict.fromkeys(design.examples)
            if design.controls and choice.name in ("head", "scratch"):
                counts = dict.fromkeys((0, *counts))
            for method in choice.methods():
                for examples in counts:
                    far = params_fit(body.model) == largest and examples == most and len(counts) > 1
                    role: Role = "heldout" if far else "fit"
                    yield _Cell(body=body, choice=choice, method=method, examples=examples, role=role)


@dataclass(frozen=True)
class _Maker:
    """Makes the runs of cells."""

    sweep: FinetuneSweep
    store: RunStore
    tasks: dict[str, TaskRef]
    precision: Precision

    def runs(self, cell: _Cell) -> Iterator[PlannedRun]:
        """The runs of a cell: all tried rates with the seeds that tune, the best one with the others."""
        seeds, search = self.sweep.seeds, self.sweep.design.rates
        if cell.examples == 0:  # nothing is trained, so that one rate stands for all
            for seed in seeds:
                yield self._run(cell, 0, seed, Rates(tried=(0,), best=0, at_edge=False))
            return
        tuning, others = seeds[: search.seeds], seeds[search.seeds :]
        limit = search.limit if search.span else 0
        rates = grow(lambda power: self._loss(cell, power, tuning), span=search.span, limit=limit)
        for power in rates.tried:
            for seed in tuning:
                yield self._run(cell, power, seed, rates)
        if rates.best is not None:
            for seed in others:
                yield self._run(cell, rates.best, seed, rates)

    def _loss(self, cell: _Cell, power: int, seeds: tuple[int, ...]) -> float | None:
        """Mean validation loss of a rate over the seeds that tune; None while one is missing."""
        total = 0.0
        for seed in seeds:
            record = self.store.find_record(run_id(self._config(cell, power, seed)))
            if record is None:
                return None
            total += record.outcome["val_loss"] if record.status is RunStatus.DONE else math.inf
        return total / len(seeds)

    def _run(self, cell: _Cell, power: int, seed: int, rates: Rates) -> PlannedRun:
        config = self._config(cell, power, seed)
        best = power == rates.best
        labels = {
            "role": cell.role,
            "budget": cell.examples,
            "rate_power": power,
            "best": best,
            "rate_at_edge": best and rates.at_edge,
            "rate_spare": rates.spare if best else None,
        }
        return PlannedRun(run_id=run_id(config), config=config, labels=labels)

    def _config(self, cell: _Cell, power: int, seed: int) -> FinetuneRun:
        design, model = self.sweep.design, cell.body.model
        start = cell.choice.learning_rate or starting_rate(cell.method.name, model.width)
        return FinetuneRun(
            pretrained=cell.body.run_id,
            source=cell.body.source,
            folder=cell.body.folder,
            tokenizer=cell.body.tokenizer,
            model=model,
            pretrained_tokens=cell.body.tokens,
            task=self.tasks[cell.body.run_id],
            examples=cell.examples,
            method=cell.method,
            learning_rate=start * 2.0**power,
            weight_decay=design.weight_decay,
            epochs=design.epochs,
            min_steps=design.min_steps,
            batch=design.batch,
            bucket_batches=design.bucket_batches,
            evaluations=design.evaluations,
            forgetting=design.forgetting,
            seed=seed,
            data_seed=seed,
            precision=self.precision,
        )


def _task(config: TaskConfig, cache: Cache) -> tuple[Task, TaskRef]:
    """The task, and what a run knows of it."""
    task = find_task(config.name, cache, columns_of(config))
    for split, wanted in (("val", config.val_examples), ("test", config.test_examples)):
        there = len(task.splits[split])
        if wanted is not None and wanted > there:
            raise UserError(f"task.{split}_examples is {wanted}, more than the {there} of {config.name}; lower it")
    reference = TaskRef(
        name=config.name,
        text=config.text,
        label=config.label,
        content_hash=task_hash(task),
        labels=task.labels,
        kind=task.kind,
        val_examples=config.val_examples,
        test_examples=config.test_examples,
        max_tokens=config.max_tokens,
        question=config.question,
        target=config.target,
        target_tokens=config.target_tokens if task.kind == "generation" else None,
        beams=config.beams if task.kind == "generation" else 4,
        passage=config.passage,
        overlap=config.overlap,
    )
    return task, reference


def _check_kind(task: TaskRef, bodies: list[Body]) -> None:
    """Refuse texts to be written by models that cannot, or without the packages that measure them."""
    if task.kind not in ("generation", "language"):
        return
    for body in bodies:
        if task.kind == "language" and body.model.family != "decoder":
            raise UserError(f"task {task.name!r} goes on with text, and {body.run_id} is no decoder; name decoders")
        if body.model.family == "encoder" or body.model.head == "none":
            raise UserError(
                f"task {task.name!r} asks for texts, and {body.run_id} is an encoder or has no output head; name "
                f"decoders or encoder-decoders"
            )
    for package in ("sacrebleu", "rouge_score") if task.kind == "generation" else ():
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"texts are measured by the package {package}; install it with `pip install 'isoflop[text]'`"
            )


def _check_windows(task: TaskRef, bodies: list[Body]) -> None:
    """Refuse windows on what is no question, and such as would not move on: a question takes half of a window."""
    if task.overlap is None:
        return
    if task.kind != "question-answering":
        raise UserError(f"task.overlap makes windows for questions on long texts, and {task.name!r} asks none; drop it")
    for body in bodies:
        room = min(body.model.context, task.max_tokens or body.model.context) // 2 - MARKS
        if task.overlap >= room:
            raise UserError(
                f"task.overlap is {task.overlap}, and a window of {body.run_id} has {room} tokens of the text beside a "
                f"long question; lower it"
            )


def _windows(body: Body, task: TaskRef, found: Task, cache: Cache) -> float:
    """Windows of a training example in the mean, by the tokenizer of a body; one without an overlap."""
    if task.overlap is None:
        return 1.0
    train = found.splits["train"]
    sample = train[:: max(1, len(train) // SAMPLE)]
    if body.data is not None:
        count = corpus_counter(body.data, cache)
    elif body.folder is not None:
        count = file_counter(Path(body.folder) / "tokenizer.json")
    elif body.tokenizer != "bytes":
        texts = partial(training_texts, found)
        count = merges_counter(task_merges(body.tokenizer, task.content_hash, texts, cache))
    else:
        count = count_bytes
    asked = count([str(example.question) for example in sample])
    read = [sum(count(pieces_of(example.text)[1])) for example in sample]
    longest = min(body.model.context, task.max_tokens or body.model.context)
    marks = MARKS if body.folder is not None else MARKS - 1
    return mean_windows(zip(asked, read, strict=True), longest, task.overlap, marks)


def _check_method(choice: MethodChoice, bodies: list[Body]) -> None:
    """Refuse a method that some body, or this machine, cannot be tuned by."""
    if choice.name == "lora" and importlib.util.find_spec("peft") is None:
        raise UserError("method lora needs the package peft; install it with `pip install 'isoflop[peft]'`")
    for body in bodies:
        model = body.model
        for method in choice.methods():
            if method.name == "bitfit" and not method_params(model, method):
                raise UserError(
                    f"bitfit trains biases and pre-trained run {body.run_id} has none; set model.bias: true in its "
                    f"sweep, or leave bitfit out"
                )
            if method.name == "prompt" and (method.size or 0) > model.context - 2:
                raise UserError(
                    f"a prompt of {method.size} vectors leaves no place for text in the {model.context} tokens of "
                    f"pre-trained run {body.run_id}; lower sizes"
                )
