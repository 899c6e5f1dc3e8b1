"""Fashion-MNIST and folders of images, on small files that are written here and decoded here with numpy and struct."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import trainers.data.fashion_mnist as fashion
import trainers.data.image_folder as folder_of_images
from trainers.data import DataError, Images, datasets

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def everything(data: Images) -> dict[bytes, int]:
    """All images, as bytes in the order (C, H, W), with their labels."""
    x, y = torch.cat([data.train_x, data.val_x]), torch.cat([data.train_y, data.val_y])
    return {image.numpy().tobytes(): int(label) for image, label in zip(x, y, strict=True)}


@pytest.fixture
def idx(monkeypatch):
    """The idx files of 200 random images, by name, taken for those of Fashion-MNIST; and their pixels and labels."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 28, 28), dtype=np.uint8)
    labels = [i % 10 for i in range(200)]
    files = {
        IMAGES: struct.pack(">4I", 0x803, 200, 28, 28) + pixels.tobytes(),
        LABELS: struct.pack(">2I", 0x801, 200) + bytes(labels),
    }
    for name, content in files.items():
        monkeypatch.setitem(fashion._SHA256, name, hashlib.sha256(content).hexdigest())
    return files, {image.tobytes(): label for image, label in zip(pixels, labels, strict=True)}


def write(folder: Path, files: dict[str, bytes], zipped: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.gz" if zipped else folder / name).write_bytes(gzip.compress(content) if zipped else content)
    return folder


@pytest.mark.parametrize("place", [".", "FashionMNIST/raw"])
@pytest.mark.parametrize("zipped", [False, True])
def test_fashion_mnist_is_read_where_it_lies(tmp_path, idx, place, zipped):
    files, expected = idx
    write(tmp_path / place, files, zipped)
    data = datasets.get("fashion_mnist")(root=str(tmp_path), val_fraction=0.2)
    assert everything(data) == expected
    assert (len(data.val_y), data.input_shape, data.num_classes) == (40, (1, 28, 28), 10)


def test_fashion_mnist_is_cropped_and_mirrored_as_by_zhong(tmp_path, idx):
    """Zhong et al. 2017: padding of 4 and horizontal flips."""
    data = datasets.get("fashion_mnist")(root=str(write(tmp_path, idx[0])))
    assert (data.crop_padding, data.flip) == (4, True)


def test_fashion_mnist_takes_the_first_images(tmp_path, idx):
    data = datasets.get("fashion_mnist")(root=str(write(tmp_path, idx[0])), train_size=50, val_fraction=0.2)
    assert list(idx[1])[:50] == sorted(everything(data), key=list(idx[1]).index)
    with pytest.raises(DataError, match="train_size is at most 200, got 201"):
        datasets.get("fashion_mnist")(root=str(tmp_path), train_size=201)


@pytest.mark.parametrize("present", [[], [IMAGES], [LABELS]])
def test_fashion_mnist_that_is_not_there(tmp_path, idx, present):
    write(tmp_path, {name: idx[0][name] for name in present})
    with pytest.raises(DataError, match=r"has no train-images-idx3-ubyte and .*set data\.root .*data\.download=true"):
        datasets.get("fashion_mnist")(root=str(tmp_path))


@pytest.mark.parametrize("name", [IMAGES, LABELS])
@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b + b"x", lambda b: b"\1" + b[1:]])
def test_a_damaged_idx_file_is_refused(tmp_path, idx, name, damage):
    write(tmp_path, idx[0] | {name: damage(idx[0][name])})
    with pytest.raises(
        DataError, match=f"{name} is not the file of Fashion-MNIST .* cut short, damaged, or of another"
    ):
        datasets.get("fashion_mnist")(root=str(tmp_path))


@pytest.mark.parametrize("damage", [lambda b: b[:100], lambda b: b"text", lambda b: b[:50] + bytes(50) + b[100:]])
def test_a_damaged_gz_file_is_refused(tmp_path, idx, damage):
    path = write(tmp_path, idx[0], zipped=True) / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"{IMAGES}.gz (cannot be read|is not the file).*remove it and fetch it again"):
        datasets.get("fashion_mnist")(root=str(tmp_path))


