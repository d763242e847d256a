"""Every convention gives its source's number to the last digit, for three published shapes.

The numbers were worked out by hand from the formulas of the sources: with M the blocks' matrices, V d one token table
and S = 12 L H Q T,

    gpt2          M = 84,934,656       V d = 38,597,376    S = 113,246,208      N = 124,439,808
    llama-7b      M = 6,476,005,376    V d = 131,072,000   S = 3,221,225,472    N = 6,738,415,616
    chinchilla    M = 64,424,509,440   V d = 262,144,000   S = 16,106,127,360   N = 64,687,972,352
"""

from __future__ import annotations

import pytest

from models.config.accounting import params_total, training_flops
from models.config.presets import preset, relative_projection_params
from models.config.published_counts import CONVENTIONS, count_by_convention
from models.errors import UserError

HAND = {
    "gpt2": {
        "kaplan": (84_934_656, 509_607_936),
        "hoffmann": (124_439_808, 1_087_349_760),
        "6nd": (124_439_808, 746_638_848),
        "palm": (124_439_808, 859_885_056),
        "megatron": (124_475_904, 798_031_872),
        "torchtitan": (124_439_808, 855_166_464),
        "nanochat": (123_568_128, 854_654_976),
        "maxtext": (124_439_808, 797_815_296),
    },
    "llama-7b": {
        "kaplan": (6_476_005_376, 38_856_032_256),
        "hoffmann": (6_738_415_616, 43_668_996_096),
        "6nd": (6_738_415_616, 40_430_493_696),
        "palm": (6_738_415_616, 43_651_719_168),
        "megatron": (6_738_415_616, 41_253_076_992),
        "torchtitan": (6_738_415_616, 42_865_287_168),
        "nanochat": (6_607_077_376, 42_863_689_728),
        "maxtext": (6_738_415_616, 41_253_076_992),
    },
    "chinchilla-70b": {
        "kaplan": (64_424_509_440, 386_547_056_640),
        "hoffmann": (64_687_972_352, 405_893_283_840),
        "6nd": (64_687_972_352, 388_127_834_112),
        "palm": (64_687_972_352, 404_233_961_472),
        "megatron": (64_687_972_352, 396_172_984_320),
        "torchtitan": (64_687_972_352, 404_233_961_472),
        "nanochat": (64_686_653_440, 404_226_048_000),
        "maxtext": (64_687_972_352, 396_172_984_320),
    },
}
"""N and training FLOPs per token."""


@pytest.mark.parametrize("shape", HAND)
def test_every_convention_counts_a_published_shape_to_the_last_digit(shape: str) -> None:
    found = count_by_convention(preset(shape))
    assert {name: (one.params, one.flops_per_token) for name, one in found.items() if name != "isoflop"} == HAND[shape]


def test_our_own_row_is_what_the_accounting_counts() -> None:
    config = preset("gpt2")
    assert count_by_convention(config)["isoflop"].flops_per_token == training_flops(config, tokens=1)


def test_published_totals_come_out() -> None:
    chinchilla = preset("chinchilla-70b")
    assert params_total(chinchilla) + relative_projection_params(chinchilla) == pytest.approx(70e9, rel=0.005)
    # Chinchilla's budget is 5.76e23 FLOPs for 1.4e12 tokens (Hoffmann et al. 2022, table 3)
    assert 1.4e12 * count_by_convention(chinchilla)["hoffmann"].flops_per_token == pytest.approx(5.76e23, rel=0.02)


def test_palms_utilisation_with_and_without_attention_has_the_published_ratio() -> None:
    # PaLM 540B: 46.2 % with attention and 45.7 % without (Chowdhery et al. 2022, table 3); 540.35e9 parameters,
    # 118 layers, 48 heads of 256, 2048 tokens
    with_attention = 6 * 540.35e9 + 12 * 118 * 48 * 256 * 2048
    assert with_attention / (6 * 540.35e9) == pytest.approx(46.2 / 45.7, abs=0.001)


def test_every_convention_names_its_source_and_its_difference() -> None:
    assert next(iter(CONVENTIONS)) == "isoflop"
    for one in CONVENTIONS.values():
        assert one.source
        assert one.differs.endswith(".")


def test_a_model_with_an_encoder_is_refused() -> None:
    with pytest.raises(UserError, match="count decoders"):
        count_by_convention(preset("bert-base"))
