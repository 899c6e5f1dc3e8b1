"""Another activation in a network that is trained already: go over to it gradually, and unfreeze layers one by one.

Blend                 (1 - t) old(x) + t new(x), t from 0 to 1 over some steps
GradualUnfreezing     the last layers first: Howard and Ruder 2018, ULMFiT (arXiv 1801.06146), section 3.3
discriminative_groups eta_{l-1} = eta_l / 2.6                                            section 3.2
slanted_triangular    a short linear rise, a long linear fall                            section 3.2, equation 3
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float

Shape = Literal["linear", "cosine"]


class Blend(nn.Module):
    """(1 - t) old(x) + t new(x), with t = s / steps after s calls of :meth:`step`, or (1 - cos(pi s / steps)) / 2.

    Until the first step it is the old module, from the last on the new one; both are computed until :func:`finish`
    leaves the new one alone. The steps that were made are a buffer, so that a checkpoint goes on where it was.

    Args:
        old, new: modules of one tensor that keep its shape. What works in place is given a copy.
        steps: training steps of the blend.
        shape: how t rises.

    Raises:
        ValueError: fewer than 1 step, or an unknown shape.
    """

    steps_made: Tensor

    def __init__(self, old: nn.Module, new: nn.Module, steps: int, shape: Shape = "linear") -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"a blend takes at least 1 step, got {steps}")
        if shape not in ("linear", "cosine"):
            raise ValueError(f"a blend's shape is linear or cosine, got {shape!r}")
        self.old = old
        self.new = new
        self.steps = steps
        self.shape = shape
        self.register_buffer("steps_made", torch.zeros((), dtype=torch.int64))

    def t(self) -> Tensor:
        """The share of the new module, a float32 scalar on the module's device."""
        part = (self.steps_made / self.steps).clamp(max=1)
        return part if self.shape == "linear" else (1 - torch.cos(math.pi * part)) / 2

    def step(self) -> None:
        """To be called after each step of the optimiser; evaluation and accumulated gradients are no steps."""
        self.steps_made.add_(1).clamp_(max=self.steps)

    def forward(self, x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Shape of x, dtype of what ``old`` gives."""
        old, new = (module(x.clone() if _is_inplace(module) else x) for module in (self.old, self.new))
        return torch.lerp(old, new.to(old.dtype), self.t().to(old.dtype))  # autocast may have given them two dtypes

    def extra_repr(self) -> str:
        """Its schedule."""
        return f"steps={self.steps}, shape={self.shape!r}"


def _is_inplace(module: nn.Module) -> bool:
    return any(getattr(part, "inplace", False) for part in module.modules())


class BlendSchedule:
    """All blends of a model, stepped together.

    Raises:
        ValueError: there are none.
    """

    def __init__(self, model: nn.Module) -> None:
        self.blends = [module for module in model.modules() if isinstance(module, Blend)]
        if not self.blends:
            raise ValueError(
                f"this {type(model).__name__} has no Blend: make them first, as by replace_activations(model, nn.ReLU, "
                "lambda old: Blend(old, nn.SiLU(), steps=500))"
            )

    def step(self) -> None:
        """After each step of the optimiser."""
        for blend in self.blends:
            blend.step()

    @property
    def done(self) -> bool:
        """Whether all blends have come to the new module."""
        return all(int(blend.steps_made) >= blend.steps for blend in self.blends)


def finish(model: nn.Module, *, early: bool = False) -> nn.Module:
    """Put the new module in the place of each blend; nothing of the blend is left.

    Args:
        model: changed in place; returned, unless it is a blend itself, whose new module is returned.
        early: whether blends may be cut off before they have come to the end.

    Raises:
        ValueError: a blend has steps left, and ``early`` is not set; nothing is changed then.
    """
    for name, module in model.named_modules():
        if isinstance(module, Blend) and not early and int(module.steps_made) < module.steps:
            raise ValueError(
                f"the blend {name or 'of the model'} has made {int(module.steps_made)} of {module.steps} steps: go on, "
                "or cut it off with early=True"
            )
    if isinstance(model, Blend):
        return finish(model.new, early=early)
    for owner in [*model.modules()]:
        for key, child in list(owner._modules.items()):
            if isinstance(child, Blend):
                setattr(owner, key, finish(child.new, early=early))
    return model


def layer_groups(model: nn.Module) -> list[list[nn.Parameter]]:
    """Parameters by layer, first layer first, in the order in which modules were defined.

    A layer is a child of the model; of a Sequential, a ModuleList, or what holds a ModuleList, each child is one.
    Parameters that stand in several layers belong to the first, and those of a module itself come before its layers.

    Raises:
        ValueError: the model has no parameters.
    """
    groups = _layers(model)
    seen: set[nn.Parameter] = set()
    kept = []
    for group in groups:
        fresh = [parameter for parameter in dict.fromkeys(group) if parameter not in seen]
        seen.update(fresh)
        if fresh:
            kept.append(fresh)
    if not kept:
        raise ValueError(f"this {type(model).__name__} has no parameters to be put into groups")
    return kept


def _layers(module: nn.Module) -> Iterator[list[nn.Parameter]]:
    yield list(module.parameters(recurse=False))
    children = [child for child in module.children() if next(child.parameters(), None) is not None]
    for child in children:
        lists = isinstance(child, (nn.Sequential, nn.ModuleList))
        if lists or len(children) == 1 or any(isinstance(part, nn.ModuleList) for part in child.children()):
            yield from _layers(child)
        else:
            yield list(child.parameters())


def discriminative_groups(
    groups: Sequence[Iterable[nn.Parameter]], learning_rate: float, *, factor: float = 2.6
) -> list[dict[str, Any]]:
    """For an optimiser: the last group has ``learning_rate``, each one before it a rate ``factor`` times smaller."""
    last = len(groups) - 1
    return [{"params": list(group), "lr": learning_rate / factor ** (last - i)} for i, group in enumerate(groups)]


def slanted_triangular(steps: int, *, cut_fraction: float = 0.1, ratio: float = 32.0) -> Callable[[int], float]:
    """The factor of the learning rate at each step, for ``torch.optim.lr_scheduler.LambdaLR``.

    It rises from 1 / ratio to 1 in the first ``cut_fraction`` of the steps, and falls back in the others; it ends at
    1 / ratio also where that fraction is no whole number of steps.

    Raises:
        ValueError: fewer than 2 steps, a cut fraction not between 0 and 1, or a ratio below 1.
    """
    if steps < 2 or not 0 < cut_fraction < 1 or ratio < 1:
        raise ValueError(
            "steps are at least 2, cut_fraction is between 0 and 1 and ratio at least 1, got "
            f"{steps}, {cut_fraction} and {ratio}"
        )
    cut = max(1, math.floor(steps * cut_fraction))

    def factor(step: int) -> float:
        part = step / cut if step < cut else max(0.0, 1 - (step - cut) / (steps - cut))
        return (1 + part * (ratio - 1)) / ratio

    return factor


class GradualUnfreezing:
    """Train the last group at first, and one more, going forward, after every ``every`` steps.

    Frozen parameters have ``requires_grad`` off, which saves their backward pass; an optimiser passes over them, so it
    can be made with all. Batch norms go on collecting statistics in frozen layers. Parameters that were frozen before
    stay so.

    Args:
        groups: as :func:`layer_groups` makes them, first layer first.
        every: steps of the optimiser; the paper takes an epoch.
        always: parameters to train from the start, wherever they are, as those of new activations.

    Raises:
        ValueError: no groups, or ``every`` below 1.
    """

    def __init__(
        self, groups: Sequence[Iterable[nn.Parameter]], every: int, *, always: Iterable[nn.Parameter] = ()
    ) -> None:
        if not groups or every < 1:
            raise ValueError(f"there is at least one group, and every is at least 1, got {len(groups)} and {every}")
        kept = set(always)
        self.groups = [[p for p in group if p.requires_grad and p not in kept] for group in groups]
        self.every = every
        self.steps_made = 0
        self._apply()

    @property
    def trainable_groups(self) -> int:
        """How many are trained now."""
        return min(len(self.groups), 1 + self.steps_made // self.every)

    def step(self) -> None:
        """After each step of the optimiser."""
        self.steps_made += 1
        self._apply()

    def _apply(self) -> None:
        first = len(self.groups) - self.trainable_groups
        for i, group in enumerate(self.groups):
            for parameter in group:
                parameter.requires_grad_(i >= first)
                if i < first:
                    parameter.grad = None  # or an optimiser would go on with what it was before

    def state_dict(self) -> dict[str, int]:
        """For a checkpoint."""
        return {"steps_made": self.steps_made}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a checkpoint."""
        self.steps_made = state["steps_made"]
        self._apply()
