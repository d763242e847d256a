"""Hugging Face's config.json of GPT-2, BERT, T5, Llama and MPT to our config and back; torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from models.config.transformer import TransformerConfig
from models.errors import UserError
from models.huggingface.names import KINDS, expected_names

FUNCTION_FIELDS = (
    "family",
    "width",
    "depth",
    "positions",
    "norm",
    "norm_placement",
    "norm_eps",
    "embedding_norm",
    "norm_at_end",
    "embedding_scale",
    "activation",
    "bias",
    "tie_embeddings",
    "head",
    "head_bias",
    "logits_scale",
    "qk_norm",
    "num_segments",
    "pooler",
    "key_dim",
    "kv_heads",
    "hidden",
    "num_encoder_blocks",
    "position_offset",
)
"""What must survive the way to their fields and back."""


def _read_gpt2(fields: Mapping[str, Any], names: frozenset[str]) -> TransformerConfig:
    """Our config of GPT-2's fields."""
    require(fields, "activation_function", ("gelu_new", "gelu_pytorch_tanh"))
    return TransformerConfig(
        vocab_size=fields["vocab_size"],
        width=fields["n_embd"],
        depth=fields["n_layer"],
        num_heads=fields["n_head"],
        ffn_width=fields.get("n_inner"),
        context=fields["n_positions"],
        positions="learned",
        norm="layernorm",
        norm_eps=fields.get("layer_norm_epsilon", 1e-5),
        activation="gelu-tanh",
        bias=True,
        tie_embeddings=True,
    )


def _read_bert(fields: Mapping[str, Any], names: frozenset[str]) -> TransformerConfig:
    """Our config of BERT's fields."""
    require(fields, "hidden_act", ("gelu",))
    head = any(name.startswith("cls.predictions") for name in names)
    return TransformerConfig(
        family="encoder",
        vocab_size=fields["vocab_size"],
        width=fields["hidden_size"],
        depth=fields["num_hidden_layers"],
        num_heads=fields["num_attention_heads"],
        ffn_width=fields["intermediate_size"],
        context=fields["max_position_embeddings"],
        positions="learned",
        norm="layernorm",
        norm_placement="post",
        norm_eps=fields.get("layer_norm_eps", 1e-12),
        embedding_norm=True,
        bias=True,
        num_segments=fields.get("type_vocab_size", 2),
        head="transform" if head else "none",
        head_bias=head,
        tie_embeddings=head,
        depth_scaling="none",
        pooler=any(name.endswith("pooler.dense.weight") for name in names),
    )


def _read_t5(fields: Mapping[str, Any], names: frozenset[str]) -> TransformerConfig:
    """Our config of T5's fields."""
    require(fields, "feed_forward_proj", ("relu", "gated-gelu"))
    scaled, width = fields.get("scale_decoder_outputs", fields.get("tie_word_embeddings", True)), fields["d_model"]
    tied = fields.get("tie_word_embeddings", True) or "lm_head.weight" not in names
    return TransformerConfig(
        family="encoder-decoder",
        vocab_size=fields["vocab_size"],
        width=width,
        depth=fields.get("num_decoder_layers") or fields["num_layers"],
        encoder_depth=fields["num_layers"],
        num_heads=fields["num_heads"],
        head_dim=fields["d_kv"],
        ffn_width=fields["d_ff"],
        context=fields.get("n_positions", 512),
        positions="t5",
        relative_buckets=fields["relative_attention_num_buckets"],
        relative_max_distance=fields.get("relative_attention_max_distance", 128),
        norm_eps=fields.get("layer_norm_epsilon", 1e-6),
        attention_scale=1.0,
        depth_scaling="none",
        activation="relu" if fields.get("feed_forward_proj", "relu") == "relu" else "geglu",
        tie_embeddings=tied,
        logits_scale=width**-0.5 if scaled else 1.0,
    )


def _read_llama(fields: Mapping[str, Any], names: frozenset[str]) -> TransformerConfig:
    """Our config of Llama's fields."""
    require(fields, "hidden_act", ("silu",))
    rope = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise UserError(
            f"rope_type {rope.get('rope_type')!r} cannot be read; give a checkpoint with plain rotary positions"
        )
    return TransformerConfig(
        vocab_size=fields["vocab_size"],
        width=fields["hidden_size"],
        depth=fields["num_hidden_layers"],
        num_heads=fields["num_attention_heads"],
        num_kv_heads=fields.get("num_key_value_heads"),
        head_dim=fields.get("head_dim"),
        ffn_width=fields["intermediate_size"],
        context=fields["max_position_embeddings"],
        norm_eps=fields.get("rms_norm_eps", 1e-6),
        activation="swiglu",
        rotary_base=rope.get("rope_theta", fields.get("rope_theta", 10000.0)),
        tie_embeddings=fields.get("tie_word_embeddings", False),
        depth_scaling="none",
    )


def _read_mpt(fields: Mapping[str, Any], names: frozenset[str]) -> TransformerConfig:
    """Our config of MPT's fields."""
    attention = fields.get("attn_config") or {}
    if not attention.get("alibi", True) or attention.get("clip_qkv") or attention.get("qk_ln"):
        raise UserError("only MPT checkpoints with ALiBi and without clip_qkv and qk_ln can be read")
    return TransformerConfig(
        vocab_size=fields["vocab_size"],
        width=fields["d_model"],
        depth=fields["n_layers"],
        num_heads=fields["n_heads"],
        ffn_width=fields["d_model"] * fields.get("expansion_ratio", 4),
        context=fields["max_seq_len"],
        positions="alibi",
        norm="layernorm",
        norm_eps=fields.get("layer_norm_epsilon", 1e-5),
        tie_embeddings=True,
    )


