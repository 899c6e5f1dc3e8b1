"""Which named function an expression is, or is like: exactly, up to scale, shift and reflection, or nearly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize

from search_spaces.canonical import simplify
from search_spaces.compile import evaluate, plan
from search_spaces.equivalence import EquivalenceIndex
from search_spaces.expression import Call, Expression, Var, params, replace
from search_spaces.known import KNOWN, known_expression, recognize
from search_spaces.values import GRID

Floats = NDArray[np.float64]

TOLERANCE = 0.05
"""Largest difference on [-5, 5] up to which a function counts as like a named one."""
_REMOTE = 0.5  # what differs more is not worth naming as a neighbour
RANGE: Floats = np.linspace(-5.0, 5.0, 201)
_FAR: Floats = np.concatenate([GRID, [-1000.0, -100.0, -20.0, 20.0, 100.0, 1000.0]])
_MAX_FITTED = 3
# Where a fit of one, two, three parameters starts from: a coarse grid around the initial value 1.
_STARTS = {1: np.linspace(-3, 5, 41), 2: np.linspace(-1, 3, 9), 3: np.linspace(0, 2, 5)}
_REFINED = 6
_BOUND = 10.0  # a parameter beyond it makes another function, such as a step
_TRIVIAL = ("identity",)


@dataclass(frozen=True)
class Likeness:
    """A named function, and how like it is.

    Attributes:
        name: of the known function.
        formula: the known function as the expression uses it, such as ``2 * SiLU(-x) + 1``.
        difference: largest |difference| on [-5, 5]; 0 if they are equal.
        equal: whether they are equal, far out too.
        fitted: values of learnable parameters at which that holds.
    """

    name: str
    formula: str
    difference: float
    fitted: tuple[tuple[str, float], ...] = ()
    equal: bool = True

    def __str__(self) -> str:
        at = f" at {', '.join(f'{name}={value:.4g}' for name, value in self.fitted)}" if self.fitted else ""
        if self.equal:
            return f"= {self.formula}{at}"
        if self.difference > TOLERANCE:
            return f"{self.formula}{at} (max |diff| {self.difference:.2g})"
        if self.difference < 1e-6:
            return f"~ {self.formula}{at} (equal on [-5, 5] alone)"
        return f"~ {self.formula}{at} (max |diff| {self.difference:.2g})"


def likeness(expression: Expression) -> Likeness | None:
    """The named function that the expression is, up to scale, shift and reflection, or is like within the tolerance."""
    name = recognize(expression)
    if name is not None:
        return Likeness(name, name, 0.0)
    found = _affine(expression)
    if found is None and (close := nearest_known(expression, 1)) and close[0].difference <= TOLERANCE:
        return close[0]
    return found


def nearest_known(expression: Expression, count: int) -> list[Likeness]:
    """The named functions that differ least on [-5, 5], by no more than 0.5; nearest first, each once.

    Learnable parameters of the expression are fitted, and it is compared with known functions that have none, also
    reflected; an expression without any is compared with all, and their parameters are fitted.
    """
    names = params(expression)
    if len(names) > _MAX_FITTED:
        return []
    if names:
        others = [other for other in _mirrored() if other.name not in _TRIVIAL]
        grid = _values(expression, _grid(len(names)), names)
        starts = [_closest(grid, _plain(other.expression), len(names)) for other in others]
    else:
        others = [_Named(known, known, known_expression(known)) for known in KNOWN if known not in _TRIVIAL]
        target = _plain(expression)
        starts = [_coarse(other.expression, target) for other in others]
    found = sorted(zip(others, starts, strict=True), key=lambda pair: pair[1][1])
    refined = [_refined(expression, other, start) for other, (start, _) in found[: 2 * (count + _REFINED)]]
    refined.sort(key=lambda like: (not like.equal, round(like.difference, 4), len(like.formula)))  # plain before turned
    best: dict[str, Likeness] = {}
    for like in refined:
        best.setdefault(like.name, like)
    return [like for like in best.values() if like.difference <= _REMOTE][:count]


@dataclass(frozen=True)
class _Named:
    """A known function, or its reflection: ``formula`` is how it is written, such as ``-ReLU(-x)``."""

    name: str
    formula: str
    expression: Expression


@cache
def _mirrored() -> list[_Named]:
    """The known functions without parameters, each as it is and reflected at either axis and at both."""
    found = []
    for known in KNOWN:
        plain = known_expression(known)
        if params(plain):
            continue
        turned = replace(plain, {Var("x"): Call("neg", (Var("x"),))})
        call = known if known.isalnum() else f"({known})"
        found += [_Named(known, known, plain), _Named(known, f"{call}(-x)", turned)]
        found += [
            _Named(known, f"-{call}(x)", Call("neg", (plain,))),
            _Named(known, f"-{call}(-x)", Call("neg", (turned,))),
        ]
    return found


# --- scale, shift, reflection ----------------------------------------------------------------------------------------


@cache
def _index() -> tuple[EquivalenceIndex, dict[str, str]]:
    index = EquivalenceIndex("affine")
    names: dict[str, str] = {}
    for known in KNOWN:
        if known not in _TRIVIAL:
            names.setdefault(index.add(known_expression(known)), known)
    return index, names


def _affine(expression: Expression) -> Likeness | None:
    """a * g(±x) + b for a named g."""
    index, names = _index()
    name = names.get(index.find(expression) or "")
    if name is None:
        return None
    if params(known_expression(name)):  # which value of its parameter corresponds to which is not worth a fit
        return Likeness(name, f"{name} up to scale, shift and reflection", 0.0)
    target, other = _plain(expression), _plain(known_expression(name))
    at = tuple((parameter, 1.0) for parameter in params(expression))
    finite = np.isfinite(target)
    target = target[finite]
    for inner, values in (("x", other[finite]), ("-x", other[::-1][finite])):
        columns = np.stack([values, np.ones_like(values)], axis=1)
        (a, b), *_ = np.linalg.lstsq(columns, target, rcond=None)
        if np.abs(columns @ (a, b) - target).max() <= 1e-6 * max(1.0, np.abs(target).max()):
            simple = name.isalnum()
            a, b = float(f"{a:.6g}"), 0.0 if abs(b) < 1e-7 * max(1.0, abs(a)) else float(f"{b:.6g}")
            text = _scaled(f"{name if simple else 'f'}({inner})", a, b)
            if text == str(simplify(expression)):  # 2 * tanh(x) would be said to be 2 * tanh(x)
                changes = ["reflected" if a < 0 else "", "scaled" if abs(a) != 1 else "", "shifted" if b else ""]
                text = ", ".join(filter(None, [name, *changes]))
            return Likeness(name, text if simple else f"{text} with f = {name}", 0.0, at)
    return Likeness(name, f"{name} up to scale, shift and reflection", 0.0)


def _scaled(text: str, a: float, b: float) -> str:
    scaled = text if a == 1 else f"-{text}" if a == -1 else f"{a:g} * {text}"
    return scaled if b == 0 else f"{scaled} {'+' if b > 0 else '-'} {abs(b):g}"


# --- fits ------------------------------------------------------------------------------------------------------------


def _values(expression: Expression, points: Floats, names: tuple[str, ...], x: Floats = RANGE) -> Floats:
    """Values on ``x`` for every row of parameter values; shape (rows, points)."""
    inputs = {"x": torch.from_numpy(x)[None, :]}
    for name, column in zip(names, points.T, strict=True):
        inputs[name] = torch.from_numpy(np.ascontiguousarray(column))[:, None]
    with torch.no_grad():
        return np.asarray(evaluate(plan(expression), inputs).expand(max(len(points), 1), len(x)).numpy())


def _plain(expression: Expression) -> Floats:
    """Values with all parameters at their initial value 1."""
    names = params(expression)
    return _values(expression, np.ones((1, len(names))), names)[0]


@cache
def _grid(parameters: int) -> Floats:
    """Values of so many parameters, where fits start: at 1, and on a coarse grid; shape (rows, parameters)."""
    axis = _STARTS[min(parameters, _MAX_FITTED)]
    return np.array([np.ones(parameters), *product(axis, repeat=parameters)])


def _coarse(family: Expression, target: Floats) -> tuple[Floats, float]:
    """The best parameters on the grid, and the difference there."""
    names = params(family)
    if not names:
        return np.ones(0), _difference(_plain(family) - target)
    return _closest(_values(family, _grid(len(names)), names), target, len(names))


def _closest(values: Floats, target: Floats, parameters: int) -> tuple[Floats, float]:
    with np.errstate(all="ignore"):
        differences = np.nan_to_num(np.abs(values - target), nan=np.inf).max(axis=1)
    best = int(np.argmin(differences))
    return _grid(parameters)[best], float(differences[best])


def _refined(expression: Expression, known: _Named, start: Floats) -> Likeness:
    names = params(expression)
    other = known.expression
    family, fixed = (expression, other) if names else (other, expression)
    target, ones = _plain(fixed), np.ones((1, len(params(fixed))))
    free = params(family)
    best = start
    if free and np.isfinite(target).all():

        def residual(point: Floats) -> Floats:
            values = _values(family, point[None], free)[0] - target
            return np.clip(np.nan_to_num(values, nan=1e6), -1e6, 1e6)

        fitted = optimize.least_squares(residual, start, bounds=(-_BOUND, _BOUND), max_nfev=60).x
        best = min((start, fitted, np.round(fitted, 3)), key=lambda point: _difference(residual(point)))
    difference = _difference(_values(family, best[None], free)[0] - target)
    far = _values(family, best[None], free, _FAR)[0], _values(fixed, ones, params(fixed), _FAR)[0]
    equal = bool(np.allclose(*far, rtol=1e-6, atol=1e-6)) and difference < 1e-6
    at = tuple((name, float(value) + 0.0) for name, value in zip(free, best, strict=True))
    if names:
        return Likeness(known.name, known.formula, difference, at, equal)
    inner = ", ".join(f"{name}={value:.4g}" for name, value in at)
    return Likeness(known.name, f"{known.name}({inner})" if inner else known.name, difference, (), equal)


def _difference(values: Floats) -> float:
    with np.errstate(all="ignore"):
        return float(np.nan_to_num(np.abs(values), nan=np.inf).max())
