"""Named search spaces. A published space pins its templates, so that its name means the same functions for ever."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import PositiveInt

from search_spaces.registry import Registry
from search_spaces.space import CoreUnitSpace, SearchSpace

spaces: Registry[Callable[..., SearchSpace]] = Registry("search space", "search_spaces.presets")

# Ramachandran, Zoph, Le 2017 (arXiv 1710.05941), section 2. The paper leaves eps and beta's initial value open: here
# eps = 1e-5 and beta = 1.
SWISH2017_UNARY = (
    "x",
    "-x",
    "abs(x)",
    "x ** 2",
    "x ** 3",
    "sqrt(x)",
    "beta * x",
    "x + beta",
    "log(abs(x) + 1e-5)",
    "exp(x)",
    "sin(x)",
    "cos(x)",
    "sinh(x)",
    "cosh(x)",
    "tanh(x)",
    "asinh(x)",
    "atan(x)",
    "sinc(x)",
    "max(x, 0)",
    "min(x, 0)",
    "sigmoid(x)",
    "softplus(x)",
    "exp(-x ** 2)",
    "erf(x)",
    "beta",
)
SWISH2017_BINARY = (
    "x1 + x2",
    "x1 * x2",
    "x1 - x2",
    "x1 / (x2 + 1e-5)",
    "max(x1, x2)",
    "min(x1, x2)",
    "sigmoid(x1) * x2",
    "exp(-beta * (x1 - x2) ** 2)",
    "exp(-beta * abs(x1 - x2))",
    "beta * x1 + (1 - beta) * x2",
)


@spaces.register("swish2017")
def swish2017(*, units: PositiveInt = 1) -> SearchSpace:
    """The core-unit space of 2017: 25 unary and 10 binary operators, ``units`` chained core units."""
    return CoreUnitSpace(SWISH2017_UNARY, SWISH2017_BINARY, units)
