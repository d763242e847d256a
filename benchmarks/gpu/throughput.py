"""Training throughput and model-FLOPs utilisation in bf16, eager and compiled, beside bare PyTorch and others."""

from __future__ import annotations

import gc
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.bare import BareGPT
from benchmarks.gpu.setting import Setting
from benchmarks.models import hugging_face, litgpt, ours
from experiments.machine.hardware import is_out_of_memory, peak_flops_per_second
from models.config.accounting import training_flops
from models.config.presets import gpt2
from models.lit import LitTransformer

SHAPES = {
    "10M": {"width": 320, "depth": 6, "heads": 5, "vocab": 8192, "context": 1024, "batch": 32},
    "60M": {"width": 640, "depth": 10, "heads": 10, "vocab": 16384, "context": 1024, "batch": 32},
    "124M": {"width": 768, "depth": 12, "heads": 12, "vocab": 50304, "context": 1024, "batch": 16},
    "350M": {"width": 1024, "depth": 24, "heads": 16, "vocab": 50304, "context": 1024, "batch": 8},
    "1B": {"width": 1536, "depth": 32, "heads": 24, "vocab": 50304, "context": 1024, "batch": 4},
}
"""GPT-2s by their number of parameters; the batch is halved until it fits."""
DRY = {"tiny": {"width": 16, "depth": 1, "heads": 2, "vocab": 64, "context": 32, "batch": 2}}
Model = tuple[nn.Module, Callable[[Tensor], Tensor]]


def backend() -> str:
    """torch.compile's own on a GPU; on a CPU the one that traces and compiles nothing, since it is not timed there."""
    return "inductor" if torch.cuda.is_available() else "aot_eager"


def compiled(shape: dict[str, int]) -> Model:
    """Our model by torch.compile."""
    module, loss_of = ours(shape)
    assert isinstance(module, LitTransformer)
    module.compile_losses(backend())
    return module, loss_of


def replayed(shape: dict[str, int]) -> Model:
    """Our model by torch.compile, its steps replayed as CUDA graphs."""
    module, loss_of = ours(shape)
    assert isinstance(module, LitTransformer)
    module.compile_losses(backend(), cuda_graphs=torch.cuda.is_available())
    return module, loss_of


def bare(shape: dict[str, int]) -> Model:
    """Plain PyTorch, eager."""
    model = BareGPT(**{name: shape[name] for name in ("width", "depth", "heads", "vocab", "context")})
    return model, model


def bare_compiled(shape: dict[str, int]) -> Model:
    """Plain PyTorch by torch.compile."""
    model, _ = bare(shape)
    return model, torch.compile(model, backend=backend())


MODELS: dict[str, Callable[[dict[str, int]], Model]] = {
    "isoflop": ours,
    "isoflop compiled": compiled,
    "isoflop, CUDA graphs": replayed,
    "bare PyTorch": bare,
    "bare PyTorch compiled": bare_compiled,
    "transformers": hugging_face,
    "litgpt": litgpt,
}
REPEATS, STEPS = 5, 4
"""Blocks of steps whose median counts, and steps of a block."""


def flops_of_step(shape: dict[str, int]) -> float:
    """FLOPs of one training step by our own count."""
    config = gpt2(
        width=shape["width"],
        depth=shape["depth"],
        num_heads=shape["heads"],
        vocab_size=shape["vocab"],
        context=shape["context"],
    )
    return float(training_flops(config, tokens=shape["batch"] * shape["context"]))


def seconds_of_step(make: Callable[[dict[str, int]], Model], shape: dict[str, int], device: str) -> dict[str, float]:
    """Median seconds of a step in bf16, after those that compile, and the peak of memory."""
    torch.manual_seed(0)
    model, loss_of = make(shape)
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokens_BT = torch.randint(0, shape["vocab"], (shape["batch"], shape["context"] + 1), device=device)

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = loss_of(tokens_BT)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    for _ in range(3):
        step()
    wait()
    warm_up, blocks = time.perf_counter() - began, []
    for _ in range(REPEATS):
        began = time.perf_counter()
        for _ in range(STEPS):
            step()
        wait()
        blocks.append((time.perf_counter() - began) / STEPS)
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    return {"seconds": statistics.median(blocks), "warm_up_seconds": warm_up, "peak_memory_bytes": float(memory)}


def measured(name: str, shape: dict[str, int], device: str) -> dict[str, Any]:
    """One model at one shape; the batch is halved while memory does not suffice."""
    held = dict(shape)
    while True:
        try:
            found = seconds_of_step(MODELS[name], held, device)
            break
        except RuntimeError as error:
            if not is_out_of_memory(error) or held["batch"] == 1:
                return {"skipped": str(error).splitlines()[0]}
        finally:
            torch.compiler.reset()
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()
        held["batch"] //= 2
    peak = peak_flops_per_second(device, "bf16")
    rate = flops_of_step(held) / found["seconds"]
    return {
        "batch": held["batch"],
        "tokens_per_second": round(held["batch"] * held["context"] / found["seconds"], 1),
        "mfu": None if peak is None else round(rate / peak, 4),
        "warm_up_seconds": round(found["warm_up_seconds"], 2),
        "peak_memory_bytes": int(found["peak_memory_bytes"]),
    }


def run(setting: Setting) -> dict[str, Any]:
    """Every model at every shape, until the time of the part is spent."""
    began, result = time.monotonic(), {}
    for size, shape in (DRY if setting.is_dry else SHAPES).items():
        rows: dict[str, Any] = {}
        for name in MODELS:
            if name in ("transformers", "litgpt") and importlib.util.find_spec(name) is None:
                rows[name] = {"skipped": f"{name} is not installed"}
            elif time.monotonic() - began > 0.8 * setting.seconds:
                rows[name] = {"skipped": "the time of this part was spent"}
            else:
                rows[name] = measured(name, shape, setting.device)
        flops = flops_of_step(shape) / (shape["batch"] * shape["context"])
        result[size] = {"shape": shape, "flops_per_token": flops, "models": rows}
    return result
