"""Published shapes by name, and a family scaled to a size; torch-free.

Counts named beside a preset are the published or the reference implementation's, and tests hold the configs to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from models.config.accounting import params_total
from models.config.checks import did_you_mean
from models.config.transformer import TransformerConfig
from models.errors import UserError

HEAD_DIMS = (64, 32, 16)
"""Head sizes of scaled shapes below `WIDE`: the largest that divides the width."""

NARROW = 256
"""Width below which scaled shapes take steps of 16 instead of 64."""

WIDE = 4096
"""Width from which scaled shapes take heads of 128."""


def original(**shape: Any) -> TransformerConfig:
    """Return the encoder-decoder of Vaswani et al. 2017, table 3: one table for both sides and the head."""
    return TransformerConfig(
        family="encoder-decoder",
        vocab_size=37000,
        context=512,
        positions="sinusoidal",
        norm="layernorm",
        norm_placement="post",
        activation="relu",
        bias=True,
        dropout=0.1,
        tie_embeddings=True,
        embedding_scale=math.sqrt(shape["width"]),
        depth_scaling="none",
        **shape,
    )


def gpt2(**shape: Any) -> TransformerConfig:
    """Return a decoder of Radford et al. 2019, table 2."""
    fields: dict[str, Any] = {
        "vocab_size": 50257,
        "context": 1024,
        "positions": "learned",
        "norm": "layernorm",
        "activation": "gelu-tanh",
        "bias": True,
        "tie_embeddings": True,
    }
    return TransformerConfig(**{**fields, **shape})


def bert(**shape: Any) -> TransformerConfig:
    """Return an encoder of Devlin et al. 2019 (uncased vocabulary), with pooler, without the masked-LM head."""
    return TransformerConfig(
        family="encoder",
        vocab_size=30522,
        context=512,
        positions="learned",
        norm="layernorm",
        norm_placement="post",
        norm_eps=1e-12,
        embedding_norm=True,
        bias=True,
        dropout=0.1,
        num_segments=2,
        head="none",
        pooler=True,
        depth_scaling="none",
        **shape,
    )


def t5(**shape: Any) -> TransformerConfig:
    """Return an encoder-decoder of Raffel et al. 2020, table 15: no 1/sqrt(d), the tied head scaled by width^-0.5."""
    return TransformerConfig(
        family="encoder-decoder",
        vocab_size=32128,
        context=512,
        positions="t5",
        norm_eps=1e-6,
        activation="relu",
        dropout=0.1,
        tie_embeddings=True,
        attention_scale=1.0,
        logits_scale=shape["width"] ** -0.5,
        depth_scaling="none",
        **shape,
    )


def bart(**shape: Any) -> TransformerConfig:
    """Return an encoder-decoder of Lewis et al. 2020; two rows of its position tables are never used."""
    return TransformerConfig(
        family="encoder-decoder",
        vocab_size=50265,
        context=1024,
        positions="learned",
        position_offset=2,
        norm="layernorm",
        norm_placement="post",
        embedding_norm=True,
        bias=True,
        dropout=0.1,
        tie_embeddings=True,
        depth_scaling="none",
        **shape,
    )


def llama(**shape: Any) -> TransformerConfig:
    """Return a decoder of Touvron et al. 2023 (Llama 1), table 2."""
    return TransformerConfig(
        vocab_size=32000, context=2048, norm_eps=1e-6, activation="swiglu", depth_scaling="none", **shape
    )


def mpt(**shape: Any) -> TransformerConfig:
    """Return a decoder with ALiBi of MosaicML 2023 (MPT): no biases anywhere."""
    return TransformerConfig(
        vocab_size=50432, context=2048, positions="alibi", norm="layernorm", tie_embeddings=True, **shape
    )


def chinchilla(**shape: Any) -> TransformerConfig:
    """Return a decoder of Hoffmann et al. 2022, table A9, but with rotary positions.

    Their relative position projections (Transformer-XL) add `relative_projection_params` to the count.
    """
    return TransformerConfig(
        vocab_size=32000, context=2048, tie_embeddings=True, depth_scaling="none", activation="gelu", **shape
    )


def relative_projection_params(config: TransformerConfig) -> int:
    """Return the size of Transformer-XL's relative projections: width x head size x heads a layer (Dai et al. 2019)."""
    return config.depth * config.width * config.key_dim * config.num_heads


