"""Training and testing one model of text on a task: what a comparison of models is made of."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.modules import (
    LearnedPositions,
    LinearScaling,
    NTKScaling,
    RopeScaling,
    RotaryEmbedding,
    YaRNScaling,
    parameter_groups,
)
from search_spaces.parser import parse
from trainers.activation import make_act
from trainers.loop import factor
from trainers.models import ModelError, models
from trainers.run import pick_device
from trainers.tasks import Task, tasks
from trainers.trial import Component, Recipe

SCALINGS = ("linear", "ntk", "yarn")


@dataclass(frozen=True)
class Variant:
    """One model to train.

    Attributes:
        task: what on.
        model: registered model and its options.
        expression: its activation.
        recipe: how; AdamW, whatever it says of optimisers.
        steps: of training.
        seed: of initialisation and data.
        lengths: tokens of the test texts.
        tests: number of test texts of each length.
        scalings: of its rotary positions, with which it is tested again without being trained again.
    """

    task: Component
    model: Component
    expression: str
    recipe: Recipe
    steps: int
    seed: int
    lengths: tuple[int, ...]
    tests: int
    scalings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of it.

    Attributes:
        scores: the task's metric for each scaling ("" for none) and length; None where the model cannot read so far.
        parameters: trained numbers.
        seconds: of training.
        reason: why there are no scores.
    """

    scores: dict[str, dict[int, float | None]] = field(default_factory=dict)
    parameters: int = 0
    seconds: float = 0.0
    reason: str | None = None


def build(variant: Variant, task: Task) -> nn.Module:
    """The variant's model with its seed's weights."""
    torch.manual_seed(variant.seed)
    act = make_act(parse(variant.expression), "channel", "fp32")
    model = models.get(variant.model.name)(act, (task.length,), task.vocabulary, **variant.model.options)
    if variant.scalings and not any(isinstance(module, RotaryEmbedding) for module in model.modules()):
        raise ModelError(
            f"scalings are of rotary positions, which this model has none of, got {list(variant.scalings)}"
        )
    return model


def run_variant(variant: Variant) -> Outcome:
    """Train and test, on a GPU if there is one."""
    device = pick_device("auto")
    task = tasks.get(variant.task.name)(**variant.task.options)
    model = build(variant, task)
    model(torch.zeros(1, 1, dtype=torch.long))  # gives per-channel activation parameters their shape
    model.to(device)
    start = time.monotonic()
    loss = train(model, task, variant)
    seconds = time.monotonic() - start
    parameters = sum(p.numel() for p in model.parameters())
    if not math.isfinite(loss):
        return Outcome(parameters=parameters, seconds=seconds, reason=f"diverged: loss {loss}")
    scores: dict[str, dict[int, float | None]] = {}
    for scaling in ("", *variant.scalings):
        scores[scaling] = {}
        for length in variant.lengths:
            if scaling:
                rescale(model, scaling, task.length, length)
            scores[scaling][length] = evaluate(model, task, length, variant.tests)
    return Outcome(scores, parameters, seconds)


def train(model: nn.Module, task: Task, variant: Variant) -> float:
    """Train in place; the last loss (nats), which is not finite if training diverged."""
    recipe = variant.recipe
    groups = parameter_groups(model, recipe.learning_rate, recipe.weight_decay)
    optimizer = torch.optim.AdamW(groups, betas=(recipe.momentum, recipe.beta2), fused=True)
    rates = [group["lr"] for group in optimizer.param_groups]
    generator = torch.Generator().manual_seed(variant.seed)
    device = next(model.parameters()).device
    loss = torch.tensor(torch.nan)
    for step in range(variant.steps):
        share = factor(recipe, step, variant.steps)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share
        tokens, targets = (x.to(device) for x in task.texts(recipe.batch_size, generator))
        loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        if step % 50 == 0 and not loss.isfinite():
            break
    return loss.item()


@torch.no_grad()
def evaluate(model: nn.Module, task: Task, length: int, count: int) -> float | None:
    """The task's metric on ``count`` texts of a length; None if the model has no positions for it."""
    device = next(model.parameters()).device
    ends = [len(module.weight) for module in model.modules() if isinstance(module, LearnedPositions)]
    if ends and length > min(ends):
        return None
    values = []
    for tokens, targets in task.tests(length, count):
        values.append(measure(model(tokens.to(device)).float().cpu(), targets, task.metric))
    return torch.cat(values).mean().item()


def measure(logits: Tensor, targets: Tensor, metric: str) -> Tensor:
    """The metric of each text, (N,), from logits (N, T, vocabulary) and targets (N, T)."""
    asked = targets >= 0
    if metric == "exact":
        return ((logits.argmax(-1) == targets) | ~asked).all(1).double()
    loss = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none").double()
    return loss.sum(1) / asked.sum(1) / math.log(2)


def rescale(model: nn.Module, scaling: str, trained: int, length: int) -> None:
    """Give a model's rotary positions the scaling for ``length`` tokens, where it was trained on ``trained``."""
    s = max(1.0, length / trained)
    makers: dict[str, RopeScaling] = {
        "linear": LinearScaling(s),
        "ntk": NTKScaling(s),
        "yarn": YaRNScaling(s, trained),
    }
    for module in model.modules():
        rope: Any = getattr(module, "rope", None)
        if isinstance(rope, RotaryEmbedding):
            module.rope = RotaryEmbedding(
                rope.dim, rope.base, layout=rope.layout, rotary_dim=rope.rotary_dim, scaling=makers[scaling]
            ).to(next(model.parameters()).device)
