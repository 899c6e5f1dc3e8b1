"""The functions of a study that a report shows: its best finds beside the baselines."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.searched import read
from analysis.study import Study
from search_spaces.expression import Expression, variables
from search_spaces.known import known_expression

_LISTED, _DRAWN = 20, 5
_REFERENCES = ("ReLU", "SiLU")


@dataclass(frozen=True)
class Leaders:
    """Rows of a leaderboard.

    Attributes:
        board: all of it.
        listed: for a table: the best, and the baselines that are not among them.
        drawn: for curves: the best few that were found, and of the baselines ReLU and SiLU.
        expressions: what to draw, by label: those, and ReLU and SiLU in any case.
    """

    board: pd.DataFrame
    listed: pd.DataFrame
    drawn: pd.DataFrame
    expressions: dict[str, Expression]


def leaders(study: Study) -> Leaders:
    """Those of a study; all empty if it has no trials."""
    board = study.leaderboard()
    if board.empty:
        return Leaders(board, board, board, {})
    complete = board[board["state"] == "COMPLETE"]
    found, baselines = complete[complete["found"].astype(bool)], complete[~complete["found"].astype(bool)]
    shown = complete if len(complete) else board
    listed = pd.concat([shown.head(_LISTED), baselines[~baselines.index.isin(shown.head(_LISTED).index)]])
    best = found.head(_DRAWN)
    references = complete[complete["name"].isin(_REFERENCES) & ~complete.index.isin(best.index)]
    drawn = pd.concat([best, references])
    return Leaders(board, listed, drawn, _expressions(best))


def _expressions(best: pd.DataFrame) -> dict[str, Expression]:
    chosen: dict[str, Expression] = {}
    for _, row in best.iterrows():
        expression = read(str(row["formula"]), str(row["expression"]))
        if expression is not None and set(variables(expression)) <= {"x"}:
            chosen[str(row["formula"] if pd.isna(row["name"]) else row["name"])] = expression
    return chosen | {name: known_expression(name) for name in _REFERENCES if name not in chosen}
