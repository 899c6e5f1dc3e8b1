"""The course of a search as groups of points, for screens and for paper alike."""

from __future__ import annotations

import pandas as pd

from analysis.figures.ranges import at_the_edge, outside, window
from analysis.study import Study
from analysis.wording import factor

BEYOND = "beyond"


def groups(study: Study, rows: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], list[float] | None]:
    """Rows of :func:`analysis.searched.in_order` that have a value, by what became of them, and the limits of the axis.

    Groups are ``completed``, ``pruned``, ``retrained`` and :data:`BEYOND`, of what the axis leaves out. Besides the
    columns of the rows there are ``shown``, the value in its unit, and ``y``, where it is drawn.
    """
    shown = rows["value"] * factor(study.objective)
    limits = window(shown, study)
    points = rows.assign(shown=shown, y=at_the_edge(shown, limits) if limits else shown)[shown.notna()]
    far, complete = outside(points["shown"], limits), points["state"] == "COMPLETE"
    masks = {
        "completed": complete & (points["stage"] == "search"),
        "pruned": points["state"] == "PRUNED",
        "retrained": complete & (points["stage"] == "retrain"),
    }
    found = {name: points[mask & ~far] for name, mask in masks.items()} | {BEYOND: points[far]}
    return {name: part for name, part in found.items() if len(part)}, limits
