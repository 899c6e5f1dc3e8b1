"""Confirmations: the whole training set to train on, the test set held out, and looked at once."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import trainers.data.cifar as cifar
import trainers.data.fashion_mnist as fashion
from tests.trainers.test_data import write_parquet
from trainers.data import DataError, datasets, for_confirmation
from trainers.run import run_trial
from trainers.trial import Component, Recipe, Trial


def images(x) -> set[bytes]:
    return {np.ascontiguousarray(image).tobytes() for image in np.asarray(x)}


def test_digits_all_images_are_in_one_of_the_two_parts():
    searched = datasets.get("digits")()
    data = for_confirmation(searched)
    everything = images((load_digits().images * (255 / 16)).round().astype(np.uint8))
    assert images(data.train_x) | images(data.val_x) == everything
    assert not images(data.train_x) & images(data.val_x)
    assert images(data.train_x) == images(searched.train_x) | images(searched.val_x)
    assert (len(data.train_y), len(data.val_y)) == (1437, 360)
    pixels = data.train_x.double() / 255
    assert data.mean == pytest.approx([pixels.mean().item()], rel=1e-9)
    assert data.std == pytest.approx([pixels.std().item()], rel=1e-9)


def test_cifar_reads_its_test_set_when_it_is_wanted(tmp_path, monkeypatch):
    for part, size in (("train", 100), ("test", 40)):
        monkeypatch.setitem(cifar._SIZES, part, size)
    train, _ = write_parquet(tmp_path, 100)
    searched = datasets.get("cifar10")(root=str(tmp_path), val_fraction=0.2)
    with pytest.raises(DataError, match=r"has the training set of CIFAR10, but no test\*\.parquet"):
        for_confirmation(searched)
    test, labels = write_parquet(tmp_path, 40, name="test.parquet")
    data = for_confirmation(searched)
    assert images(data.train_x) == images(train.transpose(0, 3, 1, 2))
    assert np.array_equal(data.val_x, test.transpose(0, 3, 1, 2))
    assert data.val_y.tolist() == labels
    assert (data.crop_padding, data.flip) == (4, True)


def test_cifar_with_half_a_test_set(tmp_path, monkeypatch):
    monkeypatch.setitem(cifar._SIZES, "train", 100)
    write_parquet(tmp_path, 100)
    write_parquet(tmp_path, 40, name="test.parquet")
    with pytest.raises(DataError, match="the CIFAR10 test set has 10000 images"):
        for_confirmation(datasets.get("cifar10")(root=str(tmp_path)))


def test_fashion_mnist(tmp_path, monkeypatch):
    for names, n in ((fashion._TRAIN, 50), (fashion._TEST, 20)):
        pixels = np.random.default_rng(n).integers(0, 256, (n, 28, 28), dtype=np.uint8)
        contents = (
            struct.pack(">4I", 0x803, n, 28, 28) + pixels.tobytes(),
            struct.pack(">2I", 0x801, n) + bytes(i % 10 for i in range(n)),
        )
        for name, content in zip(names, contents, strict=True):
            (tmp_path / name).write_bytes(content)
            monkeypatch.setitem(fashion._SHA256, name, hashlib.sha256(content).hexdigest())
    data = for_confirmation(datasets.get("fashion_mnist")(root=str(tmp_path), val_fraction=0.2))
    assert len(data.train_y) == 50
    assert np.array_equal(data.val_x[:, 0], pixels)
    assert data.val_y.tolist() == [i % 10 for i in range(20)]


def write_classes(folder, classes, n=4, size=6):
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            Image.new("RGB", (size, size), (10 * number, i, 0)).save(folder / name / f"{i}.png")


def test_a_folder_of_images_has_its_test_set_in_another(tmp_path):
    write_classes(tmp_path / "train", ["cat", "dog"])
    write_classes(tmp_path / "test", ["cat", "dog"], n=2)
    options = {"root": str(tmp_path / "train"), "val_fraction": 0.5}
    data = for_confirmation(datasets.get("image_folder")(**options, test_root=str(tmp_path / "test")))
    assert (len(data.train_y), data.val_y.tolist()) == (8, [0, 0, 1, 1])
    with pytest.raises(DataError, match=r"has none; image_folder reads one from data\.test_root"):
        for_confirmation(datasets.get("image_folder")(**options))


def test_a_test_set_of_other_classes_or_sizes_is_refused(tmp_path):
    write_classes(tmp_path / "train", ["cat", "dog"])
    write_classes(tmp_path / "classes", ["cat", "fox"])
    write_classes(tmp_path / "sizes", ["cat", "dog"], size=5)
    load = datasets.get("image_folder")
    with pytest.raises(DataError, match="the classes of the training set; not in both: dog, fox"):
        for_confirmation(load(root=str(tmp_path / "train"), val_fraction=0.5, test_root=str(tmp_path / "classes")))
    with pytest.raises(DataError, match=r"the test set has images \(3, 5, 5\)"):
        for_confirmation(load(root=str(tmp_path / "train"), val_fraction=0.5, test_root=str(tmp_path / "sizes")))


def confirmation(**changes) -> Trial:
    fields = {
        "id": 1,
        "stage": "confirm",
        "expression": "max(x, 0)",
        "seed": 3,
        "model": Component("resnet8", {"width": 4}),
        "data": Component("digits"),
        "recipe": Recipe(),
        "budget_epochs": 2,
        "score_on": "test",
    }
    return Trial(**{**fields, **changes})


def test_the_test_set_is_looked_at_once_at_the_end():
    result = run_trial(confirmation(), lambda _: False)
    assert result.state == "COMPLETE", result.reason
    assert [sorted(name for name in entry if "test" in name) for entry in result.history] == [
        [],
        ["test_accuracy", "test_loss"],
    ]
    assert not [name for entry in result.history for name in entry if name.startswith("val")]
    assert result.metrics["test_accuracy"] * 360 == pytest.approx(round(result.metrics["test_accuracy"] * 360))


def test_a_network_of_the_search_may_serve_a_confirmation_without_a_trace():
    """In one process after a trial of the search as in a fresh one."""
    alone = run_trial(confirmation(), lambda _: False)
    run_trial(confirmation(score_on="val", stage="search"), lambda _: False)
    after = run_trial(confirmation(), lambda _: False)
    assert alone.metrics == after.metrics


def test_a_text_is_scored_in_bits_per_byte(tmp_path):
    (tmp_path / "a.txt").write_bytes(bytes(torch.randint(97, 123, (4000,), dtype=torch.uint8).tolist()))
    data = Component("text", {"root": str(tmp_path / "a.txt"), "context": 16})
    model = Component("gpt", {"dim": 16, "depth": 1, "heads": 2})
    result = run_trial(confirmation(data=data, model=model, recipe=Recipe(optimizer="adamw")), lambda _: False)
    assert result.state == "COMPLETE", result.reason
    assert result.metrics["test_bpb"] == pytest.approx(result.metrics["test_loss"] / np.log(2))
