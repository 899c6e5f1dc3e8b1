"""Activations that torch has as functions, the modules that they stand for, and what looks like an activation."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float

NAMES: dict[type[nn.Module], str] = {
    nn.CELU: "celu",
    nn.ELU: "elu",
    nn.GELU: "gelu",
    nn.Hardshrink: "hardshrink",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Hardswish: "hardswish",
    nn.Hardtanh: "hardtanh",
    nn.LeakyReLU: "leaky_relu",
    nn.LogSigmoid: "logsigmoid",
    nn.Mish: "mish",
    nn.PReLU: "prelu",
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.RReLU: "rrelu",
    nn.SELU: "selu",
    nn.Sigmoid: "sigmoid",
    nn.SiLU: "silu",
    nn.Softplus: "softplus",
    nn.Softshrink: "softshrink",
    nn.Softsign: "softsign",
    nn.Tanh: "tanh",
    nn.Tanhshrink: "tanhshrink",
    nn.Threshold: "threshold",
}

METHODS: dict[str, type[nn.Module]] = {}
"""What a tensor does by itself: x.relu(), x.relu_()."""

FUNCTIONS: dict[Any, type[nn.Module]] = {torch.special.expit: nn.Sigmoid}
"""Under every name that torch has for them: F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_."""

for _kind, _name in NAMES.items():
    for _spelling in (_name, f"{_name}_"):
        for _place in (F, torch, Tensor):
            if hasattr(_place, _spelling):
                FUNCTIONS[getattr(_place, _spelling)] = _kind
        if hasattr(Tensor, _spelling):
            METHODS[_spelling] = _kind


class FunctionCall(nn.Module):
    """A call of one of ``FUNCTIONS`` as a module, so that functions can be asked for and blended like modules.

    Args:
        stands_for: the module type that computes the same.
        args, kwargs: what the call gives besides the tensor. In-place calls become ordinary ones.
    """

    def __init__(self, stands_for: type[nn.Module], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.stands_for = stands_for
        self.name = NAMES[stands_for]
        self.function: Callable[..., Tensor] = getattr(F, self.name)
        self.args, self.kwargs, self.inplace = _without_inplace(self.function, args, kwargs)

    def forward(self, x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Same shape and dtype as x."""
        return self.function(x, *self.args, **self.kwargs)

    def extra_repr(self) -> str:
        """The call as it is written."""
        given = [*map(str, self.args), *(f"{key}={value}" for key, value in self.kwargs.items())]
        return f"F.{self.name}({', '.join(['x', *given])})"


def _without_inplace(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
    try:
        bound = inspect.signature(function).bind(None, *args, **kwargs)
    except ValueError:  # a builtin: none of these works in place
        return args, kwargs, False
    inplace = bool(bound.arguments.pop("inplace", False))
    return bound.args[1:], bound.kwargs, inplace


def as_call(value: Any) -> FunctionCall | None:
    """A function that is held as a value (``self.act = F.gelu``, or a ``functools.partial`` of it), else None."""
    if isinstance(value, functools.partial):
        kind = stands_for(value.func)
        return FunctionCall(kind, value.args, value.keywords) if kind is not None and not value.args else None
    kind = stands_for(value)
    return None if kind is None else FunctionCall(kind, (), {})


def stands_for(value: Any) -> type[nn.Module] | None:
    """The module type that a function of ``FUNCTIONS`` stands for; None for any other value."""
    return FUNCTIONS.get(value) if callable(value) and isinstance(value, Hashable) else None


_NO_ACTIVATIONS = (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.Softmin, nn.LogSoftmax, nn.GLU)
_LIKELY = re.compile(r"elu|swish|mish|tanh|sigmoid|softplus|softsign|^act|act$|activation$", re.IGNORECASE)


def looks_like_activation(module: nn.Module) -> bool:
    """Torch's own by type; others by their name or that of their Python module, if nothing is inside of them."""
    if isinstance(module, FunctionCall):
        return True
    kind = type(module)
    if kind.__module__ == "torch.nn.modules.activation":
        return not isinstance(module, _NO_ACTIVATIONS)
    if kind.__module__.startswith("torch.nn.") or next(module.children(), None) is not None:
        return False
    return bool(_LIKELY.search(kind.__name__)) or kind.__module__.endswith("activations")
