"""One Transformer that is encoder, decoder or encoder-decoder, made of one block; its config says which.

Knows nothing of objectives and optimisers. Shapes: B batch, T tokens, U tokens up to now (those of caches too),
S source tokens, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict, Unpack, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.config.transformer import TransformerConfig
from models.errors import UserError
from models.kernels.linear import linear
from models.modules.attention import Attention, AttentionContext, LayerCache, causal_bias
from models.modules.layers import Embedding, FeedForward, Linear, Norm, make_norm
from models.modules.parametrization import branch_scale, initialise_, output_scale
from models.modules.positions import PositionBias, cached_table
from models.modules.roles import Group, Role, tag, tagged_parameters

Caches = list[tuple[LayerCache, LayerCache]]
"""Two caches for each block: of self-attention and of cross-attention."""


class TransformerInputs(TypedDict, total=False):
    """What a model may read beside its tokens; all of it may be left out."""

    mask_BT: Tensor | None
    """True where a token is real; over all positions up to now where there are caches."""
    segments_BT: Tensor | None
    """Segment of each token; left out: the first."""
    position_ids_BT: Tensor | None
    """Position of each token; left out: 0, 1, ... after what the caches hold."""
    source_BS: Tensor | None
    """Token ids of the encoder of an encoder-decoder."""
    source_mask_BS: Tensor | None
    """True where a source token is real."""
    memory_BSD: Tensor | None
    """The encoder's states, instead of `source_BS`."""
    caches: Caches | None
    """Keys and values of earlier calls, extended by this one."""


class Block(nn.Module):
    """Self-attention, cross-attention where there is a source, and feed-forward, each with its norm and residual."""

    recompute = False
    """Whether what the block computes in training is computed again for the backward pass instead of being held."""

    def __init__(self, config: TransformerConfig, *, cross: bool) -> None:
        super().__init__()
        self.pre = config.norm_placement == "pre"
        self.dropout, self.scale = config.dropout, branch_scale(config)
        self.attention_norm = make_norm(config)
        self.attention = Attention(config)
        self.cross_norm = make_norm(config) if cross else None
        self.cross_attention = Attention(config, group="cross_attention") if cross else None
        self.ffn_norm = make_norm(config)
        self.ffn = FeedForward(config)

    def forward(self, x_BTD: Tensor, own: AttentionContext, other: AttentionContext) -> Tensor:
        """Return the residual stream after this block.

        Parameters
        ----------
        x_BTD : Tensor, shape (B, T, D)
            The residual stream before it.
        own : AttentionContext
            Of self-attention.
        other : AttentionContext
            Of cross-attention; not read where the block has none.

        Returns
        -------
        Tensor, shape (B, T, D)
        """
        if self.recompute and self.training and torch.is_grad_enabled():
            result: Tensor = checkpoint(self._after, x_BTD, own, other, use_reentrant=False)
            return result
        return self._after(x_BTD, own, other)

    def _after(self, x_BTD: Tensor, own: AttentionContext, other: AttentionContext) -> Tensor:
        inner_BTD = self.attention_norm(x_BTD) if self.pre else x_BTD
        x_BTD = self._join(x_BTD, self.attention(inner_BTD, own), self.attention_norm)
        if self.cross_attention is not None and self.cross_norm is not None:
            inner_BTD = self.cross_norm(x_BTD) if self.pre else x_BTD
            x_BTD = self._join(x_BTD, self.cross_attention(inner_BTD, other), self.cross_norm)
        return self._join(x_BTD, self.ffn(self.ffn_norm(x_BTD) if self.pre else x_BTD), self.ffn_norm)

    def _join(self, x_BTD: Tensor, branch_BTD: Tensor, norm: nn.Module) -> Tensor:
        if self.dropout and self.training:
            branch_BTD = F.dropout(branch_BTD, self.dropout)
        x_BTD = torch.add(x_BTD, branch_BTD, alpha=self.scale) if self.scale != 1 else x_BTD + branch_BTD
        return x_BTD if self.pre else norm(x_BTD)


