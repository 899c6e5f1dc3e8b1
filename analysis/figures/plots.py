"""Pictures of functions and of replays. matplotlib is imported only when a picture is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from analysis.curves import broken, window
from analysis.figures.palette import COLOURS
from search_spaces.expression import Expression
from search_spaces.values import values_and_slopes

FORMATS = (".png", ".svg", ".pdf")
_LINES = ("-", "--", ":", "-.")
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
                    broken(rows[number]),
                    color=COLOURS[number % len(COLOURS)],
                    linewidth=2.4 if first else 1.3,
                    linestyle="-" if first else "--",
                    label=list(functions)[number],
                )
            axis.set_title(title, loc="left")
            axis.set_xlim(-_RANGE, _RANGE)
            axis.set_ylim(*window(rows))
            axis.spines[["top", "right"]].set_visible(False)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], frameon=False, loc="outside upper center", ncols=len(labels))
        figure.savefig(path, dpi=150)
        plt.close(figure)


def plot_replays(
    regret: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    found: Mapping[str, Mapping[str, Sequence[float]]],
    path: Path,
) -> None:
    """Draw how strategies come along, evaluation by evaluation; the suffix is the format.

    Args:
        regret: label to mean regret and the half-width of its 95 % interval.
        found: for every target, label to the share of replays that have found it.
        path: where to.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"svg.fonttype": "none", "font.size": 10}):
        figure, axes = plt.subplots(1, 1 + len(found), figsize=(4.6 * (1 + len(found)), 4.6), layout="constrained")
        left, *others = np.atleast_1d(axes)
        for number, (label, (mean, half)) in enumerate(regret.items()):
            style = {"color": COLOURS[number % len(COLOURS)], "linestyle": _LINES[number // len(COLOURS) % 4]}
            x, average, spread = np.arange(1, len(mean) + 1), np.asarray(mean), np.nan_to_num(half)
            left.step(x, average, where="post", label=label, linewidth=1.8, **style)
            low, high = np.maximum(average - spread, average / 2), average + spread  # a logarithm has no 0
            left.fill_between(x, low, high, step="post", alpha=0.12, color=style["color"])
            for axis, shares in zip(others, found.values(), strict=True):
                axis.step(x, 100 * np.asarray(shares[label]), where="post", linewidth=1.8, **style)
        left.set_title("mean regret of the best function so far", loc="left")
        left.set_yscale("log")
        left.yaxis.set_major_formatter("{x:g}")
        left.yaxis.set_minor_formatter("{x:g}")
        for axis, target in zip(others, found, strict=True):
            axis.set_title(f"{target} has been evaluated", loc="left")
            axis.yaxis.set_major_formatter("{x:g} %")
            axis.set_ylim(0, 102)
        for axis in (left, *others):
            axis.set_xscale("log")
            axis.set_xlabel("evaluations")
            axis.xaxis.set_major_formatter("{x:g}")
            axis.grid(alpha=0.2)
            axis.spines[["top", "right"]].set_visible(False)
        figure.legend(*left.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=5)
        figure.savefig(path, dpi=150)
        plt.close(figure)
