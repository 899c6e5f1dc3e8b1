"""A small decoder for text, to try activations, gates, attentions and positions in, made of :mod:`nas.modules`.

Blocks with RMSNorm before each part, rotary positions, no biases, and an FFN (Shazeer 2020, arXiv 2002.05202) that is
    plain: act(x W) W2,   gated: (act(x W) * x V) W2,   binary: act(x W, x V) W2.
The head has weights of its own, not the embedding's, which for an alphabet of 256 bytes cost little.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import nn

from nas.modules import (
    AlibiBias,
    Attention,
    FeedForward,
    InfiniAttention,
    LearnedPositions,
    LinearAttention,
    RelativeBias,
    RotaryEmbedding,
    SinusoidalPositions,
    TransformerBlock,
    TransformerLM,
)
from trainers.models import ActFactory, ModelError, models, text_length

AttentionKind = Literal["full", "local", "infini", "linear"]
PositionKind = Literal["rope", "sinusoidal", "learned", "relative", "alibi", "none"]


@models.register("gpt")
def gpt(
    act: ActFactory,
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    dim: PositiveInt = 128,
    depth: PositiveInt = 4,
    heads: PositiveInt = 4,
    ffn: Literal["plain", "gated", "binary"] = "plain",
    base: Annotated[float, Field(gt=1)] = 10_000.0,
    attention: AttentionKind = "full",
    segment: PositiveInt = 64,
    update: Literal["linear", "delta"] = "delta",
    positions: PositionKind = "rope",
) -> nn.Module:
    """A decoder of ``depth`` blocks; ``ffn`` is plain, gated or binary (an activation of two inputs as the gate).

    ``segment`` is the window of local attention, and the segment of Infini-attention, whose memory has the rule
    ``update``, which linear attention has, too.

    Raises:
        ModelError: sizes or positions that do not fit each other.
    """
    length = text_length("gpt", input_shape)
    _check(dim, heads, attention, positions)
    rope = RotaryEmbedding(dim // heads, base) if positions == "rope" else None

    def mixer() -> nn.Module:
        if attention == "infini":
            return InfiniAttention(dim, heads, segment, rope=rope, update=update)
        if attention == "linear":
            return LinearAttention(dim, heads, update=update)
        bias = {"relative": RelativeBias, "alibi": AlibiBias}.get(positions)
        window = segment if attention == "local" else None
        return Attention(dim, heads, rope=rope, score_bias=None if bias is None else bias(heads), window=window)

    added: dict[str, Callable[[], nn.Module]] = {
        "sinusoidal": lambda: SinusoidalPositions(dim),
        "learned": lambda: LearnedPositions(length, dim),
    }
    return TransformerLM(
        num_outputs,
        dim,
        [TransformerBlock(dim, mixer(), FeedForward(dim, act, kind=ffn)) for _ in range(depth)],
        positions=added[positions]() if positions in added else None,
    )


def _check(dim: int, heads: int, attention: AttentionKind, positions: PositionKind) -> None:
    """Raises ModelError for sizes or positions that do not fit each other."""
    step = {"rope": 2 * heads, "sinusoidal": math.lcm(2, heads)}.get(positions, heads)
    if dim % step:
        raise ModelError(
            f"heads are of one size, and rotary positions turn pairs of a head's channels, sinusoids are pairs; got "
            f"model.dim and model.heads {dim} and {heads}; take model.dim={step * max(1, dim // step)}"
        )
    of_scores = {"full": (), "local": (), "infini": ("relative", "alibi"), "linear": ("relative", "alibi", "rope")}
    if positions in of_scores[attention]:
        raise ModelError(
            f"model.positions={positions} needs scores of softmax, which {attention} attention has not; take "
            f"{'sinusoidal' if attention == 'linear' else 'rope'}"
        )