class Stack(nn.Module):
    """Embedding additions, blocks and norms of one side: causal (decoder) or not (encoder)."""

    def __init__(self, config: TransformerConfig, *, causal: bool) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        cross = causal and config.family == "encoder-decoder"
        rows = config.context + config.position_offset
        self.positions: Embedding | None = None
        if config.positions == "learned":
            self.positions = Embedding(rows, config.width, group="positions")
        self.embedding_norm = make_norm(config) if config.embedding_norm else None
        self.bias = PositionBias(config, causal=causal) if config.positions in ("alibi", "t5") else None
        depth = config.num_decoder_blocks if causal else config.num_encoder_blocks
        self.blocks = nn.ModuleList(Block(config, cross=cross) for _ in range(depth))
        self.final_norm = make_norm(config) if config.norm_at_end else None

    def forward(
        self,
        x_BTD: Tensor,
        *,
        mask_BU: Tensor | None = None,
        position_ids_BT: Tensor | None = None,
        memory_BSD: Tensor | None = None,
        memory_mask_BS: Tensor | None = None,
        caches: Caches | None = None,
    ) -> Tensor:
        """Return the states after the last block.

        Parameters
        ----------
        x_BTD : Tensor, shape (B, T, D)
            Embedded tokens, positions not yet added.
        mask_BU : Tensor of bool, optional
            True where a token is real; over all positions up to now where there are caches.
        position_ids_BT : Tensor of int, optional
            Position of each token; None: 0, 1, ... after what the caches hold.
        memory_BSD : Tensor, shape (B, S, D), optional
            The encoder's states.
        memory_mask_BS : Tensor of bool, shape (B, S), optional
            True where a state of the encoder is real.
        caches : list of (LayerCache, LayerCache), optional
            Two for each block (self, cross).

        Returns
        -------
        Tensor, shape (B, T, D)
        """
        first = caches[0][0].length if caches is not None else 0
        length = x_BTD.shape[1]
        x_BTD = self._add_positions(x_BTD, first, position_ids_BT)
        rotation = self._rotation(x_BTD.device, first, length, position_ids_BT)
        causal, bias = self._visibility(x_BTD, first, mask_BU)
        own = AttentionContext(rotation=rotation, causal=causal, bias=bias)
        other = AttentionContext(memory_BSD=memory_BSD, bias=key_bias(memory_mask_BS, x_BTD.dtype))
        for index, block in enumerate(self.blocks):
            if caches is not None:
                own, other = replace(own, cache=caches[index][0]), replace(other, cache=caches[index][1])
            x_BTD = block(x_BTD, own, other)
        return self.final_norm(x_BTD) if self.final_norm is not None else x_BTD

    def _add_positions(self, x_BTD: Tensor, first: int, position_ids_BT: Tensor | None) -> Tensor:
        config, length = self.config, x_BTD.shape[1]
        end = first + length
        if self.positions is not None:
            if end > config.context:
                raise UserError(
                    f"a sequence of {end} tokens is longer than the {config.context} learned positions; shorten it, or "
                    "train with rotary, alibi, t5 or sinusoidal positions, which go past the training length"
                )
            shift = config.position_offset
            if position_ids_BT is None:
                x_BTD = self.positions.add_rows(x_BTD, shift + first, shift + end)
            else:
                x_BTD = x_BTD + self.positions(position_ids_BT + shift)
        elif config.positions == "sinusoidal":
            table = table_for("sinusoidal", config, config.width, end, x_BTD.device)
            x_BTD = x_BTD + (table[first:end] if position_ids_BT is None else table[position_ids_BT])
        if self.embedding_norm is not None:
            x_BTD = self.embedding_norm(x_BTD)
        return F.dropout(x_BTD, config.dropout) if config.dropout and self.training else x_BTD

    def _rotation(self, device: torch.device, first: int, length: int, position_ids_BT: Tensor | None) -> Tensor | None:
        if self.config.positions != "rotary":
            return None
        kind = "rotary-real" if torch.compiler.is_compiling() else "rotary"  # compilers write no complex kernels
        table = table_for(kind, self.config, self.config.key_dim, first + length, device)
        return table[first : first + length, None] if position_ids_BT is None else table[position_ids_BT][:, :, None]

    def _visibility(self, x_BTD: Tensor, first: int, mask_BU: Tensor | None) -> tuple[bool, Tensor | None]:
        length, end = x_BTD.shape[1], first + x_BTD.shape[1]
        bias = self.bias(length, end, first_query=first) if self.bias is not None else None
        padding = key_bias(mask_BU, x_BTD.dtype)
        if padding is not None:
            bias = padding if bias is None else bias + padding
        if not self.causal or (bias is None and first == 0):
            return self.causal, bias
        if length > 1:
            future = causal_bias(end, x_BTD)[first:]
            bias = future if bias is None else bias + future
        return False, bias


