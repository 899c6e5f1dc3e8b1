"""95 % intervals of the rows of a leaderboard, for pictures and tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats


def with_intervals(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that can be compared: complete, and of the first one's metric; numbered from 0.

    With ``low``, ``high`` and ``interval``, which says where they come from: the bootstrap of the leaderboard; t for
    two seeds; nothing for a single training, which has no ends.
    """
    table = rows[(rows["state"] == "COMPLETE") & rows["value"].notna()]
    if table.empty:
        return table.assign(low=np.nan, high=np.nan, interval="")
    table = table[table["metric"] == table["metric"].iloc[0]].reset_index(drop=True)
    n = table["n_seeds"].astype(float)
    half = stats.t.ppf(0.975, np.maximum(n - 1, 1)) * table["value_std"].astype(float) / np.sqrt(n)
    half = half.where(n > 1)
    low, high = table["value_low"].astype(float), table["value_high"].astype(float)
    kind = np.where(low.notna(), "bootstrap interval", np.where(half.notna(), "t interval", "no interval"))
    value = table["value"].astype(float)
    return table.assign(
        low=low.fillna(value - half).clip(upper=value),  # equal seeds: the mean is rounded
        high=high.fillna(value + half).clip(lower=value),
        interval=kind,
        found=table["found"].astype(bool),
    )
