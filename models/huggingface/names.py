"""How Hugging Face's GPT-2, BERT, T5, Llama and MPT name, shape and configure what our modules hold; torch-free.

Owns the tables of names and the translation of config.json both ways; `models.huggingface.weights` moves the tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from models.config.transformer import TransformerConfig
from models.errors import UserError

KINDS = ("gpt2", "bert", "t5", "llama", "mpt")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One of their tensors and the tensors of ours that it holds."""

    theirs: str
    """Their name, without the model's prefix."""
    ours: tuple[str, ...]
    """Our names; several are stacked along the output dimension (a fused projection)."""
    transposed: bool = False
    """Whether theirs is (in, out), as GPT-2's Conv1D."""
    rotary: bool = False
    """Whether theirs pairs j with j + K/2 in each head where ours pairs neighbours."""


def linear(theirs: str, *ours: str, bias: bool, transposed: bool = False, rotary: bool = False) -> Iterator[Entry]:
    """Yield the entries of a linear layer or a norm: weight, and bias where there is one."""
    names = tuple(f"{name}.weight" for name in ours)
    yield Entry(theirs=f"{theirs}.weight", ours=names, transposed=transposed, rotary=rotary)
    if bias:
        yield Entry(theirs=f"{theirs}.bias", ours=tuple(f"{name}.bias" for name in ours))


def gpt2_entries(config: TransformerConfig) -> Iterator[Entry]:
    """Yield GPT-2's tensors; Conv1D keeps weights as (in, out) and query, key, value in one."""
    yield Entry(theirs="wte.weight", ours=("tokens.weight",))
    yield Entry(theirs="wpe.weight", ours=("decoder.positions.weight",))
    for i in range(config.depth):
        block, ours = f"h.{i}", f"decoder.blocks.{i}"
        qkv = [f"{ours}.attention.{name}" for name in ("query", "key", "value")]
        yield from linear(f"{block}.ln_1", f"{ours}.attention_norm", bias=True)
        yield from linear(f"{block}.attn.c_attn", *qkv, bias=True, transposed=True)
        yield from linear(f"{block}.attn.c_proj", f"{ours}.attention.output", bias=True, transposed=True)
        yield from linear(f"{block}.ln_2", f"{ours}.ffn_norm", bias=True)
        yield from linear(f"{block}.mlp.c_fc", f"{ours}.ffn.up", bias=True, transposed=True)
        yield from linear(f"{block}.mlp.c_proj", f"{ours}.ffn.down", bias=True, transposed=True)
    yield from linear("ln_f", "decoder.final_norm", bias=True)


def bert_entries(config: TransformerConfig) -> Iterator[Entry]:
    """Yield BERT's tensors, with the masked-LM head or the pooler where the config has them."""
    yield Entry(theirs="embeddings.word_embeddings.weight", ours=("tokens.weight",))
    yield Entry(theirs="embeddings.position_embeddings.weight", ours=("encoder.positions.weight",))
    yield Entry(theirs="embeddings.token_type_embeddings.weight", ours=("segments.weight",))
    yield from linear("embeddings.LayerNorm", "encoder.embedding_norm", bias=True)
    for i in range(config.depth):
        layer, ours = f"encoder.layer.{i}", f"encoder.blocks.{i}"
        for name in ("query", "key", "value"):
            yield from linear(f"{layer}.attention.self.{name}", f"{ours}.attention.{name}", bias=True)
        yield from linear(f"{layer}.attention.output.dense", f"{ours}.attention.output", bias=True)
        yield from linear(f"{layer}.attention.output.LayerNorm", f"{ours}.attention_norm", bias=True)
        yield from linear(f"{layer}.intermediate.dense", f"{ours}.ffn.up", bias=True)
        yield from linear(f"{layer}.output.dense", f"{ours}.ffn.down", bias=True)
        yield from linear(f"{layer}.output.LayerNorm", f"{ours}.ffn_norm", bias=True)
    if config.pooler:
        yield from linear("pooler.dense", "pooler", bias=True)
    if config.head == "transform":
        yield from linear("cls.predictions.transform.dense", "head.transform", bias=True)
        yield from linear("cls.predictions.transform.LayerNorm", "head.transform_norm", bias=True)
        yield Entry(theirs="cls.predictions.bias", ours=("head.bias",))


