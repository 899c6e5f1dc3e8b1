"""Data sets: splits, and clear refusals of what is missing or half there."""

from __future__ import annotations

import io
import os
import pickle
from http.client import BadStatusLine
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import trainers.data.cifar as cifar
from trainers.data import DataError, datasets, hold_out


def cell(image: Image.Image, kind: str = "PNG"):
    """An encoded image in the Hugging Face layout."""
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return {"bytes": buffer.getvalue(), "path": None}


def write_parquet(folder: Path, n: int, columns=("img", "label"), name="train.parquet", classes=10, odd=None):
    """A small data set in the Hugging Face layout; returns its images and labels. ``odd`` replaces image 57."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    labels = (np.arange(n) % classes).tolist()
    cells = [cell(Image.fromarray(image)) for image in images]
    if odd is not None:
        cells[57] = odd
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({columns[0]: cells, columns[1]: labels}), folder / name)
    return images, labels


@pytest.fixture
def small_cifar(monkeypatch):
    """CIFAR with 100 images."""
    monkeypatch.setitem(cifar._SIZES, "train", 100)


def test_digits_are_split_without_overlap_and_the_test_part_is_left_out():
    from sklearn.datasets import load_digits

    data = datasets.get("digits")()
    parts = [{tuple(image.flatten().tolist()) for image in x} for x in (data.train_x, data.val_x)]
    assert not parts[0] & parts[1]
    total = len(load_digits().target)
    assert len(data.train_y) + len(data.val_y) == total - round(0.2 * total + 0.5)
    assert abs(len(data.val_y) / (len(data.train_y) + len(data.val_y)) - 0.3) < 0.01
    assert data.train_x.shape[1:] == (1, 8, 8)
    assert data.train_x.max() == 255


def test_mean_and_deviation_do_not_depend_on_the_number_of_threads():
    """Or the same seed would train differently in a worker and in the calling process."""
    x = torch.randint(0, 256, (3000, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    y, before = torch.arange(3000) % 5, torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            data = hold_out(x, y, 0.1)
            found.append((data.mean, data.std))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_hold_out_is_stratified_and_always_the_same():
    y = torch.arange(1000) % 10
    x = torch.arange(1000).view(-1, 1, 1, 1).to(torch.uint8).expand(-1, 3, 2, 2)
    torch.manual_seed(1)
    first = hold_out(x, y, 0.2)
    torch.manual_seed(2)
    second = hold_out(x, y, 0.2)
    assert first.val_y.bincount().tolist() == [20] * 10
    assert torch.equal(first.val_x, second.val_x)
    assert torch.equal(first.train_y, second.train_y)
    flat = first.train_x.double().numpy() / 255
    np.testing.assert_allclose(first.mean, flat.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(first.std, flat.std((0, 2, 3), ddof=1), rtol=1e-5)


@pytest.mark.parametrize(
    ("columns", "name"), [(("img", "label"), "train.parquet"), (("image", "label"), "train-0.parquet")]
)
def test_cifar10_from_parquet(tmp_path, small_cifar, columns, name):
    images, labels = write_parquet(tmp_path, 100, columns, name)
    data = datasets.get("cifar10")(root=str(tmp_path), val_fraction=0.2)
    assert (len(data.train_y), len(data.val_y), data.num_classes) == (80, 20, 10)
    read = {tuple(i.permute(1, 2, 0).flatten().tolist()): int(y) for i, y in zip(data.val_x, data.val_y, strict=True)}
    expected = {tuple(i.flatten().tolist()): y for i, y in zip(images, labels, strict=True)}
    assert read.items() <= expected.items()
    assert (data.crop_padding, data.flip) == (4, True)


def test_cifar100_reads_the_fine_labels(tmp_path, monkeypatch):
    monkeypatch.setitem(cifar._SIZES, "train", 200)
    write_parquet(tmp_path, 200, ("img", "fine_label"), classes=100)
    table = pq.read_table(tmp_path / "train.parquet").append_column("coarse_label", pa.array([0] * 200))
    pq.write_table(table, tmp_path / "train.parquet")
    data = datasets.get("cifar100")(root=str(tmp_path), val_fraction=0.5)
    assert data.num_classes == 100
    assert sorted(data.train_y.tolist()) == sorted(data.val_y.tolist()) == list(range(100))


def test_cifar10_is_not_taken_for_cifar100(tmp_path, small_cifar):
    write_parquet(tmp_path, 100)
    with pytest.raises(DataError, match=r"CIFAR100 has labels 0 to 99, .* has labels 0 to 9; point data\.root"):
        datasets.get("cifar100")(root=str(tmp_path))


def test_the_number_of_classes_is_not_that_of_the_first_images(tmp_path, small_cifar):
    table = pa.table({"img": [cell(Image.new("RGB", (32, 32)))] * 100, "label": np.repeat(np.arange(10), 10)})
    pq.write_table(table, tmp_path / "train.parquet")
    data = datasets.get("cifar10")(root=str(tmp_path), train_size=20)
    assert (data.num_classes, int(data.train_y.max())) == (10, 1)


def test_shards_are_read_in_the_order_of_their_names(tmp_path, small_cifar):
    for i in (2, 0, 1, 3):
        colour = (i, 0, 0)
        table = pa.table({"img": [cell(Image.new("RGB", (32, 32), colour))] * 25, "label": [*range(10)] * 2 + [i] * 5})
        pq.write_table(table, tmp_path / f"train-{i:05}-of-00004.parquet")
    data = datasets.get("cifar10")(root=str(tmp_path), train_size=50)
    assert torch.cat([data.train_x, data.val_x])[:, 0, 0, 0].bincount().tolist() == [25, 25]


def test_cifar10_from_jpeg(tmp_path, small_cifar):
    """Smooth images, on which JPEG is off by a few levels at most."""
    ramp = np.stack([np.add.outer(4 * np.arange(32), 3 * np.arange(32))] * 3, -1).astype(np.uint8)
    table = pa.table({"img": [cell(Image.fromarray(ramp), "JPEG")] * 100, "label": [*range(10)] * 10})
    pq.write_table(table, tmp_path / "train.parquet")
    data = datasets.get("cifar10")(root=str(tmp_path))
    assert (data.val_x[0].permute(1, 2, 0).int() - torch.from_numpy(ramp).int()).abs().max() <= 8


def test_train_size_takes_the_first_images(tmp_path, small_cifar):
    write_parquet(tmp_path, 100)
    data = datasets.get("cifar10")(root=str(tmp_path), val_fraction=0.2, train_size=50)
    assert len(data.train_y) + len(data.val_y) == 50
    with pytest.raises(DataError, match="at most 100, got 200"):
        datasets.get("cifar10")(root=str(tmp_path), train_size=200)


def test_cifar10_from_torchvisions_download(tmp_path, monkeypatch):
    """The pickled batches that torchvision reads, with their checksums switched off."""
    from torchvision import datasets as vision

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (100, 3072), dtype=np.uint8)
    for i in range(5):
        part = {"data": rows[20 * i : 20 * i + 20], "labels": list(range(10)) * 2}
        (folder / f"data_batch_{i + 1}").write_bytes(pickle.dumps(part))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(vision.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    data = datasets.get("cifar10")(root=str(tmp_path), val_fraction=0.2)
    everything = torch.cat([data.train_x, data.val_x]).flatten(1)
    assert {tuple(r) for r in everything.tolist()} == {tuple(r) for r in rows.tolist()}


def test_folder_without_the_data(tmp_path):
    with pytest.raises(DataError, match=r"neither train\*.parquet files nor a complete and undamaged"):
        datasets.get("cifar10")(root=str(tmp_path))


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist", "tiny_shakespeare", "image_folder"])
def test_missing_folder(tmp_path, name):
    with pytest.raises(DataError, match=r"nowhere.*No such file or directory"):
        datasets.get(name)(root=str(tmp_path / "nowhere"))


def test_only_the_test_half(tmp_path):
    write_parquet(tmp_path, 100, name="test.parquet")
    with pytest.raises(DataError, match=r"set data\.root"):
        datasets.get("cifar10")(root=str(tmp_path))


def test_too_few_images(tmp_path):
    write_parquet(tmp_path, 100)
    with pytest.raises(DataError, match=r"has 50000 images, .* has 100"):
        datasets.get("cifar10")(root=str(tmp_path))


def test_truncated_parquet(tmp_path):
    write_parquet(tmp_path, 100)
    path = tmp_path / "train.parquet"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match="cannot be read as parquet"):
        datasets.get("cifar10")(root=str(tmp_path))


def test_wrong_columns(tmp_path):
    write_parquet(tmp_path, 10, ("picture", "label"))
    with pytest.raises(DataError, match=r"image column .* it has: picture, label"):
        datasets.get("cifar10")(root=str(tmp_path))


def damaged_png() -> bytes:
    """The length of the pixel chunk is wrong, so that no chunk follows it."""
    png = cell(Image.effect_noise((32, 32), 50).convert("RGB"))["bytes"]
    at = png.index(b"IDAT") - 4
    return png[:at] + (32).to_bytes(4, "big") + png[at + 4 :]


@pytest.mark.parametrize(
    "content", [None, b"", b"no image", cell(Image.new("RGB", (32, 32)))["bytes"][:60], damaged_png()]
)
def test_broken_image(tmp_path, small_cifar, content):
    write_parquet(tmp_path, 100, odd={"bytes": content, "path": None})
    with pytest.raises(DataError, match=r"image 57 in .* cannot be read"):
        datasets.get("cifar10")(root=str(tmp_path))


@pytest.mark.parametrize("images", [pa.array([b"x"] * 100), pa.array([{"path": "a.png"}] * 100)])
def test_images_are_bytes_and_path(tmp_path, small_cifar, images):
    pq.write_table(pa.table({"img": images, "label": [*range(10)] * 10}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"images are \{bytes, path\}; img is"):
        datasets.get("cifar10")(root=str(tmp_path))


def test_no_rows(tmp_path):
    write_parquet(tmp_path, 10)
    pq.write_table(pq.read_table(tmp_path / "train.parquet").slice(0, 0), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"has 50000 images, .* has 0;"):
        datasets.get("cifar10")(root=str(tmp_path))


class Mark:
    """Leaves a mark in the file system when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("damage", [b"", b"\x80\x04truncated", None])
