"""`RunFacts`: what is shown of a run and does not change, kept in the manifest so that `status` reads no config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.config.counts import flops_of
from experiments.config.run import RunConfig
from experiments.planning.costs import CostModel, shape_of
from models.config.accounting import params_fit


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What is shown of a run and does not change; kept in the manifest, so that no config has to be read."""

    params: int
    """N of fits."""
    width: int
    """d_model."""
    depth: int
    """Layers."""
    tokens: int
    """D of the design."""
    batch_tokens: int
    """Tokens of a step."""
    flops: float
    """Counted training FLOPs of the whole run."""
    shape: tuple[Any, ...]
    """`costs.shape_of`: runs of equal shape are equally fast."""
    seconds: float
    """Estimated time on one worker before anything was measured."""

    @classmethod
    def of(cls, config: RunConfig, costs: CostModel) -> RunFacts:
        """The facts of a config."""
        return cls(
            params=params_fit(config.model),
            width=config.model.width,
            depth=config.model.depth,
            tokens=config.tokens,
            batch_tokens=config.batch_tokens,
            flops=flops_of(config),
            shape=shape_of(config),
            seconds=costs.seconds(config),
        )

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> RunFacts:
        """Back from the manifest."""
        return cls(**{**raw, "shape": tuple(raw["shape"])})

    @property
    def shown(self) -> dict[str, Any]:
        """The part that a row of the status holds."""
        return {name: getattr(self, name) for name in ("params", "width", "depth", "tokens", "flops")}