class Head(nn.Module):
    """States to logits: by a table of its own or the token table, after BERT's transform where the config says so."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.scale, self.cap = config.logits_scale * output_scale(config), config.logit_cap
        self.transform: Linear | None = None
        self.transform_norm: Norm | None = None
        if config.head == "transform":
            self.transform = Linear(config.width, config.width, bias=config.bias, group="head")
            self.transform_norm = make_norm(config, group="head")
        self.weight = None if config.tie_embeddings else nn.Parameter(torch.empty(config.vocab_size, config.width))
        self.bias = nn.Parameter(torch.empty(config.vocab_size)) if config.head_bias else None
        tag(self, "head", weight=Role.OUTPUT_TABLE, bias=Role.BIAS)

    def forward(self, x_BTD: Tensor, tokens_VD: Tensor) -> Tensor:
        """Return logits (B, T, V); `tokens_VD` is the token table, used where it is tied."""
        return capped(linear(self.prepare(x_BTD), self.table(tokens_VD), self.bias), self.cap)

    def table(self, tokens_VD: Tensor) -> Tensor:
        """Return the output table (V, D): the head's own, or the token table where it is tied."""
        return tokens_VD if self.weight is None else self.weight

    def prepare(self, states: Tensor) -> Tensor:
        """Return what is multiplied by the output table: the states, transformed and scaled as the config says."""
        if self.transform is not None and self.transform_norm is not None:
            states = self.transform_norm(F.gelu(self.transform(states)))
        if self.scale != 1:
            states = states * self.scale
        return states


