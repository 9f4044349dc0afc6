"""Small networks, images for calibration, and golden numbers, of which several criteria are tested."""

import numpy as np
import torch
from torch import Tensor, nn

from pruning_lit.channels import trace
from pruning_lit.criteria import Scoring
from pruning_lit.models import cifar_resnet
from pruning_lit.tasks import Classification
from tests.places import VECTORS

GOLDEN = np.load(VECTORS / "around_pruning" / "criteria.npz")
CLASSES = 4


class Given:
    """Calibration data that are these images, shared by the processes."""

    def __init__(self, images: Tensor, targets: Tensor) -> None:
        self.images, self.targets, self.num_training = images, targets, len(images)

    def calibration(self, num_images, seed, augment, rank, world_size, batch_size):
        share = slice(rank, num_images, world_size)
        return zip(self.images[share].split(batch_size), self.targets[share].split(batch_size), strict=False)


def given(num: int, size: int = 32) -> Given:
    random = torch.Generator().manual_seed(1)
    images = torch.randn(num, 3, size, size, dtype=torch.float64, generator=random)
    return Given(images, torch.randint(CLASSES, (num,), generator=random))


def scoring(net: nn.Module, data: Given) -> Scoring:
    graph = trace(net, data.images[:1])
    return Scoring(net, graph, list(graph.prunable), data, Classification(CLASSES))


def resnet() -> nn.Module:
    """Batch norms with averages and shifts of their own, so that no term is zero."""
    torch.manual_seed(0)
    net = cifar_resnet(8, num_classes=CLASSES, stem="tied", shortcut="conv").double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
            module.running_mean.normal_(0, 0.3)
    return net


def bare() -> nn.Module:
    """No batch norm, but biases, one of them of a linear layer; dropout in between."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Dropout(), nn.Flatten(),
        nn.Linear(6 * 36, 5), nn.ReLU(), nn.Linear(5, CLASSES)
    ).double()  # fmt: skip


def golden_net() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4),
    ).double()  # fmt: skip
    state = {key.removeprefix("state."): torch.from_numpy(GOLDEN[key]) for key in GOLDEN if key.startswith("state.")}
    net.load_state_dict(state, strict=False)
    return net


def golden_scoring() -> tuple[Scoring, int]:
    """The golden network with all its images, and their number in a batch."""
    x, y = torch.from_numpy(GOLDEN["x"]), torch.from_numpy(GOLDEN["y"])
    return scoring(golden_net(), Given(x.flatten(0, 1), y.flatten())), x.shape[1]


def golden(name: str) -> dict[str, Tensor]:
    """Expected numbers of both convolutions."""
    return {layer: torch.from_numpy(GOLDEN[f"{layer}.{name}"]) for layer in ("0", "3")}
