"""What kind of function an expression is: shape, growth, smoothness, moments, membership of the Swish family.

sympy answers where it does so within a time limit, values in float64 elsewhere; every property says which. Learnable
parameters have their initial value 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from search_spaces.expression import Const, Expression, Param, params, replace
from search_spaces.sympy_bridge import ask
from search_spaces.values import values_and_slopes

Floats = NDArray[np.float64]

SYMPY_SECONDS = 5.0
"""For one question to sympy."""
_DENSE: Floats = np.asarray(np.linspace(-12, 12, 24_001) + 1e-7, dtype=np.float64)  # off kinks at round numbers
_EXACT: Floats = np.arange(-24, 25) / 2.0  # where poles, kinks and minima like to be
_WIDE: Floats = np.geomspace(12.0, 1e4, 400)
_ALL: Floats = np.unique(np.concatenate([-_WIDE, _DENSE, _EXACT, _WIDE]))
_FAR: Floats = np.asarray(10.0 ** np.arange(1, 9), dtype=np.float64)
_PROBABILITIES = (np.arange(100_000) + 0.5) / 100_000
_NORMAL: Floats = stats.norm.ppf(_PROBABILITIES)


@dataclass(frozen=True)
class Property:
    """A fact about a function, and how it is known: ``sympy`` (proved) or ``values`` (seen in float64)."""

    name: str
    value: str
    source: str = "values"


@dataclass
class _Function:
    """An expression with its parameters at 1, evaluated where it is wanted."""

    expression: Expression
    limits: dict[str, Any] = field(default_factory=dict)
    scale: float = 1.0  # root mean square of f(z), z from N(0,1): what is small is small beside it

    def __call__(self, x: Floats) -> Floats:
        return values_and_slopes([self.expression], np.asarray(x, dtype=np.float64))[0][0]

    def slope(self, x: Floats) -> Floats:
        return values_and_slopes([self.expression], np.asarray(x, dtype=np.float64))[1][0]


def at_initial_values(expression: Expression) -> Expression:
    """The expression with every learnable parameter replaced by 1."""
    return replace(expression, {Param(name): Const(1.0) for name in params(expression)})


def properties(expression: Expression, sympy_seconds: float = SYMPY_SECONDS) -> list[Property]:
    """All properties, in the order in which a reader wants them.

    Args:
        expression: of the single input x.
        sympy_seconds: for each question to sympy; 0 to leave it out.
    """
    f = _Function(at_initial_values(expression))
    hole = _hole(f)
    if hole is not None:
        return [Property("finite", f"no: {hole}"), _zero(f)]
    f.scale = float(np.sqrt(np.mean(f(_NORMAL[::100]) ** 2))) or 1.0
    f.limits = ask("limits", f.expression, sympy_seconds)
    checks: tuple[Callable[[_Function], Property], ...] = (
        swish_family,
        parity,
        monotonicity,
        bounds,
        lambda f: limit(f, -1),
        lambda f: limit(f, +1),
        lambda f: asymptote(f, -1),
        lambda f: asymptote(f, +1),
        _zero,
        smoothness,
        lipschitz,
        saturation,
        second_moment,
        slope_moment,
    )
    return [check(f) for check in checks]


def _hole(f: _Function) -> str | None:
    """Where the function is not finite within ±12, and in what way; None if it is finite."""
    y = f(_DENSE)
    if not np.isfinite(y).all():
        return f"undefined or infinite at x = {_DENSE[~np.isfinite(y)][0]:.3g}, for one"
    bad = _EXACT[~np.isfinite(f(_EXACT))]
    if not len(bad):
        return None
    at = float(bad[np.argmin(np.abs(bad))]) + 0.0
    near, nearer = (float(np.abs(f(at + np.array([-d, d]))).max()) for d in (1e-4, 1e-7))
    if nearer > 2 * near and nearer > 10:
        return f"unbounded near x = {at:g}"
    left, right = (float(v) for v in f(at + np.array([-1e-9, 1e-9])))
    return f"undefined at x = {at:g}, where it comes from {_number(left)} on the left and {_number(right)} on the right"


# --- shape -----------------------------------------------------------------------------------------------------------


def parity(f: _Function) -> Property:
    positive = _ALL[_ALL > 0]
    with np.errstate(all="ignore"):
        there, back = f(positive), f(-positive)
    usable = np.isfinite(there) & np.isfinite(back)
    if not (np.isfinite(there) == np.isfinite(back)).all():
        return Property("parity", "neither even nor odd")
    there, back = there[usable], back[usable]
    tolerance = 1e-9 * np.maximum(f.scale, np.abs(there))
    if (np.abs(there - back) <= tolerance).all():
        return Property("parity", "even")
    return Property("parity", "odd" if (np.abs(there + back) <= tolerance).all() else "neither even nor odd")


def _everywhere(f: _Function) -> tuple[Floats, Floats]:
    """Points within ±10,000 and the values there, as far as they are finite."""
    with np.errstate(all="ignore"):
        y = f(_ALL)
    return _ALL[np.isfinite(y)], y[np.isfinite(y)]


def monotonicity(f: _Function) -> Property:
    """Increasing, decreasing, or where it turns. Plateaus count as both."""
    x, y = _everywhere(f)
    steps = np.diff(y)
    noise = 1e-12 * np.maximum(f.scale, np.maximum(np.abs(y[1:]), np.abs(y[:-1])))
    if (steps >= -noise).all():
        return Property("monotone", "increasing")
    if (steps <= noise).all():
        return Property("monotone", "decreasing")
    signs = np.where(np.abs(steps) <= noise, 0, np.sign(steps))
    moving = np.flatnonzero(signs)
    turns = moving[1:][np.diff(signs[moving]) != 0]
    first = sorted(sorted(turns, key=lambda i: abs(x[i]))[:3])
    kinds = {1: "minimum", -1: "maximum"}
    parts = [f"{kinds[int(signs[i])]} {_number(y[i])} at x = {_number(round(x[i], 3))}" for i in first]
    return Property("monotone", f"no: {', '.join(parts)}{' and more' if len(turns) > 3 else ''}")


def bounds(f: _Function) -> Property:
    """Infimum and supremum; infinite where a limit is, or where |f| still grows far out."""
    _, y = _everywhere(f)
    with np.errstate(all="ignore"):
        far = np.concatenate([f(-_FAR), f(_FAR)])
    far = far[np.isfinite(far)]
    ends = [value for value in (_limit_value(f, -1)[0], _limit_value(f, 1)[0]) if value is not None]
    low, high = min([*y, *ends]), max([*y, *ends])
    if len(far) and far.min() < min(2 * low, -10 * f.scale):
        low = -math.inf
    if len(far) and far.max() > max(2 * high, 10 * f.scale):
        high = math.inf
    return Property("range", f"{_number(low)} to {_number(high)}")


# --- the ends --------------------------------------------------------------------------------------------------------


def limit(f: _Function, sign: int) -> Property:
    value, source = _limit_value(f, sign)
    name = f"limit at {'+' if sign > 0 else '-'}inf"
    return Property(name, "none" if value is None else _number(value), source)


def asymptote(f: _Function, sign: int) -> Property:
    """The line a*x + b to which f comes close, if there is one."""
    name = f"asymptote at {'+' if sign > 0 else '-'}inf"
    slope = f.limits.get(f"slope{sign:+d}")
    offset = f.limits.get(f"offset{sign:+d}")
    if slope is not None and math.isfinite(slope) and offset is not None and math.isfinite(offset):
        return Property(name, _line(slope, offset), "sympy")
    slope = _slope_limit(f, sign)
    if slope is None or not math.isfinite(slope):
        return Property(name, "none")
    x = sign * _FAR[:6]
    with np.errstate(all="ignore"):
        b = f(x) - slope * x
    return Property(name, _line(slope, float(b[-1]))) if _settles(b, f.scale) else Property(name, "none")


def _slope_limit(f: _Function, sign: int) -> float | None:
    """The limit of f/x by secants between x = 10, 100, ..., possibly infinite; None if there is none."""
    x = sign * _FAR[:7]
    with np.errstate(all="ignore"):
        y = f(x)
        secants = np.diff(y) / np.diff(x)
    if _settles(secants, f.scale):
        last = float(secants[-1])
        return 0.0 if abs(last) < 1e-6 * f.scale else last
    if np.isnan(secants[-1]) and not np.isinf(y[-1]):
        return None
    grows = np.abs(y / x)
    steady = np.isinf(grows[-1]) or bool((np.diff(grows[-4:]) > 0).all())
    return math.copysign(math.inf, float(np.nan_to_num(y[-1] / x[-1]))) if steady else None


def _line(slope: float, offset: float) -> str:
    a, b = (0.0 if abs(v) < 1e-9 else v for v in (slope, offset))
    line = "" if a == 0 else "x" if a == 1 else "-x" if a == -1 else f"{a:.4g} x"
    if not line:
        return f"y = {b:.4g}"
    return f"y = {line}" if b == 0 else f"y = {line} {'+' if b > 0 else '-'} {abs(b):.4g}"


def _limit_value(f: _Function, sign: int) -> tuple[float | None, str]:
    """The limit (possibly infinite), None if there is none, and how it is known."""
    with np.errstate(all="ignore"):
        y = f(sign * _FAR)
    proved = f.limits.get(f"limit{sign:+d}")
    if proved is not None and not _contradicts(float(y[-1]), proved, f.scale):
        return proved, "sympy"
    if _settles(y, f.scale):
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


def _settles(values: Floats, scale: float) -> bool:
    """Whether a sequence at x = 10, 100, ... comes to rest."""
    if not np.isfinite(values).all():
        return False
    last = np.abs(np.diff(values[-3:]))
    return bool((last <= 1e-4 * max(scale, abs(values[-1]))).all())


# --- smoothness and moments ------------------------------------------------------------------------------------------


def _zero(f: _Function) -> Property:
    value = float(f(np.array([0.0]))[0])
    return Property("f(0)", "0" if value == 0 else _number(value))


def smoothness(f: _Function) -> Property:
    """Class by jumps: of f (discontinuous), of f' (C0: a kink), of f'' (C1), none of these (C2 or smoother)."""
    x = _DENSE
    y, slope = f(x), f.slope(x)
    step = x[1] - x[0]
    jump = np.abs(np.diff(y)) > 20 * step * (1 + np.maximum(np.abs(slope[1:]), np.abs(slope[:-1])))
    if jump.any():
        return Property("smoothness", f"discontinuous at x = {_place(x[:-1][jump][0] + step / 2)}")
    curvature = np.gradient(slope, x)
    for order, values in ((0, slope), (1, curvature)):
        at = [x[i] + step / 2 for i in _jumps(values, step) if _persists(f, x[i], order, step)]
        if at:
            places = ", ".join(map(_place, at[:3]))
            return Property("smoothness", f"C{order}: f{chr(39) * (order + 1)} jumps at x = {places}")
    steepest = float(x[np.argmax(np.abs(curvature))])
    if _fine(f, steepest, 1, step)[0] > 3 * np.abs(curvature).max():
        return Property("smoothness", f"C1: f'' is unbounded near x = {_place(steepest)}")
    return Property("smoothness", "C2 or smoother")


