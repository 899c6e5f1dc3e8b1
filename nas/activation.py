"""``nas.Activation``: an expression as a module for one's own models."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from nas.modules.activations.pointwise import with_parameters
from search_spaces.expression import Const, Expression, Param, params, replace
from search_spaces.known import as_expression
from search_spaces.pointwise import formula_of
from search_spaces.registry import nearest

Setting = str | float | Tensor
"""``"scalar"``, ``"channel"``, a number that stays, or a tensor, () or (C,), that learning starts from."""


class ActivationError(ValueError):
    """A parameter that an activation has not, or with a setting that it cannot have."""


class Activation(LazyModuleMixin, nn.Module):
    """f(x) for a formula, pointwise; input and output of any shape, dtype and order in memory.

    Forward and backward are one kernel each, on CPUs and GPUs; see :mod:`nas.modules.activations.pointwise`. Narrower
    dtypes than float32 are computed in float32 and rounded once.

    Args:
        function: a formula in x, such as ``"x * sigmoid(beta * x)"``, or the name of a known function, such as
            ``"GELU"``.
        channels: how many, for parameters that are one a channel. If not given, it is taken from the first input: run
            one through the model before its parameters are handed to an optimiser, as for torch's lazy modules.
        channel_dim: the dimension of the channels: 1 for images, -1 for transformers.
        settings: for each of the formula's parameters (alpha, beta, gamma, delta, perhaps with a number): ``"scalar"``,
            learnable and shared by all elements, which is the default; ``"channel"``, one a channel; both start at 1; a
            number that it is and stays; or a tensor, () or (channels,), that learning starts from.

    Raises:
        ParseError: the formula cannot be read, or has another input than x.
        ActivationError: there is no such parameter, or a setting is none of these.
    """

    cls_to_become = None

    def __init__(
        self, function: str | Expression, *, channels: int | None = None, channel_dim: int = 1, **settings: Setting
    ) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Lazy modules")  # torch's notice that they are new
            super().__init__()
        expression = as_expression(function) if isinstance(function, str) else function
        _check(expression, settings)
        fixed = {name: value for name, value in settings.items() if _is_number(value)}
        self.expression = replace(expression, {Param(name): Const(float(value)) for name, value in fixed.items()})
        self.names = params(self.expression)
        self.channel_dim = channel_dim
        self._formula = formula_of(self.expression)
        for name in self.names:
            setattr(self, name, _parameter(settings.get(name, "scalar"), channels))
        if not self.has_uninitialized_params():  # nothing to be lazy about
            self._initialize_hook.remove()
            self._load_hook.remove()
            del self._initialize_hook, self._load_hook

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            raise ActivationError(f"{self} takes floating-point numbers, the input is {x.dtype}; give it x.float()")
        values = [getattr(self, name) for name in self.names]
        channels = max((value.numel() for value in values if value.dim()), default=1)
        if channels > 1 and self._channels_of(x) != channels:
            raise ActivationError(
                f"{self} has parameters for {channels} channels in dimension {self.channel_dim}; the input is "
                f"{tuple(x.shape)}: give channel_dim, or as many channels"
            )
        return with_parameters(x, self._formula, values, self.channel_dim)

    def _channels_of(self, x: Tensor) -> int | None:
        return x.shape[self.channel_dim] if -x.dim() <= self.channel_dim < x.dim() else None

    def initialize_parameters(self, x: Tensor) -> None:
        """Called once by the first forward pass: gives parameters that are one a channel their number."""
        with torch.no_grad():
            channels = self._channels_of(x)
            if channels is None:
                raise ActivationError(
                    f"{self} takes its channels from dimension {self.channel_dim}; the input is {tuple(x.shape)}"
                )
            for name in self.names:
                parameter = getattr(self, name)
                if isinstance(parameter, nn.UninitializedParameter):
                    parameter.materialize((channels,), device=x.device, dtype=torch.float32)
                    parameter.fill_(1.0)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_formula"}  # closures and built code

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._formula = formula_of(self.expression)

    def extra_repr(self) -> str:
        return str(self.expression)


def _check(expression: Expression, settings: dict[str, Setting]) -> None:
    names = params(expression)
    for name, value in settings.items():
        if name not in names:
            raise ActivationError(
                f"{expression} has no parameter {name!r}; {nearest(name, names) if names else 'it has none'}"
            )
        right = _is_number(value) or isinstance(value, Tensor) or value in ("scalar", "channel")
        if not right or (isinstance(value, Tensor) and value.dim() > 1):
            raise ActivationError(
                f"a parameter is 'scalar', 'channel', a number, or a tensor () or (channels,); got {name}={value!r}"
            )


def _is_number(value: Setting) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parameter(setting: Setting, channels: int | None) -> nn.Parameter:
    if isinstance(setting, Tensor):
        return nn.Parameter(setting.detach().clone().float())
    if setting == "scalar":
        return nn.Parameter(torch.ones(()))
    return nn.Parameter(torch.ones(channels)) if channels is not None else nn.UninitializedParameter()  # type: ignore
