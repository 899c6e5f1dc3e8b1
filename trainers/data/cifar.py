"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 50,000 training images of 32x32 pixels.

``root`` is looked at, not configured: a folder with ``train*.parquet`` is read in the Hugging Face layout (a column of
``{bytes, path}`` images and a column of labels); anything else is left to torchvision, which reads its own download
there or, with ``download=true``, makes it.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from pydantic import PositiveInt
from torch import Tensor

from trainers.data import DataError, Fraction, Images, datasets, hold_out

_SIZE = 50_000


@datasets.register("cifar10")
def cifar10(
    *, root: str = "data", download: bool = False, val_fraction: Fraction = 0.1, train_size: PositiveInt | None = None
) -> Images:
    """CIFAR-10, 10 classes. Crops with 4 pixels of padding and mirroring, as in He et al. 2015.

    Options: ``root`` (folder), ``download`` (fetch it with torchvision if it is not there), ``val_fraction`` of the
    training set held out, ``train_size`` to use only the first so many training images (for quick looks).
    """
    return _cifar("CIFAR10", 10, ("label",), root, download, val_fraction, train_size)


@datasets.register("cifar100")
def cifar100(
    *, root: str = "data", download: bool = False, val_fraction: Fraction = 0.1, train_size: PositiveInt | None = None
) -> Images:
    """CIFAR-100, 100 fine classes. Options and augmentation as for cifar10."""
    return _cifar("CIFAR100", 100, ("fine_label", "label"), root, download, val_fraction, train_size)


def _cifar(
    name: str,
    classes: int,
    label_columns: tuple[str, ...],
    root: str,
    download: bool,
    val_fraction: float,
    train_size: int | None,
) -> Images:
    if train_size is not None and train_size > _SIZE:
        raise DataError(f"train_size is at most {_SIZE}, got {train_size}")
    try:
        folder = Path(root).expanduser()
        shards = sorted(folder.glob("train*.parquet")) or sorted(folder.glob("*/train*.parquet"))
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"data.root={root[:80]!r} is no folder that can be read ({error})") from error
    if shards:
        x, y = _from_parquet(name, shards, label_columns, train_size or _SIZE)
        if x.shape[1:] != (3, 32, 32) or y.min() < 0 or y.max() >= classes:
            raise DataError(
                f"{name} has images of 32x32 pixels and labels 0 to {classes - 1}; {folder} has images of "
                f"{x.shape[3]}x{x.shape[2]} and labels {int(y.min())} to {int(y.max())}; point data.root to {name}"
            )
    else:
        x, y = _from_torchvision(name, folder, download, train_size or _SIZE)
    return hold_out(x, y, val_fraction, crop_padding=4, flip=True)


def _from_parquet(name: str, shards: list[Path], label_columns: tuple[str, ...], first: int) -> tuple[Tensor, Tensor]:
    """The first so many images, uint8 (N, 3, 32, 32), and their labels."""
    cells: list[dict[str, bytes]] = []
    labels: list[int] = []
    for shard in shards:
        images, targets = _read_shard(shard, label_columns)
        cells += images
        labels += targets
    if len(cells) != _SIZE:
        raise DataError(
            f"the {name} training set has {_SIZE} images, {shards[0].parent} has {len(cells)}; complete the folder, "
            "or remove it and fetch the data again"
        )
    try:
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(c["bytes"])).convert("RGB")) for c in cells[:first]])
    except (OSError, KeyError, TypeError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{shards[0].parent} holds an image that cannot be read ({error}); fetch it again") from error
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels[:first])


def _read_shard(shard: Path, label_columns: tuple[str, ...]) -> tuple[list[dict[str, bytes]], list[int]]:
    """Encoded images and labels of one file."""
    try:
        table = pq.read_table(shard)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{shard} cannot be read as parquet ({error}); fetch the file again") from error
    image_column = next((c for c in ("img", "image") if c in table.column_names), None)
    label_column = next((c for c in label_columns if c in table.column_names), None)
    if image_column is None or label_column is None:
        raise DataError(
            f"{shard} must have an image column (img or image) and a label column ({' or '.join(label_columns)}), "
            f"it has: {', '.join(table.column_names)}"
        )
    labels = table[label_column]
    if not pa.types.is_integer(labels.type) or labels.null_count:
        raise DataError(
            f"{shard}: labels are whole numbers, none missing; {label_column} is {labels.type}; fetch it again"
        )
    return table[image_column].to_pylist(), labels.to_pylist()


def _from_torchvision(name: str, folder: Path, download: bool, first: int) -> tuple[Tensor, Tensor]:
    from torchvision import datasets as vision  # takes a second to import, and only this branch needs it

    try:
        data = getattr(vision, name)(folder, train=True, download=download)
    except (RuntimeError, OSError, ValueError) as error:
        if download:
            raise DataError(f"{name} could not be fetched to {folder}: {error}") from error
        raise DataError(
            f"{str(folder)[:200]!r} has neither train*.parquet files nor a complete torchvision download of {name}; "
            "set data.root to a folder that has, or data.download=true to fetch it there"
        ) from error
    return torch.from_numpy(data.data[:first]).permute(0, 3, 1, 2).contiguous(), torch.tensor(data.targets[:first])
