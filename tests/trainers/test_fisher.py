"""Kronecker factors of the Fisher information against sums written out in numpy, and the spectrum made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special
from torch import nn

from search_spaces.compile import ExpressionActivation
from search_spaces.parser import parse
from tests.trainings import trial
from trainers.fisher import QUANTILES, kronecker_factors, spectrum, trial_spectrum


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def errors(logits: np.ndarray, seed: int) -> np.ndarray:
    """The gradient of -log p(y) with labels drawn from the predictions: p - onehot(y). Shape (rows, classes)."""
    p = special.softmax(logits, axis=1)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(torch.from_numpy(p), 1, generator=generator)[:, 0].numpy()
    return p - np.eye(p.shape[1])[labels]


def outer_sum(rows: np.ndarray) -> np.ndarray:
    """Sum of v v^T, one row after the other."""
    total = np.zeros((rows.shape[1],) * 2)
    for row in rows:
        total += np.outer(row, row)
    return total


def with_one(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers(bias):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 4, bias=bias), nn.Tanh(), nn.Linear(4, 3)).double()
    x = torch.randn(7, 5, dtype=torch.float64)
    (a1, g1), (a2, g2) = (map(array, pair) for pair in kronecker_factors(model, x, seed=4))
    hidden = np.tanh(array(model[0](x)))
    error = errors(array(model(x)), 4)
    inner = error @ array(model[2].weight) * (1 - hidden**2)
    np.testing.assert_allclose(a1, outer_sum(with_one(x.numpy()) if bias else x.numpy()) / 7, rtol=1e-12)
    np.testing.assert_allclose(a2, outer_sum(with_one(hidden)) / 7, rtol=1e-12)
    np.testing.assert_allclose(g1, outer_sum(inner) / 7, rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(g2, outer_sum(error) / 7, rtol=1e-10, atol=1e-15)


def patches(x: np.ndarray, kernel: tuple[int, int], stride: int, padding: tuple[int, int], dilation: int) -> list:
    """For every example what the kernel sees at every position, channels first, in order of rows."""
    padded = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    reach = [dilation * (k - 1) + 1 for k in kernel]
    found = []
    for image in padded:
        seen = []
        for top in range(0, image.shape[1] - reach[0] + 1, stride):
            for left in range(0, image.shape[2] - reach[1] + 1, stride):
                window = image[:, top : top + reach[0] : dilation, left : left + reach[1] : dilation]
                seen.append(window.flatten())
        found.append(np.array(seen))
    return found


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "bias"),
    [
        ((3, 3), 1, (1, 1), 1, True),
        ((3, 3), 2, (1, 1), 1, False),
        ((2, 3), 2, (0, 2), 1, True),
        ((2, 2), 1, (1, 0), 2, True),
    ],
)
def test_convolutions(kernel, stride, padding, dilation, bias):
    """A sums over positions, G is their mean: equations 30 to 32 of arXiv 1602.01407."""
    torch.manual_seed(2)
    n, channels = 3, 4
    conv = nn.Conv2d(2, channels, kernel, stride, padding, dilation, bias=bias).double()
    x = torch.randn(n, 2, 5, 6, dtype=torch.float64)
    positions = conv(x)[0, 0].numel()
    model = nn.Sequential(conv, nn.Tanh(), nn.Flatten(), nn.Linear(channels * positions, 3).double())
    a, g = map(array, kronecker_factors(model, x, seed=1)[0])
    hidden = np.tanh(array(conv(x))).reshape(n, -1)
    inner = errors(array(model(x)), 1) @ array(model[3].weight) * (1 - hidden**2)
    wanted_a, wanted_g = np.zeros_like(a), np.zeros_like(g)
    for example, seen in enumerate(patches(x.numpy(), kernel, stride, padding, dilation)):
        assert len(seen) == positions
        wanted_a += outer_sum(with_one(seen) if bias else seen) / n
        wanted_g += outer_sum(inner[example].reshape(channels, positions).T) / (n * positions)
    np.testing.assert_allclose(a, wanted_a, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(g, wanted_g, rtol=1e-10, atol=1e-14)


def test_text():
    """Inputs (N, T, d): every position has a label of its own; A is a mean over texts, G over positions too."""
    torch.manual_seed(3)
    n, length = 4, 6
    model = nn.Sequential(nn.Embedding(9, 5), nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 9)).double()
    x = torch.randint(9, (n, length))
    (a1, g1), (a2, g2) = (map(array, pair) for pair in kronecker_factors(model, x, seed=7))
    embedded = array(model[0](x)).reshape(-1, 5)
    hidden = np.tanh(array(model[1](torch.from_numpy(embedded))))
    error = errors(array(model(x)).reshape(-1, 9), 7)
    inner = error @ array(model[3].weight) * (1 - hidden**2)
    np.testing.assert_allclose(a1, outer_sum(with_one(embedded)) / n, rtol=1e-10)
    np.testing.assert_allclose(a2, outer_sum(with_one(hidden)) / n, rtol=1e-10)
    np.testing.assert_allclose(g1, outer_sum(inner) / (n * length), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(g2, outer_sum(error) / (n * length), rtol=1e-9, atol=1e-15)


def test_one_linear_layer_has_the_true_fisher_information():
    """For one input the product is no approximation: sum over y of p(y) times the outer square of d log p(y) / dW."""
    torch.manual_seed(4)
    layer = nn.Linear(3, 4).double()
    x = torch.randn(3, dtype=torch.float64)
    true = np.zeros((16, 16))
    log_p = torch.log_softmax(layer(x), 0)
    for y in range(4):
        slopes = torch.autograd.grad(log_p[y], (layer.weight, layer.bias), retain_graph=True)
        flat = array(
            torch.cat([slopes[0], slopes[1][:, None]], 1).T
        ).flatten()  # inputs vary slowest, the 1 is the last
        true += log_p[y].exp().item() * np.outer(flat, flat)
    draws = 40_000
    ((a, g),) = kronecker_factors(layer, x.expand(draws, 3))
    drawn = np.kron(array(a), array(g))
    assert np.abs(drawn - true).max() < 5 / np.sqrt(draws) * np.abs(true).max()
    assert np.abs(drawn - true).max() > 0  # labels are drawn, not summed over


def test_eigenvalues_are_those_of_the_kronecker_product():
    """(7 + 1) * 4 eigenvalues are their own 32 quantiles. G sends (1, 1, 1, 1) to 0, so that eight are rounding."""
    torch.manual_seed(5)
    layer, x = nn.Linear(7, 4).double(), torch.randn(50, 7, dtype=torch.float64)
    ((a, g),) = kronecker_factors(layer, x, seed=2)
    eigenvalues = np.linalg.eigvalsh(np.kron(array(a), array(g)))
    found = spectrum(layer, x, seed=2)
    assert found.shape == (QUANTILES,) == (32,)
    np.testing.assert_allclose(found[8:], np.log10(eigenvalues[8:]), rtol=1e-8)
    assert (found[:8] < -10).all()
    assert np.isfinite(found).all()


def test_all_layers_are_pooled():
    torch.manual_seed(6)
    model = nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 4)).double()
    x = torch.randn(60, 6, dtype=torch.float64)
    pooled = [np.linalg.eigvalsh(np.kron(array(a), array(g))) for a, g in kronecker_factors(model, x)]
    assert list(map(len, pooled)) == [21, 16]
    wanted = np.quantile(np.log10(np.concatenate(pooled).clip(1e-12)), np.linspace(0, 1, 32))
    found = spectrum(model, x)
    np.testing.assert_allclose(found[6:], wanted[6:], rtol=1e-8)  # below lie the 4 that are rounding
    assert (np.diff(found) >= 0).all()


def mlp(formula: str) -> nn.Module:
    torch.manual_seed(0)
    act = [ExpressionActivation(parse(formula)) for _ in range(3)]
    layers = [nn.Linear(16, 16), act[0], nn.Linear(16, 16), act[1], nn.Linear(16, 16), act[2], nn.Linear(16, 5)]
    return nn.Sequential(*layers)


def test_functions_that_vanish_or_explode_move_it():
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    tame, faint, wild = (np.median(spectrum(mlp(f), x)) for f in ("tanh(x)", "0.01 * tanh(x)", "20 * sinh(x)"))
    assert faint < tame - 2
    assert wild > tame + 2


def test_what_overflows_is_hopeless():
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    for formula in ("exp(exp(20 * x))", "sqrt(x)", "1 / (x - x)"):
        assert (spectrum(mlp(formula), x) == 12).all()
    assert np.isfinite(spectrum(mlp("0 * x"), x)).all()


def test_a_model_is_left_as_it_was():
    model = mlp("x * sigmoid(beta * x)")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    first = spectrum(model, x)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    np.testing.assert_array_equal(spectrum(model, x), first)
    assert not np.array_equal(spectrum(model, x, seed=1), first)  # other labels


def test_grouped_convolutions_are_left_out():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(16, 3))
    shapes = [(tuple(a.shape), tuple(g.shape)) for a, g in kronecker_factors(model, torch.randn(5, 2, 4, 4))]
    assert shapes == [((5, 5), (4, 4)), ((17, 17), (3, 3))]
    with pytest.raises(ValueError, match="padding is given in numbers"):
        kronecker_factors(
            nn.Sequential(nn.Conv2d(1, 2, 3, padding="same"), nn.Flatten(), nn.Linear(18, 2)), torch.ones(1, 1, 3, 3)
        )


def test_a_trials_spectrum_depends_on_the_trial_alone():
    first = trial_spectrum(trial())
    torch.manual_seed(99)
    torch.randn(5)
    np.testing.assert_array_equal(trial_spectrum(trial()), first)
    np.testing.assert_array_equal(trial_spectrum(trial(precision="bf16", id=7, budget_epochs=9)), first)
    assert first.shape == (32,)
    assert np.isfinite(first).all()
    assert not np.allclose(trial_spectrum(trial(seed=4)), first, rtol=1e-3)
    assert not np.allclose(trial_spectrum(trial(expression="sin(3 * x)")), first, rtol=1e-3)


def test_activations_may_work_in_place():
    """A gradient is taken of what a layer gave, not of what became of it."""
    torch.manual_seed(0)
    layers, x = (nn.Linear(3, 4), nn.Linear(4, 2)), torch.randn(6, 3)
    plain, in_place = (nn.Sequential(layers[0], nn.ReLU(inplace=i), layers[1]) for i in (False, True))
    for (a, g), (other_a, other_g) in zip(kronecker_factors(plain, x), kronecker_factors(in_place, x), strict=True):
        assert torch.equal(a, other_a)
        assert torch.equal(g, other_g)


def test_a_layer_counts_with_every_use():
    torch.manual_seed(0)
    layer, x = nn.Linear(3, 3), torch.randn(5, 3)
    first, second = kronecker_factors(nn.Sequential(layer, nn.Tanh(), layer), x)
    copy = nn.Linear(3, 3)
    copy.load_state_dict(layer.state_dict())
    for ours, theirs in zip((first, second), kronecker_factors(nn.Sequential(layer, nn.Tanh(), copy), x), strict=True):
        for mine, expected in zip(ours, theirs, strict=True):
            assert torch.allclose(mine, expected)


def test_layers_without_a_gradient_have_none_in_their_block():
    """0 and 0 * x are the same function, whatever autograd makes of them."""
    constant, product = (trial_spectrum(trial(expression=text)) for text in ("0", "0 * x"))
    assert np.array_equal(constant, product)
