"""Feed-forward parts and RMSNorm against the papers' formulas in numpy's float64."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from scipy import special
from torch import nn

from nas.exported import module_source
from nas.modules import ClampedSwiGLU, FeedForward, RMSNorm
from search_spaces.compile import ExpressionActivation
from search_spaces.parser import parse
from trainers.activation import make_act

DIM = 12
FOUND = "x * sigmoid(beta * x)"


def gelu(x):
    return x * special.ndtr(x)


def silu(x):
    return x * special.expit(x)


ACTS = {
    "GLU": (nn.Sigmoid, special.expit),
    "ReGLU": (nn.ReLU, lambda x: np.maximum(x, 0)),
    "GEGLU": (nn.GELU, gelu),
    "SwiGLU": (nn.SiLU, silu),
    "bilinear": (nn.Identity, lambda x: x),
}


class TimesTanh(nn.Module):
    """A gate in which the two inputs cannot be exchanged."""

    def forward(self, a, b):
        return a * torch.tanh(b) + 0.5 * a


def gpt_oss(g, u):
    g = np.minimum(g, 7)
    u = np.maximum(np.minimum(u, 7), -7)
    return g / (1 + np.exp(-1.702 * g)) * (u + 1)


GATES = {
    "gpt-oss": (ClampedSwiGLU, gpt_oss),
    "times tanh": (TimesTanh, lambda a, b: a * np.tanh(b) + 0.5 * a),
    "found": (
        lambda: ExpressionActivation(parse("max(x1, 0.1 * x2) - x2")),
        lambda a, b: np.maximum(a, 0.1 * b) - b,
    ),
}


def made(*args, std=1.0, **options):
    torch.manual_seed(0)
    module = FeedForward(*args, **options).double()
    with torch.no_grad():
        for layer in (module.w, module.v, module.out):
            for parameter in () if layer is None else layer.parameters():
                parameter.normal_(std=std)
    return module


def projected(layer, x):
    return x @ layer.weight.detach().numpy().T + (0 if layer.bias is None else layer.bias.detach().numpy())


def check(module, shape, function):
    """``function`` gives the hidden values from the input."""
    x = torch.randn(shape, dtype=torch.float64)
    expected = projected(module.out, function(x.numpy()))
    found = module(x).detach().numpy()
    assert found.shape == shape
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("shape", [(2, 5, DIM), (7, DIM), (DIM,), (2, 1, 3, DIM)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ACTS)
def test_the_plain_form_is_the_papers_equation_1(name, bias, shape):
    act, phi = ACTS[name]
    module = made(DIM, act, bias=bias)
    assert module.v is None
    check(module, shape, lambda x: phi(projected(module.w, x)))


@pytest.mark.parametrize("shape", [(2, 5, DIM), (DIM,)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ACTS)
def test_the_gated_form_is_the_papers_equations_5_and_6(name, bias, shape):
    act, phi = ACTS[name]
    module = made(DIM, act, kind="gated", bias=bias)
    check(module, shape, lambda x: phi(projected(module.w, x)) * projected(module.v, x))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", GATES)
def test_the_binary_form_is_a_function_of_both_projections(name, bias):
    act, gate = GATES[name]
    module = made(DIM, act, kind="binary", bias=bias, std=4.0)  # so that the limits are reached
    check(module, (3, 5, DIM), lambda x: gate(projected(module.w, x), projected(module.v, x)))


def test_the_gate_of_gpt_oss_clamps_its_first_input_from_above_only():
    values = np.array([-1e4, -300, -40, -8, -7, -1.5, 0, 1.5, 6.99, 7, 7.01, 40, 1e4])
    g, u = (x.ravel() for x in np.meshgrid(values, values))
    found = ClampedSwiGLU()(torch.from_numpy(g), torch.from_numpy(u)).numpy()
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(found, gpt_oss(g, u), rtol=1e-12, atol=0)
    low = ClampedSwiGLU()(torch.tensor([-9.0, -7.0]).double(), torch.zeros(2).double())
    assert low[0] > low[1]  # -9 sigmoid(1.702 * -9) is nearer to 0 than -7's, which a lower limit would give both


def test_the_gate_of_gpt_oss_takes_other_constants():
    g, u = torch.tensor([3.0, -5.0]).double(), torch.tensor([2.5, -9.0]).double()
    s = special.expit(0.5 * np.array([2.0, -5.0]))
    expected = np.array([2.0, -5.0]) * s * (np.array([2.0, -2.0]) + 1)
    np.testing.assert_allclose(ClampedSwiGLU(alpha=0.5, limit=2.0)(g, u).numpy(), expected, rtol=1e-12)


def weights(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("dim", [8, 12, 50, 64, 100, 768])
@pytest.mark.parametrize("multiple_of", [1, 8, 32])
@pytest.mark.parametrize(("kind", "act"), [("gated", nn.SiLU), ("binary", ClampedSwiGLU)])
def test_three_matrices_have_the_parameters_of_two_within_the_rounding(kind, act, multiple_of, dim):
    module = FeedForward(dim, act, kind=kind, multiple_of=multiple_of)
    hidden = module.w.out_features
    assert hidden % multiple_of == 0
    assert 0 <= hidden - int(4 * dim * 2 / 3) < multiple_of
    assert weights(module) == 3 * dim * hidden
    assert -3 * dim < weights(module) - 2 * dim * 4 * dim < 3 * dim * multiple_of


@pytest.mark.parametrize(("dim", "multiple_of", "hidden"), [(64, 8, 256), (50, 8, 200), (50, 64, 256), (3, 1, 12)])
def test_the_plain_hidden_size_is_four_times_dim_up_to_a_multiple(dim, multiple_of, hidden):
    module = FeedForward(dim, nn.ReLU, multiple_of=multiple_of)
    assert (module.w.out_features, module.out.in_features) == (hidden, hidden)
    assert weights(module) == 2 * dim * hidden


@pytest.mark.parametrize("kind", ["plain", "gated"])
def test_a_hidden_size_that_is_given_is_taken(kind):
    assert FeedForward(8, nn.ReLU, kind=kind, hidden=13, multiple_of=8).w.out_features == 13


def test_each_makes_its_own_activation_once():
    acts = []
    made_here = [FeedForward(8, lambda: acts.append(nn.PReLU()) or acts[-1], kind=kind) for kind in ("plain", "gated")]
    assert [module.act for module in made_here] == acts
    assert acts[0].weight is not acts[1].weight
    assert len({id(p) for module in made_here for p in module.parameters()}) == 2 + 3 + 2


@pytest.mark.parametrize("kind", ["plain", "gated"])
def test_a_parameter_a_channel_finds_the_channels_of_a_text(kind):
    module = made(DIM, lambda: nn.PReLU(24), kind=kind, hidden=24)
    slopes = np.linspace(-2, 2, 24)
    with torch.no_grad():
        module.act.weight.copy_(torch.from_numpy(slopes))

    def hidden(x):
        h = projected(module.w, x)
        return np.where(h > 0, h, slopes * h) * (projected(module.v, x) if kind == "gated" else 1)

    check(module, (2, 24, DIM), hidden)  # as many tokens as channels, so that taking one for the other is no error


@pytest.mark.parametrize("shape", ["channel", "scalar"])
@pytest.mark.parametrize(
    ("kind", "expression", "hidden"),
    [
        ("plain", FOUND, lambda h, u, b: h * special.expit(b * h)),
        ("gated", FOUND, lambda h, u, b: h * special.expit(b * h) * u),
        ("binary", "x1 * sigmoid(beta * x2)", lambda h, u, b: h * special.expit(b * u)),
    ],
)
def test_a_discovered_function_computes_and_learns(kind, expression, hidden, shape):
    module = made(DIM, make_act(parse(expression), shape, "fp32"), kind=kind, hidden=20, std=0.3)
    x = torch.randn(2, 5, DIM, dtype=torch.float64)
    module(x)  # gives per-channel parameters their shape
    assert module.act.beta.numel() == (20 if shape == "channel" else 1)
    betas = np.linspace(0.5, 2, 20) if shape == "channel" else np.float64(1.7)
    module.double().act.beta.data.copy_(torch.tensor(betas))
    check(module, x.shape, lambda x: hidden(projected(module.w, x), module.v and projected(module.v, x), betas))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.02)
    before, losses = module.act.beta.clone(), []
    for _ in range(3):
        loss = (module(x) - x).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[2] < losses[1] < losses[0]
    assert (module.act.beta != before).all()


def test_a_discovered_function_by_table_learns_in_bfloat16():
    module = made(DIM, make_act(parse(FOUND), "scalar", "bf16"), kind="gated").bfloat16()
    x = torch.randn(2, 5, DIM).bfloat16()
    y = module(x)
    assert y.dtype == torch.bfloat16
    y.float().square().mean().backward()
    assert module.act.beta.grad.item() != 0


def test_an_exported_file_is_an_activation(tmp_path):
    path = tmp_path / "found.py"
    path.write_text(module_source(parse(FOUND), "Found", ""), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("found_for_feed_forward", path)
    exported = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(exported)
    module = made(DIM, lambda: exported.Found(20), kind="gated", hidden=20)
    betas = np.linspace(0.5, 2, 20)
    with torch.no_grad():
        module.act.beta.copy_(torch.from_numpy(betas))
    check(module, (2, 20, DIM), lambda x: silu(projected(module.w, x) * betas) / betas * projected(module.v, x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "glu"}, "kind is plain, gated or binary, got 'glu'"),
        ({"hidden": 0}, "dim, hidden and multiple_of are at least 1, got 12, 0"),
        ({"dim": 0}, "dim, hidden and multiple_of are at least 1, got 0"),
        ({"multiple_of": 0}, "at least 1.*0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FeedForward(**{"dim": DIM, "act": nn.ReLU, **options})


def test_another_number_of_channels_is_refused():
    with pytest.raises(ValueError, match=r"FeedForward takes \(\.\.\., 12\), got \(2, 6, 24\)"):
        made(DIM, nn.ReLU)(torch.zeros(2, 6, 24).double())


def rms_norm(x, weight, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e5])
@pytest.mark.parametrize("eps", [1e-6, 1e-2])
def test_rms_norm_is_the_papers_equation_4(eps, size):
    torch.manual_seed(0)
    norm = RMSNorm(DIM, eps) if eps != 1e-6 else RMSNorm(DIM)
    norm.double().weight.data.normal_()
    x = torch.randn(2, 5, DIM, dtype=torch.float64) * size + size
    expected = rms_norm(x.numpy(), norm.weight.detach().numpy(), eps)
    np.testing.assert_allclose(norm(x).detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(("dtype", "size"), [(torch.bfloat16, 1), (torch.bfloat16, 1e-3), (torch.float16, 60000)])
def test_rms_norm_of_low_precision_is_rounded_at_the_end(dtype, size):
    torch.manual_seed(0)
    norm = RMSNorm(256).to(dtype)
    x = (torch.rand(50, 256) * 2 * size - size).to(dtype)
    y = norm(x)
    assert y.dtype == dtype
    expected = torch.from_numpy(rms_norm(x.double().numpy(), 1, 1e-6))
    torch.testing.assert_close(y.double(), expected, rtol=0.51 * torch.finfo(dtype).eps, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_rms_norm_of_zeros_is_zeros_with_finite_gradients(dtype):
    x = torch.zeros(3, DIM, dtype=dtype, requires_grad=True)
    y = RMSNorm(DIM).to(dtype)(x)
    y.sum().backward()
    assert not y.any()
    assert x.grad.isfinite().all()


def test_an_activation_in_place_of_what_makes_one_is_refused():
    with pytest.raises(ValueError, match=r"such as nn.SiLU, not nn.SiLU\(\); got a SiLU"):
        FeedForward(8, nn.SiLU())
