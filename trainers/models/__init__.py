"""Models, one decorated file each: factories that take the activation as a factory, called once a site.

A model reads images, float (N, C, H, W), and gives logits (N, classes); or it reads text, int64 (N, T), and gives
logits (N, T, 256) of the next byte.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from search_spaces.registry import Registry

ActFactory = Callable[[], nn.Module]

models: Registry[Callable[..., nn.Module]] = Registry("model", "trainers.models")
"""``models.get(name)(act, input_shape, num_outputs, **options)``; ``input_shape`` is (C, H, W) or (T,)."""


class ModelError(ValueError):
    """A model that cannot be built for this data, or with this activation."""


def image_shape(model: str, input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width. Raises ModelError for other inputs than images."""
    if len(input_shape) != 3:
        raise ModelError(f"{model} reads images, got text; choose a data set of images, or model.name=gpt")
    channels, height, width = input_shape
    return channels, height, width


def text_length(model: str, input_shape: tuple[int, ...]) -> int:
    """The longest input. Raises ModelError for other inputs than text."""
    if len(input_shape) != 1:
        raise ModelError(f"{model} reads text, got images; choose data.name=text, or a model for images")
    return input_shape[0]
