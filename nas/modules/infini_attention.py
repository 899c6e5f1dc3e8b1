"""Infini-attention: Munkhdalai, Faruqui, Gopal 2024, "Leave No Context Behind" (arXiv 2404.07143), section 2.

A text is read in segments. Each head attends causally within its segment and reads the earlier ones from a memory of
constant size (:mod:`nas.modules.memory`), with features s = ELU + 1 of queries and keys without positions:

    A_dot = softmax attention in the segment       A_mem = s(Q) M / (s(Q) z)
    A = sigmoid(beta) A_mem + (1 - sigmoid(beta)) A_dot       beta: one learned number a head
    linear   M <- M + s(K)' V                      delta   M <- M + s(K)' (V - s(K) M / (s(K) z))
    z <- z + sum_t s(k_t)

The segment reads the memory before it is written to it. In the first segment there is nothing to read, 0 / 0, and A is
A_dot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.checkpoint import checkpoint

from nas.modules.cache import check_fits, check_kind
from nas.modules.feed_forward import make
from nas.modules.heads import Heads
from nas.modules.memory import EluPlusOne, Memory, Update, empty_memory, full_precision, read, write
from nas.modules.rope import RotaryEmbedding, Table
from nas.modules.softmax_attention import attend

if TYPE_CHECKING:
    from jaxtyping import Float


class InfiniState(NamedTuple):
    """What is kept of a text, as a value: whoever continues from it leaves it as it is.

    Attributes:
        memory: of the whole segments so far; None if there is none yet.
        k, v: (N, kv_heads, S, size), unrotated keys and the values of the S tokens of the segment that has begun, less
            than a segment. They are written to the memory when the segment is whole: a delta update with part of a
            segment, followed by a long one, would be unstable.
        segment: tokens of a segment.
    """

    memory: Memory | None
    k: Tensor
    v: Tensor
    segment: int


class InfiniAttention(nn.Module):
    """Causal attention to the whole past, (N, T, dim) to (N, T, dim) of the same dtype; time and memory linear in T.

    Features, memory and what is read from it are float32 (float64 for float64 models), whatever autocast and the
    module's dtype are. Local attention is of the projections' dtype.

    Args:
        dim: channels.
        heads: query heads.
        segment: tokens of a segment.
        kv_heads: heads of keys and values, and memories, a divisor of ``heads``; None for as many.
        head_dim: channels of a head; None for dim / heads.
        rope: rotary positions of size ``head_dim`` for the local attention, counted from each segment's start; None for
            none.
        update: the memory's rule, linear or delta.
        feature: makes the feature map s, an activation that is positive; parameters that it has are scalars.
        detach_every: stop gradients through the memory after every so many segments of a call; None lets them all the
            way back.
        checkpoint_segments: keep nothing of a segment but queries, keys, values and memory for the backward pass, and
            compute it again.
        bias: whether the projections have biases.

    Raises:
        ValueError: sizes that do not fit each other, or an unknown rule.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        segment: int,
        *,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        rope: RotaryEmbedding | None = None,
        update: Update = "delta",
        feature: Callable[[], nn.Module] = EluPlusOne,
        detach_every: int | None = None,
        checkpoint_segments: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if update not in ("linear", "delta"):
            raise ValueError(f"update is linear or delta, got {update!r}")
        if segment < 1 or (detach_every is not None and detach_every < 1):
            raise ValueError(f"segment and detach_every are at least 1, got {segment} and {detach_every}")
        self.heads = Heads(dim, heads, kv_heads, head_dim, bias)
        self.heads.check_rope(rope)
        self.rope = rope
        self.feature = make(feature)
        self.gate = nn.Parameter(torch.zeros(heads))
        self.segment = segment
        self.update = update
        self.detach_every = detach_every
        self.checkpoint_segments = checkpoint_segments

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """Whole texts. Raises ValueError for another shape."""
        y, _ = self.stream(x, None)
        return y

    def stream(
        self, x: Float[Tensor, "batch tokens dim"], state: InfiniState | None
    ) -> tuple[Float[Tensor, "batch tokens dim"], InfiniState]:
        """The next T >= 1 tokens of texts that left ``state`` behind; None at the start.

        Token by token, in pieces or whole, a text gives the same.

        Raises:
            ValueError: x has another shape, or the state is of other sizes, batch, dtype or device.
        """
        check_kind(state, InfiniState)
        q, k, v = self.heads.split(x)
        memory = None
        if state is not None:
            check_fits("the state", state.k, k)
            if state.segment != self.segment:
                raise ValueError(
                    f"the state has segments of {state.segment} tokens, the module of {self.segment}; continue with "
                    "the module that made it, or begin a new text with None"
                )
            memory, k, v = state.memory, torch.cat((state.k, k), -2), torch.cat((state.v, v), -2)
        skip = k.shape[-2] - q.shape[-2]  # tokens of the begun segment that were answered before
        outs = []
        k_parts = k.split(self.segment, -2)
        sizes = [part.shape[-2] for part in k_parts]
        sizes[0] -= skip
        # Positions count from each segment's start, so one table serves all.
        table = None if self.rope is None else self.rope.table(k_parts[0], 0, self.segment)
        parts = zip(q.split(sizes, -2), k_parts, v.split(self.segment, -2), strict=True)
        for number, (q_part, k_part, v_part) in enumerate(parts):
            if self.detach_every and number and number % self.detach_every == 0:
                memory = memory and Memory(memory.m.detach(), memory.z.detach())
            y, memory = self._run(q_part, k_part, v_part, memory, table)
            outs.append(y)
        left = k.shape[-2] // self.segment * self.segment
        # Clones, because views would keep all of k and v in memory.
        state = InfiniState(memory, k[..., left:, :].clone(), v[..., left:, :].clone(), self.segment)
        return self.heads.merge(torch.cat(outs, -2)), state

    def _run(
        self, q: Tensor, k: Tensor, v: Tensor, memory: Memory | None, table: Table | None
    ) -> tuple[Tensor, Memory | None]:
        if self.checkpoint_segments and torch.is_grad_enabled():
            result: Any = checkpoint(self._segment, q, k, v, memory, table, use_reentrant=False)
            return result
        return self._segment(q, k, v, memory, table)

    def _segment(
        self, q: Tensor, k: Tensor, v: Tensor, memory: Memory | None, table: Table | None
    ) -> tuple[Tensor, Memory | None]:
        """The last T of S <= segment tokens: what they attend to, and the memory afterwards."""
        y = self._local(q, k, v, table)
        with full_precision(q.device):
            dtype = torch.promote_types(q.dtype, torch.float32)
            if memory is not None:
                gate = self.gate.to(dtype).sigmoid()[:, None, None]
                past = read(memory, self.feature(q.to(dtype)))
                y = torch.lerp(y.to(dtype), past, gate).to(q.dtype)
            if k.shape[-2] == self.segment:
                first = memory is None
                memory = memory or empty_memory(k, v)
                delta = self.update == "delta" and not first
                memory = write(memory, self.feature(k.to(dtype)), v.to(dtype), delta=delta)
        return y, memory

    def _local(self, q: Tensor, k: Tensor, v: Tensor, table: Table | None) -> Tensor:
        if self.rope is not None and table is not None:
            s = k.shape[-2]
            cos, sin = table
            q = self.rope.rotate(q, (cos[s - q.shape[-2] : s], sin[s - q.shape[-2] : s]))
            k = self.rope.rotate(k, (cos[:s], sin[:s]))
        return attend(q, k, v)


def parameter_groups(
    model: nn.Module, learning_rate: float, weight_decay: float, gate_factor: float = 30.0
) -> list[dict[str, Any]]:
    """Groups for an optimiser, so that the gates of Infini-attention can move.

    Weight decay and a common learning rate hold them where they began, with memory and segment mixed half and half.

    Args:
        model: any model.
        learning_rate: of everything but gates.
        weight_decay: of parameters with two or more dimensions; others have none.
        gate_factor: of the gates' learning rate.

    Returns:
        Three groups, or fewer where one would be empty; every parameter that wants a gradient is in one of them.

    Raises:
        ValueError: a parameter has no shape yet.
    """
    gates = {id(module.gate) for module in model.modules() if isinstance(module, InfiniAttention)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ValueError(f"{name} gets its shape from the first input; run the model once, then make the groups")
        if parameter.requires_grad:
            rate = learning_rate * (gate_factor if id(parameter) in gates else 1)
            decay = weight_decay if parameter.dim() >= 2 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
