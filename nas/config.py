"""A search as YAML: its sections and their validation.

All faults of a configuration are reported together, each with the place, the value received and a hint.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from nas.sections import (
    Loggers,
    PruningConfig,
    RayConfig,
    RecipeConfig,
    RetrainConfig,
    SearchConfig,
    TrialConfig,
    WarmStartConfig,
)
from nas.shipped import shipped_searches
from nas.strategies import Objective, Problem, Spectrum, Strategy, strategies
from nas.yaml_config import ComponentConfig, ConfigError, Section, apply_override, check, load_values, source_of
from search_spaces.known import known_expression
from search_spaces.presets import spaces
from search_spaces.registry import Registry
from search_spaces.space import SearchSpace
from trainers.data import datasets
from trainers.models import models
from trainers.trial import Trial

DEFAULT_STRATEGY = "surrogate"
"""Chosen by the yardstick: see docs/yardstick.md."""

_REGISTRIES: dict[str, Registry[Any]] = {"space": spaces, "strategy": strategies, "model": models, "data": datasets}
"""Of the sections that hold a component."""


def _default_root(data: str) -> Any:
    """The folder that a data set is read from if none is given; None if it needs none or is unknown."""
    if data not in datasets.names():
        return None
    parameter = inspect.signature(datasets.get(data)).parameters.get("root")
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


class ExperimentConfig(Section):
    """A whole experiment.

    Attributes:
        name: of the study, and of its directory in ``runs``.
        seed: of the strategy, and of the searched functions' weights and order of data; retrainings have the next ones.
        space: the search space.
        strategy: how it is searched.
        model: the network that every function is trained in.
        data: what it is trained on.
        recipe: how it is trained.
        trial: the budget of one training.
        search: how long to search, and for what.
        warm_start: what is known before.
        pruning: successive halving; null for none.
        retrain: what is trained again, with fresh seeds.
        baselines: known functions to compare with, by name.
        executor: Ray Tune's workers, or this process.
        workers: trials at a time; ``auto`` for as many as fit.
        ray: where trials run, and what each may take.
        loggers: who is told of finished trials beside the store.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    seed: int = Field(0, ge=0, lt=2**31)
    space: ComponentConfig
    strategy: ComponentConfig = ComponentConfig(name=DEFAULT_STRATEGY)
    model: ComponentConfig
    data: ComponentConfig
    recipe: RecipeConfig = RecipeConfig()
    trial: TrialConfig = TrialConfig()
    search: SearchConfig = SearchConfig()
    warm_start: WarmStartConfig = WarmStartConfig()
    pruning: PruningConfig | None = None
    retrain: RetrainConfig = RetrainConfig()
    baselines: tuple[str, ...] = ("ReLU", "SiLU", "GELU", "ELU", "tanh")
    executor: Literal["ray", "inline"] = "ray"
    workers: PositiveInt | Literal["auto"] = "auto"
    ray: RayConfig = RayConfig()
    loggers: Loggers = ("csv", "tensorboard")

    @model_validator(mode="after")
    def _absolute_paths(self) -> Self:
        """A data folder is relative to where the command is given; a study can then be resumed from anywhere.

        One with variables is for every machine to find.
        """
        root = self.data.options.get("root", _default_root(self.data.name))
        if isinstance(root, str) and "$" not in root:
            try:
                absolute = str(Path(root).expanduser().absolute())
            except RuntimeError as error:  # ~nobody
                raise ValueError(f"data.root={root!r}: {error}") from error
            object.__setattr__(self, "data", self.data.model_copy(update={"root": absolute}))
        return self

    @classmethod
    def component_keys(cls) -> list[str]:
        return [f"{section}.{option}" for section, registry in _REGISTRIES.items() for option in registry.options()]

    def make_space(self) -> SearchSpace:
        return spaces.get(self.space.name)(**self.space.options)

    def objective(self) -> Objective:
        return Objective(self.search.objective, self.search.cost)

    def full_trial(self, number: int, stage: str, expression: str, seed: int, precision: str) -> Trial:
        """A training at the whole budget, as this configuration wants it."""
        return Trial(
            id=number,
            stage=stage,
            expression=expression,
            seed=seed,
            model=self.model.component(),
            data=self.data.component(),
            recipe=self.recipe.recipe(),
            budget_epochs=self.trial.epochs,
            max_steps=self.trial.max_steps,
            max_seconds=self.trial.max_seconds,
            param_shape=self.trial.param_shape,
            precision=precision,
            device=self.trial.device,
        )

    def make_strategy(self, spectrum: Spectrum | None = None) -> Strategy:
        """The strategy, with what it may know about networks at initialisation (``Problem.spectrum``)."""
        problem = Problem(self.make_space(), self.objective(), self.seed, spectrum)
        return strategies.get(self.strategy.name)(problem, **self.strategy.options)


