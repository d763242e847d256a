"""Which parameters of a trained model learn a new task: all, LoRA (by peft), bottleneck adapters, or a soft prompt.

peft takes seconds to import and is imported only when LoRA is asked for.
Shapes: B batch, T tokens, D width, P prompt tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from models.config.checks import require_count, require_name
from models.errors import UserError
from models.modules.attention import AttentionContext
from models.modules.heads import new_linear
from models.modules.roles import seeded_generator
from models.modules.transformer import Block, Stack, Transformer

Method = Literal["full", "head", "lora", "adapters", "prompt"]
"""Ways to fine-tune."""
METHODS: tuple[Method, ...] = get_args(Method)

LORA_TARGETS = ("query", "key", "value", "output", "up", "gate", "down")
"""Names of all linear layers of a block: LoRA on every layer is what reaches full fine-tuning."""


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Method of fine-tuning and its size."""

    method: Method = "full"
    """full, head (the body frozen), lora, adapters or prompt."""
    rank: int = 8
    """Rank of LoRA's update (Hu et al. 2022)."""
    alpha: float = 16.0
    """LoRA's update is scaled by alpha / rank."""
    bottleneck: int = 16
    """Width of an adapter (Houlsby et al. 2019)."""
    num_prompt: int = 16
    """Vectors of a soft prompt (Lester et al. 2021)."""
    seed: int = 0
    """Seed of new parameters."""

    def __post_init__(self) -> None:
        require_name("fine-tuning method", self.method, METHODS)
        for field in ("rank", "bottleneck", "num_prompt"):
            require_count(field, getattr(self, field))


class Adapter(nn.Module):
    """A layer followed by x + expand(gelu(squeeze(x))), which starts as the layer alone (Houlsby et al. 2019)."""

    def __init__(self, layer: nn.Module, width: int, bottleneck: int, *, name: str, seed: int) -> None:
        super().__init__()
        self.layer = layer
        self.squeeze = new_linear(width, bottleneck, name=f"{name}.squeeze", seed=seed)
        self.expand = new_linear(bottleneck, width, name=f"{name}.expand", seed=seed)
        nn.init.zeros_(self.expand.weight)

    def forward(self, x_BTD: Tensor, *context: AttentionContext) -> Tensor:
        """Return the layer's output, adapted; an attention layer has a context, a feed-forward layer has none."""
        out_BTD = self.layer(x_BTD, *context)
        return out_BTD + self.expand(nn.functional.gelu(self.squeeze(out_BTD)))


class SoftPrompt(nn.Module):
    """A stack that reads learned vectors before every sequence and leaves out their states (Lester et al. 2021)."""

    def __init__(self, stack: Stack, num_prompt: int, *, seed: int) -> None:
        super().__init__()
        generator = seeded_generator(seed, "prompt")
        self.stack = stack
        self.prompt_PD = nn.Parameter(torch.randn(num_prompt, stack.config.width, generator=generator))

    @property
    def bias(self) -> nn.Module | None:
        """The stack's position bias."""
        return self.stack.bias

    def forward(self, x_BTD: Tensor, *, mask_BU: Tensor | None = None, **options: object) -> Tensor:
        """Return the states of the sequence's own tokens, which have seen the prompt."""
        if options.get("caches") is not None or options.get("position_ids_BT") is not None:
            raise UserError("a soft prompt reads whole sequences; use cached=False and no padding")
        num = self.prompt_PD.shape[0]
        prompt_BPD = self.prompt_PD.expand(x_BTD.shape[0], -1, -1)
        if mask_BU is not None:
            mask_BU = torch.cat((mask_BU.new_ones(x_BTD.shape[0], num), mask_BU), dim=1)
        return self.stack(torch.cat((prompt_BPD, x_BTD), dim=1), mask_BU=mask_BU, **options)[:, num:]


def prepare(model: Transformer, config: FinetuneConfig) -> Transformer:
    """Change a model in place so that only the method's parameters learn, and return it.

    At the start every method computes what the model did, a soft prompt excepted. Heads of `models.modules.heads` made
    around the model learn whatever the method.
    """
    if config.method == "full":
        model.requires_grad_(True)
        return model
    model.requires_grad_(False)
    if config.method == "adapters":
        add_adapters(model, config)
    elif config.method == "prompt":
        add_prompt(model, config)
    elif config.method == "lora":
        add_lora(model, config)
    return model


def add_adapters(model: Transformer, config: FinetuneConfig) -> None:
    """Put an adapter behind the attention and the feed-forward layer of every block."""
    for name, block in list(model.named_modules()):
        if isinstance(block, Block):
            for part in ("attention", "cross_attention", "ffn"):
                layer = getattr(block, part)
                if layer is not None:
                    width, size = model.config.width, config.bottleneck
                    setattr(block, part, Adapter(layer, width, size, name=f"{name}.{part}", seed=config.seed))


def add_prompt(model: Transformer, config: FinetuneConfig) -> None:
    """Put a soft prompt in front of what the first stack reads."""
    longest = model.config.context - config.num_prompt
    if model.config.positions == "learned" and longest < 1:
        raise UserError(f"num_prompt is {config.num_prompt}, which leaves no place in {model.config.context} positions")
    side = "encoder" if model.encoder is not None else "decoder"
    setattr(model, side, SoftPrompt(getattr(model, side), config.num_prompt, seed=config.seed))


def add_lora(model: Transformer, config: FinetuneConfig) -> None:
    """Add low-rank updates to every linear layer of the blocks, by peft, in place."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError("LoRA needs the package peft; install it with `pip install 'isoflop[peft]'`") from error
    targets = [
        name
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear) and ".blocks." in name and name.rsplit(".", 1)[-1] in LORA_TARGETS
    ]
    lora = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=targets, lora_dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        inject_adapter_in_model(lora, model)


def merge_lora(model: Transformer) -> Transformer:
    """Add LoRA's updates to the weights and take its layers out again, in place."""
    from peft.tuners.lora import LoraLayer

    for name, part in list(model.named_modules()):
        if isinstance(part, LoraLayer):
            part.merge(safe_merge=True)
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, part.get_base_layer())
    return model


def trainable_params(model: nn.Module) -> int:
    """Return the number of parameters that learn."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
