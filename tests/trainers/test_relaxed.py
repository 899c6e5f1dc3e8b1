"""The relaxed cell: its mixture, its bounded operators, and the distribution that its weights are drawn from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special, stats

from search_spaces.expression import params
from search_spaces.presets import GRAFS_UNARY, NODE_BINARY, NODE_NARY, NODE_UNARY, SWISH2017_BINARY, SWISH2017_UNARY
from search_spaces.shape_space import ShapeSpace
from search_spaces.templates import read_templates
from tests.expressions import evaluate_text
from trainers.relaxed import Architecture, RelaxedActivation, RelaxError, bounded
from trainers.trial import Relaxation

CPU = torch.device("cpu")
CELL = Relaxation("b(u(x), b(u(x), x))", ("tanh(x)", "1 / x", "beta * x", "x ** 2"), ("x1 * x2", "x1 - x2"))
A = ((0.3, 9.0, -1.2, 0.8), (-0.4, -9.0, 1.5, 0.1), (0.6, -0.7), (-1.0, 0.25))
"""Parameters a of CELL's slots: two unary ones, the inner binary and the outer one."""


def architecture(relaxation: Relaxation = CELL, logits=A) -> Architecture:
    built = Architecture(relaxation, CPU)
    for mine, values in zip(built.logits, logits, strict=True):
        mine.data = torch.tensor(values)
    built.weights = built.means()
    return built


def concentrations(a) -> np.ndarray:
    """elu(a) + 1, in float64."""
    a = np.asarray(a, dtype=np.float64)
    return np.where(a > 0, a, np.expm1(np.minimum(a, 0))) + 1


def normalized(a, dead=()) -> np.ndarray:
    """Expected weights: c / sum(c), 0 for operators that are out."""
    c = concentrations(a)
    c[list(dead)] = 0
    return c / c.sum()


