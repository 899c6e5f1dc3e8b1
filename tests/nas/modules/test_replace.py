"""Submodules replaced: compared with the same done by hand; and what is refused, with nothing changed."""

from __future__ import annotations

import copy
import itertools
import re

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
import torchvision
from torch import nn

from nas.modules import Blend, replace_activations


class Block(nn.Module):
    def __init__(self, act=None):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.act = act or nn.ReLU()
        self.second = nn.Linear(4, 4)

    def forward(self, x):
        return self.act(self.second(self.act(self.first(x))))


def by_hand(module, old, new):
    """The loop that everybody writes."""
    for name, child in module.named_children():
        if isinstance(child, old):
            setattr(module, name, new())
        else:
            by_hand(child, old, new)
    return module


def kinds(model):
    return [(name, type(module), id(module)) for name, module in model.named_modules()]


@pytest.mark.parametrize(
    ("name", "old", "sites"),
    [
        ("resnet18", nn.ReLU, 9),
        ("mobilenet_v3_small", nn.Hardswish, 19),
        ("mobilenet_v3_small", (nn.Hardswish, nn.ReLU), 33),
        ("mobilenet_v3_small", nn.Hardsigmoid, 9),
    ],
)
def test_torchvision_models_are_as_if_replaced_by_hand(name, old, sites):
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, num_classes=10)
    expected = by_hand(copy.deepcopy(model), old, nn.Mish)
    report = replace_activations(model, old, nn.Mish, verbose=False)
    x = torch.randn(2, 3, 64, 64)
    with torch.random.fork_rng():
        y = model(x)
    torch.testing.assert_close(y, expected(x), atol=0, rtol=0)
    torch.testing.assert_close(model.eval()(x), expected.eval()(x), atol=0, rtol=0)
    assert len(report.replaced) == sites
    assert not report.left
    model.load_state_dict(torchvision.models.get_model(name, num_classes=10).state_dict())  # the names stayed


def test_each_place_has_its_own_parameters():
    model = torchvision.models.resnet18(num_classes=10)
    report = replace_activations(model, nn.ReLU, nn.PReLU, verbose=False)
    assert report.new_parameters == len([m for m in model.modules() if isinstance(m, nn.PReLU)]) == 9
    assert len({id(p) for p in model.parameters()}) == len([*torchvision.models.resnet18().parameters()]) + 9
    assert "optimiser" in str(report)


def test_each_call_of_a_shared_module_may_have_its_own():
    model = torchvision.models.resnet18(num_classes=10).eval()
    report = replace_activations(model, nn.ReLU, nn.PReLU, per_call=True, verbose=False)
    assert len(report.replaced) == 17
    block = model.layer1[0]
    nn.init.constant_(block.relu.weight, 0.1)
    nn.init.constant_(block.relu_2.weight, 0.7)
    x = torch.randn(2, 64, 8, 8)
    inside = F.leaky_relu(block.bn1(block.conv1(x)), 0.1)
    torch.testing.assert_close(block(x), F.leaky_relu(block.bn2(block.conv2(inside)) + x, 0.7))
    assert isinstance(block, torchvision.models.resnet.BasicBlock)


def test_a_module_called_twice_is_named_in_the_report():
    block = Block()
    report = replace_activations(block, nn.ReLU, nn.SiLU, verbose=False)
    assert len(report.replaced) == 1
    assert "per_call=True" in str(report)


def test_one_module_in_two_places_becomes_two():
    act = nn.PReLU()
    model = nn.Sequential(nn.Linear(4, 4), act, nn.Linear(4, 4), act)
    report = replace_activations(model, nn.PReLU, nn.PReLU, verbose=False)
    assert model[1] is not model[3]
    assert "several places" in str(report)


def test_a_tied_block_stays_tied():
    block = Block()
    model = nn.ModuleDict({"a": block, "b": block})
    report = replace_activations(model, nn.ReLU, nn.SiLU, verbose=False)
    assert [place.name for place in report.replaced] == ["a.act"]
    assert model["a"] is model["b"]


