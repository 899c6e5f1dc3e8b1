"""Rotary position embedding: Su et al. 2021, "RoFormer" (arXiv 2104.09864), equation 15.

At position m pair i of a query's or key's channels is turned by m f_i, with f_i = base^(-2i / d). The product of a
query at m and a key at n then depends on m - n alone. There are two layouts of the pairs, equal up to a permutation:

    interleaved   (x_0, x_1), (x_2, x_3), ...                RoFormer, GPT-J, Llama's own weights
    half          (x_0, x_{d/2}), (x_1, x_{d/2 + 1}), ...    GPT-NeoX, and weights in Hugging Face's format
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from nas.modules.phases import Phases, cos_sin, to_turns
from nas.modules.rope_scaling import NoScaling, RopeScaling

if TYPE_CHECKING:
    from jaxtyping import Float, Int, Shaped

Layout = Literal["half", "interleaved"]
Table = tuple[Tensor, Tensor]
"""cos and sin, times the attention scale: each (T, pairs), or (N, 1, T, pairs) for ragged positions."""


class RotaryEmbedding(nn.Module):
    """Rotates queries or keys. It has no parameters, and one may serve all layers of a model.

    Angles come from integer phases (:mod:`nas.modules.phases`): they are as exact far out as at 0, whatever ``.to()``
    did to the module. Channels are rotated in float32 (float64 ones in float64) and cast back.

    Args:
        dim: channels of a head.
        base: of the geometric series of frequencies; 10,000 in the paper, 500,000 in Llama 3.
        layout: which channels are pairs.
        rotary_dim: rotate only the first so many channels (partial rotary); None for all.
        scaling: see :mod:`nas.modules.rope_scaling`; None for none.

    Raises:
        ValueError: an odd number of channels to rotate, a base of 1 or less, an unknown layout, a scaling that does not
            fit the number of channels.
    """

    def __init__(
        self,
        dim: int,
        base: float = 10_000.0,
        *,
        layout: Layout = "half",
        rotary_dim: int | None = None,
        scaling: RopeScaling | None = None,
    ) -> None:
        super().__init__()
        rotary_dim = dim if rotary_dim is None else rotary_dim
        if rotary_dim % 2 or not 0 < rotary_dim <= dim:
            near = max(2, min(rotary_dim, dim) // 2 * 2)
            raise ValueError(
                f"pairs of channels are rotated, so rotary_dim is even, from 2 to dim={dim}; got {rotary_dim}; take "
                f"{f'rotary_dim={near}' if near <= dim else 'heads of 2 channels or more'}"
            )
        if not 1 < base < float("inf"):
            raise ValueError(f"base is a finite number above 1, got {base}; the paper takes 10,000")
        if layout not in ("half", "interleaved"):
            raise ValueError(f"layout is half or interleaved, got {layout!r}")
        self.dim = dim
        self.base = float(base)
        self.layout = layout
        self.rotary_dim = rotary_dim
        self.scaling = scaling or NoScaling()
        with torch.device("cpu"):
            frequencies = self.scaling.frequencies(rotary_dim, self.base, torch.tensor(0))
        self.phases = None if self.scaling.needs_length else Phases(frequencies)

    @property
    def needs_length(self) -> bool:
        """Whether the rotation depends on the length of the whole text, as with dynamic NTK and LongRoPE."""
        return self.phases is None

    def forward(
        self,
        x: Float[Tensor, "... tokens dim"],
        positions: int | Int[Tensor, " tokens"] | Int[Tensor, "batch tokens"] = 0,
        length: int | None = None,
    ) -> Float[Tensor, "... tokens dim"]:
        """Rotate.

        Args:
            x: queries or keys (..., T, dim), of any floating dtype; (N, heads, T, dim) for ragged positions.
            positions: of the tokens. A number is the first one's, int64 (T,) are everybody's, (N, T) each text's own.
            length: tokens of the whole text, for scalings that depend on it; None for the last position + 1, of the
                longest text where positions are ragged.

        Returns:
            The same shape and dtype.

        Raises:
            ValueError: x does not end in ``dim`` channels, or the positions do not fit it.
        """
        return self.rotate(x, self.table(x, positions, length))

    def table(
        self,
        x: Float[Tensor, "... tokens dim"],
        positions: int | Int[Tensor, " tokens"] | Int[Tensor, "batch tokens"] = 0,
        length: int | None = None,
    ) -> Table:
        """cos and sin for tensors like ``x``, to rotate several of them; see :meth:`forward`."""
        self._check(x, positions)
        if not isinstance(positions, Tensor):
            length = positions + x.shape[-2] if length is None else length
            positions = torch.arange(positions, positions + x.shape[-2], device=x.device)
        elif length is None and not x.shape[-2]:
            length = 0  # there is no last position
        dtype = torch.promote_types(x.dtype, torch.float32)
        if self.phases is None:
            # A known length's frequencies are computed on the CPU: not every device has float64.
            end = positions.max() + 1 if length is None else torch.full((), length, dtype=torch.int64, device="cpu")
            turns = to_turns(self.scaling.frequencies(self.rotary_dim, self.base, end))
            cos, sin = cos_sin(positions, turns.to(positions.device), dtype)
        else:
            cos, sin = self.phases(positions, dtype)
        if self.scaling.attention_scale != 1:
            cos, sin = cos * self.scaling.attention_scale, sin * self.scaling.attention_scale
        return (cos[:, None], sin[:, None]) if positions.dim() == 2 else (cos, sin)

    def rotate(self, x: Float[Tensor, "... tokens dim"], table: Table) -> Float[Tensor, "... tokens dim"]:
        """Turn the pairs of ``x`` by a table's angles."""
        cos, sin = table
        turned = x[..., : self.rotary_dim].to(cos.dtype)
        turned = _rotate_half(turned, cos, sin) if self.layout == "half" else _rotate_interleaved(turned, cos, sin)
        turned = turned.to(x.dtype)
        return turned if self.rotary_dim == self.dim else torch.cat((turned, x[..., self.rotary_dim :]), -1)

    def _check(self, x: Tensor, positions: int | Tensor) -> None:
        if x.dim() < 2 or x.shape[-1] != self.dim:
            raise ValueError(f"x ends in (tokens, {self.dim}), got {tuple(x.shape)}; split heads first")
        if not x.is_floating_point():
            raise ValueError(f"queries and keys are floating-point numbers, got {x.dtype}")
        if isinstance(positions, float):
            raise ValueError(f"positions are whole numbers, got {positions}")
        if not isinstance(positions, Tensor):
            return
        if positions.dtype != torch.int64:
            raise ValueError(f"positions are whole numbers, int64, got {positions.dtype}; floats would lose them")
        per_text = positions.dim() == 2 and x.dim() == 4 and positions.shape == (x.shape[0], x.shape[2])
        if not per_text and positions.shape != x.shape[-2:-1]:
            raise ValueError(
                f"positions are a number, (tokens,), or (batch, tokens) where x is (batch, heads, tokens, dim); got "
                f"{tuple(positions.shape)} for {tuple(x.shape)}"
            )

    def extra_repr(self) -> str:
        return f"{self.dim}, base={self.base:g}, layout={self.layout}, rotary_dim={self.rotary_dim}, {self.scaling}"


