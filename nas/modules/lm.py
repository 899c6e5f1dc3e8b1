"""A language model from parts: tokens, positions, blocks, and a head; training, streaming and generation.

Weights start from N(0, s), s = sqrt(2 / (5 dim)) (Nguyen, Salazar 2019, arXiv 1910.05895, section 2.2): 0.023 at the
width of GPT-2, more in small models, which learn slowly from its 0.02. Those at the end of a residual branch start from
N(0, s / sqrt(2 depth)), as in GPT-2 (Radford et al. 2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from nas.modules.block import TransformerBlock
from nas.modules.cache import check_kind
from nas.modules.norm import NormFactory, RMSNorm
from nas.modules.rope import RotaryEmbedding

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class LMState(NamedTuple):
    """What is kept of a text, as a value.

    Attributes:
        blocks: each block's mixer's state.
        length: tokens so far.
    """

    blocks: tuple[Any, ...]
    length: int


class TransformerLM(nn.Module):
    """Tokens int64 (N, T) to logits (N, T, vocabulary) of the next ones.

        rope = RotaryEmbedding(32)
        model = TransformerLM(256, 128, [
            TransformerBlock(128, Attention(128, 4, rope=rope), FeedForward(128, nn.SiLU, kind="gated"))
            for _ in range(4)
        ])

    Args:
        vocabulary: number of tokens.
        dim: channels.
        blocks: TransformerBlocks of one order, of ``dim`` channels, each once.
        positions: added to the embeddings, ``positions(x, offset)``, such as LearnedPositions; None for none.
        norm: makes the last norm.
        tie: whether the head has the embedding's weights.
        initialise: give every linear layer and embedding new weights, those in the blocks included.

    Raises:
        ValueError: no blocks, or blocks that do not fit each other.
    """

    def __init__(
        self,
        vocabulary: int,
        dim: int,
        blocks: Iterable[TransformerBlock],
        *,
        positions: nn.Module | None = None,
        norm: NormFactory = RMSNorm,
        tie: bool = False,
        initialise: bool = True,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, dim)
        self.positions = positions
        blocks = list(blocks)
        if not all(isinstance(block, TransformerBlock) and block.dim == dim for block in blocks):
            raise ValueError(
                f"blocks are TransformerBlocks of {dim} channels, got {[_about(block) for block in blocks]}"
            )
        if len(set(map(id, blocks))) < len(blocks):
            raise ValueError("every block is there once, got one several times; make a new one for each layer")
        orders = {block.order for block in blocks}
        if len(orders) != 1:
            raise ValueError(f"a model has blocks, all of one order, got {sorted(orders)}")
        self.blocks: Any = nn.ModuleList(blocks)
        self.norm = nn.Identity() if orders == {"post"} else norm(dim)
        self.head = nn.Linear(dim, vocabulary, bias=False)
        if initialise:
            self._initialise(math.sqrt(2 / (5 * dim)))
        if tie:
            self.head.weight = self.embed.weight

    def forward(self, tokens: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens vocabulary"]:
        """Whole texts. Raises ValueError unless the tokens are whole numbers (N, T)."""
        x, r = self._embed(tokens, 0), None
        for block in self.blocks:
            x, r = block(x, r)
        return self._logits(x, r)

    def stream(
        self, tokens: Int[Tensor, "batch tokens"], state: LMState | None = None
    ) -> tuple[Float[Tensor, "batch tokens vocabulary"], LMState]:
        """The next T >= 1 tokens of texts that left ``state`` behind; None at the start.

        Raises:
            ValueError: the tokens are no whole numbers (N, T), or the state does not fit model or batch.
        """
        check_kind(state, LMState)
        if state is not None and len(state.blocks) != len(self.blocks):
            raise ValueError(f"the state has {len(state.blocks)} blocks, the model {len(self.blocks)}; begin with None")
        before = [None] * len(self.blocks) if state is None else state.blocks
        length = 0 if state is None else state.length
        x, r = self._embed(tokens, length), None
        after = []
        for block, block_state in zip(self.blocks, before, strict=True):
            x, r, block_state = block.stream(x, r, block_state)
            after.append(block_state)
        return self._logits(x, r), LMState(tuple(after), length + tokens.shape[1])

    def generate(self, prompt: Int[Tensor, "batch tokens"], count: int, **options: Any) -> Int[Tensor, "batch more"]:
        """The prompt and ``count`` tokens after it, int64 (N, T + count); see :meth:`generate_stream`."""
        return torch.cat((prompt, *(token[:, None] for token in self.generate_stream(prompt, count, **options))), 1)

    @torch.no_grad()
    def generate_stream(
        self,
        prompt: Int[Tensor, "batch tokens"],
        count: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
        piece: int = 1024,
    ) -> Iterator[Int[Tensor, " batch"]]:
        """Read the whole prompt, then yield ``count`` tokens (N,), one after the other.

        Args:
            temperature: divides the logits; 0 takes the likeliest token.
            top_k: draw from so many likeliest tokens; None from all.
            generator: of the draws, on the model's device.
            piece: tokens of the prompt that are read at once, which bounds memory. With a rotation that depends on the
                length, as LongRoPE's, the prompt is read at once, since all of it is turned as for its length.

        Raises:
            ValueError: an empty prompt, a negative temperature or count, or top_k or piece below 1. Raised at the first
                token.
        """
        if not isinstance(prompt, Tensor) or prompt.dim() != 2 or not prompt.shape[1]:
            got = tuple(prompt.shape) if isinstance(prompt, Tensor) else f"a {type(prompt).__name__}"
            raise ValueError(f"a prompt has tokens (batch, tokens), got {got}; give it one at least, as a tensor")
        if not temperature >= 0 or count < 0 or (top_k is not None and top_k < 1) or piece < 1:
            raise ValueError(
                f"temperature and count are at least 0, top_k and piece at least 1, got {temperature}, {count}, "
                f"{top_k} and {piece}"
            )
        if any(isinstance(module, RotaryEmbedding) and module.needs_length for module in self.modules()):
            piece = prompt.shape[1]
        state = None
        for part in prompt.split(piece, 1):
            logits, state = self.stream(part, state)
        for left in reversed(range(count)):
            token = draw(logits[:, -1], temperature, top_k, generator)
            yield token
            if left:
                logits, state = self.stream(token[:, None], state)

    def _embed(self, tokens: Tensor, offset: int) -> Tensor:
        if tokens.dim() != 2 or tokens.dtype not in (torch.int64, torch.int32):
            raise ValueError(
                f"tokens are int64 or int32 (batch, tokens), got {tokens.dtype} {tuple(tokens.shape)}; use .long()"
            )
        x = self.embed(tokens)
        return x if self.positions is None else self.positions(x, offset)

    def _logits(self, x: Tensor, r: Tensor | None) -> Tensor:
        return self.head(self.norm(x) if r is None else x + self.norm(r))

    def _initialise(self, std: float) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                depth = 2 * len(self.blocks) if name.endswith(".out") else 1
                nn.init.normal_(module.weight, std=std / math.sqrt(depth))
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)


def _about(block: object) -> str:
    return f"{type(block).__name__}({block.dim})" if isinstance(block, TransformerBlock) else type(block).__name__


def draw(
    logits: Float[Tensor, "batch vocabulary"],
    temperature: float,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, " batch"]:
    """A token for each text, by softmax(logits / temperature); the likeliest for temperature 0."""
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.float()
    if top_k is not None and top_k < logits.shape[-1]:
        kept = logits.topk(top_k)
        logits = torch.full_like(logits, -torch.inf).scatter(-1, kept.indices, kept.values)
    logits = (logits - logits.amax(-1, keepdim=True)) / temperature  # the largest is 0 and stays finite
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
