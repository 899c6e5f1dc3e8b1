"""Importable components for users' own models. A leaf: it imports torch and nothing else of this project.

Modules take and give (batch, tokens, dim); functions and rotations, heads (batch, heads, tokens, size). Where an
activation belongs, they take an ``ActFactory``: any callable that makes a module.
"""

from nas.modules.attention import Attention
from nas.modules.block import Mixer, TransformerBlock
from nas.modules.cache import KVCache
from nas.modules.feed_forward import ActFactory, ClampedSwiGLU, FeedForward
from nas.modules.finetune import (
    Blend,
    BlendSchedule,
    GradualUnfreezing,
    discriminative_groups,
    finish,
    layer_groups,
    slanted_triangular,
)
from nas.modules.infini_attention import InfiniAttention, InfiniState, parameter_groups
from nas.modules.linear_attention import LinearAttention
from nas.modules.lm import LMState, TransformerLM
from nas.modules.memory import EluPlusOne, Memory
from nas.modules.norm import NormFactory, RMSNorm
from nas.modules.positions import AlibiBias, LearnedPositions, RelativeBias, SinusoidalPositions
from nas.modules.replace import FunctionCall, Replacement, replace_activations
from nas.modules.rope import RotaryEmbedding, convert_layout
from nas.modules.rope_scaling import (
    DynamicNTKScaling,
    LinearScaling,
    Llama3Scaling,
    LongRoPEScaling,
    NoScaling,
    NTKScaling,
    RopeScaling,
    YaRNScaling,
)
from nas.modules.sink_attention import SinkAttention, SinkCache
from nas.modules.softmax_attention import attend
from nas.modules.transformers_names import register_with_transformers

__all__ = [
    "ActFactory",
    "AlibiBias",
    "Attention",
    "Blend",
    "BlendSchedule",
    "ClampedSwiGLU",
    "DynamicNTKScaling",
    "EluPlusOne",
    "FeedForward",
    "FunctionCall",
    "GradualUnfreezing",
    "InfiniAttention",
    "InfiniState",
    "KVCache",
    "LMState",
    "LearnedPositions",
    "LinearAttention",
    "LinearScaling",
    "Llama3Scaling",
    "LongRoPEScaling",
    "Memory",
    "Mixer",
    "NTKScaling",
    "NoScaling",
    "NormFactory",
    "RMSNorm",
    "RelativeBias",
    "Replacement",
    "RopeScaling",
    "RotaryEmbedding",
    "SinkAttention",
    "SinkCache",
    "SinusoidalPositions",
    "TransformerBlock",
    "TransformerLM",
    "YaRNScaling",
    "attend",
    "convert_layout",
    "discriminative_groups",
    "finish",
    "layer_groups",
    "parameter_groups",
    "register_with_transformers",
    "replace_activations",
    "slanted_triangular",
]
