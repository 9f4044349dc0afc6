"""Several cuts, followed in the numbering of the network as it was at first."""

import copy

import pytest
import torch

from pruning_lit.channels import PruningHistory, narrow, removed_positions, trace
from pruning_lit.models import cifar_densenet, cifar_resnet, preresnet
from tests.channels.chance import random_kept, randomise

NETS = {"resnet": cifar_resnet(8), "preresnet": preresnet(11), "densenet": cifar_densenet(7)}
IMAGE = torch.zeros(1, 3, 16, 16)


@pytest.mark.at_once(2)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETS)
def test_the_rows_that_are_left_are_those_of_the_survivors(name, seed):
    first = randomise(copy.deepcopy(NETS[name]))
    net = copy.deepcopy(first)
    graph = trace(first, IMAGE)
    history = PruningHistory(graph)
    for cut in range(3):
        present = trace(net, IMAGE)
        kept = random_kept(present, seed=10 * seed + cut)
        history.cut(removed_positions(present, kept))
        narrow(net, present, kept)
    kept, tensors, before = history.kept, net.state_dict(), first.state_dict()
    for group in graph.groups:
        stay = kept.get(group.name, range(group.size))
        for piece in group.slices:
            if piece.role == "along" and tensors[piece.tensor].is_floating_point():  # one group's alone
                places = sorted(piece.positions[list(stay)].flatten().tolist())
                if len(before[piece.tensor]) == piece.positions.numel():
                    assert torch.equal(tensors[piece.tensor], before[piece.tensor][places]), (group.name, piece.tensor)


def test_nothing_has_gone_where_nothing_was_cut():
    assert PruningHistory(trace(NETS["resnet"], IMAGE)).kept == {}