def t5_entries(config: TransformerConfig) -> Iterator[Entry]:
    """Yield T5's tensors; each stack's position buckets are kept in its first block."""
    yield Entry(theirs="shared.weight", ours=("tokens.weight",))
    if not config.tie_embeddings:
        yield Entry(theirs="lm_head.weight", ours=("head.weight",))
    for side, depth in (("encoder", config.num_encoder_blocks), ("decoder", config.num_decoder_blocks)):
        buckets = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        yield Entry(theirs=buckets, ours=(f"{side}.bias.buckets.weight",))
        yield from linear(f"{side}.final_layer_norm", f"{side}.final_norm", bias=False)
        for i in range(depth):
            ours, last = f"{side}.blocks.{i}", 1 if side == "encoder" else 2
            parts = [("attention", 0, "SelfAttention")]
            if side == "decoder":
                parts.append(("cross_attention", 1, "EncDecAttention"))
            for name, index, kind in parts:
                layer = f"{side}.block.{i}.layer.{index}"
                for letter, word in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output")):
                    yield from linear(f"{layer}.{kind}.{letter}", f"{ours}.{name}.{word}", bias=False)
                norm = "attention_norm" if name == "attention" else "cross_norm"
                yield from linear(f"{layer}.layer_norm", f"{ours}.{norm}", bias=False)
            layer = f"{side}.block.{i}.layer.{last}"
            if config.gated:
                yield from linear(f"{layer}.DenseReluDense.wi_0", f"{ours}.ffn.gate", bias=False)
                yield from linear(f"{layer}.DenseReluDense.wi_1", f"{ours}.ffn.up", bias=False)
            else:
                yield from linear(f"{layer}.DenseReluDense.wi", f"{ours}.ffn.up", bias=False)
            yield from linear(f"{layer}.DenseReluDense.wo", f"{ours}.ffn.down", bias=False)
            yield from linear(f"{layer}.layer_norm", f"{ours}.ffn_norm", bias=False)


def llama_entries(config: TransformerConfig) -> Iterator[Entry]:
    """Yield Llama's tensors; queries and keys are permuted from halves to neighbours."""
    yield Entry(theirs="embed_tokens.weight", ours=("tokens.weight",))
    for i in range(config.depth):
        layer, ours = f"layers.{i}", f"decoder.blocks.{i}"
        for name, word in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output")):
            rotary = name in ("q", "k")
            yield from linear(f"{layer}.self_attn.{name}_proj", f"{ours}.attention.{word}", bias=False, rotary=rotary)
        for name in ("gate", "up", "down"):
            yield from linear(f"{layer}.mlp.{name}_proj", f"{ours}.ffn.{name}", bias=False)
        yield from linear(f"{layer}.input_layernorm", f"{ours}.attention_norm", bias=False)
        yield from linear(f"{layer}.post_attention_layernorm", f"{ours}.ffn_norm", bias=False)
    yield from linear("norm", "decoder.final_norm", bias=False)
    if not config.tie_embeddings:
        yield Entry(theirs="lm_head.weight", ours=("head.weight",))


def mpt_entries(config: TransformerConfig) -> Iterator[Entry]:
    """Yield MPT's tensors; query, key and value are fused."""
    yield Entry(theirs="wte.weight", ours=("tokens.weight",))
    for i in range(config.depth):
        block, ours = f"blocks.{i}", f"decoder.blocks.{i}"
        yield from linear(f"{block}.norm_1", f"{ours}.attention_norm", bias=False)
        qkv = [f"{ours}.attention.{name}" for name in ("query", "key", "value")]
        yield from linear(f"{block}.attn.Wqkv", *qkv, bias=False)
        yield from linear(f"{block}.attn.out_proj", f"{ours}.attention.output", bias=False)
        yield from linear(f"{block}.norm_2", f"{ours}.ffn_norm", bias=False)
        yield from linear(f"{block}.ffn.up_proj", f"{ours}.ffn.up", bias=False)
        yield from linear(f"{block}.ffn.down_proj", f"{ours}.ffn.down", bias=False)
    yield from linear("norm_f", "decoder.final_norm", bias=False)


ENTRIES = {"gpt2": gpt2_entries, "bert": bert_entries, "t5": t5_entries, "llama": llama_entries, "mpt": mpt_entries}

PREFIXES = {"gpt2": "transformer.", "bert": "bert.", "t5": "", "llama": "model.", "mpt": "transformer."}
"""What their model with a head writes before the names of the body."""

OUTSIDE = ("lm_head.", "cls.")
"""Beginnings of names that stand outside the body and take no prefix."""

IGNORED = (
    ".attn.bias",
    ".attn.masked_bias",
    "position_ids",
    "rotary_emb.inv_freq",
    "embed_tokens.weight",
    "lm_head.weight",
    "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias",
    "cls.seq_relationship.weight",
    "cls.seq_relationship.bias",
)
"""Ends of names of theirs that hold nothing of their own (tied copies, masks, BERT's sentence-order head)."""


