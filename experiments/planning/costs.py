"""How long a run will take.

From measured rates of the same shape where the store has them, from a simple model of the device elsewhere.

Estimates order and pack runs and tell people the time left; no result depends on them. Pure and torch-free.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.config.kinds import AnyRun, flops_of
from experiments.config.run import FABRIC_PRECISION
from experiments.config.tuning.run import FinetuneRun
from experiments.machine.choices import ExecutionChoices
from experiments.machine.devices import DeviceKind
from experiments.manifests import RunFacts
from experiments.records import RunRecord
from experiments.store.store import RunStore
from models.config.accounting import memory_bytes, params_fit, params_total
from models.config.optimizer import optimizer_numbers

STEP_SECONDS_PER_LAYER = {"cpu": 1.0e-3, "cuda": 0.6e-3}
"""Seconds of a step that no product explains, per layer; of the order measured by benchmarks/overhead.py at width
32."""
FLOPS_PER_SECOND = {
    ("cpu", "fp32"): 3.0e10,
    ("cpu", "bf16"): 6.0e10,
    ("cuda", "fp32"): 1.5e13,
    ("cuda", "bf16"): 1.5e14,
}
"""Rate at which products of small models run, per core or GPU: a first guess, replaced by measured rates as soon as
there are any."""
SHAPE_FIELDS = ("model.width", "model.depth", "model.vocab_size", "data.context", "batch_tokens", "precision")
"""Dotted fields of a RunConfig that decide its speed."""
TUNING_SHAPE_FIELDS = ("kind", "model.width", "model.depth", "method.name", "method.size", "examples", "precision")
"""The same of a FinetuneRun, whose time measuring takes a part of."""

ShapeKey = tuple[int | str, ...]
"""The values of SHAPE_FIELDS: runs of equal key are equally fast."""


def shape_of(config: AnyRun | Mapping[str, Any]) -> ShapeKey:
    """Give the values of SHAPE_FIELDS, or of TUNING_SHAPE_FIELDS for a fine-tuning run.

    Parameters
    ----------
    config : AnyRun or mapping
        A run's config, or its canonical JSON as a record holds it.

    Returns
    -------
    ShapeKey
        Equal for runs that are equally fast.
    """
    fields = TUNING_SHAPE_FIELDS if _value(config, "kind") == "finetune" else SHAPE_FIELDS
    return tuple(_value(config, path) for path in fields)


def _value(node: Any, path: str) -> Any:
    for part in path.split("."):
        node = node.get(part) if isinstance(node, Mapping) else getattr(node, part, None)
    return node


@dataclass
class CostModel:
    """Seconds per run on one worker."""

    kind: DeviceKind = "cpu"
    """cpu or cuda."""
    measured: dict[ShapeKey, float] = field(default_factory=dict)
    """Tokens per second by shape, from finished runs on the same kind of device."""
    stacked: set[ShapeKey] = field(default_factory=set)
    """Shapes whose rate was measured of runs that were trained together: it is each run's share of the whole."""

    def learn(self, records: Iterable[RunRecord]) -> CostModel:
        """Take the rates of finished runs.

        Parameters
        ----------
        records : iterable of RunRecord
            Records; those of other kinds of devices are skipped.

        Returns
        -------
        CostModel
            The model itself.
        """
        for record in records:
            rate = record.outcome.get("tokens_per_second")
            if rate and record.execution.get("device") == self.kind:
                shape = shape_of(record.config)
                self.measured[shape] = float(rate)
                (self.stacked.add if record.execution.get("stacked") else self.stacked.discard)(shape)
        return self

    def seconds_of(self, *, shape: ShapeKey, tokens: int, estimate: float) -> float:
        """Estimate the time of training by the measured rate of a shape.

        Parameters
        ----------
        shape : ShapeKey
            What `shape_of` gives.
        tokens : int
            Tokens to train.
        estimate : float
            The answer where no rate of the shape was measured, seconds.

        Returns
        -------
        float
            Seconds on one worker.
        """
        return tokens / self.measured[shape] if shape in self.measured else estimate

    def seconds(self, config: AnyRun) -> float:
        """Estimate the time of a whole run.

        Where its shape was not measured: products at the rate of the device, and a time for each layer of each step.

        Parameters
        ----------
        config : AnyRun
            The run.

        Returns
        -------
        float
            Seconds on one worker.
        """
        return self.seconds_of(shape=shape_of(config), tokens=config.tokens, estimate=sum(self._parts(config)))

    def stack_gain(self, config: AnyRun, members: int) -> float:
        """Estimate how many times faster runs are trained together than one after another.

        The members of a stack share the time of each layer of each step, and nothing of the products.

        Parameters
        ----------
        config : AnyRun
            One of them.
        members : int
            Runs that are trained together.

        Returns
        -------
        float
            At least 1; 1 where the rate of the shape was measured of runs that were trained together.
        """
        if shape_of(config) in self.stacked:
            return 1.0
        products, layers = self._parts(config)
        return (products + layers) / (products + layers / members)

    def _parts(self, config: AnyRun) -> tuple[float, float]:
        """Seconds of a whole run by its products, and by the layers of its steps, where nothing was measured."""
        layers = config.model.num_encoder_blocks + config.model.num_decoder_blocks + 1
        products = flops_of(config) / FLOPS_PER_SECOND[self.kind, config.precision]
        return products, config.num_steps * layers * STEP_SECONDS_PER_LAYER[self.kind]


