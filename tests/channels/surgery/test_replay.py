"""Models that look at their own predictions are proven by those of the first pass, and no layer is computed again."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pruning_lit.channels import mask, narrow, trace, verify
from pruning_lit.channels.surgery import rehearsal

IMAGE = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Detector(nn.Module):
    """Finds places by a head's scores, looks at these alone, and may use a number that it takes out of the scores."""

    def __init__(self, number: Callable[[Tensor, Tensor], object] = lambda x, scores: 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.number = number
        self.stem, self.scores, self.middle = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 1, 1), nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(6, 2)

    def forward(self, image: Tensor) -> Tensor:
        x, scores = self.stem(image), self.scores(image)[0, 0]
        x = self.middle(x * self.number(x, scores)).relu()
        found = x[0].permute(1, 2, 0)[scores > scores.median()]
        places = torch.where(scores > scores.mean())[0]
        assert len(found) == 18
        assert max(scores.flatten().argmax(), -1) < 36
        return self.head(found) * len(places)


@pytest.fixture
def without_masked_copies(monkeypatch):
    """Whoever asks for a copy with data in it, to compute all layers of, fails."""

    def computed(*_arguments: object) -> None:
        raise AssertionError("the layers are computed")

    monkeypatch.setattr(rehearsal, "_masked", computed)


@pytest.mark.usefixtures("without_masked_copies")
def test_what_counts_its_findings_is_cut_exactly_and_no_layer_is_computed_for_the_proof():
    net = Detector().eval()
    graph = trace(net, IMAGE)
    assert {group.name: group.protected is None for group in graph.groups} == {
        "stem": True,
        "scores": False,
        "middle": True,
        "head": False,
    }
    kept, masked = {"stem": [0, 3, 4], "middle": [1, 5]}, Detector().eval()
    masked.load_state_dict(net.state_dict())
    mask(masked, graph, kept)
    narrow(net, graph, kept)
    assert verify(net, masked, IMAGE) < 1e-5


def _assigned(x: Tensor, scores: Tensor) -> float:
    numbers = torch.ones(2)
    numbers[0] = x.shape[1]
    return (scores.max() * numbers.sum()).item()


WIDTH_IN_A_NUMBER: dict[str, Callable[[Tensor, Tensor], object]] = {
    "factor": lambda x, scores: (scores.max() * x.shape[1]).item(),
    "whole number": lambda x, scores: (scores.flatten().argmax() * x.shape[1]).item() + 1,
    "root": lambda x, scores: float(scores.sum() / x.shape[1] ** 0.5),
    "tensor": lambda x, scores: (scores.max() * torch.tensor([float(x.shape[1]), 1.0]).sum()).item(),
    "full": lambda x, scores: (scores.max() * scores.new_full((1,), x.shape[1])).item(),
    "ones": lambda x, scores: (scores.max() * torch.ones(x.shape[1]).sum()).item(),
    "expanded": lambda x, scores: (scores.max() * torch.ones(1).expand(x.shape[1]).sum()).item(),
    "expanded score": lambda x, scores: scores.max().expand(x.shape[1]).sum().item(),
    "sliced": lambda x, scores: (scores.max() * torch.arange(9.0)[: x.shape[1]].sum()).item(),
    "assigned": _assigned,
    "numpy": lambda x, scores: (scores.max() * torch.from_numpy(np.full(1, x.shape[1], np.float32))).item(),
    "long numpy": lambda x, scores: (scores.max() * torch.from_numpy(np.full(99, x.shape[1], np.float32))[0]).item(),
    "behind what is counted": lambda x, scores: (scores[scores > scores.mean()].sum() * x.shape[1]).item(),
    "list": lambda x, scores: (scores * x.shape[1]).max().tolist(),
}


@pytest.mark.parametrize("number", WIDTH_IN_A_NUMBER.values(), ids=WIDTH_IN_A_NUMBER)
def test_a_number_that_is_computed_of_predictions_and_a_width_is_seen(number):
    assert trace(Detector(number).eval(), IMAGE)["stem"].protected is not None


def test_a_number_of_predictions_alone_is_no_reason_to_protect():
    graph = trace(Detector(lambda x, scores: scores.max().item()).eval(), IMAGE)
    assert graph["stem"].protected is None


def test_a_sum_of_weights_is_that_of_the_narrowed_ones():
    net = Detector(lambda x, scores: 1.0).eval()
    net.number = lambda x, scores: net.middle.weight.square().sum().item()
    assert trace(net, IMAGE)["middle"].protected is not None
