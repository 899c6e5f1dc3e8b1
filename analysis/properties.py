"""What kind of function an expression is: shape, growth, smoothness, moments, membership of the Swish family.

sympy answers where it does so within a time limit, values in float64 elsewhere; every property says which. Learnable
parameters have their initial value 1.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from search_spaces.expression import Const, Expression, Param, params, replace
from search_spaces.values import values_and_slopes

Floats = NDArray[np.float64]

SYMPY_SECONDS = 5.0
"""For one question to sympy."""
_CONTEXT: Any = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
_DENSE: Floats = np.asarray(np.linspace(-12, 12, 24_001) + 1e-7, dtype=np.float64)  # off kinks at round numbers
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
    y = f(_DENSE)
    if not np.isfinite(y).all():
        bad = _DENSE[~np.isfinite(y)]
        return [Property("finite", f"no, at x = {bad[0]:.3g} for one"), _zero(f)]
    f.limits = symbolic_limits(f.expression, sympy_seconds)
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


# --- shape -----------------------------------------------------------------------------------------------------------


def parity(f: _Function) -> Property:
    positive = _DENSE[_DENSE > 0]
    there, back = f(positive), f(-positive)
    scale = 1e-9 * np.maximum(1.0, np.abs(there))
    if (np.abs(there - back) <= scale).all():
        return Property("parity", "even")
    return Property("parity", "odd" if (np.abs(there + back) <= scale).all() else "neither even nor odd")


def monotonicity(f: _Function) -> Property:
    """Increasing, decreasing, or where it turns. Plateaus count as both."""
    y = f(_DENSE)
    steps = np.diff(y)
    noise = 1e-12 * np.maximum(1.0, np.abs(y[1:]))
    if (steps >= -noise).all():
        return Property("monotone", "increasing")
    if (steps <= noise).all():
        return Property("monotone", "decreasing")
    signs = np.where(np.abs(steps) <= noise, 0, np.sign(steps))
    moving = np.flatnonzero(signs)
    turns = moving[1:][np.diff(signs[moving]) != 0]
    parts = [f"{'minimum' if signs[i] > 0 else 'maximum'} {y[i]:.4g} at x = {_DENSE[i]:.4g}" for i in turns[:3]]
    more = f" and {len(turns) - 3} more on [-12, 12]" if len(turns) > 3 else ""
    return Property("monotone", f"no: {', '.join(parts)}{more}")


def bounds(f: _Function) -> Property:
    """Infimum and supremum; unbounded where a limit is infinite or |f| still grows far out."""
    y = f(_DENSE)
    far = np.concatenate([f(-_FAR), f(_FAR)])
    ends = [value for value in (_limit_value(f, -1)[0], _limit_value(f, 1)[0]) if value is not None]
    low = min([y.min(), np.nanmin(far, initial=np.inf), *ends])
    high = max([y.max(), np.nanmax(far, initial=-np.inf), *ends])
    return Property(
        "range", f"{_number(low if low > -1e4 else -math.inf)} to {_number(high if high < 1e4 else math.inf)}"
    )


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
    x = sign * _FAR[:6]
    with np.errstate(all="ignore"):
        a = f(x) / x
        if not _settles(a):
            return Property(name, "none")
        slope = round(float(a[-1]), 4)
        b = f(x) - slope * x
    return Property(name, _line(slope, float(b[-1]))) if _settles(b[:5]) else Property(name, "none")


def _line(slope: float, offset: float) -> str:
    a, b = (0.0 if abs(v) < 1e-9 else v for v in (slope, offset))
    line = "" if a == 0 else "x" if a == 1 else "-x" if a == -1 else f"{a:.4g} x"
    if not line:
        return f"y = {b:.4g}"
    return f"y = {line}" if b == 0 else f"y = {line} {'+' if b > 0 else '-'} {abs(b):.4g}"


def _limit_value(f: _Function, sign: int) -> tuple[float | None, str]:
    """The limit (possibly infinite), None if there is none, and how it is known."""
    proved = f.limits.get(f"limit{sign:+d}")
    if proved is not None:
        return proved, "sympy"
    with np.errstate(all="ignore"):
        y = f(sign * _FAR)
    finite = y[np.isfinite(y)]
    if len(finite) == len(y) and _settles(y):
        return round(float(y[-1]), 6) + 0.0, "values"
    steps = np.diff(np.abs(y))
    grows = np.isinf(y[-1]) or (len(finite) > 3 and (steps[np.isfinite(steps)] > 0).all() and abs(finite[-1]) > 4)
    if grows and len(set(np.sign(y[~np.isnan(y)][-4:]))) == 1 and not np.isnan(y).any():
        return math.copysign(math.inf, y[-1]), "values"
    return None, "values"


def _settles(values: Floats) -> bool:
    """Whether a sequence at x = 10, 100, ... comes to rest."""
    if not np.isfinite(values).all():
        return False
    last = np.abs(np.diff(values[-3:]))
    return bool((last <= 1e-4 * max(1.0, abs(values[-1]))).all())


def symbolic_limits(expression: Expression, seconds: float) -> dict[str, float]:
    """Limits of f, of f/x and of f - a x at both ends, as far as sympy finds them in that time."""
    if seconds <= 0:
        return {}
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_find_limits, args=(expression, sender), daemon=True)
    process.start()
    sender.close()
    found: dict[str, float] = {}
    try:
        while receiver.poll(seconds):  # renewed by every answer: the limit is for one question
            name, value = receiver.recv()
            found[name] = value
    except EOFError:
        pass
    finally:
        process.kill()
        process.join()
        receiver.close()
    return found


def _find_limits(expression: Expression, sender: Any) -> None:
    """In a process of its own, because sympy may not come back."""
    from search_spaces.sympy_bridge import limits

    for name, value in limits(expression):
        sender.send((name, value))
    sender.close()


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
        return Property("smoothness", f"discontinuous at x = {x[:-1][jump][0]:.3g}")
    curvature = np.gradient(slope, x)
    for order, values in ((0, slope), (1, curvature)):
        at = _jumps(values, step)
        if len(at):
            places = ", ".join(f"{round(x[i] + step / 2, 2) + 0.0:g}" for i in at[:3])
            return Property("smoothness", f"C{order}: f{chr(39) * (order + 1)} jumps at x = {places}")
    return Property("smoothness", "C2 or smoother")


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
    grows = far > 1.5 * inside and far > 2
    return Property("Lipschitz constant", "none: f' is unbounded" if grows else f"{max(inside, far):.4g}")


def saturation(f: _Function) -> Property:
    """At which ends the slope goes to 0."""
    with np.errstate(all="ignore"):
        ends = [side for side, sign in (("left", -1), ("right", 1)) if (np.abs(f.slope(sign * _FAR[1:6])) < 1e-2).all()]
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
    if abs(float(f(np.array([0.0]))[0])) > 1e-9:
        return "f(0) is not 0, so g(x) = f(x)/x is unbounded"
    near = np.array([[1e-6, 1e-8], [-1e-6, -1e-8]])
    gate = np.stack([f(side) / side for side in near])
    if (
        np.abs(gate[:, 1] - gate[:, 0]) > 0.1 * np.maximum(1.0, np.abs(gate[:, 1]))
    ).any():  # a logarithm's growth is seen
        return "g(x) = f(x)/x is unbounded near 0"
    left, right = _gate_limit(f, -sign), _gate_limit(f, sign)
    if left is None or abs(left) > 1e-3:
        return f"g(-inf) is {'no limit' if left is None else _number(left)}, not 0"
    if right is None or not math.isfinite(right) or right <= 1e-3:
        return f"g(+inf) is {'no limit' if right is None else _number(right)}, not finite and > 0"
    return None


def _gate_limit(f: _Function, sign: int) -> float | None:
    proved = f.limits.get(f"slope{sign:+d}")
    if proved is not None:
        return proved
    x = sign * _FAR[:6]
    with np.errstate(all="ignore"):
        gate = f(x) / x
    if _settles(gate):
        return round(float(gate[-1]), 4)
    return math.inf if np.isinf(gate[-1]) or abs(gate[-1]) > 1e4 else None


def _number(value: float) -> str:
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return f"{0.0 if abs(value) < 1e-12 else value:.4g}"
