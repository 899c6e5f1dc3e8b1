"""What commands do with what is typed, beyond typer: keys given as options, and help without what says nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from nas.yaml_config import Section

_OF_SEARCHES = ("search", "resume", "eval", "table", "submit")


class _PlainFlags:
    """In its help, flags stand without the kind of value that they do not take."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


class Group(_PlainFlags, TyperGroup):
    """All commands."""


class Command(_PlainFlags, TyperCommand):
    """One command. Where it takes keys of a configuration, one that is given as an option is answered with the key."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:  # which is completion
            for option, value in self._unknown(args):
                if keys := _keys(self.name or "", option.removeprefix("--").replace("-", "_")):
                    spelled = " or ".join(f"{key}={value}" for key in keys)
                    raise typer.BadParameter(
                        f"no such option: {option}; keys of a configuration are written KEY=VALUE: {spelled}"
                    )
            for word in args:
                name, given, value = word.partition("=")
                if given and f"--{name}" in self._known() and not _keys(self.name or "", name):
                    raise typer.BadParameter(f"{name} is an option, not a key: --{name} {value}")
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = str(error.message).removeprefix("Value error, ")  # of pydantic
            raise

    def _known(self) -> set[str]:
        return {"--help", *(text for param in self.params for text in (*param.opts, *param.secondary_opts))}

    def _unknown(self, args: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Options that the command does not have, and their values."""
        known = self._known()
        for word, following in zip(args, [*args, "VALUE"][1:], strict=True):
            if word == "--":
                return
            option, given, value = word.partition("=")
            if option.startswith("--") and option not in known:
                yield option, value if given else following


def _keys(command: str, name: str) -> list[str]:
    """Keys of that name that the command's configurations have, found by an import that takes its time."""
    from nas.yaml_config import places

    model: type[Section]
    if command in _OF_SEARCHES:
        from nas.config import ExperimentConfig as model
    elif command == "compare":
        from nas.comparison import ComparisonConfig as model
    else:
        return []
    return places(name, model)
