"""Parameters by group, FLOPs by part and bytes by purpose, as pure functions of a config; torch-free.

Every number here is checked against the modules: parameters against `Transformer.parameter_groups`, FLOPs against
torch's FlopCounterMode on the meta device.
"""

from __future__ import annotations

from functools import lru_cache

from models.config.checks import require_count, require_name
from models.config.objective import ObjectiveConfig, lengths
from models.config.transformer import TransformerConfig

TABLES = ("embedding", "positions", "segments")
"""Groups of looked-up tables, which `params_non_embedding` leaves out."""

PRECISION_BYTES = {
    "64-true": (8, 8),
    "32-true": (4, 4),
    "bf16-mixed": (4, 2),
    "16-mixed": (4, 2),
    "bf16-true": (2, 2),
    "16-true": (2, 2),
}
"""Bytes of one stored weight and of one activation by precision, in Lightning's names."""


def count_params(config: TransformerConfig) -> dict[str, int]:
    """Return the number of parameters by group; the values add up to the module's.

    Groups: embedding, positions, segments, attention, cross_attention, ffn, norms, pooler, head (an untied head, its
    transform and its bias).
    """
    width, vocab = config.width, config.vocab_size
    queries, keys = config.num_heads * config.key_dim, config.kv_heads * config.key_dim
    encoder, decoder = config.num_encoder_blocks, config.num_decoder_blocks
    blocks = encoder + decoder
    cross = decoder if config.family == "encoder-decoder" else 0
    num_stacks = (encoder > 0) + (decoder > 0)
    bias = int(config.bias)

    def linear(fan_in: int, fan_out: int) -> int:
        return fan_out * (fan_in + bias)

    attention = linear(width, queries) + 2 * linear(width, keys) + linear(queries, width)
    ffn = (2 if config.gated else 1) * linear(width, config.hidden) + linear(config.hidden, width)
    norm = width * (2 if config.norm == "layernorm" and config.bias else 1)
    head_gains = 2 * config.key_dim if config.qk_norm else 0
    num_norms = 2 * blocks + cross + num_stacks * (int(config.norm_at_end) + int(config.embedding_norm))
    positions = 0
    if config.positions == "learned":
        positions = num_stacks * (config.context + config.position_offset) * width
    elif config.positions == "t5":
        positions = num_stacks * config.relative_buckets * config.num_heads
    head = 0
    if config.head != "none":
        head += 0 if config.tie_embeddings else vocab * width
        head += vocab if config.head_bias else 0
        head += linear(width, width) + norm if config.head == "transform" else 0
    return {
        "embedding": vocab * width,
        "positions": positions,
        "segments": config.num_segments * width,
        "attention": blocks * attention,
        "cross_attention": cross * attention,
        "ffn": blocks * ffn,
        "norms": num_norms * norm + (blocks + cross) * head_gains,
        "pooler": linear(width, width) if config.pooler else 0,
        "head": head,
    }


@lru_cache(maxsize=1024)
def params_total(config: TransformerConfig) -> int:
    """Return the number of all parameters; a tied table is counted once."""
    return sum(count_params(config).values())


@lru_cache(maxsize=1024)
def params_non_embedding(config: TransformerConfig) -> int:
    """Return the parameters without token, segment and position tables and without the output head."""
    return sum(count for group, count in count_params(config).items() if group not in (*TABLES, "head"))


@lru_cache(maxsize=1024)
def hidden_matrix_params(config: TransformerConfig) -> int:
    """Return the parameters of matrices between states: no tables, no output table, no gains and no biases."""
    plain = config.replace(bias=False, norm="rmsnorm", head_bias=False)
    counts = count_params(plain)
    transform = config.width**2 if config.head == "transform" else 0
    return counts["attention"] + counts["cross_attention"] + counts["ffn"] + counts["pooler"] + transform


def params_fit(config: TransformerConfig) -> int:
    """Return the N that fits use by default: non-embedding parameters plus an untied head."""
    return params_non_embedding(config) + count_params(config)["head"]