def _place(x: float) -> str:
    return f"{round(float(x), 2) + 0.0:g}"


def _fine(f: _Function, at: float, order: int, step: float) -> tuple[float, float]:
    """Largest value, and largest change between neighbours, of f' (or f'') on a grid 100 times finer around a point."""
    x = np.asarray(at + np.linspace(-3, 3, 601) * step, dtype=np.float64)
    values = f.slope(x)
    if order:
        values = np.gradient(values, x)
    return float(np.abs(values).max()), float(np.abs(np.diff(values)).max())


def _persists(f: _Function, at: float, order: int, step: float) -> bool:
    """Whether a jump is as high on a finer grid: a steep but smooth passage is spread over many of its steps."""
    values = f.slope(np.asarray(at + np.arange(-4, 6) * step, dtype=np.float64))
    if order:
        values = np.gradient(values, step)
    return _fine(f, at + step / 2, order, step)[1] > 0.2 * float(values.max() - values.min())


def _jumps(values: Floats, step: float) -> NDArray[np.int64]:
    """Where neighbouring values differ far more than the values around them vary."""
    change = np.abs(np.diff(values))
    around = np.maximum(np.roll(change, 4), np.roll(change, -4))
    scale = np.maximum(1.0, np.abs(values[:-1]))
    found = np.flatnonzero((change > 30 * around + 1e-3 * scale) & (change > 0.01 * scale))
    return found[np.insert(np.diff(found) > 3, 0, True)] if len(found) else found


