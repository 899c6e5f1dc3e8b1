"""When are two expressions the same function?

Decided by value: f and f' in float64 on a fixed grid, compared within a tolerance, after the rewrite table has settled
what is plain from the spelling. Different functions of a search space differ by far more than the tolerance, and this
is about a thousand times faster than symbolic simplification.

Optionally, functions are the same up to symmetries of the network around them (:data:`LEVELS`): a network with
-f(-x) is the one with f with the signs of weights and biases on both sides exchanged, skip connections included; and a
scale or shift of the output can be undone by the next layer.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import permutations
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from search_spaces.canonical import simplify
from search_spaces.compile import to_function
from search_spaces.expression import Expression, Param, number_params, params, replace
from search_spaces.values import CORE, CORE_SLICE, GRID, values_and_slopes

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Level = Literal["exact", "reflection", "affine"]
LEVELS: dict[Level, str] = {
    "exact": "the same values",
    "reflection": "f(x) and -f(-x) are the same",
    "affine": "f(x) and a * f(x) + b, a * f(-x) + b are the same",
}

TOLERANCE = 1e-7
"""Largest difference, in a signature, of functions that count as the same: relative where |f| > 1, else absolute."""

# Learnable parameters have no order, so a function of up to so many is compared under every assignment of values to
# them. With more, only in order of appearance: an equality may then go unnoticed, which costs a training, no more.
_MAX_PERMUTED = 4
_NAN = 2000.0  # beyond arcsinh of the largest float64, 710
_SIZE = len(GRID) + len(CORE)
# Weighted means of a signature, by which equal functions are found: the weights add up to 1, so that equal functions
# have means closer than the tolerance. They are not symmetric, so that they tell f(x) from f(-x).
WEIGHTS: Floats = np.random.default_rng(20171016).dirichlet(np.ones(_SIZE), size=4).T


@dataclass(frozen=True)
class Examined:
    """What values say about a list of expressions; all arrays have one entry, or row, an expression."""

    signatures: Floats
    finite: Flags
    affine: Flags


def examine(expressions: Sequence[Expression], level: Level = "exact") -> Examined:
    """Evaluate expressions and describe them.

    Equal functions have signatures, of shape (1088,), that differ by at most :data:`TOLERANCE`. Values inside ±3.1 and
    slopes there count as arcsinh (relative where they are large), values in the tails as arctan; a function that is not
    finite inside is judged by its values there and by its slopes where it is finite.
    """
    owners, spellings = [], []
    for owner, expression in enumerate(expressions):
        for spelling in _assignments(expression):
            owners.append(owner)
            spellings.append(spelling)
    values, slopes = _evaluated(*spellings) if len(expressions) == 1 else values_and_slopes(spellings)
    rows = _normalized(values, slopes, level)
    if len(spellings) > len(expressions):  # of all assignments of parameters, the one with the largest mean
        best = np.lexsort((-(rows @ WEIGHTS[:, 0]), np.asarray(owners)))
        _, first = np.unique(np.asarray(owners)[best], return_index=True)
        rows, values = rows[best[first]], values[best[first]]
    return Examined(rows, are_finite(values), are_affine(values))


@lru_cache(maxsize=32)
def _evaluated(*spellings: Expression) -> tuple[Floats, Floats]:
    """Of one function. A search asks several questions about each in turn, and all need this."""
    values, slopes = values_and_slopes(list(spellings))
    values.flags.writeable = slopes.flags.writeable = False
    return values, slopes


def _assignments(expression: Expression) -> list[Expression]:
    """The expression with its parameters renamed in all possible orders."""
    names = params(expression)
    if len(names) < 2 or len(names) > _MAX_PERMUTED:
        return [number_params(expression)]
    fresh = [Param("beta" if i == 0 else f"beta{i + 1}") for i in range(len(names))]
    return [
        replace(expression, {Param(name): new for name, new in zip(names, order, strict=True)})
        for order in permutations(fresh)
    ]


def _normalized(values: Floats, slopes: Floats, level: Level) -> Floats:
    """Signatures of the representatives that ``level`` chooses among the functions it takes for the same."""
    if level == "exact":
        return _squashed(values, slopes)
    reflected = (-values[:, ::-1], slopes[:, ::-1])
    variants = [(values, slopes), reflected]
    if level == "affine":
        values, slopes = _standardized(values, slopes)
        flipped = (values[:, ::-1], -slopes[:, ::-1])
        variants = [(values, slopes), (-values, -slopes), flipped, (-flipped[0], -flipped[1])]
    candidates = np.stack([_squashed(v, s) for v, s in variants])
    chosen = np.argmax(candidates @ WEIGHTS[:, 0], axis=0)
    return np.asarray(candidates[chosen, np.arange(len(values))])


def _standardized(values: Floats, slopes: Floats) -> tuple[Floats, Floats]:
    """Mean 0 and standard deviation 1 for an input from N(0,1), where the function is finite and not constant."""
    with np.errstate(all="ignore"):
        core = values[:, CORE_SLICE]
        mean, std = core.mean(axis=1, keepdims=True), core.std(axis=1, keepdims=True)
        usable = np.isfinite(std) & (std > 1e-9 * np.maximum(1.0, np.abs(mean)))
        mean, std = np.where(usable, mean, 0.0), np.where(usable, std, 1.0)
        return (values - mean) / std, slopes / std


def _squashed(values: Floats, slopes: Floats) -> Floats:
    core, core_slopes = values[:, CORE_SLICE], slopes[:, CORE_SLICE]
    finite = np.isfinite(core)
    with np.errstate(all="ignore"):
        rows = np.concatenate([np.arctan(values), np.where(finite, np.arcsinh(core_slopes), 0.0)], axis=1)
        rows[:, CORE_SLICE] = np.arcsinh(core)
    rows[~finite.all(axis=1), : CORE_SLICE.start] = 0.0
    rows[~finite.all(axis=1), CORE_SLICE.stop : len(GRID)] = 0.0
    return np.nan_to_num(rows, copy=False, nan=_NAN, posinf=711.0, neginf=-711.0)


# --- what is worth a training ----------------------------------------------------------------------------------------


def are_finite(values: Floats) -> Flags:
    """Which rows of values on the grid are finite on its core, ±3.1."""
    return np.asarray(np.isfinite(values[:, CORE_SLICE]).all(axis=1))


def are_affine(values: Floats) -> Flags:
    """Which rows lie on a straight line on the whole grid, constants included: such a network has no non-linearity."""
    usable = are_finite(values)
    core = np.where(usable[:, None], values[:, CORE_SLICE], 0.0)
    slope, offset = core @ CORE / (CORE @ CORE), core.mean(axis=1)
    with np.errstate(all="ignore"):
        residual = np.abs(values - offset[:, None] - slope[:, None] * GRID).max(axis=1)
        return np.asarray(usable & (residual <= 1e-7 * np.maximum(1e-3, np.abs(core).max(axis=1))))


_RANGE = torch.arange(-200, 201) / 40.0  # [-5, 5], with an exact 0


def rejection(expression: Expression) -> str | None:
    """Why a candidate is not worth a training, judged from its values alone; None if it is.

    Computed as a training would: in float32, with autograd. The slope at exactly 0 is let pass (sqrt(abs(x))).
    """
    x = _RANGE.clone().requires_grad_()
    names = params(expression)
    parameters = {name: torch.tensor(1.0 + 0.1 * i) for i, name in enumerate(names)}
    y = to_function(expression)(x, **parameters)
    if not y.isfinite().all():
        return "not finite on [-5, 5]"
    if examine([simplify(number_params(expression))]).affine[0]:
        return "affine or constant"
    if y.requires_grad:
        (slope,) = torch.autograd.grad(y.sum(), x)
        if not slope[x != 0].isfinite().all():
            return "slope not finite on [-5, 5]"
    return None


# --- finding the known one -------------------------------------------------------------------------------------------


@dataclass
class EquivalenceIndex:
    """Finds out to which function seen before an expression is equal. Keys are short strings fit for a database."""

    level: Level = "exact"
    _spellings: dict[Expression, str] = field(default_factory=dict)
    _means: list[tuple[float, str]] = field(default_factory=list)
    _signatures: dict[str, Floats] = field(default_factory=dict)

    def find(self, expression: Expression) -> str | None:
        """The key of the function this expression is equal to, None if no such function was added."""
        simple = simplify(number_params(expression))
        return self._spellings.get(simple) or self._find(examine([simple], self.level).signatures[0])

    def add(self, expression: Expression) -> str:
        """The key of this function, which is added when it is new."""
        simple = simplify(number_params(expression))
        if simple in self._spellings:
            return self._spellings[simple]
        row = examine([simple], self.level).signatures[0]
        key = self._find(row)
        if key is None:
            key = hashlib.sha256(np.round(row, 6).tobytes()).hexdigest()[:12]
            self._signatures[key] = row
            insort(self._means, (float(row @ WEIGHTS[:, 0]), key))
        self._spellings[simple] = key
        return key

    def _find(self, row: Floats) -> str | None:
        mean = float(row @ WEIGHTS[:, 0])
        low = bisect_left(self._means, (mean - 2 * TOLERANCE, ""))
        high = bisect_right(self._means, (mean + 2 * TOLERANCE, "~"))
        for _, key in self._means[low:high]:
            if np.abs(row - self._signatures[key]).max() <= TOLERANCE:
                return key
        return None
