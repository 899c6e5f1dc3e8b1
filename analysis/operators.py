"""What winners share: operators among the best tenth of the functions that were searched, against all of them; and
what Ramachandran, Zoph and Le (2017, arXiv 1710.05941) found in their search, counted anew in this one.

A search chooses what it trains, so "all" means all that were tried here, not the space.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.searched import best_part, parsed, searched
from analysis.stats import holm
from analysis.study import Study
from search_spaces.expression import Call, Const, Expression, Param, Var, walk
from search_spaces.operators import OPERATORS

BEST = 0.1
"""Share of the functions that counts as the best."""
FEWEST = 10
"""Functions with and without a trait from which on they are compared."""
_Z = float(stats.norm.ppf(0.975))


def uses(study: Study) -> pd.DataFrame:
    """The functions that were searched, with ``parsed``, the set of their ``operators``, and whether they are among
    the ``best``. Functions that cannot be read are left out."""
    functions = searched(study)
    functions = functions.assign(parsed=parsed(functions))
    functions = functions[functions["parsed"].notna()].reset_index(drop=True)
    functions["operators"] = functions["parsed"].map(operators_of)
    functions["best"] = functions.index.isin(best_part(functions, BEST).index)
    return functions


def operators_of(expression: Expression) -> frozenset[str]:
    return frozenset(node.op for node in walk(expression) if isinstance(node, Call))


def operator_shares(functions: pd.DataFrame) -> pd.DataFrame:
    """A row an operator, the largest lift first.

    Columns: ``operator``; ``count`` and ``share`` of all functions with it; ``best_count``, ``best_share`` among the
    best, with its 95 % Wilson interval ``low`` to ``high``; ``lift``, the one share by the other, with ``lift_low``
    and ``lift_high``; ``p``, how probable so uneven a draw is (hypergeometric, two-sided), corrected by Holm.

    Args:
        functions: as of :func:`uses`.
    """
    total, best = len(functions), int(functions["best"].sum())
    rows = []
    for operator in sorted(set().union(*functions["operators"])):
        has = np.array([operator in used for used in functions["operators"]])
        count, among = int(has.sum()), int((has & functions["best"].to_numpy()).sum())
        low, high = wilson(among, best)
        rows.append((operator, count, count / total, among, among / best if best else math.nan, low, high))
    names = ["operator", "count", "share", "best_count", "best_share", "low", "high"]
    table = pd.DataFrame(rows, columns=names)
    for name, of in (("lift", "best_share"), ("lift_low", "low"), ("lift_high", "high")):
        table[name] = table[of] / table["share"]
    p = [uneven(int(n), int(k), total, best) for n, k in zip(table["count"], table["best_count"], strict=True)]
    table["p"] = holm(p, len(p)) if p else []
    return table.sort_values(["lift", "count"], ascending=False, ignore_index=True)


def wilson(count: int, total: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927)."""
    if total == 0:
        return math.nan, math.nan
    share, z2 = count / total, _Z * _Z
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))  # rounding may exclude the share


def uneven(count: int, among: int, total: int, best: int) -> float:
    """Two-sided p value of Fisher's exact test: does the trait say anything about being among the best?"""
    if not best or best == total:
        return math.nan
    table = [[among, best - among], [count - among, total - best - count + among]]
    return float(stats.fisher_exact(table).pvalue)


