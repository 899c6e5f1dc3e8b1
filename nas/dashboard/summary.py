"""A study in a few lines: what it does, how far it is, and the best that it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analysis.study import is_evaluation
from analysis.trials import to_records
from analysis.wording import kind, prose
from nas.dashboard.elements import badge, counted, formula_link, pick, spread
from nas.dashboard.studies import Snapshot, Trouble


@dataclass(frozen=True)
class Summary:
    """What a card says.

    Attributes:
        state: running, finished, interrupted or stopped.
        task: strategy, space, model and data.
        searched: how many functions of how many.
        trials: how many in which state.
        best: the first row of the leaderboard, if something is complete.
        find: the first one that the search found, if that is another one.
    """

    state: str
    task: str
    searched: str
    trials: str
    best: dict[str, Any] | None
    find: dict[str, Any] | None


def summarize(study: Snapshot) -> Summary:
    trials, config = study.trials, study.config
    stages = trials["stage"].value_counts().to_dict()
    done = int(((trials["stage"] == "search") & (trials["state"] != "RUNNING")).sum())
    wanted = pick(config, "search", "trials")
    board = study.leaderboard()
    complete = board[board["state"] == "COMPLETE"]
    rows = to_records(complete.head(1))
    finds = to_records(complete[complete["found"].astype(bool)].head(1))
    later = [f"{stages[stage]:,} {word}" for stage, word in _LATER.items() if stages.get(stage)]
    searched = (
        [] if is_evaluation(config) else [f"{done:,} of {_number(wanted)} searched" if wanted else f"{done:,} searched"]
    )
    return Summary(
        state=_state(study, done, wanted),
        task=task(config),
        searched=", ".join([*searched, *later]),
        trials=counted({str(state): int(n) for state, n in trials["state"].value_counts().items()}),
        best=rows[0] if rows else None,
        find=finds[0] if finds and finds != rows else None,
    )


_LATER = {"retrain": "retrainings", "confirm": "confirmations"}


def task(config: dict[str, Any]) -> str:
    """``surrogate over swish2017, resnet8 on digits``, as far as it is known."""
    if is_evaluation(config):
        return "functions that were given, {} on {}".format(
            *(pick(config, part, "name") or "?" for part in ("model", "data"))
        )
    names = [pick(config, part, "name") or "?" for part in ("strategy", "space", "model", "data")]
    return "{} over {}, {} on {}".format(*names)


def home(study: Snapshot) -> str:
    """The study's own setting: ``resnet8 on digits``."""
    return " on ".join(pick(study.config, part, "name") or "?" for part in ("model", "data"))


def _number(text: str) -> str:
    return f"{int(text):,}" if text.isascii() and text.isdigit() else text


def _state(study: Snapshot, done: int, wanted: str) -> str:
    if study.running:
        return "running"
    if (study.trials["state"] == "RUNNING").any():
        return "interrupted"
    went_on = study.trials["stage"].isin(list(_LATER)).any()
    return "finished" if went_on or (wanted.isdigit() and done >= int(wanted)) else "stopped"


def state_badge(study: Snapshot | Trouble) -> Any:
    state = "unreadable" if isinstance(study, Trouble) else summarize(study).state
    return badge(state, state)


def best_line(study: Snapshot, best: dict[str, Any] | None) -> list[Any]:
    """The best function, and how good it is."""
    if best is None:
        return ["none yet"]
    return [*formula_link(study.slug, best), " ", value_of(best)]


def value_of(row: dict[str, Any]) -> str:
    """What a function is ranked by, with the number of seeds."""
    metric = row["metric"]
    unit = " %" if kind(metric) == "accuracy" else ""
    seeds = "1 seed" if row["n_seeds"] == 1 else f"{row['n_seeds']} seeds"
    return f"{spread(kind(metric), row['value'], row['value_std'])}{unit} {prose(metric)}, {seeds}"
