"""The controller of 2017: a recurrent network writes a function choice by choice and is rewarded for its result.

Ramachandran, Zoph and Le 2017 (arXiv 1710.05941), section 2, after Bello et al. 2017 (arXiv 1709.07417): proximal
policy optimisation (Schulman et al. 2017, arXiv 1707.06347, equation 7) with an exponential moving average of rewards
as the baseline, and an entropy bonus. The tokens are those of the choice vector: the operators of every slot in turn,
or a tree in Polish notation; only those that can still become a member have a probability.
"""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from nas.strategies import Candidate, Problem, RelaxedCandidate, Signal, Strategy, strategies
from search_spaces.expression import Expression
from search_spaces.space import Choices, SearchSpace
from trainers.trial import TrialResult

_INVALID = 50  # vectors in a row that a constrained space refuses; then a random member is asked
_CLIP = 0.2
_PASSES = 4
_DECAY = 0.9  # of the moving averages of the reward and of its distance from them
_FURTHEST = 10.0  # median absolute deviations from the median: rewards further out count as so far
_Written = tuple[Choices, float, float]  # choices, log-probability when they were written, reward


class Controller(nn.Module):
    """An LSTM over the positions of a choice vector, with an embedding and a row of logits for every token."""

    def __init__(self, space: SearchSpace, hidden_size: int) -> None:
        super().__init__()
        self.space = space
        starts = [0]
        for cardinality in space.cardinalities:
            starts.append(starts[-1] + cardinality)
        self.starts = starts
        self.embed = nn.Embedding(starts[-1] + 1, hidden_size)  # the last one: nothing has been written yet
        self.cell = nn.LSTMCell(hidden_size, hidden_size)
        self.logits = nn.Linear(hidden_size, starts[-1])
        nn.init.uniform_(self.logits.weight, -0.01, 0.01)  # nearly uniform at the start
        nn.init.zeros_(self.logits.bias)

    @torch.no_grad()
    def write(self, generator: torch.Generator) -> tuple[Choices, float]:
        """Choices drawn from the policy, and their log-probability."""
        choices: Choices = ()
        total, state, token = 0.0, None, self.starts[-1]
        for position in range(len(self.space.cardinalities)):
            state = self.cell(self.embed(torch.tensor([token])), state)
            options = self.space.options(choices)
            tokens = torch.tensor([self.starts[position] + option for option in options])
            log_p = torch.log_softmax(self.logits(state[0])[0, tokens], 0)
            drawn = int(torch.multinomial(log_p.exp(), 1, generator=generator))
            total += log_p[drawn].item()
            choices += (options[drawn],)
            token = int(tokens[drawn])
        return choices, total

    def judge(self, batch: list[Choices]) -> tuple[Tensor, Tensor]:
        """Log-probabilities of choice vectors, shape (len(batch),), and the mean entropy of the draws (nats)."""
        total, entropy = torch.zeros(len(batch)), torch.zeros(())
        state, tokens = None, torch.full((len(batch),), self.starts[-1])
        for position, start in enumerate(self.starts[:-1]):
            state = self.cell(self.embed(tokens), state)
            allowed = torch.full((len(batch), self.starts[position + 1] - start), -torch.inf)
            for row, choices in enumerate(batch):
                allowed[row, torch.as_tensor(self.space.options(choices[:position]))] = 0.0
            log_p = torch.log_softmax(self.logits(state[0])[:, start : self.starts[position + 1]] + allowed, 1)
            chosen = torch.tensor([choices[position] for choices in batch])
            total = total + log_p.gather(1, chosen[:, None])[:, 0]
            entropy = entropy - (log_p.exp() * log_p.masked_fill(log_p == -torch.inf, 0.0)).sum(1).mean()
            tokens = start + chosen
        return total, entropy / len(self.space.cardinalities)


class Reinforce(Strategy):
    """PPO on batches of told results. A failure is rewarded like the worst result so far."""

    patience = 20  # its policy narrows: what it repeats, it would repeat for long

    def __init__(
        self, problem: Problem, hidden_size: int, batch_size: int, learning_rate: float, entropy_bonus: float
    ) -> None:
        super().__init__(problem)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(problem.seed)
            self.controller = Controller(problem.space, hidden_size)
        self.optimizer = torch.optim.Adam(self.controller.parameters(), lr=learning_rate)
        self.generator = torch.Generator().manual_seed(problem.seed)
        self.batch_size, self.entropy_bonus = batch_size, entropy_bonus
        self._pending: dict[Expression, list[tuple[Choices, float]]] = defaultdict(list)
        self._told: list[_Written] = []
        self._rewards: list[float] = []
        self._baseline: float | None = None
        self._spread = 0.0
        self._worst: float | None = None

    def ask(self) -> Candidate | Signal | None:
        for _ in range(_INVALID):
            choices, log_p = self.controller.write(self.generator)
            try:
                expression = self.space.decode(choices)
            except ValueError:  # a constraint of the space
                continue
            self._pending[expression].append((choices, log_p))
            return Candidate(expression)
        return Candidate(self.space.sample(self.rng))

    def tell(self, candidate: Candidate | RelaxedCandidate, result: TrialResult) -> None:
        if not isinstance(candidate, Candidate):
            return
        value = self.objective.value(result)
        if value is not None:
            self._worst = value if self._worst is None else min(value, self._worst)
        reward = self._worst if value is None else value
        pending = self._pending.get(candidate.expression)
        if pending:
            choices, log_p = pending.pop(0)
        elif self.space.contains(candidate.expression):  # as if it had been written by the controller as it is now
            choices = self.space.encode(candidate.expression)
            with torch.no_grad():
                log_p = self.controller.judge([choices])[0].item()
        else:
            return
        if reward is not None:
            self._told.append((choices, log_p, reward))
        if len(self._told) >= self.batch_size:
            self._learn()

    def _learn(self) -> None:
        batch, self._told = self._told, []
        self._rewards += [reward for *_, reward in batch]
        advantages = torch.tensor([self._advantage(self._bounded(reward)) for *_, reward in batch])
        old = torch.tensor([log_p for _, log_p, _ in batch])
        for _ in range(_PASSES):
            new, entropy = self.controller.judge([choices for choices, _, _ in batch])
            ratio = (new - old).exp()
            surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - _CLIP, 1 + _CLIP) * advantages)
            loss = -surrogate.mean() - self.entropy_bonus * entropy
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def _bounded(self, reward: float) -> float:
        """The reward, unless it is an outlier: losses have no bound, and one of 1e19 must not become the measure."""
        middle = median(self._rewards)
        reach = _FURTHEST * median(abs(other - middle) for other in self._rewards)
        return reward if reach == 0 else max(middle - reach, min(middle + reach, reward))

    def _advantage(self, reward: float) -> float:
        """How far a reward is above the moving average of those before, in units of their usual distance from it."""
        if self._baseline is None:
            self._baseline = reward
        distance = reward - self._baseline
        self._baseline += (1 - _DECAY) * distance
        self._spread = max(_DECAY * self._spread + (1 - _DECAY) * abs(distance), 1e-12)
        return max(-3.0, min(3.0, distance / self._spread))


@strategies.register("reinforce")
def reinforce(
    problem: Problem,
    *,
    hidden_size: PositiveInt = 64,
    batch_size: PositiveInt = 10,
    learning_rate: PositiveFloat = 0.01,
    entropy_bonus: Annotated[NonNegativeFloat, Field(allow_inf_nan=False)] = 0.02,
) -> Strategy:
    return Reinforce(problem, hidden_size, batch_size, learning_rate, entropy_bonus)
