"""Pre-activation residual networks: He, Zhang, Ren, Sun 2016, "Identity Mappings in Deep Residual Networks"
(arXiv 1603.05027), section 3 and appendix.

A norm and an activation come before every convolution, so that the shortcuts carry the sum unchanged:
x_{l+1} = x_l + F(x_l), F a chain of BN, act, convolution. Where the shape changes, the first norm and activation are
common to both paths and the shortcut is a 1x1 convolution. Norm and activation also follow the last sum. ResNet-164 has
three stages of n = 18 bottlenecks: 1x1, 3x3 and 1x1 convolutions with 16, 16, 64 channels, twice as many in each
following stage: 9n + 2 layers.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import PositiveInt
from torch import Tensor, nn

from nas.modules.activations import NormAct
from trainers.models import ActFactory, ModelError, image_shape, models
from trainers.models.resnet import global_mean


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size (up to the stride), without bias: a norm follows or has gone before."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)


def initialize(model: nn.Module) -> None:
    """He et al. 2015 (arXiv 1502.01852), equation 14: variance 2 / (kernel area * out_channels); biases at zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def blocks_per_stage(model: str, option: str, layers: int, per_block: int, others: int) -> int:
    """The n of ``layers = per_block * n + others``. Raises ModelError if there is none."""
    n, rest = divmod(layers - others, per_block)
    if n < 1 or rest:
        near = per_block * max(1, round((layers - others) / per_block)) + others
        raise ModelError(
            f"{model} has {per_block}n + {others} layers with n >= 1, got model.{option}={layers}; take {near}"
        )
    return n


class PreActBlock(nn.Module):
    """x + F(x), or P(act(BN(x))) + F(x) with a 1x1 convolution P where the shape changes.

    Input (N, in_channels, H, W), output (N, widths[-1], ceil(H / stride), ceil(W / stride)).

    Args:
        widths, kernels: output channels and size of each convolution of F; the first one has the stride.
        dropout: after every activation of F but the first, as in wide ResNets.
    """

    def __init__(
        self,
        act: ActFactory,
        in_channels: int,
        widths: Sequence[int],
        kernels: Sequence[int],
        stride: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.preact = NormAct(in_channels, act())
        layers: list[nn.Module] = [conv(in_channels, widths[0], kernels[0], stride)]
        for before, width, kernel in zip(widths, widths[1:], kernels[1:], strict=False):
            layers.append(NormAct(before, act()))
            if dropout:
                layers.append(nn.Dropout(dropout))
            layers.append(conv(before, width, kernel))
        self.residual = nn.Sequential(*layers)
        same = stride == 1 and in_channels == widths[-1]
        self.project = None if same else conv(in_channels, widths[-1], 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.preact(x)
        return (x if self.project is None else self.project(y)) + self.residual(y)


class PreActResNet(nn.Module):
    """Three stages of n pre-activation blocks. Input (N, in_channels, H, W), output logits (N, num_classes).

    Args:
        stem: channels of the first convolution.
        widths, kernels: of a block of the first stage; the second and third double and quadruple the widths and halve
            height and width.
    """

    def __init__(
        self,
        act: ActFactory,
        in_channels: int,
        num_classes: int,
        n: int,
        stem: int,
        widths: Sequence[int],
        kernels: Sequence[int],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.stem = conv(in_channels, stem, 3)
        channels = stem
        blocks = []
        for stage in range(3):
            wider = [width * 2**stage for width in widths]
            for block in range(n):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(PreActBlock(act, channels, wider, kernels, stride, dropout))
                channels = wider[-1]
        self.blocks = nn.Sequential(*blocks)
        self.last = NormAct(channels, act())
        self.head = nn.Linear(channels, num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(global_mean(self.last(self.blocks(self.stem(x)))))


@models.register("preact_resnet")
def preact_resnet(
    act: ActFactory,
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    layers: PositiveInt = 164,
    width: PositiveInt = 16,
) -> nn.Module:
    """Bottleneck blocks, 9n + 2 layers: 11, 20, 29, ... 164, ... 1001; ``width`` channels at the first layer."""
    channels, _, _ = image_shape("preact_resnet", input_shape)
    n = blocks_per_stage("preact_resnet", "layers", layers, 9, 2)
    return PreActResNet(act, channels, num_outputs, n, width, (width, width, 4 * width), (1, 3, 1))


@models.register("preact_resnet164")
def preact_resnet164(act: ActFactory, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """164 layers, 1.7 M parameters on CIFAR-10: the ResNet-164 of the 2017 search's evaluation."""
    channels, _, _ = image_shape("preact_resnet164", input_shape)
    return PreActResNet(act, channels, num_outputs, 18, 16, (16, 16, 64), (1, 3, 1))
