"""``nas.load``: an activation from wherever it is: the zoo, an exported file, a run, or a formula.

Nothing that is read is run: a formula is parsed, a card is JSON, parameters are read by safetensors or by torch's
loader for weights only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.activation import Activation, Setting
from search_spaces.expression import Expression, params
from search_spaces.known import as_expression
from search_spaces.parser import ParseError, parse

_SAFE = (".safetensors", ".pt", ".pth")


class LoadError(ValueError):
    """There is nothing of that name, or it is not what its card says."""


def load(
    source: str | Path,
    *,
    parameters: str | Path | None = None,
    channels: int | None = None,
    channel_dim: int = 1,
    **settings: Setting,
) -> Activation:
    """An activation by its name, file, place in a run, or formula.

    Args:
        source: a name of the zoo (``nas zoo`` lists them), such as ``"GELU"``; an exported ``.py`` file, or its
            ``.json`` card; ``"RUN:best"``, the best function that a search found; ``"RUN:2"``, the second of its
            leaderboard as it is now, which may be a baseline; or a formula.
        parameters: a file with values of the learnable parameters: ``.safetensors``, or ``.pt`` with a state dict.
        channels, channel_dim, settings: as of :class:`nas.Activation`.

    Raises:
        LoadError: there is no such file or rank; an exported file was edited; the parameters do not fit.
        ParseError: it is none of these, and no formula either.
    """
    expression = find_expression(source)
    if parameters is not None:
        settings = {**fitting_parameters(Path(parameters), expression, channels), **settings}
    return Activation(expression, channels=channels, channel_dim=channel_dim, **settings)


def find_expression(source: str | Path) -> Expression:
    """The expression that a name, file, place in a run or formula stands for; raises as :func:`load`."""
    text = str(source).strip()
    path = Path(text)
    if path.suffix in (".py", ".json"):
        return _exported(path)
    if _holds_a_study(path):
        raise LoadError(f"{text} is a study; its best find is {text}:best")
    run, colon, place = text.rpartition(":")
    if colon and (place == "best" or (place.isascii() and place.isdigit())):
        return _placed(Path(run), place)
    try:
        return as_expression(text)
    except ParseError as error:
        if "/" in text and not set(text) & set("()*+ "):
            raise LoadError(
                f"there is no {text}; give a file, RUN:best, RUN:RANK, a name that nas zoo lists, or a formula"
            ) from error
        raise


def _holds_a_study(path: Path) -> bool:
    try:
        return (path / "study.db").exists()
    except (OSError, ValueError):  # a formula that is no path at all, since it is too long or holds a null
        return False


def _placed(run: Path, place: str) -> Expression:
    """The function of a leaderboard with that rank, or the first that is not a mere baseline."""
    from analysis.leaderboard import leaderboard
    from analysis.store import Store

    with Store.open(run) as store:
        rows = leaderboard(store)
    if place == "best":
        chosen = rows[rows["found"] & (rows["state"] == "COMPLETE")]
        if chosen.empty:
            raise LoadError(f"{run} has found no function yet: none of a search has completed its training")
    else:
        chosen = rows[rows["rank"] == int(place)]
        if chosen.empty:
            raise LoadError(f"{run} has ranks 1 to {len(rows)}, got {place}; its best find is {run}:best")
    return parse(str(chosen["expression"].iloc[0]))


def _exported(path: Path) -> Expression:
    """The formula of an exported file's card, if the file is still what was exported."""
    card_path, module = path.with_suffix(".json"), path.with_suffix(".py")
    if path.suffix == ".py" and not module.exists():
        raise LoadError(f"there is no file {module}")
    card = read_card(card_path)
    if module.exists():
        from nas.export import sha256

        if sha256(module) != card.get("sha256"):
            raise LoadError(
                f"{module} is not what was exported as {card['formula']!r}: it was edited, or is another version's. "
                "nas.load reads the formula from the card, which may be another than the file's. Export it anew; or, "
                "if you trust it, import it as the Python module that it is"
            )
    return as_expression(card["formula"])


def read_card(path: Path) -> dict[str, Any]:
    """The card of an exported function. Raises LoadError."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LoadError(
            f"{path} cannot be read ({error.strerror or error}); nas.load reads the formula from an exported file's "
            "card, which nas export writes beside it: keep the two together, or import the file as a Python module"
        ) from error
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{path} is no card of an exported function: it is no JSON ({str(error)[:100]})") from error
    if not isinstance(card, dict) or not isinstance(card.get("formula"), str):
        raise LoadError(f"{path} is no card of an exported function: a card is an object with the key 'formula'")
    return card


def read_parameters(path: Path) -> dict[str, Tensor]:
    """Tensors by name. Raises LoadError."""
    if path.suffix not in _SAFE:
        raise LoadError(f"parameters are read from {', '.join(_SAFE)}, got {path.name!r}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        values = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # each loader has errors of its own, and none of them is the caller's to know
        what = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise LoadError(f"{path} cannot be read as parameters ({what})") from error
    if not isinstance(values, dict) or not all(isinstance(value, Tensor) for value in values.values()):
        raise LoadError(f"{path} holds no parameters: a state dict is tensors by name, as act.state_dict() has them")
    return values


def fitting_parameters(path: Path, expression: Expression, channels: int | None) -> dict[str, Tensor]:
    """The values of an expression's parameters, () or (channels,). Raises LoadError."""
    values, names = read_parameters(path), params(expression)
    for name in names:
        if name not in values:
            known = ", ".join(map(str, values)) or "nothing"
            raise LoadError(f"{path} has no {name}, which {expression} needs; it has {known}")
        size = values[name].numel()
        if values[name].dim() > 1 or not size or (channels is not None and size not in (1, channels)):
            raise LoadError(
                f"{path}: {name} is {tuple(values[name].shape)}; it is one value, or one for each of the channels"
                f"{'' if channels is None else f', which are {channels}'}"
            )
    return {name: values[name].squeeze() for name in names}
