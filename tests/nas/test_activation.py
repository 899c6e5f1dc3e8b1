"""``nas.Activation`` in everything that torch does with a module."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import nn
from torch.autograd import grad, gradcheck, gradgradcheck

import nas
from nas.activation import ActivationError
from search_spaces.parser import ParseError

SWISH = "x * sigmoid(beta * x)"


def swish(x, beta):
    """The formula by hand; beta () or one a channel of dimension 1."""
    return x * torch.sigmoid((beta.view(-1, *[1] * (x.dim() - 2)) if beta.dim() else beta) * x)


@pytest.fixture
def act():
    torch.manual_seed(0)
    made = nas.Activation(SWISH, beta="channel", channels=3)
    with torch.no_grad():
        made.beta.copy_(torch.tensor([0.5, 1.0, 2.0]))
    return made


@pytest.fixture
def x():
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()


def same_gradients(y, expected, inputs):
    torch.testing.assert_close(y, expected)
    for ours, theirs in zip(grad(y.sum(), inputs), grad(expected.sum(), inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_values_and_gradients(act, x):
    same_gradients(act(x), swish(x, act.beta), (x, act.beta))
    scalar = nas.Activation(SWISH)
    same_gradients(scalar(x), swish(x, scalar.beta), (x, scalar.beta))


def test_a_fixed_parameter_is_a_constant(x):
    fixed = nas.Activation(SWISH, beta=1.702)
    assert list(fixed.parameters()) == []
    torch.testing.assert_close(fixed(x), x * torch.sigmoid(1.702 * x))


def test_learning_starts_where_one_wants():
    assert nas.Activation(SWISH, beta=torch.tensor(0.3)).beta.item() == pytest.approx(0.3)
    assert nas.Activation(SWISH, beta=torch.tensor([0.3, 0.4])).beta.tolist() == pytest.approx([0.3, 0.4])


def test_a_name_is_enough(x):
    torch.testing.assert_close(nas.Activation("GELU")(x), F.gelu(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype, act):
    x = torch.randn(2, 3, 7).to(dtype)
    y = act(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), swish(x.double(), act.beta.double()), rtol=0.008, atol=1e-4)


def test_parameters_of_other_dtypes(x):
    half = nas.Activation(SWISH).bfloat16()
    half(x.detach().bfloat16()).sum().backward()
    assert half.beta.grad.dtype == torch.bfloat16
    double = nas.Activation(SWISH).double()
    double(x).sum().backward()
    assert double.beta.grad.dtype == torch.float64


def test_autocast():
    model = nn.Sequential(nn.Linear(4, 3), nas.Activation(SWISH))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(torch.randn(5, 4))
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert model[1].beta.grad.dtype == torch.float32


def test_orders_of_memory(act):
    for made in (
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(3, 2, 5).transpose(0, 1),
        torch.randn(2, 3, 10)[..., ::2],
        torch.randn(1, 3, 1, 1).expand(4, 3, 2, 2),
    ):
        x = made.detach().requires_grad_()
        y = act(x)
        dy = torch.randn(y.shape).contiguous()
        (dx,) = grad(y, x, dy)
        (expected,) = grad(swish(x, act.beta), x, dy)
        torch.testing.assert_close(dx, expected)
        if x.is_contiguous(memory_format=torch.channels_last) and x.dim() == 4:
            assert y.is_contiguous(memory_format=torch.channels_last)


def test_empty_and_without_dimensions():
    scalar = nas.Activation(SWISH)
    assert scalar(torch.tensor(1.0)).item() == pytest.approx(0.7310586)
    assert scalar(torch.empty(0)).shape == (0,)
    x = torch.empty(0, 3, requires_grad=True)
    scalar(x).sum().backward()
    assert x.grad.shape == (0, 3)


def test_double_backward(act, x):
    assert gradcheck(act.double(), (x.double(),))
    assert gradgradcheck(act, (x.detach().double().requires_grad_(),))
    act.float()  # through the kernel, whose backward is asked for a graph
    inputs = (x, act.beta)
    found = grad(grad(act(x).sum(), x, create_graph=True)[0].square().sum(), inputs)
    expected = grad(grad(swish(x, act.beta).sum(), x, create_graph=True)[0].square().sum(), inputs)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_transforms_of_torch_func(act, x):
    per_example = torch.func.vmap(torch.func.grad(lambda x: act(x[None]).sum()))(x)
    torch.testing.assert_close(per_example, grad(act(x).sum(), x)[0])
    tangent = torch.func.jvp(act, (x,), (torch.ones_like(x),))[1]
    torch.testing.assert_close(tangent, grad(act(x).sum(), x)[0])
    assert torch.func.hessian(lambda t: nas.Activation("sin(x) * x")(t).sum())(torch.randn(3)).shape == (3, 3)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(act(forward_ad.make_dual(x, torch.ones_like(x)))).tangent
    torch.testing.assert_close(found, tangent)


def test_an_ensemble_of_parameters(act, x):
    stacked = {"beta": torch.stack([act.beta, 2 * act.beta])}
    y = torch.func.vmap(lambda p: torch.func.functional_call(act, p, (x,)))(stacked)
    torch.testing.assert_close(y[1], swish(x, 2 * act.beta))


def test_torch_compile_has_no_break(act, x):
    assert torch._dynamo.explain(act)(x).graph_break_count == 0
    same_gradients(torch.compile(act, fullgraph=True)(x), swish(x, act.beta), (x, act.beta))


def test_torch_export_holds_plain_operators(act, x):
    exported = torch.export.export(act, (x.detach(),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    names = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert names == {"aten.mul.Tensor", "aten.sigmoid.default", "aten.view.default"}
    more = torch.randn(7, 3, 4, 5)
    torch.testing.assert_close(exported.module()(more), swish(more, act.beta))


def test_a_traced_module_computes_the_same(act, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is deprecated, that shapes are checked
        traced = torch.jit.trace(act, (x.detach(),))
    torch.testing.assert_close(traced(x), swish(x, act.beta))


def test_meta_and_fake_tensors(act):
    assert act.to("meta")(torch.empty(2, 3, 4, device="meta")).shape == (2, 3, 4)


def test_copies_and_files(act, x, tmp_path):
    for again in (copy.deepcopy(act), pickle.loads(pickle.dumps(act))):  # noqa: S301 (our own)
        torch.testing.assert_close(again(x), act(x))
        assert again.beta is not act.beta
    torch.save(act.state_dict(), tmp_path / "a.pt")
    fresh = nas.Activation(SWISH, beta="channel", channels=3)
    fresh.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True))
    torch.testing.assert_close(fresh(x), act(x))


def test_the_number_of_channels_may_wait():
    lazy = nas.Activation(SWISH, beta="channel", channel_dim=-1)
    lazy(torch.randn(4, 7))
    assert lazy.beta.shape == (7,)
    again = nas.Activation(SWISH, beta="channel", channel_dim=-1)
    again.load_state_dict(lazy.state_dict())
    assert again.beta.shape == (7,)


def test_only_x_is_kept_for_the_backward_pass():
    kept = []
    x = torch.randn(100, 100, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        nas.Activation("atan(x) * sigmoid(1.7 * x) + 0.1 * x * exp(-x ** 2)")(x)
    assert kept == [x.numel(), 0]


def test_bfloat16_without_parameters_is_exact():
    """By table: float64 rounded once, all 65,536 of them."""
    x = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    torch.testing.assert_close(
        nas.Activation("x * erf(x)")(x), (x.double() * torch.erf(x.double())).bfloat16(), rtol=0, atol=0, equal_nan=True
    )


def test_it_trains(x):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nas.Activation(SWISH, beta="channel"), nn.Flatten(), nn.LazyLinear(2))
    model(x)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(model(x.detach()), torch.tensor([0, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert not torch.equal(model[1].beta, torch.ones(8))


def _replica(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    _save_gradient(rank, folder)
    gc.collect()  # the wrapped model is a cycle, and holds the group, whose threads abort an interpreter that ends
    torch.distributed.destroy_process_group()


def _save_gradient(rank, folder):
    model = nn.parallel.DistributedDataParallel(nas.Activation(SWISH))
    model(torch.full((4,), float(rank + 1))).sum().backward()
    torch.save(model.module.beta.grad, f"{folder}/{rank}.pt")


def test_distributed_data_parallel(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    torch.multiprocessing.spawn(_replica, (str(tmp_path),), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    beta = torch.ones((), requires_grad=True)
    expected = sum(grad(swish(torch.full((4,), float(v)), beta).sum(), beta)[0] for v in (1, 2)) / 2
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(found[1], expected)


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "why"),
    [
        (("x * foo(x)",), {}, ParseError, "unknown operator 'foo'"),
        (("x1 * x2",), {}, ParseError, "only input is x"),
        (("x",), {"beta": 1.0}, ActivationError, "it has none"),
        ((SWISH,), {"gamma": 1.0}, ActivationError, "no parameter 'gamma'; known: beta"),
        ((SWISH,), {"beta": "both"}, ActivationError, "beta='both'"),
        ((SWISH,), {"beta": torch.ones(2, 2)}, ActivationError, "a tensor"),
    ],
)
def test_what_makes_no_activation(arguments, settings, error, why):
    with pytest.raises(error, match=why):
        nas.Activation(*arguments, **settings)


@pytest.mark.parametrize("shape", [(2, 4), (2,), ()])
def test_other_channels_than_it_has(shape, act):
    with pytest.raises(ActivationError, match="parameters for 3 channels in dimension 1"):
        act(torch.randn(shape))


def test_whole_numbers_are_refused(act):
    with pytest.raises(ActivationError, match=r"the input is torch.int64"):
        act(torch.ones(2, 3, dtype=torch.int64))


def test_without_a_compiler_it_is_slower_and_the_same(monkeypatch, caplog, x):
    from nas.modules.activations import generated, pointwise
    from nas.modules.activations.build import NoCompiler

    def refuse(text):
        raise NoCompiler("no C compiler is found")

    monkeypatch.setattr(generated, "kernel", refuse)
    pointwise.kernel_for.cache_clear()
    pointwise._say.cache_clear()
    try:
        act = nas.Activation("x * sigmoid(beta * x) + 0 * beta")
        same_gradients(act(x), swish(x, act.beta), (x, act.beta))
        act(x)
        assert [r.message for r in caplog.records] == [
            "activations are computed operator by operator (no C compiler is found)"
        ]
    finally:
        pointwise.kernel_for.cache_clear()