def test_the_mixture_is_the_sum_written_out():
    built = architecture()
    site = RelaxedActivation(built)
    first, second = site.parameters()  # beta of each unary slot
    first.data, second.data = torch.tensor(1.7), torch.tensor(-0.4)
    built.searching = True
    x = np.linspace(-0.9, 0.9, 31)
    u0, u1 = normalized(A[0], [1]), normalized(A[1], [1])
    b0, b1 = normalized(A[2]), normalized(A[3])
    left = u0[0] * np.tanh(x) + u0[2] * 1.7 * x + u0[3] * x**2
    right = u1[0] * np.tanh(x) + u1[2] * -0.4 * x + u1[3] * x**2
    inner = b0[0] * right * x + b0[1] * (right - x)
    wanted = b1[0] * left * inner + b1[1] * (left - inner)
    found = site(torch.tensor(x, dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    for mean, wanted_mean in zip(built.means(), (u0, u1, b0, b1), strict=True):
        np.testing.assert_allclose(mean.numpy(), wanted_mean, atol=1e-5)


@pytest.mark.parametrize("shape", [CELL.shape, "b(b(u(x), u(x)), x)", "n(u(u(x)), x, b(x, x))"])
def test_one_operator_in_every_slot_is_the_function_of_that_choice_vector(shape):
    """So that weights, which are in the order of the slots, mean what the space's choices mean."""
    unary, binary, nary = ("tanh(x)", "x ** 2", "sin(x)"), ("x1 * x2", "x1 - x2"), ("x1 + x2 * x3", "x1 - x3")
    space = ShapeSpace([shape], unary, binary, nary)
    x = np.linspace(-0.9, 0.9, 31)
    rng = np.random.default_rng(0)
    for _ in range(12):
        choices = (0, *(int(rng.integers(n)) for n in space.cardinalities[1:]))
        built = Architecture(Relaxation(shape, unary, binary, nary), CPU)
        built.searching = True
        for alive, choice in zip(built.alive, choices[1:], strict=True):
            alive[torch.arange(len(alive)) != choice] = False
        built.weights = built.means()
        found = RelaxedActivation(built)(torch.tensor(x, dtype=torch.float32)).detach().numpy()
        np.testing.assert_allclose(found, evaluate_text(str(space.decode(choices)), x), atol=1e-5)


def test_dropped_operators_are_out_of_the_mixture():
    built = architecture()
    for alive, kept in zip(built.alive, ([3], [0], [1], [0]), strict=True):
        alive[[i for i in range(len(alive)) if i not in kept]] = False
    built.searching, built.weights = True, built.means()
    x = np.linspace(-0.9, 0.9, 31)
    found = RelaxedActivation(built)(torch.tensor(x, dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(found, x**2 * (np.tanh(x) - x), atol=1e-6)


def test_it_is_relu_until_the_search_begins():
    built = architecture()
    x = torch.linspace(-3, 3, 13)
    assert torch.equal(RelaxedActivation(built)(x), x.clamp_min(0))


def by_numpy(text: str, inputs: dict[str, np.ndarray], **parameters: float) -> np.ndarray:
    others = {name: value for name, value in inputs.items() if name != "x"}
    return evaluate_text(text, next(iter(inputs.values())), **others, **parameters)


PUBLISHED = [
    *((text, 1) for text in dict.fromkeys((*SWISH2017_UNARY, *GRAFS_UNARY, *NODE_UNARY))),
    *((text, 2) for text in dict.fromkeys((*SWISH2017_BINARY, *NODE_BINARY))),
    *((text, 3) for text in NODE_NARY),
]
NOT_FINITE = {"sqrt(x)", "1 / x", "x1 / x2", "x1 ** x2"}


@pytest.mark.parametrize(("text", "arity"), PUBLISHED)
def test_operators_are_bounded(text, arity):
    """Within ±10 for inputs up to ±1e4, and in value the operator of the clamped inputs."""
    (template,) = read_templates([text], arity, "")
    operator = bounded(template, arity)
    assert (operator is None) == (text in NOT_FINITE)
    if operator is None:
        return
    rng = np.random.default_rng(0)
    names = ("x",) if arity == 1 else tuple(f"x{i + 1}" for i in range(arity))
    points = np.concatenate([np.linspace(-1e4, 1e4, 1001), np.linspace(-12, 12, 1001)]).astype(np.float32)
    inputs = {name: rng.permutation(points) for name in names}
    betas = {name: torch.tensor(3.0) for name in params(template)}
    extreme = operator([torch.from_numpy(value) for value in inputs.values()], betas)
    assert extreme.isfinite().all()
    assert extreme.abs().max() <= 10
    betas = {name: torch.tensor(1.0) for name in params(template)}
    found = operator([torch.from_numpy(value) for value in inputs.values()], betas)
    limit = np.inf if operator.clamp is None else operator.clamp
    clamped = {name: np.clip(value.astype(np.float64), -limit, limit) for name, value in inputs.items()}
    wanted = by_numpy(str(template), clamped, **dict.fromkeys(betas, 1.0))
    error = np.abs(found.expand(len(points)).numpy() - np.clip(wanted, -10, 10))
    assert error.max() < 1e-4


@pytest.mark.parametrize(
    ("text", "reach"),
    [
        ("x", 10),
        ("tanh(x)", 10),
        ("x ** 2", 3.16),
        ("x ** 3", 2.15),
        ("exp(x)", 2.1),
        ("sinh(x)", 2.1),
        ("x1 + x2", 5),
        ("x1 * x2", 3.16),
        ("max(x1, x2)", 10),
        ("x1 + x2 + x3", 3.16),
        ("x1 * x2 * x3", 2.15),
    ],
)
def test_inside_its_reach_an_operator_is_as_it_is(text, reach):
    arity = 1 if "x1" not in text else 3 if "x3" in text else 2
    (template,) = read_templates([text], arity, "")
    operator = bounded(template, arity)
    names = ("x",) if arity == 1 else tuple(f"x{i + 1}" for i in range(arity))
    inputs = {name: np.random.default_rng(i).uniform(-reach, reach, 500) for i, name in enumerate(names)}
    found = operator([torch.tensor(value) for value in inputs.values()], {})
    np.testing.assert_allclose(found.numpy(), by_numpy(text, inputs), rtol=1e-9, atol=1e-12)


def test_a_slot_without_usable_operators_is_refused():
    with pytest.raises(RelaxError, match="slot u of u"):
        Architecture(Relaxation("u(x)", ("1 / x", "sqrt(x)")), CPU)


def test_draws_have_the_moments_of_the_dirichlet_distribution():
    built = architecture()
    torch.manual_seed(0)
    draws = []
    for _ in range(4_000):
        built.draw()
        draws.append(np.concatenate([w.detach().numpy() for w in built.weights]))
    mean, variance = np.mean(draws, 0), np.var(draws, 0)
    start = 0
    for a, dead in zip(A, ([1], [1], [], []), strict=True):
        here, start = slice(start, start + len(a)), start + len(a)
        alive = [i for i in range(len(a)) if i not in dead]
        wanted = stats.dirichlet(concentrations(a)[alive])
        np.testing.assert_allclose(mean[here][alive], wanted.mean(), atol=0.02)
        np.testing.assert_allclose(variance[here][alive], wanted.var(), atol=0.008)
        assert (mean[here][dead] == 0).all()
        np.testing.assert_allclose(np.array(draws)[:, here].sum(1), 1, atol=1e-5)


def test_draws_carry_the_gradient_of_their_mean():
    """Averaged over draws, d w0 / d a is the derivative of c0 / sum(c), with c = elu(a) + 1."""
    a = np.array([0.4, -0.5, 1.0])
    built = architecture(Relaxation("u(x)", ("x", "tanh(x)", "sin(x)")), [a.astype(np.float32)])
    torch.manual_seed(0)
    total = np.zeros(3)
    for _ in range(4_000):
        built.draw()
        total += torch.autograd.grad(built.weights[0][0], built.logits[0])[0].numpy() / 4_000
    step = 1e-6
    shifted = [normalized(a + step * e)[0] - normalized(a - step * e)[0] for e in np.eye(3)]
    np.testing.assert_allclose(total, np.array(shifted) / (2 * step), atol=0.012)


def test_the_anchor_is_the_distance_from_the_uniform_distribution():
    """KL(Dir(c) || Dir(1)) = ln G(sum c) - sum ln G(c) - ln G(K) + sum (c - 1)(digamma(c) - digamma(sum c))."""
    built = architecture()
    wanted = 0.0
    for a, dead in zip(A, ([1], [1], [], []), strict=True):
        c = np.delete(concentrations(a), dead)
        wanted += special.gammaln(c.sum()) - special.gammaln(c).sum() - special.gammaln(len(c))
        wanted += ((c - 1) * (special.digamma(c) - special.digamma(c.sum()))).sum()
    assert built.anchor().item() == pytest.approx(1e-3 * wanted, rel=1e-4)
    untouched = Architecture(CELL, CPU)
    assert untouched.anchor().item() == pytest.approx(0, abs=1e-7)  # c = 1: nothing to bring back


def test_operators_are_dropped_evenly_on_a_logarithmic_scale():
    """16 ** share are left, the best ones; an operator that was never in does not count."""
    texts = (*(f"{i} * x" for i in range(1, 17)), "1 / x")
    a = np.random.default_rng(3).normal(size=17).astype(np.float32)
    built = architecture(Relaxation("u(x)", texts), [a])
    best = [i for i in np.argsort(-a) if i != 16]
    for share, kept in ((1, 16), (0.75, 8), (0.5, 4), (0.25, 2), (0, 1), (0, 1)):
        built.drop(share)
        assert set(built.alive[0].nonzero()[:, 0].tolist()) == set(best[:kept])
    assert built.means()[0].tolist() == pytest.approx([float(i == best[0]) for i in range(17)])
    built.draw()
    assert built.weights[0].tolist() == pytest.approx([float(i == best[0]) for i in range(17)])
    assert built.anchor().item() == 0


def test_the_cells_weights_are_no_parameters_of_the_network():
    site = RelaxedActivation(architecture())
    assert [tuple(p.shape) for p in site.parameters()] == [(), ()]  # beta of each unary slot
    assert len(site.state_dict()) == 2
    assert not {id(p) for p in site.parameters()} & {id(a) for a in site.architecture.logits}
