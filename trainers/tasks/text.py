"""Predict the next byte of a text, also of texts longer than those trained on.

A test of any length ends with the same bytes and asks for the last ``length`` of them, those of a training text. So
longer tests ask the same questions with more of the text before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor

from trainers.data import Text, datasets
from trainers.tasks import NOT_ASKED, TOKENS_AT_ONCE, Metric, TaskError, Texts, tasks

_LONGEST = 32
"""How many times longer than a training text the longest test may be."""


class NextByte:
    """See :class:`trainers.tasks.Task`."""

    metric: Metric = "bpb"
    vocabulary = 256

    def __init__(self, text: Text) -> None:
        self.text = text
        self.length = text.context

    def texts(self, count: int, generator: torch.Generator) -> Texts:
        starts = torch.randint(0, len(self.text.train) - self.length, (count,), generator=generator)
        return _cut(self.text.train, starts, self.length)

    def tests(self, length: int, count: int) -> Iterator[Texts]:
        val = self.text.val
        first = self.length * _LONGEST
        if not self.length <= length <= first or len(val) <= first + count:
            raise TaskError(
                f"tests have {self.length} to {first} bytes, and the held-out text more than {first + count}; got "
                f"length {length} and {len(val)} bytes; choose other lengths, or a longer text"
            )
        ends = torch.linspace(first, len(val) - 1, count).long()
        for part in ends.split(max(1, TOKENS_AT_ONCE // length)):
            tokens, targets = _cut(val, part - length, length)
            targets[:, : -self.length] = NOT_ASKED
            yield tokens, targets


def _cut(text: Tensor, starts: Tensor, length: int) -> Texts:
    window = text[starts[:, None] + torch.arange(length + 1)].long()
    return window[:, :-1].contiguous(), window[:, 1:].contiguous()


@tasks.register("text")
def text(*, data: dict[str, Any], length: PositiveInt = 128) -> NextByte:
    """Options: ``data`` (a data set of text and its options, such as {name: pydoc}), ``length`` (bytes)."""
    name = str(data.get("name"))
    options, faults = datasets.check(name, {key: value for key, value in data.items() if key != "name"})
    if faults:
        raise TaskError("task.data: " + "; ".join(faults))
    if "context" in data:
        raise TaskError(f"task.data.context is task.length, got {data['context']!r}; set task.length instead")
    if "context" not in signature(datasets.get(name)).parameters:
        raise TaskError(f"task.data is a data set of text, got {name!r}; take pydoc, tiny_shakespeare or text")
    found = datasets.get(name)(**options | {"context": length})
    assert isinstance(found, Text)
    return NextByte(found)
