"""Blocks and the language model against their equations written out: streaming, causality, how they begin and learn."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas.modules import (
    Attention,
    FeedForward,
    LearnedPositions,
    LinearAttention,
    RMSNorm,
    TransformerBlock,
    TransformerLM,
)
from tests.nas.modules.small_lm import DIM, POSITIONS, TOKENS, VOCABULARY, mixers, model, plain, tokens

ORDERS = ("pre", "post", "dual")


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_a_pre_block_normalises_what_goes_into_its_parts():
    block = model([mixers()[0]], std=0.3).blocks[0]
    x = torch.randn(2, 5, DIM).double()
    h = x + block.mixer(block.norm1(x))
    y, r = block(x)
    close(y, h + block.feed_forward(block.norm2(h)))
    assert r is None


def test_a_post_block_normalises_each_sum():
    block = model([mixers()[0]], order="post", std=0.3).blocks[0]
    x = torch.randn(2, 5, DIM).double()
    h = block.norm1(x + block.mixer(x))
    y, r = block(x)
    close(y, block.norm2(h + block.feed_forward(h)))
    assert r is None


@pytest.mark.parametrize("begun", [True, False])
def test_a_dual_block_keeps_a_second_sum_that_nothing_normalises(begun):
    block = model([mixers()[0]], order="dual", std=0.3).blocks[0]
    x, r = torch.randn(2, 2, 5, DIM).double()
    f = block.mixer(x)
    h = block.norm1(x + f)
    g = block.feed_forward(h)
    y, after = block(x, r) if begun else block(x)
    close(y, block.norm2(h + g))
    close(after, (r if begun else x) + f + g)


@pytest.mark.parametrize("norm", [RMSNorm, nn.LayerNorm])
@pytest.mark.parametrize("order", ORDERS)
def test_a_model_is_its_blocks_one_after_the_other(order, norm):
    lm = model(order=order, std=0.2, norm=norm, positions=LearnedPositions(TOKENS, DIM))
    x = lm.embed.weight[tokens()] + lm.positions.weight
    r = x
    for block in lm.blocks:
        for norm, part in ((block.norm1, block.mixer), (block.norm2, block.feed_forward)):
            if order == "pre":
                x = x + part(norm(x))
            else:
                y = part(x)
                x, r = norm(x + y), r + y
    x = {"pre": lambda: lm.norm(x), "post": lambda: x, "dual": lambda: x + lm.norm(r)}[order]()
    close(lm(tokens()), x @ lm.head.weight.T)
    assert isinstance(lm.norm, nn.Identity) == (order == "post")


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("order", ORDERS)
@settings(max_examples=6)
@given(cuts=st.sets(st.integers(1, TOKENS - 1)))
@torch.no_grad()
def test_a_streamed_text_gives_the_same_as_the_whole(order, positions, cuts):
    lm = model(order=order, std=0.2, positions=POSITIONS[positions]())
    state, logits = None, []
    for piece in tokens().tensor_split(sorted(cuts), 1):
        y, state = lm.stream(piece, state)
        logits.append(y)
    close(torch.cat(logits, 1), lm(tokens()))
    assert state.length == TOKENS


@torch.no_grad()
def test_a_state_can_be_continued_twice():
    lm = model(std=0.2)
    _, state = lm.stream(tokens()[:, :7])
    for more in (tokens()[:, 7:], tokens()[:, 7:].flip(1), tokens()[:, 7:]):
        close(lm.stream(more, state)[0], lm(torch.cat((tokens()[:, :7], more), 1))[:, 7:])


@pytest.mark.parametrize("order", ORDERS)
def test_logits_depend_on_all_tokens_so_far_and_on_none_ahead(order):
    parts = [part for number, part in enumerate(mixers()) if number != 1]  # without the one that forgets the middle
    lm = model(parts, order=order, std=0.2)
    embedded = []
    lm.embed.register_forward_hook(lambda module, args, x: embedded.append(x))
    logits = lm(tokens())
    for t in range(TOKENS):
        (grad,) = torch.autograd.grad(logits[:, t].square().sum(), embedded[0], retain_graph=True)
        assert not grad[:, t + 1 :].any()
        assert grad[:, : t + 1].abs().amax(-1).min() > 0


def test_a_tied_head_has_the_embedding_s_weights():
    loose, tied = plain(), plain(tie=True)
    assert tied.head.weight is tied.embed.weight
    assert count(loose) - count(tied) == VOCABULARY * DIM
    assert "head.weight" in tied.state_dict()
    tied(tokens()).logsumexp(-1).sum().backward()
    assert tied.embed.weight.grad.abs().amax(-1).min() > 0


def count(lm):
    return sum(parameter.numel() for parameter in lm.parameters())


def wide(dim=64, vocabulary=500, order="pre", depth=6, **options):
    torch.manual_seed(0)
    blocks = [
        TransformerBlock(dim, mixer(dim, 4, bias=True), FeedForward(dim, nn.GELU, bias=True), order=order)
        for mixer in (Attention, LinearAttention) * (depth // 2)
    ]
    return TransformerLM(vocabulary, dim, blocks, **options)


@pytest.mark.parametrize("tie", [True, False])
def test_weights_start_small_and_smaller_at_the_end_of_a_branch(tie):
    lm = wide(tie=tie)
    small = math.sqrt(2 / (64 + 4 * 64))  # Nguyen, Salazar 2019: 64 channels in, 256 out
    for name, parameter in lm.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        elif "norm" in name:
            assert (parameter == 1).all()
        else:
            expected = small / math.sqrt(12) if ".out." in name else small
            assert parameter.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * parameter.numel())), name
            assert abs(parameter.mean().item()) < 5 * expected / math.sqrt(parameter.numel())


@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_the_first_loss_is_nearly_that_of_a_guess(order):
    """Logits of a normalised x have the variance 2/5, and of x + norm(r) up to twice that; half of it is lost."""
    lm, text = wide(order=order), torch.randint(500, (8, 33), generator=torch.Generator().manual_seed(1))
    loss = nn.functional.cross_entropy(lm(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
    most = 2 if order == "dual" else 1
    assert math.log(500) < loss.item() < math.log(500) + most * 0.2 + 0.1


@pytest.mark.parametrize("order", ORDERS)
def test_a_tiny_model_learns_a_pattern_in_which_the_last_token_does_not_tell_the_next(order):
    lm = plain(order=order, tie=True).float()
    pattern = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 3]).repeat(6)
    text = torch.stack([pattern[start : start + 33] for start in range(10)])
    optimizer = torch.optim.AdamW(lm.parameters(), lr=0.01)
    for _ in range(60):
        loss = nn.functional.cross_entropy(lm(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2  # the best by the last token alone is 0.4 ln 2 = 0.28
    assert torch.equal(lm.generate(pattern[None, :12], 20, temperature=0)[0], pattern[:32])


@pytest.mark.parametrize("wrong", [torch.zeros(2, 3), torch.zeros(2, 3).bool(), torch.zeros(3).long()])
def test_other_inputs_than_whole_numbers_are_refused(wrong):
    for read in (plain(), plain().stream):
        with pytest.raises(ValueError, match=r"tokens are int64 or int32 \(batch, tokens\), got torch"):
            read(wrong)


@pytest.mark.parametrize("orders", [("pre", "post"), ("dual", "pre", "dual"), ()])
def test_blocks_are_of_one_order(orders):
    blocks = [TransformerBlock(DIM, mixers()[0], nn.Identity(), order=order) for order in orders]
    with pytest.raises(ValueError, match="a model has blocks, all of one order, got") as caught:
        TransformerLM(VOCABULARY, DIM, blocks)
    assert str(sorted(set(orders))) in str(caught.value)


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="order is pre, post or dual, got 'sandwich'"):
        TransformerBlock(DIM, mixers()[0], nn.Identity(), order="sandwich")


def test_a_state_of_another_batch_or_size_of_model_is_refused():
    _, state = plain().stream(tokens())
    with pytest.raises(ValueError, match="the state has 2 blocks, the model 4; begin with None"):
        model().stream(tokens(), state)
    with pytest.raises(ValueError, match=r"the cache has .*begin a new text with None"):
        plain().stream(tokens(3, n=3), state)
    with pytest.raises(ValueError, match=r"the cache has .*begin a new text with None"):
        model([Attention(DIM, 2) for _ in range(2)]).stream(tokens(), state)


@pytest.mark.parametrize(("number", "other"), [(0, 2), (0, 3), (1, 2), (1, 3), (2, 0), (2, 3), (3, 0), (3, 2)])
def test_a_state_of_another_kind_of_mixer_is_refused(number, other):
    _, state = model([mixers()[other]]).stream(tokens())
    with pytest.raises(ValueError, match="None"):
        model([mixers()[number]]).stream(tokens(), state)


def test_weights_of_the_blocks_are_kept_if_asked():
    block = TransformerBlock(8, Attention(8, 2), FeedForward(8, nn.SiLU))
    before = {name: p.clone() for name, p in block.named_parameters()}
    TransformerLM(11, 8, [block], initialise=False)
    assert all(torch.equal(p, before[name]) for name, p in block.named_parameters())
    TransformerLM(11, 8, [block])
    assert not torch.equal(block.feed_forward.w.weight, before["feed_forward.w.weight"])


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (
            lambda block: [block, nn.Linear(8, 8)],
            r"TransformerBlocks of 8 channels, got \['TransformerBlock\(8\)', 'Linear'\]",
        ),
        (
            lambda block: [TransformerBlock(6, Attention(6, 2), FeedForward(6, nn.SiLU))],
            r"got \['TransformerBlock\(6\)'\]",
        ),
        (lambda block: [block, block], "every block is there once"),
    ],
)
def test_blocks_that_do_not_fit_the_model_are_refused(blocks, message):
    with pytest.raises(ValueError, match=message):
        TransformerLM(11, 8, blocks(TransformerBlock(8, Attention(8, 2), FeedForward(8, nn.SiLU))))


def test_a_state_that_is_none_is_refused():
    with pytest.raises(ValueError, match="a LMState, got a str"):
        plain().stream(torch.zeros(1, 1).long(), "x")