def config_from_fields(fields: Mapping[str, Any], names: frozenset[str] = frozenset()) -> TransformerConfig:
    """Return our config for the fields of their config.json and the names of the tensors beside it."""
    kind = fields.get("model_type")
    if kind == "gpt2":
        require(fields, "activation_function", ("gelu_new", "gelu_pytorch_tanh"))
        return TransformerConfig(
            vocab_size=fields["vocab_size"], width=fields["n_embd"], depth=fields["n_layer"],
            num_heads=fields["n_head"], ffn_width=fields.get("n_inner"), context=fields["n_positions"],
            positions="learned", norm="layernorm",
            norm_eps=fields.get("layer_norm_epsilon", 1e-5), activation="gelu-tanh", bias=True, tie_embeddings=True,
        )  # fmt: skip
    if kind == "bert":
        require(fields, "hidden_act", ("gelu",))
        head = any(name.startswith("cls.predictions") for name in names)
        return TransformerConfig(
            family="encoder", vocab_size=fields["vocab_size"], width=fields["hidden_size"],
            depth=fields["num_hidden_layers"], num_heads=fields["num_attention_heads"],
            ffn_width=fields["intermediate_size"], context=fields["max_position_embeddings"], positions="learned",
            norm="layernorm", norm_placement="post", norm_eps=fields.get("layer_norm_eps", 1e-12), embedding_norm=True,
            bias=True, num_segments=fields.get("type_vocab_size", 2), head="transform" if head else "none",
            head_bias=head, tie_embeddings=head, depth_scaling="none",
            pooler=any(name.endswith("pooler.dense.weight") for name in names),
        )  # fmt: skip
    if kind == "t5":
        require(fields, "feed_forward_proj", ("relu", "gated-gelu"))
        scaled, width = fields.get("scale_decoder_outputs", fields.get("tie_word_embeddings", True)), fields["d_model"]
        tied = fields.get("tie_word_embeddings", True) or "lm_head.weight" not in names
        return TransformerConfig(
            family="encoder-decoder", vocab_size=fields["vocab_size"], width=width,
            depth=fields.get("num_decoder_layers") or fields["num_layers"], encoder_depth=fields["num_layers"],
            num_heads=fields["num_heads"], head_dim=fields["d_kv"], ffn_width=fields["d_ff"],
            context=fields.get("n_positions", 512), positions="t5",
            relative_buckets=fields["relative_attention_num_buckets"],
            relative_max_distance=fields.get("relative_attention_max_distance", 128),
            norm_eps=fields.get("layer_norm_epsilon", 1e-6), attention_scale=1.0, depth_scaling="none",
            activation="relu" if fields.get("feed_forward_proj", "relu") == "relu" else "geglu",
            tie_embeddings=tied, logits_scale=width**-0.5 if scaled else 1.0,
        )  # fmt: skip
    if kind == "llama":
        require(fields, "hidden_act", ("silu",))
        rope = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
        if rope.get("rope_type", rope.get("type", "default")) != "default":
            raise UserError(
                f"rope_type {rope.get('rope_type')!r} cannot be read; give a checkpoint with plain rotary positions"
            )
        return TransformerConfig(
            vocab_size=fields["vocab_size"], width=fields["hidden_size"], depth=fields["num_hidden_layers"],
            num_heads=fields["num_attention_heads"], num_kv_heads=fields.get("num_key_value_heads"),
            head_dim=fields.get("head_dim"), ffn_width=fields["intermediate_size"],
            context=fields["max_position_embeddings"], norm_eps=fields.get("rms_norm_eps", 1e-6), activation="swiglu",
            rotary_base=rope.get("rope_theta", fields.get("rope_theta", 10000.0)),
            tie_embeddings=fields.get("tie_word_embeddings", False), depth_scaling="none",
        )  # fmt: skip
    if kind == "mpt":
        attention = fields.get("attn_config") or {}
        if not attention.get("alibi", True) or attention.get("clip_qkv") or attention.get("qk_ln"):
            raise UserError("only MPT checkpoints with ALiBi and without clip_qkv and qk_ln can be read")
        return TransformerConfig(
            vocab_size=fields["vocab_size"], width=fields["d_model"], depth=fields["n_layers"],
            num_heads=fields["n_heads"], ffn_width=fields["d_model"] * fields.get("expansion_ratio", 4),
            context=fields["max_seq_len"], positions="alibi", norm="layernorm",
            norm_eps=fields.get("layer_norm_epsilon", 1e-5), tie_embeddings=True,
        )  # fmt: skip
    raise UserError(f"model_type is {kind!r}; checkpoints of {', '.join(KINDS)} can be read")


