"""A relaxed search cell: every slot of a shape is a weighted sum of all its operators, and the weights are learned.

DrNAS: Chen et al. 2021, "DrNAS: Dirichlet neural architecture search" (arXiv 2006.10355): the weights of a slot are
drawn from a Dirichlet distribution with concentrations elu(a) + 1, whose parameters a are trained on one half of the
training data while the network's weights are trained on the other; an anchor keeps the concentrations near 1. For
activation functions it takes three stabilisers, after GRAFS (arXiv 2408.06820): an epoch with ReLU before the search,
outputs bounded at 10 by clamping the operators' inputs, and operators that are dropped, evenly on a logarithmic scale
from the second epoch on, until one is left in every slot.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.compile import evaluate, plan
from search_spaces.expression import Expression, params
from search_spaces.shape_space import ShapeSpace
from search_spaces.shapes import ARITY, Slot
from search_spaces.templates import INPUTS
from trainers.trial import Relaxation

BOUND = 10.0
"""Largest absolute output of an operator in the cell."""
_ANCHOR = 1e-3  # weight of the Kullback-Leibler distance from the uniform Dirichlet distribution
# Tried from the widest: x, a sum, a product, cosh and sinh, exp, x^3.
_CLAMPS = (BOUND, BOUND / 2, math.sqrt(BOUND), math.acosh(BOUND), math.log(BOUND), math.cbrt(BOUND), 1.0)


class RelaxError(ValueError):
    """A shape without an operator that stays finite in some slot."""


class Architecture:
    """The weights of all slots, shared by all places of a network.

    Attributes:
        slots: in the order of the space's choice vector.
        operators: for every slot its bounded templates; None for one that does not stay finite.
        logits: for every slot its parameters a; they are no parameters of the network.
        alive: for every slot which operators are still in it.
    """

    def __init__(self, relaxation: Relaxation, device: torch.device) -> None:
        space = ShapeSpace([relaxation.shape], relaxation.unary, relaxation.binary, relaxation.nary)
        self.shape = space.shapes[0]
        self.slots = sorted(self.shape.slots(), key=lambda slot: ("ubn".index(slot.kind), slot.position))
        rows = {kind: [bounded(t, ARITY[kind]) for t in space.templates[kind]] for kind in ARITY}
        self.number = {slot: number for number, slot in enumerate(self.slots)}
        self.operators = [rows[slot.kind] for slot in self.slots]
        self.logits = [torch.zeros(len(operators), device=device).requires_grad_() for operators in self.operators]
        self.alive = [torch.tensor([o is not None for o in operators], device=device) for operators in self.operators]
        for slot, alive in zip(self.slots, self.alive, strict=True):
            if not alive.any():
                raise RelaxError(f"slot {slot.kind} of {relaxation.shape} has no operator that stays finite on ±10")
        self.weights: list[Tensor] = self.means()
        self.searching = False

    def concentrations(self) -> list[Tensor]:
        """Of the operators that are alive."""
        return [F.elu(a[alive]) + 1 + 1e-6 for a, alive in zip(self.logits, self.alive, strict=True)]

    def draw(self) -> None:
        """New weights for all slots, differentiable with respect to the logits."""
        self.weights = self._spread([torch.distributions.Dirichlet(c).rsample() for c in self.concentrations()])

    def means(self) -> list[Tensor]:
        """The expected weights, 0 for operators that have been dropped."""
        return [w.detach() for w in self._spread([c / c.sum() for c in self.concentrations()])]

    def _spread(self, weights: list[Tensor]) -> list[Tensor]:
        return [
            torch.zeros(len(alive), device=w.device).masked_scatter(alive, w)
            for w, alive in zip(weights, self.alive, strict=True)
        ]

    def anchor(self) -> Tensor:
        """How far the weights' distribution is from the uniform one; shape ()."""
        total = torch.zeros((), device=self.logits[0].device)
        for c in self.concentrations():
            if len(c) > 1:
                uniform = torch.distributions.Dirichlet(torch.ones_like(c))
                total = total + torch.distributions.kl_divergence(torch.distributions.Dirichlet(c), uniform)
        return _ANCHOR * total

    def drop(self, share: float) -> None:
        """Keep the best operators of every slot: n ** share of the n that it began with."""
        for mean, alive, operators in zip(self.means(), self.alive, self.operators, strict=True):
            began = sum(operator is not None for operator in operators)
            keep = max(1, round(began**share))
            order = torch.argsort(mean.masked_fill(~alive, -1.0), descending=True, stable=True)
            alive[order[keep:]] = False


class RelaxedActivation(nn.Module):
    """One place of the network: ReLU until the search begins, then the cell. Learnable parameters are its own."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.betas = nn.ParameterDict()
        for number, operators in enumerate(architecture.operators):
            for choice, operator in enumerate(operators):
                if operator is not None:
                    for name in operator.params:
                        self.betas[f"{number}_{choice}_{name}"] = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        if not self.architecture.searching:
            return x.relu()
        return self._slot(self.architecture.shape, x)

    def _slot(self, slot: Slot, x: Tensor) -> Tensor:
        operands = [x if operand is None else self._slot(operand, x) for operand in slot.operands]
        a = self.architecture
        number = a.number[slot]
        total = torch.zeros_like(x)
        for choice, operator in enumerate(a.operators[number]):
            if operator is not None and a.alive[number][choice]:
                betas = {name: self.betas[f"{number}_{choice}_{name}"] for name in operator.params}
                total = total + a.weights[number][choice] * operator(operands, betas)
        return total


class _Bounded:
    """An operator whose inputs, or else its output, are clamped such that its output stays within ±:data:`BOUND`."""

    def __init__(self, template: Expression, arity: int, clamp: float | None) -> None:
        self.plan = plan(template)
        self.inputs = INPUTS[arity]
        self.params = params(template)
        self.clamp = BOUND if clamp is None else clamp

    def __call__(self, operands: list[Tensor], betas: dict[str, Tensor]) -> Tensor:
        operands = [operand.clamp(-self.clamp, self.clamp) for operand in operands]
        output = evaluate(self.plan, dict(zip(self.inputs, operands, strict=True)) | betas)
        return output.clamp(-BOUND, BOUND)


def bounded(template: Expression, arity: int) -> _Bounded | None:
    """The operator with the widest clamp at which it stays within the bound; None if it is not finite everywhere.

    An operator that no clamp bounds, such as a logarithm at 0, has its output clamped, and its inputs at the bound.
    """
    for clamp in _CLAMPS:
        output = _on_grid(template, arity, clamp)
        if np.isfinite(output).all() and np.abs(output).max() <= BOUND * (1 + 1e-6):
            return _Bounded(template, arity, clamp)
    return _Bounded(template, arity, None) if np.isfinite(_on_grid(template, arity, BOUND)).all() else None


def _on_grid(template: Expression, arity: int, clamp: float) -> np.ndarray:
    """Values on a grid of all inputs within ±clamp, 0 included, parameters at 1."""
    axis = torch.linspace(-clamp, clamp, 41)
    grid = dict(zip(INPUTS[arity], torch.meshgrid(*[axis] * arity, indexing="ij"), strict=True))
    with torch.no_grad():
        return evaluate(plan(template), grid | {name: torch.ones(()) for name in params(template)}).numpy()
