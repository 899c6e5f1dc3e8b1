"""Generation: greedy against the whole text read anew for each token, draws against their probabilities."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import nn

from nas.modules import (
    Attention,
    FeedForward,
    LearnedPositions,
    LMState,
    LongRoPEScaling,
    RotaryEmbedding,
    TransformerBlock,
    TransformerLM,
)
from nas.modules.lm import draw
from tests.nas.modules.small_lm import DIM, POSITIONS, TOKENS, VOCABULARY, mixers, model, plain, tokens


def greedy_by_hand(lm, prompt, count):
    for _ in range(count):
        prompt = torch.cat((prompt, lm(prompt)[:, -1].argmax(-1, keepdim=True)), 1)
    return prompt


@pytest.mark.parametrize("piece", [1, 3, 1024])
@pytest.mark.parametrize("positions", POSITIONS)
@torch.no_grad()
def test_greedy_generation_is_the_likeliest_token_of_the_whole_text_each_time(positions, piece):
    lm = model(std=0.4, positions=POSITIONS[positions]())
    expected = greedy_by_hand(lm, tokens(7, 4), TOKENS - 7)
    assert len(expected[:, 7:].unique()) > 4  # a model that repeats itself would show little
    found = lm.generate(tokens(7, 4), TOKENS - 7, temperature=0, piece=piece)
    assert found.dtype == torch.int64
    assert torch.equal(found, expected)


@pytest.mark.parametrize("piece", [1, 3, 1024])
def test_generation_reads_the_whole_prompt(piece):
    lm = plain(std=0.3)
    seen = []
    lm.head.register_forward_hook(lambda module, args, y: seen.append(y[:, -1]))
    first = []
    for start in range(VOCABULARY):
        prompt = tokens(8, 1)
        prompt[0, 0] = start
        next(lm.generate_stream(prompt, 1, piece=piece))
        first.append(seen[-1])
        with torch.no_grad():
            torch.testing.assert_close(first[-1], lm(prompt)[:, -1], rtol=1e-9, atol=1e-10)
    differences = torch.pdist(torch.cat(first))
    assert differences.min() > 1e-3


def test_tokens_come_one_by_one_as_they_are_asked_for():
    lm, read, graphs = plain(), [], []
    lm.embed.register_forward_hook(lambda module, args, x: read.append(x.shape[1]))
    lm.head.register_forward_hook(lambda module, args, y: graphs.append(y.requires_grad))
    stream = lm.generate_stream(tokens(8), 3, piece=5)
    assert read == []
    token = next(stream)
    assert token.shape == (2,)
    assert read == [5, 3]
    assert torch.is_grad_enabled()
    next(stream)
    assert read == [5, 3, 1]
    next(stream)
    assert next(stream, None) is None
    assert read == [5, 3, 1, 1]  # the last token is not read
    assert not any(graphs)  # though gradients are on where the tokens are used
    assert torch.equal(lm.generate(tokens(8), 0), tokens(8))


def test_the_best_of_one_is_the_likeliest_and_a_seed_repeats_the_draws():
    lm = plain(std=0.3)
    greedy = lm.generate(tokens(), 12, temperature=0)
    assert torch.equal(lm.generate(tokens(), 12, temperature=3.0, top_k=1), greedy)
    draws = [
        lm.generate(tokens(), 12, temperature=1.5, top_k=6, generator=torch.Generator().manual_seed(seed))
        for seed in (5, 5, 6)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


class Constant(TransformerLM):
    """A model that has the same logits for every token."""

    logits = torch.linspace(-2, 2, VOCABULARY)[torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(3))]

    def stream(self, tokens, state=None):
        return self.logits.expand(*tokens.shape, -1), LMState((), 0)


@pytest.mark.parametrize(
    ("temperature", "top_k"), [(1.0, None), (0.5, None), (2.5, None), (1.0, 4), (2.0, 10), (1.0, 99)]
)
def test_draws_follow_the_softmax_of_the_logits_over_the_temperature(temperature, top_k):
    lm = Constant(VOCABULARY, DIM, [TransformerBlock(DIM, mixers()[0], nn.Identity())])
    options = {"temperature": temperature, "top_k": top_k, "generator": torch.Generator().manual_seed(0)}
    drawn = lm.generate(tokens(1, 2000), 4, **options)[:, 1:]
    counts = drawn.flatten().bincount(minlength=VOCABULARY).double()
    best = lm.logits.double().argsort(descending=True)[:top_k]
    expected = torch.zeros(VOCABULARY).double()
    expected[best] = (lm.logits.double()[best] / temperature).softmax(0) * drawn.numel()
    assert counts[expected == 0].sum() == 0
    seen = expected > 0
    assert stats.chisquare(counts[seen].numpy(), expected[seen].numpy()).pvalue > 1e-3


def test_so_many_likeliest_tokens_are_drawn_from_when_more_are_equal():
    torch.manual_seed(0)
    drawn = draw(torch.zeros(500, VOCABULARY), 1.0, top_k=3)
    assert len(drawn.unique()) == 3


@pytest.mark.parametrize("logits", [[1.0, 3.0, 2.0], [1e4, 3e4, 2e4]])
def test_a_temperature_near_zero_takes_the_likeliest(logits):
    assert draw(torch.tensor([logits]), 1e-30).tolist() == [1]
    assert draw(torch.tensor([logits]), 1e-40).tolist() == [1]  # the quotients exceed float32


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        (torch.zeros(2, 0).long(), {}, r"a prompt has tokens \(batch, tokens\), got \(2, 0\); give it one at least"),
        (torch.zeros(3).long(), {}, r"a prompt has tokens \(batch, tokens\), got \(3,\)"),
        (torch.zeros(2, 3), {}, r"tokens are int64 or int32 \(batch, tokens\), got torch.float32 \(2, 3\)"),
        (
            tokens(),
            {"temperature": -1},
            "temperature and count are at least 0, top_k and piece at least 1, got -1, 1, None and 1024",
        ),
        (tokens(), {"temperature": float("nan")}, "got nan, 1, None"),
        ([[1, 2]], {}, "got a list; give it one at least, as a tensor"),
        (tokens(), {"top_k": 0}, "top_k and piece at least 1, got 1.0, 1, 0 and 1024"),
        (tokens(), {"piece": 0}, "top_k and piece at least 1, got 1.0, 1, None and 0"),
    ],
)
def test_what_cannot_be_continued_is_refused(prompt, options, message):
    with pytest.raises(ValueError, match=message):
        next(plain().generate_stream(prompt, 1, **options))


def test_learned_positions_end_where_they_end():
    lm = plain(positions=LearnedPositions(8, DIM))
    assert lm.generate(tokens(5), 4).shape == (2, 9)  # the last token is not read
    stream = lm.generate_stream(tokens(5), 5)
    for _ in range(4):
        next(stream)
    with pytest.raises(ValueError, match="learned positions for 8 tokens, got positions 8 to 8; shorten the text"):
        next(stream)


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match=r"count are at least 0.*got 1.0, -1"):
        plain().generate(tokens(), -1)


def test_a_prompt_is_turned_as_for_its_whole_length():
    """In pieces, the first of them would be read with LongRoPE's factors for short texts."""
    rope = RotaryEmbedding(4, scaling=LongRoPEScaling([1, 2], [5, 9], 6, 4))
    blocks = [TransformerBlock(8, Attention(8, 2, rope=rope), FeedForward(8, nn.SiLU)) for _ in "ab"]
    model = TransformerLM(11, 8, blocks).double()
    for p in model.parameters():
        nn.init.normal_(p, std=0.5)
    prompt = torch.randint(11, (2, 20), generator=torch.Generator().manual_seed(0))
    first = next(model.generate_stream(prompt, 1, temperature=0, piece=3))
    assert torch.equal(first, model(prompt)[:, -1].argmax(-1))
    _, state = model.stream(prompt[:, :3])
    assert not torch.allclose(model.stream(prompt[:, 3:], state)[0][:, -1], model(prompt)[:, -1])
