"""Text out of a model: greedy, temperature, top-k, nucleus and beam search; batched, cached, one or two stacks.

Knows token ids only; tokenizers are the caller's. Shapes: B prompts, T tokens, S source tokens, V vocabulary, M beams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from models.config.checks import require_count, require_name
from models.errors import UserError
from models.modules.transformer import Caches, Transformer

Method = Literal["greedy", "sample", "beam"]
"""Ways to choose the next token."""
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How the next token is chosen, and when to stop."""

    method: Method = "greedy"
    """greedy, sample or beam."""
    max_new_tokens: int = 64
    """Tokens to generate at most."""
    temperature: float = 1.0
    """Divides the logits before sampling."""
    top_k: int | None = None
    """Sample among the k likeliest tokens only (Fan et al. 2018)."""
    top_p: float | None = None
    """Sample among the likeliest tokens that together reach this probability (nucleus, Holtzman et al. 2020)."""
    num_beams: int = 4
    """Hypotheses kept by beam search."""
    length_penalty: float = 0.0
    """Beams are ranked by log probability / length^penalty."""
    end_id: int | None = None
    """Token that ends a sequence; None: all run to the end."""
    seed: int = 0
    """Seed of sampling; the global random state is not used."""
    cached: bool = True
    """Keep keys and values between steps."""

    def __post_init__(self) -> None:
        require_name("generation method", self.method, METHODS)
        require_count("max_new_tokens", self.max_new_tokens)
        require_count("num_beams", self.num_beams)
        if not self.temperature > 0:
            raise UserError(f"temperature is {self.temperature!r}; give a positive number, or method 'greedy'")
        if self.top_k is not None:
            require_count("top_k", self.top_k)
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p!r}; give a probability above 0 and up to 1")


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What was generated for each prompt."""

    tokens_BT: Tensor
    """New token ids; after a sequence's end its end token is repeated."""
    lengths_B: Tensor
    """New tokens up to and with the end token."""
    log_probs_B: Tensor
    """Log probability in nats that the model gives to them."""


@torch.no_grad()
def generate(
    model: Transformer,
    prompt_BT: Tensor,
    config: GenerationConfig | None = None,
    *,
    prompt_mask_BT: Tensor | None = None,
    source_BS: Tensor | None = None,
    source_mask_BS: Tensor | None = None,
) -> Generated:
    """Continue prompts.

    Parameters
    ----------
    model : Transformer
        A decoder or an encoder-decoder, used in evaluation mode and left in the mode that it was in.
    prompt_BT : Tensor of int, shape (B, T)
        What the decoder has read so far; of an encoder-decoder the start token.
    config : GenerationConfig, optional
        How to choose; None: greedy.
    prompt_mask_BT : Tensor of bool, shape (B, T), optional
        True where a prompt token is real; prompts of unequal length are padded on the left.
    source_BS : Tensor of int, shape (B, S), optional
        What the encoder reads; an encoder-decoder needs it.
    source_mask_BS : Tensor of bool, shape (B, S), optional
        True where a source token is real.

    Returns
    -------
    Generated
        New tokens, their number and their log probability, for each prompt.

    Raises
    ------
    UserError
        If the model is an encoder, or if its learned positions end before the text does.
    """
    config = config if config is not None else GenerationConfig()
    check(model, prompt_BT, prompt_mask_BT, source_BS, config)
    was_training = model.training
    model.eval()
    try:
        memory_BSD = model.encode(source_BS, source_mask_BS) if source_BS is not None else None
        decoder = Decoder(model, prompt_BT, prompt_mask_BT, memory_BSD, source_mask_BS, cached=config.cached)
        return beam_search(decoder, config) if config.method == "beam" else sample(decoder, config)
    finally:
        model.train(was_training)