def test_a_damaged_download_is_refused_and_never_unpickled(tmp_path, damage):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    mark = tmp_path / "unpickled"
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
        (folder / name).write_bytes(pickle.dumps(Mark(mark)) if damage is None else damage)
    with pytest.raises(DataError, match="nor a complete and undamaged torchvision download"):
        datasets.get("cifar10")(root=str(tmp_path))
    assert not mark.exists()


@pytest.mark.parametrize("fault", [URLError("no network"), BadStatusLine("<html>"), ConnectionResetError("reset")])
def test_a_download_that_fails(tmp_path, monkeypatch, fault):
    def urlopen(*_, **__):
        raise fault

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    with pytest.raises(DataError, match=r"CIFAR100 could not be fetched to .*(no network|html|reset)"):
        datasets.get("cifar100")(root=str(tmp_path), download=True)


def test_the_real_cifar10_if_it_is_at_hand():
    """NAS_TEST_CIFAR10 names its folder."""
    folder = os.environ.get("NAS_TEST_CIFAR10")
    if not folder:
        pytest.skip("NAS_TEST_CIFAR10 names no folder")
    data = datasets.get("cifar10")(root=folder, train_size=5_000)
    assert len(data.train_y) == pytest.approx(4_500, abs=5)  # ten classes, each rounded
    np.testing.assert_allclose(data.mean, [0.4914, 0.4822, 0.4465], atol=0.01)  # the figures everybody uses


