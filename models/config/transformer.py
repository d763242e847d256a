"""What a transformer is: one frozen, validated description from which modules, counts and records are made.

Owns every choice that shapes a model's function or its training; must not know torch, data or any run.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from models.config.checks import require_count, require_fraction, require_name
from models.errors import UserError

Family = Literal["decoder", "encoder", "encoder-decoder"]
"""Which stacks exist."""
Positions = Literal["none", "sinusoidal", "learned", "rotary", "alibi", "t5"]
"""Position encodings."""
NormKind = Literal["layernorm", "rmsnorm"]
"""Normalisations."""
Placement = Literal["pre", "post"]
"""Where a block's norms stand."""
Activation = Literal["relu", "gelu", "gelu-tanh", "swiglu", "geglu"]
"""Non-linearities of the feed-forward layer."""
HeadKind = Literal["linear", "transform", "none"]
"""Outputs."""
Parametrization = Literal["standard", "mup"]
"""How scales and rates follow the width."""
DepthScaling = Literal["none", "residual-init", "depth-mup", "completep"]
"""How scales and rates follow the depth."""
AttentionBackend = Literal["sdpa", "explicit", "blockwise"]
"""Implementations of attention, which change no result beyond rounding."""

FAMILIES: tuple[Family, ...] = get_args(Family)
POSITIONS: tuple[Positions, ...] = get_args(Positions)
NORMS: tuple[NormKind, ...] = get_args(NormKind)
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
HEADS: tuple[HeadKind, ...] = get_args(HeadKind)
PARAMETRIZATIONS: tuple[Parametrization, ...] = get_args(Parametrization)
DEPTH_SCALINGS: tuple[DepthScaling, ...] = get_args(DepthScaling)
ATTENTION_BACKENDS: tuple[AttentionBackend, ...] = get_args(AttentionBackend)


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Shape and kind of one transformer: encoder, decoder or encoder-decoder.

    The defaults are a pre-norm decoder with rotary positions. A field added later comes with a default under which
    every earlier config keeps its function, so that identities made from configs stay valid.
    """

    family: Family = "decoder"
    """Which stacks exist: "decoder" (causal), "encoder" (bidirectional) or "encoder-decoder"."""
    vocab_size: int
    """Number of token ids, V."""
    width: int
    """Size of the residual stream, d_model."""
    depth: int
    """Number of blocks, L; of the decoder where there are two stacks."""
    encoder_depth: int | None = None
    """Number of encoder blocks of an encoder-decoder; None: as many as `depth`."""
    num_heads: int
    """Number of query heads, H."""
    num_kv_heads: int | None = None
    """Number of key and value heads, G, a divisor of H (grouped queries); None: H."""
    head_dim: int | None = None
    """Size of one head, d_k; None: width / H."""
    ffn_width: int | None = None
    """Hidden size of the feed-forward layer, d_ff; None: 4 x width, or 8/3 x width in eights for a gated activation."""
    context: int
    """Largest number of tokens in a sequence (of either side), T."""
    positions: Positions = "rotary"
    """Position encoding: none, sinusoidal, learned, rotary, alibi or t5."""
    rotary_base: float = 10000.0
    """Base of the rotary and sinusoidal wavelengths."""
    position_offset: int = 0
    """Rows of the learned table left unused in front (BART: 2); they are counted."""
    relative_buckets: int = 32
    """Number of T5 relative-position buckets."""
    relative_max_distance: int = 128
    """Distance in tokens from which T5 positions share the last bucket."""
    norm: NormKind = "rmsnorm"
    """Normalisation: layernorm or rmsnorm."""
    norm_placement: Placement = "pre"
    """pre: x + f(norm(x)), with a norm after the last block; post: norm(x + f(x)), the original."""
    norm_eps: float = 1e-5
    """Number added to the variance inside a norm."""
    embedding_norm: bool = False
    """A norm right after the embeddings (BERT, BART)."""
    final_norm: bool | None = None
    """A norm after the last block of each stack; None: with pre-norm only."""
    embedding_scale: float = 1.0
    """Factor on token embeddings before positions are added (original Transformer: sqrt(width))."""
    activation: Activation = "gelu"
    """Feed-forward non-linearity: relu, gelu, gelu-tanh, or a gated one: swiglu, geglu (tanh GELU)."""
    bias: bool = False
    """Additive biases in linear layers and layer norms."""
    dropout: float = 0.0
    """Probability of dropping an element of embeddings, attention weights' outputs and feed-forward outputs."""
    tie_embeddings: bool = False
    """Share the token table with the output head."""
    head: HeadKind = "linear"
    """Output: "linear" logits, "transform" (dense, GELU, norm, then logits: BERT), or "none" (hidden states)."""
    head_bias: bool = False
    """An additive bias per token id in the output head."""
    logits_scale: float = 1.0
    """Factor on the hidden state before the head (T5 tied: width^-0.5)."""
    attention_scale: float | None = None
    """Factor on Q K^T; None: 1 / sqrt(head_dim), or muP's 1 / head_dim law (T5: 1.0)."""
    qk_norm: bool = False
    """RMS-normalise queries and keys per head, each with a learned gain."""
    num_segments: int = 0
    """Size of a segment (token type) table added to the embeddings (BERT: 2); 0: none."""
    pooler: bool = False
    """A dense tanh layer on the first position (BERT's pooler), counted and kept for classification."""
    init_std: float | None = None
    """Standard deviation of initial weights; None: the widths' own scale (see parametrization)."""
    parametrization: Parametrization = "standard"
    """standard, or mup (maximal update: learning rates transfer across width)."""
    base_width: int | None = None
    """Width at which muP equals the standard parametrization; needed by muP."""
    base_head_dim: int | None = None
    """Head size at which muP's 1/d_k attention equals 1/sqrt(d_k); None: this head size (heads grow in number)."""
    depth_scaling: DepthScaling = "residual-init"
    """none; residual-init (initial 1/sqrt(2L), GPT-2); depth-mup (branch x sqrt(L0/L)); completep (branch x L0/L)."""
    base_depth: int | None = None
    """Depth L0 at which depth-mup and completep multiply branches by one; needed by these."""
    logit_cap: float | None = None
    """Logits z become cap x tanh(z / cap), between -cap and cap (Gemma Team 2024, arXiv 2408.00118, section 2: 30);
    None: they stay."""

    def __post_init__(self) -> None:
        for field, allowed in (
            ("family", FAMILIES),
            ("positions", POSITIONS),
            ("norm", NORMS),
            ("norm_placement", PLACEMENTS),
            ("activation", ACTIVATIONS),
            ("head", HEADS),
            ("parametrization", PARAMETRIZATIONS),
            ("depth_scaling", DEPTH_SCALINGS),
        ):
            require_name(field, getattr(self, field), allowed)
        for field in (
            "vocab_size",
            "width",
            "depth",
            "num_heads",
            "context",
            "relative_buckets",
            "relative_max_distance",
        ):
            require_count(field, getattr(self, field))
        for field in (
            "encoder_depth",
            "num_kv_heads",
            "head_dim",
            "ffn_width",
            "base_width",
            "base_head_dim",
            "base_depth",
        ):
            if getattr(self, field) is not None:
                require_count(field, getattr(self, field))
        require_count("num_segments", self.num_segments, minimum=0)
        require_count("position_offset", self.position_offset, minimum=0)
        require_fraction("dropout", self.dropout, below_one=True)
        for field in (
            "norm_eps",
            "rotary_base",
            "embedding_scale",
            "logits_scale",
            "attention_scale",
            "init_std",
            "logit_cap",
        ):
            value = getattr(self, field)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UserError(f"{field} is {value!r}; give a positive number")
        self._check_heads()
        self._check_combinations()

    def _check_heads(self) -> None:
        if self.head_dim is None and self.width % self.num_heads:
            raise UserError(
                f"width {self.width} is not divisible by num_heads {self.num_heads}; "
                "choose a divisor of the width as num_heads, or give head_dim"
            )
        if self.num_heads % self.kv_heads:
            raise UserError(
                f"num_heads {self.num_heads} is not divisible by num_kv_heads {self.num_kv_heads}; "
                "give a divisor of num_heads as num_kv_heads"
            )
        if self.positions == "rotary" and self.key_dim % 2:
            raise UserError(
                f"rotary positions rotate pairs, but the head size is {self.key_dim}; give an even head_dim"
            )
        if self.positions == "sinusoidal" and self.width % 2:
            raise UserError(f"sinusoidal positions need an even width, not {self.width}")

    def _check_combinations(self) -> None:
        if self.encoder_depth is not None and self.family != "encoder-decoder":
            raise UserError(
                f"encoder_depth is {self.encoder_depth} but the family is {self.family!r}; "
                "leave encoder_depth out, or set family to 'encoder-decoder'"
            )
        if self.family == "decoder" and self.pooler:
            raise UserError("pooler reads the first position, which sees nothing in a decoder; use it with an encoder")
        if self.positions == "t5" and self.relative_buckets < 4:
            raise UserError(f"relative_buckets is {self.relative_buckets}; T5 positions need at least 4")
        if self.positions == "t5" and self.relative_max_distance <= self.relative_buckets // 2:
            raise UserError(
                f"relative_max_distance is {self.relative_max_distance}; "
                f"give more than half of relative_buckets ({self.relative_buckets})"
            )
        if self.head == "none" and (self.head_bias or self.tie_embeddings):
            raise UserError("head is 'none', so there is nothing to tie or to add a bias to; set head to 'linear'")
        if self.parametrization == "mup" and self.base_width is None:
            raise UserError("parametrization 'mup' needs base_width, the width at which it equals the standard one")
        if self.parametrization == "standard" and self.base_width is not None:
            raise UserError(f"base_width is {self.base_width} but the parametrization is 'standard'; set it to 'mup'")
        if self.depth_scaling in ("depth-mup", "completep") and self.base_depth is None:
            raise UserError(
                f"depth_scaling {self.depth_scaling!r} needs base_depth, the depth at which it changes nothing"
            )
        if self.depth_scaling in ("depth-mup", "completep") and self.norm_placement == "post":
            raise UserError(
                f"depth_scaling {self.depth_scaling!r} scales residual branches and needs norm_placement 'pre'"
            )

    @property
    def key_dim(self) -> int:
        """Size of one head, d_k."""
        return self.head_dim if self.head_dim is not None else self.width // self.num_heads

    @property
    def kv_heads(self) -> int:
        """Number of key and value heads, G."""
        return self.num_kv_heads if self.num_kv_heads is not None else self.num_heads

    @property
    def hidden(self) -> int:
        """Hidden size of the feed-forward layer, d_ff."""
        if self.ffn_width is not None:
            return self.ffn_width
        return 8 * math.ceil(self.width / 3) if self.gated else 4 * self.width

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layer has a second, gating projection."""
        return self.activation in ("swiglu", "geglu")

    @property
    def num_encoder_blocks(self) -> int:
        """Blocks that see both directions."""
        if self.family == "decoder":
            return 0
        if self.family == "encoder":
            return self.depth
        return self.encoder_depth if self.encoder_depth is not None else self.depth

    @property
    def num_decoder_blocks(self) -> int:
        """Causal blocks."""
        return 0 if self.family == "encoder" else self.depth

    @property
    def norm_at_end(self) -> bool:
        """Whether a norm follows the last block of each stack."""
        return self.norm_placement == "pre" if self.final_norm is None else self.final_norm

    def replace(self, **changes: Any) -> TransformerConfig:
        """Return a copy with `changes`, validated again."""
        return dataclasses.replace(self, **changes)