def forward_flops(
    config: TransformerConfig, *, target_tokens: int, source_tokens: int | None = None
) -> dict[str, float]:
    """Return the FLOPs by part of one forward pass over one sequence.

    Parameters
    ----------
    config : TransformerConfig
        The model.
    target_tokens : int
        Length of the sequence in tokens; of the decoder's side where there are two.
    source_tokens : int, optional
        Length of the encoder's side of an encoder-decoder; None: as long as the target.

    Returns
    -------
    dict of float
        FLOPs by part.

    Notes
    -----
    A product of (m, k) and (k, n) costs 2 m k n. Only matrix products are counted; attention is not halved for
    causality; a pooler is not run in pre-training and costs nothing.
    """
    require_count("target_tokens", target_tokens)
    width = config.width
    queries, keys = config.num_heads * config.key_dim, config.kv_heads * config.key_dim
    encoder, decoder = config.num_encoder_blocks, config.num_decoder_blocks
    both = config.family == "encoder-decoder"
    source = source_tokens if both and source_tokens is not None else target_tokens
    ffn = (3 if config.gated else 2) * width * config.hidden
    projections = 2 * width * queries + 2 * width * keys
    positions = encoder * source + decoder * target_tokens
    parts = {
        "attention_projections": 2.0 * positions * projections,
        "attention_scores": 4.0 * queries * (encoder * source**2 + decoder * target_tokens**2),
        "cross_projections": 0.0,
        "cross_scores": 0.0,
        "ffn": 2.0 * positions * ffn,
        "head": 0.0,
    }
    if both:
        parts["cross_projections"] = 4.0 * decoder * width * (target_tokens * queries + source * keys)
        parts["cross_scores"] = 4.0 * decoder * queries * target_tokens * source
    if config.head != "none":
        transform = width if config.head == "transform" else 0
        parts["head"] = 2.0 * target_tokens * width * (config.vocab_size + transform)
    return parts


def forward_flops_per_token(
    config: TransformerConfig, context: int | None = None, *, objective: ObjectiveConfig | None = None
) -> dict[str, float]:
    """Return the forward FLOPs by part, per token of a sequence of `context` tokens (default: the config's).

    With an objective, a token is one of the corpus, of which the objective makes what each side reads. Without one,
    both sides of an encoder-decoder are `context` long and a token is one of either side. So `tokens` x this is the
    compute whatever the family.
    """
    length = config.context if context is None else context
    if objective is not None:
        made = lengths(objective, length)
        parts = forward_flops(config, target_tokens=made.target, source_tokens=made.source)
        if objective.name == "masked":  # the head runs on what is predicted alone
            parts["head"] *= made.noise / length
        return {part: flops / length for part, flops in parts.items()}
    sides = 2 if config.family == "encoder-decoder" else 1
    parts = forward_flops(config, target_tokens=length, source_tokens=length if sides == 2 else None)
    return {part: flops / (sides * length) for part, flops in parts.items()}


def training_flops(
    config: TransformerConfig, *, tokens: float, context: int | None = None, objective: ObjectiveConfig | None = None
) -> float:
    """Return the counted FLOPs of training on `tokens` tokens: three times the forward pass."""
    return 3.0 * tokens * sum(forward_flops_per_token(config, context, objective=objective).values())


def training_flops_6nd(config: TransformerConfig, *, tokens: float) -> float:
    """Return 6 N D with N the default of fits (`params_fit`), the estimate of Kaplan et al. 2020, equation 2.2 in C."""
    return 6.0 * params_fit(config) * tokens


def memory_bytes(
    config: TransformerConfig,
    *,
    batch_tokens: int,
    precision: str = "32-true",
    mode: str = "training",
    recompute: bool = False,
) -> dict[str, int]:
    """Return an estimate of the bytes held on a device, by purpose.

    Parameters
    ----------
    config : TransformerConfig
        The model.
    batch_tokens : int
        Tokens held at a time: of one micro-batch in training, of all sequences generated together in inference.
    precision : str
        A name of `PRECISION_BYTES`.
    mode : {"training", "inference"}
        "training": weights, gradients, AdamW's two moments, activations kept for the backward pass, logits.
        "inference": weights, key-value cache, logits of one position per sequence of `context` tokens.
    recompute : bool
        Training holds the input of each block, and the activations of one block at a time.

    Returns
    -------
    dict of int
        Bytes by purpose.
    """
    require_name("precision", precision, tuple(PRECISION_BYTES))
    require_name("mode", mode, ("training", "inference"))
    weight_bytes, activation_bytes = PRECISION_BYTES[precision]
    params = params_total(config)
    blocks = config.num_encoder_blocks + config.num_decoder_blocks
    cross = config.num_decoder_blocks if config.family == "encoder-decoder" else 0
    queries, keys = config.num_heads * config.key_dim, config.kv_heads * config.key_dim
    if mode == "inference":
        cached = 2 * keys * (config.num_decoder_blocks + cross)
        sequences = max(batch_tokens // config.context, 1)
        return {
            "weights": params * activation_bytes,
            "cache": batch_tokens * cached * activation_bytes,
            "logits": sequences * config.vocab_size * 4,
        }
    attention = 3 * config.width + 2 * queries + 3 * keys
    ffn = 2 * config.width + (4 if config.gated else 2) * config.hidden
    activations = blocks * (attention + ffn) + cross * attention
    if recompute:
        activations = blocks * config.width + attention + ffn + (attention if cross else 0)
    return {
        "weights": params * weight_bytes,
        "gradients": params * weight_bytes,
        "optimizer": 2 * params * weight_bytes,
        "activations": batch_tokens * activation_bytes * (activations + 2 * config.width),
        "logits": batch_tokens * config.vocab_size * (4 + activation_bytes) if config.head != "none" else 0,
    }
