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
    with torch.inference_mode(False), torch.enable_grad():
        x = inputs(device).expand(sites, ENTRIES).clone().requires_grad_()
        given = {
            name: p.detach().double()[:, None].expand(sites, ENTRIES).clone().requires_grad_()
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

    Args:
        function: see :data:`Pointwise`.
        parameters: names and first values of its learnable scalars.
    """

    values: Tensor
    slopes: Tensor

    def __init__(self, function: Pointwise, parameters: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.function = function
        self.names = tuple(parameters or {})
        for name, value in (parameters or {}).items():
            setattr(self, name, nn.Parameter(torch.tensor(float(value))))
        # As integers, because a module's .to(dtype) converts floating buffers.
        self.register_buffer("values", torch.empty(ENTRIES, dtype=torch.int16), persistent=False)
        self.register_buffer("slopes", torch.empty(1 + len(self.names), ENTRIES, dtype=torch.int32), persistent=False)
        self._tabulated: Any = None

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.bfloat16 or torch.compiler.is_compiling():
            return self.function(x, **{name: getattr(self, name).to(x.dtype) for name in self.names})
        y: Tensor = _Lookup.apply(x, *self.tables())
        return y

    def tables(self) -> tuple[Tensor, ...]:
        """Values bfloat16 (65536,), slopes float32 (1 + P, 65536), and the P parameters, all up to date."""
        capturing = self.values.is_cuda and torch.cuda.is_current_stream_capturing()
        if not capturing and self._tabulated != self._state():
            refresh([self])
        parameters = (getattr(self, name) for name in self.names)
        return self.values.view(torch.bfloat16), self.slopes.view(torch.float32), *parameters

    def become(self, function: Pointwise) -> None:
        """Compute another function of the same parameters from now on. The tables keep their place in memory."""
        self.function = function
        self._tabulated = None

    def _state(self) -> Any:
        """Changes when the tables have to be made again."""
        parameters = [getattr(self, name) for name in self.names]
        return self.function, self.values.device, [(p.data_ptr(), p._version) for p in parameters]

    def extra_repr(self) -> str:
        return str(getattr(self.function, "expression", self.function))


def refresh(modules: Iterable[TableActivation]) -> None:
    """Make the tables of these modules, where they are out of date. Those of one function are made together on a
    GPU."""
    groups: dict[Any, list[TableActivation]] = {}
    for module in modules:
        if module._tabulated != module._state():
            groups.setdefault((module.function, module.values.device), []).append(module)
    for (function, device), group in groups.items():
        at_once = 1 if device.type == "cpu" else 16  # a CPU's cache holds the temporaries of one site
        for start in range(0, len(group), at_once):
            _refresh(group[start : start + at_once], function, device)


def _refresh(group: Sequence[TableActivation], function: Pointwise, device: torch.device) -> None:
    parameters = {name: torch.stack([getattr(m, name).detach() for m in group]) for name in group[0].names}
    values, slopes = tabulate(function, parameters, device)
    for i, module in enumerate(group):
        row = i if parameters else 0
        module.values.copy_(values[row].view(torch.int16))
        module.slopes.copy_(slopes[row].view(torch.int32))
        module._tabulated = module._state()


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
