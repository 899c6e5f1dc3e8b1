"""The named activation functions: baselines of a search, and names for what it rediscovers.

Formulas in the expression language; where a function has a published learnable parameter it is spelled with one.
Sources: PReLU (arXiv 1502.01852); CELU (1704.07483); Swish-T (2407.01012); xIELU (2411.13010), with its two parameters
as they stand in the formula; penalised tanh (1602.05980); LiSHT (1901.05894); ReLU^2, Primer (2109.08668); Mish
(1908.08681); GoLU (2502.03654); TanhExp (2003.09855). The functions named "2017: ..." are the other finds of
Ramachandran, Zoph and Le (1710.05941).
"""

from __future__ import annotations

from functools import cache
from types import MappingProxyType

from search_spaces.equivalence import EquivalenceIndex
from search_spaces.expression import Expression, variables
from search_spaces.parser import ParseError, parse
from search_spaces.registry import nearest

KNOWN = MappingProxyType(
    {
        "identity": "x",
        "ReLU": "max(x, 0)",
        "LeakyReLU": "max(x, 0.01 * x)",
        "PReLU": "max(x, 0) + beta * min(x, 0)",
        "ReLU6": "min(max(x, 0), 6)",
        "ELU": "max(x, 0) + expm1(min(x, 0))",
        "CELU": "max(x, 0) + beta * expm1(min(x, 0) / beta)",
        "SELU": "1.0507009873554805 * (max(x, 0) + 1.6732632423543772 * expm1(min(x, 0)))",
        "GELU": "0.5 * x * (1 + erf(x * 0.7071067811865476))",
        "GELU (tanh)": "0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x ** 3)))",
        "SiLU": "x * sigmoid(x)",
        "Swish": "x * sigmoid(beta * x)",
        "Mish": "x * tanh(softplus(x))",
        "Softplus": "softplus(x)",
        "HardSwish": "x * min(max(x + 3, 0), 6) / 6",
        "ReLU^2": "max(x, 0) ** 2",
        "GoLU": "x * exp(-exp(-x))",
        "TanhExp": "x * tanh(exp(x))",
        "Swish-T": "x * sigmoid(beta * x) + 0.1 * tanh(x)",
        "xIELU": "0.5 * x + alpha * max(x, 0) ** 2 + beta * (expm1(min(x, 0)) - min(x, 0))",
        "GELU + 0.1 sin": "0.5 * x * (1 + erf(x * 0.7071067811865476)) + 0.1 * sin(x)",
        "penalized tanh": "max(tanh(x), 0.25 * tanh(x))",
        "LiSHT": "x * tanh(x)",
        "sigmoid": "sigmoid(x)",
        "HardSigmoid": "min(max(x / 6 + 0.5, 0), 1)",
        "HardTanh": "min(max(x, -1), 1)",
        "tanh": "tanh(x)",
        "softsign": "softsign(x)",
        "erf": "erf(x)",
        "atan": "atan(x)",
        "sin": "sin(x)",
        "Gaussian": "exp(-x ** 2)",
        "2017: max(x, sigmoid)": "max(x, sigmoid(x))",
        "2017: cos(x) - x": "cos(x) - x",
        "2017: min(x, sin)": "min(x, sin(x))",
        "2017: atan(x)^2 - x": "atan(x) ** 2 - x",
        "2017: max(x, tanh)": "max(x, tanh(x))",
        "2017: sinc(x) + x": "sinc(x) + x",
        "2017: x asinh(x)^2": "x * asinh(x) ** 2",
    }
)
"""Name to formula: what was published."""

FOUND = MappingProxyType(
    {
        "two slopes": "beta * min(x, 0) + (1 - beta) * (beta2 * x)",
        "line - ReLU": "beta * x - max(x, 0)",
        "squared gain": "min(x, 0) * (beta * beta2 + (1 - beta) * exp(-x ** 2)) ** 2",
        "sin / cosh": "sin(x) / (cosh(x) + 1e-05)",
        "sin to line": "beta * sin(x) + x * (1 - beta)",
    }
)
"""Finds of this project that its studies (docs/studies) confirmed on a test set. Nothing is said to be like these."""

NAMED = MappingProxyType({**KNOWN, **FOUND})
"""All of them."""


@cache
def _index() -> tuple[EquivalenceIndex, dict[str, str]]:
    index = EquivalenceIndex()
    return index, {index.add(parse(formula)): name for name, formula in NAMED.items()}


def recognize(expression: Expression) -> str | None:
    """The name of the known or found function that this expression is equal to, None if it is none of them."""
    index, names = _index()
    key = index.find(expression)
    return None if key is None else names[key]


def as_expression(text: str) -> Expression:
    """The activation function that a name such as ``SiLU``, or else a formula in x, stands for.

    Raises:
        ParseError: a formula that cannot be read, or with another input than x.
    """
    try:
        return known_expression(text.strip())
    except KeyError as error:
        unknown = error.args[0]
    try:
        expression = parse(text)
    except ParseError:
        if text.strip().isidentifier():  # a name, rather than a formula
            raise ParseError(unknown, text, 0) from None
        raise
    others = set(variables(expression)) - {"x"}
    if others:
        raise ParseError(f"an activation's only input is x, got {', '.join(sorted(others))}", text, 0)
    return expression


def known_expression(name: str) -> Expression:
    """The expression of a named function; case does not matter. Raises KeyError with the near miss."""
    by_lower = {known.lower(): formula for known, formula in NAMED.items()}
    if name.lower() not in by_lower:
        raise KeyError(f"unknown activation {name!r}; {nearest(name, NAMED)}")
    return parse(by_lower[name.lower()])
