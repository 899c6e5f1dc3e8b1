"""Scalings of rotary frequencies, by which a model reads further than it was trained.

f_i = base^(-2i / d) are the frequencies of the pairs i = 0 ... d / 2 - 1, L0 the length that the model was trained on,
s = L / L0 the factor by which it is to read further. Every scaling is a frozen record with ``frequencies`` and with
``attention_scale``, by which cos and sin are multiplied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def plain_frequencies(dim: int, base: float, device: torch.device) -> Float[Tensor, " pairs"]:
    """base^(-2i / dim), float64 (dim / 2,): Su et al. 2021 (arXiv 2104.09864), section 3.2.2."""
    pair = torch.arange(dim // 2, dtype=torch.float64, device=device)
    return base ** (-2 * pair / dim)


class RopeScaling(Protocol):
    """What a scaling must have. ``dim`` is the number of rotated channels."""

    @property
    def needs_length(self) -> bool:
        """Whether frequencies depend on the length of what is being read."""
        ...

    @property
    def attention_scale(self) -> float: ...

    def frequencies(self, dim: int, base: float, length: Tensor) -> Float[Tensor, " pairs"]:
        """Float64 (dim / 2,), in radians a position, on the device of ``length`` (int64, 0-dim, tokens)."""
        ...


@dataclass(frozen=True)
class _Fixed:
    """Frequencies that do not depend on the length, cos and sin of length 1."""

    needs_length: ClassVar[bool] = False

    @property
    def attention_scale(self) -> float:
        return 1.0


@dataclass(frozen=True)
class NoScaling(_Fixed):
    """f."""

    def frequencies(self, dim: int, base: float, length: Tensor) -> Float[Tensor, " pairs"]:
        return plain_frequencies(dim, base, length.device)


@dataclass(frozen=True)
class LinearScaling(_Fixed):
    """f / s, position interpolation: Chen et al. 2023 (arXiv 2306.15595), equation 4.

    Attributes:
        factor: s >= 1.
    """

    factor: float

    def __post_init__(self) -> None:
        at_least("factor", self.factor, 1)

    def frequencies(self, dim: int, base: float, length: Tensor) -> Float[Tensor, " pairs"]:
        return plain_frequencies(dim, base, length.device) / self.factor


@dataclass(frozen=True)
class NTKScaling(_Fixed):
    """The base becomes base * alpha^(d / (d - 2)), "NTK-aware": Peng et al. 2023 (arXiv 2309.00071), equation 16.

    The highest frequency stays, the lowest becomes f / alpha.

    Attributes:
        alpha: at least 1; needs 4 rotated channels.
    """

    alpha: float

    def __post_init__(self) -> None:
        at_least("alpha", self.alpha, 1)

    def frequencies(self, dim: int, base: float, length: Tensor) -> Float[Tensor, " pairs"]:
        return _stretch(dim, base, torch.full_like(length, self.alpha, dtype=torch.float64))


@dataclass(frozen=True)
class DynamicNTKScaling:
    """NTK with alpha = s L / L0 - (s - 1), L the length so far, at least L0.

    "Dynamic NTK" of the same paper, with the factor s that common implementations add; s = 1 is the paper's.

    Attributes:
        factor: s >= 1.
        original_length: L0, tokens.
    """

    factor: float
    original_length: int

    needs_length: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least("factor", self.factor, 1)
        at_least("original_length", self.original_length, 1)

    @property
    def attention_scale(self) -> float:
        return 1.0

    def frequencies(self, dim: int, base: float, length: Tensor) -> Float[Tensor, " pairs"]:
        ratio = length.clamp(min=self.original_length).double() / self.original_length
        return _stretch(dim, base, self.factor * ratio - (self.factor - 1))


@dataclass(frozen=True)
class YaRNScaling:
    """f (1 - r) + (f / s) r, with a ramp r: Peng et al. 2023 (arXiv 2309.00071), section 3, as in the authors' code.

    The paper's ramp is linear in the turns of a pair, the code's in its number:
    r = clip((i - lo) / (hi - lo), 0, 1); lo and hi are the pairs that turn ``beta_fast`` and ``beta_slow`` times in the
    original length, d ln(L0 / (2 pi beta)) / (2 ln base).

    Attributes:
        factor: s >= 1.
        original_length: L0, tokens.
        beta_fast, beta_slow: turns.
        truncate: whether lo and hi are rounded to whole pairs, outwards. The paper's code does, gpt-oss does not.
        scale: of cos and sin; None for the paper's 0.1 ln s + 1 (its equation 22).
    """

    factor: float
    original_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    scale: float | None = None

    needs_length: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least("factor", self.factor, 1)
        at_least("original_length", self.original_length, 1)
        _check_scale(self.scale)
        if not self.beta_fast > self.beta_slow > 0:
            raise ValueError(
                f"beta_fast > beta_slow > 0 turns bound the ramp, got {self.beta_fast} and {self.beta_slow}; the paper "
                "takes 32 and 1"
            )

    @property
    def attention_scale(self) -> float:
        return 0.1 * math.log(self.factor) + 1 if self.scale is None else self.scale

    def frequencies(self, dim: int, base: float, length: Tensor) -> Float[Tensor, " pairs"]:
        low, high = self.ramp(dim, base)
        f = plain_frequencies(dim, base, length.device)
        pair = torch.arange(dim // 2, dtype=torch.float64, device=length.device)
        r = ((pair - low) / (high - low)).clamp(0, 1)
        return f * (1 - r) + f / self.factor * r

    def ramp(self, dim: int, base: float) -> tuple[float, float]:
        """lo and hi, within the channels' numbers."""
        low, high = (
            dim * math.log(self.original_length / (2 * math.pi * beta)) / (2 * math.log(base))
            for beta in (self.beta_fast, self.beta_slow)
        )
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        return low, high if high > low else low + 0.001


