"""How smooth a function is: where f, f' or f'' jumps, seen on a grid and confirmed on one 100 times finer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.sampled import DENSE, Floats, Function


def smoothness_class(f: Function) -> str:
    """Class by jumps: of f (discontinuous), of f' (C0: a kink), of f'' (C1), none of these (C2 or smoother)."""
    x = DENSE
    y, slope = f(x), f.slope(x)
    step = x[1] - x[0]
    jump = np.abs(np.diff(y)) > 20 * step * (1 + np.maximum(np.abs(slope[1:]), np.abs(slope[:-1])))
    if jump.any():
        return f"discontinuous at x = {_place(x[:-1][jump][0] + step / 2)}"
    curvature = np.gradient(slope, x)
    for order, values in ((0, slope), (1, curvature)):
        at = [x[i] + step / 2 for i in _jumps(values, step) if _persists(f, x[i], order, step)]
        if at:
            places = ", ".join(map(_place, at[:3]))
            return f"C{order}: f{chr(39) * (order + 1)} jumps at x = {places}"
    steepest = float(x[np.argmax(np.abs(curvature))])
    if _fine(f, steepest, 1, step)[0] > 3 * np.abs(curvature).max():
        return f"C1: f'' is unbounded near x = {_place(steepest)}"
    return "C2 or smoother"


def _place(x: float) -> str:
    return f"{round(float(x), 2) + 0.0:g}"


def _fine(f: Function, at: float, order: int, step: float) -> tuple[float, float]:
    """Largest value, and largest change between neighbours, of f' (or f'') on a grid 100 times finer around a point."""
    x = np.asarray(at + np.linspace(-3, 3, 601) * step, dtype=np.float64)
    values = f.slope(x)
    if order:
        values = np.gradient(values, x)
    return float(np.abs(values).max()), float(np.abs(np.diff(values)).max())


def _persists(f: Function, at: float, order: int, step: float) -> bool:
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
