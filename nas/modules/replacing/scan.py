"""What the bytecode of a module's forward says: which activations it calls, and what a trace of it would get wrong.

A trace runs forward once, with stand-ins for tensors, and writes down what happened to them. What depends on anything
else is frozen as it was in that one run, without a word. Bytecode shows such things beforehand.
"""

from __future__ import annotations

import dis
import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from nas.modules.replacing.functions import METHODS, NAMES, stands_for

_UNKNOWN = object()
_BLIND = {"isinstance", "type", "random", "is_grad_enabled", "is_autocast_enabled"}


@dataclass(frozen=True)
class Scan:
    """``calls``: (kind, name) of the activations in the code, branches that are not taken included; ``hazard``: why the
    module must not be traced, None if nothing speaks against it.
    """

    calls: tuple[tuple[type[nn.Module], str], ...]
    hazard: str | None


def scan(module: nn.Module) -> Scan:
    """Look through forward and through the methods and functions that it calls, as far as they are Python."""
    forward = inspect.unwrap(vars(module).get("forward") or type(module).forward)
    forward = getattr(forward, "__func__", forward)
    if not isinstance(forward, types.FunctionType):
        return Scan((), "its forward is no Python function")
    found: list[tuple[type[nn.Module], str]] = []
    hazards: list[str] = []
    waiting, seen = [forward], {forward}
    while waiting:
        function = waiting.pop()
        for code in _codes(function.__code__):
            found.extend((kind, name) for kind, name, _ in _values(code, function, module, _calls))
            hazards.extend(_hazards(code))
            callees = [callee for _, _, callee in _values(code, function, module, _python)]
            for callee in (*callees, *_inherited(code, function, module)):
                inner = inspect.unwrap(callee)
                if inner is not callee:
                    hazards.append(f"{inner.__name__} is decorated, of which a trace may not see all")
                if isinstance(inner, types.FunctionType) and inner not in seen:
                    seen.add(inner)
                    waiting.append(inner)
    return Scan(tuple(found), _verdict(module, hazards))


def _verdict(module: nn.Module, hazards: list[str]) -> str | None:
    parameters = inspect.signature(module.forward, follow_wrapped=False).parameters.values()
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return "its forward takes *args or **kwargs"
    optional = any(p.default is not p.empty for p in parameters)
    if not optional:  # then what is compared with None belongs to the module, and does not change from call to call
        hazards = [hazard for hazard in hazards if hazard != _NONE_TEST]
    return hazards[0] if hazards else None


_NONE_TEST = "it asks whether an optional argument is None"


def _hazards(code: types.CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if name == "WITH_EXCEPT_START":
            yield "it has a with statement, which a trace does not see"
        elif name in ("STORE_ATTR", "STORE_GLOBAL"):
            yield f"it sets {instruction.argval}, which a trace would do once only"
        elif name in ("LOAD_GLOBAL", "LOAD_ATTR", "LOAD_METHOD") and instruction.argval in _BLIND:
            yield f"it depends on {instruction.argval}, which a trace would freeze"
        elif name == "IS_OP" or name.endswith(("IF_NONE", "IF_NOT_NONE")):
            yield _NONE_TEST


def _inherited(code: types.CodeType, function: types.FunctionType, module: nn.Module) -> list[types.FunctionType]:
    """What super().f may lead to."""
    if "super" not in code.co_names:
        return []
    bases = [base for base in type(module).__mro__ if not base.__module__.startswith("torch.")]
    found = [vars(base).get(function.__name__) for base in bases]
    return [method for method in found if isinstance(method, types.FunctionType)]


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


Found = tuple[Any, str, Any]


def _calls(value: Any, name: str, receiver: Any) -> Found | None:
    if value is _UNKNOWN and receiver is _UNKNOWN and name in METHODS:
        return METHODS[name], name, None  # x.relu(), where x is most likely a tensor
    kind = stands_for(value)
    return None if kind is None else (kind, NAMES[kind], None)


def _python(value: Any, name: str, _: Any) -> Found | None:
    value = getattr(value, "__func__", value)
    ours = isinstance(value, types.FunctionType) and not str(value.__module__).startswith(("torch.", "typing"))
    return (None, name, value) if ours and stands_for(value) is None else None


def _values(code: types.CodeType, function: types.FunctionType, module: nn.Module, wanted: Any) -> Iterator[Found]:
    """Go along chains such as F.relu or self.block.act, and hand what they lead to over to ``wanted``."""
    owner = code.co_varnames[0] if code.co_argcount and code is function.__code__ else "self"
    captured = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
    value: Any = None
    for instruction in dis.get_instructions(code):
        opname, name = instruction.opname, instruction.argval
        receiver = None
        if opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            value = function.__globals__.get(name, _UNKNOWN)
        elif opname in ("LOAD_ATTR", "LOAD_METHOD"):
            receiver, value = value, _attribute(value, name)
        elif opname.startswith("LOAD_FAST"):
            last = name[-1] if isinstance(name, tuple) else name
            value = module if last == owner else _UNKNOWN
        elif opname in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
            value = module if name == owner else _cell(captured.get(name))
        elif opname in ("CACHE", "PUSH_NULL", "EXTENDED_ARG"):
            continue
        else:
            value = _UNKNOWN
            continue
        found = wanted(value, name, receiver)
        if found is not None:
            yield found


def _cell(cell: Any) -> Any:
    try:
        return _UNKNOWN if cell is None else cell.cell_contents
    except ValueError:  # an empty one
        return _UNKNOWN


def _attribute(value: Any, name: str) -> Any:
    """The attribute without running anything: no properties, no __getattr__ of others."""
    if isinstance(value, nn.Module):
        for place in (vars(value), value._modules, value._parameters, value._buffers):
            if name in place:
                return place[name]
        found = inspect.getattr_static(type(value), name, _UNKNOWN)
        return found.__func__ if isinstance(found, (staticmethod, classmethod)) else found
    if isinstance(value, (types.ModuleType, type)):
        return getattr(value, name, _UNKNOWN)
    return _UNKNOWN
