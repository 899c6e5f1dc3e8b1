"""Tables of results for tests that train nothing, and the functions of a tiny space found by numpy alone."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from analysis.yardstick import FUNCTION_COLUMNS, TRAINING_COLUMNS, ResultTable
from tests.expressions import evaluate_text

UNARY, BINARY = ("x", "tanh(x)", "sigmoid(x)", "max(x, 0)"), ("{} + {}", "{} * {}", "max({}, {})")
TINY: dict[str, Any] = {
    "name": "tiny",
    "space": {
        "name": "custom",
        "shapes": ["b(u(x), u(x))"],
        "unary": ["x", "tanh", "sigmoid", "max(x, 0)"],
        "binary": ["add", "mul", "max"],
    },
    "strategy": {"name": "random"},
    "warm_start": {},
    "model": {"name": "resnet8", "width": 4},
    "data": {"name": "digits"},
    "recipe": {"batch_size": 128},
    "trial": {"epochs": 1, "max_steps": 2, "precision": "fp32"},
    "search": {"trials": 5},
    "baselines": [],
    "executor": "inline",
}
"""A configuration whose trainings take a few hundredths of a second, over 48 spellings."""

_X = np.linspace(-5, 5, 101)


def values(text: str) -> np.ndarray:
    """Of a printed function, on [-5, 5]."""
    return evaluate_text(text, _X)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two functions are equal, or the one is the other turned about the origin."""
    return bool(np.allclose(a, b, atol=1e-9) or np.allclose(a, -b[::-1], atol=1e-9))


@cache
def tiny_functions() -> tuple[str, ...]:
    """A spelling of every function of TINY that is not affine, by brute force."""
    found: list[str] = []
    for b, first, second in product(BINARY, UNARY, UNARY):
        text = b.format(f"({first})", f"({second})")
        if np.abs(np.diff(values(text), 2)).max() > 1e-9 and not any(same(values(text), values(t)) for t in found):
            found.append(text)
    return tuple(found)


def row_of(text: str, functions: list[str]) -> int:
    """Which of the functions this one is."""
    (row,) = [row for row, other in enumerate(functions) if same(values(text), values(other))]
    return row


def made_table(
    accuracy: np.ndarray,
    *,
    loss: np.ndarray | None = None,
    expressions: tuple[str, ...] | None = None,
    silu: int | None = None,
    swish: tuple[int, ...] = (),
    seeds: tuple[int, ...] | None = None,
    **about: Any,
) -> ResultTable:
    """A table with that accuracy, shape (functions, seeds); NaN is a failure."""
    n, number = accuracy.shape
    seeds = seeds or tuple(range(number))
    loss = 1 - accuracy if loss is None else loss
    rows = [
        {
            "function": row,
            "seed": seed,
            "state": "FAIL" if np.isnan(accuracy[row, column]) else "COMPLETE",
            "reason": "diverged: loss" if np.isnan(accuracy[row, column]) else None,
            "val_accuracy": accuracy[row, column],
            "val_loss": loss[row, column],
            "val_bpb": np.nan,
            "train_loss": 2 * loss[row, column],
            "train_loss_sum": 4 * loss[row, column],
            "seconds": 2.0,
            "parameters": 100,
        }
        for row in range(n)
        for column, seed in enumerate(seeds)
    ]
    functions = {
        "expression": list(expressions or (f"tanh({row + 1} * x)" for row in range(n))),
        "formula": [f"f{row}(x)" for row in range(n)],
        "name": ["SiLU" if row == silu else None for row in range(n)],
        "likeness": ["= SiLU" if row == silu else None for row in range(n)],
        "swish_family": [row in swish for row in range(n)],
        "nodes": [3] * n,
        "cost": [1.0 + row for row in range(n)],
        "spectrum": [np.linspace(row, 1, 4, dtype=np.float32) for row in range(n)],
    }
    return ResultTable(
        pd.DataFrame(functions, columns=list(FUNCTION_COLUMNS)),
        pd.DataFrame(rows, columns=list(TRAINING_COLUMNS)),
        about,
    )


def tiny_table(seeds: int = 3, failures: float = 0.1, **about: Any) -> ResultTable:
    """A table of TINY with made-up results."""
    rng = np.random.default_rng(7)
    accuracy = rng.uniform(0.3, 0.9, (len(tiny_functions()), 1)) + rng.normal(0, 0.02, (len(tiny_functions()), seeds))
    accuracy[rng.random(accuracy.shape) < failures] = np.nan
    silu = row_of("x * sigmoid(x)", list(tiny_functions()))
    return made_table(
        accuracy,
        loss=np.exp(-accuracy),
        expressions=tiny_functions(),
        silu=silu,
        swish=(silu,),
        **{"config": TINY, "nas_version": "1", **about},
    )