READERS: Mapping[str, Callable[[Mapping[str, Any], frozenset[str]], TransformerConfig]] = {
    "gpt2": _read_gpt2,
    "bert": _read_bert,
    "t5": _read_t5,
    "llama": _read_llama,
    "mpt": _read_mpt,
}


def config_from_fields(fields: Mapping[str, Any], names: frozenset[str] = frozenset()) -> TransformerConfig:
    """Our config for the fields of their config.json.

    Parameters
    ----------
    fields : mapping
        Of config.json.
    names : frozenset of str
        Names of the tensors beside it: they tell which heads there are.

    Returns
    -------
    TransformerConfig
        What computes the same function.

    Raises
    ------
    UserError
        For a model type, or a value of a field, that our modules cannot express.
    """
    kind = fields.get("model_type")
    if not isinstance(kind, str) or kind not in READERS:
        raise UserError(f"model_type is {kind!r}; checkpoints of {', '.join(KINDS)} can be read")
    return READERS[kind](fields, names)


def require(fields: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> None:
    """Raise `UserError` unless the field is absent or one of `allowed`."""
    if fields.get(name, allowed[0]) not in allowed:
        raise UserError(f"{name} is {fields[name]!r} in config.json; only {', '.join(allowed)} can be read")


def _write_gpt2(config: TransformerConfig) -> dict[str, Any]:
    """GPT-2's fields of our config."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": config.width,
        "n_layer": config.depth,
        "n_head": config.num_heads,
        "n_inner": config.hidden,
        "n_positions": config.context,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": "gelu_new",
    }


def _write_bert(config: TransformerConfig) -> dict[str, Any]:
    """BERT's fields of our config."""
    return {
        "architectures": ["BertForMaskedLM" if config.head == "transform" else "BertModel"],
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.hidden,
        "max_position_embeddings": config.context,
        "hidden_act": "gelu",
        "layer_norm_eps": config.norm_eps,
        "type_vocab_size": config.num_segments,
    }


def _write_t5(config: TransformerConfig) -> dict[str, Any]:
    """T5's fields of our config."""
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "d_model": config.width,
        "d_kv": config.key_dim,
        "d_ff": config.hidden,
        "num_layers": config.num_encoder_blocks,
        "num_decoder_layers": config.depth,
        "num_heads": config.num_heads,
        "relative_attention_num_buckets": config.relative_buckets,
        "relative_attention_max_distance": config.relative_max_distance,
        "layer_norm_epsilon": config.norm_eps,
        "feed_forward_proj": "gated-gelu" if config.gated else "relu",
        "n_positions": config.context,
        "tie_word_embeddings": config.tie_embeddings and config.logits_scale != 1,
        "is_encoder_decoder": True,
    }


def _write_llama(config: TransformerConfig) -> dict[str, Any]:
    """Llama's fields of our config."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.key_dim,
        "intermediate_size": config.hidden,
        "hidden_act": "silu",
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rotary_base,
        "tie_word_embeddings": config.tie_embeddings,
    }


def _write_mpt(config: TransformerConfig) -> dict[str, Any]:
    """MPT's fields of our config."""
    if config.hidden % config.width:
        raise UserError(f"ffn_width {config.hidden} is no multiple of width {config.width}, which MPT needs")
    return {
        "architectures": ["MptForCausalLM"],
        "d_model": config.width,
        "n_layers": config.depth,
        "n_heads": config.num_heads,
        "expansion_ratio": config.hidden // config.width,
        "max_seq_len": config.context,
        "layer_norm_epsilon": config.norm_eps,
        "no_bias": True,
        "attn_config": {"alibi": True, "model_type": ""},
    }


WRITERS: Mapping[str, Callable[[TransformerConfig], dict[str, Any]]] = {
    "gpt2": _write_gpt2,
    "bert": _write_bert,
    "t5": _write_t5,
    "llama": _write_llama,
    "mpt": _write_mpt,
}


def fields_from_config(config: TransformerConfig, kind: str) -> dict[str, Any]:
    """The fields of their config.json for a config of ours.

    Parameters
    ----------
    config : TransformerConfig
        The model.
    kind : str
        Their model type, one of KINDS.

    Returns
    -------
    dict
        What `config_from_fields` reads back as the same function.

    Raises
    ------
    UserError
        For another kind, or a config that this kind cannot express.
    """
    if kind not in WRITERS:
        raise UserError(f"kind is {kind!r}; checkpoints of {', '.join(KINDS)} can be written")
    shared = {"model_type": kind, "vocab_size": config.vocab_size, "torch_dtype": "float32"}
    fields = {**shared, **WRITERS[kind](config)}
    read = config_from_fields(fields, frozenset(expected_names(config, kind)))
    for name in FUNCTION_FIELDS:
        if not same(getattr(read, name), getattr(config, name)):
            raise UserError(f"{name} is {getattr(config, name)!r}, which a {kind} checkpoint cannot express")
    return fields


def same(a: Any, b: Any) -> bool:
    """Return whether two field values agree, floats to rounding."""
    return math.isclose(a, b) if isinstance(a, float) and isinstance(b, float) else a == b
