"""A network that is trained for one candidate after the other: model, optimiser and training step.

On a GPU the step is captured once in a CUDA graph. The next candidate is another table in the same place of memory,
fresh weights and an empty optimiser; nothing is compiled, allocated or captured again.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.modules.activations import TableActivation, refresh
from search_spaces.compile import to_function
from search_spaces.expression import params
from search_spaces.parser import parse
from trainers import progress
from trainers.activation import fuse_where_it_pays, make_act, uses_table
from trainers.batches import Batch
from trainers.data import DataSet
from trainers.models import ActFactory, ModelError, models
from trainers.trial import Recipe, Trial

_WARM_UP_STEPS = 3  # before a capture, so that libraries have chosen their algorithms and allocated their memory


def build_model(trial: Trial, data: DataSet, act: ActFactory | None = None) -> nn.Module:
    """The trial's model with its seed's weights, on the CPU, all parameters materialised.

    Its activation is the trial's expression, unless ``act`` is given.
    """
    act = act or make_act(parse(trial.expression), trial.param_shape, trial.precision)
    torch.manual_seed(trial.seed)
    model = models.get(trial.model.name)(act, data.input_shape, data.num_outputs, **trial.model.options)
    try:
        with torch.no_grad():  # gives per-channel activation parameters their shape
            model.eval()(example(data))
    except TypeError as error:  # such as a function of x in a place for two inputs
        raise ModelError(f"{trial.model.name} cannot use {trial.expression} as its activation ({error})") from error
    return model


def example(data: DataSet) -> Tensor:
    """One input of zeros: float32 (1, C, H, W) or int64 (1, T)."""
    return torch.zeros(1, *data.input_shape, dtype=torch.long if len(data.input_shape) == 1 else torch.float32)


class Network:
    """A trial's network.

    Args:
        trial: what to train.
        data: says what inputs and outputs are.
        device: where.
        steps: of the training, which decides what pays for its activation.
        act: use this activation instead of the trial's expression.
        graph: capture the step in a CUDA graph, if the device is a GPU and the activation is a table.

    Attributes:
        activation: how the activation is computed: ``table``, ``kernel``, ``compiled`` or ``eager``.
    """

    def __init__(
        self,
        trial: Trial,
        data: DataSet,
        device: torch.device,
        steps: int,
        *,
        act: ActFactory | None = None,
        graph: bool = True,
    ) -> None:
        self.data, self.device, self.recipe = data, device, trial.recipe
        self.bf16 = trial.precision == "bf16"
        self.model = build_model(trial, data, act).to(device).to(memory_format=torch.channels_last)
        self.lr = torch.zeros((), device=device)
        self.optimizer = make_optimizer(self.model, trial.recipe, self.lr)
        inputs = example(data).expand(trial.recipe.batch_size, *data.input_shape).to(device)
        self.activation = fuse_where_it_pays(self.model, inputs, steps)
        self.tables = [module for module in self.model.modules() if isinstance(module, TableActivation)]
        self._graph: _Graph | None = None
        self._wants_graph = graph and device.type == "cuda" and self.activation == "table"

    def restart(self, trial: Trial) -> None:
        """Become the network of another trial that has the same :func:`network_key`."""
        fresh = build_model(trial, self.data)
        with torch.no_grad():
            for mine, theirs in zip(_state(self.model), _state(fresh), strict=True):
                mine.copy_(theirs)
            _clear(self.optimizer)
        function = to_function(parse(trial.expression))
        for site in self.tables:
            site.become(function)

    def loss(self, x: Tensor, y: Tensor, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy (nats) and logits; x and y as batches have them."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.model(x)
        logits = logits.float().flatten(0, -2)
        return F.cross_entropy(logits, y.flatten(), label_smoothing=label_smoothing), logits

    def step(self, batch: Batch, learning_rate: float) -> Tensor:
        """One training step; the loss before it, as a tensor on the device."""
        progress.step()
        self.lr.fill_(learning_rate)
        if not self._wants_graph:
            return self._step(*batch)
        if self._graph is None:
            self._graph = _Graph(self, batch)
        refresh(self.tables, self.device)  # those with parameters, which the last step has changed
        return self._graph.replay(batch)

    def _step(self, x: Tensor, y: Tensor) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss, _ = self.loss(x, y, self.recipe.label_smoothing)
        loss.backward()
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        return loss.detach()


class _Graph:
    """A captured training step, and the memory that it reads its batch from."""

    def __init__(self, network: Network, batch: Batch) -> None:
        self.x, self.y = (tensor.clone() for tensor in batch)
        kept = [tensor.clone() for tensor in _state(network.model)]
        random_state = torch.cuda.get_rng_state(network.device)  # dropout in the warm-up draws from it
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_STEPS):
                network._step(self.x, self.y)
        torch.cuda.current_stream().wait_stream(stream)
        network.optimizer.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = network._step(self.x, self.y)
        with torch.no_grad():  # as if nothing had been trained yet
            for tensor, before in zip(_state(network.model), kept, strict=True):
                tensor.copy_(before)
            _clear(network.optimizer)
        torch.cuda.set_rng_state(random_state, network.device)

    def replay(self, batch: Batch) -> Tensor:
        self.x.copy_(batch[0])
        self.y.copy_(batch[1])
        self.graph.replay()
        return self.loss.clone()


def network_key(trial: Trial) -> str | None:
    """Equal for trials that can use the same :class:`Network`; None for one that needs its own."""
    expression = parse(trial.expression)
    if not uses_table(expression, trial.param_shape, trial.precision):
        return None
    parts = (trial.model.to_json(), trial.data.to_json(), trial.recipe.to_json(), trial.precision, trial.device)
    return "\n".join([*parts, trial.score_on, *params(expression)])


def make_optimizer(model: nn.Module, recipe: Recipe, lr: Tensor | float) -> torch.optim.Optimizer:
    """The recipe's optimiser; weight decay only on weights of two or more dimensions.

    ``lr`` is a tensor on the model's device, so that a captured step sees it change.
    """
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=recipe.momentum, nesterov=True, fused=True)
    if recipe.optimizer == "adamw":
        capturable = isinstance(lr, Tensor) and lr.is_cuda
        betas = (recipe.momentum, recipe.beta2)
        return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True, capturable=capturable)
    raise ValueError(f"recipe.optimizer is sgd or adamw, got {recipe.optimizer!r}")


def _state(model: nn.Module) -> list[Tensor]:
    """Parameters and persistent buffers, in an order that depends on the model's structure alone."""
    return list(model.state_dict().values())


def _clear(optimizer: torch.optim.Optimizer) -> None:
    """Forget all steps, in place."""
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                value.zero_()
