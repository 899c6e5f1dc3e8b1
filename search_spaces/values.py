"""Values and slopes of many expressions at once, in float64: what decides which expressions are the same function.

Equal subexpressions of a batch are one row and are computed once; rows with the same operator are computed together.
The slope f' goes forward by the chain rule, with the partial derivatives of each operator from autograd.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from threadpoolctl import threadpool_limits
from torch import Tensor

from search_spaces.expression import Call, Const, Expression, Param, Var, walk
from search_spaces.operators import OPERATORS

CORE_POINTS = 512
_TAIL_POINTS = 32
_BLOCK = 256  # rows computed together: one block of a few operands stays in the cache

CORE: NDArray[np.float64] = stats.norm.ppf((np.arange(CORE_POINTS) + 0.5) / CORE_POINTS)
"""The midpoint quantiles of N(0,1), shape (512,): symmetric, up to ±3.1, without 0, where sinc and 1/x are special."""
_TAIL = np.linspace(3.25, 7.93, _TAIL_POINTS)
GRID: NDArray[np.float64] = np.concatenate([-_TAIL[::-1], CORE, _TAIL])
"""The core and both tails, up to ±7.93, rising and symmetric; shape (576,)."""
CORE_SLICE = slice(_TAIL_POINTS, _TAIL_POINTS + CORE_POINTS)


def param_value(name: str) -> float:
    """A generic value in [0.5, 1.8) for a learnable parameter: families that agree at these agree everywhere."""
    number = int(name.lstrip("alphbetgmd") or 1) + 200 * ("alpha", "gamma", "delta").count(name.rstrip("0123456789"))
    return 0.5 + 1.3 * (number * 0.6180339887498949 % 1.0)


def values_and_slopes(
    expressions: Sequence[Expression], x: NDArray[np.float64] = GRID, parameters: Mapping[str, float] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """f and f' of every expression of the single input ``x``; two arrays of shape (len(expressions), len(x)).

    A slope that is multiplied by an exact 0 counts as 0, so that sqrt(x + abs(x)) has slope 0 for x < 0. Learnable
    parameters get :func:`param_value`, or what ``parameters`` says.
    """
    rows: dict[Expression, int] = {}
    for expression in expressions:
        for node in walk(expression):
            if node not in rows:
                rows[node] = len(rows)
    points = torch.from_numpy(np.ascontiguousarray(x))
    values = torch.empty(len(rows), len(x), dtype=torch.float64)
    slopes = torch.zeros_like(values)
    for node, row in rows.items():
        match node:
            case Var():
                values[row], slopes[row] = points, 1.0
            case Const(value):
                values[row] = value
            case Param(name):
                values[row] = param_value(name) if parameters is None else parameters[name]
    for op, targets, operands in _schedule(rows):
        _apply(op, values, slopes, targets, operands)
    wanted = torch.tensor([rows[expression] for expression in expressions], dtype=torch.int64)
    return values[wanted].numpy(), slopes[wanted].numpy()


def _schedule(rows: Mapping[Expression, int]) -> Iterator[tuple[str, Tensor, list[Tensor]]]:
    """(operator, rows to compute, rows of each operand), operands before the operators that use them."""
    level: dict[Expression, int] = {}
    groups: dict[tuple[int, str], list[tuple[int, ...]]] = defaultdict(list)
    for node, row in rows.items():  # walk() lists operands first
        if isinstance(node, Call):
            level[node] = 1 + max(level[arg] for arg in node.args)
            groups[level[node], node.op].append((row, *(rows[arg] for arg in node.args)))
        else:
            level[node] = 0
    for (_, op), entries in sorted(groups.items()):
        for start in range(0, len(entries), _BLOCK):
            targets, *operands = torch.tensor(entries[start : start + _BLOCK], dtype=torch.int64).unbind(1)
            yield op, targets, operands


def _apply(op: str, values: Tensor, slopes: Tensor, targets: Tensor, operands: list[Tensor]) -> None:
    inputs = [values[operand].requires_grad_() for operand in operands]
    with torch.enable_grad():
        output = OPERATORS[op].torch(*inputs)
    partials = torch.autograd.grad(output.sum(), inputs)
    values[targets] = output.detach()
    for operand, partial in zip(operands, partials, strict=True):
        inner = slopes[operand]
        slopes[targets] += (partial * inner).masked_fill_(inner == 0, 0.0)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Many small computations, spread over cores that others use, wait for each other more than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def batches(expressions: Iterable[Expression], size: int = 2048) -> Iterator[list[Expression]]:
    """Consecutive lists of at most that many expressions."""
    iterator = iter(expressions)
    while batch := list(islice(iterator, size)):
        yield batch
