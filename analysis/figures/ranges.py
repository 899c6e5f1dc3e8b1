"""Limits of the axis, and of the colours, that show a study's objective."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.searched import larger_is_better
from analysis.study import Study

_FAR = 3.0
"""Quartile ranges from the worse quartile on which a value is an outlier (Tukey, 1977: "far out")."""


def window(values: pd.Series, study: Study) -> list[float] | None:
    """Limits of an axis that leave out the worst outliers: one network that hardly trained would press all that matters
    into a corner. None if there is nothing finite."""
    finite = values[np.isfinite(values)]
    if finite.empty:
        return None
    low, high = float(finite.min()), float(finite.max())
    lower, upper = finite.quantile(0.25), finite.quantile(0.75)
    far = _FAR * float(upper - lower)
    if far > 0 and larger_is_better(study):
        low = max(low, float(lower) - far)
    elif far > 0:
        high = min(high, float(upper) + far)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return [low - margin, high + margin]


def outside(values: pd.Series, limits: list[float] | None) -> pd.Series:
    """Which values such an axis leaves out."""
    if limits is None:
        return pd.Series(False, index=values.index)
    return (values < limits[0]) | (values > limits[1])


def at_the_edge(values: pd.Series, limits: list[float]) -> pd.Series:
    """Where the values that an axis leaves out are drawn: just within it."""
    within = 0.015 * (limits[1] - limits[0])
    return values.clip(limits[0] + within, limits[1] - within)


def colour_range(values: pd.Series, study: Study) -> tuple[float, float]:
    """The better three quarters: what hardly trained is one colour, or the rest would be."""
    ends = values.quantile([0.25, 1.0] if larger_is_better(study) else [0.0, 0.75])
    return float(ends.iloc[0]), float(ends.iloc[1])
