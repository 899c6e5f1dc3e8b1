"""Training a relaxed cell: which operators a network wants, found in one training (see trainers.relaxed)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from trainers.batches import Batch, make_batches
from trainers.data import DataSet, Images
from trainers.loop import Metrics, check, factor, validate
from trainers.network import Network
from trainers.relaxed import Architecture, RelaxedActivation, RelaxError
from trainers.trial import Trial


def relax(trial: Trial, data: DataSet, device: torch.device, report: Callable[[Metrics], None]) -> list[list[float]]:
    """Train a trial's relaxation.

    Args:
        trial: with a ``relaxation``; its budget is one epoch with ReLU and at least one of search.
        data: its training part is split in two halves, one for the network, one for the cell.
        device: where.
        report: told the metrics of every epoch, of the cell with its expected weights.

    Returns:
        For every slot, in the order of the choice vector, the mean over the search's epochs of the operators' expected
        weights; they add up to 1, and those of operators that were dropped late are larger.

    Raises:
        RelaxError: a budget of fewer than two epochs, or in steps, or a slot without usable operators.
        Diverged: the loss is not finite.
        OutOfTime: the trial's ``max_seconds`` are over.
    """
    if trial.relaxation is None or trial.budget_epochs < 2:
        raise RelaxError(
            f"a relaxation is trained for at least 2 epochs, the first with ReLU; got {trial.budget_epochs}"
        )
    if trial.max_steps is not None:
        raise RelaxError(f"a relaxation's budget is in epochs, after which operators go; got {trial.max_steps} steps")
    deadline = time.monotonic() + (trial.max_seconds if trial.max_seconds is not None else float("inf"))
    torch.manual_seed(trial.seed)  # draws of the weights
    architecture = Architecture(trial.relaxation, device)
    for_network, for_cell = (make_batches(half, trial.recipe.batch_size, device) for half in halves(data, trial.seed))
    steps = trial.budget_epochs * len(for_network)
    network = Network(trial, data, device, steps, act=lambda: RelaxedActivation(architecture), graph=False)
    optimizer = torch.optim.Adam(architecture.logits, lr=trial.relaxation.learning_rate, betas=(0.5, 0.999))
    generator, step, loss_sum = torch.Generator().manual_seed(trial.seed), 0, 0.0
    means = [torch.zeros_like(w) for w in architecture.weights]
    for epoch in range(1, trial.budget_epochs + 1):
        architecture.searching = epoch > 1
        network.model.train()
        losses = []
        for batch, other in zip(for_network.epoch(generator), for_cell.epoch(generator), strict=False):
            if architecture.searching:
                _cell_step(network, architecture, optimizer, other)
                architecture.draw()
                architecture.weights = [w.detach() for w in architecture.weights]
            losses.append(network.step(batch, trial.recipe.learning_rate * factor(trial.recipe, step, steps)))
            step += 1
        train_loss = check(torch.stack(losses).mean(), deadline, epoch)
        loss_sum += train_loss
        architecture.weights = architecture.means()
        if architecture.searching:
            means = [
                total + w / (trial.budget_epochs - 1) for total, w in zip(means, architecture.weights, strict=True)
            ]
        metrics = validate(network, for_network)
        check(torch.tensor(metrics["val_loss"]), deadline, epoch)
        report({"epoch": epoch, **metrics, "train_loss": train_loss, "train_loss_sum": loss_sum})
        if architecture.searching:
            architecture.drop((trial.budget_epochs - epoch) / (trial.budget_epochs - 1))
    return [w.tolist() for w in means]


def _cell_step(network: Network, architecture: Architecture, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    """One step of the slots' parameters on a batch that the network is not trained on."""
    architecture.draw()
    loss, _ = network.loss(*batch)
    gradients = torch.autograd.grad(loss + architecture.anchor(), architecture.logits, allow_unused=True)
    for logits, gradient in zip(architecture.logits, gradients, strict=True):
        logits.grad = None if gradient is None else torch.nan_to_num(gradient)
    optimizer.step()


def halves(data: DataSet, seed: int) -> tuple[DataSet, DataSet]:
    """Two data sets that share the training part evenly: random images, or the first and the second half of a text."""
    if isinstance(data, Images):
        order = torch.randperm(len(data.train_y), generator=torch.Generator().manual_seed(seed))
        parts = order.chunk(2)
        first, second = (replace(data, train_x=data.train_x[part], train_y=data.train_y[part]) for part in parts)
        return first, second
    middle = len(data.train) // 2
    return replace(data, train=data.train[:middle]), replace(data, train=data.train[middle:])
