"""Functions that are not replaced: what a trace would get wrong, and what is said about it."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nas.modules import replace_activations
from tests.nas.modules.functional_nets import Net, of


def optional(self, x, mask=None):
    x = F.relu(self.linear(x))
    return x if mask is None else x * mask


def depends_on_values(self, x):
    return F.relu(self.linear(x)) if x.sum() > 0 else x


def counts(self, x):
    self.calls = 1
    return F.relu(self.linear(x))


def without_gradients(self, x):
    with torch.no_grad():
        return F.relu(self.linear(x))


def asks_types(self, x):
    return F.relu(self.linear(x)) if isinstance(x, torch.Tensor) else x


def draws(self, x):
    return F.relu(self.linear(x)) if random.random() < 0.5 else x


def makes_noise(self, x):
    return F.relu(self.linear(x) + torch.rand(4))


@torch.no_grad()
def decorated(x):
    return F.relu(x)


def calls_decorated(self, x):
    return decorated(self.linear(x))


def any_arguments(self, *xs):
    return F.relu(self.linear(xs[0]))


def only_in_training(self, x):
    return F.relu(self.linear(x)) if self.training else x


def given_weights(self, x):
    return F.relu(F.prelu(self.linear(x), self.weight))


LEFT = {
    optional: "whether an optional argument is None",
    depends_on_values: "torch.fx cannot trace it",
    counts: "it sets calls",
    without_gradients: "a with statement",
    asks_types: "isinstance",
    draws: "random",
    makes_noise: "makes tensors",
    calls_decorated: "decorated",
    any_arguments: r"\*args",
    only_in_training: "in training than in evaluation",
}


@pytest.mark.parametrize("forward", LEFT)
def test_what_a_trace_would_get_wrong_is_left_and_named(forward):
    left = of(forward)
    model = nn.Sequential(left, nn.ReLU())
    before = dict(vars(left)), type(left), [*left.named_modules()]
    report = replace_activations(model, nn.ReLU, nn.SiLU, verbose=False)
    assert [place.name for place in report.replaced] == ["1"]
    assert [(part.name, part.calls) for part in report.left] == [("0", "F.relu")]
    assert (dict(vars(left)), type(left), [*left.named_modules()]) == before
    with pytest.raises(ValueError, match=f"nothing could be replaced: F.relu in the model: .*{LEFT[forward]}"):
        replace_activations(left, nn.ReLU, nn.SiLU)


def test_what_is_inherited_is_looked_at_too():
    class Base(nn.Module):
        def forward(self, x):
            with torch.no_grad():
                return F.relu(x)

    class Derived(Base):
        def forward(self, x):
            return super().forward(x) + 1

    with pytest.raises(ValueError, match="a with statement"):
        replace_activations(Derived(), nn.ReLU, nn.SiLU)


def test_a_call_with_a_weight_is_left_and_its_neighbour_replaced():
    model = of(given_weights, weight=nn.Parameter(torch.tensor(0.25)))
    report = replace_activations(model, (nn.ReLU, nn.PReLU), nn.Tanh, verbose=False)
    assert [part.calls for part in report.left] == ["F.prelu"]
    x = torch.randn(3, 4)
    torch.testing.assert_close(model(x), torch.tanh(F.leaky_relu(model.linear(x), 0.25)))


def test_functions_are_named_where_they_are_not_wanted():
    model = nn.Sequential(Net(), nn.ReLU())
    report = replace_activations(model, nn.ReLU, nn.SiLU, functional=False, verbose=False)
    assert [place.name for place in report.replaced] == ["1"]
    assert str(report).count("functional=False") == 1
    assert type(model[0]) is Net
    with pytest.raises(ValueError, match="functional=False"):
        replace_activations(Net(), nn.ReLU, nn.SiLU, functional=False)


def test_functions_are_listed_when_nothing_matches():
    with pytest.raises(ValueError, match=r"it has F\.relu \(2, a function\)"):
        replace_activations(Net(), nn.GELU, nn.SiLU)


def test_a_traced_model_is_refused():
    with pytest.raises(ValueError, match="replace first, trace then"):
        replace_activations(torch.fx.symbolic_trace(Net()), nn.ReLU, nn.SiLU)


def test_after_an_error_every_forward_is_as_it_was():
    model = nn.Sequential(Net(), Net())
    made = []

    def new():
        made.append(nn.SiLU())
        if len(made) == 4:
            raise RuntimeError("no more")
        return made[-1]

    before = [dict(vars(net)) for net in model]
    with pytest.raises(RuntimeError, match="no more"):
        replace_activations(model, nn.ReLU, new)
    assert [type(net) for net in model] == [Net, Net]
    assert [dict(vars(net)) for net in model] == before
