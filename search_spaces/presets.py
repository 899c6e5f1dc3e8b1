"""Named search spaces. A published space pins its templates, so that its name means the same functions for ever.

Every option is a keyword-only parameter, whose annotation validates the YAML.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field, PositiveInt

from search_spaces.operators import OPERATORS
from search_spaces.registry import Registry
from search_spaces.shape_space import ShapeSpace
from search_spaces.space import SearchSpace, check_operators, constrain
from search_spaces.tree_space import TreeSpace

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


# The 27 unary and 7 binary operators of the three- and four-node spaces (Bingham, Macke, Miikkulainen 2020, arXiv
# 2002.07224; Bingham and Miikkulainen 2022, arXiv 2006.03179).
NODE_UNARY = (
    "0",
    "1",
    "x",
    "-x",
    "abs(x)",
    "1 / x",
    "x ** 2",
    "exp(x)",
    "erf(x)",
    "erfc(x)",
    "sinh(x)",
    "cosh(x)",
    "tanh(x)",
    "expm1(x)",
    "sigmoid(x)",
    "logsigmoid(x)",
    "asinh(x)",
    "atan(x)",
    "i0e(x)",
    "i1e(x)",
    "relu(x)",
    "elu(x)",
    "selu(x)",
    "silu(x)",
    "softplus(x)",
    "softsign(x)",
    "hard_sigmoid(x)",
)
NODE_BINARY = ("x1 + x2", "x1 - x2", "x1 * x2", "x1 / x2", "x1 ** x2", "max(x1, x2)", "min(x1, x2)")
NODE_NARY = ("x1 + x2 + x3", "x1 * x2 * x3", "max(max(x1, x2), x3)", "min(min(x1, x2), x3)")

# GRAFS (arXiv 2408.06820) relaxes the operators of 2017; square root and logarithm clamp their input from below.
_GRAFS_GUARDED = {"sqrt(x)": "sqrt(max(x, 1e-10))", "log(abs(x) + 1e-5)": "log(max(x, 1e-10))"}
GRAFS_UNARY = tuple(_GRAFS_GUARDED.get(text, text) for text in SWISH2017_UNARY)
GRAFS_BINARY = SWISH2017_BINARY


@spaces.register("swish2017")
def swish2017(*, units: Annotated[int, Field(ge=1, le=8)] = 1) -> SearchSpace:
    """The core-unit space of 2017: 25 unary and 10 binary operators, ``units`` chained core units b(u1(x1), u2(x2)).

    In the first unit x1 = x2 = x; in every further one x1 is the output of the unit before and x2 = x.
    """
    if not 1 <= units <= 8:
        raise ValueError(f"swish2017 has 1 to 8 core units, got {units}")  # more exceed the parser's depth
    shape = "x"
    for _ in range(units):
        shape = f"b(u({shape}), u(x))"
    return ShapeSpace([shape], SWISH2017_UNARY, SWISH2017_BINARY)


@spaces.register("three_node")
def three_node(*, ready_made: bool = True) -> SearchSpace:
    """binary(unary, unary): 27 * 27 * 7 = 5,103 spellings; 19 * 19 * 7 = 2,527 without ready-made activations."""
    return ShapeSpace(["b(u(x), u(x))"], _node_unary(ready_made), NODE_BINARY)


@spaces.register("four_node")
def four_node(*, ready_made: bool = True) -> SearchSpace:
    """Five shapes of up to four operators over the operators of ``three_node``: 1,023,516 spellings."""
    shapes = ["u(u(u(u(x))))", "u(b(u(x), u(x)))", "b(u(u(x)), u(x))", "b(u(x), u(u(x)))", "n(u(x), u(x), u(x))"]
    return ShapeSpace(shapes, _node_unary(ready_made), NODE_BINARY, NODE_NARY)


@spaces.register("grafs")
def grafs() -> SearchSpace:
    """The cell b1(u2(b0(u0(x), u1(x))), u3(x)) of GRAFS (arXiv 2408.06820), as a discrete space."""
    return ShapeSpace(["b(u(b(u(x), u(x))), u(x))"], GRAFS_UNARY, GRAFS_BINARY)


@spaces.register("tree")
def tree(
    *,
    operators: list[str] | None = None,
    max_depth: Annotated[int, Field(ge=1, le=31)] = 4,
    max_nodes: Annotated[int, Field(ge=1, le=31)] = 7,
    max_params: Annotated[int, Field(ge=0, le=3)] = 3,
    constants: list[float] | None = None,
    forbid: list[str] | None = None,
    ready_made: bool = False,
) -> SearchSpace:
    """Any tree over the operators (all of them if none are named) within the limits, 0 to 3 parameters on its edges."""
    everything = [name for name, row in OPERATORS.items() if ready_made or not row.ready_made]
    names = everything if operators is None else operators
    check_operators(forbid or ())
    names = [name for name in names if name not in (forbid or ())]
    space = TreeSpace(names, max_depth, max_nodes, max_params, constants or ())
    return constrain(space, contains_x=bool(constants))


@spaces.register("custom")
def custom(
    *,
    shapes: list[str],
    unary: list[str | float] | None = None,
    binary: list[str | float] | None = None,
    nary: list[str | float] | None = None,
    contains_x: bool = False,
    max_complexity: PositiveInt | None = None,
    forbid: list[str] | None = None,
    ready_made: bool = True,
) -> SearchSpace:
    """A space of one's own: shapes such as ``b(u(x), u(x))``, and operators, by name or formula, for their slots."""
    space = ShapeSpace(shapes, unary or (), binary or (), nary or ())
    return constrain(
        space, contains_x=contains_x, max_complexity=max_complexity, forbid=tuple(forbid or ()), ready_made=ready_made
    )


def _node_unary(ready_made: bool) -> tuple[str, ...]:
    return tuple(
        t for t in NODE_UNARY if ready_made or not OPERATORS.get(t.partition("(")[0], OPERATORS["neg"]).ready_made
    )