PRESETS: dict[str, Callable[[], TransformerConfig]] = {
    "transformer-base": lambda: original(width=512, depth=6, num_heads=8, ffn_width=2048),
    "transformer-big": lambda: original(width=1024, depth=6, num_heads=16, ffn_width=4096),
    "gpt2": lambda: gpt2(width=768, depth=12, num_heads=12),
    "gpt2-medium": lambda: gpt2(width=1024, depth=24, num_heads=16),
    "gpt2-large": lambda: gpt2(width=1280, depth=36, num_heads=20),
    "gpt2-xl": lambda: gpt2(width=1600, depth=48, num_heads=25),
    "gpt3-175b": lambda: gpt2(width=12288, depth=96, num_heads=96, context=2048),
    "bert-base": lambda: bert(width=768, depth=12, num_heads=12),
    "bert-large": lambda: bert(width=1024, depth=24, num_heads=16),
    "t5-small": lambda: t5(width=512, depth=6, num_heads=8, ffn_width=2048),
    "t5-base": lambda: t5(width=768, depth=12, num_heads=12, ffn_width=3072),
    "t5-large": lambda: t5(width=1024, depth=24, num_heads=16, ffn_width=4096),
    "bart-base": lambda: bart(width=768, depth=6, num_heads=12, ffn_width=3072),
    "llama-7b": lambda: llama(width=4096, depth=32, num_heads=32, ffn_width=11008),
    "mpt-7b": lambda: mpt(width=4096, depth=32, num_heads=32),
    "chinchilla-70b": lambda: chinchilla(width=8192, depth=80, num_heads=64, head_dim=128, ffn_width=32768),
}


CHINCHILLA_SHAPES: tuple[tuple[int, int, int, int, int], ...] = (
    (44, 512, 8, 8, 64),
    (57, 576, 9, 9, 64),
    (74, 640, 10, 10, 64),
    (90, 640, 13, 10, 64),
    (106, 640, 16, 10, 64),
    (117, 768, 12, 12, 64),
    (140, 768, 15, 12, 64),
    (163, 768, 18, 12, 64),
    (175, 896, 14, 14, 64),
    (196, 896, 16, 14, 64),
    (217, 896, 18, 14, 64),
    (251, 1024, 16, 16, 64),
    (278, 1024, 18, 16, 64),
    (306, 1024, 20, 16, 64),
    (425, 1280, 18, 10, 128),
    (489, 1280, 21, 10, 128),
    (509, 1408, 18, 11, 128),
    (552, 1280, 24, 10, 128),
    (587, 1408, 21, 11, 128),
    (632, 1536, 19, 12, 128),
    (664, 1408, 24, 11, 128),
    (724, 1536, 22, 12, 128),
    (816, 1536, 25, 12, 128),
    (893, 1792, 20, 14, 128),
    (1018, 1792, 23, 14, 128),
    (1143, 1792, 26, 14, 128),
    (1266, 2048, 22, 16, 128),
    (1424, 2176, 22, 17, 128),
    (1429, 2048, 25, 16, 128),
    (1593, 2048, 28, 16, 128),
    (1609, 2176, 25, 17, 128),
    (1731, 2304, 24, 18, 128),
    (1794, 2176, 28, 17, 128),
    (2007, 2304, 28, 18, 128),
    (2283, 2304, 32, 18, 128),
    (2298, 2560, 26, 20, 128),
    (2639, 2560, 30, 20, 128),
    (2980, 2560, 34, 20, 128),
    (3530, 2688, 36, 22, 128),
    (3802, 2816, 36, 22, 128),
    (4084, 2944, 36, 22, 128),
    (4516, 3072, 36, 24, 128),
    (6796, 3584, 40, 28, 128),
    (9293, 4096, 42, 32, 128),
    (11452, 4352, 47, 32, 128),
    (12295, 4608, 44, 36, 128),
    (12569, 4608, 47, 32, 128),
    (13735, 4864, 47, 32, 128),
    (14940, 4992, 49, 32, 128),
    (16183, 5120, 47, 40, 128),
)
"""Parameters in millions as published, width, depth, heads, head size; feed-forward layers are four times the width."""
CHINCHILLA = {millions: shape for millions, *shape in CHINCHILLA_SHAPES}
"""Shapes of table A9 by millions of parameters."""


