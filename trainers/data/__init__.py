"""Data sets, one decorated file each. A data set is held whole in memory as tensors: :class:`Images` or
:class:`Text`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from search_spaces.registry import Registry


class DataError(ValueError):
    """A data set that is not where it should be, or not what it should be. The message says how to mend it."""


@dataclass(frozen=True)
class Images:
    """An image classification data set.

    Attributes:
        train_x, train_y: images uint8 (N, C, H, W) and labels int64 (N,).
        val_x, val_y: held out from the *training* set.
        num_classes: labels are 0 .. num_classes - 1.
        mean, std: per channel, of pixel values scaled to [0, 1], on the training part.
        crop_padding: random crops after padding by so many pixels (0: none).
        flip: whether a random half of the training images is mirrored.
        test: reads images and labels of the test set, of which nothing is known before a confirmation; None if there
            is none.
    """

    train_x: Tensor
    train_y: Tensor
    val_x: Tensor
    val_y: Tensor
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int = 0
    flip: bool = False
    test: Callable[[], tuple[Tensor, Tensor]] | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W)"""
        return tuple(self.train_x.shape[1:])

    @property
    def num_outputs(self) -> int:
        return self.num_classes


@dataclass(frozen=True)
class Text:
    """Text as bytes, for models that predict the next one.

    Attributes:
        train, val: uint8 (N,) and (M,); the validation part follows the training part.
        context: so many bytes are a model's input.
        test: uint8 (K,), the end of the text, for a confirmation; None if there is none.
    """

    train: Tensor
    val: Tensor
    context: int
    test: Tensor | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(context,)"""
        return (self.context,)

    @property
    def num_outputs(self) -> int:
        """The 256 values of a byte."""
        return 256


DataSet = Images | Text
Fraction = Annotated[float, Field(gt=0, lt=1)]
PartOrNone = Annotated[float, Field(ge=0, lt=1)]

datasets: Registry[Callable[..., DataSet]] = Registry("data set", "trainers.data")


def hold_out(
    x: Tensor,
    y: Tensor,
    val_fraction: float,
    *,
    num_classes: int | None = None,
    crop_padding: int = 0,
    flip: bool = False,
    test: Callable[[], tuple[Tensor, Tensor]] | None = None,
) -> Images:
    """Split a training set into a training and a validation part, the same at every call and for every seed.

    The split is stratified: every class gives the same fraction of its images.

    Args:
        x, y: uint8 (N, C, H, W) and int64 (N,).
        val_fraction: between 0 and 1.
        num_classes: the largest label plus one, if not given.
        crop_padding, flip, test: as of :class:`Images`.

    Raises:
        DataError: a label is out of range, or a part would be empty.
    """
    if not 0 < val_fraction < 1:
        raise DataError(f"val_fraction lies between 0 and 1, got {val_fraction}")
    num_classes = int(y.max()) + 1 if num_classes is None else num_classes
    if y.min() < 0 or y.max() >= num_classes:
        raise DataError(
            f"labels are 0 to {num_classes - 1}, got {int(y.min())} to {int(y.max())}; fetch the data again, or name "
            "the data set that it is"
        )
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(y), generator=generator)
    val = torch.zeros(len(y), dtype=torch.bool)
    for label in y.unique():
        members = order[y[order] == label]
        val[members[: round(len(members) * val_fraction)]] = True
    if val.all() or not val.any():
        part = "training" if val.all() else "validation"
        raise DataError(
            f"val_fraction {val_fraction} of {len(y)} images leaves no {part} image; choose another fraction"
        )
    mean, std = _normalisation(x[~val])
    return Images(
        train_x=x[~val],
        train_y=y[~val],
        val_x=x[val],
        val_y=y[val],
        num_classes=num_classes,
        mean=mean,
        std=std,
        crop_padding=crop_padding,
        flip=flip,
        test=test,
    )


def for_confirmation(data: DataSet) -> DataSet:
    """The same data with the whole training set to train on, and the test set held out in place of a part of it.

    Raises:
        DataError: there is no test set, or it is not like the training set.
    """
    if data.test is None:
        raise DataError(
            "a confirmation is scored on a test set, and this data set has none; image_folder reads one from "
            "data.test_root, texts keep data.test_fraction of their end for it"
        )
    if isinstance(data, Text):
        return replace(data, train=torch.cat([data.train, data.val]), val=data.test, test=None)
    x, y = data.test()
    if x.shape[1:] != data.train_x.shape[1:] or y.min() < 0 or y.max() >= data.num_classes:
        raise DataError(
            f"the test set has images {tuple(x.shape[1:])} with labels {int(y.min())} to {int(y.max())}, the training "
            f"set {tuple(data.train_x.shape[1:])} and {data.num_classes} classes; fetch the data again"
        )
    train_x, train_y = torch.cat([data.train_x, data.val_x]), torch.cat([data.train_y, data.val_y])
    mean, std = _normalisation(train_x)
    return replace(data, train_x=train_x, train_y=train_y, val_x=x, val_y=y, mean=mean, std=std, test=None)


def not_there(root: Path, lacks: str, remedy: str) -> DataError:
    """What to raise where ``data.root`` has not the files: ``lacks`` says of one that exists what it has not."""
    fault = lacks
    try:
        root.stat()
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        fault = f"cannot be read ({getattr(error, 'strerror', error)})"
    return DataError(f"{str(root)[:200]!r} {fault}; set data.root to a folder that has {remedy}")


def _normalisation(x: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel."""
    mean, std = zip(*(_moments(x[:, c]) for c in range(x.shape[1])), strict=True)
    return mean, std


def _moments(channel: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of pixels scaled to [0, 1].

    From whole numbers, so that they are the same to the last bit whatever the number of threads.
    """
    counts = torch.bincount(channel.flatten(), minlength=256).tolist()
    n, total = sum(counts), sum(value * count for value, count in enumerate(counts))
    squares = sum(value * value * count for value, count in enumerate(counts))
    variance = (squares - total * total / n) / max(1, n - 1)
    return total / n / 255, max(math.sqrt(max(variance, 0.0)) / 255, 1e-3)


def split_text(text: bytes, val_fraction: float, context: int, source: str, test_fraction: float = 0) -> Text:
    """The last ``test_fraction`` of a text is its test part, ``val_fraction`` before that its validation part.

    Raises:
        DataError: the text is empty, or a part is too short for one input of ``context`` bytes and the byte after it.
    """
    if not text:
        raise DataError(f"{source} is empty; give a text of some 100,000 bytes or more")
    n_test, n_val = round(len(text) * test_fraction), round(len(text) * val_fraction)
    n_train = len(text) - n_val - n_test
    if min(n_train, n_val, n_test or n_val) < context + 1:
        raise DataError(
            f"{source} has {len(text):,} bytes, {n_val:,} of them for validation and {n_test:,} for the test; each "
            f"part needs at least data.context + 1 = {context + 1:,}; take a longer text or a shorter data.context"
        )
    tokens = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    train, val, test = (part.clone() for part in tokens.split([n_train, n_val, n_test]))
    return Text(train, val, context, test if test_fraction else None)
