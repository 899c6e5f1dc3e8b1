"""Rotations as matrices in float64, with angles from 60-digit arithmetic."""

from __future__ import annotations

import functools
import math

import mpmath
import numpy as np
import torch

LAYOUTS = ("half", "interleaved")


@functools.cache
def turns(dim, base):
    """base^(-2i / dim) / (2 pi), to 60 digits."""
    with mpmath.workdps(60):
        return [mpmath.mpf(base) ** (mpmath.mpf(-2 * i) / dim) / (2 * mpmath.pi) for i in range(dim // 2)]


def angles(positions, dim, base=10_000.0):
    """Position times frequency, less whole turns: float64 (T, pairs), right to 1e-15."""
    with mpmath.workdps(60):
        return np.array([[2 * math.pi * float(int(m) * t % 1) for t in turns(dim, base)] for m in positions])


def pairs(dim, layout):
    return [(i, i + dim // 2) if layout == "half" else (2 * i, 2 * i + 1) for i in range(dim // 2)]


def rotated(x, angle, layout):
    """Every token's channels times its rotation matrix, in float64."""
    out = np.empty(x.shape)
    for t in range(x.shape[-2]):
        matrix = np.eye(x.shape[-1])
        for (a, b), theta in zip(pairs(2 * angle.shape[1], layout), angle[t], strict=True):
            matrix[a, a] = matrix[b, b] = math.cos(theta)
            matrix[a, b], matrix[b, a] = -math.sin(theta), math.sin(theta)
        out[..., t, :] = x[..., t, :].double().numpy() @ matrix.T
    return torch.from_numpy(out)


def drawn(*shape, dtype=torch.float64):
    torch.manual_seed(0)
    return torch.randn(*shape, dtype=torch.float64).to(dtype)


def assert_near(found, expected, atol):
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=atol)
