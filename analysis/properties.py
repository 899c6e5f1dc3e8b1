"""What kind of function an expression is: shape, growth, smoothness, moments, membership of the Swish family.

sympy answers where it does so within a time limit, values in float64 elsewhere; every property says which. Learnable
parameters have their initial value 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.sampled import DENSE, FAR, Floats, Function, limit_value, number, settles, slope_limit
from analysis.smoothness import smoothness_class
from search_spaces.expression import Const, Expression, Param, call, params, replace
from search_spaces.sympy_bridge import ask

SYMPY_SECONDS = 5.0
"""For one question to sympy."""
_EXACT: Floats = np.arange(-24, 25) / 2.0  # where poles, kinks and minima like to be
_WIDE: Floats = np.geomspace(12.0, 1e4, 400)
_ALL: Floats = np.unique(np.concatenate([-_WIDE, DENSE, _EXACT, _WIDE]))
_NORMAL: Floats = stats.norm.ppf((np.arange(1_000) + 0.5) / 1_000)
_NODES: Floats = np.linspace(-9.0, 9.0, 36_001)
_WEIGHTS: Floats = stats.norm.pdf(_NODES) * (_NODES[1] - _NODES[0])  # the trapezoidal rule, exact for what is smooth


@dataclass(frozen=True)
class Property:
    """A fact about a function, and how it is known: ``sympy`` (proved) or ``values`` (seen in float64)."""

    name: str
    value: str
    source: str = "values"


def at_initial_values(expression: Expression) -> Expression:
    """The expression with every learnable parameter replaced by 1."""
    return replace(expression, {Param(name): Const(1.0) for name in params(expression)})


def properties(expression: Expression, sympy_seconds: float = SYMPY_SECONDS) -> list[Property]:
    """All properties, in the order in which a reader wants them.

    Args:
        expression: of the single input x.
        sympy_seconds: for each question to sympy; 0 to leave it out.
    """
    f = Function(at_initial_values(expression))
    hole = _hole(f)
    if hole is not None:
        return [Property("finite", f"no: {hole}"), _zero(f)]
    f.scale = float(np.sqrt(np.mean(f(_NORMAL) ** 2))) or 1.0
    f.limits = ask("limits", f.expression, sympy_seconds)
    checks: tuple[Callable[[Function], Property], ...] = (
        swish_family,
        self_gated,
        parity,
        monotonicity,
        bounds,
        lambda f: limit(f, -1),
        lambda f: limit(f, +1),
        lambda f: asymptote(f, -1),
        lambda f: asymptote(f, +1),
        _zero,
        lambda f: Property("smoothness", smoothness_class(f)),
        lipschitz,
        saturation,
        second_moment,
        slope_moment,
    )
    return [check(f) for check in checks]


def _hole(f: Function) -> str | None:
    """Where the function is not finite within ±12, and in what way; None if it is finite."""
    y = f(DENSE)
    if not np.isfinite(y).all():
        return f"undefined or infinite at x = {DENSE[~np.isfinite(y)][0]:.3g}, for one"
    bad = _EXACT[~np.isfinite(f(_EXACT))]
    if not len(bad):
        return None
    at = float(bad[np.argmin(np.abs(bad))]) + 0.0
    near, nearer = (float(np.abs(f(at + np.array([-d, d]))).max()) for d in (1e-4, 1e-7))
    if nearer > 2 * near and nearer > 10:
        return f"unbounded near x = {at:g}"
    left, right = (float(v) for v in f(at + np.array([-1e-9, 1e-9])))
    return f"undefined at x = {at:g}, where it comes from {number(left)} on the left and {number(right)} on the right"


# --- shape -----------------------------------------------------------------------------------------------------------


def parity(f: Function) -> Property:
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


def _everywhere(f: Function) -> tuple[Floats, Floats]:
    """Points within ±10,000 and the values there, as far as they are finite."""
    with np.errstate(all="ignore"):
        y = f(_ALL)
    return _ALL[np.isfinite(y)], y[np.isfinite(y)]


def monotonicity(f: Function) -> Property:
    """Increasing, decreasing, constant, or where it turns. Plateaus count as both of the first two."""
    x, y = _everywhere(f)
    steps = np.diff(y)
    noise = 1e-12 * np.maximum(f.scale, np.maximum(np.abs(y[1:]), np.abs(y[:-1])))
    if (np.abs(steps) <= noise).all():
        return Property("monotone", "constant")
    if (steps >= -noise).all():
        return Property("monotone", "increasing")
    if (steps <= noise).all():
        return Property("monotone", "decreasing")
    signs = np.where(np.abs(steps) <= noise, 0, np.sign(steps))
    moving = np.flatnonzero(signs)
    turns = moving[1:][np.diff(signs[moving]) != 0]
    first = sorted(sorted(turns, key=lambda i: abs(x[i]))[:3])
    kinds = {1: "minimum", -1: "maximum"}
    parts = [f"{kinds[int(signs[i])]} {number(y[i])} at x = {number(round(x[i], 3))}" for i in first]
    return Property("monotone", f"no: {', '.join(parts)}{' and more' if len(turns) > 3 else ''}")


def bounds(f: Function) -> Property:
    """Infimum and supremum; infinite where a limit is, or where |f| still grows far out."""
    _, y = _everywhere(f)
    with np.errstate(all="ignore"):
        far = np.concatenate([f(-FAR), f(FAR)])
    far = far[np.isfinite(far)]
    ends = [value for value in (limit_value(f, -1)[0], limit_value(f, 1)[0]) if value is not None]
    low, high = min([*y, *ends]), max([*y, *ends])
    if len(far) and far.min() < min(2 * low, -10 * f.scale):
        low = -math.inf
    if len(far) and far.max() > max(2 * high, 10 * f.scale):
        high = math.inf
    return Property("range", f"{number(low)} to {number(high)}")


# --- the ends --------------------------------------------------------------------------------------------------------


def limit(f: Function, sign: int) -> Property:
    value, source = limit_value(f, sign)
    name = f"limit at {'+' if sign > 0 else '-'}inf"
    return Property(name, "none" if value is None else number(value), source)


def asymptote(f: Function, sign: int) -> Property:
    """The line a*x + b to which f comes close, if there is one."""
    name = f"asymptote at {'+' if sign > 0 else '-'}inf"
    slope = f.limits.get(f"slope{sign:+d}")
    offset = f.limits.get(f"offset{sign:+d}")
    if slope is not None and math.isfinite(slope) and offset is not None and math.isfinite(offset):
        return Property(name, _line(slope, offset), "sympy")
    slope = slope_limit(f, sign)
    if slope is None or not math.isfinite(slope):
        return Property(name, "none")
    x = sign * FAR[:6]
    with np.errstate(all="ignore"):
        b = f(x) - slope * x
    offset = 0.0 if abs(b[-1]) < 1e-6 * f.scale else float(b[-1])  # as for limits
    return Property(name, _line(slope, offset)) if settles(b, f.scale) else Property(name, "none")


def _line(slope: float, offset: float) -> str:
    a, b = (0.0 if abs(v) < 1e-9 else v for v in (slope, offset))
    line = "" if a == 0 else "x" if a == 1 else "-x" if a == -1 else f"{a:.4g} x"
    if not line:
        return f"y = {b:.4g}"
    return f"y = {line}" if b == 0 else f"y = {line} {'+' if b > 0 else '-'} {abs(b):.4g}"


# --- slopes and moments ------------------------------------------------------------------------------------------


def _zero(f: Function) -> Property:
    value = float(f(np.array([0.0]))[0])
    return Property("f(0)", "0" if value == 0 else number(value))


def lipschitz(f: Function) -> Property:
    """sup |f'|, unbounded if it still grows far out."""
    inside = float(np.abs(f.slope(DENSE)).max())
    with np.errstate(all="ignore"):
        far = np.nan_to_num(np.abs(np.concatenate([f.slope(-FAR[:4]), f.slope(FAR[:4])])), nan=0.0).max()
    grows = far > 1.5 * inside
    return Property("Lipschitz constant", "none: f' is unbounded" if grows else f"{max(inside, far):.4g}")


