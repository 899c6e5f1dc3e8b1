"""Which rows of a leaderboard are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analysis.leaderboard import front
from search_spaces.registry import nearest

FAMILIES = {
    "swish": r"Swish family|SiLU|Swish|GELU|Mish",
    "relu": r"\bReLU\b|ReLU6|leaky|PReLU",
    "known": r"^[=~]",
}
"""Patterns of what functions are like."""


@dataclass(frozen=True)
class Wanted:
    """A filter.

    Attributes:
        family: one of :data:`FAMILIES`, or any text that the likeness or the formula has to contain.
        max_complexity: number of nodes.
        max_cost: times ReLU's; functions without a measured cost are left out.
        pareto: only functions that no other one beats both in value and in this column, cheapest last.
        confirmed: only functions that were confirmed.
    """

    family: str | None = None
    max_complexity: int | None = None
    max_cost: float | None = None
    pareto: Literal["complexity", "cost", "seconds"] | None = None
    confirmed: bool = False

    @property
    def columns(self) -> set[str]:
        """What one has to see to understand the choice."""
        wanted = {"complexity": self.max_complexity is not None, "cost": self.max_cost is not None}
        return {name for name, asked in wanted.items() if asked or self.pareto == name}

    def none(self, table: pd.DataFrame) -> str:
        """Why no row of a leaderboard is wanted."""
        if table.empty:
            return "no function has been trained yet"
        if self.confirmed and not (table["stage"] == "confirm").any():
            return "no function is confirmed yet; nas confirm RUN does that"
        if (self.max_cost is not None or self.pareto == "cost") and table["cost"].isna().all():
            return "costs were not measured in this study; a search with search.cost=time measures them"
        if self.family is not None and not self._is_of_family(table).any():
            hint = nearest(self.family, FAMILIES)
            return f"no function is of the family {self.family!r}, nor has that in its formula or name; {hint}"
        return "no function is like that"

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a leaderboard that are wanted, in their order."""
        if table.empty:
            return table
        keep = pd.Series(True, index=table.index)
        if self.family is not None:
            keep &= self._is_of_family(table)
        if self.max_complexity is not None:
            keep &= (table["complexity"] <= self.max_complexity).fillna(False)
        if self.max_cost is not None:
            keep &= (table["cost"] <= self.max_cost).fillna(False)
        if self.confirmed:
            keep &= table["stage"] == "confirm"
        table = table[keep].reset_index(drop=True)
        if self.pareto is not None and len(table):
            ranked = table.sort_values("rank", kind="stable")
            table = ranked[pd.Series(front(ranked, self.pareto), ranked.index, bool)].reset_index(drop=True)
        return table

    def _is_of_family(self, table: pd.DataFrame) -> pd.Series:
        text = str(self.family)
        likeness, name = table["likeness"].fillna("").astype(str), table["name"].fillna("").astype(str)
        if text.lower() in FAMILIES:
            pattern = FAMILIES[text.lower()]
            return likeness.str.contains(pattern, regex=True) | name.str.contains(pattern, regex=True)
        both = likeness + " " + name + " " + table["formula"].astype(str)
        return both.str.contains(text, regex=False, case=False)
