"""Functions as vectors of numbers, for models that predict how well they train.

Values and slopes on quantiles of N(0,1), which is what a normalised layer feeds an activation, and a few properties of
both. Everything is squashed by arcsinh, so that x**3 and sinh(x) stay comparable with tanh(x).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search_spaces.expression import Expression, params, size
from search_spaces.values import CORE, CORE_SLICE, GRID, batches, one_thread, values_and_slopes

Floats = NDArray[np.float64]

_POINTS = np.linspace(0, len(CORE) - 1, 24).round().astype(int)
PROPERTIES = (
    "mean",
    "second moment",
    "second moment of the slope",
    "slope of the best line",
    "not on that line",
    "odd part",
    "even part",
    "falling",
    "least slope",
    "largest slope",
    "slope at -5",
    "slope at +5",
    "value at -5",
    "value at +5",
    "nodes",
    "parameters",
)


def features(expressions: Sequence[Expression]) -> Floats:
    """One row an expression of the single input x, learnable parameters at 1: shape (len(expressions), 64), all finite.

    24 values, 24 slopes and :data:`PROPERTIES`, all squashed. Equal functions may differ in nodes and parameters alone.
    """
    if not expressions:
        return np.empty((0, 2 * len(_POINTS) + len(PROPERTIES)))
    with one_thread():
        return np.concatenate([_features(batch) for batch in batches(expressions)])


def _features(expressions: Sequence[Expression]) -> Floats:
    names = {name for expression in expressions for name in params(expression)}
    values, slopes = values_and_slopes(expressions, parameters=dict.fromkeys(names, 1.0))
    values, slopes = (np.nan_to_num(a, nan=0.0, posinf=1e30, neginf=-1e30).clip(-1e30, 1e30) for a in (values, slopes))
    inner, inner_slopes = values[:, CORE_SLICE], slopes[:, CORE_SLICE]
    mean, line = inner.mean(1), inner @ CORE / (CORE @ CORE)
    rest = inner - mean[:, None] - line[:, None] * CORE
    mirrored = inner[:, ::-1]
    ends = [int(np.abs(GRID - end).argmin()) for end in (-5.0, 5.0)]
    columns = (
        mean,
        (inner**2).mean(1),
        (inner_slopes**2).mean(1),
        line,
        (rest**2).mean(1),
        (((inner - mirrored) / 2) ** 2).mean(1),
        (((inner + mirrored) / 2) ** 2).mean(1),
        (inner_slopes < -1e-9).mean(1),
        inner_slopes.min(1),
        inner_slopes.max(1),
        *slopes[:, ends].T,
        *values[:, ends].T,
        np.array([size(expression) for expression in expressions]),
        np.array([len(params(expression)) for expression in expressions]),
    )
    return np.arcsinh(np.column_stack([inner[:, _POINTS], inner_slopes[:, _POINTS], *columns]))
