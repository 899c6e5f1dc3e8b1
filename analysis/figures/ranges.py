"""Limits of the axis, and of the colours, that show a study's objective."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.searched import larger_is_better
from analysis.study import Study


def window(values: pd.Series, study: Study) -> list[float] | None:
    """Limits of an axis that leave out the worst 5 % of losses, which may be as large as they like."""
    finite = values[np.isfinite(values)]
    if finite.empty:
        return None
    larger = larger_is_better(study)
    low, high = float(finite.min()), float(finite.max() if larger else finite.quantile(0.95))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return [low - margin, high + margin]


def colour_range(values: pd.Series, study: Study) -> tuple[float, float]:
    """The better three quarters: what hardly trained is one colour, or the rest would be."""
    ends = values.quantile([0.25, 1.0] if larger_is_better(study) else [0.0, 0.75])
    return float(ends.iloc[0]), float(ends.iloc[1])
