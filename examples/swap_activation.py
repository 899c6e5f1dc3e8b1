"""Another activation in a trained network: at once, by a blend, or by a blend while layers thaw. Which keeps more?

    python examples/swap_activation.py [--new silu tanh] [--steps 80] [--blend 0.5] [--images N] [--seeds 5] [--json]

A ResNet-8 learns scikit-learn's digits (8x8 pixels, 10 classes) with ReLU. Its activations are then replaced, and it is
trained for some more steps, as many in every variant, with the same optimiser, schedule (ULMFiT's slanted triangle) and
order of images:

    stay                    ReLU is kept: what the further training does by itself
    at once                 replace_activations, then training
    blend                   old to new over the first part of the steps (--blend), the new one alone in the others
    blend, unfreezing       the same, the head first, then layer by layer, all of them from half of the steps on
    unfreezing              at once, with the layers thawing so
    from scratch            new weights and the new activation, for these steps only

Accuracy and loss are those of images held out from the training, in evaluation: right after the swap (of the training
before, where a blend begins), at the worst of ten looks on the way, and at the end, when blends are finished.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from scipy.stats import t as student
from torch import Tensor, nn

from nas.modules import (
    Blend,
    BlendSchedule,
    GradualUnfreezing,
    finish,
    layer_groups,
    replace_activations,
    slanted_triangular,
)
from trainers.data.digits import digits
from trainers.environment import environment
from trainers.models.resnet import ResNet

NEW: dict[str, Callable[[], nn.Module]] = {"silu": nn.SiLU, "gelu": nn.GELU, "mish": nn.Mish, "tanh": nn.Tanh}
VARIANTS = ("stay", "at once", "blend", "blend, unfreezing", "unfreezing", "from scratch")
LOOKS, BATCH = 10, 64


@dataclass(frozen=True)
class Result:
    """One fine-tuning. Losses are cross-entropies in nats, accuracies in percent."""

    new: str
    variant: str
    seed: int
    accuracy_before: float
    loss_before: float
    accuracy_swapped: float
    loss_swapped: float
    loss_worst: float
    accuracy: float
    loss: float


@dataclass(frozen=True)
class Data:
    """Normalised images (N, 1, 8, 8) and their classes."""

    x: Tensor
    y: Tensor
    val_x: Tensor
    val_y: Tensor


def load() -> Data:
    images = digits()
    x, val_x = ((part / 255 - images.mean[0]) / images.std[0] for part in (images.train_x, images.val_x))
    return Data(x, images.train_y, val_x, images.val_y)


def batches(data: Data, images: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled again and again, for ever."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(images, generator=generator)
        yield from ((data.x[part], data.y[part]) for part in order.split(BATCH) if len(part) == min(BATCH, images))


@torch.no_grad()
def look(model: nn.Module, data: Data) -> tuple[float, float]:
    """Accuracy and loss on what was held out."""
    model.eval()
    logits = model(data.val_x)
    model.train()
    return 100 * (logits.argmax(1) == data.val_y).float().mean().item(), F.cross_entropy(logits, data.val_y).item()


def network(act: Callable[[], nn.Module], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return ResNet(act, in_channels=1, num_classes=10, n=1, width=16)


def train(
    model: nn.Module, data: Data, images: int, seed: int, steps: int, rate: float, after: Callable[[int], None]
) -> None:
    """SGD; ``after`` is called after each step with how many there were."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, slanted_triangular(steps))
    model.train()
    for step, (x, y) in zip(range(1, steps + 1), batches(data, images, seed), strict=False):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        schedule.step()
        after(step)


