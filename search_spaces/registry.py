"""Named components found by name: one decorated file each, discovered by importing the files of a package.

A component's options are the keyword parameters of its factory; :meth:`Registry.check` compares a dictionary of
options with that signature and reports every fault in one go.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict, ValidationError, create_model

T = TypeVar("T", bound=Callable[..., Any])


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint for an unknown name: the near miss if there is one, else the list of what exists."""
    known = {n.lower(): n for n in sorted(names)}
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f"did you mean {known[close[0]]!r}?" if close else f"known: {', '.join(known.values())}"


def describe_error(error: Mapping[str, Any]) -> str:
    """One pydantic error as 'message (got value)'."""
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "model_type":  # pydantic names the class
        message = "a section is a mapping of keys to values"
    value = repr(error.get("input"))
    shown = value if len(value) <= 60 else value[:57] + "..."
    return message if error["type"] in ("missing", "value_error") else f"{message} (got {shown})"


class Registry(Generic[T]):
    """Factories by name. ``kind`` is used in messages, ``package`` is the package (or module) of the decorated ones."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[T], T]:
        def decorate(factory: T) -> T:
            if name in self._entries:
                raise ValueError(f"two {self.kind}s are named {name!r}; names must be unique")
            self._entries[name] = factory
            return factory

        return decorate

    def names(self) -> list[str]:
        self._discover()
        return sorted(self._entries)

    def get(self, name: str) -> T:
        """The factory of that name. Raises KeyError with the near miss for an unknown one."""
        self._discover()
        if name not in self._entries:
            raise KeyError(f"unknown {self.kind} {name!r}; {nearest(name, self._entries)}")
        return self._entries[name]

    def options(self) -> list[str]:
        """The options that one or more of the components take."""
        factories = map(self.get, self.names())
        parameters = (p for factory in factories for p in inspect.signature(factory).parameters.values())
        return sorted({p.name for p in parameters if p.kind is p.KEYWORD_ONLY})

    def defaults(self, name: str) -> dict[str, Any]:
        """The options of that component that need not be given, with their values."""
        parameters = inspect.signature(self.get(name)).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}

    def check(self, name: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The options as that component wants them ("1e-1" as the number 0.1), and their faults as sentences.

        Only keyword-only parameters of the factory are options; the others are supplied by the caller in code.
        """
        try:
            parameters = inspect.signature(self.get(name), eval_str=True).parameters.values()
        except KeyError as error:
            return dict(options), [error.args[0]]
        options = {str(key): value for key, value in options.items()}
        fields: dict[str, Any] = {
            p.name: (p.annotation, ... if p.default is p.empty else p.default)
            for p in parameters
            if p.kind is p.KEYWORD_ONLY
        }
        faults: list[str] = [
            f"{self.kind} {name!r} has no option {key!r}; {nearest(key, fields) if fields else 'it takes none'}"
            for key in options
            if key not in fields
        ]
        model = create_model(f"{name}_options", __config__=ConfigDict(extra="ignore", allow_inf_nan=False), **fields)
        try:
            checked = model(**{key: value for key, value in options.items() if key in fields})
            options |= checked.model_dump(exclude_unset=True)
        except ValidationError as error:
            for detail in error.errors():
                path = ".".join(str(part) for part in detail["loc"])
                faults.append(f"{self.kind} {name!r}: {path}: {describe_error(detail)}")
        return options, faults

    def _discover(self) -> None:
        if self._discovered:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(getattr(package, "__path__", ())):
            importlib.import_module(f"{self._package}.{module.name}")
        self._discovered = True