def check(
    model: Transformer, prompt_BT: Tensor, mask_BT: Tensor | None, source_BS: Tensor | None, config: GenerationConfig
) -> None:
    """Raise `UserError` unless the model can continue these prompts."""
    family, length = model.config.family, prompt_BT.shape[1] + config.max_new_tokens
    if family == "encoder" or model.head is None:
        raise UserError(
            f"a model of family {family!r} and head {model.config.head!r} cannot continue text; use a decoder"
        )
    if (source_BS is not None) != (family == "encoder-decoder"):
        raise UserError("an encoder-decoder needs source_BS, and no other model takes it")
    if prompt_BT.shape[1] < 1:
        raise UserError("a prompt has no token; begin with a start or end-of-document token")
    if model.config.positions == "learned" and length - 1 > model.config.context:
        raise UserError(
            f"prompt and new tokens make {length}, but the model has {model.config.context} learned positions; "
            f"ask for at most {model.config.context - prompt_BT.shape[1] + 1} new tokens"
        )
    if mask_BT is not None and not bool(mask_BT[:, -1].all()):
        raise UserError("prompts must be padded on the left: their last tokens must be real")


class Decoder:
    """Feeds tokens to a model and returns the logits of the next one, with or without caches."""

    def __init__(
        self,
        model: Transformer,
        prompt_BT: Tensor,
        mask_BT: Tensor | None,
        memory_BSD: Tensor | None,
        memory_mask_BS: Tensor | None,
        *,
        cached: bool,
    ) -> None:
        self.model, self.tokens_BT, self.mask_BT = model, prompt_BT, mask_BT
        self.memory_BSD, self.memory_mask_BS = memory_BSD, memory_mask_BS
        self.caches: Caches | None = model.new_caches() if cached else None
        self.num_read = 0

    def next_logits(self) -> Tensor:
        """Return (B, V) float32 logits of the token after those read and appended so far."""
        new_BT, position_ids_BT = self.tokens_BT[:, self.num_read :], None
        if self.mask_BT is not None:
            position_ids_BT = (self.mask_BT.long().cumsum(1) - 1).clamp(min=0)[:, self.num_read :]
        states_BTD = self.model.hidden(
            new_BT,
            mask_BT=self.mask_BT,
            position_ids_BT=position_ids_BT,
            memory_BSD=self.memory_BSD,
            source_mask_BS=self.memory_mask_BS,
            caches=self.caches,
        )
        if self.caches is not None:
            self.num_read = self.tokens_BT.shape[1]
        assert self.model.head is not None
        return self.model.head(states_BTD[:, -1:], self.model.tokens.weight)[:, 0].float()

    def append(self, tokens_B: Tensor) -> None:
        """Add one token to every sequence."""
        self.tokens_BT = torch.cat((self.tokens_BT, tokens_B[:, None]), dim=1)
        if self.mask_BT is not None:
            self.mask_BT = torch.cat((self.mask_BT, torch.ones_like(self.mask_BT[:, :1])), dim=1)

    def select(self, rows: Tensor) -> None:
        """Keep, reorder or repeat sequences."""
        self.tokens_BT = self.tokens_BT[rows]
        self.mask_BT = self.mask_BT[rows] if self.mask_BT is not None else None
        self.memory_BSD = self.memory_BSD[rows] if self.memory_BSD is not None else None
        self.memory_mask_BS = self.memory_mask_BS[rows] if self.memory_mask_BS is not None else None
        for pair in self.caches or []:
            for cache in pair:
                cache.select(rows)


