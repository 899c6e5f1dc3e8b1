"""Batch norm, residual and activation in one operation, against each by itself in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nas.modules.activations import NormAct, TableActivation
from nas.modules.activations.lookup import use_backend

SHAPES = [(32, 16, 16, 16), (8, 64, 8, 8), (3, 5, 7, 3), (2, 100, 4, 4), (6, 1, 5, 5), (4, 256, 1, 1)]


def swish(x: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(beta * x)


def made(channels: int) -> NormAct:
    module = NormAct(channels, TableActivation(swish, {"beta": 1.2}))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        module.norm.weight.copy_(0.5 + torch.rand(channels, generator=generator))
        module.norm.bias.copy_(torch.randn(channels, generator=generator))
    return module


def inputs(shape: tuple[int, ...], mean: float = 2.0) -> list[torch.Tensor]:
    """Input, residual and incoming gradient."""
    generator = torch.Generator().manual_seed(1)
    draws = [torch.randn(shape, generator=generator).bfloat16() for _ in range(3)]
    x = (draws[0] * 3 + mean).contiguous(memory_format=torch.channels_last)
    return [x, draws[1], draws[2].abs()]  # of one sign, so that sums over a batch are more than their rounding errors


def close(found: torch.Tensor, expected: torch.Tensor, within: float) -> None:
    """Within that fraction of the largest value."""
    assert (found.double() - expected).abs().max() <= within * expected.abs().max().clamp(min=1e-3)


@pytest.mark.parametrize("has_residual", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_the_parts(shape, has_residual):
    module, (x, r, dy) = made(shape[1]), inputs(shape)
    x, r = x.requires_grad_(), r.requires_grad_()
    y = module(x, r if has_residual else None)
    assert type(y.grad_fn).__name__ == "_NormActBackward"
    y.backward(dy)

    norm = nn.BatchNorm2d(shape[1]).double()
    norm.load_state_dict(made(shape[1]).norm.state_dict())
    a, b = x.detach().double().requires_grad_(), r.detach().double().requires_grad_()
    beta = torch.tensor(1.2, dtype=torch.float64, requires_grad=True)
    normal = norm(a)
    expected = swish(normal + b if has_residual else normal, beta)
    expected.backward(dy.double())

    close(y, expected, 0.01)  # bfloat16 has 8 bits
    close(x.grad, a.grad, 0.01)
    close(module.norm.weight.grad, norm.weight.grad, 0.01)
    close(module.norm.bias.grad, norm.bias.grad, 0.01)
    close(module.act.beta.grad, beta.grad, 0.01)
    close(module.norm.running_mean, norm.running_mean, 1e-5)
    close(module.norm.running_var, norm.running_var, 1e-5)
    assert module.norm.num_batches_tracked == 1
    if has_residual:
        close(r.grad, b.grad, 0.01)


def test_a_mean_far_from_zero_does_not_cancel_the_variance():
    module, (x, *_) = made(16), inputs((32, 16, 16, 16), mean=300.0)
    module.norm.momentum = 1.0
    module(x)
    rows = x.double().permute(0, 2, 3, 1).reshape(-1, 16)
    close(module.norm.running_mean, rows.mean(0), 1e-6)
    close(module.norm.running_var, rows.var(0), 1e-5)


def is_fused(module: NormAct, x: torch.Tensor) -> bool:
    return "_NormAct" in type(module(x.requires_grad_()).grad_fn).__name__


def test_it_is_fused_in_training_only():
    module, (x, *_) = made(16), inputs((4, 16, 8, 8))
    assert is_fused(module, x)
    assert not is_fused(module.eval(), x)
    normal = (x.double() - module.norm.running_mean.view(1, -1, 1, 1)) / (
        module.norm.running_var.double().view(1, -1, 1, 1) + module.norm.eps
    ).sqrt()
    normal = normal * module.norm.weight.view(1, -1, 1, 1) + module.norm.bias.view(1, -1, 1, 1)
    close(module(x), swish(normal, torch.tensor(1.2)).detach(), 0.01)


@pytest.mark.parametrize(
    "case", ["float32", "contiguous", "another activation", "no compiler", "frozen norm", "no statistics", "no weights"]
)
def test_elsewhere_it_goes_step_by_step(case):
    module, (x, *_) = made(16), inputs((4, 16, 8, 8))
    if case == "float32":
        x = x.float()
    if case == "contiguous":
        x = x.contiguous()
    if case == "another activation":
        module.act = nn.SiLU()
    if case == "frozen norm":
        module.norm.eval()
    if case == "no statistics":
        module.norm = nn.BatchNorm2d(16, track_running_stats=False)
    if case == "no weights":
        module.norm = nn.BatchNorm2d(16, affine=False)
    with use_backend("eager" if case == "no compiler" else "native"):
        assert not is_fused(module, x)


def test_a_single_value_a_channel_is_refused_as_batch_norm_refuses_it():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        made(8)(torch.ones(1, 8, 1, 1).bfloat16().contiguous(memory_format=torch.channels_last))


def test_a_residual_may_have_another_layout_and_dtype():
    module, (x, r, _) = made(16), inputs((4, 16, 8, 8))
    again = made(16)
    assert torch.equal(module(x, r.float()), again(x, r.contiguous(memory_format=torch.channels_last)))


@pytest.mark.parametrize("far", [0.0, 500.0, 1e-11])
def test_after_a_change_of_the_parameter_it_is_as_if_new(far):
    """Whether or not the activation's inputs stay where tables are kept up to date step by step."""
    module, fresh, (x, r, dy) = made(16), made(16), inputs((4, 16, 8, 8))
    if far:
        r[1, 2, 3, 4] = far
    if far == 1e-11:
        x[:] = 0
        for each in (module, fresh):
            each.norm.bias.data.zero_()
    module(x)
    module.norm.reset_running_stats()
    for each in (module, fresh):
        each.act.beta.data.fill_(0.5)
        each(x, r).backward(dy)
    assert torch.equal(module(x, r), fresh(x, r))
    for (name, one), other in zip(module.named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name
    assert module.act.is_current(torch.device("cpu")) == bool(far)


def test_not_a_number_stays_one():
    module, (x, *_) = made(16), inputs((4, 16, 8, 8))
    x[0, 3, 0, 0] = torch.nan
    y = module(x)
    assert y[:, 3].isnan().all()
    assert y[:, :3].isfinite().all()
