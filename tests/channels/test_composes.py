"""Two cuts are one: narrowing a narrowed network is narrowing it to the kept of the kept."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision.models import DenseNet

from pruning_lit.channels import narrow, trace, widen
from pruning_lit.models import cifar_resnet, torchvision_model
from tests.channels.chance import random_kept, randomise

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet20, select": lambda: cifar_resnet(20, stem="select"),
    "resnet20, tied": lambda: cifar_resnet(20, stem="tied"),
    "densenet": lambda: DenseNet(growth_rate=8, block_config=(2, 3, 2), num_init_features=16, num_classes=10),
    "mobilenet_v2": lambda: torchvision_model("mobilenet_v2", 10),
    "resnext50": lambda: torchvision_model("resnext50_32x4d", 10),
}
EXAMPLE = torch.zeros(1, 3, 32, 32)


@pytest.mark.at_once(1)
@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS.keys())
def test_two_cuts_are_one(build):
    net = randomise(build())
    graph = trace(net, EXAMPLE)
    first = {  # not to one channel: those left of a grouped convolution would be free of each other
        name: sorted({*kept, 0, graph[name].size - 1}) for name, kept in random_kept(graph, seed=1).items()
    }
    in_two, in_one = copy.deepcopy(net), copy.deepcopy(net)
    moves = narrow(in_two, graph, first, rehearse=False)
    between = trace(in_two, EXAMPLE)
    assert [(group.name, group.size) for group in between.prunable] == [(name, len(k)) for name, k in first.items()]
    second = random_kept(between, seed=2)
    again = narrow(in_two, between, second, rehearse=False)
    both = {name: [first[name][position] for position in second[name]] for name in first}
    at_once = narrow(in_one, graph, both, rehearse=False)

    assert repr(in_two) == repr(in_one)
    for name, tensor in in_one.state_dict().items():
        assert torch.equal(in_two.state_dict()[name], tensor), name

    for name, move in at_once.items():  # and so are the accounts of what moved
        if not name.endswith("source"):
            companion = torch.randn(move.old.shape)
            expected = move.gather(companion)
            for step in (moves, again):
                companion = step[name].gather(companion) if name in step else companion
            assert torch.equal(companion, expected), name

    for step in (again, moves):
        widen(in_two, step)
    widen(in_one, at_once)
    for name, tensor in net.state_dict().items():
        assert torch.equal(in_two.state_dict()[name], tensor), name
        assert torch.equal(in_one.state_dict()[name], tensor), name