def _rotate_half(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat((torch.addcmul(a * cos, b, sin, value=-1), torch.addcmul(a * sin, b, cos)), -1)


def _rotate_interleaved(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    pairs = x.unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # fuses this, but not complex numbers, which are faster where nothing is fused
        matrix = torch.stack((cos, -sin, sin, cos), -1).unflatten(-1, (2, 2))
        return (matrix * pairs[..., None, :]).sum(-1).flatten(-2)
    return torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * torch.complex(cos, sin)).flatten(-2)


def convert_layout(
    weight: Shaped[Tensor, "rows ..."], heads: int, to: Layout, rotary_dim: int | None = None
) -> Shaped[Tensor, "rows ..."]:
    """A pretrained query or key projection for the other layout.

    Args:
        weight: weight (heads * dim, inputs) or bias (heads * dim,) of the projection; for grouped queries, ``heads`` of
            the keys is their own number.
        to: the layout wanted; the weight has the other one.
        rotary_dim: rotated channels of a head, the first ones; None for all.

    Returns:
        The weight with permuted rows: attention with rotation in the layout ``to`` gives what it gave before.

    Raises:
        ValueError: the rows are not heads of an even size, or the layout is unknown.
    """
    dim, rest = divmod(weight.shape[0], heads) if heads > 0 else (0, 1)
    rotary_dim = dim if rotary_dim is None else rotary_dim
    if rest or rotary_dim % 2 or not 0 < rotary_dim <= dim:
        raise ValueError(
            f"the rows are {heads} heads with an even number of rotated channels, got {weight.shape[0]} rows and "
            f"rotary_dim={rotary_dim}; give the projection's own number of heads"
        )
    if to not in ("half", "interleaved"):
        raise ValueError(f"to is half or interleaved, got {to!r}")
    channels = torch.arange(dim, device=weight.device)
    pairs = channels[:rotary_dim]
    order = pairs.view(-1, 2).T if to == "half" else pairs.view(2, -1).T
    order = torch.cat((order.flatten(), channels[rotary_dim:]))
    return weight.unflatten(0, (heads, dim))[:, order].flatten(0, 1)
