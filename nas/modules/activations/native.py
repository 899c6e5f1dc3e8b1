"""The table look-ups of ``gather.c``: compiled once a machine with its C compiler, and called through ctypes.

The library is kept in the user's cache (``$XDG_CACHE_HOME/nas`` or ``~/.cache/nas``) under a name made of the source,
the compiler and the processor, so that a home shared by several machines holds one for each.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

_SOURCE = Path(__file__).with_name("gather.c")
_FLAGS = ("-O3", "-std=c99", "-shared", "-fPIC")
_SECONDS = 120
_FUNCTIONS = {
    "nas_forward": (3, 1),
    "nas_backward": (4, 1),
    "nas_sum": (3, 1),
    "nas_outside": (1, 3),
    "nas_moments": (3, 2),
    "nas_norm_forward": (6, 4),
    "nas_norm_slopes": (11, 3),
    "nas_norm_backward": (7, 2),
}
"""What gather.c exports: its pointers and its counts, in this order."""
_RESULTS = {"nas_sum": ctypes.c_double, "nas_outside": ctypes.c_int, "nas_norm_forward": ctypes.c_int}


class NoCompiler(RuntimeError):
    """There is no C compiler, or it cannot build the library."""


def forward(x: Tensor, values: Tensor) -> Tensor:
    """values[x] for dense bfloat16 ``x``; the result has the strides of ``x``."""
    y = torch.empty_like(x)
    library().nas_forward(x.data_ptr(), values.data_ptr(), y.data_ptr(), x.numel())
    return y


def backward(x: Tensor, slopes: Tensor, dy: Tensor) -> Tensor:
    """slopes[x] * dy; ``dy`` has the strides of ``x``."""
    dx = torch.empty_like(x)
    library().nas_backward(x.data_ptr(), slopes.data_ptr(), dy.data_ptr(), dx.data_ptr(), x.numel())
    return dx


def param_grad(x: Tensor, slopes: Tensor, dy: Tensor) -> Tensor:
    """The sum of slopes[x] * dy, float32 ()."""
    return torch.tensor(library().nas_sum(x.data_ptr(), slopes.data_ptr(), dy.data_ptr(), x.numel()))


def is_outside(x: Tensor, bits: range) -> bool:
    """Whether an element of dense ``x``, other than zero, has a magnitude whose bits are not in that range."""
    return bool(library().nas_outside(x.data_ptr(), bits.start, len(bits), x.numel()))


@cache
def library() -> ctypes.CDLL:
    """The loaded library, built if need be. Raises NoCompiler."""
    try:
        loaded = ctypes.CDLL(str(_built()))
    except OSError as error:
        raise NoCompiler(f"the built library cannot be loaded ({error})") from error
    for name, (pointers, counts) in _FUNCTIONS.items():
        function = getattr(loaded, name)
        function.argtypes = [ctypes.c_void_p] * pointers + [ctypes.c_int64] * counts
        function.restype = _RESULTS.get(name)
    return loaded


def _built() -> Path:
    compiler = _compiler()
    made_from = [_SOURCE.read_text(), *compiler, *_FLAGS, _processor()]
    name = hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:16]
    target = _folder() / f"gather-{name}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            fresh = Path(scratch) / target.name
            _compile(compiler, fresh)
            fresh.replace(target)  # at once, so that another process never loads half a library
    return target


def _compiler() -> list[str]:
    """The C compiler's command: that of $CC, or the machine's."""
    wanted = shlex.split(os.environ.get("CC", ""))
    if wanted and shutil.which(wanted[0]):
        return wanted
    if wanted:
        raise NoCompiler(f"CC={wanted[0]} is not found")
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    raise NoCompiler("no C compiler (cc, gcc or clang) is found")


def _compile(compiler: list[str], target: Path) -> None:
    """For this very processor if the compiler can, else for its family."""
    for extra in (("-march=native",), ()):
        command = [*compiler, *_FLAGS, *extra, str(_SOURCE), "-o", str(target)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoCompiler(f"{compiler[0]} does not run ({error})") from error
        if done.returncode == 0:
            return
    raise NoCompiler(f"{compiler[0]} fails: {(done.stderr.strip().splitlines() or ['no message'])[0][:200]}")


def _folder() -> Path:
    """The cache, or a folder of this process alone where that cannot be written."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "nas"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):
        pass
    folder = Path(tempfile.mkdtemp(prefix="nas-kernels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.platform() + platform.processor()
    known = ("model name", "flags", "Features", "CPU implementer", "CPU part")  # the latter three on ARM
    found = (next((line for line in lines if line.startswith(key)), "") for key in known)
    return "\n".join([platform.machine(), *found])
