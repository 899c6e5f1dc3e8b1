"""A search as YAML: its sections and their validation.

All faults of a configuration are reported together, each with the place, the value received and a hint.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from nas.strategies import Cost, Objective, Problem, Spectrum, Strategy, strategies
from nas.yaml_config import ComponentConfig, ConfigError, Section, check, load_values
from search_spaces.equivalence import Level, rejection
from search_spaces.known import as_expression, known_expression
from search_spaces.presets import spaces
from search_spaces.registry import Registry
from search_spaces.space import SearchSpace
from trainers.data import Fraction, datasets
from trainers.models import models
from trainers.trial import Recipe

DEFAULT_STRATEGY = "surrogate"
"""Chosen by the yardstick: see docs/yardstick.md."""

Metric = Literal["val_accuracy", "val_loss", "val_bpb", "train_loss", "train_loss_sum"]


class RecipeConfig(Section):
    """How a network is trained; see :class:`trainers.trial.Recipe`."""

    batch_size: PositiveInt = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: PositiveFloat = 0.1
    schedule: Literal["triangle", "cosine", "step"] = "triangle"
    warmup: float = Field(0.2, ge=0, le=1)
    milestones: tuple[Fraction, ...] = (0.5, 0.75)
    gamma: float = Field(0.1, gt=0, le=1)
    momentum: float = Field(0.9, gt=0, lt=1)
    beta2: float = Field(0.95, gt=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    clip_norm: PositiveFloat | None = None

    def recipe(self) -> Recipe:
        return Recipe(**self.model_dump())


class TrialConfig(Section):
    """The budget of one training, the granularity of learnable parameters, and where and how it runs.

    ``precision: auto`` measures at the start of a study whether bf16 is faster, and keeps to the answer.
    """

    epochs: PositiveInt = 10
    max_steps: PositiveInt | None = None
    max_seconds: PositiveFloat | None = None
    param_shape: Literal["channel", "scalar"] = "channel"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class SearchConfig(Section):
    """How long to search, and for what. ``minutes`` ends the search stage, whatever ``trials`` says.

    ``cost`` is to be small beside a good ``objective``: the number of nodes, or the time of the function's forward and
    backward pass. The functions that no other one beats in both are retrained first.

    ``equivalence`` is how far two candidates count as the same function; see search_spaces.equivalence.LEVELS.
    ``screen`` ends trials in which signal or gradient vanish or explode at initialisation.
    """

    trials: PositiveInt = 100
    equivalence: Level = "reflection"
    minutes: PositiveFloat | None = None
    screen: bool = True
    objective: Metric = "val_accuracy"
    cost: Cost | None = None


class WarmStartConfig(Section):
    """What is known before a search: ``functions`` to train first, by name or formula, and an earlier ``study``.

    The results of an earlier study are told to the strategy, if it trained in the same way; with ``top`` the best
    functions of its leaderboard are trained first instead.
    """

    functions: tuple[str, ...] = ()
    study: str | None = None
    top: PositiveInt | None = None

    @field_validator("functions", mode="before")
    @classmethod
    def _several(cls, functions: Any) -> Any:
        return (functions,) if isinstance(functions, str) else functions

    @field_validator("functions")
    @classmethod
    def _readable(cls, functions: tuple[str, ...]) -> tuple[str, ...]:
        for text in functions:
            reason = rejection(as_expression(text))
            if reason:
                raise ValueError(f"{text} is never trained: it is {reason}")
        return functions

    @field_validator("study")
    @classmethod
    def _from_anywhere(cls, study: str | None) -> str | None:
        return None if study is None else str(Path(study).expanduser().absolute())


class PruningConfig(Section):
    """Asynchronous successive halving: after each epoch of ``rungs`` the best 1/reduction_factor go on.

    With ``anneal`` the learning-rate schedule comes to its end at every rung, and starts again.
    """

    metric: Metric = "train_loss_sum"
    rungs: tuple[PositiveInt, ...] = Field((1, 3), min_length=1)
    reduction_factor: float = Field(3.0, gt=1)
    anneal: bool = True

    @model_validator(mode="after")
    def _rungs_rise(self) -> Self:
        if list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError(f"rungs are epochs in rising order, got {list(self.rungs)}")
        return self


class RetrainConfig(Section):
    """The best ``top`` functions and the baselines are trained again with ``seeds`` fresh seeds at the full budget.

    ``top: all`` means every function searched, those that failed too.
    """

    top: Annotated[int, Field(ge=0)] | Literal["all"] = 10
    seeds: PositiveInt = 3


def _default_root(data: str) -> Any:
    """The folder that a data set is read from if none is given; None if it needs none or is unknown."""
    if data not in datasets.names():
        return None
    parameter = inspect.signature(datasets.get(data)).parameters.get("root")
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


class ExperimentConfig(Section):
    """A whole experiment."""

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

    @model_validator(mode="after")
    def _absolute_paths(self) -> Self:
        """A data folder is relative to where the command is given; a study can then be resumed from anywhere."""
        root = self.data.options.get("root", _default_root(self.data.name))
        if isinstance(root, str):
            try:
                absolute = str(Path(root).expanduser().absolute())
            except RuntimeError as error:  # ~nobody
                raise ValueError(f"data.root={root!r}: {error}") from error
            object.__setattr__(self, "data", self.data.model_copy(update={"root": absolute}))
        return self

    def make_space(self) -> SearchSpace:
        return spaces.get(self.space.name)(**self.space.options)

    def objective(self) -> Objective:
        return Objective(self.search.objective, self.search.cost)

    def make_strategy(self, spectrum: Spectrum | None = None) -> Strategy:
        """The strategy, with what it may know about networks at initialisation (``Problem.spectrum``)."""
        problem = Problem(self.make_space(), self.objective(), self.seed, spectrum)
        return strategies.get(self.strategy.name)(problem, **self.strategy.options)


def load_config(name: str, overrides: list[str] | None = None) -> ExperimentConfig:
    """A configuration from a YAML file or a shipped name, with ``section.key=value`` overrides (values are YAML).

    Raises:
        ConfigError: with all faults.
    """
    values, source, faults = load_values(name, overrides)
    if "variants" in values:
        raise ConfigError(source, [f"this is a comparison of models, not a search; run nas compare {name}"])
    return _validated(values, source, faults)


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
    registries: dict[str, Registry[Any]] = {"space": spaces, "strategy": strategies, "model": models, "data": datasets}
    checked: dict[str, Any] = {str(key): value for key, value in values.items()}
    faults = []
    for section, registry in registries.items():
        entry = values.get(section)
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
    try:
        config.make_strategy()
    except (ValueError, OverflowError) as error:
        yield f"strategy {config.strategy.name!r} over {config.space.name!r}: {' '.join(str(error).split())}"
