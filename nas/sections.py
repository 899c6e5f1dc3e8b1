"""The sections of a search's YAML: their keys, defaults and limits.

The reference of the documents is made of the docstrings: every key stands under ``Attributes``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from nas.strategies import Cost
from nas.yaml_config import Section
from search_spaces.equivalence import Level, rejection
from search_spaces.known import as_expression
from trainers.data import Fraction
from trainers.trial import Recipe

Metric = Literal["val_accuracy", "val_loss", "val_bpb", "train_loss", "train_loss_sum"]


class RecipeConfig(Section):
    """How a network is trained; its keys are those of :class:`trainers.trial.Recipe`, which says what they mean."""

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

    Attributes:
        epochs: the whole budget; a pruned training has less.
        max_steps: steps of a training at most, whatever ``epochs`` says; the schedule comes to its end with them.
        max_seconds: a training that takes longer is ended, as a failure.
        param_shape: learnable parameters are one a channel, or one for a whole layer.
        precision: ``auto`` measures at the start of a study whether bf16 is faster, and keeps to the answer.
        device: ``auto`` is a GPU if a trial is given one.
    """

    epochs: PositiveInt = 10
    max_steps: PositiveInt | None = None
    max_seconds: PositiveFloat | None = None
    param_shape: Literal["channel", "scalar"] = "channel"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class SearchConfig(Section):
    """How long to search, and for what.

    Attributes:
        trials: functions to train. With 0 nothing is searched, and only ``retrain.functions`` and the baselines are
            trained.
        equivalence: how far two candidates count as the same function: ``exact``, ``reflection`` (f(x) and -f(-x)),
            or ``affine`` (scale, shift and reflection).
        minutes: end the search stage after so long, whatever ``trials`` says.
        screen: end trials in which signal or gradient vanish or explode at initialisation.
        objective: what counts, of a training's last epoch; ``val_bpb`` is of text only.
        cost: to be small beside a good ``objective``: the number of nodes (``complexity``), or the ``time`` of the
            function's forward and backward pass. The functions that no other one beats in both are retrained first.
    """

    trials: NonNegativeInt = 100
    equivalence: Level = "reflection"
    minutes: PositiveFloat | None = None
    screen: bool = True
    objective: Metric = "val_accuracy"
    cost: Cost | None = None


def _trainable(functions: tuple[str, ...]) -> tuple[str, ...]:
    for text in functions:
        reason = rejection(as_expression(text))
        if reason:
            raise ValueError(f"{text} is never trained: it is {reason}")
    return functions


Functions = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda functions: (functions,) if isinstance(functions, str) else functions),
    AfterValidator(_trainable),
]
"""Activation functions by name or formula, one or several."""


class WarmStartConfig(Section):
    """What is known before a search.

    Attributes:
        functions: to train first, by name or formula.
        study: an earlier one. Its results are told to the strategy, if it trained in the same way.
        top: instead of telling results, train so many of the best functions of that study first.
    """

    functions: Functions = ()
    study: str | None = None
    top: PositiveInt | None = None

    @field_validator("study")
    @classmethod
    def _from_anywhere(cls, study: str | None) -> str | None:
        return None if study is None else str(Path(study).expanduser().absolute())


class PruningConfig(Section):
    """Asynchronous successive halving. Nothing is pruned if there is no such section.

    Attributes:
        metric: by which trials are compared at a rung.
        rungs: after each of these epochs the best 1/``reduction_factor`` go on.
        reduction_factor: see ``rungs``.
        anneal: the learning-rate schedule comes to its end at every rung, and starts again.
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
    """The best functions and the baselines are trained again, with fresh seeds, at the whole budget.

    Attributes:
        top: so many of the best; ``all`` means every function searched, those that failed too.
        seeds: trainings of each.
        functions: by name or formula, trained likewise, whatever the search finds.
    """

    top: Annotated[int, Field(ge=0)] | Literal["all"] = 10
    seeds: PositiveInt = 3
    functions: Functions = ()


Loggers = Annotated[
    tuple[Literal["csv", "tensorboard", "mlflow", "wandb"], ...],
    BeforeValidator(lambda names: [names] if isinstance(names, str) else names),
    AfterValidator(lambda names: tuple(dict.fromkeys(names))),  # one given twice would write everything twice
]
"""Who is told of finished trials beside the store; see nas.loggers."""

_ADDRESS = re.compile(r"auto|(ray://)?[A-Za-z0-9._-]+:\d{1,5}")


class RayConfig(Section):
    """Where trials run, and what each may take. Nothing here changes what a candidate is or how it is trained, so a
    resumed study may have other values.

    Attributes:
        address: of a Ray cluster: ``auto`` for the one this machine is part of, ``HOST:PORT``, or ``ray://HOST:PORT``
            from outside; none for a Ray of our own on this machine.
        cpus_per_trial: cores a trial takes.
        gpus_per_trial: of a GPU, such as 0.25; ``auto`` for as many trials as fit its memory.
        retries: so often a trial whose worker was lost is started again.
        hang_seconds: a training without a step for so long is ended, as a failure.
        max_memory_gb: a training whose process grows larger is ended, as a failure; ``auto`` for an even share of 90 %
            of its machine's memory.
    """

    address: str | None = None
    cpus_per_trial: PositiveFloat = 1
    gpus_per_trial: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    retries: NonNegativeInt = 2
    hang_seconds: PositiveFloat | None = 600
    max_memory_gb: PositiveFloat | Literal["auto"] | None = "auto"

    @field_validator("address")
    @classmethod
    def _is_address(cls, address: str | None) -> str | None:
        if address is not None and not _ADDRESS.fullmatch(address):
            raise ValueError(f"an address is auto, HOST:PORT or ray://HOST:PORT, got {address!r}")
        return address

    @field_validator("gpus_per_trial")
    @classmethod
    def _part_or_whole(cls, gpus: float | str) -> float | str:
        if isinstance(gpus, float) and gpus > 1 and gpus != int(gpus):
            raise ValueError(f"more than one GPU a trial is a whole number of them, got {gpus}")
        return gpus
