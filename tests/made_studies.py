"""Studies for tests that train nothing: the outcome of a trial is computed from the function and the seed."""

from __future__ import annotations

import copy
from pathlib import Path

from analysis.store import Store
from nas.config import ExperimentConfig, restore_config
from nas.search import Search
from nas.yaml_config import apply_override
from tests.made_tables import TINY
from tests.nas.test_search import drive
from trainers.trial import TrialResult


def settings(*overrides: str) -> ExperimentConfig:
    chosen = copy.deepcopy({**TINY, "search": {"trials": 8}, "retrain": {"top": 3, "seeds": 1}})
    for override in overrides:
        assert apply_override(chosen, override) is None
    return restore_config(chosen)


def study(path: Path, *overrides: str) -> list[tuple[str, str, int, TrialResult | None]]:
    """A whole search with made-up results; its trials."""
    path.mkdir(exist_ok=True)
    chosen = settings(*overrides)
    with Store.create(path, chosen.model_dump(mode="json")) as store:
        drive(Search(chosen, store), workers=1)
        return trials(store)


def trials(store: Store) -> list[tuple[str, str, int, TrialResult | None]]:
    return [(r.trial.stage, r.trial.expression, r.trial.seed, r.result) for r in store.records()]


def of_stage(rows, stage: str) -> list[str]:
    return [expression for where, expression, _, _ in rows if where == stage]
