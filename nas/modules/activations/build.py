"""C source to a loaded library: compiled once a machine with its C compiler, and called through ctypes.

Libraries are kept in the user's cache (``$XDG_CACHE_HOME/nas`` or ``~/.cache/nas``) under a name made of the source,
the headers, the compiler and the processor, so that a home shared by several machines holds one for each.
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
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch  # before any library of ours: its OpenMP is the one that they find

_HERE = Path(__file__).parent
_SECONDS = 120
SCRATCH = "nas-kernels-"
"""So begins the name of a folder that takes the place of the cache."""


class NoCompiler(RuntimeError):
    """There is no C compiler, or it cannot build a library."""


def build(name: str, source: str, attempts: Sequence[Sequence[str]]) -> ctypes.CDLL:
    """The library of this source.

    Args:
        name: the beginning of its file's name.
        source: C; it may include the headers beside this file.
        attempts: flags of the compiler; if it fails with them, the next ones are tried.

    Raises:
        NoCompiler: none of them works, or there is no compiler.
    """
    try:
        return ctypes.CDLL(str(_built(name, source, attempts)))
    except OSError as error:
        raise NoCompiler(f"the built library cannot be loaded ({error})") from error


def threads(elements: int) -> int:
    """How many threads work on so many elements: torch's, if each has enough to do."""
    return max(1, min(torch.get_num_threads(), elements // 32_768))


def _built(name: str, source: str, attempts: Sequence[Sequence[str]]) -> Path:
    compiler = _compiler()
    made_from = [source, _headers(), *compiler, repr(attempts), _processor()]
    digest = hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:16]
    target = folder() / f"{name}-{digest}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            fresh = Path(scratch) / target.name
            text = fresh.with_suffix(".c")
            text.write_text(source, encoding="utf-8")
            _compile(compiler, text, fresh, attempts)
            fresh.replace(target)  # at once, so that another process never loads half a library
    return target


@cache
def _headers() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in sorted(_HERE.glob("*.h")))


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


def _compile(compiler: list[str], source: Path, target: Path, attempts: Sequence[Sequence[str]]) -> None:
    for flags in attempts:
        libraries = [flag for flag in flags if flag.startswith("-l")]
        others = [flag for flag in flags if not flag.startswith("-l")]
        command = [*compiler, "-O3", "-shared", "-fPIC", f"-I{_HERE}", *others, str(source), "-o", str(target)]
        try:
            done = subprocess.run([*command, *libraries], capture_output=True, text=True, timeout=_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoCompiler(f"{compiler[0]} does not run ({error})") from error
        if done.returncode == 0:
            return
    raise NoCompiler(f"{compiler[0]} fails: {(done.stderr.strip().splitlines() or ['no message'])[0][:200]}")


def folder() -> Path:
    """The cache, or a folder of this process alone where that cannot be written."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "nas"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):
        pass
    folder = Path(tempfile.mkdtemp(prefix=SCRATCH))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.platform() + platform.processor()
    known = ("model name", "flags", "Features", "CPU implementer", "CPU part")  # the latter three on ARM
    found = (next((line for line in lines if line.startswith(key)), "") for key in known)
    return "\n".join([platform.machine(), *found])
