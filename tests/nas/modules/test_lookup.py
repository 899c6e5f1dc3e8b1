"""Which implementation looks tables up: built, found, replaced and announced, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

RUN = """
import logging, torch
from nas.modules.activations import TableActivation
from nas.modules.activations.lookup import backend
x = torch.linspace(-4, 4, 1001).bfloat16().requires_grad_()
for act in (TableActivation(torch.tanh), TableActivation(torch.tanh)):
    y = act(x)
    y.sum().backward()
assert torch.equal(y, torch.tanh(x.double()).bfloat16())
print(backend(torch.device("cpu")).name)
"""


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    """The check above in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", RUN], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )


def test_the_native_library_is_built_once_and_quietly(tmp_path):
    first = run(XDG_CACHE_HOME=str(tmp_path))
    assert (first.stdout.strip(), first.stderr) == ("native", "")
    (built,) = (tmp_path / "nas").iterdir()
    when = built.stat().st_mtime_ns
    assert run(XDG_CACHE_HOME=str(tmp_path)).stdout.strip() == "native"
    assert built.stat().st_mtime_ns == when


def test_without_compilers_it_is_eager_and_says_so_once(tmp_path):
    done = run(XDG_CACHE_HOME=str(tmp_path), CC="no-such-cc", CXX="no-such-cxx", TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert done.stdout.strip() == "eager"
    said = [line for line in done.stderr.splitlines() if "table look-up" in line]
    assert len(said) == 1
    assert "eager table look-up (native: CC=no-such-cc is not found; compiled:" in said[0]


def test_without_a_c_compiler_the_gather_is_compiled_by_torch(tmp_path):
    done = run(XDG_CACHE_HOME=str(tmp_path), CC="no-such-cc")
    assert done.stdout.strip() == "compiled"
    assert "the compiled table look-up (native: CC=no-such-cc is not found)" in done.stderr


def test_a_cache_that_cannot_be_made_is_done_without(tmp_path):
    (tmp_path / "nas").write_text("a file where the folder should be")
    assert run(XDG_CACHE_HOME=str(tmp_path)).stdout.strip() == "native"


def test_a_library_that_does_not_load_is_done_without(tmp_path):
    run(XDG_CACHE_HOME=str(tmp_path))
    (built,) = (tmp_path / "nas").iterdir()
    built.write_bytes(b"not a library")
    done = run(XDG_CACHE_HOME=str(tmp_path))
    assert done.stdout.strip() in ("compiled", "eager")
    assert "cannot be loaded" in done.stderr


TRITON = """
import torch
from nas.modules.activations import triton_lookup as t
x = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
x = x[torch.randperm(65536, generator=torch.Generator().manual_seed(0))][:5000].contiguous()
values = torch.randn(65536, generator=torch.Generator().manual_seed(1)).bfloat16()
slopes = torch.randn(65536, generator=torch.Generator().manual_seed(2))
dy = torch.randn(5000, generator=torch.Generator().manual_seed(3)).bfloat16()
index = x.view(torch.int16).long() & 0xFFFF
assert torch.equal(t.forward(x, values), values[index])
exact = slopes[index] * dy.float()
cut = (exact.view(torch.int32) & ~0xFFFF).view(torch.float32)  # the interpreter cuts off where a GPU rounds
assert torch.equal(t.backward(x, slopes, dy).float(), cut)
torch.testing.assert_close(t.param_grad(x, slopes, dy), (slopes[index] * dy.float()).sum(), rtol=1e-4, atol=1e-3)
print("right")
"""


def test_the_triton_kernels_in_tritons_interpreter():
    """The kernels' arithmetic without a GPU."""
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-c", TRITON], capture_output=True, text=True, env={**os.environ, "TRITON_INTERPRET": "1"}
    )
    assert done.stdout.strip() == "right", done.stderr[-2000:]
