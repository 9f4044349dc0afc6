"""Golden vectors of detection: networks filled, and predictions made, by numpy's frozen generator.

Source of the files: functions of CHEX's released detection and segmentation code, run on the CPU; see their README.
"""

import json
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.places import VECTORS

GOLDEN = VECTORS / "detection"

FILLING: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "filter": lambda z: z * math.sqrt(2 / math.prod(z.shape[1:])),
    "scale": lambda z: 0.5 + 0.1 * z,
    "shift": lambda z: 0.1 * z,
    "bias": lambda z: 0.1 * z,
    "mean": lambda z: 0.1 * z,
    "variance": lambda z: np.exp(0.2 * z),
}


def golden(name: str) -> Any:
    """Content of a JSON file."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def arrays(name: str) -> dict[str, np.ndarray]:
    """Content of an npz file."""
    return dict(np.load(GOLDEN / f"{name}.npz"))


def filled(layout: Iterable[tuple[str, list[int], str]], seed: int) -> dict[str, Tensor]:
    """The tensors of a layout, by the original's names, in float64."""
    random = np.random.RandomState(seed)
    return {name: torch.from_numpy(FILLING[kind](random.standard_normal(shape))) for name, shape, kind in layout}


def fill(net: nn.Module, tensors: dict[str, Tensor]) -> nn.Module:
    """Load tensors into a network, in double precision and eval mode; all but the batch counters must be there."""
    missing, unexpected = net.double().load_state_dict(tensors, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return net.eval()


def assert_probed(tensor: Tensor, probe: dict[str, Any], tolerance: float) -> None:
    """Hold a tensor against its recorded entries and sums."""
    assert list(tensor.shape) == probe["shape"]
    largest = float(tensor.abs().max())
    found = tensor.flatten()[probe["index"]]
    torch.testing.assert_close(
        found, torch.tensor(probe["value"], dtype=torch.float64), rtol=0, atol=tolerance * largest
    )
    assert math.isclose(float(tensor.sum()), probe["sum"], abs_tol=tolerance * probe["sum_abs"])
    assert math.isclose(float(tensor.abs().sum()), probe["sum_abs"], rel_tol=tolerance)


class Given(nn.Module):
    """Module that returns what it was given, whatever it is asked."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result

    def forward(self, _: Any) -> Any:
        """The result."""
        return self.result


def predictions(
    case: dict[str, Any], images: int, boxes: int, codes_scale: float = 1.0, background: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Codes ``(images, 4, boxes)`` and logits ``(images, classes, boxes)``, in the order of the original."""
    random = np.random.RandomState(case["seed"])
    codes = random.standard_normal((images, 4, boxes)) * codes_scale
    logits = random.standard_normal((images, case["classes"], boxes)) * case["plabel_scale"]
    logits[:, 0] += background
    return torch.from_numpy(codes), torch.from_numpy(logits)


def ordered(tensor: Tensor, order: np.ndarray) -> Tensor:
    """Predictions ``(N, k, boxes)`` of the original as torchvision has them, ``(N, boxes, k)``."""
    return tensor[:, :, torch.from_numpy(order).long()].transpose(1, 2).contiguous()
