"""RMSNorm: x / sqrt(mean(x^2) + eps) * weight: Zhang, Sennrich 2019 (arXiv 1910.07467), equation 4.

LayerNorm is torch's own: ``torch.nn.LayerNorm``.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

NormFactory = Callable[[int], nn.Module]
"""Makes a norm of so many channels: RMSNorm, or torch.nn.LayerNorm."""


class RMSNorm(nn.RMSNorm):
    """torch's, which computes low precisions in float32, with the usual epsilon; its own depends on the dtype.

    Args:
        dim: channels, the input's last dimension.
        eps: added to the mean of squares.
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__(dim, eps=eps)
