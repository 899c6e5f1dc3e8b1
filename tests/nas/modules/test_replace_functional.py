"""Functions replaced by way of torch.fx: each spelling against the same with modules."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nas.modules import Blend, FunctionCall, replace_activations
from tests.nas.modules.functional_nets import Net, of


def helper(x):
    return F.relu(x)


SPELLINGS = {
    "F.relu": (nn.ReLU, lambda self, x: F.relu(self.linear(x))),
    "F.relu, in place": (nn.ReLU, lambda self, x: F.relu(self.linear(x), inplace=True)),
    "F.relu, in place by position": (nn.ReLU, lambda self, x: F.relu(self.linear(x), True)),
    "F.relu, by keyword": (nn.ReLU, lambda self, x: F.relu(input=self.linear(x))),
    "F.relu_": (nn.ReLU, lambda self, x: F.relu_(self.linear(x))),
    "torch.relu": (nn.ReLU, lambda self, x: torch.relu(self.linear(x))),
    "x.relu": (nn.ReLU, lambda self, x: self.linear(x).relu()),
    "x.relu_": (nn.ReLU, lambda self, x: self.linear(x).relu_()),
    "a function that calls it": (nn.ReLU, lambda self, x: helper(self.linear(x))),
    "F.relu6": (nn.ReLU6, lambda self, x: F.relu6(self.linear(x))),
    "F.silu": (nn.SiLU, lambda self, x: F.silu(self.linear(x))),
    "F.gelu": (nn.GELU, lambda self, x: F.gelu(self.linear(x), approximate="tanh")),
    "F.leaky_relu": (nn.LeakyReLU, lambda self, x: F.leaky_relu(self.linear(x), 0.2, True)),
    "F.elu": (nn.ELU, lambda self, x: F.elu(self.linear(x), alpha=0.5)),
    "F.hardswish": (nn.Hardswish, lambda self, x: F.hardswish(self.linear(x))),
    "F.mish": (nn.Mish, lambda self, x: F.mish(self.linear(x))),
    "F.softplus": (nn.Softplus, lambda self, x: F.softplus(self.linear(x), 2.0)),
    "torch.tanh": (nn.Tanh, lambda self, x: torch.tanh(self.linear(x))),
    "x.sigmoid": (nn.Sigmoid, lambda self, x: self.linear(x).sigmoid()),
    "torch.special.expit": (nn.Sigmoid, lambda self, x: torch.special.expit(self.linear(x))),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_is_found(name):
    kind, forward = SPELLINGS[name]
    model = of(forward)
    same = copy.deepcopy(model)
    x = torch.randn(3, 4)
    expected = model(x)
    report = replace_activations(same, kind, lambda old: old, verbose=False)  # the call itself as a module
    torch.testing.assert_close(same(x), expected, atol=0, rtol=0)
    assert isinstance(same.get_submodule(report.replaced[0].name), FunctionCall)
    replace_activations(model, kind, nn.Softsign, verbose=False)
    torch.testing.assert_close(model(x), F.softsign(model.linear(x)))
    assert not report.left


def by_hand(net, x, first, second):
    out = F.dropout(first(net.bn1(net.conv1(x))), 0.5, training=net.training)
    return net.head(second(net.conv2(out) + x).amax((2, 3)))


@pytest.mark.parametrize("training", [True, False])
def test_what_depends_on_training_still_does(training):
    net = Net().train(not training)  # replaced in the other mode
    keys = set(net.state_dict())
    replace_activations(net, nn.ReLU, nn.PReLU, verbose=False)
    nn.init.constant_(net.relu.weight, 0.1)
    nn.init.constant_(net.relu_2.weight, 0.6)
    net.train(training)
    x = torch.randn(2, 1, 6, 6)
    torch.manual_seed(0)
    y = net(x)
    torch.manual_seed(0)
    torch.testing.assert_close(y, by_hand(net, x, net.relu, net.relu_2))
    assert set(net.state_dict()) - keys == {"relu.weight", "relu_2.weight"}
    assert type(net).__name__ == "Net"
    assert isinstance(net, Net)
    assert net.features(x).shape == (2, 4, 6, 6)  # its methods are there, as they were


def test_copied_saved_compiled_and_exported_it_is_the_same():
    net = Net().eval()
    replace_activations(net, nn.ReLU, nn.PReLU, verbose=False)
    x = torch.randn(2, 1, 6, 6)
    expected = net(x)
    copied = copy.deepcopy(net)
    torch.testing.assert_close(copied(x), expected)
    assert copied.relu is not net.relu
    nn.init.constant_(copied.relu.weight, -1.0)  # its forward calls its own
    assert not torch.allclose(copied(x), expected)
    other = Net().eval()
    replace_activations(other, nn.ReLU, nn.PReLU, verbose=False)
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(other(x), expected)
    torch.testing.assert_close(torch.compile(net, fullgraph=True, backend="aot_eager")(x), expected)
    torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), expected)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(net)


def test_replaced_twice_it_can_be_replaced_as_modules_are():
    net = Net().eval()
    replace_activations(net, nn.ReLU, nn.Tanh, verbose=False)
    report = replace_activations(net, nn.Tanh, nn.SiLU, verbose=False)
    assert [place.name for place in report.replaced] == ["relu", "relu_2"]
    x = torch.randn(2, 1, 6, 6)
    torch.testing.assert_close(net(x), by_hand(net, x, F.silu, F.silu))


def test_what_a_call_wrote_into_its_input_is_read_from_its_output():
    def forward(self, x):
        h = self.linear(x)
        F.relu(h, inplace=True)
        return h + self.linear(h)

    model = of(forward)
    replace_activations(model, nn.ReLU, nn.Tanh, verbose=False)
    x = torch.randn(3, 4)
    h = torch.tanh(model.linear(x))
    torch.testing.assert_close(model(x), h + model.linear(h))


HELD = {
    "function": F.gelu,
    "partial": functools.partial(F.gelu, approximate="tanh"),
    "lambda": lambda x: F.gelu(x),
}


@pytest.mark.parametrize("name", HELD)
def test_functions_that_a_module_holds(name):
    model = of(lambda self, x: self.act(self.linear(F.gelu(x))), act=HELD[name])
    expected = copy.deepcopy(model)
    replace_activations(model, nn.GELU, lambda old: old, verbose=False)
    x = torch.randn(3, 4)
    torch.testing.assert_close(model(x), expected(x), atol=0, rtol=0)
    replace_activations(model, lambda _, module: isinstance(module, FunctionCall), nn.Tanh, verbose=False)
    torch.testing.assert_close(model(x), torch.tanh(model.linear(torch.tanh(x))))


def test_a_function_can_be_blended():
    model = of(SPELLINGS["F.gelu"][1])
    x = torch.randn(3, 4)
    expected = model(x)
    replace_activations(model, nn.GELU, lambda old: Blend(old, nn.SiLU(), steps=2), verbose=False)
    torch.testing.assert_close(model(x), expected)


def test_a_module_that_is_only_a_function_goes_as_a_whole():
    wrapped = of(lambda self, x: F.silu(x))
    del wrapped.linear
    model = nn.Sequential(nn.Linear(4, 4), wrapped)
    replace_activations(model, nn.SiLU, nn.Mish, verbose=False)
    assert isinstance(model[1], nn.Mish)


def test_names_and_predicates_reach_calls():
    model = nn.Sequential(Net(), Net())
    report = replace_activations(model, "1.relu*", nn.SiLU, verbose=False)
    assert [place.name for place in report.replaced] == ["1.relu", "1.relu_2"]
    report = replace_activations(
        model, lambda name, module: name == "0.relu" and module.stands_for is nn.ReLU, nn.SiLU, verbose=False
    )
    assert [place.name for place in report.replaced] == ["0.relu"]
