"""Put another activation into a model that is there already: a user's own, torchvision's, timm's, transformers'.

    replace_activations(model, nn.ReLU, nn.SiLU)

Submodules are exchanged. Functions (``F.relu(x)``, ``x.relu()``) are found module by module by torch.fx (Reed et al.
2021, arXiv 2112.08429); a module that calls them gets a forward that calls new submodules instead. What cannot be
traced safely stays as it is, and is named in the report with the reason.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nas.modules.replacing.functions import FunctionCall, stands_for
from nas.modules.replacing.places import Place, Survey, neighbour
from nas.modules.replacing.report import Left, Replaced, Replacement
from nas.modules.replacing.trace import Trace, rewritten
from nas.modules.replacing.wanted import Old, nothing_found, wanted

New = Callable[[], nn.Module] | Callable[[nn.Module], nn.Module] | nn.Module

_MISSING = object()


def replace_activations(
    model: nn.Module,
    old: Old,
    new: New,
    *,
    functional: bool = True,
    per_call: bool = False,
    verbose: bool = True,
) -> Replacement:
    """Replace activations in a model, each by a module of its own; all of them, or, after an error, none.

    A new module takes over device, floating-point dtype and training mode of its place. Parameters elsewhere keep their
    names. Hooks of an old module go with it.

    Args:
        model: changed in place.
        old: a module type or a tuple of them, which stand for torch's functions too (nn.ReLU: F.relu, torch.relu,
            x.relu(), ...); a glob (``"layer1.*.relu"``) or ``re.Pattern`` of full names, among what looks like an
            activation; or a predicate (name, module) -> bool, among all submodules. Functions are shown to it as
            modules of the type ``FunctionCall`` that compute them.
        new: makes a module, called once for each place; with one required argument it is given the old module, as in
            ``lambda old: Blend(old, nn.SiLU(), steps=500)``. A module is copied for each place.
        functional: False leaves functions as they are, and says so in the report.
        per_call: a submodule that is called several times in one forward (torchvision's ResNet has one ReLU for both
            convolutions of a block) becomes several: ``relu``, ``relu_2``.
        verbose: print the report.

    Returns:
        What was replaced, and what was left and why.

    Raises:
        ValueError: nothing matches (it says what there is); the model itself is the activation; the model is scripted;
            or it is wrapped for distributed training and would have other parameters than before.
        TypeError: ``old`` or ``new`` are nothing of the above, or ``new`` makes something else than a module.
    """
    question = wanted(old)
    _check(model, new)
    if question("", model):
        kind = type(model).__name__
        raise ValueError(f"the model itself is the {kind} to replace, and nothing holds it: use the new module instead")
    survey = Survey(question, functional, per_call)
    survey.visit("", model)
    if not survey.places:
        raise _only_left(survey.left) if survey.left else nothing_found(old, model, survey.calls)
    made = _make(survey.places, new)
    _check_parallel(model, survey.places, made)
    classes = _rewrite(survey, made)
    _apply(model, survey.places, made, classes)
    report = _report(survey, made)
    if verbose:
        print(report)
    return report


def _check(model: nn.Module, new: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a torch.nn.Module, got {type(model).__name__}")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ValueError("a scripted module cannot be changed: replace activations before torch.jit.script or trace")
    if not callable(new):
        raise TypeError(f"new is what makes an activation, such as nn.SiLU, got {new!r}")
    kind = stands_for(new)
    if kind is not None:
        raise TypeError(f"new makes a module, such as nn.{kind.__name__}; got {new!r}, which takes tensors")


def _only_left(left: list[Left]) -> ValueError:
    listed = "; ".join(f"{calls.calls} in {calls.name or 'the model'}: {calls.why}" for calls in left)
    return ValueError(f"nothing could be replaced: {listed}. Put modules into these places, and replace them then")


def _make(places: list[Place], new: Any) -> list[nn.Module]:
    make = _factory(new)
    made: list[nn.Module] = []
    for place in places:
        module = make(place.old)
        if not isinstance(module, nn.Module):
            raise TypeError(f"new makes a torch.nn.Module, got {type(module).__name__} for {place.name}")
        if any(module is other for other in made):
            raise ValueError(
                f"new made the same {type(module).__name__} for {place.name} as before, so that places would share "
                "it: make a fresh one in each call, or give the module itself, which is copied"
            )
        tensor = neighbour(place)
        if tensor is not None:
            module.to(device=tensor.device, dtype=tensor.dtype)
        module.train(place.owner.training if isinstance(place.old, FunctionCall) else place.old.training)
        made.append(module)
    return made


def _factory(new: Any) -> Callable[[nn.Module], Any]:
    """``new`` in its three forms as a function of the old module."""
    if isinstance(new, nn.Module):
        return lambda _: copy.deepcopy(new)
    try:
        parameters = [*inspect.signature(new).parameters.values()]
    except ValueError:  # a builtin that does not say
        parameters = []
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not required:
        return lambda _: new()
    if len(required) == 1 and required[0] in positional and not isinstance(new, type):
        return new
    names, name = ", ".join(p.name for p in required), getattr(new, "__name__", new)
    raise TypeError(
        f"new is called without arguments, or is a function of the old module; {name} needs {names}: write "
        "lambda: ..., with the arguments in it"
    )


def _check_parallel(model: nn.Module, places: list[Place], made: list[nn.Module]) -> None:
    """A wrapper for distributed training knows the parameters that were there when it was made."""
    wrapped = [module for module in model.modules() if isinstance(module, nn.parallel.DistributedDataParallel)]
    changed = any([*module.parameters()] for module in (*(place.old for place in places), *made))
    if wrapped and changed:
        raise ValueError(
            "DistributedDataParallel would not synchronise the new parameters: replace activations in the model before "
            "it is wrapped"
        )


def _rewrite(survey: Survey, made: list[nn.Module]) -> list[tuple[nn.Module, type]]:
    """New classes for the modules whose calls become modules."""
    edits: dict[nn.Module, dict[int, str]] = {}
    fresh: dict[nn.Module, dict[str, nn.Module]] = {}
    for place, module in zip(survey.places, made, strict=True):
        if place.part is not None:
            edits.setdefault(place.owner, {})[place.part] = place.key
            fresh.setdefault(place.owner, {})[place.key] = module
    classes = []
    for owner, changes in edits.items():
        _, traced = survey.traces[owner]
        assert isinstance(traced, Trace)
        classes.append((owner, rewritten(owner, traced, changes, fresh[owner])))
    return classes


@dataclass(frozen=True)
class _Change:
    """One attribute to set, and how to set it back."""

    module: nn.Module
    key: str
    value: Any

    def do(self) -> Callable[[], None]:
        if self.key == "__class__":
            before = type(self.module)
            self.module.__class__ = self.value
            return lambda: setattr(self.module, "__class__", before)
        held = vars(self.module).get(self.key, self.module._modules.get(self.key, _MISSING))
        setattr(self.module, self.key, self.value)
        return lambda: self.undo(held)

    def undo(self, held: Any) -> None:
        if isinstance(held, nn.Module):
            setattr(self.module, self.key, held)
            return
        delattr(self.module, self.key)
        if held is not _MISSING:
            setattr(self.module, self.key, held)


def _apply(model: nn.Module, places: list[Place], made: list[nn.Module], classes: list[tuple[nn.Module, type]]) -> None:
    changes = [_Change(place.owner, place.key, module) for place, module in zip(places, made, strict=True)]
    changes += _slow_paths(model, places)
    changes += [_Change(owner, "__class__", kind) for owner, kind in classes]
    undo: list[Callable[[], None]] = []
    try:
        for change in changes:
            undo.append(change.do())
    except BaseException:
        for back in reversed(undo):
            back()
        raise


def _slow_paths(model: nn.Module, places: list[Place]) -> list[_Change]:
    """Torch's encoder layers compute their first activation in a fused kernel in evaluation, whatever they hold now."""
    owners = [place.owner for place in places]
    layers = [owner for owner in owners if isinstance(owner, nn.TransformerEncoderLayer)]
    changes = [_Change(layer, "activation_relu_or_gelu", 0) for layer in layers]
    for encoder in model.modules():
        if isinstance(encoder, nn.TransformerEncoder) and any(layer in layers for layer in encoder.modules()):
            changes.append(_Change(encoder, "use_nested_tensor", False))
    return changes


def _report(survey: Survey, made: list[nn.Module]) -> Replacement:
    replaced = tuple(
        Replaced(place.name, _line(place.old), _line(module), place.note)
        for place, module in zip(survey.places, made, strict=True)
    )
    before = {
        parameter for place in survey.places for parameter in place.old.parameters()
    }  # which a Blend goes on with
    new = {parameter for module in made for parameter in module.parameters()} - before
    return Replacement(replaced, tuple(survey.left), len(new))


def _line(module: nn.Module) -> str:
    """One line of a module."""
    if isinstance(module, FunctionCall):
        return module.extra_repr()
    return " ".join(repr(module).split()).replace("( ", "(").replace(" )", ")")


__all__ = ["FunctionCall", "New", "Old", "Replacement", "replace_activations"]