class Transformer(nn.Module):
    """The model that a `TransformerConfig` describes, with weights that are a pure function of (config, seed)."""

    def __init__(self, config: TransformerConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.tokens = Embedding(config.vocab_size, config.width, group="embedding")
        self.segments: Embedding | None = None
        if config.num_segments:
            self.segments = Embedding(config.num_segments, config.width, group="segments")
        self.encoder = Stack(config, causal=False) if config.num_encoder_blocks else None
        self.decoder = Stack(config, causal=True) if config.num_decoder_blocks else None
        self.pooler = Linear(config.width, config.width, bias=config.bias, group="pooler") if config.pooler else None
        self.head = Head(config) if config.head != "none" else None
        initialise_(self, config, seed=seed)

    def embed(self, tokens_BT: Tensor, segments_BT: Tensor | None = None) -> Tensor:
        """Return token (and segment) embeddings, scaled; positions are added by the stacks."""
        x_BTD = self.tokens(tokens_BT)
        if self.config.embedding_scale != 1:
            x_BTD = x_BTD * self.config.embedding_scale
        if self.segments is None:
            return x_BTD
        return self.segments.add_rows(x_BTD, 0, 1) if segments_BT is None else x_BTD + self.segments(segments_BT)

    def encode(
        self, source_BS: Tensor, source_mask_BS: Tensor | None = None, segments_BS: Tensor | None = None
    ) -> Tensor:
        """Return the encoder's states, (B, S, D)."""
        if self.encoder is None:
            raise UserError("this model is a decoder and has no encoder; call it, or use hidden()")
        return self.encoder(self.embed(source_BS, segments_BS), mask_BU=source_mask_BS)

    def hidden(self, tokens_BT: Tensor, **inputs: Unpack[TransformerInputs]) -> Tensor:
        """Return the states from which the head reads.

        Parameters
        ----------
        tokens_BT : Tensor of int, shape (B, T)
            Token ids; of the decoder's side where there are two.
        **inputs : Tensor or None
            See `TransformerInputs`.

        Returns
        -------
        Tensor, shape (B, T, D)

        Raises
        ------
        UserError
            If an encoder-decoder gets nothing for its encoder.
        """
        mask_BU, segments_BT = inputs.get("mask_BT"), inputs.get("segments_BT")
        if self.decoder is None:
            return self.encode(tokens_BT, mask_BU, segments_BT)
        memory_BSD, source_mask_BS = inputs.get("memory_BSD"), inputs.get("source_mask_BS")
        if self.encoder is not None and memory_BSD is None:
            source_BS = inputs.get("source_BS")
            if source_BS is None:
                raise UserError("an encoder-decoder needs source_BS, or memory_BSD from encode()")
            memory_BSD = self.encode(source_BS, source_mask_BS)
        return self.decoder(
            self.embed(tokens_BT, segments_BT),
            mask_BU=mask_BU,
            position_ids_BT=inputs.get("position_ids_BT"),
            memory_BSD=memory_BSD,
            memory_mask_BS=source_mask_BS,
            caches=inputs.get("caches"),
        )

    def forward(self, tokens_BT: Tensor, **inputs: Unpack[TransformerInputs]) -> Tensor:
        """Return logits (B, T, V), or the states (B, T, D) of a model without a head.

        Parameters
        ----------
        tokens_BT : Tensor of int, shape (B, T)
            Token ids; of the decoder's side where there are two.
        **inputs : Tensor or None
            See `TransformerInputs`.

        Returns
        -------
        Tensor, shape (B, T, V) or (B, T, D)
        """
        states_BTD = self.hidden(tokens_BT, **inputs)
        return states_BTD if self.head is None else self.head(states_BTD, self.tokens.weight)

    def pool(self, states_BTD: Tensor) -> Tensor:
        """Return BERT's pooled first position, (B, D)."""
        if self.pooler is None:
            raise UserError("this model has no pooler; set pooler=True in its config")
        return torch.tanh(self.pooler(states_BTD[:, 0]))

    def new_caches(self) -> Caches:
        """Return empty caches (self, cross) for every decoder block."""
        return [(LayerCache(), LayerCache()) for _ in range(self.config.num_decoder_blocks)]

    def parameter_groups(self) -> dict[Group, int]:
        """Return the number of parameters by the groups of `accounting.count_params`, counted on the module.

        What fine-tuning added is counted under "added", a key that an unchanged model does not have.
        """
        counts: dict[Group, int] = dict.fromkeys((group for group in get_args(Group) if group != "added"), 0)
        for _, parameter, label in tagged_parameters(self):
            group: Group = "added" if label is None else label.group
            counts[group] = counts.get(group, 0) + parameter.numel()
        return counts


def set_recompute(module: nn.Module) -> None:
    """Hold the input of each block for the backward pass, and compute the rest again there.

    Losses and gradients are the same to the last bit (Chen et al. 2016, arXiv 1604.06174).

    Parameters
    ----------
    module : nn.Module
        A model, or what holds models.
    """
    for part in module.modules():
        if isinstance(part, Block):
            part.recompute = True


def capped(logits: Tensor, cap: float | None) -> Tensor:
    """Return cap tanh(z / cap) of logits z, or the logits where there is no cap (Gemma Team 2024, section 2)."""
    return logits if cap is None else cap * torch.tanh(logits / cap)


def key_bias(mask_BS: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return the (B, 1, 1, S) bias that hides padding keys; None without a mask.

    The bias is large and finite: a padding query that may see padding alone gets a mean of it, and no NaN.
    """
    if mask_BS is None:
        return None
    hidden = torch.finfo(dtype).min / 2
    return torch.zeros(mask_BS.shape, dtype=dtype, device=mask_BS.device).masked_fill(~mask_BS, hidden)[:, None, None]


def table_for(kind: str, config: TransformerConfig, size: int, end: int, device: torch.device) -> Tensor:
    """Return a fixed table of at least `end` rows, grown in doublings past the config's context."""
    rows = config.context
    while rows < end:
        rows *= 2
    return cached_table(kind, rows, size, config.rotary_base, device)
