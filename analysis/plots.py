"""Pictures. matplotlib is imported here alone, and only when a picture is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from search_spaces.expression import Expression
from search_spaces.values import values_and_slopes

FORMATS = (".png", ".svg", ".pdf")
# Colour-blind safe (Okabe and Ito); the function itself first and strongest.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_RANGE = 5.0


def plot_functions(functions: Mapping[str, Expression], path: Path) -> None:
    """Draw f and f' of some functions side by side on [-5, 5]; the first one stands out. The suffix is the format."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    x = np.linspace(-_RANGE, _RANGE, 2001) + 1e-9  # not exactly on 0, where slopes may jump
    values, slopes = values_and_slopes(list(functions.values()), x)
    with plt.rc_context({"svg.fonttype": "none", "font.size": 10}):
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
        for axis, rows, title in zip(axes, (values, slopes), ("f(x)", "f'(x)"), strict=True):
            axis.axhline(0, color="0.8", linewidth=0.8)
            axis.axvline(0, color="0.8", linewidth=0.8)
            for number in reversed(range(len(rows))):  # the first on top
                first = number == 0
                axis.plot(
                    x,
                    _broken_at_jumps(rows[number]),
                    color=_COLOURS[number % len(_COLOURS)],
                    linewidth=2.4 if first else 1.3,
                    linestyle="-" if first else "--",
                    label=list(functions)[number],
                )
            axis.set_title(title, loc="left")
            axis.set_xlim(-_RANGE, _RANGE)
            axis.set_ylim(*_window(rows))
            axis.spines[["top", "right"]].set_visible(False)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], frameon=False, loc="outside upper center", ncols=len(labels))
        figure.savefig(path, dpi=150)
        plt.close(figure)


def _broken_at_jumps(y: np.ndarray) -> np.ndarray:
    """NaN where the curve jumps, so that no vertical line is drawn there."""
    y = np.where(np.isfinite(y), y, np.nan)
    jumps = np.abs(np.diff(y, prepend=y[0])) > 0.2
    return np.where(jumps, np.nan, y)


def _window(rows: np.ndarray) -> tuple[float, float]:
    """Limits that show the interesting part: what lies within ±6, with a margin."""
    finite = np.clip(rows[np.isfinite(rows)], -6, 6)
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (-1.0, 1.0)
    margin = 0.06 * max(high - low, 0.5)
    return low - margin, high + margin
