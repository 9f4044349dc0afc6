"""The measurement on the test images."""

import pytest
import torch
from torch import nn

from pruning_lit.data import Digits
from pruning_lit.tasks import Classification, evaluate


@pytest.fixture(scope="module")
def digits() -> Digits:
    data = Digits(batch_size=50, mean=[0.3] * 3, std=[0.3] * 3, pad=2)
    data.setup()
    return data


class Watched(nn.Module):
    """A small network that counts images and sees whether it is in eval mode, without gradients."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.dropout, self.linear = nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Linear(192, 10)
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        assert x.dtype == torch.float32
        self.seen.append(len(x))
        return self.linear(self.dropout(self.norm(x[:, :, ::4, ::4]).flatten(1)))


def test_every_test_image_is_seen_once_and_none_is_augmented(digits):
    net = Watched()
    found = evaluate(net, digits, Classification(10))
    assert net.seen == [50] * 7 + [9]  # 359 in all
    images, target = digits.parts.test.take(torch.arange(359))
    with torch.no_grad():
        logits = net.eval()((images.float() / 255 - 0.3) / 0.3)
    assert found["accuracy"] == pytest.approx(float((logits.argmax(1) == target).float().mean()))
    assert found["loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, target)))  # the last batch is small
    best = logits.topk(5).indices
    assert found["accuracy_top5"] == pytest.approx(float((best == target[:, None]).any(1).float().mean()))


def test_measuring_changes_nothing(digits):
    net = Watched().train()
    net.norm.eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    first = evaluate(net, digits, Classification(10))
    assert evaluate(net, digits, Classification(10)) == first
    assert [net.training, net.norm.training, net.dropout.training] == [True, False, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
