"""How Hugging Face's GPT-2, BERT, T5, Llama and MPT name and shape what our modules hold; torch-free.

Owns the tables of names; `fields` translates config.json, `weights` moves the tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from models.config.transformer import TransformerConfig

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


def expected_names(config: TransformerConfig, kind: str) -> Iterator[str]:
    """Yield their names, with prefix, of all tensors of a checkpoint."""
    for entry in ENTRIES[kind](config):
        yield entry.theirs if entry.theirs.startswith(OUTSIDE) else PREFIXES[kind] + entry.theirs
