"""The places of a model where a wanted activation is: submodules, function attributes, and calls in a forward."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import fx, nn

from nas.modules.replacing.functions import NAMES, FunctionCall, as_call, looks_like_activation
from nas.modules.replacing.report import Left
from nas.modules.replacing.scan import Scan, scan
from nas.modules.replacing.trace import (
    Trace,
    calls_with_more,
    function_call,
    is_constant,
    kind_of,
    only_call,
    parts,
    trace,
    writes_on,
)
from nas.modules.replacing.wanted import Wanted

_OFF = "functional=False"
_UNTRACED = (Scan((), None), "")

Path = tuple[tuple[str, nn.Module], ...]
"""From the model down to the owner of a place: names and modules."""


@dataclass(frozen=True)
class Place:
    """``path[-1]`` is where the new module goes, as ``key``. ``part`` is set for what is a call in its forward."""

    path: Path
    key: str
    old: nn.Module
    part: int | None = None
    note: str = ""

    @property
    def owner(self) -> nn.Module:
        return self.path[-1][1]

    @property
    def name(self) -> str:
        return join(self.path[-1][0], self.key)


def join(*names: str) -> str:
    """The name of a submodule of a submodule."""
    return ".".join(name for name in names if name)


@dataclass
class Survey:
    """Goes through a model once and finds; changes nothing.

    Args:
        wants: what to replace.
        functional: whether calls of functions are to be replaced, rather than only told about.
        per_call: whether each call of a submodule that is called several times is a place of its own.
    """

    wants: Wanted
    functional: bool
    per_call: bool
    places: list[Place] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    traces: dict[nn.Module, tuple[Scan, Trace | str]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    _seen: set[nn.Module] = field(default_factory=set)

    def visit(self, name: str, module: nn.Module, path: Path = ()) -> None:
        """Find everything in a module, once, wherever it stands a second time."""
        if module in self._seen:
            return
        self._seen.add(module)
        path = (*path, (name, module))
        if len(path) > 1 and looks_like_activation(module):
            self._inside(path)
            return
        self._forward(path)
        self._attributes(path)
        for key, child in module._modules.items():
            if child is None:
                continue
            if self.wants(join(name, key), child) or self._is_function(join(name, key), child):
                self._submodule(path, key, child)
            else:
                self.visit(join(name, key), child, path)

    def _attributes(self, path: Path) -> None:
        name, module = path[-1]
        traced = self.traces.get(module, _UNTRACED)[1]
        for key, value in list(vars(module).items()):
            call = as_call(value)
            if call is None:
                continue
            self.calls[call.name] += 1
            if not self.wants(join(name, key), call):
                continue
            if not self.functional:
                self._leave(path, f"F.{call.name}, held as {key},", _OFF)
            elif isinstance(traced, Trace) and calls_with_more(traced.training, key):
                self._leave(path, f"F.{call.name}, held as {key},", "forward calls it with arguments")
            else:
                self.places.append(Place(path, key, call))

    def _forward(self, path: Path) -> None:
        """Calls in forward, by trace where there is one, else by what its bytecode names."""
        module = path[-1][1]
        if type(module).__module__.startswith("torch.") and not isinstance(module, fx.GraphModule):
            self._recurrent(path)
            return
        scanned, traced = self._trace(module)
        if isinstance(traced, str):
            self.calls.update(call for _, call in scanned.calls)
            self._leave_calls(path, scanned, traced if self.functional else _OFF)
            return
        for index, node in enumerate(parts(traced.training)):
            kind = kind_of(node)
            if kind is not None:
                self._call(path, index, node)

    def _trace(self, module: nn.Module) -> tuple[Scan, Trace | str]:
        if module not in self.traces:
            scanned = scan(module)
            self.traces[module] = scanned, trace(module, scanned)
        return self.traces[module]

    def _inside(self, path: Path) -> None:
        """Functions by which another activation is computed, as the tanh of a GELU: no activations of the model."""
        module = path[-1][1]
        if not type(module).__module__.startswith("torch."):
            self._leave_calls(path, scan(module), f"part of {type(module).__name__}, which can be replaced as a whole")

    def _leave_calls(self, path: Path, scanned: Scan, why: str) -> None:
        name = path[-1][0]
        calls = [call for kind, call in scanned.calls if self.wants(join(name, call), FunctionCall(kind, (), {}))]
        if calls:
            self._leave(path, " and ".join(f"F.{call}" for call in dict.fromkeys(calls)), why)

    def _call(self, path: Path, index: int, node: fx.Node) -> None:
        name, module = path[-1]
        call = function_call(node)
        self.calls[call.name] += 1
        key = self._free_key(module, call.name)
        if not self.wants(join(name, key), call):
            return
        if not self.functional:
            self._leave(path, f"F.{call.name}", _OFF)
        elif not is_constant(node):
            self._leave(path, f"F.{call.name}", "it is given other tensors, too")
        else:
            self.places.append(Place(path, key, call, index))

    def _leave(self, path: Path, calls: str, why: str) -> None:
        left = Left(path[-1][0], calls, why)
        if left not in self.left:
            self.left.append(left)

    def _recurrent(self, path: Path) -> None:
        """Torch's recurrent networks, which compute their activations inside."""
        name, module = path[-1]
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            kinds: dict[str, list[type[nn.Module]]] = {"relu": [nn.ReLU], "tanh": [nn.Tanh]}
            inside = kinds.get(getattr(module, "nonlinearity", ""), [nn.Tanh, nn.Sigmoid])
            calls = [NAMES[kind] for kind in inside if self.wants(name, FunctionCall(kind, (), {}))]
            if calls:
                self._leave(path, " and ".join(calls), f"nn.{type(module).__name__} computes it inside of torch")

    def _free_key(self, module: nn.Module, base: str) -> str:
        taken = {place.key for place in self.places if place.owner is module}
        stem, start = (base[:-2], 2) if base.endswith("_2") else (base, 1)
        keys = (stem if i == 1 else f"{stem}_{i}" for i in itertools.count(start))
        return next(key for key in keys if key not in taken and not hasattr(module, key))

    def _is_function(self, name: str, module: nn.Module) -> bool:
        """Whether a module is nothing but the wanted function: it is replaced as a whole (transformers' SiLU)."""
        if not self.functional or module._modules or type(module).__module__.startswith("torch."):
            return False
        _, traced = self._trace(module)
        call = None if isinstance(traced, str) else only_call(module, traced.training)
        return call is not None and self.wants(name, call)

    def _submodule(self, path: Path, key: str, old: nn.Module) -> None:
        calls = list(self._callers(path, key))
        uses = [(caller, index) for caller, indices, _ in calls for index in indices]
        note = ""
        if any(place.old is old and place.part is None for place in self.places):
            note = "one module stood in several places; now each has its own"
        if len(uses) > 1 and not self.per_call:
            note = "called several times in one forward, with the same module; per_call=True gives each call its own"
        if getattr(old, "inplace", False) and any(reads for _, _, reads in calls):
            note = "the old one wrote into its input, which is read again later; the new one does not"
        self.places.append(Place(path, key, old, note=note))
        if self.per_call:
            for caller, index in uses[1:]:
                self.places.append(Place(caller, self._free_key(caller[-1][1], f"{key}_2"), old, index))

    def _callers(self, path: Path, key: str) -> Iterator[tuple[Path, list[int], bool]]:
        """Whose forward calls the submodule: (path, which parts of its trace, whether its input is read later)."""
        nearest = True
        for depth in range(len(path), 0, -1):
            caller = path[:depth]
            traced = self.traces.get(caller[-1][1], _UNTRACED)[1]
            target = join(path[-1][0], key)[len(caller[-1][0]) :].lstrip(".")
            if isinstance(traced, Trace):
                found = parts(traced.training)
                indices = [i for i, node in enumerate(found) if node.op == "call_module" and node.target == target]
                if indices:
                    yield caller, indices, writes_on(traced.training, target)
            elif traced and nearest and self.per_call:
                self._leave(caller, f"second calls of {target}, if there are any,", traced)
            nearest = nearest and not traced


def neighbour(place: Place) -> torch.Tensor | None:
    """The floating-point parameter or buffer nearest to a place: device and dtype of what goes there."""
    siblings = list(place.owner._modules.items())
    position = next((i for i, (key, _) in enumerate(siblings) if key == place.key), len(siblings))
    near = [child for _, child in (*reversed(siblings[:position]), *siblings[position:])]
    for module in (place.old, *near, *(module for _, module in reversed(place.path))):
        for tensor in () if module is None else (*module.parameters(), *module.buffers()):
            if tensor.dtype.is_floating_point and tensor.dtype.itemsize > 1:  # no 8-bit formats, which do not compute
                return tensor
    return None
