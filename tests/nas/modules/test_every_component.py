"""What every component promises: compiled, exported, cast, copied, saved or made without memory, it is the same."""

from __future__ import annotations

import copy
import importlib
import inspect
import io
import pkgutil
import sys

import beartype
import jaxtyping
import pytest
import torch
from torch import nn

import nas.modules
from nas.modules import (
    AlibiBias,
    Attention,
    ClampedSwiGLU,
    DynamicNTKScaling,
    EluPlusOne,
    FeedForward,
    InfiniAttention,
    LearnedPositions,
    LinearAttention,
    LongRoPEScaling,
    RelativeBias,
    RMSNorm,
    RotaryEmbedding,
    SinkAttention,
    SinusoidalPositions,
    TransformerBlock,
    TransformerLM,
    YaRNScaling,
)

DIM, HEADS, SIZE, TOKENS = 16, 4, 4, 11


def rope(**options):
    return RotaryEmbedding(SIZE, **options)


def block(mixer, **options):
    return TransformerBlock(DIM, mixer, FeedForward(DIM, nn.SiLU, kind="gated"), **options)


def lm(order="pre"):
    mixers = [
        Attention(DIM, HEADS, kv_heads=2, rope=rope()),
        SinkAttention(DIM, HEADS, window=4, sink_tokens=2, rope=rope()),
        InfiniAttention(DIM, HEADS, 4, rope=rope()),
        LinearAttention(DIM, HEADS, update="delta"),
    ]
    return TransformerLM(20, DIM, [block(mixer, order=order) for mixer in mixers], positions=SinusoidalPositions(DIM))


MIXERS = {
    "Attention": lambda: Attention(DIM, HEADS, rope=rope()),
    "Attention, grouped": lambda: Attention(DIM, HEADS, kv_heads=2, rope=rope(layout="interleaved"), bias=True),
    "Attention, window": lambda: Attention(DIM, HEADS, window=3, rope=rope()),
    "Attention, learned sinks": lambda: Attention(DIM, HEADS, learned_sinks=True, window=3),
    "Attention, ALiBi": lambda: Attention(DIM, HEADS, score_bias=AlibiBias(HEADS)),
    "Attention, T5": lambda: Attention(DIM, HEADS, score_bias=RelativeBias(HEADS, 4, 8)),
    "Attention, dynamic NTK": lambda: Attention(DIM, HEADS, rope=rope(scaling=DynamicNTKScaling(2, 4))),
    "SinkAttention": lambda: SinkAttention(DIM, HEADS, window=3, sink_tokens=2, rope=rope()),
    "InfiniAttention, linear": lambda: InfiniAttention(DIM, HEADS, 4, update="linear", kv_heads=2, rope=rope()),
    "InfiniAttention, delta": lambda: InfiniAttention(DIM, HEADS, 4, rope=rope(), checkpoint_segments=True),
    "LinearAttention, linear": lambda: LinearAttention(DIM, HEADS, kv_heads=2, chunk=4),
    "LinearAttention, delta": lambda: LinearAttention(DIM, HEADS, update="delta", chunk=4),
}
HIDDEN = {
    "FeedForward": lambda: FeedForward(DIM, nn.GELU),
    "FeedForward, gated": lambda: FeedForward(DIM, nn.SiLU, kind="gated", bias=True),
    "FeedForward, binary": lambda: FeedForward(DIM, ClampedSwiGLU, kind="binary"),
    "RMSNorm": lambda: RMSNorm(DIM),
    "LearnedPositions": lambda: LearnedPositions(TOKENS, DIM),
    "SinusoidalPositions": lambda: SinusoidalPositions(DIM),
    "EluPlusOne": lambda: EluPlusOne(),
}
ROPES = {
    "RotaryEmbedding": lambda: rope(),
    "RotaryEmbedding, interleaved": lambda: rope(layout="interleaved", rotary_dim=2),
    "RotaryEmbedding, YaRN": lambda: rope(scaling=YaRNScaling(4, 8)),
    "RotaryEmbedding, LongRoPE": lambda: rope(scaling=LongRoPEScaling([1, 2], [3, 4], 8, 4)),
}
MODELS = {f"TransformerLM, {order}": lambda order=order: lm(order) for order in ("pre", "post", "dual")}
ALL = MIXERS | HIDDEN | ROPES | MODELS


def made(name, dtype=torch.float32):
    """A component with weights that are no zeros, and an input."""
    torch.manual_seed(0)
    module = ALL[name]()
    for p in module.parameters():
        nn.init.normal_(p, std=0.3)
    return module.to(dtype), example(name, dtype)


