"""The training loop: schedule, a non-finite guard, validation; budgets in epochs, steps and seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from trainers import progress
from trainers.batches import Batches
from trainers.network import Network
from trainers.trial import Recipe, Trial

Metrics = dict[str, float]
Report = Callable[[Metrics], None]

_CHECK_EVERY = 16  # steps between looks at the loss: each look waits for the device


class Diverged(Exception):
    """The loss became NaN or infinite."""


class OutOfTime(Exception):
    """The training took longer than it was given."""


def fit(network: Network, batches: Batches, trial: Trial, report: Report) -> None:
    """Train a network in place and report metrics after every epoch; of a test set at the end only.

    Raises:
        Diverged: the training or validation loss is not finite.
        OutOfTime: the trial's ``max_seconds`` are over.
    """
    deadline = time.monotonic() + (trial.max_seconds if trial.max_seconds is not None else float("inf"))
    generator = torch.Generator().manual_seed(trial.seed)
    factors = schedule(trial, len(batches))
    step, loss_sum = 0, 0.0
    for epoch in range(1, trial.budget_epochs + 1):
        network.model.train()
        losses: list[Tensor] = []
        for batch in batches.epoch(generator):
            losses.append(network.step(batch, trial.recipe.learning_rate * factors[step]))
            step += 1
            if step % _CHECK_EVERY == 0 or step == len(factors):
                check(losses[-1], deadline, epoch)
            if step == len(factors):
                break
        train_loss = check(torch.stack(losses).mean(), deadline, epoch)
        loss_sum += train_loss
        metrics: Metrics = {}
        if trial.score_on == "val" or step == len(factors):
            metrics = validate(network, batches, trial.score_on)
            check(torch.tensor(metrics[f"{trial.score_on}_loss"]), deadline, epoch)
        report({"epoch": epoch, **metrics, "train_loss": train_loss, "train_loss_sum": loss_sum})
        if step == len(factors):
            break


def check(loss: Tensor, deadline: float, epoch: int) -> float:
    """The loss as a number, unless it is not finite or time is up."""
    value = loss.item()
    if not math.isfinite(value):
        raise Diverged(f"loss {value} in epoch {epoch}")
    if time.monotonic() > deadline:
        raise OutOfTime(f"out of time in epoch {epoch}")
    return value


def total_steps(trial: Trial, steps_per_epoch: int) -> int:
    """The smaller of ``budget_epochs`` and ``max_steps``."""
    steps = trial.budget_epochs * steps_per_epoch
    return min(steps, trial.max_steps or steps)


def schedule(trial: Trial, steps_per_epoch: int) -> list[float]:
    """For every step of a training the fraction of the peak learning rate: one schedule for each stretch to anneal
    in."""
    total = total_steps(trial, steps_per_epoch)
    rungs = (epoch * steps_per_epoch for epoch in sorted(trial.anneal_epochs))
    # No last stretch of less than an epoch, which max_steps may leave: it would begin at a high rate and end at once.
    ends = [*(end for end in rungs if end + steps_per_epoch <= total), total]
    starts = [0, *ends[:-1]]
    return [
        factor(trial.recipe, step, end - start)
        for start, end in zip(starts, ends, strict=True)
        for step in range(end - start)
    ]


def factor(recipe: Recipe, step: int, total: int) -> float:
    """Fraction of the peak learning rate at one of ``total`` steps; see :class:`Recipe`."""
    warm = max(1.0, recipe.warmup * total)
    rise = min(1.0, (step + 1) / warm)
    if recipe.schedule == "step":
        return rise * recipe.gamma ** sum(step >= milestone * total for milestone in recipe.milestones)
    left = min(1.0, (total - step) / max(1.0, total - warm))  # from 1 after the warm-up to one step's share
    if recipe.schedule == "triangle":
        return min(rise, left)
    if recipe.schedule == "cosine":
        return rise * (1 - math.cos(math.pi * left)) / 2
    raise ValueError(f"recipe.schedule is triangle, cosine or step, got {recipe.schedule!r}")


@torch.no_grad()
def validate(network: Network, batches: Batches, name: str = "val") -> Metrics:
    """Mean cross-entropy (nats), accuracy (0 to 1) and, for text, bits per byte, on the part held out.

    ``name`` says which that is, val or test.
    """
    network.model.eval()
    loss = torch.zeros((), dtype=torch.float64, device=batches.device)
    hits = torch.zeros((), dtype=torch.int64, device=batches.device)
    n = 0
    is_text = False
    for x, y in batches.validation():
        progress.step()
        mean, logits = network.loss(x, y)
        loss += mean.double() * y.numel()
        hits += (logits.argmax(-1) == y.flatten()).sum()
        n += y.numel()
        is_text = y.dim() == 2
    mean_loss = loss.item() / n
    metrics = {f"{name}_accuracy": hits.item() / n, f"{name}_loss": mean_loss}
    return metrics | ({f"{name}_bpb": mean_loss / math.log(2)} if is_text else {})
