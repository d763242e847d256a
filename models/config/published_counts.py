"""How others count the N and the C of a decoder: one short function for each paper or tool; torch-free.

Every convention counts the parameters of a shape and its training FLOPs per token (forward and backward) as its source
does, for one sequence of `context` tokens. This file must not know laws or runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from models.config.accounting import count_params, params_fit, params_total, training_flops
from models.config.transformer import TransformerConfig
from models.errors import UserError

MEGATRON_VOCAB_MULTIPLE = 128
"""Megatron-LM pads the vocabulary to a multiple of this (`--make-vocab-size-divisible-by`, one tensor rank)."""
NANOCHAT_VOCAB_MULTIPLE = 64
"""nanochat pads the vocabulary to a multiple of this (`pad_vocab_size_to`)."""


def matrix_params(config: TransformerConfig) -> int:
    """Return the weights of the blocks' matrices: attention and feed-forward, no biases, norms, tables or head."""
    queries, keys = config.num_heads * config.key_dim, config.kv_heads * config.key_dim
    ffn = (3 if config.gated else 2) * config.width * config.hidden
    return config.depth * (2 * config.width * (queries + keys) + ffn)


def score_flops(config: TransformerConfig) -> int:
    """Return 12 L H Q T: training FLOPs per token of attention scores and of their products, no causal halving."""
    return 12 * config.depth * config.num_heads * config.key_dim * config.context