def saturation(f: Function) -> Property:
    """At which ends the slope goes to 0, also where the value has no limit, as a root's."""
    with np.errstate(all="ignore"):
        ends = [
            side
            for side, sign in (("left", -1), ("right", 1))
            if (np.abs(f.slope(sign * FAR[3:7])) < 1e-2 * f.scale).all()
        ]
    return Property("saturates", " and ".join(ends) or "nowhere")


def second_moment(f: Function) -> Property:
    return Property("E[f(z)^2], z~N(0,1)", f"{f(_NODES) ** 2 @ _WEIGHTS:.4g}")


def slope_moment(f: Function) -> Property:
    return Property("E[f'(z)^2], z~N(0,1)", f"{f.slope(_NODES) ** 2 @ _WEIGHTS:.4g}")


# --- the Swish family ------------------------------------------------------------------------------------------------


def swish_family(f: Function) -> Property:
    """Self-gated, and with a dip: what a leaderboard calls by that name."""
    if is_swish_like(f.expression):
        return Property("Swish family", "yes")
    gated = self_gated(f).value.startswith("yes")
    return Property("Swish family", f"no: {'it has no dip that vanishes' if gated else 'it is not self-gated'}")


def self_gated(f: Function) -> Property:
    """x g(x) with g bounded, g(-inf) = 0, and g(+inf) finite and > 0; or the reflection -f(-x) of one."""
    for sign, answer in ((1, "yes"), (-1, "yes, reflected: -f(-x) is")):
        reason = _not_gated(f, sign)
        if reason is None:
            return Property("self-gated", answer)
    return Property("self-gated", f"no: {_not_gated(f, 1)}")


