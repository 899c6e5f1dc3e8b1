"""What crosses a process boundary: a trial to run and the result of having run it. Plain JSON both ways."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any, Literal, Self

from pydantic import ConfigDict, TypeAdapter, with_config


class TrialState(StrEnum):
    """What became of a trial."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"  # stopped early because others were better at the same budget
    FAIL = "FAIL"  # diverged, threw, ran out of time or lost its process; the reason is recorded


METRICS: dict[str, Literal["max", "min"]] = {
    "val_accuracy": "max",
    "val_loss": "min",
    "val_bpb": "min",
    "train_loss": "min",
    "train_loss_sum": "min",
}
"""What a training may report after every epoch, and which way is better. ``val_bpb``, bits per byte, is of text
only."""

TEST_METRICS: dict[str, Literal["max", "min"]] = {"test_accuracy": "max", "test_loss": "min", "test_bpb": "min"}
"""The same of the test set, once, at the end of a training that confirms."""

DIRECTIONS = METRICS | TEST_METRICS

PRECISIONS = ("fp32", "bf16")


class _Json:
    """Dataclasses that travel as JSON text. What comes back is checked: it may be a stranger's."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError for what is none: other keys, or values of other types."""
        checker: TypeAdapter[Self] = _checker(cls)  # type: ignore[arg-type]
        return checker.validate_json(text)


@cache
def _checker(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(with_config(_STRICT)(kind))


_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Component(_Json):
    """A registered model or data set: its name and the options that differ from their defaults."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe(_Json):
    """How a network is trained.

    Attributes:
        batch_size: images, or texts of ``context`` bytes, a step.
        optimizer: ``sgd``, with Nesterov's acceleration, or ``adamw``.
        learning_rate: peak of the schedule.
        schedule: after the warm-up: ``triangle``, linear to zero; ``cosine``, half a cosine to zero; ``step``,
            multiplied by ``gamma`` at each of ``milestones``.
        warmup: the part of all steps in which the rate rises linearly to its peak.
        milestones: of ``step``, as parts of all steps.
        gamma: of ``step``.
        momentum: of SGD; the first beta of AdamW.
        beta2: the second beta of AdamW.
        weight_decay: on all parameters with two or more dimensions; never on biases, norms and activation parameters.
        label_smoothing: of the cross-entropy.
        clip_norm: longest gradient, as a vector of all parameters; None for no limit.
    """

    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    schedule: str = "triangle"
    warmup: float = 0.2
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1
    momentum: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    clip_norm: float | None = None


@dataclass(frozen=True)
class Relaxation:
    """All functions of a shape in one network, every slot a weighted sum of its templates (trainers.relaxed).

    Attributes:
        shape: such as ``b(u(x), u(x))``.
        unary, binary, nary: the templates of the slots, as formulas.
        learning_rate: of the parameters that the slots' weights are drawn by.
        epochs: of its training; None for the search's default.
        attempt: 0, 1, ...: another one has another seed.
    """

    shape: str
    unary: tuple[str, ...]
    binary: tuple[str, ...] = ()
    nary: tuple[str, ...] = ()
    learning_rate: float = 0.01
    epochs: int | None = None
    attempt: int = 0


@dataclass(frozen=True)
class Trial(_Json):
    """One training of one activation function.

    Attributes:
        id: unique in its study.
        stage: ``search`` (one seed, may be pruned), ``retrain`` (fresh seeds, full budget), ``relax`` (not one
            function, but the ``relaxation`` of many) or ``confirm`` (fresh seeds, the whole training set, scored on the
            test set).
        expression: the activation in the expression language.
        seed: of initialisation, data order and augmentation.
        model, data: registered components.
        recipe: how to train.
        budget_epochs: length of the training, in epochs.
        anneal_epochs: epochs at whose end the learning-rate schedule has come to its end and starts again; it always
            ends with the training.
        max_steps: end the training after so many steps, whatever the epochs; None for no limit.
        max_seconds: a training that takes longer is a FAIL.
        report_epochs: after which epochs the driver may want to stop the trial; only these are reported to it.
        param_shape: ``scalar`` (a learnable parameter a site) or ``channel`` (a channel).
        precision: ``fp32``, or ``bf16`` for matrix products and activations (weights and norms stay float32).
        screen: end the trial as a FAIL where signal or gradient vanish or explode at initialisation.
        device: ``cpu``, ``cuda`` or ``auto``.
        relaxation: train this in place of ``expression``.
        measure_cost: measure the function's forward and backward pass, too.
        score_on: ``val``, the part of the training set that is held out, or ``test``: train on all of the training
            set, and look at the test set once, at the end.
        setting: of a confirmation elsewhere than in the study's own model and data: the configuration they are from.
    """

    id: int
    stage: str
    expression: str
    seed: int
    model: Component
    data: Component
    recipe: Recipe
    budget_epochs: int
    anneal_epochs: tuple[int, ...] = ()
    max_steps: int | None = None
    max_seconds: float | None = None
    report_epochs: tuple[int, ...] = ()
    param_shape: str = "channel"
    precision: str = "fp32"
    screen: bool = False
    device: str = "auto"
    relaxation: Relaxation | None = None
    measure_cost: bool = False
    score_on: Literal["val", "test"] = "val"
    setting: str | None = None


@dataclass(frozen=True)
class TrialResult(_Json):
    """The outcome of a trial.

    Attributes:
        state: what became of it.
        metrics: the last report: ``val_accuracy`` (0 to 1, of images or of next bytes), ``val_loss`` and ``train_loss``
            (nats), ``val_bpb`` (bits per byte, of text), ``train_loss_sum`` (sum over epochs of the mean training
            loss), ``epoch``; of a test set ``test_accuracy`` and so on, in the last report only.
        history: all reports in order.
        reason: why, for a FAIL.
        seconds: wall-clock time of the training.
        parameters: number of trained values in the model, the activation's included.
        environment: versions, code, device, precision and way of computing the activation that it ran with.
        cost: time of the function's forward and backward pass as a multiple of ReLU's, where it was to be measured.
        weights: of a relaxation: for every slot, in the order of the choice vector, those of its templates.
    """

    state: TrialState
    metrics: dict[str, int | float] = field(default_factory=dict)
    history: list[dict[str, int | float]] = field(default_factory=list)
    reason: str | None = None
    seconds: float = 0.0
    parameters: int | None = None
    environment: dict[str, str] = field(default_factory=dict)
    cost: float | None = None
    weights: list[list[float]] | None = None