def preset_names(*, with_tables: bool = False) -> tuple[str, ...]:
    """Return the names of all presets; `with_tables` adds the fifty shapes chinchilla-44m to chinchilla-16183m."""
    table = tuple(f"chinchilla-{millions}m" for millions in CHINCHILLA) if with_tables else ()
    return (*PRESETS, *table)


def preset(name: str) -> TransformerConfig:
    """Return the config of a published shape; an unknown name is a `UserError` that names the nearest."""
    millions = name.removeprefix("chinchilla-").removesuffix("m")
    if name not in PRESETS and millions.isdecimal() and int(millions) in CHINCHILLA:
        width, depth, heads, size = CHINCHILLA[int(millions)]
        return chinchilla(width=width, depth=depth, num_heads=heads, head_dim=size, ffn_width=4 * width)
    if name not in PRESETS:
        question = did_you_mean(name, PRESETS)
        hint = f"{question} " if question else ""
        known = f"{', '.join(PRESETS)}, or a shape of Chinchilla's table as chinchilla-44m"
        raise UserError(f"no preset is called {name!r}; {hint}choose one of {known}")
    return PRESETS[name]()


def scaled_to(config: TransformerConfig, params: float) -> TransformerConfig:
    """Return the config of the same family with about `params` parameters.

    Width and depth both grow, width over depth nearly kept, in whole heads of 64 (less below width 256, 128 from width
    4096 on); the depth is then the one whose total comes nearest. Fields that followed the width (feed-forward size,
    scales) follow it again.
    """
    if not params >= 1e4:
        raise UserError(f"params is {params!r}; give a number of at least 1e4")
    aspect = config.width / config.depth
    ratio = config.hidden / config.width

    def shape(width: int, depth: int) -> TransformerConfig:
        size = 128 if width >= WIDE else next(size for size in HEAD_DIMS if width % size == 0)
        groups = config.num_heads // config.kv_heads
        heads = width // size
        changes: dict[str, Any] = {
            "width": width,
            "depth": depth,
            "num_heads": heads,
            "num_kv_heads": max(heads // groups, 1) if groups > 1 and heads % groups == 0 else None,
            "head_dim": size,
            "ffn_width": max(round(ratio * width / 8) * 8, 8),
        }
        if config.encoder_depth is not None:
            changes["encoder_depth"] = depth
        if config.embedding_scale != 1:
            changes["embedding_scale"] = math.sqrt(width)
        if config.logits_scale != 1:
            changes["logits_scale"] = width**-0.5
        return config.replace(**changes)

    def distance(candidate: TransformerConfig) -> float:
        return abs(math.log(params_total(candidate) / params))

    best, width = shape(16, 1), 16
    while width < 10**7:
        depth = max(round(width / aspect), 1)
        candidate = min((shape(width, max(depth + change, 1)) for change in range(-2, 3)), key=distance)
        if distance(candidate) < distance(best):
            best = candidate
        if params_total(candidate) > 2 * params:
            break
        width += _width_step(width)
    return best


def _width_step(width: int) -> int:
    """How far the next width that is tried lies above this one."""
    if width < NARROW:
        return 16
    return 64 if width < WIDE else 128
