"""Properties of all criteria that go by any network: with every kind of layer, without a trace, by two processes."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from pruning_lit.channels import narrow
from pruning_lit.criteria import FPGM, LAMP, Criterion, GroupNorm, Hessian, HRank, Taylor
from pruning_lit.models import cifar_resnet, preresnet
from pruning_lit.sparsity import Global, Macs, Uniform
from tests.commands import in_own_process
from tests.criteria.given import CLASSES, bare, given, resnet, scoring

CRITERIA: dict[str, Criterion] = {
    "fpgm": FPGM(),
    "lamp": LAMP(),
    "group_norm": GroupNorm(),
    "hrank": HRank(num_images=4, batch_size=2),
    "hessian": Hessian(num_images=4),
    "taylor": Taylor(num_images=4, batch_size=2),
}


def depthwise() -> nn.Module:
    """A stem, a depthwise layer that hands it on, and linear layers behind."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(48, 6), nn.ReLU(), nn.Linear(6, CLASSES),
    ).double()  # fmt: skip


NETWORKS = {
    "coupled": (resnet, 32),
    "padded shortcuts": (lambda: cifar_resnet(8, num_classes=CLASSES).double(), 32),
    "no norms": (bare, 8),
    "depthwise": (depthwise, 8),
    "selections": (lambda: preresnet(11, num_classes=CLASSES).double(), 32),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
def test_every_kind_of_layer_gets_scores_with_which_it_is_cut(criterion, network):
    make, size = NETWORKS[network]
    case = scoring(make(), given(4, size))
    found = criterion.scores(case)
    assert {name: each.shape for name, each in found.items()} == {each.name: (each.size,) for each in case.groups}
    assert all(each.dtype == torch.float64 and bool(each.isfinite().all()) for each in found.values())
    assert all(len(each.unique()) > 1 for each in found.values()), "channels are told apart"
    plan = Macs(reduction=0.3).bind(criterion).plan(case.graph, found)
    narrow(case.net, case.graph, plan.kept)
    assert case.net(case.data.images).shape == (4, CLASSES)


@pytest.mark.parametrize(
    "sparsity", [Uniform(0.5), Global(0.5), Macs(reduction=0.5)], ids=["uniform", "global", "macs"]
)
@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
def test_every_budget_is_met(criterion, sparsity):
    case = scoring(resnet(), given(4))
    plan = copy.deepcopy(sparsity).bind(criterion).plan(case.graph, criterion.scores(case))
    assert plan.cost.macs < 0.85 * Uniform(0.0).plan(case.graph, criterion.scores(case)).cost.macs


@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
def test_nothing_is_left_in_the_network_nor_in_the_random_state(criterion):
    net = resnet()
    case = scoring(net, given(4))
    net.train()
    net(case.data.images).sum().backward()
    state, gradients = copy.deepcopy(net.state_dict()), [each.grad.clone() for each in net.parameters()]
    random = torch.get_rng_state()
    criterion.scores(case)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in net.modules())
    assert all(torch.equal(net.state_dict()[name], each) for name, each in state.items())
    assert all(torch.equal(each.grad, old) for each, old in zip(net.parameters(), gradients, strict=True))


@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
def test_half_precision_is_scored_in_double(criterion):
    net, data = resnet().bfloat16(), given(4)
    data.images = data.images.bfloat16()
    case = scoring(net, data)
    before = copy.deepcopy(net.state_dict())
    assert all(each.dtype == torch.float64 for each in criterion.scores(case).values())
    assert all(torch.equal(net.state_dict()[name], each) for name, each in before.items())


def of_one_rank(rank: int, folder: Path) -> None:
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2, store=store)
    torch.save(
        {name: each.scores(scoring(resnet(), given(5))) for name, each in CRITERIA.items()}, folder / f"{rank}.pt"
    )
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@in_own_process
def test_two_processes_with_unequal_shares_find_the_scores_of_one(tmp_path):
    torch.multiprocessing.start_processes(of_one_rank, (tmp_path,), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, criterion in CRITERIA.items():
        for group, scores in criterion.scores(scoring(resnet(), given(5))).items():
            assert torch.equal(first[name][group], second[name][group])
            torch.testing.assert_close(first[name][group], scores, rtol=1e-12, atol=0)
