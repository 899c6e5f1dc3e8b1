"""The text of an exported file: one function as an ``nn.Module`` that needs torch and nothing else."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path

import torch

from search_spaces.codegen import to_source
from search_spaces.compile import to_function
from search_spaces.expression import Expression, params
from search_spaces.known import NAMED
from search_spaces.values import GRID

_POINTS = (-3.1, -1.7, -0.6, -0.2, 0.3, 0.9, 1.8, 3.2)
"""Where an exported file checks itself: away from the kinks that functions tend to have."""


class ExportError(ValueError):
    """Nothing to export, or a file that does not compute what it should."""


def class_name(known_name: str | None, key: str) -> str:
    """``SiLU`` for a known function whose name makes an identifier, else one made from the key."""
    name = re.sub(r"[^A-Za-z0-9]", "", known_name or "") if known_name in NAMED else ""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name):
        return name[0].upper() + name[1:]
    return "Act" + re.sub(r"[^A-Za-z0-9]", "", key)[:6]


def module_source(expression: Expression, name: str, about: str) -> str:
    """The text of a standalone module with a function, an ``nn.Module`` of that class name, and a check of itself.

    Args:
        expression: of x.
        name: of the class; the function has it in lower case.
        about: paragraphs for the docstring, each of which ends with a newline; no quotes and no backslashes.
    """
    names = params(expression)
    function = _function(expression, name, names)
    imports = ["import functools", *(["import math"] if "math." in function else [])]
    imports.append("from collections.abc import Callable")
    torch_imports = ["import torch", *(["import torch.nn.functional as F"] if "F." in function else [])]
    head = [
        f'"""{name}: an activation function, f(x) = {expression}\n\n{about}"""\n',
        *imports,
        "",
        *torch_imports,
        "from torch import Tensor, nn",
    ]
    compiled = (
        "@functools.cache\ndef _compiled() -> Callable[..., Tensor]:\n"
        f"    return torch.compile({name}._plain, dynamic=True)"
    )
    parts = ["\n".join(head), function, _class(expression, name, names), compiled, _check(expression, name, names)]
    return "\n\n\n".join(part.strip("\n") for part in parts) + "\n"


def _function(expression: Expression, name: str, names: tuple[str, ...]) -> str:
    source = to_source(expression)
    body = "".join(f"    {line}\n" for line in (*source.statements, f"return {source.result}"))
    arguments = "".join(f", {p}: Tensor" for p in names)
    return (
        f"def {name.lower()}(x: Tensor{arguments}) -> Tensor:\n"
        f'    """The formula, pointwise; any shape, float32 or float64."""\n{body}\n'
    )


_FUSED = """fused: compile it by torch.compile at the first call: one kernel forward and one backward, which keep x
            alone in memory. Not needed in a model that is compiled as a whole, and not differentiable twice."""


def _class(expression: Expression, name: str, names: tuple[str, ...]) -> str:
    learnable = f"Learnable: {', '.join(names)}; they start at 1. " if names else ""
    sizes = "num_parameters: int = 1, channel_dim: int = 1, " if names else ""
    about_sizes = (
        """num_parameters: 1 for values shared by all channels, or the number of channels for one value a channel.
        channel_dim: the input's dimension that holds the channels (1 for images, -1 for transformers).
        """
        if names
        else ""
    )
    made = [
        *(["self.num_parameters = num_parameters", "self.channel_dim = channel_dim"] if names else []),
        "self.fused = fused",
        *(f"self.{p} = nn.Parameter(torch.ones(num_parameters))" for p in names),
    ]
    passed = "".join(f", self._shaped(self.{p}, x)" for p in names)
    init = "\n".join(f"        {line}" for line in made)
    text = f'''
class {name}(nn.Module):
    """f(x) = {expression}

    {learnable}Narrower dtypes than float32 are computed in float32 and rounded once.

    Args:
        {about_sizes}{_FUSED}

    Input and output: any shape, any floating dtype.
    """

    def __init__(self, {sizes}fused: bool = False) -> None:
        super().__init__()
{init}

    def forward(self, x: Tensor) -> Tensor:
        if self.fused and not torch.jit.is_scripting():
            return self._fused(x)
        return self._plain(x)

    def _plain(self, x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        return {name.lower()}(wide{passed.replace(", x)", ", wide)")}).to(x.dtype)

    @torch.jit.unused
    def _fused(self, x: Tensor) -> Tensor:
        return self._plain(x) if torch.compiler.is_compiling() else _compiled()(self, x)
'''
    return text + (_SHAPED if names else "")


_SHAPED = """
    def _shaped(self, parameter: Tensor, x: Tensor) -> Tensor:
        shape = [1] * x.dim()
        if self.num_parameters > 1:
            shape[self.channel_dim] = self.num_parameters
        return parameter.to(x.dtype).view(shape)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}, channel_dim={self.channel_dim}"
"""


def _check(expression: Expression, name: str, names: tuple[str, ...]) -> str:
    """Values from float64 stand in the file; gradients are compared with finite differences."""
    x = torch.tensor(_POINTS, dtype=torch.float64)
    ones = {p: torch.ones((), dtype=torch.float64) for p in names}
    values = to_function(expression)(x, **ones).tolist()
    listed = "\n            ".join(f"{_literal(value)}," for value in values)
    points = ", ".join(map(str, _POINTS))
    parameters = ", ".join(["x", *(f"p{k}" for k in range(len(names)))])
    others = "".join(  # not 1, where functions such as max(x, beta * x) have a kink
        f"\n    p{k} = torch.tensor([{0.7 + 0.1 * k:.1f}], dtype=torch.float64, requires_grad=True)"
        for k in range(len(names))
    )
    return f'''

def check() -> None:
    """Compare values with those found in float64 when this was written, and gradients with finite differences."""
    x = torch.tensor([{points}], dtype=torch.float64)
    expected = torch.tensor(
        [
            {listed}
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close({name}().double()(x), expected, rtol=1e-9, atol=1e-11, equal_nan=True)
    torch.testing.assert_close({name}()(x.float()).double(), expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    x.requires_grad_(){others}
    torch.autograd.gradcheck({name.lower()}, ({parameters}{"," if not names else ""}))
    torch.autograd.gradgradcheck({name.lower()}, ({parameters}{"," if not names else ""}))


if __name__ == "__main__":
    check()
    print("{name}: values, gradients and second gradients are right")
'''


def _literal(value: float) -> str:
    return f"{value:.12g}" if math.isfinite(value) else f'float("{value}")'


def self_check(path: Path, name: str, expression: Expression) -> None:
    """Import the written file and compare values and gradients with the expression in float64."""
    spec = importlib.util.spec_from_file_location(f"_exported_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    act = getattr(module, name)().double()
    ones = {p: torch.ones(1, dtype=torch.float64) for p in params(expression)}
    results = []
    for function in (act, lambda x: to_function(expression)(x, **ones)):
        x = torch.from_numpy(GRID.copy()).requires_grad_()
        value = function(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        results.append((value.detach(), gradient))
    for ours, theirs in zip(*results, strict=True):
        if not torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12, equal_nan=True):
            raise ExportError(f"the exported {name} does not compute {expression}; please report this")
