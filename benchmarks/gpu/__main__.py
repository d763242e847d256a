"""What this checkout does on a GPU, in under eight minutes. `python -m benchmarks.gpu --out benchmarks/gpu.json`.

Needs torch, lightning and this checkout; transformers and litgpt are measured beside it where they are installed. Each
part runs in a process of its own under a limit of time, and is skipped by name where it cannot run; the record says on
what everything ran and is written after each part. `--dry-run` walks the same code on a CPU with tiny shapes: it
measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import sweeps, throughput
from benchmarks.gpu.setting import ROOT, Setting, Skipped, environment
from experiments.machine.hardware import commit, versions

PARTS: dict[str, tuple[Callable[[Setting], dict[str, Any]], float]] = {
    "throughput": (throughput.run, 170.0),
    "precision": (sweeps.precision, 60.0),
    "exactness": (sweeps.exactness, 60.0),
    "memory": (sweeps.memory, 40.0),
    "packing": (sweeps.packing, 60.0),
    "quickstart": (sweeps.quickstart, 150.0),
}
"""Name -> what it does, and its limit in seconds on a GPU."""
DRY_SECONDS = 240.0
"""Limit of every part in a dry run, on a machine that may be busy."""


def machine(device: str) -> dict[str, Any]:
    """On what it ran."""
    found = {"device": device, "processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "gpu_memory_bytes": properties.total_memory, "cuda": torch.version.cuda}
    return found


def carry_out(name: str, setting: Setting) -> None:
    """Do one part in this process and write result.json into its folder."""
    work, _ = PARTS[name]
    try:
        result = work(setting)
    except Skipped as reason:
        result = {"skipped": str(reason)}
    (setting.folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def in_process(name: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One part in a process of its own: its result, or why there is none."""
    _, seconds = PARTS[name]
    seconds = DRY_SECONDS if args.dry_run else seconds
    place = folder / name
    place.mkdir()
    words = [sys.executable, "-m", "benchmarks.gpu", "--part", name, "--folder", place, "--seconds", seconds]
    words += ["--device", args.device, *(["--dry-run"] if args.dry_run else [])]
    began = time.monotonic()
    try:
        ended = subprocess.run(
            [*map(str, words)], capture_output=True, text=True, timeout=seconds, env=environment(), check=False
        )
        problem = None if ended.returncode == 0 else ended.stderr.strip()[-1500:]
    except subprocess.TimeoutExpired:
        problem = f"it took more than its {seconds:.0f} s"
    result = {"failed": problem} if problem else json.loads((place / "result.json").read_text(encoding="utf-8"))
    return {"seconds_of_the_part": round(time.monotonic() - began, 1), **result}


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "gpu.json", help="record to write")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on a CPU: does every part run?")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda, or cpu in a dry run")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="these parts only")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.device = args.device or ("cpu" if args.dry_run else "cuda")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("this machine shows no CUDA device; add --dry-run to walk the code on a CPU")
    return args


def main() -> None:
    """Do every part and write the record after each."""
    args = parse()
    if args.part is not None:
        carry_out(args.part, Setting(device=args.device, is_dry=args.dry_run, folder=args.folder, seconds=args.seconds))
        return
    began = time.monotonic()
    record: dict[str, Any] = {
        "command": "python -m benchmarks.gpu" + (" --dry-run" if args.dry_run else ""),
        "is_dry_run": args.dry_run,
        "machine": machine(args.device),
        "versions": versions(),
        "commit": commit(),
        "parts": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in args.parts:
            record["parts"][name] = in_process(name, args, Path(folder))
            record["seconds"] = round(time.monotonic() - began, 1)
            args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            print(f"{name}: {json.dumps(record['parts'][name])[:300]}", flush=True)
    failed = [name for name, part in record["parts"].items() if "failed" in part]
    if failed:
        sys.exit(f"error: {', '.join(failed)} failed; {args.out} says how")


if __name__ == "__main__":
    main()
