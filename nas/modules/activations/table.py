"""Any pointwise function as an activation whose cost does not depend on the function.

A bfloat16 number has 65,536 values. f and f' of all of them, computed in float64 and rounded, are two tables that the
bits of the input index: exact, and the same few instructions for every f. A learnable scalar parameter adds the table
of the derivative with respect to it, and the tables are made again when it has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nas.modules.activations.lookup import backend

Pointwise = Callable[..., Tensor]
"""``f(x, **parameters)``: pointwise in x, differentiable by autograd, for any floating dtype."""

ENTRIES = 65_536


@cache
def inputs(device: torch.device) -> Tensor:
    """Every bfloat16 number in the order of its bits, as float64 (65536,)."""
    return torch.arange(ENTRIES, dtype=torch.int32, device=device).to(torch.int16).view(torch.bfloat16).double()


def tabulate(function: Pointwise, parameters: Mapping[str, Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Tables of a function for S sets of parameter values.

    Args:
        function: see :data:`Pointwise`.
        parameters: P tensors (S,), or none, which makes S = 1.

    Returns:
        values bfloat16 (S, 65536); slopes float32 (S, 1 + P, 65536): with respect to x, then to each parameter.
        Computed in float64 and rounded once.
    """
    sites = next((len(p) for p in parameters.values()), 1)
    # In a world of its own: outside of inference mode, and of the hooks by which checkpointing counts what is saved.
    keep = torch.autograd.graph.saved_tensors_hooks(lambda saved: saved, lambda saved: saved)
    with torch.inference_mode(False), torch.enable_grad(), keep:
        x = inputs(device).expand(sites, ENTRIES).clone().requires_grad_()
        given = {
            name: p.detach().to(device).double()[:, None].expand(sites, ENTRIES).clone().requires_grad_()
            for name, p in parameters.items()
        }
        y = function(x, **given).expand(sites, ENTRIES)
        wanted = [x, *given.values()]
        slopes = torch.autograd.grad(y.sum(), wanted, allow_unused=True) if y.requires_grad else [None] * len(wanted)
    rows = [torch.zeros_like(x) if slope is None else slope for slope in slopes]
    return y.detach().to(torch.bfloat16), torch.stack(rows, 1).float()


class TableActivation(nn.Module):
    """A pointwise function by table. Input and output of any shape.

    bfloat16 inputs are looked up. Others, and everything under torch.compile and torch.export, are given to the
    function.

    The tables are made when they are needed, on the device of the input, and again whenever a parameter has changed.
    They are no buffers: they follow from the function and the parameters, so nobody has to save, convert or broadcast
        them.

    Args:
        function: see :data:`Pointwise`.
        parameters: names and first values of its learnable scalars.
    """

    def __init__(self, function: Pointwise, parameters: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.function = function
        self.names = tuple(parameters or {})
        for name, value in (parameters or {}).items():
            setattr(self, name, nn.Parameter(torch.tensor(float(value))))
        self._tables: tuple[Tensor, Tensor] | None = None
        self._made_of: Any = None

    def forward(self, x: Tensor) -> Tensor:
        plain = type(x) in (Tensor, nn.Parameter) and x.device.type != "meta"  # a fake tensor has no memory
        if x.dtype != torch.bfloat16 or not plain or torch.compiler.is_compiling():
            return self.function(x, **{name: getattr(self, name).to(x.dtype) for name in self.names})
        y: Tensor = _Lookup.apply(x, *self.tables(x.device))
        return y

    def tables(self, device: torch.device) -> tuple[Tensor, ...]:
        """Values bfloat16 (65536,), slopes float32 (1 + P, 65536), and the P parameters, all up to date.

        In a step that is being captured in a CUDA graph the tables stay as they are; refresh them before each replay.

        Raises:
            RuntimeError: a graph is being captured, and there are no tables yet.
        """
        capturing = device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        if not capturing:
            refresh([self], device)
        if self._tables is None or self._tables[0].device != device:
            raise RuntimeError("a captured activation needs its tables before: run the step once, or refresh them")
        return *self._tables, *(getattr(self, name) for name in self.names)

    def become(self, function: Pointwise) -> None:
        """Compute another function of the same parameters from now on, in the same place of memory."""
        self.function = function
        self._made_of = None

    def is_current(self, device: torch.device) -> bool:
        """Whether the tables are those of the function and its parameters' present values."""
        if self._made_of is None or self._tables is None or self._tables[0].device != device:
            return False
        if device.type != "cpu" and self.names:
            return False  # to look at the values would wait for the device, which takes as long as new tables
        return bool(self._made_of == self._values())

    def _values(self) -> list[float]:
        """The parameters' values. Their version counters miss changes through .data and by fused optimisers."""
        if not self.names or getattr(self, self.names[0]).device.type != "cpu":
            return []
        return [getattr(self, name).item() for name in self.names]

    def extra_repr(self) -> str:
        return str(getattr(self.function, "expression", self.function))


def refresh(modules: Iterable[TableActivation], device: torch.device) -> None:
    """Make the tables of these modules that are out of date. On a GPU those of one function are made together."""
    groups: dict[Pointwise, list[TableActivation]] = {}
    for module in modules:
        if not module.is_current(device):
            groups.setdefault(module.function, []).append(module)
    at_once = 1 if device.type == "cpu" else 16  # a CPU's cache holds the temporaries of one site
    for function, group in groups.items():
        for start in range(0, len(group), at_once):
            _refresh(group[start : start + at_once], function, device)


@torch.inference_mode(False)  # or the tables could not be used in training afterwards
@torch.no_grad()
def _refresh(group: Sequence[TableActivation], function: Pointwise, device: torch.device) -> None:
    parameters = {name: torch.stack([getattr(m, name).detach() for m in group]) for name in group[0].names}
    made_of = [module._values() for module in group]
    values, slopes = tabulate(function, parameters, device)
    for i, module in enumerate(group):
        row = i if parameters else 0
        if module._tables is not None and module._tables[0].device == device:
            module._tables[0].copy_(values[row])
            module._tables[1].copy_(slopes[row])
        else:
            module._tables = values[row].clone(), slopes[row].clone()
        module._made_of = made_of[i]


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, slopes: Tensor, *parameters: Tensor) -> Tensor:
        dense = x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
        x = x if dense else x.contiguous()
        ctx.save_for_backward(x, slopes)
        return backend(x.device).forward(x, values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, slopes = ctx.saved_tensors
        if dy.stride() != x.stride():
            dy = torch.empty_like(x).copy_(dy)
        used = backend(x.device)
        dx = used.backward(x, slopes[0], dy) if ctx.needs_input_grad[0] else None
        wanted = ctx.needs_input_grad[3:]
        return (
            dx,
            None,
            None,
            *(used.param_grad(x, slopes[1 + i], dy) if want else None for i, want in enumerate(wanted)),
        )