def learned_costs(store: RunStore, run_ids: Iterable[str], kind: DeviceKind) -> CostModel:
    """Make a cost model that has learnt from finished runs.

    Parameters
    ----------
    store : RunStore
        Where their records are.
    run_ids : iterable of str
        The runs; those without a record are skipped.
    kind : str
        Kind of device, cpu or cuda.

    Returns
    -------
    CostModel
        For that kind of device.
    """
    records = map(store.find_record, run_ids)
    return CostModel(kind=kind).learn(record for record in records if record is not None)


def facts_of(config: AnyRun, costs: CostModel) -> RunFacts:
    """Collect what the manifest keeps of a run, so that `status` reads no config.

    Parameters
    ----------
    config : AnyRun
        The run.
    costs : CostModel
        Estimates its time.

    Returns
    -------
    RunFacts
        Counts and estimates.
    """
    return RunFacts(
        params=params_fit(config.model),
        width=config.model.width,
        depth=config.model.depth,
        tokens=config.tokens,
        batch_tokens=config.batch_tokens,
        flops=flops_of(config),
        shape=shape_of(config),
        seconds=costs.seconds(config),
        seed=config.seed,
    )


def training_memory_bytes(config: AnyRun, choices: ExecutionChoices | None = None) -> int:
    """Estimate the bytes that training holds on its device.

    Parameters
    ----------
    config : AnyRun
        The run.
    choices : ExecutionChoices, optional
        How it is executed: pieces of the batch, and what is computed again instead of held; by default whole batches
        whose activations are all held.
    """
    precision, held = FABRIC_PRECISION[config.precision], config.batch_tokens
    recompute = choices is not None and bool(choices.recompute)
    if choices is not None and choices.micro_batch is not None:
        held = min(held, choices.micro_batch * config.batch_tokens // config.batch_sequences)
    parts = memory_bytes(config.model, batch_tokens=held, precision=precision, recompute=recompute)
    if isinstance(config, FinetuneRun):
        return sum(parts.values())
    weight_bytes = parts["weights"] // params_total(config.model)
    parts["optimizer"] = weight_bytes * optimizer_numbers(config.optimizer, config.model)
    return sum(parts.values())


def checkpoint_bytes(config: AnyRun) -> int:
    """Bytes of a checkpoint: weights and what the optimiser keeps in 32 bits, loss and gradient norm of every step.

    A fine-tuning run keeps none.
    """
    if isinstance(config, FinetuneRun):
        return 0
    numbers = params_total(config.model) + optimizer_numbers(config.optimizer, config.model)
    return 4 * numbers + 8 * config.num_steps
