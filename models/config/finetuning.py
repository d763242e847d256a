"""Which parameters of a trained model learn a new task: the method, its size, what it counts, and what a step costs.

Torch-free; checked against the modules of `models.modules.finetuning`. Symbols: D width, C outputs of the new head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from models.config.accounting import count_params, forward_flops
from models.config.checks import require_count, require_name, require_positive
from models.config.transformer import TransformerConfig
from models.errors import UserError

MethodName = Literal["full", "head", "lora", "adapters", "prompt", "bitfit", "scratch"]
"""What learns beside the new head. head: nothing, the body is frozen. scratch: everything, from fresh weights."""
METHODS: tuple[MethodName, ...] = get_args(MethodName)
SIZED: dict[str, int] = {"lora": 8, "adapters": 16, "prompt": 16}
"""Methods that have a size, and the usual one: rank of the update, width of an adapter, vectors of a prompt."""
Scaling = Literal["alpha/rank", "rslora"]
"""Factor on LoRA's update: alpha / r (Hu et al. 2022), or alpha / sqrt(r) (Kalajdzievski 2023, equation 4)."""
LORA_TARGETS = ("query", "key", "value", "output", "up", "gate", "down")
"""Names of all linear layers of a block: LoRA on every layer is what reaches full fine-tuning."""


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """A method of fine-tuning with its size."""

    name: MethodName = "full"
    """What learns."""
    size: int | None = None
    """r, the rank of LoRA's update; b, the width of an adapter; P, the vectors of a soft prompt; None: the method has
    no size. At 0 nothing learns beside the head."""
    alpha: float | None = None
    """LoRA's alpha; None: 2 r, so that the update is doubled whatever the rank."""
    scaling: Scaling = "alpha/rank"
    """LoRA: alpha/rank or rslora."""
    targets: tuple[str, ...] = ()
    """LoRA: names of the layers that get an update, of LORA_TARGETS; empty: all of them."""

    def __post_init__(self) -> None:
        require_name("method", self.name, METHODS)
        require_name("scaling", self.scaling, get_args(Scaling))
        if self.name in SIZED:
            if self.size is None:
                object.__setattr__(self, "size", SIZED[self.name])
            require_count(f"size of {self.name}", self.size, minimum=0)
        elif self.size is not None:
            raise UserError(f"method {self.name!r} has no size, but size is {self.size}; leave it out")
        if self.name != "lora" and (self.alpha is not None or self.targets or self.scaling != "alpha/rank"):
            raise UserError(f"alpha, scaling and targets are LoRA's; leave them out of method {self.name!r}")
        if self.alpha is not None:
            require_positive("alpha", self.alpha)
        for target in self.targets:
            require_name("targets", target, LORA_TARGETS)

    def __str__(self) -> str:
        return self.name if self.size is None else f"{self.name} {self.size}"

    @property
    def is_frozen(self) -> bool:
        """Whether no gradient enters the body."""
        return self.name == "head" or self.size == 0

    @property
    def update_scale(self) -> float:
        """Factor on LoRA's update B A."""
        if not self.size:
            return 0.0
        alpha = 2.0 * self.size if self.alpha is None else self.alpha
        return alpha / (math.sqrt(self.size) if self.scaling == "rslora" else self.size)


def method_params(config: TransformerConfig, method: MethodConfig) -> dict[str, int]:
    """Count the parameters of the body that learn, by group; a new head comes on top.

    Parameters
    ----------
    config : TransformerConfig
        The body.
    method : MethodConfig
        What learns.

    Returns
    -------
    dict of str to int
        Groups of `count_params` for full and scratch, without the output head and the pooler, which have no part in
        the task; else the one group that the method adds or opens. Groups of nothing are left out.
    """
    size = method.size or 0
    if method.name in ("full", "scratch"):
        counts = {name: n for name, n in count_params(config).items() if name not in ("head", "pooler")}
    elif method.name == "bitfit":
        with_bias, without = count_params(config), count_params(replace(config, bias=False))
        opened = ("attention", "cross_attention", "ffn", "norms")
        counts = {"biases": sum(with_bias[name] - without[name] for name in opened)}
    elif method.name == "lora":
        counts = {"lora": size * sum(fan_in + fan_out for fan_in, fan_out in _targets(config, method))}
    elif method.name == "adapters":
        width = config.width
        counts = {"adapters": _num_branches(config) * (2 * width * size + size + width) if size else 0}
    else:
        counts = {"prompt": size * config.width if method.name == "prompt" else 0}
    return {name: n for name, n in counts.items() if n}


