"""What one batch tells about a network before it is trained: do signal and gradient get through?

Mean-field theory asks that neither vanish nor explode with depth (Schoenholz et al. 2017, arXiv 1611.01232). Here they
are measured in the very network that would be trained, at the cost of one step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainers.batches import Batch
from trainers.network import Network

LIMITS = (1e-6, 1e6)
"""A root mean square outside is taken for vanished or exploded. Wide on purpose: a screen must not lose what would
train."""


@dataclass(frozen=True)
class Signals:
    """One batch at initialisation.

    Attributes:
        loss: mean cross-entropy, nats.
        logits_spread: root mean square over the batch of the logits less their mean over the batch: what is left of the
            differences between inputs.
        first_gradient: root mean square of the loss's gradient in the first weight with two or more dimensions.
        last_gradient: the same in the last one.
        gradient_norm: length of the whole gradient.
    """

    loss: float
    logits_spread: float
    first_gradient: float
    last_gradient: float
    gradient_norm: float


def signals(network: Network, batch: Batch) -> Signals:
    """Forward and backward pass on one batch, in training mode; weights, statistics and gradients stay as they were."""
    model = network.model
    saved = model.state_dict().keys()  # running statistics; tables are no part of it
    buffers = [(buffer, buffer.clone()) for name, buffer in model.named_buffers() if name in saved]
    model.train()
    loss, logits = network.loss(*batch)
    weights = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
        found = {p: g for p, g in zip(weights, gradients, strict=True) if g is not None}
        matrices = [found[p] for p in weights if p.dim() >= 2 and p in found]
        norm = nn.utils.get_total_norm(list(found.values()))
        return Signals(
            loss=loss.item(),
            logits_spread=_rms(logits - logits.mean(0)),
            first_gradient=_rms(matrices[0]) if matrices else 0.0,
            last_gradient=_rms(matrices[-1]) if matrices else 0.0,
            gradient_norm=norm.item(),
        )


def fault(found: Signals) -> str | None:
    """Why a network with these signals is not worth a training; None if it is."""
    values: dict[str, Any] = {
        "the loss": found.loss,
        "the logits' spread over the batch": found.logits_spread,
        "the gradient in the first layer": found.first_gradient,
        "the gradient in the last layer": found.last_gradient,
    }
    for what, value in values.items():
        if not math.isfinite(value):
            return f"at initialisation {what} is {value}"
        if what != "the loss" and not LIMITS[0] <= value <= LIMITS[1]:
            happened = "vanishes" if value < LIMITS[0] else "explodes"
            return f"at initialisation {what} {happened} (root mean square {value:.1e})"
    return None


def _rms(x: Tensor) -> float:
    return x.float().square().mean().sqrt().item()
