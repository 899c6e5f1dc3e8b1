"""Retrieve a number from a long text that says nothing: after Mohtashami, Jaggi 2023 (arXiv 2305.16300), section 4.2.

    noise ... KEY d1 d2 ... dk noise ... ASK d1 d2 ... dk

The noise is one sentence, again and again, that begins at any of its tokens. The model is asked for the digits after
ASK, each with the right ones before it. Where the key stands is drawn uniformly from all places with at least ``gap``
tokens between key and ASK. A model that has no memory of them is right by chance, once in 10^k.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import PositiveInt

from trainers.tasks import NOT_ASKED, TOKENS_AT_ONCE, Metric, TaskError, Texts, tasks

_KEY, _ASK, _NOISE = 10, 11, 12  # 0 to 9 are the digits


class Passkey:
    """See :class:`trainers.tasks.Task`."""

    metric: Metric = "exact"

    def __init__(self, length: int, gap: int, digits: int, noise: int) -> None:
        self.length = length
        self.gap = gap
        self.digits = digits
        self.noise = noise
        self.vocabulary = _NOISE + noise
        self._check(length)

    def texts(self, count: int, generator: torch.Generator) -> Texts:
        return self._texts(count, self.length, generator)

    def tests(self, length: int, count: int) -> Iterator[Texts]:
        self._check(length)
        generator = torch.Generator().manual_seed(length)
        for part in torch.arange(count).split(max(1, TOKENS_AT_ONCE // length)):
            yield self._texts(len(part), length, generator)

    def _texts(self, n: int, length: int, generator: torch.Generator) -> Texts:
        ask = length - self.digits  # the last digit is an answer, but no input
        begin = torch.randint(0, self.noise, (n, 1), generator=generator)
        tokens = _NOISE + (begin + torch.arange(length)) % self.noise
        digits = torch.randint(0, 10, (n, self.digits), generator=generator)
        place = torch.randint(0, ask - self.gap - self.digits, (n, 1), generator=generator)
        tokens.scatter_(1, place, _KEY)
        tokens.scatter_(1, place + torch.arange(1, self.digits + 1), digits)
        tokens[:, ask] = _ASK
        tokens[:, ask + 1 :] = digits[:, :-1]
        targets = torch.full_like(tokens, NOT_ASKED)
        targets[:, ask:] = digits
        return tokens, targets

    def _check(self, length: int) -> None:
        least = self.gap + 2 * self.digits + 1
        if length < least:
            raise TaskError(
                f"gap {self.gap} and {self.digits} digits, twice, need {least} tokens, got length {length}; lengthen "
                "the texts or lower task.gap"
            )


@tasks.register("passkey")
def passkey(
    *, length: PositiveInt = 256, gap: PositiveInt = 128, digits: PositiveInt = 3, noise: PositiveInt = 8
) -> Passkey:
    """Options: ``length`` and ``gap`` (tokens), ``digits`` of the key, tokens of the sentence of ``noise``."""
    return Passkey(length, gap, digits, noise)
