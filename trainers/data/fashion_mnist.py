"""Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747): 60,000 training and 10,000 test images of clothes, 28x28
pixels, grey.

The idx files, gzipped or not, are looked for in ``root`` itself (Debian's package dataset-fashion-mnist puts them into
/usr/share/datasets/fashion-mnist) and where torchvision puts its download.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from functools import partial
from http.client import HTTPException
from pathlib import Path

import torch
from pydantic import PositiveInt
from torch import Tensor

from trainers.data import DataError, Fraction, Images, datasets, hold_out, not_there

_TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
# Of the uncompressed files. MNIST and its kin have the same names, sizes and headers; only the content differs.
_SHA256 = {
    _TRAIN[0]: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    _TRAIN[1]: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    _TEST[0]: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    _TEST[1]: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
_LARGEST = 16 + 60_000 * 28 * 28  # bytes


@datasets.register("fashion_mnist")
def fashion_mnist(
    *, root: str = "data", download: bool = False, val_fraction: Fraction = 0.1, train_size: PositiveInt | None = None
) -> Images:
    """Fashion-MNIST, 10 classes. Crops with 4 pixels of padding and mirroring, as in Zhong et al. 2017
    (arXiv 1708.04896; the script that they published: github.com/zhunzhong07/Random-Erasing, fashionmnist.py).

    Options: ``root`` (folder), ``download`` (fetch it with torchvision if it is not there), ``val_fraction`` of the
    training set held out, ``train_size`` to use only the first so many training images (for quick looks).
    """
    x, y = _part(_TRAIN, root, download)
    if train_size is not None and train_size > len(y):
        raise DataError(f"train_size is at most {len(y)}, got {train_size}")
    return hold_out(
        x[:train_size],
        y[:train_size],
        val_fraction,
        num_classes=10,
        crop_padding=4,
        flip=True,
        test=partial(_part, _TEST, root, download),
    )


def _part(names: tuple[str, str], root: str, download: bool) -> tuple[Tensor, Tensor]:
    """Images, uint8 (N, 1, 28, 28), and labels of the training or the test set."""
    try:
        folder = Path(root).expanduser()
        found = _find(folder, names)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"data.root={root[:80]!r} is no folder that can be read ({error})") from error
    if not found and download:
        _download(folder)
        found = _find(folder, names)
    if not found:
        lacks = f"has no {names[0]} and {names[1]} (or the same with .gz), nor has its folder FashionMNIST/raw"
        raise not_there(folder, lacks, "them, or data.download=true to fetch them there")
    return _read(found[0]).unsqueeze(1), _read(found[1]).long()


def _find(folder: Path, names: tuple[str, str]) -> tuple[Path, Path] | None:
    """The files of images and of labels, in the first folder that has both."""
    for place in (folder, folder / "FashionMNIST" / "raw"):
        images, labels = (
            next((path for path in (place / name, place / f"{name}.gz") if path.is_file()), None) for name in names
        )
        if images and labels:
            return images, labels
    return None


def _read(path: Path) -> Tensor:
    """An idx file of bytes as a tensor of its shape: (N, 28, 28) or (N,).

    The format: two zero bytes, a type (8: uint8), the number of dimensions, each dimension as big-endian uint32, data.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); remove it and fetch it again") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != _SHA256[path.name.removesuffix(".gz")]:
        raise DataError(
            f"{path} is not the file of Fashion-MNIST (its sha256 is {digest[:8]}...): it is cut short, damaged, or of "
            "another data set; remove it and fetch it again, or set data.root to another folder"
        )
    dimensions = content[3]
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * dimensions).view(shape)


def _download(folder: Path) -> None:
    from torchvision import datasets as vision  # takes a second to import, and only this branch needs it

    try:
        vision.FashionMNIST(folder, download=True)
    except (RuntimeError, OSError, ValueError, HTTPException) as error:
        raise DataError(f"Fashion-MNIST could not be fetched to {folder}: {' '.join(str(error).split())}") from error
