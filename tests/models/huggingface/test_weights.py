"""Agreement with independent implementations: Hugging Face's models, with every parameter drawn at random."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from models.config.transformer import TransformerConfig
from models.errors import UserError
from models.huggingface.weights import load_huggingface, save_huggingface
from models.modules.transformer import Transformer

transformers = pytest.importorskip("transformers", reason="the oracle `transformers` is not installed")

V, B, T = 67, 2, 12


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        yield


def gpt2() -> Any:
    fields = {"vocab_size": V, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**fields))


def bert() -> Any:
    fields = {"vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    return transformers.BertForMaskedLM(
        transformers.BertConfig(**fields, intermediate_size=64, max_position_embeddings=16)
    )


def t5(**fields: Any) -> Any:
    shape = {"vocab_size": V, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**shape, **fields))


def llama(**fields: Any) -> Any:
    shape = {"vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.LlamaConfig(**shape, intermediate_size=48, max_position_embeddings=16, **fields)
    return transformers.LlamaForCausalLM(config)


def mpt() -> Any:
    fields = {"vocab_size": V, "d_model": 48, "n_layers": 2, "n_heads": 6, "max_seq_len": 16}
    return transformers.MptForCausalLM(transformers.MptConfig(**fields))


MODELS = {
    "gpt2": gpt2,
    "bert": bert,
    "t5": t5,
    "t5-gated-unscaled": lambda: t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "llama": llama,
    "llama-grouped": lambda: llama(num_key_value_heads=2),
    "mpt": mpt,
}


def randomised(model: Any) -> Any:
    """Draw every parameter, gains and biases too, so that no mistake hides behind a zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
            if parameter.ndim == 1:
                parameter.add_(0.5)
    return model.eval()


def tokens(seed: int) -> torch.Tensor:
    return torch.randint(0, V, (B, T), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def both_logits(theirs: Any, ours: Transformer) -> tuple[torch.Tensor, torch.Tensor]:
    x_BT, y_BS = tokens(0), tokens(1)
    mask_BT = torch.ones(B, T, dtype=torch.bool)
    mask_BT[1, 8:] = False
    if ours.config.family == "encoder-decoder":
        expected = theirs(input_ids=y_BS, attention_mask=mask_BT.long(), decoder_input_ids=x_BT).logits
        return expected, ours.eval()(x_BT, source_BS=y_BS, source_mask_BS=mask_BT)
    expected = theirs(input_ids=x_BT, attention_mask=mask_BT.long()).logits
    return expected[mask_BT], ours.eval()(x_BT, mask_BT=mask_BT)[mask_BT]


@pytest.mark.parametrize("name", MODELS)
def test_logits_agree_with_hugging_face_and_weights_return_unchanged(name: str, tmp_path: Path) -> None:
    theirs = randomised(MODELS[name]())
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_huggingface(tmp_path / "theirs")
    expected, got = both_logits(theirs, ours)
    assert expected.std() > 0.05
    assert (expected - got).abs().max() <= 1e-5 * max(1.0, expected.abs().max().item())
    save_huggingface(ours, tmp_path / "back", kind=name.split("-")[0])
    back = type(theirs).from_pretrained(tmp_path / "back").eval()
    assert torch.equal(both_logits(back, ours)[0], expected)


def test_a_bert_without_a_head_keeps_its_pooler(tmp_path: Path) -> None:
    theirs = randomised(transformers.BertModel(bert().config))
    theirs.save_pretrained(tmp_path)
    ours = load_huggingface(tmp_path).eval()
    with torch.no_grad():
        expected, states_BTD = theirs(tokens(0)), ours(tokens(0))
    assert (expected.last_hidden_state - states_BTD).abs().max() <= 1e-5
    assert (expected.pooler_output - ours.pool(states_BTD)).abs().max() <= 1e-5


def test_a_config_that_a_format_cannot_express_is_an_error(tmp_path: Path) -> None:
    config = TransformerConfig(vocab_size=V, width=32, depth=1, num_heads=4, context=8, positions="alibi", bias=True)
    with pytest.raises(UserError, match="gpt2 checkpoint cannot express"):
        save_huggingface(Transformer(config), tmp_path, kind="gpt2")
    with pytest.raises(UserError, match=r"no config\.json"):
        load_huggingface(tmp_path / "absent")