def lipschitz(f: _Function) -> Property:
    """sup |f'|, unbounded if it still grows far out."""
    inside = float(np.abs(f.slope(_DENSE)).max())
    with np.errstate(all="ignore"):
        far = np.nan_to_num(np.abs(np.concatenate([f.slope(-_FAR[:4]), f.slope(_FAR[:4])])), nan=0.0).max()
    grows = far > 1.5 * inside
    return Property("Lipschitz constant", "none: f' is unbounded" if grows else f"{max(inside, far):.4g}")


def saturation(f: _Function) -> Property:
    """At which ends the slope goes to 0."""
    with np.errstate(all="ignore"):
        ends = [
            side
            for side, sign in (("left", -1), ("right", 1))
            if (np.abs(f.slope(sign * _FAR[3:7])) < 1e-2 * f.scale).all()
        ]
    return Property("saturates", " and ".join(ends) or "nowhere")


def second_moment(f: _Function) -> Property:
    return Property("E[f(z)^2], z~N(0,1)", f"{np.mean(f(_NORMAL) ** 2):.4f}")


def slope_moment(f: _Function) -> Property:
    return Property("E[f'(z)^2], z~N(0,1)", f"{np.mean(f.slope(_NORMAL) ** 2):.4f}")


# --- the Swish family ------------------------------------------------------------------------------------------------