def test_another_data_set_of_the_same_shape_is_refused(tmp_path):
    """MNIST has files of the same names, sizes and headers."""
    write(tmp_path, {IMAGES: struct.pack(">4I", 0x803, 60_000, 28, 28) + bytes(60_000 * 784), LABELS: bytes(60_008)})
    with pytest.raises(DataError, match="is not the file of Fashion-MNIST"):
        datasets.get("fashion_mnist")(root=str(tmp_path))


def test_fashion_mnist_that_cannot_be_fetched(tmp_path, monkeypatch):
    def urlopen(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    with pytest.raises(DataError, match=r"could not be fetched to .*no network"):
        datasets.get("fashion_mnist")(root=str(tmp_path), download=True)


def test_fashion_mnist_is_fetched_to_where_torchvision_keeps_it(tmp_path, idx, monkeypatch):
    def download(self):
        for test_half in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
            write(Path(self.raw_folder), {test_half: b""})
        write(Path(self.raw_folder), idx[0])

    monkeypatch.setattr("torchvision.datasets.FashionMNIST.download", download)
    assert everything(datasets.get("fashion_mnist")(root=str(tmp_path), download=True)) == idx[1]


def save(path: Path, pixels: np.ndarray) -> np.ndarray:
    """An image of (H, W, 3) or (H, W); returns what a channels-first reader of it should give."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def animals(tmp_path):
    """Two classes of 10 colour images of 6x5 pixels; what is expected of them; their folder."""
    expected = {
        save(tmp_path / name / f"{i}.{'png' if i % 2 else 'BMP'}", noise(20 * label + i, 5, 6, 3)).tobytes(): label
        for label, name in enumerate(["Cat", "dog"])
        for i in range(10)
    }
    return tmp_path, expected


def test_a_folder_of_images(animals):
    root, expected = animals
    data = datasets.get("image_folder")(root=str(root), val_fraction=0.3, crop_padding=2, flip=True)
    assert everything(data) == expected
    assert (data.input_shape, data.num_classes, data.val_y.bincount().tolist()) == ((3, 5, 6), 2, [3, 3])
    assert (data.crop_padding, data.flip) == (2, True)


def test_images_are_not_augmented_unless_asked(animals):
    data = datasets.get("image_folder")(root=str(animals[0]))
    assert (data.crop_padding, data.flip) == (0, False)


def test_hidden_and_other_files_are_passed_over(animals):
    root, expected = animals
    for path in (".checkpoints/a.png", ".cache/b.txt", "README.md", "dog/Thumbs.db", "Cat/._1.png"):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(b"no image")
    assert everything(datasets.get("image_folder")(root=str(root))) == expected


def test_grey_is_the_luma_of_itu_601(animals):
    """ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B."""
    root, expected = animals
    data = datasets.get("image_folder")(root=str(root), grey=True)
    assert data.input_shape == (1, 5, 6)
    luma = [np.tensordot([0.299, 0.587, 0.114], np.frombuffer(x, np.uint8).reshape(3, 30), 1) for x in expected]
    read = [np.frombuffer(x, np.uint8) for x in everything(data)]
    distance = np.abs(np.array(read)[:, None] - np.array(luma)[None]).max(-1)
    assert (distance.min(1) <= 1).all()
    assert sorted(distance.argmin(1)) == list(range(20))


def test_grey_files_among_colour_ones_get_three_equal_channels(animals):
    root, expected = animals
    grey = save(root / "dog" / "grey.png", noise(99, 5, 6))
    assert everything(datasets.get("image_folder")(root=str(root))) == expected | {
        np.tile(grey, (3, 1, 1)).tobytes(): 1
    }


def test_images_of_all_sizes_are_scaled(tmp_path):
    """Halving a size is, away from the border, a triangle filter of width 4: weights 1, 3, 3, 1 in each direction."""
    for name in ("a", "b"):
        for i in range(3):
            save(tmp_path / name / f"{i}.png", noise(i, 24 + 4 * i, 30, 3))
    pixels = noise(7, 16, 16)
    save(tmp_path / "a" / "picture.png", pixels)
    data = datasets.get("image_folder")(root=str(tmp_path), size=8, grey=True, val_fraction=0.4)
    assert data.input_shape == (1, 8, 8)
    weights = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(pixels).float()[None, None], weights[None, None], stride=2, padding=1
    )
    inside = torch.cat([data.train_x, data.val_x])[:, 0, 1:-1, 1:-1].float()
    assert (inside - expected[0, 0, 1:-1, 1:-1]).abs().amax((1, 2)).min() <= 1.5


def test_images_of_two_sizes_are_refused(animals):
    root, _ = animals
    save(root / "dog" / "large.png", noise(0, 9, 7, 3))
    with pytest.raises(DataError, match=r"0\.BMP has 6x5 pixels, .*large\.png has 7x9; .*data\.size=5"):
        datasets.get("image_folder")(root=str(root))


@pytest.mark.parametrize("name", ["Cat/0.BMP", "dog/7.png"])
@pytest.mark.parametrize("content", [b"", b"no image", None])
@pytest.mark.parametrize("size", [None, 4])
def test_an_unreadable_image_is_named(animals, name, content, size):
    path = animals[0] / name
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    with pytest.raises(DataError, match=f"{name} cannot be read as an image"):
        datasets.get("image_folder")(root=str(animals[0]), size=size)


def test_postscript_is_not_run(animals, monkeypatch):
    """Pillow would hand it to ghostscript, whatever the file is called."""
    calls = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: calls.append(1))
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 5\n%%EndComments\nshowpage\n"
    (animals[0] / "dog" / "7.png").write_bytes(script)
    with pytest.raises(DataError, match=r"7\.png cannot be read as an image"):
        datasets.get("image_folder")(root=str(animals[0]))
    assert not calls


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_pixels_of_more_than_8_bits_are_refused(animals, dtype):
    save(animals[0] / "dog" / "deep.tiff", np.full((5, 6), 300, dtype))
    with pytest.raises(DataError, match=r"deep\.tiff has pixels of more than 8 bits"):
        datasets.get("image_folder")(root=str(animals[0]))


@pytest.mark.parametrize(
    ("classes", "message"),
    [([], "holds 0 folders"), (["cat"], "holds 1 folder;"), (["cat", "dog"], "images: cat, dog")],
)
def test_a_folder_without_classes_or_images_is_refused(tmp_path, classes, message):
    for name in classes:
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=message):
        datasets.get("image_folder")(root=str(tmp_path))


def test_the_folder_above_train_and_test_is_refused(tmp_path):
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            save(tmp_path / part / name / "1.png", noise(0, 4, 4, 3))
    with pytest.raises(DataError, match=r"without images: test, train; .*such as its train folder"):
        datasets.get("image_folder")(root=str(tmp_path))


def test_one_class_without_images_is_named(animals):
    save(animals[0] / "Eel" / "1.gif", noise(0, 5, 6))
    with pytest.raises(DataError, match=r"must hold images \(\.png, \.jpg.* without images: Eel;"):
        datasets.get("image_folder")(root=str(animals[0]))


def test_images_that_do_not_fit_into_memory_are_refused(animals, monkeypatch):
    monkeypatch.setattr(folder_of_images, "_MAX_BYTES", 20 * 3 * 8 * 8 - 1)
    with pytest.raises(DataError, match=r"20 images of 8x8 take .* data\.size"):
        datasets.get("image_folder")(root=str(animals[0]), size=8)
    assert datasets.get("image_folder")(root=str(animals[0]), size=7).input_shape == (3, 7, 7)


@pytest.mark.parametrize("name", ["fashion_mnist", "image_folder"])
@pytest.mark.parametrize("root", ["a\0b", "x" * 300, "~nosuchuserhere", "/dev/null"])
def test_impossible_folders_are_refused(name, root):
    with pytest.raises(DataError, match=r"data\.root"):
        datasets.get(name)(root=root)
