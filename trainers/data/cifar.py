"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 50,000 training and 10,000 test images of 32x32 pixels.

``root`` is looked at, not configured: a folder with ``train*.parquet`` (and ``test*.parquet``) is read in the Hugging
Face layout (a column of ``{bytes, path}`` images and a column of labels); anything else is left to torchvision, which
reads its own download there or, with ``download=true``, makes it. That download is pickled; torchvision unpickles
nothing before the checksum of every file fits.
"""

from __future__ import annotations

import io
from functools import partial
from http.client import HTTPException
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import PositiveInt
from torch import Tensor

from trainers.data import DataError, Fraction, Images, datasets, hold_out, not_there

_SIZES = {"train": 50_000, "test": 10_000}


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
    most = _SIZES["train"]
    if train_size is not None and train_size > most:
        raise DataError(f"train_size is at most {most}, got {train_size}")

    def read(part: str, first: int) -> tuple[Tensor, Tensor]:
        try:
            folder = Path(root).expanduser()
            is_parquet = bool(_shards(folder, "train"))
            shards = _shards(folder, part)
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(f"data.root={root[:80]!r} is no folder that can be read ({error})") from error
        if not is_parquet:
            return _from_torchvision(name, folder, download, part, first)
        if not shards:
            raise DataError(f"{folder} has the training set of {name}, but no {part}*.parquet; put that file there")
        return _from_parquet(name, classes, shards, label_columns, part, first)

    x, y = read("train", train_size or most)
    test = partial(read, "test", _SIZES["test"])
    return hold_out(x, y, val_fraction, num_classes=classes, crop_padding=4, flip=True, test=test)


def _shards(folder: Path, part: str) -> list[Path]:
    return sorted(folder.glob(f"{part}*.parquet")) or sorted(folder.glob(f"*/{part}*.parquet"))


def _from_parquet(
    name: str, classes: int, shards: list[Path], label_columns: tuple[str, ...], part: str, first: int
) -> tuple[Tensor, Tensor]:
    """The first so many images, uint8 (N, 3, 32, 32), and their labels."""
    folder = shards[0].parent
    parts = [_read_shard(shard, label_columns) for shard in shards]
    cells = [cell for images, _ in parts for cell in images]
    labels = np.concatenate([targets for _, targets in parts])
    if len(cells) != _SIZES[part]:
        raise DataError(
            f"the {name} {part} set has {_SIZES[part]} images, {folder} has {len(cells)}; complete the folder, "
            "or remove it and fetch the data again"
        )
    if (labels.min(), labels.max()) != (0, classes - 1):  # CIFAR-10 and CIFAR-100 look the same but for this
        raise DataError(
            f"{name} has labels 0 to {classes - 1}, {folder} has labels {labels.min()} to {labels.max()}; "
            f"point data.root to {name}"
        )
    return torch.from_numpy(_decode(name, cells[:first], folder)), torch.from_numpy(labels[:first])


def _read_shard(shard: Path, label_columns: tuple[str, ...]) -> tuple[list[bytes | None], NDArray[np.int64]]:
    """Encoded images and labels of one file."""
    try:
        with pq.ParquetFile(shard) as file:
            names = file.schema_arrow.names
            image_column = next((c for c in ("img", "image") if c in names), None)
            label_column = next((c for c in label_columns if c in names), None)
            table = file.read([c for c in (image_column, label_column) if c])
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DataError(f"{shard} cannot be read as parquet ({error}); fetch the file again") from error
    if image_column is None or label_column is None:
        raise DataError(
            f"{shard} must have an image column (img or image) and a label column ({' or '.join(label_columns)}), "
            f"it has: {', '.join(names)}"
        )
    images, labels = table[image_column], table[label_column]
    if not pa.types.is_integer(labels.type) or labels.null_count:
        raise DataError(
            f"{shard}: labels are whole numbers, none missing; {label_column} is {labels.type}; fetch it again"
        )
    if not pa.types.is_struct(images.type) or not any(f.name == "bytes" and f.type == pa.binary() for f in images.type):
        raise DataError(f"{shard}: images are {{bytes, path}}; {image_column} is {images.type}; fetch it again")
    return pc.struct_field(images, "bytes").to_pylist(), labels.to_numpy().astype(np.int64)


def _decode(name: str, cells: list[bytes | None], folder: Path) -> NDArray[np.uint8]:
    """PNG or JPEG images as pixels (N, 3, 32, 32)."""
    pixels = np.empty((len(cells), 3, 32, 32), np.uint8)
    for i, cell in enumerate(cells):
        try:
            image = Image.open(io.BytesIO(cell or b""), formats=("PNG", "JPEG"))
            fits = image.mode == "RGB" and image.size == (32, 32)
            if fits:
                pixels[i] = np.asarray(image).transpose(2, 0, 1)
        except Exception as error:  # on damaged bytes Pillow raises OSError, SyntaxError, ValueError and others
            raise DataError(f"image {i} in {folder} cannot be read as PNG or JPEG; fetch the data again") from error
        if not fits:
            raise DataError(
                f"{name} has images of 32x32 pixels in RGB; image {i} in {folder} is one of "
                f"{image.width}x{image.height} in {image.mode}; point data.root to {name}"
            )
    return pixels


def _from_torchvision(name: str, folder: Path, download: bool, part: str, first: int) -> tuple[Tensor, Tensor]:
    from torchvision import datasets as vision  # takes a second to import, and only this branch needs it

    try:
        data = getattr(vision, name)(folder, train=part == "train", download=download)
    except (RuntimeError, OSError, ValueError, HTTPException) as error:
        if download:
            raise DataError(f"{name} could not be fetched to {folder}: {error}") from error
        lacks = f"has neither train*.parquet files nor a complete and undamaged torchvision download of {name}"
        forms = "as train*.parquet and test*.parquet or as torchvision leaves it"
        raise not_there(folder, lacks, f"{name}, {forms}, or data.download=true to fetch it there") from error
    return torch.from_numpy(data.data[:first]).permute(0, 3, 1, 2).contiguous(), torch.tensor(data.targets[:first])
