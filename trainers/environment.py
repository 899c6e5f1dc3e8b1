"""What a training ran with, and settings of the process that make it fast."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import search_spaces
import trainers
from nas.modules.activations import lookup

# glibc's mallopt parameters (malloc.h)
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def environment(device: torch.device, precision: str, activation: str) -> dict[str, str]:
    """Versions, code and device, recorded with every result.

    Args:
        device: of the training.
        precision: ``fp32`` or ``bf16``.
        activation: how the activation was computed; of a table also with which look-up.
    """
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "code": code_version(),
        "device": device.type,
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "precision": precision,
        "activation": f"table ({lookup.backend(device).name})" if activation == "table" else activation,
    }


@cache
def code_version() -> str:
    """A hash of the code that trains: the first 12 digits of the SHA-256 of its source files."""
    digest = hashlib.sha256()
    for folder in (Path(search_spaces.__path__[0]), Path(trainers.__path__[0]), Path(lookup.__file__).parents[1]):
        for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".c")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


_PACKAGES = ("torch", "torchvision", "ray", "optuna", "scikit-learn", "scipy", "numpy", "sympy", "pandas")


def machine() -> dict[str, Any]:
    """Versions and hardware of the machine that this process runs on, recorded with every study.

    The kernel's release is left out: no result depends on it, and stores are published.
    """
    return {
        "python": platform.python_version(),
        "system": "-".join(filter(None, (platform.system(), platform.machine(), *platform.libc_ver()))),
        "code": code_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "processor": _processor(),
        "cores": available_cores(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def keep_freed_memory() -> None:
    """Ask glibc to keep memory that is freed instead of returning it to the system.

    Activations are large and are allocated anew at every step; memory that comes from the system each time costs a page
    fault for every 4 KB. Other C libraries have no such call, and are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    for parameter, value in ((_M_MMAP_THRESHOLD, 1 << 30), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20)):
        mallopt(parameter, value)
