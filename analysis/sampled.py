"""A function known by its values: where it is sampled, and its limits at both ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.expression import Expression
from search_spaces.values import values_and_slopes

Floats = NDArray[np.float64]

DENSE: Floats = np.asarray(np.linspace(-12, 12, 24_001) + 1e-7, dtype=np.float64)
"""Within ±12 in steps of 0.001, never exactly on a kink at a round number."""
FAR: Floats = np.asarray(10.0 ** np.arange(1, 9), dtype=np.float64)
"""x = 10, 100, ..., 1e8: what happens towards infinity."""


@dataclass
class Function:
    """An expression with its parameters at 1, evaluated where it is wanted."""

    expression: Expression
    limits: dict[str, Any] = field(default_factory=dict)
    scale: float = 1.0  # root mean square of f(z), z from N(0,1): what is small is small beside it

    def __call__(self, x: Floats) -> Floats:
        return values_and_slopes([self.expression], np.asarray(x, dtype=np.float64))[0][0]

    def slope(self, x: Floats) -> Floats:
        return values_and_slopes([self.expression], np.asarray(x, dtype=np.float64))[1][0]


def slope_limit(f: Function, sign: int) -> float | None:
    """The limit of f/x by secants between x = 10, 100, ..., possibly infinite; None if there is none."""
    x = sign * FAR[:7]
    with np.errstate(all="ignore"):
        y = f(x)
        secants = np.diff(y) / np.diff(x)
    if settles(secants, f.scale):
        last = float(secants[-1])
        return 0.0 if abs(last) < 1e-6 * f.scale else last
    if np.isnan(secants[-1]) and not np.isinf(y[-1]):
        return None
    grows = np.abs(y / x)
    steady = np.isinf(grows[-1]) or bool((np.diff(grows[-4:]) > 0).all())
    return math.copysign(math.inf, float(np.nan_to_num(y[-1] / x[-1]))) if steady else None


def limit_value(f: Function, sign: int) -> tuple[float | None, str]:
    """The limit (possibly infinite), None if there is none, and how it is known."""
    with np.errstate(all="ignore"):
        y = f(sign * FAR)
    proved = f.limits.get(f"limit{sign:+d}")
    if proved is not None and not _contradicts(float(y[-1]), proved, f.scale):
        return proved, "sympy"
    if settles(y, f.scale):
        return (0.0 if abs(y[-1]) < 1e-6 * f.scale else float(y[-1])), "values"
    finite = y[np.isfinite(y)]
    steps = np.diff(np.abs(finite))
    grows = np.isinf(y[-1]) or (len(finite) > 3 and (steps > 0).all() and abs(finite[-1]) > 4 * f.scale)
    if grows and not np.isnan(y).any() and len(set(np.sign(y[-4:]))) == 1:
        return math.copysign(math.inf, y[-1]), "values"
    return None, "values"


def _contradicts(seen: float, proved: float, scale: float) -> bool:
    """Whether a value far out shows a limit to be wrong, which sympy's are now and then."""
    if math.isnan(seen) or math.isinf(proved):
        return False
    return math.isinf(seen) or abs(seen - proved) > 0.2 * max(scale, abs(proved))


def settles(values: Floats, scale: float) -> bool:
    """Whether a sequence at x = 10, 100, ... comes to rest."""
    if not np.isfinite(values).all():
        return False
    last = np.abs(np.diff(values[-3:]))
    return bool((last <= 1e-4 * max(scale, abs(values[-1]))).all())


def number(value: float) -> str:
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return f"{value + 0.0:.4g}"
