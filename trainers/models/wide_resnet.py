"""Wide residual networks: Zagoruyko, Komodakis 2016 (arXiv 1605.07146), section 2 and table 1.

WRN-d-k: a 3x3 convolution with 16 channels, three stages of n pre-activation blocks of two 3x3 convolutions with 16k,
32k and 64k channels, BN, activation, global average pooling and a linear layer. Its depth d = 6n + 4 counts the
convolutions, those of the three widening shortcuts included. Dropout goes between a block's two convolutions.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt
from torch import nn

from trainers.models import ActFactory, image_shape, models
from trainers.models.preact_resnet import PreActResNet, blocks_per_stage

Dropout = Annotated[float, Field(ge=0, lt=1)]


def _build(
    name: str, act: ActFactory, input_shape: tuple[int, ...], num_outputs: int, depth: int, k: int, dropout: float
) -> nn.Module:
    channels, _, _ = image_shape(name, input_shape)
    n = blocks_per_stage(name, "depth", depth, 6, 4)
    return PreActResNet(act, channels, num_outputs, n, 16, (16 * k, 16 * k), (3, 3), dropout)


@models.register("wide_resnet")
def wide_resnet(
    act: ActFactory,
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    depth: PositiveInt = 28,
    k: PositiveInt = 10,
    dropout: Dropout = 0.0,
) -> nn.Module:
    """WRN-depth-k; depth is 6n + 4: 10, 16, 22, 28, 34, 40, ..."""
    return _build("wide_resnet", act, input_shape, num_outputs, depth, k, dropout)


def _register(depth: int, k: int, note: str) -> None:
    name = f"wrn{depth}_{k}"

    @models.register(name)
    def build(act: ActFactory, input_shape: tuple[int, ...], num_outputs: int, *, dropout: Dropout = 0.0) -> nn.Module:
        return _build(name, act, input_shape, num_outputs, depth, k, dropout)

    build.__doc__ = f"WRN-{depth}-{k}, {note} parameters on CIFAR-10."


for _depth, _k, _note in ((28, 10, "36.5 M"), (40, 4, "8.9 M"), (10, 4, "1.2 M")):
    _register(_depth, _k, _note)
