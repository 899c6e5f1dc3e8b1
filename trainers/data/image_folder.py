"""Your own images: a folder with one folder of image files for every class.

    root/cat/1.jpg
    root/cat/2.jpg
    root/dog/1.png

Classes are numbered in the order of their names. A test set lies in a folder of its own, in the same way.
Hidden files and folders, and other than image files, are passed over.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from trainers.data import DataError, Fraction, Images, datasets, hold_out

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF")  # by content; others start programs (EPS: ghostscript)
_MAX_BYTES = 8 * 2**30


@datasets.register("image_folder")
def image_folder(
    *,
    root: str,
    test_root: str | None = None,
    size: PositiveInt | None = None,
    grey: bool = False,
    val_fraction: Fraction = 0.1,
    crop_padding: NonNegativeInt = 0,
    flip: bool = False,
) -> Images:
    """The images of a folder that has a folder for every class.

    Options: ``root`` (folder), ``test_root`` (folder of a test set with the same classes), ``size`` to which height and
    width of every image are scaled, by bilinear interpolation with antialiasing (without it all images must be of one
    size), ``grey`` (one channel instead of RGB), ``val_fraction`` held out, ``crop_padding`` (random crops after
    padding by so many pixels), ``flip`` (mirroring).
    """
    x, y, classes = _read(root, size, grey)
    return hold_out(
        x,
        y,
        val_fraction,
        num_classes=len(classes),
        crop_padding=crop_padding,
        flip=flip,
        test=None if test_root is None else partial(_read_test, test_root, classes, size, grey),
    )


def _read_test(root: str, expected: list[str], size: int | None, grey: bool) -> tuple[Tensor, Tensor]:
    x, y, classes = _read(root, size, grey)
    if classes != expected:
        odd = sorted(set(classes) ^ set(expected))
        raise DataError(f"the test set has the classes of the training set; not in both: {', '.join(odd[:5])}")
    return x, y


def _read(root: str, size: int | None, grey: bool) -> tuple[Tensor, Tensor, list[str]]:
    """All images, uint8 (N, C, H, W), their labels, and the names of the classes."""
    files, labels, classes = _find(root)
    with _open(files[0]) as first:
        width, height = (size, size) if size else first.size
    needed = len(files) * height * width * (1 if grey else 3)
    if needed > _MAX_BYTES:
        raise DataError(
            f"images are held in memory, up to {_MAX_BYTES / 1e9:.1f} GB; {len(files):,} images of {width}x{height} "
            f"take {needed / 1e9:.1f} GB; set data.size to something smaller"
        )
    pixels = np.empty((len(files), 1 if grey else 3, height, width), np.uint8)
    for i, file in enumerate(files):
        image = _load(file, size, grey)
        if image.shape[1:] != (height, width):
            raise DataError(
                f"images must be of one size: {files[0]} has {width}x{height} pixels, {file} has "
                f"{image.shape[2]}x{image.shape[1]}; scale them all with, for example, data.size={min(height, width)}"
            )
        pixels[i] = image
    return torch.from_numpy(pixels), torch.tensor(labels), classes


def _find(root: str) -> tuple[list[Path], list[int], list[str]]:
    """Image files, their labels and the names of the classes."""
    try:
        folder = Path(root).expanduser()
        classes = [path for path in _visible(folder) if path.is_dir()]
        members = [[path for path in _visible(c) if path.suffix.lower() in _SUFFIXES] for c in classes]
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"data.root={root[:200]!r} is no folder that can be read ({error})") from error
    if len(classes) < 2:
        raise DataError(
            f"data.root must hold a folder of images for each of two or more classes; {folder} holds "
            f"{len(classes)} folder{'' if classes else 's'}; set data.root to the folder above the classes"
        )
    empty = [c.name for c, files in zip(classes, members, strict=True) if not files]
    if empty:
        raise DataError(
            f"every folder in {folder} is a class and must hold images ({', '.join(_SUFFIXES)}), not in further "
            f"folders; without images: {', '.join(empty[:5])}{', ...' if len(empty) > 5 else ''}; remove these, or set "
            "data.root to the folder right above the classes (such as its train folder)"
        )
    labels = [label for label, files in enumerate(members) for _ in files]
    return [file for files in members for file in files], labels, [c.name for c in classes]


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _open(path: Path) -> Image.Image:
    """An image of which only the header was read."""
    try:
        return Image.open(path, formats=_FORMATS)
    except Exception as error:  # on damaged files Pillow raises OSError, SyntaxError, ValueError and others
        raise _unreadable(path) from error


def _load(path: Path, size: int | None, grey: bool) -> NDArray[np.uint8]:
    """One image as (C, H, W)."""
    with _open(path) as image:
        if image.mode.startswith(("I", "F")):  # Pillow would cut values off at 255
            raise DataError(f"{path} has pixels of more than 8 bits (mode {image.mode}); convert it to 8 bits")
        try:
            image = image.convert("L" if grey else "RGB")
        except Exception as error:
            raise _unreadable(path) from error
    if size:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def _unreadable(path: Path) -> DataError:
    return DataError(f"{path} cannot be read as an image ({', '.join(_FORMATS)}); replace or remove it")