# --- the findings of 2017 --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """A statement of 2017, what it comes to here (``supported``, ``not supported``, ``too few functions``, or
    ``the opposite``), and the numbers."""

    statement: str
    verdict: str
    numbers: str


def findings(functions: pd.DataFrame) -> list[Finding]:
    """The four trends that the paper names.

    All but that of sin and cos, for which a single function is enough, have a 95 % interval of their own, so of many
    such statements about nothing one in twenty would seem to hold, or its opposite.

    Args:
        functions: as of :func:`uses`.
    """
    return [
        _simplicity(functions),
        _trait(
            functions,
            "The best functions pass the raw x to their last binary operator: b(x, g(x))",
            uses_raw_x,
            better=True,
        ),
        _periodic(functions),
        _trait(functions, "Functions with a division do badly", lambda e: "div" in operators_of(e), better=False),
    ]


def _simplicity(functions: pd.DataFrame) -> Finding:
    statement = "Simple functions do better than complicated ones"
    known = functions[functions["complexity"].notna()]
    nodes = known["complexity"].astype(float)
    if len(known) < 3 * FEWEST or nodes.nunique() < 2 or known["place"].nunique() < 2:
        return Finding(statement, "too few functions", f"{len(known)} functions, {nodes.nunique()} sizes")
    rho = float(stats.spearmanr(nodes, known["place"]).statistic)
    half = _Z * math.sqrt((1 + rho * rho / 2) / (len(known) - 3))  # Bonett and Wright, 2000
    low, high = (math.tanh(math.atanh(max(-0.999999, min(0.999999, rho))) + side * half) for side in (-1, 1))
    verdict = "supported" if high < 0 else "the opposite" if low > 0 else "not supported"
    numbers = (
        f"rank correlation of the number of nodes with the place: {rho:+.2f} ({low:+.2f} to {high:+.2f}), "
        f"{len(known)} functions"
    )
    return Finding(statement, verdict, numbers)


def _trait(functions: pd.DataFrame, statement: str, has: Callable[[Expression], bool], *, better: bool) -> Finding:
    with_it = np.array([has(expression) for expression in functions["parsed"]], bool)
    count, rest = int(with_it.sum()), int((~with_it).sum())
    if min(count, rest) < FEWEST:
        return Finding(statement, "too few functions", f"{count} functions with, {rest} without")
    place = functions["place"].to_numpy(float)
    ahead, low, high = superiority(place[with_it], place[~with_it])
    up, down = low > 0.5, high < 0.5
    verdict = "supported" if (up if better else down) else "the opposite" if up or down else "not supported"
    return Finding(statement, verdict, f"{_ahead(ahead, low, high)}; {_counts(functions, with_it)}")


def _periodic(functions: pd.DataFrame) -> Finding:
    """The paper says that they appear, not that they are better."""
    statement = "Functions with sin or cos appear among the best"
    with_it = np.array([bool({"sin", "cos"} & used) for used in functions["operators"]], bool)
    if with_it.sum() < FEWEST:
        return Finding(statement, "too few functions", f"{with_it.sum()} functions with, {(~with_it).sum()} without")
    among = int((with_it & functions["best"].to_numpy(bool)).sum())
    expected = with_it.mean() * functions["best"].sum()
    numbers = f"{_counts(functions, with_it)}, {expected:.1f} by chance"
    if (~with_it).sum() >= FEWEST:
        place = functions["place"].to_numpy(float)
        numbers = f"{numbers}; {_ahead(*superiority(place[with_it], place[~with_it]))}"
    verdict = "supported" if among > expected else "no more than by chance" if among else "not supported"
    return Finding(statement, verdict, numbers)


def _ahead(ahead: float, low: float, high: float) -> str:
    return f"ahead of one without in {100 * ahead:.0f} % of pairs ({100 * low:.0f} to {100 * high:.0f})"


def _counts(functions: pd.DataFrame, with_it: NDArray[np.bool_]) -> str:
    best = functions["best"].to_numpy(bool)
    return f"{(with_it & best).sum()} of the best {best.sum()}, {with_it.sum()} of all {len(best)}"


def superiority(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float, float]:
    """How probably one of ``a`` is larger than one of ``b``, equality counting half, with a 95 % interval (DeLong
    et al., 1988)."""
    ranks = stats.rankdata(np.concatenate([a, b]))
    over = (ranks[: len(a)] - stats.rankdata(a)) / len(b)
    under = 1 - (ranks[len(a) :] - stats.rankdata(b)) / len(a)
    ahead = float(over.mean())
    half = _Z * math.sqrt(over.var(ddof=1) / len(a) + under.var(ddof=1) / len(b))
    return ahead, max(0.0, ahead - half), min(1.0, ahead + half)


def uses_raw_x(expression: Expression) -> bool:
    """Whether it is b(x, g(x)), where x may have a sign or a factor, and so may the whole."""
    root = _without_factor(expression)
    return isinstance(root, Call) and len(root.args) == 2 and any(_without_factor(a) == Var("x") for a in root.args)


def _without_factor(expression: Expression) -> Expression:
    while isinstance(expression, Call):
        match expression:
            case Call("neg", (inner,)):
                expression = inner
            case Call("mul", (Const() | Param(), inner)) | Call("mul" | "div", (inner, Const() | Param())):
                expression = inner
            case _:
                break
    return expression


def written(operator: str) -> str:
    """An operator's name, with its symbol if it has one."""
    symbol = OPERATORS[operator].symbol
    return f"{operator} ({symbol})" if symbol else operator