def load_config(name: str, overrides: list[str] | None = None) -> ExperimentConfig:
    """A configuration from a YAML file or a shipped name, with ``section.key=value`` overrides (values are YAML).

    Raises:
        ConfigError: with all faults.
    """
    values, source, faults = load_values(name, overrides, shipped_searches())
    if "variants" in values:
        raise ConfigError(source, [f"this is a comparison of models, not a search; run nas compare {name}"])
    if values.get("name") in spaces.names() and not {"space", "model", "data"} & values.keys():
        hint = f"in an experiment it stands under space: (nas space {name} describes it)"
        raise ConfigError(source, [f"this is a search space, not a search; {hint}"])
    return _validated(values, source, faults)


_WHERE = ("ray", "workers", "executor", "loggers")


def elsewhere(config: ExperimentConfig, overrides: list[str]) -> ExperimentConfig:
    """A study's configuration for another place: only keys that say where trials run, and who is told, may
    change.

    Raises:
        ConfigError: with all faults.
    """
    values = config.model_dump(mode="json")
    faults = [
        f"{text.partition('=')[0]}: a study goes on as it was begun; what may change is {', '.join(_WHERE)}"
        for text in overrides
        if text.partition("=")[0].split(".")[0].strip() not in _WHERE
    ]
    faults += [fault for text in overrides if (fault := apply_override(values, text))]
    return _validated(values, "resume", faults)


_BEFORE = (("trial", "precision", "fp32"), ("search", "screen", False), ("pruning", "anneal", False))
"""Section, key, and what studies did before they knew the key."""


def restore_config(values: Mapping[str, Any]) -> ExperimentConfig:
    """The configuration that a study was started with.

    A study from before some keys existed goes on as it was, not with their defaults.
    """
    values = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for section, key, before in _BEFORE:
        if isinstance(values.get(section), dict):
            values[section].setdefault(key, before)
    strategy = values.get("strategy")
    if "warm_start" not in values and isinstance(strategy, dict) and strategy.get("name") == "random":
        strategy.setdefault("uniform", "spellings")
    return _validated(values, "the study's configuration", [])


def _validated(values: dict[str, Any], source: str, faults: list[str]) -> ExperimentConfig:
    values, component_faults = _checked_components(values)
    config, found = check(ExperimentConfig, values)
    faults += found
    faults += component_faults
    if config is not None and not faults:
        faults += _cross_faults(config)
    if faults or config is None:
        raise ConfigError(source, faults)
    return config


def _checked_components(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The configuration with the options of its components as those want them, and what is wrong with them."""
    checked: dict[str, Any] = {str(key): value for key, value in values.items()}
    faults = []
    for section, registry in _REGISTRIES.items():
        entry = values.get(section)
        if section == "space" and isinstance(entry, str) and entry.endswith((".yaml", ".yml")):
            faults.append(
                f"space: {entry!r} is a file; put its lines under space: in a configuration of your own, such as a "
                f"copy of {source_of('digits')}, and search with that"
            )
            checked[section] = {"name": entry}
            continue
        if isinstance(entry, str):  # strategy=tpe
            entry = {"name": entry}
        elif isinstance(entry, dict) and section == "strategy":
            entry = {"name": DEFAULT_STRATEGY, **entry}
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            options = {key: value for key, value in entry.items() if key != "name"}
            options, found = registry.check(entry["name"], options)
            checked[section] = {"name": entry["name"], **options}
            faults += [f"{section}: {fault}" for fault in found]
    baselines = values.get("baselines", ())
    for name in baselines if isinstance(baselines, list | tuple) else ():
        try:
            known_expression(str(name))
        except KeyError as error:
            faults.append(f"baselines: {error.args[0]}")
    return checked, faults


def _cross_faults(config: ExperimentConfig) -> Iterator[str]:
    """What no single key shows."""
    if config.pruning and config.pruning.rungs[-1] >= config.trial.epochs:
        rungs, epochs = list(config.pruning.rungs), config.trial.epochs
        yield f"pruning.rungs lie below trial.epochs = {epochs}, got {rungs}; lower them or set pruning=null"
    if config.pruning and config.search.objective == "train_loss_sum":
        yield (
            "search.objective=train_loss_sum favours trials that were stopped early, whose sums are shorter; choose "
            "another objective, such as train_loss, or pruning=null"
        )
    if not config.search.trials and not config.retrain.functions:
        yield "search.trials=0 searches nothing; give at least 1, or name functions to train in retrain.functions"
    over = f"strategy {config.strategy.name!r} over {config.space.name!r}"
    for what, make in (("space", config.make_space), (over, config.make_strategy)):
        try:
            make()
        except (ValueError, OverflowError) as error:
            yield f"{what}: {' '.join(str(error).split())}"
            return  # there is no strategy over a space that there is not
