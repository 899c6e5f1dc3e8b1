"""Positions other than rotary ones: added to embeddings, or to the scores of attention.

Added to embeddings: :class:`SinusoidalPositions` and :class:`LearnedPositions`. Added to scores, by the distance from
key to query: :class:`AlibiBias` and :class:`RelativeBias`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nas.modules.phases import Phases
from nas.modules.rope_scaling import plain_frequencies

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class SinusoidalPositions(nn.Module):
    """x + P with P[m, 2i] = sin(m f_i), P[m, 2i + 1] = cos(m f_i), f_i = 10000^(-2i / dim).

    Vaswani et al. 2017 (arXiv 1706.03762), section 3.5. Angles are exact far out, too (:mod:`nas.modules.phases`).
    P is computed in float32 and cast to the dtype of x.

    Args:
        dim: channels, even.
        base: of the geometric series of frequencies.
    """

    def __init__(self, dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        if dim % 2 or dim < 2:
            raise ValueError(f"sine and cosine come in pairs, so dim is even, got {dim}; take {max(2, dim // 2 * 2)}")
        if not 1 < base < float("inf"):
            raise ValueError(f"base is a finite number above 1, got {base}; the paper takes 10,000")
        self.dim = dim
        self.phases = Phases(plain_frequencies(dim, base, torch.device("cpu")))

    def forward(self, x: Float[Tensor, "batch tokens dim"], offset: int = 0) -> Float[Tensor, "batch tokens dim"]:
        """Add the positions ``offset``, ``offset`` + 1, ... Raises ValueError for another number of channels."""
        check_channels("SinusoidalPositions", x, self.dim)
        positions = torch.arange(offset, offset + x.shape[1], device=x.device)
        cos, sin = self.phases(positions, torch.promote_types(x.dtype, torch.float32))
        return x + torch.stack((sin, cos), -1).flatten(-2).to(x.dtype)


class LearnedPositions(nn.Module):
    """x + P with a learned vector for each position, as in GPT-2 (Radford et al. 2019).

    Args:
        length: most tokens.
        dim: channels.
    """

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.randn(length, dim) * 0.02)

    def forward(self, x: Float[Tensor, "batch tokens dim"], offset: int = 0) -> Float[Tensor, "batch tokens dim"]:
        """Add the positions ``offset``, ``offset`` + 1, ...

        Raises:
            ValueError: another number of channels, or a position that has no vector.
        """
        check_channels("LearnedPositions", x, self.dim)
        end = offset + x.shape[1]
        if offset < 0 or end > len(self.weight):
            raise ValueError(
                f"there are learned positions for {len(self.weight)} tokens, got positions {offset} to {end - 1}; "
                "shorten the text, or make more positions before training"
            )
        return x + self.weight[offset:end].to(x.dtype)


class AlibiBias(nn.Module):
    """-m_h * distance, with a fixed slope m_h for each head: Press et al. 2022 (arXiv 2108.12409), section 3.

    For a power of two of heads the slopes are 2^(-8 (h + 1) / heads). Else they are those of the next smaller power of
    two, followed by every second one of twice that power, as in the authors' code.

    Args:
        heads: query heads.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        if heads < 1:
            raise ValueError(f"heads is at least 1, got {heads}")
        self.heads = heads

    def forward(self, distance: Int[Tensor, "queries keys"]) -> Float[Tensor, "heads queries keys"]:
        """Bias of the scores, float32; ``distance`` counts the tokens from key to query."""
        return -self.slopes(distance.device)[:, None, None] * distance

    def slopes(self, device: torch.device | None = None) -> Float[Tensor, " heads"]:
        """m_h."""
        power = 2 ** (self.heads.bit_length() - 1)
        first = torch.arange(1, power + 1, dtype=torch.float32, device=device) * (-8 / power)
        second = torch.arange(1, 2 * (self.heads - power) + 1, 2, dtype=torch.float32, device=device) * (-4 / power)
        return torch.cat((first, second)).exp2()


class RelativeBias(nn.Module):
    """A learned bias for each head and bucket of distances: Raffel et al. 2020, "T5" (arXiv 1910.10683), section 2.1.

    Half of the buckets are the distances 0, 1, 2, ..., the others grow by a constant factor up to ``max_distance``, and
    everything further away is in the last one.

    Args:
        heads: query heads.
        buckets: number of buckets, even.
        max_distance: tokens.
    """

    def __init__(self, heads: int, buckets: int = 32, max_distance: int = 128) -> None:
        super().__init__()
        if buckets % 2 or buckets < 2 or max_distance <= buckets // 2:
            raise ValueError(
                f"buckets is even and max_distance above buckets / 2, got {buckets} and {max_distance}; T5 takes 32 "
                "and 128"
            )
        self.buckets = buckets
        self.max_distance = max_distance
        # Bucket exact + i starts at distance exact * (max_distance / exact)^(i / exact); whole numbers compare exactly.
        exact = buckets // 2
        self.starts: list[int] = [
            next(d for d in range(exact, max_distance + 1) if d**exact >= exact ** (exact - i) * max_distance**i)
            for i in range(exact)
        ]
        self.weight = nn.Parameter(torch.zeros(buckets, heads))

    def forward(self, distance: Int[Tensor, "queries keys"]) -> Float[Tensor, "heads queries keys"]:
        """Bias of the scores; ``distance`` counts the tokens from key to query, and keys ahead count as distance 0."""
        table = self.weight[self.bucket(torch.arange(self.max_distance + 1, device=distance.device))]
        return table[distance.clamp(0, self.max_distance)].permute(2, 0, 1)

    def bucket(self, distance: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        """Number of a distance's bucket, 0 to ``buckets`` - 1; 0 for keys ahead."""
        far = torch.stack([distance >= start for start in self.starts]).sum(0)
        return distance.clamp(0, len(self.starts) - 1) + far


def check_channels(name: str, x: Tensor, dim: int) -> None:
    """Raises ValueError unless x is (batch, tokens, dim)."""
    if x.dim() != 3 or x.shape[-1] != dim:
        raise ValueError(f"{name} takes (batch, tokens, {dim}), got {tuple(x.shape)}")
