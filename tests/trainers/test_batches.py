"""Batches: augmentation, normalisation, and every piece of a text once an epoch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.trainings import images
from trainers.batches import ImageBatches, TextBatches, crop, make_batches
from trainers.data import split_text

CPU = torch.device("cpu")


def test_a_crop_is_a_piece_of_its_image_mirrored_or_not():
    """Against slicing, image by image."""
    x = torch.arange(4 * 9 * 10 * 2).view(4, 9, 10, 2)
    where = torch.tensor([[0, 0, 0], [3, 2, 0], [1, 4, 1], [2, 0, 1]])
    for before, after, (row, column, mirrored) in zip(x, crop(x, where, (6, 5)), where.tolist(), strict=True):
        piece = before[row : row + 6, column : column + 5]
        assert torch.equal(after, piece.flip(1) if mirrored else piece)


def test_augmentation_is_a_random_crop_and_a_flip_of_each_image():
    """Against a reference that tries every shift and both directions on the image padded with zeros."""
    data = images(crop_padding=2, flip=True)
    batches = ImageBatches(data, 48, CPU)
    (x, y) = next(batches.epoch(torch.Generator().manual_seed(1)))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (data.mean, data.std))
    pixels = ((x * std + mean) * 255).round().to(torch.uint8)
    padded = nn.functional.pad(data.train_x, (2, 2, 2, 2))
    versions = {
        tuple(flipped.flatten().tolist()): (n, i, j, mirrored)
        for n, image in enumerate(padded)
        for i in range(5)
        for j in range(5)
        for mirrored, flipped in enumerate((image[:, i : i + 8, j : j + 8], image[:, i : i + 8, j : j + 8].flip(2)))
    }
    found = [versions[tuple(p.flatten().tolist())] for p in pixels]
    assert sorted(n for n, *_ in found) == list(range(48))
    assert torch.equal(y, data.train_y[[n for n, *_ in found]])
    assert len({(i, j) for _, i, j, _ in found}) > 15
    assert {mirrored for *_, mirrored in found} == {0, 1}


def test_batches_normalise_and_cover_the_epoch():
    batches = ImageBatches(images(), 16, CPU)
    x = torch.cat([x for x, _ in batches.epoch(torch.Generator().manual_seed(1))])
    assert x.shape == (48, 3, 8, 8)
    assert x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)
    assert next(batches.validation())[0].shape == (16, 3, 8, 8)


def test_validation_images_are_never_augmented():
    data = images(crop_padding=2, flip=True)
    (x, y), *rest = make_batches(data, 16, CPU).validation()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (data.mean, data.std))
    torch.testing.assert_close(x, (data.val_x / 255 - mean) / std)
    assert torch.equal(y, data.val_y)
    assert not rest


@pytest.mark.parametrize(("batch_size", "expected"), [(8, 8), (1000, 48)])
def test_a_batch_is_never_larger_than_the_data(batch_size, expected):
    batches = ImageBatches(images(), batch_size, CPU)
    assert {len(y) for _, y in batches.epoch(torch.Generator())} == {expected}
    assert len(batches) == 48 // expected


@pytest.mark.parametrize(("length", "batch_size"), [(1000, 4), (257, 4), (130, 8), (40, 3)])
def test_texts_are_pieces_and_the_bytes_after_them(length, batch_size):
    text = bytes(i % 251 for i in range(length))
    data = split_text(text * 2, 0.5, 16, "a text")
    batches = TextBatches(data, batch_size, CPU)
    generator = torch.Generator().manual_seed(2)
    for _ in range(20):
        pieces = list(batches.epoch(generator))
        assert len(pieces) == len(batches)
        x, y = (torch.cat(part) for part in zip(*pieces, strict=True))
        assert torch.equal(x[:, 1:], y[:, :-1])
        assert torch.equal((x + 1) % 251, y)
        assert len(x.unique(dim=0)) == len(x)  # each piece once


def test_an_epoch_of_text_starts_at_a_random_place():
    data = split_text(bytes(range(256)), 0.5, 16, "a text")
    generator = torch.Generator().manual_seed(2)
    firsts = {int(x.min()) for _ in range(40) for x, _ in TextBatches(data, 7, CPU).epoch(generator)}
    assert len(firsts) > 8


def test_validation_text_is_read_in_order():
    data = split_text(bytes(range(256)), 0.5, 10, "a text")
    x = torch.cat([x for x, _ in TextBatches(data, 4, CPU).validation()])
    assert x.flatten().tolist() == list(range(128, 248))
