"""Models, one decorated file each: factories that take the activation as a factory, called once a site."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from search_spaces.registry import Registry

ActFactory = Callable[[], nn.Module]

models: Registry[Callable[..., nn.Module]] = Registry("model", "trainers.models")
"""``models.get(name)(act, in_channels, num_classes, **options)``"""
