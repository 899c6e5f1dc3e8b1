"""The training loop: data resident on the device, batched augmentation, a non-finite guard, budgets in epochs, steps
and seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.data import Images
from trainers.trial import Recipe

Metrics = dict[str, float]
Report = Callable[[Metrics], None]

_CHECK_EVERY = 16  # steps between looks at the loss: each look waits for the device


class Diverged(Exception):
    """The loss became NaN or infinite."""


class OutOfTime(Exception):
    """The training took longer than it was given."""


def fit(
    model: nn.Module,
    data: Images,
    recipe: Recipe,
    *,
    budget_epochs: int,
    seed: int,
    device: torch.device,
    report: Report,
    max_steps: int | None = None,
    max_seconds: float | None = None,
) -> None:
    """Train ``model`` (already on ``device``) in place and report metrics after every epoch.

    The schedule spans the whole budget: the smaller of ``budget_epochs`` and ``max_steps``.

    Raises:
        Diverged: the training or validation loss is not finite.
        OutOfTime: ``max_seconds`` are over.
    """
    deadline = time.monotonic() + (max_seconds if max_seconds is not None else float("inf"))
    generator = torch.Generator().manual_seed(seed)
    batches = Batches(data, recipe.batch_size, device, generator)
    total = min(budget_epochs * len(batches), max_steps or budget_epochs * len(batches))
    optimizer = make_optimizer(model, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: triangle(step, total, recipe.warmup))
    step, loss_sum = 0, 0.0
    for epoch in range(1, budget_epochs + 1):
        model.train()
        losses: list[Tensor] = []
        for x, y in batches:
            loss = F.cross_entropy(model(x), y, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
            step += 1
            if step % _CHECK_EVERY == 0 or step == total:
                check(losses[-1], deadline, epoch)
            if step == total:
                break
        train_loss = check(torch.stack(losses).mean(), deadline, epoch)
        loss_sum += train_loss
        val_loss, val_accuracy = validate(model, batches)
        check(torch.tensor(val_loss), deadline, epoch)
        report(
            {
                "epoch": epoch,
                "val_accuracy": val_accuracy,
                "val_loss": val_loss,
                "train_loss": train_loss,
                "train_loss_sum": loss_sum,
            }
        )
        if step == total:
            break


def check(loss: Tensor, deadline: float, epoch: int) -> float:
    """The loss as a number, unless it is not finite or time is up."""
    value = loss.item()
    if not torch.isfinite(loss):
        raise Diverged(f"loss {value} in epoch {epoch}")
    if time.monotonic() > deadline:
        raise OutOfTime(f"out of time in epoch {epoch}")
    return value


def triangle(step: int, total: int, warmup: float) -> float:
    """Fraction of the peak learning rate: up linearly for ``warmup`` of all steps, then down linearly to zero."""
    peak = max(1.0, warmup * total)
    return min((step + 1) / peak, (total - step) / max(1.0, total - peak)) if step < total else 0.0


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; weight decay only on weights of two or more dimensions."""
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(
        [g for g in groups if g["params"]], lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=True
    )


@torch.no_grad()
def validate(model: nn.Module, batches: Batches) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy (0 to 1) on the validation part."""
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device=batches.device)
    hits = torch.zeros((), dtype=torch.int64, device=batches.device)
    for x, y in batches.validation():
        logits = model(x).float()
        loss += F.cross_entropy(logits, y, reduction="sum")
        hits += (logits.argmax(1) == y).sum()
    n = len(batches.val_y)
    return loss.item() / n, hits.item() / n


class Batches:
    """Shuffled, augmented and normalised batches from a data set that is resident on the device."""

    def __init__(self, data: Images, batch_size: int, device: torch.device, generator: torch.Generator) -> None:
        self.device = device
        self.batch_size = min(batch_size, len(data.train_y))
        self.generator = generator
        self.crop_padding, self.flip = data.crop_padding, data.flip
        shape = (1, -1, 1, 1)
        self.scale = (1 / (255 * torch.tensor(data.std))).view(shape).to(device)
        self.shift = (-torch.tensor(data.mean) / torch.tensor(data.std)).view(shape).to(device)
        self.x, self.y = data.train_x.to(device), data.train_y.to(device)
        self.val_x, self.val_y = data.val_x.to(device), data.val_y.to(device)

    def __len__(self) -> int:
        return len(self.y) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch; the last incomplete batch is dropped. x float32 (B, C, H, W), y int64 (B,)."""
        order = torch.randperm(len(self.y), generator=self.generator).to(self.device)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            index = order[start : start + self.batch_size]
            yield self.normalize(self.augment(self.x[index])), self.y[index]

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in zip(self.val_x.split(1024), self.val_y.split(1024), strict=True):
            yield self.normalize(x), y

    def normalize(self, x: Tensor) -> Tensor:
        return (x * self.scale + self.shift).contiguous(memory_format=torch.channels_last)

    def augment(self, x: Tensor) -> Tensor:
        """Every image its own crop after zero padding, half of them mirrored; one gather for the whole batch."""
        b, _, h, w = x.shape
        rows, cols = torch.arange(h).expand(b, h), torch.arange(w).expand(b, w)
        if self.crop_padding:
            x = F.pad(x, (self.crop_padding,) * 4)
            shifts = torch.randint(0, 2 * self.crop_padding + 1, (2, b, 1), generator=self.generator)
            rows, cols = rows + shifts[0], cols + shifts[1]
        if self.flip:
            mirrored = torch.rand(b, 1, generator=self.generator) < 0.5
            cols = torch.where(mirrored, cols.flip(1), cols)
        if not self.crop_padding and not self.flip:
            return x
        rows, cols = rows.to(self.device), cols.to(self.device)
        image = torch.arange(b, device=self.device)[:, None, None]
        # (B, C, H, W) indexed with (B, H, W) index tensors around the channel axis gives (B, H, W, C)
        return x[image, :, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)
