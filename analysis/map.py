"""The functions of a study on a plane: near each other if their graphs are alike.

Functions are compared by their outputs on quantiles of N(0,1), with mean 0 and standard deviation 1 there, so that
scale and shift do not count (the layers around an activation undo both). Principal components, then t-SNE (van der
Maaten and Hinton, 2008) with a fixed seed: neighbours mean something, distances between far groups and the axes do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.searched import parsed, searched
from analysis.study import Study
from search_spaces.expression import Expression, params, variables
from search_spaces.known import known_expression
from search_spaces.values import one_thread, values_and_slopes

MOST = 2_000
_LEADERS = 500
_COMPONENTS = 20
LANDMARKS = ("identity", "ReLU", "ELU", "GELU", "SiLU", "tanh", "sigmoid", "Softplus", "sin", "Gaussian", "LiSHT")
"""Known functions by which to find one's way, whether or not the study had them."""
_GRID: NDArray[np.float64] = stats.norm.ppf((np.arange(128) + 0.5) / 128)  # symmetric, for -f(-x)


def space_map(study: Study) -> pd.DataFrame:
    """A row a function, with ``across`` and ``up`` on the plane, ``kind`` (``searched`` or ``landmark``), and of the
    searched ones the columns of :func:`analysis.searched.searched`; ``attrs`` says how many were ``left_out`` for
    lack of space and how many are ``infinite``.

    At most :data:`MOST` functions: the best ones, and of the rest some at random, always the same.
    """
    functions = searched(study)
    functions = functions.assign(parsed=parsed(functions))
    functions = functions[functions["parsed"].map(is_of_x).astype(bool)]
    turned = study.config.get("search", {}).get("equivalence", "reflection") != "exact"
    examined = choose(functions, 2 * MOST)  # some have no place, and leave room for others
    rows = outputs(list(examined["parsed"]), turned)
    usable = np.asarray(np.isfinite(rows).all(axis=1))
    rows_of = {index: row for index, row, good in zip(examined.index, rows, usable, strict=True) if good}
    chosen = choose(examined.loc[list(rows_of)], MOST).assign(kind="searched")
    marks = _landmarks(set(chosen["name"].dropna()))
    of_chosen = np.array([rows_of[index] for index in chosen.index]).reshape(-1, len(_GRID))
    points = embed(np.concatenate([of_chosen, outputs(list(marks.values()), turned)]))
    landmarks = pd.DataFrame({"kind": "landmark", "name": list(marks), "formula": [str(e) for e in marks.values()]})
    table = pd.concat([chosen.drop(columns="parsed"), landmarks], ignore_index=True)
    table["across"], table["up"] = points[:, 0], points[:, 1]
    infinite = int((~usable).sum())
    table.attrs = {"left_out": len(functions) - infinite - len(chosen), "infinite": infinite}
    return table


def _landmarks(there: set[str]) -> dict[str, Expression]:
    """Those that the study has not had."""
    return {name: known_expression(name) for name in LANDMARKS if name not in there}


