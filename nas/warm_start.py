"""What a search may know before it starts: functions to try first, and the results of an earlier study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.leaderboard import leaderboard
from analysis.store import Store
from nas.config import ExperimentConfig, restore_config
from nas.yaml_config import ConfigError
from search_spaces.known import as_expression
from trainers.data import datasets
from trainers.models import models
from trainers.trial import TrialResult


@dataclass(frozen=True)
class Known:
    """A function that a search starts with: its result in an earlier study, or None if it is to be trained first."""

    expression: str
    result: TrialResult | None = None

    def to_values(self) -> list[str | None]:
        return [self.expression, None if self.result is None else self.result.to_json()]

    @classmethod
    def from_values(cls, values: list[Any]) -> Known:
        expression, result = values
        return cls(expression, None if result is None else TrialResult.from_json(result))


def warm_start(config: ExperimentConfig) -> list[Known]:
    """What the configuration's ``warm_start`` names; a study's results in the order in which they came.

    Raises:
        StoreError: its study cannot be read.
        ConfigError: its study's results cannot be compared with those to come.
    """
    known = [Known(str(as_expression(text))) for text in config.warm_start.functions]
    if config.warm_start.study is None:
        return known
    path = Path(config.warm_start.study)
    with Store.open(path) as store:
        if config.warm_start.top is not None:
            rows = leaderboard(store)
            complete = rows[(rows["state"] == "COMPLETE") & rows["found"]]
            return known + [Known(text) for text in complete["expression"].head(config.warm_start.top)]
        records = [event.record for event in store.events() if event.kind == "finish"]
        earlier = restore_config(store.get("config"))
    searched = [(r.trial.expression, r.result) for r in records if r.trial.stage == "search" and r.result]
    fault = _difference(earlier, config)
    if fault:
        raise ConfigError(
            "warm_start.study",
            [
                f"{path} trained otherwise ({fault}), so that its results cannot be told to this search; set "
                "warm_start.top=N to train its best N functions first"
            ],
        )
    return known + [Known(text, result) for text, result in searched]


def _difference(earlier: ExperimentConfig, config: ExperimentConfig) -> str | None:
    """In what two studies' trainings differ; None if they are alike."""
    then, now = _training(earlier), _training(config)
    for key in sorted(then.keys() | now.keys()):
        if then.get(key) != now.get(key):
            return f"{key} was {then.get(key)}, now it is {now.get(key)}"
    return None


def _training(config: ExperimentConfig) -> dict[str, Any]:
    """What results depend on."""
    values = {f"recipe.{key}": value for key, value in config.recipe.model_dump(mode="json").items()}
    for section, registry, component in (("model", models, config.model), ("data", datasets, config.data)):
        options = registry.defaults(component.name) | component.options
        values[section] = component.name
        values |= {f"{section}.{key}": value for key, value in options.items() if key not in ("root", "download")}
    trial = config.trial
    pruning = None if config.pruning is None else config.pruning.model_dump(mode="json")
    keys = ("epochs", "max_steps", "param_shape", "precision")
    return values | {f"trial.{key}": getattr(trial, key) for key in keys} | {"pruning": pruning}
