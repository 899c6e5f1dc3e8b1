"""What a function costs: the time of its forward and backward pass, relative to ReLU's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from search_spaces.compile import ExpressionActivation
from search_spaces.expression import Expression


def relative_cost(expression: Expression, rounds: int = 9) -> float:
    """Time of forward and backward, eager float32 on (64, 16, 32, 32), divided by nn.ReLU's in alternating rounds.

    That is a million values on the CPU, at about 5 ms a round and operator.
    """
    x = torch.randn(64, 16, 32, 32, requires_grad=True)
    act = ExpressionActivation(expression)
    ratios = []
    for step in range(rounds + 2):
        ours, relu = _seconds(act, x), _seconds(nn.ReLU(), x)
        if step >= 2:
            ratios.append(ours / relu)
    return statistics.median(ratios)


def _seconds(act: Callable[[Tensor], Tensor], x: Tensor) -> float:
    start = time.perf_counter()
    y = act(x)
    if y.requires_grad:
        torch.autograd.grad(y, x, torch.ones_like(y), allow_unused=True)
    return time.perf_counter() - start
