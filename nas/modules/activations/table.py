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

from nas.modules.activations import native
from nas.modules.activations.lookup import backend

Pointwise = Callable[..., Tensor]
"""``f(x, **parameters)``: pointwise in x, differentiable by autograd, for any floating dtype."""

ENTRIES = 65_536
CORE = range(0x3080, 0x4380)
"""Bits of the magnitudes from 2^-30 up to 2^8: with zero, what an activation usually meets; 15 % of all entries."""

_CORE_SLICES = (  # zero and the core, then the same with a minus sign
    slice(0, 1),
    slice(CORE.start, CORE.stop),
    slice(0x8000, 0x8001),
    slice(0x8000 + CORE.start, 0x8000 + CORE.stop),
)
_ALL = (slice(0, ENTRIES),)


@cache
def inputs(device: torch.device, core: bool = False) -> Tensor:
    """Every bfloat16 number in the order of its bits, or those of the core, as float64 (N,)."""
    every = torch.arange(ENTRIES, dtype=torch.int32, device=device).to(torch.int16).view(torch.bfloat16).double()
    return torch.cat([every[part] for part in (_CORE_SLICES if core else _ALL)])


def tabulate(
    function: Pointwise, parameters: Mapping[str, Tensor], device: torch.device, core: bool = False
) -> tuple[Tensor, Tensor]:
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
        x = inputs(device, core).expand(sites, -1).clone().requires_grad_()
        given = {
            name: p.detach().to(device).double()[:, None].expand_as(x).clone().requires_grad_()
            for name, p in parameters.items()
        }
        y = function(x, **given).expand_as(x)
        wanted = [x, *given.values()]
        slopes = torch.autograd.grad(y.sum(), wanted, allow_unused=True) if y.requires_grad else [None] * len(wanted)
    rows = [torch.zeros_like(x) if slope is None else slope for slope in slopes]
    return y.detach().to(torch.bfloat16), torch.stack(rows, 1).float()


class TableActivation(nn.Module):
    """A pointwise function by table. Input and output of any shape.

    bfloat16 inputs are looked up. The function itself is called for others, under torch.compile and in torch.export.

    The tables are made when they are needed, on the device of the input, and again whenever a parameter has changed.
    They are no buffers: they follow from function and parameters, so nobody has to save, cast or broadcast them.

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
        self._core_made_of: Any = None

    def forward(self, x: Tensor) -> Tensor:
        plain = type(x) in (Tensor, nn.Parameter) and x.device.type != "meta"  # a fake tensor has no memory
        if x.dtype != torch.bfloat16 or not plain or torch.compiler.is_compiling():
            return self.function(x, **{name: getattr(self, name).to(x.dtype) for name in self.names})
        x = x if is_dense(x) else x.contiguous()
        y: Tensor = _Lookup.apply(x, *self.tables(x.device, core=self.can_use_core(x.device) and not is_outside(x)))
        return y

    def can_use_core(self, device: torch.device) -> bool:
        """Whether it pays to keep only the core up to date, and to look whether inputs lie outside."""
        return bool(self.names) and device.type == "cpu" and backend(device).name == "native"

    def tables(self, device: torch.device, core: bool = False) -> tuple[Tensor, ...]:
        """Values bfloat16 (65536,), slopes float32 (1 + P, 65536), and the P parameters, up to date.

        With ``core`` the entries of inputs outside of :data:`CORE` may be those of earlier parameters.

        In a step that is being captured in a CUDA graph the tables stay as they are; refresh them before each replay.

        Raises:
            RuntimeError: a graph is being captured, and there are no tables yet.
        """
        capturing = device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        if not capturing:
            refresh([self], device, core)
        if self._tables is None or self._tables[0].device != device:
            raise RuntimeError("a captured activation needs its tables before: run the step once, or refresh them")
        return *self._tables, *(getattr(self, name) for name in self.names)

    def become(self, function: Pointwise) -> None:
        """Compute another function of the same parameters from now on, in the same place of memory."""
        self.function = function
        self._made_of = self._core_made_of = None

    def is_current(self, device: torch.device, core: bool = False) -> bool:
        """Whether the tables, or their core, are those of the function and its parameters' present values."""
        made_of = self._core_made_of if core else self._made_of
        if made_of is None or self._tables is None or self._tables[0].device != device:
            return False
        if device.type != "cpu" and self.names:
            return False  # to look at the values would wait for the device, which takes as long as new tables
        return bool(made_of == self._values())

    def _store(self, values: Tensor, slopes: Tensor, made_of: Any, core: bool) -> None:
        """Take over new entries, in the same place of memory if there is one."""
        if self._tables is None or self._tables[0].device != values.device:
            self._tables = values.clone(), slopes.clone()
        else:
            # Entries outside of the core may be filled in when a backward pass, which does not need them, is still to
            # come; autograd need not know.
            unchanged = made_of == self._core_made_of
            mine = [table.data if unchanged else table for table in self._tables]
            parts = _CORE_SLICES if core else _ALL
            sizes = [part.stop - part.start for part in parts]
            for table, new in zip(mine, (values, slopes), strict=True):
                for part, entries in zip(parts, new.split(sizes, -1), strict=True):
                    table[..., part].copy_(entries)
        self._core_made_of = made_of
        if not core:
            self._made_of = made_of

    def _values(self) -> list[float]:
        """The parameters' values. Their version counters miss changes through .data and by fused optimisers."""
        if not self.names or getattr(self, self.names[0]).device.type != "cpu":
            return []
        return [getattr(self, name).item() for name in self.names]

    def extra_repr(self) -> str:
        return str(getattr(self.function, "expression", self.function))


def refresh(modules: Iterable[TableActivation], device: torch.device, core: bool = False) -> None:
    """Make the tables of these modules that are out of date. On a GPU those of one function are made together.

    With ``core`` only the entries of :data:`CORE` are seen to, in modules whose tables were once complete.
    """
    groups: dict[Any, list[TableActivation]] = {}
    for module in modules:
        only_core = core and module._made_of is not None and module._tables is not None
        if not module.is_current(device, only_core):
            groups.setdefault((module.function, only_core), []).append(module)
    at_once = 1 if device.type == "cpu" else 16  # a CPU's cache holds the temporaries of one site
    for (_, only_core), group in groups.items():
        for start in range(0, len(group), at_once):
            _refresh(group[start : start + at_once], device, only_core)


@torch.inference_mode(False)  # or the tables could not be used in training afterwards
@torch.no_grad()
def _refresh(group: Sequence[TableActivation], device: torch.device, core: bool) -> None:
    parameters = {name: torch.stack([getattr(m, name).detach() for m in group]) for name in group[0].names}
    made_of = [module._values() for module in group]
    values, slopes = tabulate(group[0].function, parameters, device, core)
    for i, module in enumerate(group):
        row = i if parameters else 0
        module._store(values[row], slopes[row], made_of[i], core)


def is_dense(x: Tensor) -> bool:
    """Whether the elements fill a piece of memory, in whatever order of dimensions."""
    if x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last):  # the usual ones, known at once
        return True
    expected = 1
    for stride, size in sorted((stride, size) for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1):
        if stride != expected:
            return False
        expected *= size
    return True


def is_outside(x: Tensor) -> bool:
    """Whether a dense CPU tensor has elements outside of the core."""
    return native.is_outside(x, CORE)


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, slopes: Tensor, *parameters: Tensor) -> Tensor:
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
