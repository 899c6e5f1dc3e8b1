"""YAML files of experiments: reading, ``key=value`` overrides, faults as sentences. The only reader of ``configs/``."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from nas.shipped import shipped_configs as shipped_configs
from search_spaces.registry import describe_error, nearest
from trainers.trial import Component

S = TypeVar("S", bound="Section")


class ConfigError(ValueError):
    """Everything that is wrong with a configuration, one fault a line."""

    def __init__(self, source: str, faults: list[str]) -> None:
        self.source, self.faults = source, faults
        super().__init__("\n".join(f"{source}: {fault}" for fault in faults))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, list[str]]]:
        return type(self), (self.source, self.faults)  # from a worker process


class Section(BaseModel):
    """Keys of a configuration; unknown ones and values that are no numbers are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def component_keys(cls) -> list[str]:
        """Keys that some component of a section takes, as ``model.width``, for hints."""
        return []


class ComponentConfig(BaseModel):
    """A registered component: ``name`` and its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})

    def component(self) -> Component:
        return Component(self.name, self.options)


def source_of(name: str) -> Path:
    """The file of a shipped configuration, or the one that is named; a file of a shipped name is meant by ./name."""
    return shipped_configs().get(name) or Path(name)


def load_values(
    name: str, overrides: list[str] | None, shipped: Iterable[str]
) -> tuple[dict[str, Any], str, list[str]]:
    """The mapping in a YAML file or a shipped configuration, with overrides; where it is from; and what went wrong.

    Args:
        name: of either.
        overrides: as ``a.b=value``.
        shipped: those that the command takes, to be told if there is no such file.

    Raises:
        ConfigError: there is no such file, or it holds no mapping.
    """
    for text in overrides or []:
        if "=" not in text:
            raise ConfigError("command line", [f"an override has the form key=value, got {text!r}"])
    path = source_of(name)
    values = read_yaml(path, f"no such file, nor a shipped configuration; {nearest(name, shipped)}")
    return values, str(path), [fault for text in overrides or [] if (fault := apply_override(values, text))]


def read_yaml(path: Path, missing: str) -> dict[str, Any]:
    """A mapping from a YAML file. Raises ConfigError, with the sentence ``missing`` if there is no such file."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(str(path), [missing]) from error
    except OSError as error:
        raise ConfigError(str(path)[:80], [f"cannot be read: {error.strerror}"]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # YAML's dates and numbers raise ValueError
        raise ConfigError(str(path), [f"cannot be read as YAML: {' '.join(str(error).split())[:200]}"]) from error
    if not isinstance(values, dict):
        raise ConfigError(str(path), [f"a configuration is a mapping of keys to values, got {type(values).__name__}"])
    return values


def apply_override(values: dict[str, Any], text: str) -> str | None:
    """Apply one ``a.b=value``; a sentence if that is impossible."""
    key, separator, raw = text.partition("=")
    if not separator or not key.strip():
        return f"an override has the form key=value, got {text!r}"
    try:
        value = yaml.safe_load(raw)
    except (yaml.YAMLError, ValueError, RecursionError):
        return f"{key}: the value {raw[:60]!r} is not YAML"
    *parents, last = key.strip().split(".")
    section = values
    for parent in parents:
        child = section.get(parent)
        if child is None:
            child = section[parent] = {}
        if not isinstance(child, dict):
            return f"{key}: {parent!r} is a value, not a section (it is {child!r})"
        section = child
    section[last] = value
    return None


def check(model: type[S], values: dict[str, Any]) -> tuple[S | None, list[str]]:
    """Values as a configuration, or None, and every fault."""
    try:
        return model.model_validate(values), []
    except ValidationError as error:
        return None, [_describe(dict(detail), model) for detail in error.errors()]


def _describe(error: dict[str, Any], root: type[Section]) -> str:
    place = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        return f"unknown key {'.'.join(place)!r}; {_hint(place, root)}"
    return f"{'.'.join(place)}: {describe_error(error)}"


def _hint(place: list[str], root: type[Section]) -> str:
    """What an unknown key was meant to be: one of a section, given without it, or the near miss."""
    inside = places(place[0], root) if len(place) == 1 else []
    if inside:
        return f"did you mean {' or '.join(map(repr, inside))}?"
    return nearest(place[-1], _keys_at(place[:-1], root))


def places(name: str, root: type[Section]) -> list[str]:
    """Keys of that name: the one at the top, else those of sections, as ``search.trials``, else of components."""
    keys = [f"{section}.{key}" for section, f in root.model_fields.items() for key in _keys(_section(f.annotation))]
    kinds = (root.model_fields, keys, root.component_keys())
    found = ([key for key in some if f".{key}".endswith(f".{name}")] for some in kinds)
    return next(filter(None, found), [])


def _keys_at(place: list[str], model: type[BaseModel]) -> list[str]:
    """Names of the keys that the section at this place knows."""
    for part in place:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        model = _section(annotation) or model
    return _keys(model)


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a key of this type holds, if it does."""
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


def _keys(section: type[BaseModel] | None) -> list[str]:
    return [] if section is None else list(section.model_fields)