@pytest.mark.parametrize(
    ("old", "changed"),
    [
        (nn.ReLU, ["0.act", "1.act"]),
        ("0.*", ["0.act"]),
        ("*act", ["0.act", "1.act"]),
        (re.compile(r"1\.act|2"), ["1.act", "2"]),
        (lambda name, module: name == "2" or isinstance(module, nn.ReLU), ["0.act", "1.act", "2"]),
        ((nn.Tanh, nn.GELU), ["2"]),
    ],
)
def test_types_patterns_and_predicates_choose(old, changed):
    model = nn.Sequential(Block(), Block(), nn.Tanh())
    report = replace_activations(model, old, nn.SiLU, verbose=False)
    assert [place.name for place in report.replaced] == changed
    assert [name for name, module in model.named_modules() if isinstance(module, nn.SiLU)] == changed
    assert isinstance(model[0].first, nn.Linear)  # a pattern chooses among activations only


def test_a_predicate_may_choose_anything():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
    replace_activations(model, lambda _, module: isinstance(module, nn.Dropout), nn.SiLU, verbose=False)
    assert isinstance(model[1], nn.SiLU)


def test_new_may_be_a_module_or_a_function_of_the_old_one():
    model = nn.Sequential(Block(nn.PReLU(init=0.3)), Block(nn.PReLU(init=0.4)))
    replace_activations(model, nn.PReLU, lambda old: nn.LeakyReLU(old.weight.item()), verbose=False)
    assert [block.act.negative_slope for block in model] == pytest.approx([0.3, 0.4])
    given = nn.PReLU()
    replace_activations(model, nn.LeakyReLU, given, verbose=False)
    assert len({id(given.weight), *(id(block.act.weight) for block in model)}) == 3


def test_device_dtype_and_mode_are_those_of_the_place():
    with torch.device("meta"):
        far = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).to(torch.bfloat16).eval()
    model = nn.ModuleList([model, nn.Sequential(nn.Linear(4, 4), nn.ReLU()).double(), far])
    replace_activations(model, nn.ReLU, nn.PReLU, verbose=False)
    assert [part[1].weight.dtype for part in model] == [torch.bfloat16, torch.float64, torch.float32]
    assert [part[1].weight.device.type for part in model] == ["cpu", "cpu", "meta"]
    assert [part[1].training for part in model] == [False, True, True]


def test_lazy_and_blended_ones():
    model = nn.Sequential(nn.LazyLinear(4), nn.PReLU())
    report = replace_activations(model, nn.PReLU, lambda old: Blend(old, nn.PReLU(), 5), verbose=False)
    assert report.new_parameters == 1  # the old one's is known
    assert "-> Blend(steps=5, shape='linear' (old): PReLU(" in str(report)
    assert model(torch.randn(2, 3)).shape == (2, 4)


def test_the_report_is_printed_unless_told_not_to(capsys):
    model = nn.Sequential(*(Block() for _ in range(20)))
    report = replace_activations(model, nn.ReLU, nn.SiLU)
    assert capsys.readouterr().out == f"{report}\n"
    assert str(report).startswith("20 x ReLU() -> SiLU()\n  *.act (20)\n")
    replace_activations(model, "3.act", nn.Mish, verbose=False)
    assert capsys.readouterr().out == ""


def test_a_lost_write_into_the_input_is_named():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU(inplace=True)
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            return x + self.linear(self.act(x))

    assert "wrote into its input" in str(replace_activations(Residual(), nn.ReLU, nn.SiLU, verbose=False))


@pytest.mark.parametrize("activation", [F.relu, F.gelu, "gelu", nn.ReLU()])
@torch.no_grad()
def test_the_fused_encoder_layer_computes_the_new_one(activation):
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation=activation, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    replace_activations(model, (nn.ReLU, nn.GELU), nn.Tanh, verbose=False)
    expected = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, activation=torch.tanh, batch_first=True), 2, enable_nested_tensor=False
    )
    expected.load_state_dict(model.state_dict())
    x, padding = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    for mask in (None, padding):
        torch.testing.assert_close(
            model(x, src_key_padding_mask=mask), expected.eval()(x, src_key_padding_mask=mask), atol=1e-6, rtol=1e-5
        )


def test_recurrent_networks_are_named():
    model = nn.Sequential(nn.RNN(4, 4, nonlinearity="relu"), nn.ReLU())
    report = replace_activations(model, nn.ReLU, nn.SiLU, verbose=False)
    assert [(left.name, left.calls) for left in report.left] == [("0", "relu")]
    with pytest.raises(ValueError, match=r"sigmoid in the model: nn\.LSTM computes it inside of torch"):
        replace_activations(nn.LSTM(4, 4), nn.Sigmoid, nn.SiLU)


