"""Comparisons of models of text as YAML: which parts, trained on what, read at which lengths; and their runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

import torch
from pydantic import Field, PositiveInt, field_validator

from nas.config import RecipeConfig
from nas.yaml_config import ComponentConfig, ConfigError, Section, check, load_values
from search_spaces.known import known_expression
from search_spaces.parser import ParseError, parse
from trainers.activation import make_act
from trainers.comparison import SCALINGS, Outcome, Variant, run_variant
from trainers.models import ModelError, models
from trainers.tasks import Task, TaskError, tasks
from trainers.trial import Component

Results = dict[str, list[Outcome]]
"""For each variant the outcome of each seed, in order."""


class ComparisonConfig(Section):
    """A comparison.

    Attributes:
        task: what the models are trained and tested on; see trainers.tasks.
        act: the activation of all, a name or a formula.
        model: options of ``gpt`` that all have.
        variants: for each model's name, the options that only it has; and ``scalings``, with which its rotary positions
            are tested again.
        recipe: how all are trained, with AdamW.
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
    recipe: RecipeConfig = RecipeConfig()
    steps: PositiveInt = 1000
    lengths: tuple[PositiveInt, ...] = Field(min_length=1)
    tests: PositiveInt = 256
    seeds: PositiveInt = 1
    workers: PositiveInt = 2

    @field_validator("act")
    @classmethod
    def _formula(cls, value: str) -> str:
        with contextlib.suppress(KeyError):
            return str(known_expression(value))
        try:
            return str(parse(value))
        except ParseError as error:
            raise ValueError(f"act is the name or the formula of an activation: {error}") from error

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
    values, source, faults = load_values(name, overrides)
    if "variants" not in values:
        raise ConfigError(
            source, [f"variants: a comparison names its models; if it is a search, run nas search {name}"]
        )
    values, component_faults = _checked_components(values)
    config, found = check(ComparisonConfig, values)
    faults += found + component_faults
    if config is not None and not faults:
        faults += _task_faults(config)
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


def _task_faults(config: ComparisonConfig) -> list[str]:
    """What shows only when task and models are made, before anything is trained."""
    try:
        task: Task = tasks.get(config.task.name)(**config.task.options)
        for length in config.lengths:
            next(task.tests(length, 1))
    except (TaskError, ValueError) as error:
        return [str(error)]
    faults = []
    for name, options in config.variants.items():
        variant = config.variant(options, 0)
        try:
            with torch.device("meta"):
                act = make_act(parse(variant.expression), "channel", "fp32")
                models.get("gpt")(act, (task.length,), task.vocabulary, **variant.model.options)
        except ModelError as error:
            faults.append(f"variants.{name}: {error}")
    return faults


def run_comparison(config: ComparisonConfig, done: Callable[[str, int, Outcome], None]) -> Results:
    """Train and test every variant with every seed.

    Args:
        done: told of each training when it is over: variant, seed, outcome.
    """
    results: dict[str, dict[int, Outcome]] = {name: {} for name in config.variants}
    pool = ProcessPoolExecutor(config.workers, get_context("spawn"), torch.set_num_threads, (1,))
    try:
        futures = {pool.submit(run_variant, variant): (name, variant.seed) for name, variant in config.trainings()}
        for future in as_completed(futures):
            name, seed = futures[future]
            error = future.exception()
            outcome = future.result() if error is None else Outcome(reason=f"{type(error).__name__}: {error}")
            results[name][seed] = outcome
            done(name, seed, outcome)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return {name: [outcomes[seed] for seed in sorted(outcomes)] for name, outcomes in results.items()}
