"""The reference of commands, from the commands themselves."""

from __future__ import annotations

import inspect
import re
from enum import Enum
from types import NoneType
from typing import Any, get_args

import typer
from text import cell, code, plain, table

from nas.cli import app

_HEAD = """# Commands

Made from the code of this version; `nas COMMAND --help` prints the same. RUN is a study's directory, CONFIG a YAML file
or the name of a shipped configuration, KEY=VALUE any key of a [configuration](configuration.md), such as
`search.trials=50`.

A command ends with exit code 0 when it is done, 1 when a search found nothing that works or
no row is left to show, 2 for bad input, with one sentence for each fault, and 130 when it was interrupted.

"""


def command_reference() -> str:
    """The page: every command with its arguments and options."""
    group: Any = typer.main.get_command(app)
    return _HEAD + "\n".join(_command(name, command) for name, command in sorted(group.commands.items()))


def _command(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and "--help" not in p.opts]
    usage = " ".join(["nas", name, *map(_usage, arguments), *(["[OPTIONS]"] if options else [])])
    text = f"## nas {name}\n\n{plain(command.help or '')}\n\n```text\n{usage}\n```\n\n"
    kinds = {name: p.annotation for name, p in inspect.signature(command.callback, eval_str=True).parameters.items()}
    rows = [(code(_metavar(p)), cell(_words(p)), "") for p in arguments]
    rows += [(_spelling(p, _bare(kinds[p.name])), cell(_words(p)), _default(p)) for p in options]
    return text + (table(("argument or option", "", "default"), rows) if rows else "")


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _usage(argument: Any) -> str:
    bare = _metavar(argument).strip("[]")
    several = "" if argument.nargs == 1 or bare.endswith("...") else "..."
    return f"{bare}{several}" if argument.required else f"[{bare}]{several}"


def _bare(annotation: Any) -> type:
    """``Annotated[list[str] | None, ...]`` is a str."""
    while options := [option for option in get_args(annotation) if option is not NoneType]:
        annotation = options[0]
    return annotation


def _spelling(option: Any, kind: type) -> str:
    """``-n``, ``--top`` and what it takes."""
    if kind is bool:
        return ", ".join(map(code, [*option.opts, *option.secondary_opts]))
    takes = " or ".join(code(choice.value) for choice in kind) if issubclass(kind, Enum) else cell(_value(option, kind))
    return f"{', '.join(map(code, option.opts))} {takes}"


def _value(option: Any, kind: type) -> str:
    return str(option.metavar or {int: "N", float: "X"}.get(kind, kind.__name__.upper()))


def _words(parameter: Any) -> str:
    """The help text, without the terminal's markup; a default that it gives goes into its own column."""
    text = re.sub(r"\[dim\].*?\[/dim\]", "", parameter.help or "")
    several = " May be given repeatedly." if parameter.multiple and "repeatedly" not in text else ""
    variable = f" Environment: `{parameter.envvar}`." if getattr(parameter, "envvar", None) else ""
    return text.strip() + several + variable


def _default(option: Any) -> str:
    said = re.search(r"\[dim\]\\?\[(.*?)\]\[/dim\]", option.help or "")
    if said:
        return cell(said.group(1))
    if option.default is None or callable(option.default) or option.multiple:
        return ""
    if option.is_flag and option.secondary_opts:
        return code(option.opts[0] if option.default else option.secondary_opts[0])
    return "" if option.is_flag else code(getattr(option.default, "value", option.default))