def _targets(config: TransformerConfig, method: MethodConfig) -> list[tuple[int, int]]:
    """(inputs, outputs) of each layer that gets an update."""
    width = config.width
    queries, keys = config.num_heads * config.key_dim, config.kv_heads * config.key_dim
    attention = {"query": (width, queries), "key": (width, keys), "value": (width, keys), "output": (queries, width)}
    ffn = {"up": (width, config.hidden), "down": (config.hidden, width)}
    if config.gated:
        ffn["gate"] = (width, config.hidden)
    blocks = config.num_encoder_blocks + config.num_decoder_blocks
    cross = config.num_decoder_blocks if config.family == "encoder-decoder" else 0
    wanted = method.targets or LORA_TARGETS
    found = [shape for name, shape in attention.items() if name in wanted] * (blocks + cross)
    return found + [shape for name, shape in ffn.items() if name in wanted] * blocks


def _num_branches(config: TransformerConfig) -> int:
    """Layers behind which an adapter stands: attention and feed-forward of every block, and cross-attention."""
    cross = config.num_decoder_blocks if config.family == "encoder-decoder" else 0
    return 2 * (config.num_encoder_blocks + config.num_decoder_blocks) + cross


def writing_params(config: TransformerConfig, method: MethodConfig) -> int:
    """Count the parameters of the output head that learn where texts are written.

    All of it under full, scratch and head; under head, where the output table is the token table, a copy of it becomes
    the head's own. None under other methods, which change the body.
    """
    if method.name not in ("full", "scratch", "head"):
        return 0
    copied = config.vocab_size * config.width if method.name == "head" and config.tie_embeddings else 0
    return count_params(config)["head"] + copied


def tuning_flops(
    config: TransformerConfig,
    method: MethodConfig,
    *,
    length: int,
    head_outputs: int,
    source_length: int | None = None,
    head_passes: int = 3,
) -> float:
    """Count the FLOPs of one training step on one sequence, forward and backward.

    A frozen body needs no gradients of its weights: its products cost 2 forward passes instead of 3, but the products
    of attention, both of whose factors are activations, cost 3. Under a new head alone there is no backward pass, and
    below the first trained parameter neither: under LoRA on all layers what the first block's query, key and value
    send down, and under adapters its whole attention, is left out. LoRA on some layers may cost less than is counted.
    What adapters and LoRA multiply in an encoder-decoder is counted at the mean length over its blocks.

    Parameters
    ----------
    config : TransformerConfig
        The body.
    method : MethodConfig
        What learns.
    length : int
        Tokens of the sequence, padding included.
    head_outputs : int
        Outputs of the head times the states that it reads.
    source_length : int, optional
        Tokens of an encoder-decoder's source; None: as many as of its target.
    head_passes : int
        Products of the head for each output: forward, and for the gradients of its weights and of its inputs.

    Returns
    -------
    float
        Counted matrix products, as `accounting.training_flops` counts them.
    """
    extra = (method.size or 0) if method.name == "prompt" else 0
    target, source = length + extra, None
    if source_length is not None:
        target, source = length, source_length + extra
    parts = forward_flops(config, target_tokens=target, source_tokens=source)
    scores = parts["attention_scores"] + parts["cross_scores"]
    products = parts["attention_projections"] + parts["cross_projections"] + parts["ffn"]
    head = head_passes * 2.0 * config.width * head_outputs
    if method.is_frozen:
        return products + scores + head
    if method.name in ("full", "scratch"):
        return 3.0 * (products + scores) + head
    own = spared = 0.0
    size, stacks = method.size or 0, (config.num_encoder_blocks > 0) + (config.num_decoder_blocks > 0)
    queries, keys = config.num_heads * config.key_dim, config.kv_heads * config.key_dim
    mean = float(length)
    if source_length is not None:
        blocks = config.num_encoder_blocks + config.num_decoder_blocks
        mean = (config.num_encoder_blocks * source_length + config.num_decoder_blocks * length) / blocks
    below = 2.0 * mean * config.width * (queries + 2 * keys)
    if method.name == "lora":
        own = 2.0 * mean * size * sum(fan_in + fan_out for fan_in, fan_out in _targets(config, method))
        first = len({"query", "key", "value"} & set(method.targets or LORA_TARGETS))
        spared = stacks * (below + first * 2.0 * mean * size * config.width)
    elif method.name == "adapters":
        squeeze = 2.0 * mean * config.width * size
        own = 2.0 * squeeze * _num_branches(config)
        attention = below + 2.0 * length * queries * config.width + 2.0 * 4.0 * queries * mean**2
        spared = stacks * (attention + squeeze)
    return 2.0 * products + 3.0 * scores + 3.0 * own - spared + head
