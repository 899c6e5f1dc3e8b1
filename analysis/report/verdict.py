"""Is the best function that was found really better than ReLU and SiLU, and should one use it? In words.

Everything follows from the leaderboard: on which data the function was judged, whether the paired difference is still
significant after Holm's correction for all that were in the race, and how many seeds would be needed otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from analysis.comparisons import REFERENCES, SURE, outcome
from analysis.stats import noise, probability_best
from analysis.study import Study, is_evaluation
from analysis.wording import as_number, factor, label, likeness, part, prose, shorten, shown, unit
from trainers.trial import DIRECTIONS

_CONTENDERS = 20
_JUDGED = {
    "confirm": "on the test set, which the search has never seen",
    "retrain": "on {part} data, by which it was also picked, with fresh seeds; it is not confirmed on the test set",
    "search": "by one training, with the seed by which it was picked; that flatters it",
}


@dataclass(frozen=True)
class Verdict:
    """An answer of one sentence, an advice of another, and the reasons, a sentence each."""

    answer: str
    advice: str
    reasons: tuple[str, ...]


def verdict(study: Study, board: pd.DataFrame) -> Verdict:
    """On the best function that the search itself found.

    Args:
        study: of the leaderboard.
        board: in the order of rank.
    """
    complete = board[(board["state"] == "COMPLETE") & board["value"].notna()] if len(board) else board
    found = complete[complete["found"].astype(bool)] if len(complete) else complete
    if found.empty:
        return Verdict(
            "The search has found no function that completed its training.", "There is nothing to use yet.", ()
        )
    leader = found.iloc[0]
    outcomes = {name: outcome(leader, column) for column, name in REFERENCES.items() if leader["name"] != name}
    reasons = [_who(study, leader), *(_difference(leader, column, name) for column, name in REFERENCES.items())]
    results = contenders(study, complete, leader)
    reasons += [_above(leader, complete), _noise(results, leader), _chance(results, leader)]
    answer, advice = _answer(study, leader, outcomes)
    return Verdict(answer, advice, tuple(reason for reason in reasons if reason))


def _answer(study: Study, leader: pd.Series, outcomes: dict[str, str]) -> tuple[str, str]:
    formula, run = shorten(leader["formula"], 80), shorten(study.path, 200)
    by = {kind: [n for n, o in outcomes.items() if o == kind] for kind in ("better", "worse", "open", "unknown")}
    where = {"confirm": "on the test set", "retrain": f"on {part(leader['metric'])} data"}.get(leader["stage"], "")
    if leader["stage"] == "search":
        return (
            f"It is not known whether {formula} is really better: it was trained only once.",
            f"Do not use it yet; first: nas confirm {run}",
        )
    if by["worse"]:
        names = " and ".join(by["worse"])
        return f"No: {formula}, the best that was found, is worse than {names} {where}.", f"Use {names}."
    if not by["better"]:
        names = " or ".join(by["open"] + by["unknown"]) or "its baselines"
        return f"No difference is shown: {formula} may be no better than {names} {where}.", _advice_open(leader, run)
    claim = f"{formula} is better than {' and '.join(by['better'])} {where}"
    rest = by["open"] + by["unknown"]
    claim += f"; that it is better than {' or '.join(rest)} is not shown." if rest else "."
    if leader["stage"] == "retrain":
        return f"Perhaps: {claim}", f"Before you use it, look at the test set: nas confirm {run}"
    return f"Yes, here: {claim}", _advice_better(study, leader, rest)


def _advice_open(leader: pd.Series, run: str) -> str:
    if not pd.isna(leader["name"]):
        return f"It is {leader['name']}, a known function; this study gives no reason to change what you use."
    again = "" if leader["stage"] == "confirm" else f" More seeds, and the test set, may tell: nas confirm {run}"
    return f"There is no reason to prefer it to a built-in function.{again}"


def _advice_better(study: Study, leader: pd.Series, rest: list[str]) -> str:
    where = "for this model, data and budget"
    also = f" beside {' and '.join(rest)}" if rest else ""
    outcomes = []
    for setting in study.settings:
        rows = study.leaderboard(setting=setting)
        rows = rows[(rows["function_key"] == leader["function_key"]) & (rows["state"] == "COMPLETE")]
        outcomes += [outcome(row, "vs_relu") for _, row in rows.iterrows()]
    if not outcomes:
        return f"It is worth a try{also} {where}; whether it helps elsewhere was not tested."
    tried = f"{outcomes.count('better')} of {len(outcomes)} other settings"
    return f"It is worth a try{also} {where}; it was better than ReLU in {tried}{'' if 'ReLU' in rest else ', too'}."


def _who(study: Study, leader: pd.Series) -> str:
    like = f" ({shorten(like, 80)})" if (like := likeness(leader)) else ""
    seeds, value = int(leader["n_seeds"]), shown(leader["value"], leader["metric"])
    mark = label(leader["metric"]).partition(",")[2]
    best = "best of the functions given" if is_evaluation(study.config) else "best function that the search found"
    return (
        f"The {best} is {shorten(leader['formula'], 200)}{like}: "
        f"{prose(leader['metric'])} {value}{mark} over {seeds} seed{'s' * (seeds != 1)}, judged "
        f"{_JUDGED.get(leader['stage'], '').format(part=part(leader['metric']))}."
    )


def _difference(row: pd.Series, column: str, name: str) -> str:
    if row["name"] == name:
        return f"It is {name} itself."
    metric, mean, half = row["metric"], as_number(row[column]), as_number(row[f"{column}_ci95"])
    if math.isnan(mean):
        return f"It was not compared with {name}: there is no {name} with the same seeds."
    text = f"Against {name}: {shown(mean, metric, sign=True)}"
    if math.isnan(half):
        why = "with a single seed" if row["n_seeds"] == 1 else "without any spread over the matched seeds"
        return f"{text} {unit(metric)} {why}, so there is no test."
    text += f" ± {shown(half, metric)} {unit(metric)} over matched seeds"
    p = as_number(row[f"{column}_holm"])
    race = int(row["race"])
    text += f"; p = {p:.2g} after Holm's correction for {race} function{'s' * (race != 1)} in the race"
    return f"{text}: {_significance(row, column, p)}."


def _significance(row: pd.Series, column: str, p: float) -> str:
    if p < SURE:
        return "shown"
    seeds = as_number(row[f"{column}_seeds"])
    if math.isnan(seeds):
        return "not shown"
    if math.isinf(seeds):
        return "not shown, and 1,000 seeds would not show so small a difference"
    return f"not shown; if it is as large as it looks, {seeds:.0f} matched seeds would show it"


def _above(leader: pd.Series, complete: pd.DataFrame) -> str:
    above = complete[(complete["rank"] < leader["rank"]) & (complete["metric"] == leader["metric"])]
    if above.empty:
        return ""
    names = ", ".join(shorten(row["formula"] if pd.isna(row["name"]) else row["name"]) for _, row in above.iterrows())
    return f"Ranked above it, among the baselines: {names}."


def contenders(study: Study, board: pd.DataFrame, row: pd.Series) -> pd.DataFrame:
    """Results by function and seed of the best functions that were judged as that row was. The rest is left out: what
    nearly diverges varies far more than anything that matters."""
    best = board[(board["stage"] == row["stage"]) & (board["state"] == "COMPLETE")].sort_values("rank")
    trials = study.trials
    rows = trials[(trials["stage"] == row["stage"]) & trials["setting"].isna() & (trials["state"] == "COMPLETE")]
    rows = rows[rows["function_key"].isin(best["function_key"].head(_CONTENDERS))]
    return rows.pivot_table(index="function_key", columns="seed", values=row["metric"])


def _noise(results: pd.DataFrame, row: pd.Series) -> str:
    seeds, metric, found = max(int(row["n_seeds"]), 1), row["metric"], noise(results)
    if found.degrees < 1:
        return "How much results vary from seed to seed is not known: no two functions share two seeds."
    spread, floor = found.std * factor(metric), found.floor(seeds) * factor(metric)
    return (
        f"The noise of this protocol, among its best {len(results)} functions: from seed to seed a result varies by "
        f"{spread:.2g} {unit(metric)} (standard deviation, after what the seeds have in common). Two functions that "
        f"were picked in advance, with {seeds} seeds each, have to differ by {floor:.2g} for a 95 % interval without "
        "0; of many that are compared, by more."
    )


def _chance(results: pd.DataFrame, row: pd.Series) -> str:
    larger = DIRECTIONS[row["metric"]] == "max"
    p = as_number(probability_best(results if larger else -results).get(row["function_key"]))
    if math.isnan(p):
        return ""
    shown_p = "below 1 %" if p < 0.005 else "above 99 %" if p > 0.995 else f"of {100 * p:.0f} %"
    return f"That it is really the best of these {len(results)} has a probability {shown_p}."