@pytest.mark.parametrize("fraction", [1e-4, 0.9999])
def test_a_split_without_images_on_one_side_is_refused(fraction):
    with pytest.raises(DataError, match="leaves no"):
        datasets.get("digits")(val_fraction=fraction)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([None] * 100, "whole numbers"),
        (["cat"] * 100, "whole numbers"),
        ([0.5] * 100, "whole numbers"),
        ([True] * 100, "whole numbers"),
        ([-1] * 100, "labels -1 to -1"),
        ([1_000_000] * 100, "labels 1000000"),
        (np.full(100, 2**64 - 1, np.uint64), "labels -1"),
        (list(range(100)), "labels 0 to 99"),  # CIFAR-100 taken for CIFAR-10
    ],
)
def test_odd_labels_are_refused(tmp_path, small_cifar, labels, message):
    write_parquet(tmp_path, 100)
    table = pq.read_table(tmp_path / "train.parquet").drop_columns("label").append_column("label", pa.array(labels))
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match=message):
        datasets.get("cifar10")(root=str(tmp_path))


@pytest.mark.parametrize(
    ("mode", "size"), [("RGB", (28, 30)), ("RGB", (16, 16)), ("L", (32, 32)), ("RGBA", (32, 32)), ("P", (32, 32))]
)
def test_an_image_of_another_kind_is_refused(tmp_path, small_cifar, mode, size):
    write_parquet(tmp_path, 100, odd=cell(Image.new(mode, size)))
    with pytest.raises(DataError, match=f"image 57 in .* is one of {size[0]}x{size[1]} in {mode}; point data.root"):
        datasets.get("cifar10")(root=str(tmp_path))


@pytest.mark.parametrize("root", ["a\0b", "x" * 300])
def test_impossible_folders_are_refused(root):
    with pytest.raises(DataError):
        datasets.get("cifar10")(root=root)
