"""Looking a bfloat16 tensor up in a table of 65,536 entries: the implementations, and the choice between them.

On a CPU: a small C library, else a gather compiled by torch.compile, else plain indexing. On a GPU: a Triton kernel,
else the same two. The table is an input in each, so that another table needs no other code. What was chosen is said
once, unless it is the first choice.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from nas.modules.activations import native

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backend:
    """One implementation. ``x`` and ``dy`` are bfloat16, dense, of the same strides, which the results have too.

    Attributes:
        name: ``native``, ``triton``, ``compiled`` or ``eager``.
        forward: (x, values bfloat16 (65536,)) -> values[x]
        backward: (x, slopes float32 (65536,), dy) -> slopes[x] * dy, rounded once
        param_grad: (x, slopes float32 (65536,), dy) -> the sum of slopes[x] * dy, float32 ()
    """

    name: str
    forward: Callable[[Tensor, Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], Tensor]
    param_grad: Callable[[Tensor, Tensor, Tensor], Tensor]


def _flat(x: Tensor) -> Tensor:
    """The elements of a dense tensor in the order in which they lie in memory."""
    return x.as_strided((x.numel(),), (1,))


def _index(x: Tensor) -> Tensor:
    return x.view(torch.int16).to(torch.int32) & 0xFFFF


def _gather(x: Tensor, values: Tensor) -> Tensor:
    return values.index_select(0, _index(x))  # five times as fast as values[index] on a CPU


def _gather_scaled(x: Tensor, slopes: Tensor, dy: Tensor) -> Tensor:
    return (slopes.index_select(0, _index(x)) * dy.float()).to(torch.bfloat16)


def _gather_sum(x: Tensor, slopes: Tensor, dy: Tensor) -> Tensor:
    return (slopes.index_select(0, _index(x)) * dy.float()).sum()


def _on_flat(
    name: str, gather: Callable[..., Tensor], scaled: Callable[..., Tensor], total: Callable[..., Tensor]
) -> Backend:
    """A backend from functions of one-dimensional tensors."""
    return Backend(
        name,
        lambda x, values: gather(_flat(x), values).as_strided(x.shape, x.stride()),
        lambda x, slopes, dy: scaled(_flat(x), slopes, _flat(dy)).as_strided(x.shape, x.stride()),
        lambda x, slopes, dy: total(_flat(x), slopes, _flat(dy)),
    )


def _eager() -> Backend:
    return _on_flat("eager", _gather, _gather_scaled, _gather_sum)


def _compiled() -> Backend:
    functions = (_gather, _gather_scaled, _gather_sum)
    return _on_flat("compiled", *(torch.compile(f, dynamic=True) for f in functions))


def _native() -> Backend:
    native.library()
    return Backend("native", native.forward, native.backward, native.param_grad)


def _triton() -> Backend:
    from nas.modules.activations import triton_lookup  # imports triton, which only GPU builds of torch have

    return _on_flat("triton", triton_lookup.forward, triton_lookup.backward, triton_lookup.param_grad)


BACKENDS: dict[str, Callable[[], Backend]] = {
    "native": _native,
    "triton": _triton,
    "compiled": _compiled,
    "eager": _eager,
}
_ORDER = {"cpu": ("native", "compiled", "eager"), "cuda": ("triton", "compiled", "eager")}
_forced: list[str] = []


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within this context the named implementation is used, whatever would be chosen."""
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()


def backend(device: torch.device) -> Backend:
    """The implementation for tensors on this device: the first that works there, unless one is forced."""
    return _made(_forced[-1]) if _forced else _chosen(device)


_made = cache(lambda name: BACKENDS[name]())


@cache
def _chosen(device: torch.device) -> Backend:
    failures = []
    for name in _ORDER.get(device.type, ("eager",)):
        try:
            made = _made(name)
            _check(made, device)
        except Exception as error:  # a compiler can fail in any way
            failures.append(f"{name}: {' '.join(str(error).split())[:200] or type(error).__name__}")
            continue
        if failures:
            _LOG.warning("bfloat16 activations use the %s table look-up (%s)", name, "; ".join(failures))
        return made
    raise RuntimeError(f"no table look-up works on {device} ({'; '.join(failures)})")


def _check(made: Backend, device: torch.device) -> None:
    """A look-up of two tables whose answers are known."""
    x = torch.linspace(-4, 4, 1000, device=device).bfloat16()
    values = (torch.arange(65536, device=device) % 256).bfloat16()
    dy, slopes = x.abs(), values.float()
    found = _index(x).long()
    gradient = slopes[found] * dy.float()
    right = (
        torch.equal(made.forward(x, values), values[found])
        and torch.equal(made.backward(x, slopes, dy), gradient.bfloat16())
        and torch.allclose(made.param_grad(x, slopes, dy), gradient.sum(), rtol=1e-4)
    )
    if not right:
        raise RuntimeError("its answers are wrong")
