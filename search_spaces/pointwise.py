"""From an expression in x to the kernels of :mod:`nas.modules.activations.pointwise`."""

from __future__ import annotations

from functools import lru_cache

from nas.modules.activations.pointwise import Formula
from search_spaces.compile import to_positional
from search_spaces.expression import Expression, params
from search_spaces.kernel_source import kernel_source


@lru_cache(maxsize=1024)
def formula_of(expression: Expression) -> Formula:
    """A function of x and its parameters for :func:`nas.modules.activations.pointwise.pointwise`."""
    names = params(expression)
    c, triton = kernel_source(expression) or (None, None)
    return Formula(to_positional(expression, ("x", *names)), len(names), c, triton)
