"""What is known about one function of a study. sympy is asked in another process, with a time limit, and once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pandas as pd

from analysis.properties import SYMPY_SECONDS, Property, at_initial_values, properties
from analysis.trials import to_records
from nas.dashboard.studies import Snapshot
from nas.exported import class_name, module_source
from search_spaces.expression import Expression
from search_spaces.known import known_expression
from search_spaces.parser import parse
from search_spaces.recognition import nearest_known
from search_spaces.sympy_bridge import ask

_BESIDE = ("ReLU", "SiLU")
_ONE_AT_A_TIME = threading.Semaphore(2)
"""Questions to sympy, however often a page is opened."""


def row_of(study: Snapshot, key: str) -> dict[str, Any] | None:
    """The row of the leaderboard of the study, or else of a setting where it was confirmed."""
    for setting in (None, *study.settings):
        found = rows_of(study, key, setting)
        if len(found):
            return to_records(found)[0]
    return None


def rows_of(study: Snapshot, key: str, setting: str | None = None) -> pd.DataFrame:
    board = study.leaderboard(setting=setting)
    return board[board["function_key"] == key].reset_index(drop=True)


def trials_of(study: Snapshot, key: str) -> pd.DataFrame:
    return study.trials[study.trials["function_key"] == key]


def expression_of(study: Snapshot, key: str) -> Expression:
    """In its simple spelling.

    Raises:
        KeyError: the study has no such function.
        ParseError: it is none that this program reads.
    """
    row = row_of(study, key)
    if row is None:
        raise KeyError(key)
    return parse(row["formula"])


def beside_known(study: Snapshot, key: str) -> dict[str, Expression]:
    """The function and some known ones that it is not, for a figure."""
    row = row_of(study, key) or {}
    label = str(row.get("formula", ""))
    found = {label if len(label) <= 32 else f"{label[:29]}...": at_initial_values(expression_of(study, key))}
    return found | {name: known_expression(name) for name in _BESIDE if name != row.get("name")}


@lru_cache(maxsize=256)
def forms(formula: str) -> dict[str, str]:
    """``latex`` and ``derivative``, as far as sympy finds them in time."""
    with _ONE_AT_A_TIME:
        return {str(name): str(text) for name, text in ask("forms", parse(formula), SYMPY_SECONDS).items()}


@lru_cache(maxsize=256)
def described(formula: str) -> tuple[Sequence[Property], Sequence[str]]:
    """Properties, and the known functions that are nearest."""
    expression = parse(formula)
    with _ONE_AT_A_TIME:
        found = properties(expression)
    return found, [str(like) for like in nearest_known(expression, 3)]


def module_of(study: Snapshot, row: dict[str, Any]) -> str:
    """The function as a module of its own.

    Raises:
        ParseError: it is none that this program reads.
    """
    found_in = f"Function {_plain(row['function_key'])} of the study {_plain(study.name)}."
    return module_source(parse(row["formula"]), class_name(row["name"], row["function_key"]), f"{found_in}\n")


def _plain(text: str) -> str:
    """In a docstring a name must neither end it nor escape anything."""
    return "".join(c if c.isalnum() or c in " ._-" else "_" for c in text)[:80]