def swish_family(f: _Function) -> Property:
    """Self-gated x g(x) with g bounded, g(-inf) = 0, and g(+inf) finite and > 0; or the reflection -f(-x) of one."""
    for sign, answer in ((1, "yes"), (-1, "yes, reflected: -f(-x) is a member")):
        reason = _not_gated(f, sign)
        if reason is None:
            return Property("Swish family", answer)
    return Property("Swish family", f"no: {_not_gated(f, 1)}")


def _not_gated(f: _Function, sign: int) -> str | None:
    """Why x g(x) is no member, None if it is; with sign -1 for the reflected function."""
    if abs(float(f(np.array([0.0]))[0])) > 1e-9 * f.scale:
        return "f(0) is not 0, so g(x) = f(x)/x is unbounded"
    near = np.array([[1e-6, 1e-8], [-1e-6, -1e-8]])
    gate = np.stack([f(side) / side for side in near])
    if (
        np.abs(gate[:, 1] - gate[:, 0]) > 0.1 * np.maximum(f.scale, np.abs(gate[:, 1]))
    ).any():  # a logarithm's growth is seen
        return "g(x) = f(x)/x is unbounded near 0"
    left, right = _gate_limit(f, -sign), _gate_limit(f, sign)
    if left is None or abs(left) > 1e-6 * f.scale:
        return f"g(-inf) is {'no limit' if left is None else _number(left)}, not 0"
    if right is None or not math.isfinite(right) or right <= 1e-6 * f.scale:
        return f"g(+inf) is {'no limit' if right is None else _number(right)}, not finite and > 0"
    return None


def _gate_limit(f: _Function, sign: int) -> float | None:
    proved = f.limits.get(f"slope{sign:+d}")
    return proved if proved is not None else _slope_limit(f, sign)


def _number(value: float) -> str:
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return f"{value + 0.0:.4g}"
