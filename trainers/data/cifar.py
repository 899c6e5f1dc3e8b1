"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 50,000 training images of 32x32 pixels.

``root`` is looked at, not configured: a folder with ``train*.parquet`` is read in the Hugging Face layout (a column of
``{bytes, path}`` images and a column of labels); anything else is left to torchvision, which reads its own download
there or, with ``download=true``, makes it.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainers.data import DataError, Images, datasets, hold_out

_SIZE = 50_000


@datasets.register("cifar10")
def cifar10(
    *, root: str = "data", download: bool = False, val_fraction: float = 0.1, train_size: int | None = None
) -> Images:
    """CIFAR-10, 10 classes. Crops with 4 pixels of padding and mirroring, as in He et al. 2015.

    Options: ``root`` (folder), ``download`` (fetch it with torchvision if it is not there), ``val_fraction`` of the
    training set held out, ``train_size`` to use only the first so many training images (for quick looks).
    """
    return _cifar("CIFAR10", ("label",), root, download, val_fraction, train_size)


@datasets.register("cifar100")
def cifar100(
    *, root: str = "data", download: bool = False, val_fraction: float = 0.1, train_size: int | None = None
) -> Images:
    """CIFAR-100, 100 fine classes. Options and augmentation as for cifar10."""
    return _cifar("CIFAR100", ("fine_label", "label"), root, download, val_fraction, train_size)


def _cifar(
    name: str, label_columns: tuple[str, ...], root: str, download: bool, val_fraction: float, train_size: int | None
) -> Images:
    folder = Path(root).expanduser()
    shards = sorted(folder.glob("train*.parquet")) or sorted(folder.glob("*/train*.parquet"))
    x, y = _from_parquet(shards, label_columns) if shards else _from_torchvision(name, folder, download)
    if len(x) != _SIZE:
        raise DataError(
            f"the {name} training set has {_SIZE} images, found {len(x)} in {folder}; complete the folder, or remove "
            "it and fetch the data again"
        )
    if train_size is not None:
        if not 0 < train_size <= _SIZE:
            raise DataError(f"train_size lies between 1 and {_SIZE}, got {train_size}")
        x, y = x[:train_size], y[:train_size]
    return hold_out(x, y, val_fraction, crop_padding=4, flip=True)


def _from_parquet(shards: list[Path], label_columns: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    images: list[np.ndarray] = []
    labels: list[int] = []
    for shard in shards:
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
        for cell in table[image_column].to_pylist():
            images.append(np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")))
        labels.extend(table[label_column].to_pylist())
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return pixels, torch.tensor(labels)


def _from_torchvision(name: str, folder: Path, download: bool) -> tuple[Tensor, Tensor]:
    from torchvision import datasets as vision

    try:
        data = getattr(vision, name)(folder, train=True, download=download)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"no complete {name} in {folder.resolve()} ({error}); set data.root to a folder with train*.parquet files or "
            "with torchvision's download, or set data.download=true to fetch it there"
        ) from error
    return torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(data.targets)
