"""The training loop that one would write without this project: float32, a DataLoader, torchvision's transforms, eager.

It is what the other benchmarks compare with. Standard practice, nothing slowed down on purpose: SGD as torch makes it
by default, no synchronisation with the device but one a step for the loss, worker processes only if there are cores
for them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from trainers.data import Images
from trainers.trial import Recipe

Sample = tuple[Tensor, int]


class _Pictures(Dataset[Sample]):
    """Images as a data set with crops and flips, one at a time."""

    def __init__(self, data: Images) -> None:
        size = data.input_shape[1:]
        self.x = data.train_x.permute(0, 2, 3, 1).numpy()
        self.y = data.train_y.tolist()
        steps = [transforms.ToPILImage()]
        if data.crop_padding:
            steps.append(transforms.RandomCrop(size, padding=data.crop_padding))
        if data.flip:
            steps.append(transforms.RandomHorizontalFlip())
        self.transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(data.mean, data.std)])

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> Sample:
        return self.transform(self.x[i]), self.y[i]


class PlainLoop:
    """Trains a model step by step; :meth:`step` gives the loss."""

    def __init__(
        self, model: nn.Module, data: Images, recipe: Recipe, device: torch.device, total: int, loader_workers: int = 0
    ) -> None:
        self.model, self.device = model.to(device).train(), device
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=True,
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, recipe.learning_rate, total_steps=total)
        self._loader = DataLoader(
            _Pictures(data),
            recipe.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=loader_workers,
            persistent_workers=loader_workers > 0,
            pin_memory=device.type == "cuda",
        )
        self._batches = self._forever()

    def step(self) -> float:
        x, y = next(self._batches)
        x, y = x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)
        loss = F.cross_entropy(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    def _forever(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self._loader