def choose(functions: pd.DataFrame, most: int) -> pd.DataFrame:
    """The best quarter of what there is room for, all that have a name, and a random rest."""
    if len(functions) <= most:
        return functions
    ranked = functions.sort_values("place", ascending=False, kind="stable")
    first = pd.concat([ranked.head(min(_LEADERS, most // 4)), ranked[ranked["name"].notna()]])
    first = first[~first.index.duplicated()].head(most)
    rest = ranked.drop(first.index)
    drawn = rest.iloc[np.sort(np.random.default_rng(0).permutation(len(rest))[: most - len(first)])]
    return pd.concat([first, drawn])


def is_of_x(expression: Expression | None) -> bool:
    """Whether it could be read, and its only input is x."""
    return expression is not None and set(variables(expression)) <= {"x"}


def outputs(expressions: Sequence[Expression], turned: bool) -> NDArray[np.float64]:
    """Standardised values, shape (functions, points); NaN where a function is infinite or constant.

    Args:
        expressions: of x; learnable parameters have their initial value.
        turned: whether f(x) and -f(-x) count as the same, as in a search: then the one with the larger mean is drawn.
    """
    names = {name: 1.0 for expression in expressions for name in params(expression)}
    with one_thread(), np.errstate(all="ignore"):
        values, _ = values_and_slopes(list(expressions), _GRID, names)
        mean = values.mean(axis=1, keepdims=True)
        if turned:
            values = np.where(mean < 0, -values[:, ::-1], values)
            mean = np.abs(mean)
        std = values.std(axis=1, keepdims=True)
        standard = (values - mean) / np.where(std > 1e-12, std, np.nan)
        return np.asarray(np.where(np.isfinite(standard), standard, np.nan))


def embed(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points on the plane, shape (functions, 2), always the same for the same rows."""
    return _embedded(np.ascontiguousarray(rows, np.float64).tobytes(), rows.shape)


@lru_cache(maxsize=4)
def _embedded(data: bytes, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Kept, because several pictures want it and it takes seconds."""
    rows = np.frombuffer(data).reshape(shape)
    if len(rows) < 2:
        return np.zeros((len(rows), 2))
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    with one_thread():
        reduced = PCA(min(_COMPONENTS, *rows.shape), random_state=0).fit_transform(np.arcsinh(rows))
        if len(rows) < 8:
            return np.pad(reduced, ((0, 0), (0, 2)))[:, :2]
        perplexity = min(30.0, (len(rows) - 1) / 3)
        found = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(reduced)
    return np.asarray(found, np.float64)


_BESIDE = {"top center": (0, 1), "bottom center": (0, -1), "middle right": (1, 0), "middle left": (-1, 0)}
"""Where a label may stand, in plotly's words, and in which direction that is."""
_LETTER, _LINE = 0.012, 0.036
"""Sizes of text as parts of a picture that is about as wide as a page."""
_STAR = (0.012, 0.018)
"""Half the size of a point, likewise."""
_EDGE = 0.06
"""So far from the left and right end names stand beside their points."""

Box = tuple[float, float, float, float]
"""Left, right, lower and upper end."""


def place_labels(named: pd.DataFrame, table: pd.DataFrame) -> list[str | None]:
    """Where the name of each row may stand without covering another name or the point of another name, and, where that
    can be had, without covering the points of completed functions; None where there is no room.

    Args:
        named: rows with names; those of the search have precedence.
        table: all rows of the map.
    """
    low, size = table[["across", "up"]].min(), np.ptp(table[["across", "up"]].to_numpy(), axis=0)
    scale = np.where(size > 0, size, 1.0)
    points = (named[["across", "up"]].to_numpy() - low.to_numpy()) / scale
    done = table[table["state"] == "COMPLETE"] if "state" in table else table.iloc[:0]
    others = [_around(point) for point in (done[["across", "up"]].to_numpy() - low.to_numpy()) / scale]
    places: list[str | None] = [None] * len(named)
    taken: list[Box] = []
    for number in np.argsort((named["kind"] != "searched").to_numpy(), kind="stable"):
        stars = [_around(point) for point in points if not np.allclose(point, points[number])]
        boxes = _candidates(points[number], min(24, len(str(named["name"].iloc[number]))))
        free = [place for place, box in boxes.items() if not _covers(box, [*taken, *stars])]
        clear = [place for place in free if not _covers(boxes[place], others)]
        if free:
            places[number] = (clear or free)[0]
            taken.append(boxes[(clear or free)[0]])
    return places


def _around(point: NDArray[np.float64]) -> Box:
    return point[0] - _STAR[0], point[0] + _STAR[0], point[1] - _STAR[1], point[1] + _STAR[1]


def _candidates(point: NDArray[np.float64], letters: int) -> dict[str, Box]:
    """The room that a name takes in each of its places."""
    width, boxes = _LETTER * letters, {}
    for place, (right, over) in _BESIDE.items():
        x, y = point[0] + right * (width / 2 + _LETTER), point[1] + over * _LINE * 1.1
        if not right or _EDGE < x - width / 2 < x + width / 2 < 1 - _EDGE:  # a narrow screen would cut it off
            boxes[place] = (x - width / 2, x + width / 2, y - _LINE / 2, y + _LINE / 2)
    return boxes


def _covers(box: Box, taken: Iterable[Box]) -> bool:
    return any(box[0] <= b[1] and b[0] <= box[1] and box[2] <= b[3] and b[2] <= box[3] for b in taken)
