"""Forward and backward of activations beside F.silu, eager operators and torch.compile: speed and peak memory.

    python benchmarks/kernels.py [--elements 1048576] [--repeats 60] [--threads 0] [--device auto] [--json]

Each way takes turns with F.silu, so that whatever else the machine does hits both; a figure is the shortest of the
repeats, and "x silu" the speed to F.silu's in the same turns and dtype. Memory is by how much the peak of a process of
its own (of torch's allocator on a GPU) exceeds what it held before a forward and a backward pass, in sizes of the
input. What compiled code takes to load counts in it. GB/s counts what has to be read and written: x and y forward; x,
dy and dx backward.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.activation import Activation
from search_spaces.compile import ExpressionActivation
from search_spaces.parser import parse
from trainers.environment import environment, keep_freed_memory
from trainers.run import pick_device

CHANNELS = 64
FUNCTIONS = {
    "SiLU": ("x * sigmoid(x)", {}),
    "GELU": ("0.5 * x * (1 + erf(0.7071067811865476 * x))", {}),
    "costly": ("atan(x) * sigmoid(1.7 * x) + 0.1 * x * exp(-x ** 2)", {}),
    "Swish, a beta": ("x * sigmoid(beta * x)", {"beta": "scalar"}),
    "Swish, 64 betas": ("x * sigmoid(beta * x)", {"beta": "channel"}),
}
WAYS = ("F.silu", "nas", "compile", "eager")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Act = Callable[[Tensor], Tensor]


def make(function: str, way: str, device: torch.device) -> Act:
    formula, settings = FUNCTIONS[function]
    if way == "F.silu":
        return F.silu
    if way == "nas":
        act = Activation(formula, channels=CHANNELS, **settings)
    else:
        act = ExpressionActivation(parse(formula), "channel" if "channel" in settings.values() else "scalar")
    act.to(device)(torch.ones(1, CHANNELS, 1, 1, device=device))
    return torch.compile(act, dynamic=False) if way == "compile" else act


def inputs(elements: int, dtype: str, device: torch.device) -> tuple[Tensor, Tensor]:
    shape = (elements // (CHANNELS * 32 * 32), CHANNELS, 32, 32)
    generator = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(shape, generator=generator).to(device, DTYPES[dtype]) for _ in range(2))
    return x.requires_grad_(), dy


def timed(run: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def once(act: Act, x: Tensor, dy: Tensor, device: torch.device) -> tuple[float, float]:
    """Seconds forward and backward."""
    wanted = [x, *(act.parameters() if isinstance(act, torch.nn.Module) else ())]
    forward, y = timed(lambda: act(x), device)
    backward, _ = timed(lambda: torch.autograd.grad(y, wanted, dy), device)
    return forward, backward


def speeds(function: str, dtype: str, args: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    x, dy = inputs(args.elements, dtype, device)
    return [against_silu(function, dtype, way, x, dy, args.repeats) for way in WAYS]


def against_silu(function: str, dtype: str, way: str, x: Tensor, dy: Tensor, repeats: int) -> dict[str, Any]:
    """One way and F.silu in turns."""
    acts = (F.silu, make(function, way, x.device))
    best = [[float("inf"), float("inf")] for _ in acts]
    for turn in range(repeats + 3):
        for i, act in enumerate(acts):
            found = once(act, x, dy, x.device)
            if turn >= 3:
                best[i] = [min(pair) for pair in zip(best[i], found, strict=True)]
    size = x.numel() * x.element_size()
    row: dict[str, Any] = {"function": function, "dtype": dtype, "way": way}
    for part, of_silu, own, passes in zip(("forward", "backward"), *best, (2, 3), strict=True):
        row |= {f"{part}_ms": round(1e3 * own, 3), f"{part}_x_silu": round(of_silu / own, 2)}
        row[f"{part}_gb_s"] = round(passes * size / own / 1e9, 1)
    return row


def peak(function: str, dtype: str, way: str, args: argparse.Namespace, device: torch.device) -> float:
    """Bytes, in this process, which must not have done anything like it before."""
    act = make(function, way, device)
    small, small_dy = inputs(CHANNELS * 32 * 32, dtype, device)
    once(act, small, small_dy, device)  # compiles, where it does
    x, dy = inputs(args.elements, dtype, device)
    if way == "compile":
        act(x.detach())  # for this size
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        once(act, x, dy, device)
        return torch.cuda.max_memory_allocated() - before
    before = _resident()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts anew
    once(act, x, dy, device)
    return _peak_resident() - before


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _peak_resident() -> int:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def peak_elsewhere(row: dict[str, Any], args: argparse.Namespace) -> float:
    """In sizes of the input."""
    case = json.dumps([row["function"], row["dtype"], row["way"]])
    shared = ["--elements", str(args.elements), "--device", args.device, "--threads", str(args.threads)]
    command = [sys.executable, __file__, *shared, "--peak", case]
    size = args.elements * DTYPES[row["dtype"]].itemsize
    return round(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / size, 2)


def table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'function':<16}{'dtype':<6}{'way':<9}{'forward':>9}{'x silu':>8}{'GB/s':>7}"]
    lines[0] += f"{'backward':>10}{'x silu':>8}{'GB/s':>7}{'memory':>8}"
    for row in rows:
        line = f"{row['function']:<16}{row['dtype']:<6}{row['way']:<9}"
        line += f"{row['forward_ms']:>7} ms{row['forward_x_silu']:>7}{row['forward_gb_s']:>7}"
        line += f"{row['backward_ms']:>8} ms{row['backward_x_silu']:>7}{row['backward_gb_s']:>7}{row['memory']:>8}"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=1_048_576)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own number")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--functions", nargs="+", choices=list(FUNCTIONS), default=list(FUNCTIONS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = pick_device(args.device)
    if args.peak:
        function, dtype, way = json.loads(args.peak)
        print(peak(function, dtype, way, args, device))
        return
    keep_freed_memory()  # or page faults, which hit now one way and now another, would be most of what is measured
    rows = [row for function in args.functions for dtype in DTYPES for row in speeds(function, dtype, args, device)]
    for row in rows:
        row["memory"] = peak_elsewhere(row, args)
    about = environment(device, "fp32", "") | {"elements": args.elements, "threads": torch.get_num_threads()}
    print(json.dumps({"rows": rows, "about": about}, indent=2) if args.json else f"{table(rows)}\n\n{about}")


if __name__ == "__main__":
    main()