@dataclass(frozen=True)
class Llama3Scaling(_Fixed):
    """By wavelength w = 2 pi / f: f / s for long waves, f for short ones, in between a mixture (Llama 3.1's code).

    w > L0 / low: f / s. w < L0 / high: f. Else ((1 - m) / s + m) f with m = (L0 / w - low) / (high - low).

    Attributes:
        factor: s >= 1.
        low, high: waves in the original length.
        original_length: L0, tokens.
    """

    factor: float = 8.0
    low: float = 1.0
    high: float = 4.0
    original_length: int = 8192

    def __post_init__(self) -> None:
        at_least("factor", self.factor, 1)
        at_least("original_length", self.original_length, 1)
        if not self.high > self.low > 0:
            raise ValueError(f"high > low > 0 waves bound the mixture, got {self.high} and {self.low}; Llama: 4 and 1")

    def frequencies(self, dim: int, base: float, length: Tensor) -> Float[Tensor, " pairs"]:
        f = plain_frequencies(dim, base, length.device)
        waves = self.original_length * f / (2 * math.pi)
        m = ((waves - self.low) / (self.high - self.low)).clamp(0, 1)
        return ((1 - m) / self.factor + m) * f


@dataclass(frozen=True)
class LongRoPEScaling:
    """f / e_i, with factors e for each pair from a search: Ding et al. 2024 (arXiv 2402.13753), equation 4.

    Up to L0 tokens the ``short`` factors are used, beyond them the ``long`` ones.

    Attributes:
        short, long: one factor > 0 a pair.
        original_length: L0, tokens.
        factor: s >= 1; only for the scale.
        scale: of cos and sin; None for sqrt(1 + ln s / ln L0).
    """

    short: Sequence[float]
    long: Sequence[float]
    original_length: int
    factor: float = 1.0
    scale: float | None = None

    needs_length: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least("factor", self.factor, 1)
        at_least("original_length", self.original_length, 2)
        _check_scale(self.scale)
        for name in ("short", "long"):
            factors = tuple(float(value) for value in getattr(self, name))
            if not all(math.isfinite(value) and value > 0 for value in factors):
                raise ValueError(f"{name} holds positive factors, got {factors}; 1 leaves a frequency as it is")
            object.__setattr__(self, name, factors)

    @property
    def attention_scale(self) -> float:
        if self.scale is not None:
            return self.scale
        return math.sqrt(1 + math.log(self.factor) / math.log(self.original_length))

    def frequencies(self, dim: int, base: float, length: Tensor) -> Float[Tensor, " pairs"]:
        for name in ("short", "long"):
            if len(getattr(self, name)) != dim // 2:
                raise ValueError(
                    f"{name} has one factor for each of {dim // 2} pairs of rotated channels, got "
                    f"{len(getattr(self, name))}; give {dim // 2}, or change rotary_dim"
                )
        short, long = (
            torch.tensor(factors, dtype=torch.float64, device=length.device) for factors in (self.short, self.long)
        )
        f = plain_frequencies(dim, base, length.device)
        return f / torch.where(length > self.original_length, long, short)


def at_least(name: str, value: float, least: float) -> None:
    """Raises ValueError unless ``value`` is a finite number from ``least``."""
    if not (math.isfinite(value) and value >= least):
        raise ValueError(f"{name} is a finite number from {least}, got {value}")


def _check_scale(scale: float | None) -> None:
    if scale is not None and not 0 < scale < math.inf:
        raise ValueError(f"scale is a positive number, got {scale}; None computes the usual one")


def _stretch(dim: int, base: float, alpha: Tensor) -> Float[Tensor, " pairs"]:
    """base'^(-2i / dim) for base' = base * alpha^(dim / (dim - 2))."""
    if dim < 4:
        raise ValueError(f"NTK scaling needs 4 rotated channels, got {dim}; use LinearScaling")
    pair = torch.arange(dim // 2, dtype=torch.float64, device=alpha.device)
    return plain_frequencies(dim, base, alpha.device) * alpha ** (-2 * pair / (dim - 2))
