"""Hypothesis strategies for expressions, and an evaluation of them that shares no code with the project."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import strategies as st
from scipy import special

from search_spaces.expression import Call, Const, Expression, Param, Var
from search_spaces.operators import OPERATORS

CONSTANTS = st.one_of(
    st.integers(-5, 5).map(float), st.floats(-1e6, 1e6, allow_nan=False), st.sampled_from([2.0, 3.0, 0.5, -2.0])
)
LEAVES = st.one_of(
    st.just(Var("x")), CONSTANTS.map(Const), st.sampled_from(["alpha", "beta", "beta2", "gamma10"]).map(Param)
)


def _grow(children: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    def of_arity(arity: int) -> st.SearchStrategy[Expression]:
        names = sorted(name for name, row in OPERATORS.items() if row.arity == arity)
        return st.builds(Call, st.sampled_from(names), st.tuples(*[children] * arity))

    return st.one_of(of_arity(1), of_arity(2))


EXPRESSIONS = st.recursive(LEAVES, _grow, max_leaves=12)

NUMPY = {
    "neg": np.negative,
    "abs": np.abs,
    "square": np.square,
    "cube": lambda x: x**3,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "sinc": lambda x: np.where(x == 0, 1.0, np.sin(x) / np.where(x == 0, 1.0, x)),
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "erf": special.erf,
    "erfc": special.erfc,
    "sigmoid": special.expit,
    "logsigmoid": special.log_expit,
    "softplus": lambda x: np.logaddexp(x, 0.0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
    "silu": lambda x: x * special.expit(x),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "i0e": special.i0e,
    "i1e": special.i1e,
    "relu": lambda x: np.maximum(x, 0.0),
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "max": np.maximum,
    "min": np.minimum,
}
"""Every operator in numpy and scipy."""


def evaluate_text(text: str, x: np.ndarray, **parameters: float) -> np.ndarray:
    """The value of a printed expression according to Python's own grammar and numpy's functions."""
    names = {**NUMPY, "number": np.float64, "x": x, **{name: np.float64(value) for name, value in parameters.items()}}
    text = re.sub(r"(?<![\w.])([0-9.]+(?:e[+-]?[0-9]+)?)", r"number(\1)", text)  # Python's own division by 0 throws
    with np.errstate(all="ignore"):
        value = eval(text, {"__builtins__": {}}, names)  # noqa: S307 (printed by us, in a test)
        return np.broadcast_to(np.asarray(value, dtype=np.float64), x.shape)
