"""What ``nas doctor`` finds on this machine: what there is, what is missing, what that costs and how to get it.

Without starting Ray, whose machines are looked at by ``nas.cluster.preflight``; it is quick.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch
from rich.table import Table
from rich.text import Text
from torch.nn import functional as F

from nas import __version__
from nas.modules.activations import build, generated, native
from nas.modules.activations.build import NoCompiler
from search_spaces.kernel_source import kernel_source
from search_spaces.parser import parse
from trainers.environment import machine
from trainers.run import pick_device

SHARED_MEMORY = Path("/dev/shm")
SHARED_BYTES = 64 << 20
"""So much Ray wants there."""
DISK_BYTES = 2 << 30
_SECONDS = 0.3
"""So long precisions are measured."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        about: what.
        found: what there is.
        missing: what there is not, what that costs, and how to get it; one line each.
        faults: what stops a run, and how to mend it; one line each.
        hint: how to find out more.
    """

    about: str
    found: str
    missing: Sequence[str] = ()
    faults: Sequence[str] = ()
    hint: str = ""


def look_around(*, hints: bool = True) -> list[Finding]:
    """Everything; with ``hints``, or without where somebody rehearses already."""
    looks = (versions, cores, gpus, compiler, torch_compile, bf16, folders, data, ray, extras)
    return [found if hints else replace(found, hint="") for found in (look() for look in looks)]


def versions() -> Finding:
    about = machine()
    ours = f"nas {__version__} (code {about['code']})"
    return Finding(
        "versions", f"{ours}, python {about['python']}, torch {torch.__version__}, ray {about['packages']['ray']}"
    )


def cores() -> Finding:
    about, threads = machine(), torch.get_num_threads()
    limit, missing = os.environ.get("OMP_NUM_THREADS"), []
    if limit and threads < about["cores"]:
        missing.append(
            f"OMP_NUM_THREADS={limit}: activations in your own models and searches with executor=inline leave cores "
            "idle; unset it"
        )
    return Finding("cores", f"{about['cores']} of {about['processor'].strip()}; torch's threads: {threads}", missing)


def gpus() -> Finding:
    if torch.cuda.is_available():
        each = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return Finding("GPUs", ", ".join(f"{gpu.name}, {gpu.total_memory / 1e9:.0f} GB" for gpu in each))
    missing = []
    if shutil.which("nvidia-smi") is not None:
        why = (
            "is built for CPUs; install its build for CUDA"
            if torch.version.cuda is None
            else f"wants CUDA {torch.version.cuda}; compare nvidia-smi's, and look at CUDA_VISIBLE_DEVICES"
        )
        missing.append(
            f"nvidia-smi is here, but torch sees no GPU and trains on the CPU: torch {torch.__version__} {why}"
        )
    return Finding("GPUs", "none; trainings run on the CPU, one a core", missing)


def compiler() -> Finding:
    """Whether C is built here. What is built stays in the cache."""
    silu = kernel_source(parse("x * sigmoid(x)"))
    assert silu is not None  # every operator of it has a kernel
    built, missing = [], []
    attempts: dict[str, tuple[Callable[[], object], str]] = {
        "kernels of activations": (lambda: generated.kernel(silu[0]), "nas.Activation is slower on CPUs"),
        "look-up of bf16 activations": (native.library, "searches in bf16 are slower on CPUs"),
    }
    for what, (attempt, cost) in attempts.items():
        try:
            attempt()
            built.append(what)
        except NoCompiler as error:
            missing.append(f"no {what} ({error}): {cost}; install gcc and libc's headers (apt install gcc libc6-dev)")
    return Finding("C compiler", f"builds the {' and the '.join(built)}" if built else "builds nothing", missing)


def torch_compile() -> Finding:
    """Whether it has what it needs on a CPU; to try it would take half a minute."""
    wanted = [os.environ["CXX"].split()[0]] if os.environ.get("CXX", "").strip() else ["g++", "clang++"]
    header = Path(sysconfig.get_path("include")) / "Python.h"
    cost = "torch.compile fails on CPUs, and with it fused=True of exported files"
    missing = []
    if not any(shutil.which(name) for name in wanted):
        missing.append(f"no C++ compiler ({' or '.join(wanted)}): {cost}; install one (apt install g++)")
    if not header.is_file():
        missing.append(f"no {header}: {cost}; install Python's headers (apt install python3-dev)")
    what = "lacks what it needs" if missing else "a C++ compiler and Python's headers are here (not tried)"
    return Finding("torch.compile", what, missing)


def bf16() -> Finding:
    device = pick_device("auto")
    with _one_thread():  # as a trial has on a CPU; several would wait for each other on a machine that is busy
        seconds = convolution_seconds(device)
    ratio = seconds[torch.float32] / seconds[torch.bfloat16]
    return Finding(
        "bf16", f"{ratio:.1f} x the speed of float32 in a convolution; a search measures its own model, and chooses"
    )


def convolution_seconds(device: torch.device) -> dict[torch.dtype, float]:
    """Of a 3x3 convolution, forward and backward, in both precisions: the fastest of some, taking turns."""
    made = {dtype: _convolution(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    seconds: dict[torch.dtype, list[float]] = {dtype: [] for dtype in made}
    begin, turns = time.perf_counter(), 0
    while turns < 3 or (time.perf_counter() - begin < _SECONDS and turns < 50):
        for dtype, step in made.items():
            start = time.perf_counter()
            step().item()  # waits for the device
            seconds[dtype].append(time.perf_counter() - start)
        turns += 1
    return {dtype: min(each[1:]) for dtype, each in seconds.items()}  # the first one chooses algorithms


def _convolution(device: torch.device, dtype: torch.dtype) -> Callable[[], torch.Tensor]:
    x = torch.randn(32, 32, 16, 16, device=device, dtype=dtype, requires_grad=True)
    weight = torch.randn(32, 32, 3, 3, device=device, dtype=dtype)

    def step() -> torch.Tensor:
        (slopes,) = torch.autograd.grad(F.conv2d(x, weight, padding=1).square().sum(), x)
        return slopes.sum()

    return step


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def folders() -> Finding:
    """Where studies, and what is built, go."""
    free, cache, missing, faults = shutil.disk_usage(".").free, build.folder(), [], []
    if free < DISK_BYTES:
        missing.append(
            f"{free / 1e9:.1f} GB are free here: a run whose disk is full ends early; make room, or give --run DIR"
        )
    runs = Path("runs") if Path("runs").exists() else Path()
    if not (runs.is_dir() and os.access(runs, os.W_OK)):
        faults.append(f"{runs.absolute()} cannot be written: a search has no place for its study; give --run DIR")
    kept = not cache.name.startswith(build.SCRATCH)
    if not kept:
        missing.append(
            "the cache cannot be written: every process builds its kernels anew; set XDG_CACHE_HOME to a folder that "
            "can"
        )
    where = f"kept in {_short(cache)}" if kept else "not kept"
    return Finding("disk", f"{free / 1e9:.0f} GB free here; kernels are {where}", missing, faults)


def data() -> Finding:
    missing = []
    if find_spec("pydoc_data") is None or find_spec("pydoc_data.topics") is None:
        missing.append("no pydoc_data.topics: nas search pydoc_gpt fails; take a whole Python, or data.name=text")
    here = "digits" if missing else "digits and pydoc"
    return Finding(
        "data sets", f"{here}, which need no files", missing, hint="those of a configuration: nas doctor CONFIG"
    )


def ray() -> Finding:
    """Ray starts with a search: trying it would take longer than all the rest."""
    faults = []
    if SHARED_MEMORY.is_dir() and (free := shutil.disk_usage(SHARED_MEMORY).free) < SHARED_BYTES:
        faults.append(
            f"{free >> 20} MB are free in {SHARED_MEMORY}, Ray wants {SHARED_BYTES >> 20}: searches fail, but with "
            "executor=inline; in Docker: --shm-size=1g"
        )
    hint = "to rehearse one: nas doctor CONFIG, or --address of a cluster"
    return Finding("Ray", "starts with a search", faults=faults, hint=hint)


_ONNX = ("onnx", "onnxscript", "onnxruntime")
EXTRAS = {
    "cluster": (("aiohttp", "grpc"), "nas submit, and ray:// addresses", "'ray[client,default]'"),
    "dashboard": (("dash",), "nas dashboard", "dash"),
    "onnx": (
        ("onnx", "onnxscript", "onnxruntime"),
        "nas export --onnx, and nas.to_onnx",
        "onnx onnxscript onnxruntime",
    ),
    "mlflow": (("mlflow",), "loggers=[mlflow]", "mlflow-skinny"),
    "wandb": (("wandb",), "loggers=[wandb]", "wandb"),
}
"""By name: the modules that it brings, what needs it, and the packages. These are named rather than the extra, since
the package index knows another project as nas."""


def extras() -> Finding:
    """What is optional."""
    missing = {
        name: f"no {name}: {use} {'need' if ' and ' in use else 'needs'} it; pip install {packages}"
        for name, (modules, use, packages) in EXTRAS.items()
        if any(find_spec(module) is None for module in modules)
    }
    here = [name for name in EXTRAS if name not in missing]
    return Finding("extras", ", ".join(here) or "none", list(missing.values()))


def as_table(findings: Sequence[Finding]) -> Table:
    """A row each, below it what is missing."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(finding.about, Text("; ".join(filter(None, (finding.found, finding.hint)))))
        style = "dim" if finding.about == "extras" else "yellow"
        for line in finding.missing:
            table.add_row("", Text(line, style=style))
    return table


def _short(path: Path) -> str:
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)