def example(name, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    if name in MODELS:
        return torch.randint(20, (2, TOKENS), generator=generator)
    shape = (2, HEADS, TOKENS, SIZE) if name in ROPES else (2, TOKENS, DIM)
    return torch.randn(shape, generator=generator).to(dtype)


def train_step(module, x, call=None):
    """The output, and the gradients of all parameters of its sum of squares; ``call`` computes what the module does."""
    module.zero_grad()
    y = (module if call is None else call)(x)
    if y.requires_grad:
        y.float().square().sum().backward()
    return y.detach(), {name: p.grad for name, p in module.named_parameters()}


def assert_same_step(first, second, **tolerance):
    torch.testing.assert_close(first[0], second[0], **tolerance)
    for name, grad in first[1].items():
        assert grad is not None, name
        torch.testing.assert_close(grad, second[1][name], **tolerance, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("name", ALL)
def test_compiled_without_a_break_it_computes_the_same(name):
    module, x = made(name)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert_same_step(train_step(module, x), train_step(module, x, compiled), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("order", ["pre", "dual"])
def test_a_model_is_the_same_in_machine_code(order):
    module, x = made(f"TransformerLM, {order}")
    torch._dynamo.reset()
    assert_same_step(train_step(module, x), train_step(module, x, torch.compile(module)), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_exported_it_computes_the_same_for_any_batch(name):
    module, x = made(name)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(module.eval(), (x,), dynamic_shapes=({0: batch},))
    more = torch.cat((x, x.flip(0), x))
    torch.testing.assert_close(program.module()(more), module(more), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_autocast_lowers_the_precision_and_nothing_else(name):
    module, x = made(name)
    expected = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, grads = train_step(module, x)
    assert (y.float() - expected).abs().max() < 0.05 * expected.abs().max()
    assert all(grad.isfinite().all() for grad in grads.values())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_its_output_has_the_dtype_of_its_weights_and_input(name, dtype):
    module, x = made(name)
    expected = module(x).detach()
    y, _ = train_step(module.to(dtype), x if name in MODELS else x.to(dtype))
    assert y.dtype == dtype
    largest = 0.08 if dtype == torch.bfloat16 else 1e-5
    assert (y.double() - expected.double()).abs().max() < largest * expected.abs().max()


@pytest.mark.parametrize("name", ALL)
def test_made_without_memory_and_loaded_it_computes_the_same(name):
    module, x = made(name)
    with torch.device("meta"):
        empty = ALL[name]()
        assert empty(x.to("meta")).shape == module(x).shape
    empty.to_empty(device="cpu").load_state_dict(module.state_dict())
    torch.testing.assert_close(empty(x), module(x), atol=0, rtol=0)


@pytest.mark.parametrize("name", ALL)
def test_a_saved_state_is_loaded_safely_and_completely(name):
    module, x = made(name)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = ALL[name]()
    other.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(other(x), module(x), atol=0, rtol=0)
    assert set(module.state_dict()) == {name for name, _ in module.named_parameters()}


@pytest.mark.parametrize("name", ALL)
def test_a_copy_computes_the_same_and_shares_nothing(name):
    module, x = made(name)
    expected = module(x).detach()
    twin = copy.deepcopy(module)
    torch.testing.assert_close(twin(x), expected, atol=0, rtol=0)
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
    torch.testing.assert_close(twin(x), expected, atol=0, rtol=0)


@pytest.mark.parametrize("name", MIXERS)
def test_in_a_block_every_order_streams_as_the_whole(name):
    for order in ("pre", "post", "dual"):
        if name == "Attention, dynamic NTK":
            continue  # a piece is turned as for the length at its end
        module, x = made(name, torch.float64)
        whole = block(module, order=order).double()
        expected = whole(x)
        r, state, parts = None, None, []
        for part in x.split([1, 3, 1, 6], 1):
            y, r, state = whole.stream(part, None, state)
            parts.append((y, r))
        for i in (0, 1):
            if expected[i] is not None:
                torch.testing.assert_close(torch.cat([part[i] for part in parts], 1), expected[i])


MODULES = [importlib.import_module(f"nas.modules.{found.name}") for found in pkgutil.iter_modules(nas.modules.__path__)]


def public_functions():
    """Every function and method of nas.modules that says shapes, with its owner and the module that it stands in."""
    for module in MODULES:
        classes = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
        for owner in (module, *classes):
            for name, function in list(vars(owner).items()):
                ours = inspect.isfunction(function) and function.__module__ == module.__name__
                if ours and "Tensor, " in str(function.__annotations__):
                    yield module, owner, name, function


@pytest.fixture
def shapes_checked(monkeypatch):
    """The annotations of nas.modules are checked at every call, one meaning for every letter in it."""
    for module, owner, name, function in list(public_functions()):
        for kind in ("Float", "Int", "Bool", "Shaped"):
            monkeypatch.setattr(module, kind, getattr(jaxtyping, kind), raising=False)
        checked = jaxtyping.jaxtyped(typechecker=beartype.beartype)(function)
        users = [owner] if inspect.isclass(owner) else [m for m in MODULES if vars(m).get(name) is function]
        for user in users:
            monkeypatch.setattr(user, name, checked)


@pytest.mark.parametrize("name", ALL)
def test_shapes_are_those_that_the_signatures_say(name, shapes_checked):
    module, x = made(name)
    train_step(module, x)
    if hasattr(module, "stream"):
        state = None
        for part in x.split([1, 3, 1, 6], 1):
            _, state = module.stream(part, state)
    if name in MODELS:
        assert module.generate(x, 3, top_k=2).shape == (2, TOKENS + 3)


def test_a_wrong_shape_would_be_noticed(shapes_checked):
    with pytest.raises(jaxtyping.TypeCheckError):
        rope()(torch.randn(2, HEADS, TOKENS, SIZE).long())
    with pytest.raises(jaxtyping.TypeCheckError):
        sys.modules["nas.modules.attention"].attend(*(torch.randn(2, 3, 4) for _ in "qkv"))


def test_every_forward_says_its_shapes():
    for name in nas.modules.__all__:
        thing = getattr(nas.modules, name)
        if inspect.isclass(thing) and issubclass(thing, nn.Module) and "forward" in vars(thing):
            assert "Tensor, " in str(thing.forward.__annotations__), name