def padded_vocab(config: TransformerConfig, multiple: int) -> int:
    """Return the vocabulary size rounded up to a multiple."""
    return -(-config.vocab_size // multiple) * multiple


def kaplan_flops(config: TransformerConfig) -> int:
    """Return 6 N with N the blocks' matrices: attention scores and the head are left out."""
    return 6 * matrix_params(config)


def hoffmann_flops(config: TransformerConfig) -> int:
    """Return three times the forward pass of appendix F: looking up embeddings and softmax are counted."""
    width, length = config.width, config.context
    queries = config.num_heads * config.key_dim
    table = 2 * config.vocab_size * width
    scores = 4 * length * queries + 3 * config.num_heads * length
    return 3 * (2 * table + 2 * matrix_params(config) + config.depth * scores)


def six_nd_flops(config: TransformerConfig) -> int:
    """Return 6 N with N all parameters."""
    return 6 * params_total(config)


def palm_flops(config: TransformerConfig) -> int:
    """Return 6 N + 12 L H Q T with N all parameters."""
    return six_nd_flops(config) + score_flops(config)


def megatron_params(config: TransformerConfig) -> int:
    """Return all parameters with padded token tables."""
    added = padded_vocab(config, MEGATRON_VOCAB_MULTIPLE) - config.vocab_size
    return params_total(config) + added * config.width * (1 if config.tie_embeddings else 2)


def megatron_flops(config: TransformerConfig) -> int:
    """Return six times matrices, padded logits and half of the attention scores."""
    logits = padded_vocab(config, MEGATRON_VOCAB_MULTIPLE) * config.width
    return 6 * (matrix_params(config) + logits) + score_flops(config) // 2


def torchtitan_flops(config: TransformerConfig) -> int:
    """Return 6 (N - looked-up tables) + 12 L H Q T; a tied table stays, since the head multiplies by it."""
    groups = count_params(config)
    lookups = groups["positions"] + (0 if config.tie_embeddings else groups["embedding"])
    return 6 * (params_total(config) - lookups) + score_flops(config)


def nanochat_params(config: TransformerConfig) -> int:
    """Return the matrices of blocks and head, the size that its scaling laws use; its head is never tied."""
    return matrix_params(config) + padded_vocab(config, NANOCHAT_VOCAB_MULTIPLE) * config.width


def nanochat_flops(config: TransformerConfig) -> int:
    """Return 6 N + 12 L H Q T with N the matrices of blocks and head."""
    return 6 * nanochat_params(config) + score_flops(config)


def maxtext_flops(config: TransformerConfig) -> int:
    """Return six times matrices, logits and half of the attention scores."""
    return 6 * (matrix_params(config) + config.vocab_size * config.width) + score_flops(config) // 2


def own_flops(config: TransformerConfig) -> float:
    """Return the counted FLOPs of this suite."""
    return training_flops(config, tokens=1)


@dataclass(frozen=True, kw_only=True)
class Convention:
    """One way of counting N and C."""

    name: str
    """Short name, for tables."""
    params: Callable[[TransformerConfig], int]
    """N of a shape."""
    flops_per_token: Callable[[TransformerConfig], float]
    """Training FLOPs per token of a shape."""
    source: str
    """Paper with section, or file and version."""
    differs: str
    """One sentence: what it counts that others do not."""


CONVENTIONS = {
    one.name: one
    for one in (
        Convention(
            name="isoflop",
            params=params_fit,
            flops_per_token=own_flops,
            source="models/config/accounting.py",
            differs="N leaves out looked-up tables and a tied head; C counts every matrix product, logits included.",
        ),
        Convention(
            name="kaplan",
            params=matrix_params,
            flops_per_token=kaplan_flops,
            source="Kaplan et al. 2020, arXiv 2001.08361, table 1 and section 2.1",
            differs="N is the blocks' matrices; C = 6 N leaves out scores and logits, so small models look cheap.",
        ),
        Convention(
            name="hoffmann",
            params=params_total,
            flops_per_token=hoffmann_flops,
            source="Hoffmann et al. 2022, arXiv 2203.15556, appendix F",
            differs="C also counts the lookup of embeddings as a product, and the softmax.",
        ),
        Convention(
            name="6nd",
            params=params_total,
            flops_per_token=six_nd_flops,
            source="Hoffmann et al. 2022, arXiv 2203.15556, section 3",
            differs="C = 6 N with all parameters: tables cost as if they were multiplied, attention scores nothing.",
        ),
        Convention(
            name="palm",
            params=params_total,
            flops_per_token=palm_flops,
            source="Chowdhery et al. 2022, arXiv 2204.02311, appendix B",
            differs="C adds attention scores, without causal halving, to 6 N with all parameters.",
        ),
        Convention(
            name="megatron",
            params=megatron_params,
            flops_per_token=megatron_flops,
            source="NVIDIA/Megatron-LM, megatron/training/training.py, num_floating_point_operations, from 250b794 "
            "(March 2025) on",
            differs="The vocabulary is padded to a multiple of 128, and attention scores are halved for causality.",
        ),
        Convention(
            name="torchtitan",
            params=params_total,
            flops_per_token=torchtitan_flops,
            source="pytorch/torchtitan, torchtitan/models/utils.py, get_dense_model_nparams_and_flops, from "
            "pull request 3225 (May 2026) on",
            differs="C is PaLM's without looked-up tables; norms and biases are counted as if they were matrices.",
        ),
        Convention(
            name="nanochat",
            params=nanochat_params,
            flops_per_token=nanochat_flops,
            source="karpathy/nanochat, nanochat/gpt.py, estimate_flops, and scripts/base_train.py, get_scaling_params "
            "(January 2026)",
            differs="N is the matrices of blocks and an untied head, vocabulary padded; scores are not halved.",
        ),
        Convention(
            name="maxtext",
            params=params_total,
            flops_per_token=maxtext_flops,
            source="AI-Hypercomputer/maxtext, maxtext_utils.py, calculate_tflops_training_per_device (2025, dense)",
            differs="C counts matrices and logits, with attention scores halved for causality and no padding.",
        ),
    )
}
"""Ways of counting by name; the first is this suite's."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """One shape under one convention."""

    params: int
    """N."""
    flops_per_token: int
    """Training FLOPs per token."""


def count_by_convention(config: TransformerConfig) -> dict[str, Count]:
    """Return N and training FLOPs per token of a decoder under every convention.

    Parameters
    ----------
    config : TransformerConfig
        The model.

    Returns
    -------
    dict of Count
        By the name of the convention.

    Raises
    ------
    UserError
        For a model with an encoder, or without a head: the sources count decoders that predict tokens.
    """
    if config.family != "decoder" or config.head == "none":
        raise UserError(
            f"the conventions count decoders with a head, and this is a {config.family} with head {config.head!r}; "
            "leave --conventions out for others"
        )
    return {
        name: Count(params=one.params(config), flops_per_token=round(one.flops_per_token(config)))
        for name, one in CONVENTIONS.items()
    }
