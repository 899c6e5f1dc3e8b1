"""Activations by table: exact for every bfloat16 number, whatever looks them up."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from scipy import special
from torch import nn

from nas.modules.activations import TableActivation, refresh, tabulate
from nas.modules.activations.lookup import use_backend

CPU = torch.device("cpu")
EVERY = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
BACKENDS = ("native", "compiled", "eager")


def costly(x: torch.Tensor) -> torch.Tensor:
    return torch.atan(x) * torch.sigmoid(1.7 * x) + 0.1 * x * torch.exp(-(x**2))


def costly_reference(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same and its derivative by hand, in float64."""
    s, g = special.expit(1.7 * x), np.exp(-(x**2))
    return np.arctan(x) * s + 0.1 * x * g, s / (1 + x**2) + np.arctan(x) * 1.7 * s * (1 - s) + 0.1 * g * (1 - 2 * x**2)


def swish(x: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(beta * x)


def rounded(reference: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(reference).bfloat16()


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal bit for bit, but for the sign of zero and the kind of NaN."""
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", BACKENDS)
def test_every_input_gives_the_float64_value_and_slope_rounded_once(name):
    finite = EVERY[EVERY.isfinite()]
    with np.errstate(all="ignore"):
        values, slopes = costly_reference(finite.double().numpy())
    slopes = np.where(np.isnan(slopes), 0.0, slopes)  # 0 * inf, where exp(-x**2) is 0
    x = finite.clone().requires_grad_()
    with use_backend(name):
        y = TableActivation(costly)(x)
        y.backward(torch.ones_like(y))
    assert_same(y.detach(), rounded(values))
    usual = (finite.abs() < 1e18) | (finite == 0)  # beyond, x**2 and with it autograd's product overflow
    assert_same(x.grad[usual], rounded(slopes)[usual])


@pytest.mark.parametrize("name", BACKENDS)
def test_the_gradient_is_slope_times_incoming_rounded_once(name):
    x = torch.linspace(-6, 6, 4099).bfloat16().requires_grad_()
    incoming = torch.randn(4099, generator=torch.Generator().manual_seed(0)).bfloat16()
    with use_backend(name):
        TableActivation(costly)(x).backward(incoming)
    slopes = costly_reference(x.detach().double().numpy())[1]
    exact = slopes.astype(np.float32).astype(np.float64) * incoming.double().numpy()
    assert_same(x.grad, rounded(exact.astype(np.float32)))


@pytest.mark.parametrize("name", BACKENDS)
def test_infinities_and_nan_are_looked_up_too(name):
    x = torch.tensor([torch.inf, -torch.inf, torch.nan]).bfloat16()
    with use_backend(name):
        y = TableActivation(torch.tanh)(x)
    assert y[:2].tolist() == [1, -1]
    assert y[2].isnan()


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("size", [1, 15, 4096, 50_001])
def test_the_gradient_of_a_parameter_is_the_sum_over_all_elements(name, size):
    x = torch.randn(size, generator=torch.Generator().manual_seed(1)).bfloat16()
    incoming = torch.randn(size, generator=torch.Generator().manual_seed(2)).bfloat16()
    act = TableActivation(swish, {"beta": 1.25})
    with use_backend(name):
        act(x).backward(incoming)
    a = x.double()
    s = torch.sigmoid(1.25 * a)
    expected = (incoming.double() * a * a * s * (1 - s)).sum()
    assert act.beta.grad.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_tables_follow_their_parameter(optimizer, fused):
    act = TableActivation(swish, {"beta": 1.0})
    optimizer = optimizer(act.parameters(), lr=0.5, fused=fused)
    x = torch.linspace(-4, 4, 1000).bfloat16()
    for _ in range(3):
        y = act(x)
        expected = x.double() * torch.sigmoid(act.beta.detach().double() * x.double())
        assert_same(y.detach(), expected.bfloat16())
        optimizer.zero_grad()
        y.float().square().mean().backward()
        before = act.beta.item()
        optimizer.step()
        assert act.beta.item() != before


def test_sites_tabulated_together_are_as_if_alone():
    betas = torch.tensor([0.5, 1.0, 2.0])
    values, slopes = tabulate(swish, {"beta": betas}, CPU)
    assert values.shape == (3, 65536)
    assert slopes.shape == (3, 2, 65536)
    for i, beta in enumerate(betas):
        alone = tabulate(swish, {"beta": beta[None]}, CPU)
        assert_same(values[i], alone[0][0])
        assert_same(slopes[i], alone[1][0])


def test_refresh_makes_stale_tables_only():
    made = []

    def counted(x, beta):
        made.append(len(x))
        return swish(x, beta)

    acts = [TableActivation(counted, {"beta": 1.0}) for _ in range(3)]
    refresh(acts, CPU)
    assert len(made) == 3
    refresh(acts, CPU)
    assert len(made) == 3
    acts[1].beta.data.add_(1)  # which autograd's version counter does not see
    refresh(acts, CPU)
    assert len(made) == 4


def moved(beta: float) -> TableActivation:
    """A module whose tables were made for another parameter than it has now."""
    act = TableActivation(swish, {"beta": 1.0})
    act(torch.zeros(1).bfloat16())
    act.beta.data.fill_(beta)
    return act


def test_inputs_in_the_core_have_only_the_core_remade():
    act, fresh = moved(2.0), TableActivation(swish, {"beta": 2.0})
    x = torch.cat([torch.tensor([0.0, -0.0, 2.0**-30, -(2.0**-30), 255.0, -255.0]), torch.randn(500)]).bfloat16()
    assert_same(act(x), fresh(x))
    assert act.is_current(CPU, core=True)
    assert not act.is_current(CPU)


@pytest.mark.parametrize("far", [256.0, -300.0, 1e-10, -1e-12, 1e-40, torch.inf, torch.nan])
def test_one_input_outside_of_the_core_has_all_entries_remade(far):
    act, fresh = moved(2.0), TableActivation(swish, {"beta": 2.0})
    x = torch.randn(9000).bfloat16()
    x[8500] = far
    act(torch.randn(10).bfloat16())
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    for module, leaf in ((act, a), (fresh, b)):
        module(leaf).sum().backward()
    assert_same(act(x), fresh(x))
    assert_same(a.grad, b.grad)
    assert_same(act.beta.grad, fresh.beta.grad)
    assert act.is_current(CPU)


def test_a_module_used_twice_may_need_more_entries_the_second_time():
    act, fresh = moved(2.0), TableActivation(swish, {"beta": 2.0})
    inside, outside = torch.randn(50).bfloat16(), torch.full((50,), 1e4).bfloat16()
    for module in (act, fresh):
        (module(inside).sum() + module(outside).sum()).backward()
    assert_same(act.beta.grad, fresh.beta.grad)


def test_another_function_takes_the_same_place_in_memory():
    act = TableActivation(torch.relu)
    x = torch.randn(100).bfloat16()
    act(x)
    place = [table.data_ptr() for table in act.tables(CPU)]
    act.become(torch.tanh)
    assert_same(act(x), torch.tanh(x.double()).bfloat16())
    assert [table.data_ptr() for table in act.tables(CPU)] == place


def layouts() -> dict[str, torch.Tensor]:
    x = torch.randn(4, 6, 8, 10).bfloat16()
    return {
        "contiguous": x,
        "channels_last": x.contiguous(memory_format=torch.channels_last),
        "transposed": x.transpose(1, 3),
        "sliced": x[:, ::2, 1:-1],
        "expanded": x[:1].expand(4, -1, -1, -1),
        "a scalar": torch.tensor(0.7).bfloat16(),
        "empty": x[:0],
    }


@pytest.mark.parametrize("layout", layouts())
@pytest.mark.parametrize("name", ["native", "eager"])
def test_any_memory_layout(layout, name):
    x = layouts()[layout].detach().requires_grad_()
    with use_backend(name):
        y = TableActivation(torch.tanh)(x)
        y.backward(torch.full_like(y, 2.0))
    assert y.shape == x.shape
    assert_same(y.detach(), torch.tanh(x.detach().double()).bfloat16())
    slopes = (1 - torch.tanh(x.detach().double()) ** 2).float()
    assert_same(x.grad, (2 * slopes).bfloat16())


def test_channels_last_in_channels_last_out():
    x = layouts()["channels_last"].detach().requires_grad_()
    y = TableActivation(torch.tanh)(x)
    y.backward(torch.ones(x.shape, dtype=torch.bfloat16))  # a gradient of another layout
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert x.grad.is_contiguous(memory_format=torch.channels_last)


def test_other_dtypes_are_given_to_the_function():
    act = TableActivation(swish, {"beta": 2.0})
    x = torch.randn(50, dtype=torch.float64)
    torch.testing.assert_close(act(x), x * torch.sigmoid(2 * x), rtol=0, atol=0)


def test_tables_survive_casts_copies_and_are_not_saved():
    act = TableActivation(costly)
    x = torch.randn(500).bfloat16()
    before = act(x)
    assert not act.state_dict()
    assert not list(act.buffers())
    for changed in (copy.deepcopy(act), act.to(torch.bfloat16), act.half(), act.double()):
        assert_same(changed(x), before)


def test_tables_follow_a_loaded_state():
    act, other = TableActivation(swish, {"beta": 1.0}), TableActivation(swish, {"beta": 3.0})
    x = torch.randn(100).bfloat16()
    act(x)
    act.load_state_dict(other.state_dict())
    assert_same(act(x), other(x))


def test_checkpointing_recomputes_it():
    act = TableActivation(swish, {"beta": 1.0})
    x = torch.randn(100).bfloat16().requires_grad_()
    torch.utils.checkpoint.checkpoint(act, x, use_reentrant=False).sum().backward()
    expected = x.detach().clone().requires_grad_()
    again = TableActivation(swish, {"beta": 1.0})
    again(expected).sum().backward()
    assert_same(x.grad, expected.grad)
    assert_same(act.beta.grad, again.beta.grad)


def test_inference_mode_leaves_tables_that_can_train():
    act = TableActivation(swish, {"beta": 1.0})
    with torch.inference_mode():
        act(torch.randn(10).bfloat16())
    act(torch.randn(10).bfloat16().requires_grad_()).sum().backward()
    assert act.beta.grad is not None


def test_fake_and_meta_tensors_have_shapes_only():
    from torch._subclasses.fake_tensor import FakeTensorMode

    assert TableActivation(costly)(torch.empty(3, device="meta", dtype=torch.bfloat16)).shape == (3,)
    with FakeTensorMode():
        assert TableActivation(costly)(torch.empty(3, dtype=torch.bfloat16)).shape == (3,)


def test_a_constant_function_has_no_slope():
    x = torch.randn(5).bfloat16().requires_grad_()
    TableActivation(lambda x: torch.full_like(x, 3.0))(x).sum().backward()
    assert x.grad.tolist() == [0.0] * 5


def test_compile_and_export_see_the_plain_function():
    net = nn.Sequential(nn.Linear(4, 4), TableActivation(costly)).bfloat16()
    x = torch.randn(3, 4).bfloat16()
    exported = torch.export.export(net, (x,)).module()
    torch.testing.assert_close(exported(x), costly(net[0](x)))
    torch.testing.assert_close(torch.compile(net)(x), net(x), rtol=0.05, atol=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_every_input_gives_the_same_as_on_the_cpu():
    x = EVERY[EVERY.isfinite()].clone().requires_grad_()
    on_gpu = x.detach().cuda().requires_grad_()
    act = TableActivation(costly)
    act(x).sum().backward()
    act.cuda()(on_gpu).sum().backward()
    assert_same(on_gpu.grad.cpu(), x.grad)