def require(fields: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> None:
    """Raise `UserError` unless the field is absent or one of `allowed`."""
    if fields.get(name, allowed[0]) not in allowed:
        raise UserError(f"{name} is {fields[name]!r} in config.json; only {', '.join(allowed)} can be read")


def fields_from_config(config: TransformerConfig, kind: str) -> dict[str, Any]:
    """Return the fields of their config.json for a config of ours; a config that `kind` cannot express is an error."""
    shape = {"model_type": kind, "vocab_size": config.vocab_size, "torch_dtype": "float32"}
    if kind == "gpt2":
        fields: dict[str, Any] = {
            "architectures": ["GPT2LMHeadModel"], "n_embd": config.width, "n_layer": config.depth,
            "n_head": config.num_heads, "n_inner": config.hidden, "n_positions": config.context,
            "layer_norm_epsilon": config.norm_eps, "activation_function": "gelu_new",
        }  # fmt: skip
    elif kind == "bert":
        fields = {
            "architectures": ["BertForMaskedLM" if config.head == "transform" else "BertModel"],
            "hidden_size": config.width, "num_hidden_layers": config.depth, "num_attention_heads": config.num_heads,
            "intermediate_size": config.hidden, "max_position_embeddings": config.context, "hidden_act": "gelu",
            "layer_norm_eps": config.norm_eps, "type_vocab_size": config.num_segments,
        }  # fmt: skip
    elif kind == "t5":
        fields = {
            "architectures": ["T5ForConditionalGeneration"], "d_model": config.width, "d_kv": config.key_dim,
            "d_ff": config.hidden, "num_layers": config.num_encoder_blocks, "num_decoder_layers": config.depth,
            "num_heads": config.num_heads, "relative_attention_num_buckets": config.relative_buckets,
            "relative_attention_max_distance": config.relative_max_distance, "layer_norm_epsilon": config.norm_eps,
            "feed_forward_proj": "gated-gelu" if config.gated else "relu", "n_positions": config.context,
            "tie_word_embeddings": config.tie_embeddings and config.logits_scale != 1, "is_encoder_decoder": True,
        }  # fmt: skip
    elif kind == "llama":
        fields = {
            "architectures": ["LlamaForCausalLM"], "hidden_size": config.width, "num_hidden_layers": config.depth,
            "num_attention_heads": config.num_heads, "num_key_value_heads": config.kv_heads,
            "head_dim": config.key_dim, "intermediate_size": config.hidden, "hidden_act": "silu",
            "max_position_embeddings": config.context, "rms_norm_eps": config.norm_eps,
            "rope_theta": config.rotary_base, "tie_word_embeddings": config.tie_embeddings,
        }  # fmt: skip
    elif kind == "mpt":
        if config.hidden % config.width:
            raise UserError(f"ffn_width {config.hidden} is no multiple of width {config.width}, which MPT needs")
        fields = {
            "architectures": ["MptForCausalLM"], "d_model": config.width, "n_layers": config.depth,
            "n_heads": config.num_heads, "expansion_ratio": config.hidden // config.width,
            "max_seq_len": config.context, "layer_norm_epsilon": config.norm_eps, "no_bias": True,
            "attn_config": {"alibi": True, "model_type": ""},
        }  # fmt: skip
    else:
        raise UserError(f"kind is {kind!r}; checkpoints of {', '.join(KINDS)} can be written")
    read = config_from_fields({**shape, **fields}, frozenset(expected_names(config, kind)))
    for name in FUNCTION_FIELDS:
        if not same(getattr(read, name), getattr(config, name)):
            raise UserError(f"{name} is {getattr(config, name)!r}, which a {kind} checkpoint cannot express")
    return {**shape, **fields}


FUNCTION_FIELDS = (
    "family", "width", "depth", "positions", "norm", "norm_placement", "norm_eps", "embedding_norm", "norm_at_end",
    "embedding_scale", "activation", "bias", "tie_embeddings", "head", "head_bias", "logits_scale", "qk_norm",
    "num_segments", "pooler", "key_dim", "kv_heads", "hidden", "num_encoder_blocks", "position_offset",
)  # fmt: skip
"""What must survive the way to their fields and back."""


def same(a: Any, b: Any) -> bool:
    """Return whether two field values agree, floats to rounding."""
    return math.isclose(a, b) if isinstance(a, float) and isinstance(b, float) else a == b


def expected_names(config: TransformerConfig, kind: str) -> Iterator[str]:
    """Yield their names, with prefix, of all tensors of a checkpoint."""
    for entry in ENTRIES[kind](config):
        yield entry.theirs if entry.theirs.startswith(OUTSIDE) else PREFIXES[kind] + entry.theirs
