"""The reference of configurations, from the models that read them and the components that they name."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model
from text import attributes, cell, code, plain, summary, table

from nas.comparison import ComparisonConfig, TrainingConfig
from nas.config import ExperimentConfig
from nas.sections import RecipeConfig
from nas.strategies import strategies
from nas.yaml_config import ComponentConfig, shipped_configs
from search_spaces.presets import spaces
from search_spaces.registry import Registry
from trainers.data import datasets
from trainers.models import models
from trainers.tasks import tasks
from trainers.trial import Recipe

_HEAD = """# Configuration

Made from the code of this version. An experiment is a YAML file of these keys, or one of the shipped ones, whose names
commands take: {shipped}. Every key can be given on the command line as `KEY=VALUE`, where the value is YAML:
`search.trials=50`, `strategy='{{name: evolution, population_size: 64}}'`, `pruning=null`. Unknown keys and values that
cannot be are refused, all in one go.

A component (`space`, `strategy`, `model`, `data`) is a mapping with its `name` and its options; a bare name will do.

"""
_COMPONENTS: tuple[tuple[str, str, Registry[Any]], ...] = (
    ("Spaces", "space", spaces),
    ("Strategies", "strategy", strategies),
    ("Models", "model", models),
    ("Data sets", "data", datasets),
    ("Tasks", "task", tasks),
)


def configuration_reference() -> str:
    """The page: sections, then components with their options, then comparisons."""
    shipped = ", ".join(code(name) for name in shipped_configs())
    parts = [_HEAD.format(shipped=shipped), "## An experiment\n\n", keys(ExperimentConfig), "\n"]
    for name, section in sections(ExperimentConfig):
        parts.append(f"## {name}\n\n{summary(section)}\n\n{keys(section)}\n")
    parts += [_components(*entry) for entry in _COMPONENTS]
    parts.append(f"## A comparison\n\nFor `nas compare`.\n\n{keys(ComparisonConfig)}\n")
    parts.append(f"### recipe of a comparison\n\n{summary(TrainingConfig)}\n\n{keys(TrainingConfig)}")
    return "".join(parts)


def sections(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """The keys of a configuration that are sections of keys."""
    for name, field in model.model_fields.items():
        kinds = getattr(field.annotation, "__args__", (field.annotation,))
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not ComponentConfig:
                yield name, kind


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """What the keys of a section mean; of recipes, what the keys of the recipe that they become do."""
    shared = attributes(Recipe) if model in (RecipeConfig, TrainingConfig) else {}
    return shared | attributes(model)


def keys(model: type[BaseModel]) -> str:
    """A table of a section's keys."""
    schema, said = model.model_json_schema(), descriptions(model)
    head = ("key", "type", "default", "")
    return table(head, ((code(name), *_typed(name, schema), cell(said.get(name, ""))) for name in model.model_fields))


def _components(title: str, key: str, registry: Registry[Any]) -> str:
    parts = [f"## {title}\n\nFor the key `{key}`.\n\n"]
    for name in registry.names():
        factory = registry.get(name)
        about = summary(factory) or plain(inspect.getdoc(sys.modules[factory.__module__]) or "").split("\n\n")[0]
        parts.append(f"### {name}\n\n{about}\n\n{_options(name, factory)}")
    return "".join(parts)


def _options(name: str, factory: Any) -> str:
    parameters = inspect.signature(factory, eval_str=True).parameters.values()
    fields: dict[str, Any] = {
        p.name: (p.annotation, ... if p.default is p.empty else p.default)
        for p in parameters
        if p.kind is p.KEYWORD_ONLY
    }
    if not fields:
        return "No options.\n\n"
    schema = create_model(name, __config__=ConfigDict(protected_namespaces=()), **fields).model_json_schema()
    return table(("option", "type", "default"), ((code(key), *_typed(key, schema)) for key in fields)) + "\n"


# --- types in words --------------------------------------------------------------------------------------------------

_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_KINDS = {"integer": "whole number", "boolean": "true or false", "string": "text", "object": "mapping", "null": "null"}


def _typed(name: str, schema: dict[str, Any]) -> tuple[str, str]:
    """Type and default of a property of a JSON schema, as cells."""
    entry = schema["properties"][name]
    kind = cell(type_in_words(entry, schema.get("$defs", {})))
    if name in schema.get("required", ()):
        return kind, "required"
    default = entry.get("default")
    if isinstance(default, dict):
        return kind, code(default["name"]) if list(default) == ["name"] else "see below"
    return kind, code(default if isinstance(default, str) else json.dumps(default))


def type_in_words(entry: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A JSON schema's type as a reader would say it."""
    if "$ref" in entry:
        return "component" if entry["$ref"].endswith("/ComponentConfig") else "section"
    if "anyOf" in entry:
        return " or ".join(type_in_words(option, definitions) for option in entry["anyOf"])
    if "enum" in entry or "const" in entry:
        return " or ".join(f"`{value}`" for value in entry.get("enum", [entry.get("const")]))
    if entry.get("type") == "array":
        inner = entry.get("items")
        return f"list of {type_in_words(inner, definitions)}" if inner else "list"
    limits = [f"{sign} {entry[key]:,.10g}" for key, sign in _LIMITS.items() if key in entry]
    return " ".join([_KINDS.get(entry.get("type", ""), entry.get("type", "any")), ", ".join(limits)]).strip()
