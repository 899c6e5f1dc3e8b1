"""What Attention refuses beyond sizes: caches of other windows, biases of other heads."""

from __future__ import annotations

import pytest
import torch

from nas.modules import AlibiBias, Attention, RelativeBias


def made(**options):
    return Attention(16, 4, **options)


def text(n):
    return torch.randn(2, n, 16)


@pytest.mark.parametrize(("window", "other"), [(3, None), (None, 3), (3, 5)])
def test_a_cache_of_another_window_is_refused(window, other):
    _, cache = made(window=window).stream(text(9), None)
    with pytest.raises(ValueError, match=r"after 9 tokens this module's cache keeps .* of another window"):
        made(window=other).stream(text(1), cache)


@pytest.mark.parametrize("bias", [AlibiBias(3), AlibiBias(1), RelativeBias(8)])
def test_a_bias_for_other_heads_is_refused(bias):
    with pytest.raises(ValueError, match=r"score_bias gives .* = \(4, 5, 5\), got .*; make it for 4 heads"):
        made(score_bias=bias)(text(5))


def test_a_class_in_place_of_a_bias_is_refused():
    with pytest.raises(ValueError, match=r"a module such as AlibiBias\(4\), got <class"):
        made(score_bias=AlibiBias)
