"""Batches from data that lies on the device as uint8: gathered, augmented and normalised there, a whole batch at a
time.

Random numbers come from a CPU generator, an epoch's at once, so that a seed means the same on every device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.data import DataSet, Images, Text

Batch = tuple[Tensor, Tensor]
_VALIDATION_IMAGES = 512
_VALIDATION_BYTES = 32_768


class Batches(Protocol):
    """What a training reads."""

    device: torch.device

    def __len__(self) -> int:
        """Batches an epoch."""

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """One epoch in random order, all batches of the same size."""

    def validation(self) -> Iterator[Batch]:
        """The validation part, in order."""


def make_batches(data: DataSet, batch_size: int, device: torch.device) -> Batches:
    """Batches of a data set of either kind."""
    if isinstance(data, Text):
        return TextBatches(data, batch_size, device)
    return ImageBatches(data, batch_size, device)


class ImageBatches:
    """x float32 (B, C, H, W) in channels_last, y int64 (B,). The last incomplete batch of an epoch is dropped."""

    def __init__(self, data: Images, batch_size: int, device: torch.device) -> None:
        self.device = device
        self.batch_size = min(batch_size, len(data.train_y))
        self.crop_padding, self.flip = data.crop_padding, data.flip
        self.size = data.input_shape[1:]
        std = torch.tensor(data.std)
        self.scale = (1 / (255 * std)).to(device)
        self.shift = (-torch.tensor(data.mean) / std).to(device)
        # Padded once, and with the channels last, where a crop's row is one piece of memory.
        padding = (data.crop_padding,) * 4
        self.x = F.pad(data.train_x, padding).permute(0, 2, 3, 1).contiguous().to(device)
        self.val_x = data.val_x.permute(0, 2, 3, 1).contiguous().to(device)
        self.y, self.val_y = data.train_y.to(device), data.val_y.to(device)

    def __len__(self) -> int:
        return len(self.y) // self.batch_size

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        n = len(self) * self.batch_size
        index = torch.randperm(len(self.y), generator=generator)[:n].to(self.device)
        pixels = self._pixels(n, generator)
        for start in range(0, n, self.batch_size):
            batch = slice(start, start + self.batch_size)
            x = self.x[index[batch]]
            if pixels is not None:
                x = crop(x, pixels[batch], self.size)
            yield self._normalized(x), self.y[index[batch]]

    def validation(self) -> Iterator[Batch]:
        for x, y in zip(self.val_x.split(_VALIDATION_IMAGES), self.val_y.split(_VALIDATION_IMAGES), strict=True):
            yield self._normalized(x), y

    def _pixels(self, n: int, generator: torch.Generator) -> Tensor | None:
        """For each of n images: row and column of its crop, and whether it is mirrored. int64 (n, 3)."""
        if not self.crop_padding and not self.flip:
            return None
        corners = torch.randint(0, 2 * self.crop_padding + 1, (n, 2), generator=generator)
        mirrored = torch.randint(0, 1 + self.flip, (n, 1), generator=generator)
        return torch.cat([corners, mirrored], 1).to(self.device)

    def _normalized(self, x: Tensor) -> Tensor:
        """uint8 (B, H, W, C) to float32 (B, C, H, W), which lies in memory as it did."""
        return (x * self.scale + self.shift).permute(0, 3, 1, 2)


def crop(x: Tensor, where: Tensor, size: tuple[int, ...]) -> Tensor:
    """A crop of each image, some of them mirrored, as one gather.

    Args:
        x: (B, H, W, C).
        where: int64 (B, 3): first row, first column, and 1 for an image that is to be mirrored.
        size: height h and width w of the crops.

    Returns:
        (B, h, w, C)
    """
    b, height, width, channels = x.shape
    h, w = size
    row, column, mirrored = where[:, :, None].unbind(1)
    across = torch.arange(w, device=x.device)
    columns = column + torch.where(mirrored.bool(), across.flip(0), across)
    rows = row + torch.arange(h, device=x.device)
    image = torch.arange(b, device=x.device)[:, None, None] * (height * width)
    index = image + rows[:, :, None] * width + columns[:, None, :]
    return x.view(-1, channels).index_select(0, index.flatten()).view(b, h, w, channels)


class TextBatches:
    """x int64 (B, T), and y the bytes that follow each of them, int64 (B, T).

    An epoch cuts the text into pieces of T bytes from a random offset on, and takes each once.
    """

    def __init__(self, data: Text, batch_size: int, device: torch.device) -> None:
        self.device = device
        self.context = data.context
        self.train, self.val = data.train.to(device), data.val.to(device)
        pieces = (len(data.train) - 1) // data.context
        self.batch_size = min(batch_size, pieces)
        self._batches = max(1, (pieces - 1) // self.batch_size)  # one piece may be lost to the offset

    def __len__(self) -> int:
        return self._batches

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        n = len(self) * self.batch_size
        slack = len(self.train) - 1 - n * self.context
        offset = int(torch.randint(0, min(slack, self.context - 1) + 1, (), generator=generator))
        pieces = (slack - offset) // self.context + n
        starts = torch.randperm(pieces, generator=generator)[:n].to(self.device) * self.context + offset
        for batch in starts.split(self.batch_size):
            yield self._cut(self.train, batch)

    def validation(self) -> Iterator[Batch]:
        pieces = (len(self.val) - 1) // self.context
        starts = torch.arange(pieces, device=self.device) * self.context
        for batch in starts.split(max(1, _VALIDATION_BYTES // self.context)):
            yield self._cut(self.val, batch)

    def _cut(self, text: Tensor, starts: Tensor) -> Batch:
        window = text[starts[:, None] + torch.arange(self.context + 1, device=self.device)].long()
        return window[:, :-1].contiguous(), window[:, 1:].contiguous()
