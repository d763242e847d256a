"""Methods of fine-tuning on a module: all of it, LoRA (by peft), bottleneck adapters, a soft prompt, biases alone.

What a method is and what it counts stands in `models.config.finetuning`. peft takes seconds to import and is imported
only when LoRA is asked for.
Shapes: B batch, T tokens, D width, P prompt tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.config.finetuning import LORA_TARGETS, MethodConfig
from models.errors import UserError
from models.modules.attention import AttentionContext
from models.modules.heads import new_linear
from models.modules.roles import seeded_generator
from models.modules.transformer import Block, Stack, Transformer


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


def prepare(model: Transformer, method: MethodConfig, *, seed: int = 0) -> Transformer:
    """Change a model in place so that only the method's parameters learn.

    At the start every method computes what the model did, a soft prompt excepted. The output head and the pooler learn
    under no method: a new head of `models.modules.heads`, made around the model, learns under all.

    Parameters
    ----------
    model : Transformer
        The body.
    method : MethodConfig
        What learns. scratch is full: that the weights are fresh is the caller's business.
    seed : int
        Seed of new parameters.

    Returns
    -------
    Transformer
        The model.

    Raises
    ------
    UserError
        When the method finds nothing to train in this model, or LoRA is asked for and peft is not installed.
    """
    learns_all = method.name in ("full", "scratch")
    model.requires_grad_(learns_all)
    for part in (model.head, model.pooler) if learns_all else ():
        if part is not None:
            part.requires_grad_(False)
    if not method.size and method.name in ("lora", "adapters", "prompt"):
        return model
    if method.name == "adapters":
        add_adapters(model, int(method.size or 0), seed=seed)
    elif method.name == "prompt":
        add_prompt(model, int(method.size or 0), seed=seed)
    elif method.name == "lora":
        add_lora(model, method, seed=seed)
    elif method.name == "bitfit":
        open_biases(model)
    return model


def open_biases(model: Transformer) -> None:
    """Let the biases of all linear layers and norms of the blocks learn (BitFit, Ben Zaken et al. 2022)."""
    opened = 0
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        if parts[-1] == "bias" and parts[0] in ("encoder", "decoder") and parts[1] != "bias":
            parameter.requires_grad_(True)
            opened += 1
    if not opened:
        raise UserError("bitfit trains biases and this model has none; use a model with bias: true, or another method")


def add_adapters(model: Transformer, bottleneck: int, *, seed: int) -> None:
    """Put an adapter behind the attention and the feed-forward layer of every block."""
    for name, block in list(model.named_modules()):
        if isinstance(block, Block):
            for part in ("attention", "cross_attention", "ffn"):
                layer = getattr(block, part)
                if layer is not None:
                    width = model.config.width
                    setattr(block, part, Adapter(layer, width, bottleneck, name=f"{name}.{part}", seed=seed))


def add_prompt(model: Transformer, num_prompt: int, *, seed: int) -> None:
    """Put a soft prompt in front of what the first stack reads."""
    longest = model.config.context - num_prompt
    if model.config.positions == "learned" and longest < 1:
        raise UserError(f"a prompt of {num_prompt} vectors leaves no place in {model.config.context} positions")
    side = "encoder" if model.encoder is not None else "decoder"
    setattr(model, side, SoftPrompt(getattr(model, side), num_prompt, seed=seed))


def add_lora(model: Transformer, method: MethodConfig, *, seed: int) -> None:
    """Add low-rank updates to the linear layers of the blocks that the method names, by peft, in place."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError("LoRA needs the package peft; install it with `pip install 'isoflop[peft]'`") from error
    wanted = method.targets or LORA_TARGETS
    targets = [
        name
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear) and ".blocks." in name and name.rsplit(".", 1)[-1] in wanted
    ]
    rank = int(method.size or 0)
    lora = LoraConfig(
        r=rank,
        lora_alpha=2.0 * rank if method.alpha is None else method.alpha,
        use_rslora=method.scaling == "rslora",
        target_modules=targets,
        lora_dropout=0.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
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
