"""FinetuneRun and its identity: which pre-trained run learns which task, from how many examples, by which method.

Torch-free.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from experiments.errors import UserError
from models.config.checks import nearest_names, require_count, require_positive

Method = Literal["full", "head", "lora", "adapters", "prompt", "scratch"]
"""What learns. head: the body is frozen. scratch: everything, from fresh weights, as a control."""
METHODS: tuple[Method, ...] = get_args(Method)

REFERENCE_RATE, REFERENCE_WIDTH = 5e-5, 768
"""The largest rate that Devlin et al. 2019 recommend for BERT-base, and its width."""
RATE_OVER_FULL: dict[Method, float] = {
    "full": 1.0,
    "scratch": 1.0,
    "head": 20.0,
    "lora": 10.0,
    "adapters": 20.0,
    "prompt": 100.0,
}
"""Starting points as multiples of the rate of full fine-tuning: LoRA about ten times (Schulman et al. 2025), adapters
and a head 1e-3 at BERT's width (Houlsby et al. 2019), soft prompts far above (Lester et al. 2021)."""
FLOPS_OVER_FORWARD: dict[Method, int] = {"full": 3, "scratch": 3, "head": 1, "lora": 2, "adapters": 2, "prompt": 2}
"""FLOPs of a step over those of its forward pass: a frozen body needs no gradients of its weights, and under a head
alone no backward pass; the few products of the method's own parameters are not counted."""


@dataclass(frozen=True, kw_only=True)
class FinetuneRun:
    """One fine-tuning run: everything that its result depends on."""

    pretrained: str
    """Id of the pre-trained run."""
    task: str
    """Name of the task; for files of one's own, their kind."""
    task_hash: str
    """sha256 of all inputs and labels with their splits."""
    examples: int
    """Training examples: the first of one order for each seed, so that 300 contain the 100."""
    method: Method
    """What learns."""
    learning_rate: float
    """Peak rate; it falls to zero in a straight line after a short warm-up."""
    rank: int = 8
    """lora: rank; adapters: width; prompt: vectors."""
    epochs: int = 3
    """Passes over the examples ..."""
    min_steps: int = 60
    """... but at least so many steps, unless there are no examples."""
    batch: int = 16
    """Examples of a step."""
    seed: int = 0
    """Seed of new parameters, of the order of examples and of dropout."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            near = nearest_names(self.method, METHODS)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"method {self.method!r} is unknown (there are {', '.join(METHODS)}){hint}")
        require_count("examples", self.examples, minimum=0)
        for name in ("rank", "epochs", "batch"):
            require_count(name, getattr(self, name))
        require_count("min_steps", self.min_steps, minimum=0)
        require_count("seed", self.seed, minimum=0)
        require_positive("learning_rate", self.learning_rate)

    @property
    def num_steps(self) -> int:
        """Optimiser steps; none without examples."""
        if self.examples == 0:
            return 0
        return max(self.min_steps, self.epochs * -(-self.examples // self.batch))

    @property
    def run_id(self) -> str:
        """The letter f and 12 hex digits of the sha256 of the fields as JSON."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return "f" + hashlib.sha256(text.encode()).hexdigest()[:12]


def starting_rate(method: Method, width: int) -> float:
    """The rate from which tuning starts: RATE_OVER_FULL times the reference rate, inversely to the width.

    Parameters
    ----------
    method : str
        One of METHODS.
    width : int
        d_model of the body.
    """
    return RATE_OVER_FULL[method] * REFERENCE_RATE * REFERENCE_WIDTH / width
