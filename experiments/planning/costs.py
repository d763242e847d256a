"""How long a run will take: from measured rates of the same shape where the store has them, from a simple model of the
device elsewhere.

Estimates order and pack runs and tell people the time left; no result depends on them. Pure and torch-free.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.config.counts import flops_of
from experiments.config.run import FABRIC_PRECISION, RunConfig
from models.config.accounting import memory_bytes, params_total

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

ShapeKey = tuple[Any, ...]


def shape_key(config: Mapping[str, Any]) -> ShapeKey:
    """What decides a run's speed, from its canonical config."""
    model = config["model"]
    return (
        model["width"],
        model["depth"],
        model["vocab_size"],
        config["data"]["context"],
        config["batch_tokens"],
        config["precision"],
    )


def shape_of(config: RunConfig) -> ShapeKey:
    """`shape_key` of a config that is at hand."""
    model = config.model
    return (
        model.width,
        model.depth,
        model.vocab_size,
        config.data.context,
        config.batch_tokens,
        config.precision,
    )


@dataclass
class CostModel:
    """Seconds per run on one worker."""

    kind: str = "cpu"
    """cpu or cuda."""
    measured: dict[ShapeKey, float] = field(default_factory=dict)
    """Tokens per second by shape, from finished runs on the same kind of device."""

    def learn(self, records: Iterable[Any]) -> CostModel:
        """Take the rates of finished records (RunRecord)."""
        for record in records:
            rate = record.outcome.get("tokens_per_second")
            if rate and record.execution.get("device") == self.kind:
                self.measured[shape_key(record.config)] = float(rate)
        return self

    def seconds_of(self, *, shape: ShapeKey, tokens: int, estimate: float) -> float:
        """Estimated seconds of training by the measured rate of the shape; `estimate` where none was measured."""
        return tokens / self.measured[shape] if shape in self.measured else estimate

    def seconds(self, config: RunConfig) -> float:
        """Estimated seconds of training."""
        key = shape_of(config)
        if key in self.measured:
            return config.tokens / self.measured[key]
        flops = flops_of(config)
        layers = config.model.num_encoder_blocks + config.model.num_decoder_blocks + 1
        products = flops / FLOPS_PER_SECOND[self.kind, config.precision]
        return products + config.num_steps * layers * STEP_SECONDS_PER_LAYER[self.kind]


def training_memory_bytes(config: RunConfig) -> int:
    """Estimated bytes that training holds on its device."""
    return sum(
        memory_bytes(
            config.model, batch_tokens=config.batch_tokens, precision=FABRIC_PRECISION[config.precision]
        ).values()
    )


def checkpoint_bytes(config: RunConfig) -> int:
    """Bytes of a checkpoint: weights and two moments in 32 bits, loss and gradient norm of every step."""
    return 12 * params_total(config.model) + 8 * config.num_steps
