"""What is predicted from a batch of tokens: inputs, targets and which positions count; knows no model and no optimiser.

What is taken out of a sequence is a pure function of (objective's seed, step, the sequence's own tokens), by integer
hashing instead of a generator: the same on every device, in every batch that holds the sequence, and after a restart.
Shapes: B batch, T tokens, S source tokens, N noise tokens, P spans.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from models.objective_config import ObjectiveConfig, lengths


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What a model reads and what it must predict."""

    inputs_BT: Tensor
    """Token ids that the model (the decoder, where there are two sides) reads."""
    targets_BT: Tensor
    """Token ids to predict at each position."""
    mask_BT: Tensor | None = None
    """True where a position counts; None: everywhere."""
    source_BS: Tensor | None = None
    """Token ids that the encoder of an encoder-decoder reads."""


def make_examples(tokens_BT: Tensor, objective: ObjectiveConfig, *, step: int = 0) -> Examples:
    """Return the examples that an objective makes of (B, T + 1) token ids.

    Causal LM reads the first T and predicts the last T; the others take the first T tokens. `step` varies what is taken
    out of a sequence that is seen again; validation keeps it at zero.
    """
    if objective.name == "causal":
        return Examples(inputs_BT=tokens_BT[:, :-1], targets_BT=tokens_BT[:, 1:])
    make = {"masked": masked, "span": span_corruption, "infilling": infilling}[objective.name]
    return make(tokens_BT[:, :-1].contiguous(), objective, step)


def masked(tokens_BT: Tensor, objective: ObjectiveConfig, step: int) -> Examples:
    """Return masked-LM examples: a fixed number of positions, shown as mask, as a random token or as they are."""
    counts, keys_B1 = lengths(objective, tokens_BT.shape[1]), row_keys(tokens_BT, objective.seed, step)
    chosen_BT = smallest(hashes(keys_B1, tokens_BT.shape[1], stream=1), counts.noise)
    fate_BT = uniforms(keys_B1, tokens_BT.shape[1], stream=2)
    random_BT = hashes(keys_B1, tokens_BT.shape[1], stream=3).remainder(objective.num_ordinary)
    hidden_BT = chosen_BT & (fate_BT < objective.mask_fraction)
    swapped_BT = chosen_BT & ~hidden_BT & (fate_BT < objective.mask_fraction + objective.random_fraction)
    inputs_BT = torch.where(swapped_BT, random_BT, tokens_BT).masked_fill(hidden_BT, objective.mask_id)
    return Examples(inputs_BT=inputs_BT, targets_BT=tokens_BT, mask_BT=chosen_BT)


def span_corruption(tokens_BT: Tensor, objective: ObjectiveConfig, step: int) -> Examples:
    """Return T5's examples: spans of at least one token, apart from each other, each replaced by its own sentinel.

    Kept and taken tokens are cut into as many non-empty parts each, uniformly at random, and alternate; the sequence
    begins with a kept part and ends with a taken one.
    """
    batch, length = tokens_BT.shape
    counts, keys_B1 = lengths(objective, length), row_keys(tokens_BT, objective.seed, step)
    kept_BP = composition(keys_B1, length - counts.noise, counts.spans, stream=1)
    taken_BP = composition(keys_B1, counts.noise, counts.spans, stream=2)
    starts_BP = (kept_BP + taken_BP).cumsum(1) - taken_BP
    noise_BT = spans_to_mask(starts_BP, taken_BP, length)
    sentinels_BP = objective.first_sentinel + torch.arange(counts.spans, device=tokens_BT.device).expand(batch, -1)
    source_BS = replace_spans(tokens_BT, noise_BT, starts_BP, sentinels_BP)
    end_B1 = torch.full((batch, 1), objective.end_id, dtype=tokens_BT.dtype, device=tokens_BT.device)
    first_BP = taken_BP.cumsum(1) - taken_BP
    noise_BN = tokens_BT[noise_BT].view(batch, counts.noise)
    nothing_BN = torch.zeros_like(noise_BN, dtype=torch.bool)
    targets_BT = torch.cat((replace_spans(noise_BN, nothing_BN, first_BP, sentinels_BP), end_B1), dim=1)
    return Examples(inputs_BT=shifted(targets_BT, objective.start_id), targets_BT=targets_BT, source_BS=source_BS)


def infilling(tokens_BT: Tensor, objective: ObjectiveConfig, step: int) -> Examples:
    """Return BART's examples: spans, each replaced by one mask token, an empty one inserting a mask; all is predicted.

    Span lengths are Poisson given that they add up to the noise, which is the multinomial distribution, so that every
    sequence has as many masks and as many tokens left.
    """
    batch, length = tokens_BT.shape
    counts, keys_B1 = lengths(objective, length), row_keys(tokens_BT, objective.seed, step)
    owner_BN = hashes(keys_B1, counts.noise, stream=1).remainder(counts.spans)
    taken_BP = torch.zeros(batch, counts.spans, dtype=torch.long, device=tokens_BT.device)
    taken_BP.scatter_add_(1, owner_BN, torch.ones_like(owner_BN))
    gap_BP = hashes(keys_B1, counts.spans, stream=2).remainder(length - counts.noise + 1).sort(dim=1).values
    starts_BP = gap_BP + taken_BP.cumsum(1) - taken_BP
    noise_BT = spans_to_mask(starts_BP, taken_BP, length)
    masks_BP = torch.full_like(starts_BP, objective.mask_id)
    source_BS = replace_spans(tokens_BT, noise_BT, starts_BP, masks_BP)
    return Examples(inputs_BT=shifted(tokens_BT, objective.start_id), targets_BT=tokens_BT, source_BS=source_BS)


