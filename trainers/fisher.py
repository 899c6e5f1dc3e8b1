"""The spectrum of a network's Fisher information at initialisation: what can be known of a function before a training.

F is the covariance of the gradient of log p(y|x) with labels y drawn from the network's own predictions. For each layer
it is taken as a Kronecker product A x G (K-FAC: Martens and Grosse 2015, arXiv 1503.05671; convolutions: Grosse and
Martens 2016, arXiv 1602.01407), A the second moment of the layer's inputs, with a 1 for the bias, and G that of the
gradients of its outputs; its eigenvalues are all products of one of A and one of G. Bingham and Miikkulainen 2023
(arXiv 2301.05785) predict the quality of activation functions from them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from trainers.network import build_model
from trainers.run import load_data, resident_batches
from trainers.trial import Trial

QUANTILES = 32
_SMALLEST = 1e-12  # eigenvalues below it are rounding
_HOPELESS = 12.0  # log10, in place of a spectrum that overflows
_EXAMPLES = 256


def trial_spectrum(trial: Trial) -> NDArray[np.float64]:
    """The spectrum of a trial's network with its seed's weights, on one of its batches; shape (32,).

    It is computed in float32 on the CPU and is the same at every call.
    """
    device = torch.device("cpu")
    data = trial.data.to_json()
    batches = resident_batches(data, min(trial.recipe.batch_size, _EXAMPLES), device)
    x, _ = next(iter(batches.epoch(torch.Generator().manual_seed(trial.seed))))
    model = build_model(replace(trial, precision="fp32"), load_data(data))
    return spectrum(model, x, trial.seed)


def spectrum(model: nn.Module, x: Tensor, seed: int = 0) -> NDArray[np.float64]:
    """Quantiles of log10 of the eigenvalues of all layers' blocks, rising; shape (32,).

    Args:
        model: logits (N, ..., classes) for inputs x, in training mode afterwards.
        x: a batch, (N, ...).
        seed: of the labels that are drawn from the predictions.
    """
    logs = []
    for inputs, gradients in kronecker_factors(model, x, seed):
        if not (inputs.isfinite().all() and gradients.isfinite().all()):
            return np.full(QUANTILES, _HOPELESS)
        a, g = (torch.linalg.eigvalsh(factor.double()).clamp_min(_SMALLEST).log10() for factor in (inputs, gradients))
        logs.append((a[:, None] + g[None, :]).flatten().numpy())
    pooled = np.concatenate(logs).clip(2 * np.log10(_SMALLEST), _HOPELESS)
    return np.quantile(pooled, np.linspace(0, 1, QUANTILES))


def kronecker_factors(model: nn.Module, x: Tensor, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """(A, G) of every convolution (of one group) and linear layer, in the order of the forward pass.

    A has shape (d_in + bias, d_in + bias), with d_in = channels * kernel height * kernel width for a convolution, and
    sums over positions; G has shape (d_out, d_out) and is a mean over them. Both are means over the N examples. A
    layer that is used several times counts with every use. Weights and their gradients stay as they were; the running
    statistics of batch norms move.
    """
    uses: list[tuple[nn.Module, Tensor, Tensor]] = []

    def remember(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        uses.append((module, args[0].detach().clone(), output))
        return output.clone()  # what follows may work in place

    layers = [m for m in model.modules() if isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.groups == 1)]
    hooks = [layer.register_forward_hook(remember) for layer in layers]
    try:
        logits = model.train()(x).flatten(0, -2)
    finally:
        for hook in hooks:
            hook.remove()
    probabilities = torch.nan_to_num(logits.detach().softmax(-1), nan=1 / logits.shape[-1])
    drawn = torch.multinomial(probabilities, 1, generator=torch.Generator().manual_seed(seed))[:, 0]
    loss = F.cross_entropy(logits, drawn, reduction="sum")
    gradients = torch.autograd.grad(loss, [output for *_, output in uses], allow_unused=True)
    return [
        _factors(layer, inputs, torch.zeros_like(output) if gradient is None else gradient, len(x))
        for (layer, inputs, output), gradient in zip(uses, gradients, strict=True)
    ]


def _factors(layer: nn.Module, inputs: Tensor, gradient: Tensor, n: int) -> tuple[Tensor, Tensor]:
    if isinstance(layer, nn.Conv2d):
        rows = F.unfold(inputs, layer.kernel_size, layer.dilation, _padding(layer), layer.stride).transpose(1, 2)
        rows, outputs = rows.flatten(0, 1), gradient.flatten(2).transpose(1, 2).flatten(0, 1)
    else:
        rows, outputs = inputs.flatten(0, -2), gradient.flatten(0, -2)
    if getattr(layer, "bias", None) is not None:
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
    return rows.T @ rows / n, outputs.T @ outputs / len(outputs)


def _padding(layer: nn.Conv2d) -> tuple[int, ...]:
    if isinstance(layer.padding, str):
        raise ValueError(f"a convolution's padding is given in numbers, got {layer.padding!r}")
    return tuple(map(int, layer.padding))
