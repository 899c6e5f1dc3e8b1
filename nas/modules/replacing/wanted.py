"""What to replace: types, name patterns and predicates as one question; and what to say when nothing answers to it."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import nn

from nas.modules.replacing.functions import NAMES, FunctionCall, looks_like_activation, stands_for

Old = type[nn.Module] | tuple[type[nn.Module], ...] | str | re.Pattern[str] | Callable[[str, nn.Module], bool]
Wanted = Callable[[str, nn.Module], bool]


def wanted(old: Any) -> Wanted:
    """The question as a predicate of name and module; functional calls come as :class:`FunctionCall`.

    Raises:
        TypeError: neither a module type, a tuple of them, a pattern nor a predicate.
    """
    types = old if isinstance(old, tuple) else (old,)
    if types and all(isinstance(kind, type) and issubclass(kind, nn.Module) for kind in types):
        return lambda _, module: (
            issubclass(module.stands_for, types) if isinstance(module, FunctionCall) else isinstance(module, types)
        )
    if isinstance(old, str):
        return lambda name, module: looks_like_activation(module) and fnmatch.fnmatchcase(name, old)
    if isinstance(old, re.Pattern):
        return lambda name, module: looks_like_activation(module) and old.fullmatch(name) is not None
    if callable(old) and not isinstance(old, (type, nn.Module)) and stands_for(old) is None:
        return lambda name, module: bool(old(name, module))
    named = stands_for(old) or type(old)
    hint = f"; did you mean nn.{named.__name__}?" if named in NAMES else ""
    raise TypeError(
        "old says which activations to replace: a module type such as nn.ReLU, a tuple of them, a pattern of names "
        f"such as 'layer1.*.relu', or a predicate (name, module) -> bool; got {old!r}{hint}"
    )


def nothing_found(old: Any, model: nn.Module, calls: Counter[str]) -> ValueError:
    """The error for a model without what was asked for: what it has, and what comes near."""
    named = {name: type(module).__name__ for name, module in model.named_modules() if looks_like_activation(module)}
    listed = [f"{kind} ({count})" for kind, count in Counter(named.values()).most_common()]
    listed += [f"F.{name} ({count}, a function)" for name, count in calls.most_common()]
    has = ", ".join(listed) or "no activations"
    return ValueError(f"nothing in this {type(model).__name__} matches {_said(old)}; it has {has}{_near(old, named)}")


def _said(old: Any) -> str:
    if isinstance(old, tuple):
        return " or ".join(_said(kind) for kind in old)
    if isinstance(old, re.Pattern):
        return repr(old.pattern)
    return old.__name__ if isinstance(old, type) else "the predicate" if callable(old) else repr(old)


def _near(old: Any, named: dict[str, str]) -> str:
    if isinstance(old, (str, re.Pattern)):
        pattern = old if isinstance(old, str) else old.pattern
        found = difflib.get_close_matches(pattern, named, n=3, cutoff=0.4) or list(named)[:3]
        return f"; names of activations are such as {', '.join(map(repr, found))}" if named else ""
    asked = [kind.__name__ for kind in (old if isinstance(old, tuple) else (old,)) if isinstance(kind, type)]
    for name, kind in named.items():
        for one in asked:
            if kind.lower() in one.lower() or one.lower() in kind.lower() or difflib.get_close_matches(one, [kind]):
                return f"; did you mean {kind}, the type of {name!r}?"
    return ""
