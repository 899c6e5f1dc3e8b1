"""RoPE, attention and Infini-attention beside plain compositions, eager and compiled: speed and peak memory.

    python benchmarks/modules.py [--lengths 1024 4096 16384 65536] [--threads 2] [--device auto] [--json]

Every case is forward and backward, in processes of its own, one for time and one for memory, which take turns. Time is
the median of repeats that fill ``--seconds``, after a first that compiles. Memory is by how much the peak of a process
(of torch's allocator on a GPU) exceeds what it used before. The plain compositions are what one would write from the
papers' equations with matrix products and softmax; "x plain" is the speed to theirs in the same mode.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from nas.modules import Attention, InfiniAttention, RotaryEmbedding
from trainers.environment import environment
from trainers.run import pick_device

DIM, HEADS, SIZE, SEGMENT, WINDOW = 256, 4, 64, 2048, 1024
QUADRATIC = 4096
"""What holds all scores in memory is measured up to this length."""


class PlainRope(nn.Module):
    """Tables of cos and sin in float32, and the pairs (i, i + d/2) by slices and a concatenation."""

    def __init__(self, length: int) -> None:
        super().__init__()
        frequency = 10_000.0 ** (-torch.arange(0, SIZE, 2).float() / SIZE)
        angle = torch.outer(torch.arange(length).float(), frequency).repeat(1, 2)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, x: Tensor) -> Tensor:
        t = x.shape[-2]
        turned = torch.cat((-x[..., SIZE // 2 :], x[..., : SIZE // 2]), -1)
        return x * self.cos[:t] + turned * self.sin[:t]


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> Tensor:
    t = q.shape[-2]
    seen = torch.ones(t, t, dtype=torch.bool, device=q.device).tril()
    if window is not None:
        seen = seen.triu(1 - window)
    scores = (q @ k.transpose(-1, -2) / math.sqrt(SIZE)).masked_fill(~seen, -torch.inf)
    return scores.softmax(-1) @ v


class PlainAttention(nn.Module):
    def __init__(self, length: int, window: int | None = None) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(DIM, DIM, bias=False) for _ in range(4))
        self.rope = PlainRope(length)
        self.window = window

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (p(x).view(*x.shape[:2], HEADS, SIZE).transpose(1, 2) for p in (self.q, self.k, self.v))
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(x)
        y = softmax_attention(self.rope(q), self.rope(k), v, self.window)
        return self.out(y.transpose(1, 2).flatten(2))


class PlainInfini(PlainAttention):
    def __init__(self, length: int) -> None:
        super().__init__(SEGMENT)
        self.gate = nn.Parameter(torch.zeros(HEADS, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        m = z = None
        for q, k, v in zip(*(h.split(SEGMENT, -2) for h in self.heads(x)), strict=True):
            y = softmax_attention(self.rope(q), self.rope(k), v)
            sq, sk = (nn.functional.elu(h) + 1 for h in (q, k))
            if m is None:
                m, z = sk.transpose(-1, -2) @ v, sk.sum(-2)[..., None]
            else:
                g = self.gate.sigmoid()
                y = g * (sq @ m) / (sq @ z) + (1 - g) * y
                m, z = m + sk.transpose(-1, -2) @ (v - sk @ m / (sk @ z)), z + sk.sum(-2)[..., None]
            parts.append(y)
        return self.out(torch.cat(parts, -2).transpose(1, 2).flatten(2))


class Both(nn.Module):
    """Queries and keys rotated, as attention does it: with one table for both."""

    def __init__(self, rope: nn.Module) -> None:
        super().__init__()
        self.rope = rope

    def forward(self, qk: Tensor) -> Tensor:
        q, k = qk.unbind()
        if isinstance(self.rope, PlainRope):
            return torch.stack((self.rope(q), self.rope(k)))
        assert isinstance(self.rope, RotaryEmbedding)
        table = self.rope.table(q)
        return torch.stack((self.rope.rotate(q, table), self.rope.rotate(k, table)))


def rope() -> RotaryEmbedding:
    return RotaryEmbedding(SIZE)


CASES: dict[str, dict[str, Callable[[int], nn.Module]]] = {
    "rope": {
        "plain": lambda length: Both(PlainRope(length)),
        "half": lambda length: Both(rope()),
        "interleaved": lambda length: Both(RotaryEmbedding(SIZE, layout="interleaved")),
    },
    "attention": {
        "plain": PlainAttention,
        "Attention": lambda length: Attention(DIM, HEADS, rope=rope()),
        "Attention, 1 kv head": lambda length: Attention(DIM, HEADS, kv_heads=1, rope=rope()),
        "Attention, learned sinks": lambda length: Attention(DIM, HEADS, rope=rope(), learned_sinks=True),
    },
    "window": {
        "plain": lambda length: PlainAttention(length, WINDOW),
        "Attention, window": lambda length: Attention(DIM, HEADS, rope=rope(), window=WINDOW),
    },
    "infini": {
        "plain": PlainInfini,
        "Attention, to everything": lambda length: Attention(DIM, HEADS, rope=rope()),
        "InfiniAttention": lambda length: InfiniAttention(DIM, HEADS, SEGMENT, rope=rope()),
        "InfiniAttention, checkpointed": lambda length: InfiniAttention(
            DIM, HEADS, SEGMENT, rope=rope(), checkpoint_segments=True
        ),
    },
}


def case(group: str, variant: str, length: int, compiled: bool, device: torch.device) -> Callable[[], float]:
    """A forward and backward pass of one text, which gives its seconds."""
    torch.manual_seed(0)
    model = CASES[group][variant](length).to(device)
    if compiled:
        model.compile()
    shape = (2, 1, HEADS, length, SIZE) if group == "rope" else (1, length, DIM)
    x = torch.randn(shape, device=device, requires_grad=True)
    grad = torch.randn(shape, device=device)

    def run() -> float:
        start = time.perf_counter()
        model(x).backward(grad)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return run


def milliseconds(run: Callable[[], float], seconds: float) -> float:
    """Median of the repeats that fill so many seconds; the first, which compiles, counts only if it is long enough."""
    first = run()
    times = [first] if first > max(10.0, seconds) else [run()]
    while sum(times) < seconds:
        times.append(run())
    return 1000 * statistics.median(times)


def megabytes(run: Callable[[], float], device: torch.device) -> float | None:
    """By how much the peak of memory in use exceeds what is in use before; None where nothing says so."""
    if device.type == "cuda":
        run()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    if not Path("/proc/self/clear_refs").exists():
        return None
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak begins anew
    before = _resident("VmRSS")
    run()
    return (_resident("VmHWM") - before) / 1024


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def child(arguments: list[str], seconds: float) -> None:
    """What a process of its own does: one case's time or memory, as JSON."""
    what, group, variant, length, mode, device_name = arguments
    device = pick_device(device_name)
    run = case(group, variant, int(length), mode == "compiled", device)
    if what == "ms":
        print(json.dumps(milliseconds(run, seconds)))
        return
    warm = run if mode == "compiled" else case(group, variant, min(int(length), 64), False, device)
    warm()  # starts threads, and compiles
    print(json.dumps(megabytes(run, device)))


