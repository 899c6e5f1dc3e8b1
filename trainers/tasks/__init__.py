"""Tasks that models of text are compared on, one decorated file each.

A task is trained at one length and tested at any. Its texts are int64 tokens (N, T) with targets (N, T): what the model
is to say at each position, and -100 where it is asked nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, Protocol

import torch
from torch import Tensor

from search_spaces.registry import Registry

Texts = tuple[Tensor, Tensor]
NOT_ASKED = -100
"""The target that torch's cross-entropy leaves out."""


class TaskError(ValueError):
    """A task that cannot be set as asked."""


Metric = Literal["exact", "bpb"]


class Task(Protocol):
    """What a comparison reads.

    Attributes:
        vocabulary: tokens are 0 .. vocabulary - 1.
        length: tokens of a training text.
        metric: ``exact``, the fraction of texts with every answer right, or ``bpb``, bits an answer.
    """

    vocabulary: int
    length: int
    metric: Metric

    def texts(self, count: int, generator: torch.Generator) -> Texts:
        """Training texts, (count, length) each."""
        ...

    def tests(self, length: int, count: int) -> Iterator[Texts]:
        """``count`` test texts of a length, the same at every call, in batches."""
        ...


tasks: Registry[Callable[..., Task]] = Registry("task", "trainers.tasks")
TOKENS_AT_ONCE = 16_384
"""Tokens of a batch of test texts."""