def swap(
    model: nn.Module, variant: str, new: str, seed: int, options: argparse.Namespace
) -> tuple[nn.Module, list[Callable[[], None]]]:
    """The model to fine-tune, and what is to be done after each step of the optimiser."""
    if variant == "from scratch":
        return network(NEW[new], seed), []
    after: list[Callable[[], None]] = []
    groups = layer_groups(model)
    if variant.startswith("blend"):
        blend = max(1, round(options.blend * options.steps))
        replace_activations(model, nn.ReLU, lambda old: Blend(old, NEW[new](), steps=blend), verbose=False)
        after.append(BlendSchedule(model).step)
    elif variant != "stay":
        replace_activations(model, nn.ReLU, NEW[new], verbose=False)
    if variant.endswith("unfreezing"):
        after.append(GradualUnfreezing(groups, every=max(1, options.steps // 2 // len(groups))).step)
    return model, after


def fine_tune(trained: nn.Module, data: Data, variant: str, new: str, seed: int, options: argparse.Namespace) -> Result:
    before = look(trained, data)
    model, after = swap(copy.deepcopy(trained), variant, new, seed, options)
    swapped = look(model, data)
    losses = [swapped[1]]

    def step(made: int) -> None:
        for each in after:
            each()
        if made % max(1, options.steps // LOOKS) == 0:
            losses.append(look(model, data)[1])

    train(model, data, options.images or len(data.x), 1000 + seed, options.steps, options.rate, step)
    accuracy, loss = look(finish(model), data)
    return Result(new, variant, seed, *before, *swapped, max(losses), accuracy, loss)


def run(options: argparse.Namespace) -> list[Result]:
    data, found = load(), []
    for seed in range(options.seeds):
        trained = network(nn.ReLU, seed)
        train(trained, data, len(data.x), seed, options.train_steps, 0.1, lambda made: None)
        for new in options.new:
            found += [fine_tune(trained, data, variant, new, seed, options) for variant in VARIANTS]
    return found


def interval(values: list[float]) -> str:
    """Mean ± half of Student's 95 % interval."""
    if len(values) < 2:
        return f"{statistics.mean(values):+.3f}"
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):+.3f} ± {half:.3f}"


def spread(values: list[float], digits: int) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}"


def print_table(found: list[Result], new: str) -> None:
    rows = {variant: [r for r in found if (r.new, r.variant) == (new, variant)] for variant in VARIANTS}
    base = rows["at once"]
    print(f"ReLU -> {new}; before: accuracy {spread([r.accuracy_before for r in base], 2)}, ", end="")
    print(f"loss {spread([r.loss_before for r in base], 3)}")
    titles = ("swapped: acc %", "loss", "worst loss", "end: acc %", "loss", "loss vs at once")
    print(f"{'':18}" + "".join(f"{title:>17}" for title in titles))
    for variant, results in rows.items():
        cells = [
            spread([r.accuracy_swapped for r in results], 2),
            spread([r.loss_swapped for r in results], 3),
            spread([r.loss_worst for r in results], 3),
            spread([r.accuracy for r in results], 2),
            spread([r.loss for r in results], 3),
            "" if results is base else interval([r.loss - b.loss for r, b in zip(results, base, strict=True)]),
        ]
        print(f"{variant:18}" + "".join(f"{cell:>17}" for cell in cells))
    print()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--new", nargs="+", choices=NEW, default=["silu", "tanh"])
    parser.add_argument("--steps", type=int, default=80, help="of the fine-tuning, 64 images each")
    parser.add_argument("--blend", type=float, default=0.5, help="part of the steps in which old becomes new")
    parser.add_argument("--images", type=int, default=0, help="to fine-tune on; 0: all 1,005")
    parser.add_argument("--rate", type=float, default=0.02, help="peak learning rate of the fine-tuning")
    parser.add_argument("--train-steps", type=int, default=240, help="of the training before")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="every fine-tuning as JSON")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    found = run(options)
    where = environment(torch.device("cpu"), "fp32", "module")
    if options.json:
        json.dump({"options": vars(options), "environment": where, "results": [asdict(r) for r in found]}, sys.stdout)
        return
    for new in options.new:
        print_table(found, new)
    print(
        f"Mean ± standard deviation over {options.seeds} seeds; vs at once: mean ± 95 % interval over matched seeds; "
        "s: CPU time."
    )
    print(", ".join(f"{key} {value}" for key, value in where.items()) + f"; {time.process_time():.0f} s")


if __name__ == "__main__":
    main()
