"""An activation under a name of one's own in the configurations of Hugging Face transformers."""

from __future__ import annotations

from torch import nn

from nas.modules.feed_forward import ActFactory
from nas.modules.replacing.functions import stands_for

_OURS: set[str] = set()


def register_with_transformers(name: str, act: ActFactory) -> None:
    """Make ``LlamaConfig(hidden_act=name)``, ``GPT2Config(activation_function=name)`` and the like work.

    Each layer gets a module of its own. The name is stored in a saved configuration, so whoever loads it registers it
    first. A name that was registered here can be registered again.

    Args:
        name: not one of transformers' own.
        act: makes an activation.

    Raises:
        ImportError: transformers is not installed.
        TypeError: ``act`` is no callable that makes a module.
        ValueError: the name is one of transformers' own, or empty.
    """
    try:
        from transformers.activations import ACT2FN
    except ImportError as missing:
        raise ImportError("transformers is not installed: pip install transformers") from missing
    wrong = isinstance(act, nn.Module) or not callable(act) or stands_for(act) is not None
    if wrong or not isinstance(act(), nn.Module):
        raise TypeError(f"act makes an activation for each layer, such as nn.SiLU; got {act!r}")
    if not name or (name in ACT2FN and name not in _OURS):
        raise ValueError(f"transformers has an activation {name!r} already: choose another name")
    ACT2FN[name] = act  # which it calls without arguments at every look-up
    _OURS.add(name)