def broken():
    broken.calls += 1
    if broken.calls == 3:
        raise RuntimeError("no more")
    return nn.SiLU()


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        (
            nn.ReLU6,
            nn.SiLU,
            ValueError,
            r"matches ReLU6; it has ReLU \(4\), Tanh \(1\); did you mean ReLU, the type of",
        ),
        ((nn.GELU, nn.CELU), nn.SiLU, ValueError, r"GELU or CELU; it has ReLU \(4\)"),
        ("0.acc", nn.SiLU, ValueError, "names of activations are such as '0.act'"),
        ("0.first", nn.SiLU, ValueError, "matches '0.first'"),
        (lambda name, module: False, nn.SiLU, ValueError, "matches the predicate"),
        (F.relu, nn.SiLU, TypeError, "did you mean nn.ReLU"),
        (nn.ReLU(), nn.SiLU, TypeError, "did you mean nn.ReLU"),
        (3, nn.SiLU, TypeError, "got 3"),
        ((), nn.SiLU, TypeError, "a module type"),
        (nn.ReLU, F.silu, TypeError, "nn.SiLU; got <.*silu.*takes tensors"),
        (nn.ReLU, 3, TypeError, "what makes an activation"),
        (nn.ReLU, lambda: 3, TypeError, "got int for 0.act"),
        (nn.ReLU, nn.Linear, TypeError, "Linear needs in_features, out_features: write lambda"),
        (nn.ReLU, nn.Threshold, TypeError, "Threshold needs threshold, value"),
        (nn.ReLU, itertools.repeat(nn.SiLU()).__next__, ValueError, "made the same SiLU for 1.act"),
        (nn.ReLU, broken, RuntimeError, "no more"),
    ],
)
def test_what_is_refused_changes_nothing(old, new, error, words):
    broken.calls = 0
    model = nn.Sequential(*(Block() for _ in range(4)), nn.Tanh())
    before = kinds(model)
    with pytest.raises(error, match=words):
        replace_activations(model, old, new)
    assert kinds(model) == before


def test_a_module_that_takes_nothing_new_leaves_all_as_it_was():
    class Stubborn(Block):
        def __setattr__(self, name, value):
            if isinstance(value, nn.SiLU):
                raise AttributeError("not here")
            super().__setattr__(name, value)

    layer = nn.TransformerEncoderLayer(8, 2, 16, activation=F.relu)
    model = nn.ModuleList([Block(), layer, Stubborn()])
    before = kinds(model)
    with pytest.raises(AttributeError, match="not here"):
        replace_activations(model, nn.ReLU, nn.SiLU)
    assert kinds(model) == before
    assert layer.activation is F.relu


def test_models_that_cannot_be_changed():
    with pytest.raises(ValueError, match="the model itself is the ReLU"):
        replace_activations(nn.ReLU(), nn.ReLU, nn.SiLU)
    with pytest.raises(ValueError, match="no activations"):
        replace_activations(nn.Linear(2, 2), nn.ReLU, nn.SiLU)
    with pytest.raises(TypeError, match="got list"):
        replace_activations([nn.ReLU()], nn.ReLU, nn.SiLU)
    with pytest.warns(FutureWarning), pytest.raises(ValueError, match=r"before torch\.jit\.script"):
        replace_activations(torch.jit.script(Block()), nn.ReLU, nn.SiLU)


@pytest.fixture
def process_group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_a_model_wrapped_for_distributed_training_keeps_its_parameters():
    model = nn.parallel.DistributedDataParallel(Block())
    before = kinds(model)
    with pytest.raises(ValueError, match="before it is wrapped"):
        replace_activations(model, nn.ReLU, nn.PReLU)
    assert kinds(model) == before
    report = replace_activations(model, "module.act", nn.SiLU, verbose=False)
    assert [place.name for place in report.replaced] == ["module.act"]
    model(torch.randn(2, 4)).sum().backward()


def test_a_compiled_model_computes_the_new_one():
    model = Block()
    compiled = torch.compile(model, backend="eager")
    x = torch.randn(2, 4)
    compiled(x)
    replace_activations(compiled, nn.ReLU, nn.Tanh, verbose=False)
    torch.testing.assert_close(compiled(x), torch.tanh(model.second(torch.tanh(model.first(x)))))