def shifted(targets_BT: Tensor, start_id: int) -> Tensor:
    """Return the decoder's input: the start token, then all targets but the last."""
    inputs_BT = targets_BT.roll(1, dims=1)
    inputs_BT[:, 0] = start_id
    return inputs_BT


def composition(keys_B1: Tensor, total: int, parts: int, *, stream: int) -> Tensor:
    """Return (B, parts) positive numbers that add up to `total`, uniform over all ways to do so."""
    cuts_BT = smallest(hashes(keys_B1, total - 1, stream=stream), parts - 1)
    part_BT = torch.nn.functional.pad(cuts_BT.long().cumsum(1), (1, 0))
    sizes_BP = torch.zeros(keys_B1.shape[0], parts, dtype=torch.long, device=keys_B1.device)
    return sizes_BP.scatter_add_(1, part_BT, torch.ones_like(part_BT))


def spans_to_mask(starts_BP: Tensor, sizes_BP: Tensor, length: int) -> Tensor:
    """Return (B, length): True inside the spans [start, start + size)."""
    edges_BT = torch.zeros(starts_BP.shape[0], length + 1, dtype=torch.long, device=starts_BP.device)
    edges_BT.scatter_add_(1, starts_BP, torch.ones_like(starts_BP))
    edges_BT.scatter_add_(1, starts_BP + sizes_BP, -torch.ones_like(starts_BP))
    return edges_BT.cumsum(1)[:, :-1] > 0


def replace_spans(tokens_BT: Tensor, noise_BT: Tensor, starts_BP: Tensor, fillers_BP: Tensor) -> Tensor:
    """Return the kept tokens in order, with one filler before position `start` for each span.

    Every row has the same number of kept tokens and of spans, so that the result is (B, kept + P). Starts are sorted.
    """
    batch, length = tokens_BT.shape
    inserted_BT = torch.zeros(batch, length + 1, dtype=torch.long, device=tokens_BT.device)
    inserted_BT.scatter_add_(1, starts_BP, torch.ones_like(starts_BP))
    kept_BT = ~noise_BT
    kept_before_BT = torch.nn.functional.pad(kept_BT.long().cumsum(1), (1, 0))
    num_out = tokens_BT.shape[1] - int(noise_BT[0].sum()) + starts_BP.shape[1]
    # Taken tokens are written to one extra column, which is cut off.
    place_BT = (kept_before_BT[:, :-1] + inserted_BT.cumsum(1)[:, :-1]).masked_fill(noise_BT, num_out)
    out_BS = torch.zeros(batch, num_out + 1, dtype=tokens_BT.dtype, device=tokens_BT.device)
    out_BS.scatter_(1, place_BT, tokens_BT)
    order_P = torch.arange(starts_BP.shape[1], device=tokens_BT.device)
    out_BS.scatter_(1, kept_before_BT.gather(1, starts_BP) + order_P, fillers_BP.to(tokens_BT.dtype))
    return out_BS[:, :-1]


def smallest(values_BT: Tensor, count: int) -> Tensor:
    """Return (B, T): True at the `count` smallest values of each row, by value and then by position."""
    chosen_BT = torch.zeros_like(values_BT, dtype=torch.bool)
    return chosen_BT.scatter_(1, values_BT.argsort(dim=1, stable=True)[:, :count], True)


def row_keys(tokens_BT: Tensor, seed: int, step: int) -> Tensor:
    """Return one (B, 1) key for each row from its tokens, the seed and the step."""
    place_T = torch.arange(1, tokens_BT.shape[1] + 1, device=tokens_BT.device)
    content_B1 = mix(tokens_BT + (place_T << 32)).sum(1, keepdim=True)
    return mix(content_B1 ^ int(mix(torch.tensor(seed * 1_000_003 + step))))


def hashes(keys_B1: Tensor, count: int, *, stream: int) -> Tensor:
    """Return (B, count) uniform integers in [0, 2^62), independent between streams."""
    return mix(keys_B1 + counters(count, stream, keys_B1.device)) & ((1 << 62) - 1)


@functools.lru_cache(maxsize=64)
def counters(count: int, stream: int, device: torch.device) -> Tensor:
    """Return the mixed numbers of a stream's positions, kept between steps."""
    return mix(torch.arange(count, device=device) + (stream << 40))


def uniforms(keys_B1: Tensor, count: int, *, stream: int) -> Tensor:
    """Return (B, count) uniform float32 numbers in [0, 1)."""
    return (hashes(keys_B1, count, stream=stream) >> 38).float() / 2**24


def mix(x: Tensor) -> Tensor:
    """Return the finaliser of splitmix64 (Steele et al. 2014) of int64 numbers, modulo 2^64."""
    x = x + -7046029254386353131
    x = (x >> 30).bitwise_and_((1 << 34) - 1).bitwise_xor_(x).mul_(-4658895280553007687)
    x = (x >> 27).bitwise_and_((1 << 37) - 1).bitwise_xor_(x).mul_(-7723592293110705685)
    return (x >> 31).bitwise_and_((1 << 33) - 1).bitwise_xor_(x)
