"""Small language models in float64 for tests of blocks, streaming and generation."""

from __future__ import annotations

import torch
from torch import nn

from nas.modules import (
    Attention,
    FeedForward,
    InfiniAttention,
    LearnedPositions,
    LinearAttention,
    RotaryEmbedding,
    SinkAttention,
    SinusoidalPositions,
    TransformerBlock,
    TransformerLM,
)

DIM, VOCABULARY, TOKENS = 16, 11, 19
POSITIONS = {
    "none": lambda: None,
    "sinusoidal": lambda: SinusoidalPositions(DIM),
    "learned": lambda: LearnedPositions(TOKENS, DIM),
}


def mixers():
    """One of each kind."""
    rope = RotaryEmbedding(4)
    return [
        Attention(DIM, 4, rope=rope, window=5, learned_sinks=True),
        SinkAttention(DIM, 4, window=3, sink_tokens=2, rope=rope),
        InfiniAttention(DIM, 4, 4, rope=rope),
        LinearAttention(DIM, 4, update="delta", chunk=3),
    ]


def model(parts=None, order="pre", std=None, **options):
    """With these mixers, or one of each kind; ``std`` makes weights larger, so that logits depend on the whole text."""
    torch.manual_seed(0)
    parts = mixers() if parts is None else parts
    blocks = [TransformerBlock(DIM, mixer, FeedForward(DIM, nn.SiLU, kind="gated"), order=order) for mixer in parts]
    lm = TransformerLM(VOCABULARY, DIM, blocks, **options).double()
    with torch.no_grad():
        for parameter in lm.parameters() if std else ():
            parameter.add_(torch.randn_like(parameter), alpha=std)
    return lm


def plain(**options):
    """With two plain attentions."""
    return model([Attention(DIM, 4, rope=RotaryEmbedding(4)) for _ in range(2)], **options)


def tokens(t=TOKENS, n=2):
    return torch.randint(VOCABULARY, (n, t), generator=torch.Generator().manual_seed(2))