def in_a_process(arguments: list[str], threads: int, seconds: float) -> float | None:
    command = [sys.executable, __file__, "--threads", str(threads), "--seconds", str(seconds), "--case", *arguments]
    # glibc then gives tensors back at once, and memory in use is what tensors use; slower, so not where time is taken
    environment = os.environ | ({"MALLOC_MMAP_THRESHOLD_": "65536"} if arguments[0] == "mb" else {})
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr[-500:]}")
    result: float | None = json.loads(done.stdout.splitlines()[-1])
    return result


def rows(
    lengths: list[int], groups: list[str], modes: list[str], threads: int, seconds: float, device: str
) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for group in groups:
        for length in lengths:
            plain: dict[str, float] = {}
            for variant in CASES[group]:
                if length > QUADRATIC and (group == "attention" or (group, variant) == ("window", "plain")):
                    continue
                for mode in modes:
                    if mode == "compiled" and length > QUADRATIC:
                        continue  # fused kernels take nearly all of the time, compiled or not
                    arguments = [group, variant, str(length), mode, device]
                    ms = in_a_process(["ms", *arguments], threads, seconds)
                    mb = in_a_process(["mb", *arguments], threads, seconds)
                    assert ms is not None
                    if variant == "plain":
                        plain[mode] = ms
                    found.append(
                        {
                            "part": group,
                            "variant": variant,
                            "mode": mode,
                            "length": length,
                            "ms": round(ms, 2),
                            "mb": None if mb is None else round(mb, 1),
                            "speed_to_plain": round(plain[mode] / ms, 2) if mode in plain else None,
                        }
                    )
                    print(found[-1], file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", nargs="+", type=int, default=[1024, 4096, 16384, 65536])
    parser.add_argument("--parts", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--modes", nargs="+", choices=["eager", "compiled"], default=["eager", "compiled"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="that the repeats of a case fill")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--case", nargs=6, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.case:
        child(arguments.case, arguments.seconds)
        return
    device = pick_device(arguments.device)
    a = arguments
    found = rows(a.lengths, a.parts, a.modes, a.threads, a.seconds, a.device)
    report(found, environment(device, "fp32", ""), arguments.threads, arguments.json)


def report(found: list[dict[str, object]], about: dict[str, str], threads: int, as_json: bool) -> None:
    """Print a table, or JSON."""
    if as_json:
        print(json.dumps({"environment": about, "threads": threads, "rows": found}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in about.items() if value), f"threads {threads}", sep=", ")
    print(f"1 text, dim {DIM}, {HEADS} heads of {SIZE}, segment {SEGMENT}, window {WINDOW}; forward and backward\n")
    print(f"{'part':<10} {'variant':<30} {'mode':<9} {'length':>7} {'ms':>10} {'peak MB':>9} {'x plain':>8}")
    for r in found:
        mb, ratio = ("" if r[key] is None else r[key] for key in ("mb", "speed_to_plain"))
        print(
            f"{r['part']:<10} {r['variant']:<30} {r['mode']:<9} {r['length']:>7,} {r['ms']:>10,.2f} {mb:>9} {ratio:>8}"
        )


if __name__ == "__main__":
    main()