def is_swish_like(expression: Expression) -> bool:
    """Whether a function is of the Swish family, up to its sign, and dips below 0 before it vanishes.

    So ReLU is not, nor is max(x, tanh(x)), which has a gate, but no end that vanishes.
    """
    points = np.linspace(0.1, 10.0, 200)
    for sign in (1.0, -1.0):
        f = Function(call("mul", Const(sign), at_initial_values(expression)))
        with np.errstate(all="ignore"):
            f.scale = float(np.sqrt(np.mean(f(_NORMAL) ** 2)))
            if not (0 < f.scale < math.inf) or not np.isfinite(f(DENSE)).all():
                return False
            gated = self_gated(f).value
            closed = -f(points) if "reflected" in gated else f(-points)
        if gated.startswith("yes") and closed.min() < -0.01 * f.scale and abs(closed[-1]) < 0.01 * f.scale:
            return True
    return False


def _not_gated(f: Function, sign: int) -> str | None:
    """Why x g(x) is no member, None if it is; with sign -1 for the reflected function."""
    if abs(float(f(np.array([0.0]))[0])) > 1e-9 * f.scale:
        return "f(0) is not 0, so g(x) = f(x)/x is unbounded"
    near = np.array([[1e-6, 1e-8], [-1e-6, -1e-8]])
    gate = np.stack([f(side) / side for side in near])
    with np.errstate(invalid="ignore"):  # a gate that is infinite on both is no member either
        growth = np.nan_to_num(np.abs(gate[:, 1] - gate[:, 0]), nan=np.inf)
    if (growth > 0.1 * np.maximum(f.scale, np.abs(gate[:, 1]))).any():  # even a logarithm's is seen
        return "g(x) = f(x)/x is unbounded near 0"
    left, right = _gate_limit(f, -sign), _gate_limit(f, sign)
    if left is None or abs(left) > 1e-6 * f.scale:
        return f"g(-inf) is {'no limit' if left is None else number(left)}, not 0"
    if right is None or not math.isfinite(right) or right <= 1e-6 * f.scale:
        return f"g(+inf) is {'no limit' if right is None else number(right)}, not finite and > 0"
    return None


def _gate_limit(f: Function, sign: int) -> float | None:
    proved = f.limits.get(f"slope{sign:+d}")
    return proved if proved is not None else slope_limit(f, sign)
