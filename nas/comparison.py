"""Comparisons of models of text as YAML: which parts, trained on what, read at which lengths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from nas.shipped import shipped_comparisons
from nas.yaml_config import ComponentConfig, ConfigError, Section, check, load_values
from search_spaces.known import known_expression
from search_spaces.parser import ParseError, parse
from trainers.comparison import SCALINGS, Variant, build, rescale
from trainers.models import models
from trainers.tasks import tasks
from trainers.trial import Component, Recipe

_LONGEST = 2**20
"""Tokens of a test text."""


class TrainingConfig(Section):
    """How all models of a comparison are trained, with AdamW; see :class:`trainers.trial.Recipe`."""

    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat = 3e-3
    schedule: Literal["cosine", "triangle"] = "cosine"
    warmup: float = Field(0.1, ge=0, le=1)
    momentum: float = Field(0.9, gt=0, lt=1)
    beta2: float = Field(0.95, gt=0, lt=1)
    weight_decay: float = Field(0.1, ge=0)
    clip_norm: PositiveFloat | None = 1.0

    def recipe(self) -> Recipe:
        return Recipe(optimizer="adamw", **self.model_dump())


class ComparisonConfig(Section):
    """A comparison.

    Attributes:
        name: of the comparison.
        task: what the models are trained and tested on; see trainers.tasks.
        act: the activation of all, a name or a formula.
        model: options of ``gpt`` that all have.
        variants: for each model's name, the options that only it has; and ``scalings``, with which its rotary positions
            are tested again.
        recipe: how all are trained.
        steps: of training.
        lengths: tokens of the test texts.
        tests: test texts of each length.
        seeds: trainings of each variant.
        workers: trainings at a time, each with one thread.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    task: ComponentConfig
    act: str = Field("SiLU", validate_default=True)
    model: dict[str, Any] = Field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = Field(min_length=1)
    recipe: TrainingConfig = TrainingConfig()
    steps: PositiveInt = 1000
    lengths: tuple[PositiveInt, ...] = Field(min_length=1)
    tests: PositiveInt = 256
    seeds: PositiveInt = 1
    workers: PositiveInt = 2

    @field_validator("act")
    @classmethod
    def _formula(cls, value: str) -> str:
        try:
            return str(known_expression(value))
        except KeyError as error:
            if value.isidentifier() and value not in ("x", "x1", "x2"):
                raise ValueError(error.args[0]) from error
        try:
            return str(parse(value))
        except ParseError as error:
            raise ValueError(f"act is the name or the formula of an activation: {error}") from error

    @field_validator("variants")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not name.isprintable() or not 1 <= len(name) <= 60:
                raise ValueError(f"a variant's name is a line of 1 to 60 characters, got {name[:80]!r}")
        return value

    @field_validator("lengths")
    @classmethod
    def _not_too_long(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if max(value, default=0) > _LONGEST:
            raise ValueError(f"test texts have up to {_LONGEST:,} tokens, got {max(value):,}")
        return value

    def trainings(self) -> Iterator[tuple[str, Variant]]:
        """Every training, all variants of the first seed first."""
        for seed in range(self.seeds):
            for name, options in self.variants.items():
                yield name, self.variant(options, seed)

    def variant(self, options: dict[str, Any], seed: int) -> Variant:
        """One training of the model with these options."""
        own = {key: value for key, value in options.items() if key != "scalings"}
        return Variant(
            task=self.task.component(),
            model=Component("gpt", self.model | own),
            expression=self.act,
            recipe=self.recipe.recipe(),
            steps=self.steps,
            seed=seed,
            lengths=self.lengths,
            tests=self.tests,
            scalings=tuple(options.get("scalings", ())),
        )


def load_comparison(name: str, overrides: list[str] | None = None) -> ComparisonConfig:
    """A comparison from a YAML file or a shipped name, with overrides such as ``steps=100``.

    Raises:
        ConfigError: with all faults.
    """
    values, source, faults = load_values(name, overrides, shipped_comparisons())
    if "variants" not in values:
        raise ConfigError(
            source, [f"variants: a comparison names its models; if it is a search, run nas search {name}"]
        )
    values, component_faults = _checked_components(values)
    config, found = check(ComparisonConfig, values)
    faults += found + component_faults
    if config is not None and not faults:
        faults += _cross_faults(config)
    if faults or config is None:
        raise ConfigError(source, faults)
    return config


def _checked_components(values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values with the options of task and models as those want them, and what is wrong with them."""
    checked, faults = dict(values), []
    task, model, variants = (values.get(key, {}) for key in ("task", "model", "variants"))
    if isinstance(task, dict) and isinstance(task.get("name"), str):
        options, found = tasks.check(task["name"], {key: value for key, value in task.items() if key != "name"})
        checked["task"] = {"name": task["name"], **options}
        faults += [f"task: {fault}" for fault in found]
    if isinstance(variants, dict) and isinstance(model, dict):
        checked["variants"] = {str(name): own for name, own in variants.items()}
        for name, own in checked["variants"].items():
            if not isinstance(own, dict):
                continue
            scalings = own.get("scalings", [])
            if not isinstance(scalings, list) or not set(map(str, scalings)) <= set(SCALINGS):
                faults.append(f"variants.{name}.scalings: a list of {', '.join(SCALINGS)}, got {scalings!r}")
            options, found = models.check(
                "gpt", model | {key: value for key, value in own.items() if key != "scalings"}
            )
            faults += [f"variants.{name}: {fault}" for fault in found]
            checked["variants"][name] = options | ({"scalings": scalings} if scalings else {})
    return checked, faults


def _cross_faults(config: ComparisonConfig) -> list[str]:
    """What shows only when task and models are made, which happens here without memory and before any training."""
    try:
        task = tasks.get(config.task.name)(**config.task.options)
        for length in config.lengths:
            next(task.tests(length, 1))
    except ValueError as error:
        return [f"task: {error}"]
    faults = []
    for name, options in config.variants.items():
        variant = config.variant(options, 0)
        try:
            with torch.device("meta"):
                model = build(variant, task)
                model(torch.zeros(1, 1, dtype=torch.long))
            for scaling in variant.scalings:
                for length in config.lengths:
                    rescale(model, scaling, task.length, length)
        except (ValueError, TypeError, RuntimeError) as error:
            faults.append(f"variants.{name}: {str(error).splitlines()[0]}")
    return faults