def filter_logits(logits_BV: Tensor, *, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Return logits with all but the allowed tokens at -inf: the k likeliest, and of these the nucleus of mass p.

    The likeliest token always stays; the nucleus is the smallest set of likeliest tokens whose probability reaches p.
    """
    if top_k is not None and top_k < logits_BV.shape[-1]:
        least_B1 = logits_BV.topk(top_k, dim=-1).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < least_B1, float("-inf"))
    if top_p is not None and top_p < 1:
        sorted_BV, order_BV = logits_BV.sort(dim=-1, descending=True, stable=True)
        prob_BV = sorted_BV.softmax(-1)
        outside_BV = prob_BV.cumsum(-1) - prob_BV >= top_p
        logits_BV = logits_BV.masked_fill(torch.zeros_like(outside_BV).scatter(1, order_BV, outside_BV), float("-inf"))
    return logits_BV


def sample(decoder: Decoder, config: GenerationConfig) -> Generated:
    """Choose one token after the other: the likeliest, or one drawn at random."""
    num_prompts, prompt_length = decoder.tokens_BT.shape
    device = decoder.tokens_BT.device
    generator = torch.Generator().manual_seed(config.seed)
    ended_B = torch.zeros(num_prompts, dtype=torch.bool, device=device)
    lengths_B = torch.zeros(num_prompts, dtype=torch.long, device=device)
    log_probs_B = torch.zeros(num_prompts, device=device)
    for _ in range(config.max_new_tokens):
        logits_BV = decoder.next_logits()
        if config.method == "greedy":
            token_B = logits_BV.argmax(-1)
        else:
            kept_BV = filter_logits(logits_BV / config.temperature, top_k=config.top_k, top_p=config.top_p)
            token_B = torch.multinomial(kept_BV.softmax(-1).cpu(), 1, generator=generator)[:, 0].to(device)
        if config.end_id is not None:
            token_B = token_B.masked_fill(ended_B, config.end_id)
        log_prob_B = logits_BV.log_softmax(-1).gather(1, token_B[:, None])[:, 0]
        log_probs_B += log_prob_B.masked_fill(ended_B, 0.0)
        lengths_B += (~ended_B).long()
        decoder.append(token_B)
        if config.end_id is not None:
            ended_B = ended_B | (token_B == config.end_id)
            if bool(ended_B.all()):
                break
    return Generated(tokens_BT=decoder.tokens_BT[:, prompt_length:], lengths_B=lengths_B, log_probs_B=log_probs_B)


def beam_search(decoder: Decoder, config: GenerationConfig) -> Generated:
    """Return for each prompt the best of the hypotheses that beam search keeps.

    An ended hypothesis stays among the beams with its score; hypotheses are compared by their sum of log probabilities
    while searching, and by log probability / length^penalty at the end.
    """
    num_prompts, prompt_length = decoder.tokens_BT.shape
    num_beams, device = config.num_beams, decoder.tokens_BT.device
    first_B1 = torch.arange(num_prompts, device=device)[:, None] * num_beams
    decoder.select(torch.arange(num_prompts, device=device).repeat_interleave(num_beams))
    score_BM = torch.full((num_prompts, num_beams), float("-inf"), device=device)
    score_BM[:, 0] = 0.0
    ended_BM = torch.zeros(num_prompts, num_beams, dtype=torch.bool, device=device)
    length_BM = torch.zeros(num_prompts, num_beams, dtype=torch.long, device=device)
    for _ in range(config.max_new_tokens):
        log_prob_BMV = decoder.next_logits().log_softmax(-1).unflatten(0, (num_prompts, num_beams))
        if config.end_id is not None:
            log_prob_BMV = log_prob_BMV.masked_fill(ended_BM[..., None], float("-inf"))
            log_prob_BMV[..., config.end_id] = log_prob_BMV[..., config.end_id].masked_fill(ended_BM, 0.0)
        vocab = log_prob_BMV.shape[-1]
        score_BM, flat_BM = (score_BM[..., None] + log_prob_BMV).flatten(1).topk(num_beams, dim=1)
        parent_BM, token_BM = flat_BM // vocab, flat_BM % vocab
        ended_BM, length_BM = ended_BM.gather(1, parent_BM), length_BM.gather(1, parent_BM)
        length_BM = length_BM + (~ended_BM).long()
        decoder.select((first_B1 + parent_BM).flatten())
        decoder.append(token_BM.flatten())
        if config.end_id is not None:
            ended_BM = ended_BM | (token_BM == config.end_id)
            if bool(ended_BM.all()):
                break
    best_B = (score_BM / length_BM.clamp(min=1) ** config.length_penalty).argmax(1)
    rows_B = first_B1[:, 0] + best_B
    return Generated(
        tokens_BT=decoder.tokens_BT[rows_B, prompt_length:],
        lengths_B=length_BM.flatten()[rows_B],
        log_probs_B=score_BM.flatten()[rows_B],
    )
