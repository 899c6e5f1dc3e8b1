"""Tasks: what a text asks, that it asks the same again, and that tests of any length ask the same questions."""

from __future__ import annotations

import math
import sys

import pytest
import torch

from trainers.comparison import measure
from trainers.data import datasets
from trainers.tasks import NOT_ASKED, TaskError, tasks

KEY, ASK = 10, 11


def passkey(**options):
    return tasks.get("passkey")(**{"length": 40, "gap": 12, "digits": 3, "noise": 2} | options)


def read(tokens):
    """Where the key stands and its digits, found by looking for the marker."""
    place = tokens.index(KEY)
    return place, tokens[place + 1 : place + 4]


@pytest.mark.parametrize("length", [40, 90])
def test_a_passkey_is_asked_for_after_the_gap(length):
    task = passkey()
    places = set()
    for tokens, targets in task.tests(length, 300):
        for text, answers in zip(tokens.tolist(), targets.tolist(), strict=True):
            place, digits = read(text)
            asked = text.index(ASK)
            assert text.count(KEY) == text.count(ASK) == 1
            assert asked == length - 3
            assert asked - (place + 3) > 12  # the gap lies between the last digit and the question
            assert text[asked + 1 :] == digits[:-1]  # right digits are given, the last one is an answer alone
            assert answers == [NOT_ASKED] * asked + digits
            others = text[:place] + text[place + 4 : asked]
            assert set(others) <= {12, 13}
            assert all(
                token == 12 + (text[0] - 12 + i) % 2 for i, token in enumerate(text[:place])
            )  # a sentence of two
            places.add(place)
    assert min(places) == 0
    assert max(places) == length - 3 - 12 - 3 - 1


def test_training_texts_follow_the_generator_and_tests_are_always_the_same():
    task = passkey()
    first, again, other = (task.texts(4, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    one, two = (torch.cat([tokens for tokens, _ in task.tests(50, 20)]) for _ in "ab")
    assert torch.equal(one, two)
    assert one.shape == (20, 50)


def test_a_passkey_needs_room():
    with pytest.raises(TaskError, match="gap 40 and 3 digits, twice, need 47 tokens, got length 40"):
        passkey(gap=40)
    with pytest.raises(TaskError, match="got length 12"):
        next(passkey().tests(12, 1))


def text_task(length=64):
    return tasks.get("text")(data={"name": "pydoc"}, length=length)


def test_longer_tests_ask_for_the_same_bytes_with_more_before_them():
    task = text_task()
    short, long = (list(task.tests(length, 50)) for length in (64, 256))
    asked = {}
    for name, batches in (("short", short), ("long", long)):
        tokens, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert ((targets != NOT_ASKED).sum(1) == 64).all()
        assert (targets[:, :-64] == NOT_ASKED).all()
        assert torch.equal(tokens[:, 1:][:, -63:], targets[:, -64:-1])  # the target is the next byte
        asked[name] = targets[:, -64:]
    assert torch.equal(asked["short"], asked["long"])
    held_out = bytes(datasets.get("pydoc")(context=64).val.tolist())
    assert all(bytes(row.tolist()) in held_out for row in asked["short"])


def test_training_texts_come_from_the_training_part():
    task = text_task()
    train = bytes(datasets.get("pydoc")(context=64).train.tolist())
    tokens, targets = task.texts(20, torch.Generator().manual_seed(0))
    for text, target in zip(tokens.tolist(), targets.tolist(), strict=True):
        assert bytes([*text, target[-1]]) in train
        assert text[1:] == target[:-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": {"name": "digits"}}, "a data set of text, got 'digits'"),
        ({"data": {"name": "pydocs"}}, "did you mean 'pydoc'"),
        ({"data": {"name": "pydoc", "rot": 1}}, "has no option 'rot'"),
        ({"data": {"name": "pydoc", "context": 7}}, "set task.length instead"),
        ({"data": {}}, "unknown data set"),
    ],
)
def test_other_data_is_refused(options, message):
    with pytest.raises(TaskError, match=message):
        tasks.get("text")(**options)


@pytest.mark.parametrize("length", [32, 64 * 33, sys.maxsize])
def test_tests_shorter_than_training_or_longer_than_32_times_it_are_refused(length):
    with pytest.raises(TaskError, match="tests have 64 to 2048 bytes"):
        next(text_task().tests(length, 1))


def test_exact_needs_every_answer_and_bpb_counts_asked_bytes_alone():
    targets = torch.tensor([[NOT_ASKED, 1, 2], [NOT_ASKED, 1, 2], [NOT_ASKED, 1, 2]])
    said = torch.tensor([[0, 1, 2], [3, 1, 2], [0, 1, 0]])
    logits = torch.nn.functional.one_hot(said, 4).float() * 50
    assert measure(logits, targets, "exact").tolist() == [1, 1, 0]
    uniform = torch.zeros(3, 3, 4)
    torch.testing.assert_close(measure(uniform, targets, "bpb"), torch.full((3,), math.log2(4), dtype=torch.float64))
