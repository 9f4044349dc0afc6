"""A residual branch of which nothing is left is taken out, and the network computes what the masked one does."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model

from pruning_lit.channels import (
    Branch,
    ChannelGraph,
    Kept,
    Removal,
    ResidualBranch,
    adopt_on_load,
    cost,
    load,
    mask,
    narrow,
    save,
    trace,
    verify,
    widen,
)
from pruning_lit.models import cifar_resnet, preresnet
from tests.channels.chance import random_kept, randomise
from tests.places import VECTORS

GOLDEN = VECTORS / "network_slimming" / "preresnet_empty_bn3.npz"
ARCH = {"_target_": "pruning_lit.models.preresnet", "depth": 20, "width": 2}
EMPTIED = [("layer2.1",), ("layer1.0",), ("layer1.0", "layer1.1", "layer3.0"), ("layer3.1", "layer2.0")]
every_choice = pytest.mark.parametrize("paths", EMPTIED, ids="+".join)


def network(depth: int = 20) -> nn.Module:
    torch.manual_seed(0)
    return randomise(preresnet(depth, width=2)).double()


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def branch_of(graph: ChannelGraph, path: str) -> Branch:
    return next(branch for branch in graph.branches if branch.path == path)


def emptied(graph: ChannelGraph, *paths: str, seed: int = 0) -> dict[str, list[int]]:
    """A random choice, but nothing of the branches at these paths."""
    gone = {name: [] for path in paths for name in branch_of(graph, path).groups}
    return random_kept(graph, seed) | gone


def narrowed(net: nn.Module, graph: ChannelGraph, kept: Kept) -> nn.Module:
    copied = copy.deepcopy(net)
    narrow(copied, graph, kept)
    return copied


def masked(net: nn.Module, graph: ChannelGraph, kept: Kept) -> nn.Module:
    copied = copy.deepcopy(net)
    mask(copied, graph, kept)
    return copied


def test_every_bottleneck_in_front_of_which_norms_stand_has_a_branch():
    graph = trace(network(), images())
    assert [branch.path for branch in graph.branches] == [f"layer{s}.{b}" for s in (1, 2, 3) for b in (0, 1)]
    branch = branch_of(graph, "layer2.1")
    assert branch.groups == ("layer2.1.select", "layer2.1.conv1", "layer2.1.conv2")
    assert branch.end == "layer2.1.conv2"
    assert graph[branch.end].readers == ("layer2.1.conv3",)


@pytest.mark.parametrize("make", [lambda: cifar_resnet(8), lambda: get_model("resnet18", weights=None)])
def test_networks_with_norms_behind_the_last_convolution_have_no_branches(make):
    assert trace(make(), torch.zeros(1, 3, 32, 32)).branches == ()


def test_the_golden_network_computes_without_the_emptied_branch_what_the_reference_does():
    golden = np.load(GOLDEN)
    meta = json.loads(str(golden["meta"]))
    net = preresnet(meta["depth"], meta["num_classes"], width=meta["base_width"]).eval()
    weights = {name.removeprefix("w/"): torch.from_numpy(golden[name]) for name in golden if name.startswith("w/")}
    missing, unexpected = net.load_state_dict(weights, strict=False)
    assert not unexpected
    assert {name.rpartition(".")[2] for name in missing} <= {"source", "num_batches_tracked"}
    x = torch.from_numpy(golden["x"]).float()
    graph = trace(net, x)
    group_of = {piece.tensor: group.name for group in graph.groups for piece in group.slices}
    kept = {group_of[f"{norm}.weight"]: np.flatnonzero(golden[f"mask/{norm}"]).tolist() for norm in meta["bn_order"]}
    removed = branch_of(graph, meta["removed_block"])
    assert kept[removed.end] == []
    with torch.no_grad():
        torch.testing.assert_close(net(x), torch.from_numpy(golden["logits_full"]), rtol=0, atol=1e-5)
        net_masked = masked(net, graph, kept | {name: [] for name in removed.groups})
        torch.testing.assert_close(net_masked(x), torch.from_numpy(golden["logits_masked"]), rtol=0, atol=1e-5)
        narrow(net, graph, kept | {name: [] for name in removed.groups})
        torch.testing.assert_close(net(x), torch.from_numpy(golden["logits_block_removed"]), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.at_once(2)
@every_choice
def test_without_the_branches_a_network_is_the_masked_one(paths):
    net, x = network(), images(4)
    graph = trace(net, x[:1])
    for seed in range(3):
        kept = emptied(graph, *paths, seed=seed)
        smaller = narrowed(net, graph, kept)
        assert verify(smaller, masked(net, graph, kept), x) < 1e-10
        for path in paths:
            block = smaller.get_submodule(path)
            assert not block.has_branch
            assert {name for name, child in block.named_children() if list(child.parameters())} <= {"downsample"}


@pytest.mark.at_once(2)
@every_choice
def test_the_count_without_the_branches_is_that_of_the_network_without_them(paths):
    net = network()
    graph = trace(net, images())
    kept = emptied(graph, *paths)
    smaller = narrowed(net, graph, kept)
    assert cost(trace(smaller, images())) == cost(graph, kept)
    assert sum(parameter.numel() for parameter in smaller.parameters()) == cost(graph, kept).params


def test_all_branches_can_go():
    net, x = network(), images()
    graph = trace(net, x)
    kept = emptied(graph, *(branch.path for branch in graph.branches))
    smaller = narrowed(net, graph, kept)
    assert verify(smaller, masked(net, graph, kept), x) < 1e-10
    assert trace(smaller, x).branches == ()


def test_a_cut_without_a_rehearsal_is_the_same():
    net = network()
    graph = trace(net, images())
    kept = emptied(graph, "layer1.0", "layer3.1")
    smaller, other = narrowed(net, graph, kept), copy.deepcopy(net)
    narrow(other, graph, kept, rehearse=False)
    assert smaller.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in smaller.state_dict().items())


@pytest.mark.at_once(3)
@pytest.mark.parametrize("left", [0, 1, 2])
@pytest.mark.parametrize("cut", [narrow, mask])
def test_a_branch_that_is_emptied_in_parts_is_refused_and_the_model_untouched(cut, left):
    net = network()
    graph = trace(net, images())
    names = branch_of(graph, "layer2.1").groups
    kept = emptied(graph, "layer2.1") | {names[left]: [0]}
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match="no channel is kept, a layer cannot be emptied unless all groups of"):
        cut(net, graph, kept)
    del kept[names[left]]  # whole, then
    with pytest.raises(ValueError, match="no channel is kept"):
        cut(net, graph, kept)
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_group_that_is_protected_by_hand_holds_its_branch():
    graph = trace(network(), images()).protect({"layer2.1.conv1": "excluded"})
    assert "layer2.1" not in [branch.path for branch in graph.branches]
    assert "layer1.1" in [branch.path for branch in graph.branches]


@pytest.mark.slow
def test_a_network_without_some_branches_is_cut_again():
    net, x = network(), images()
    first = trace(net, x)
    narrow(net, first, emptied(first, "layer1.0", "layer2.1"))
    second = trace(net, x)
    assert [branch.path for branch in second.branches] == ["layer1.1", "layer2.0", "layer3.0", "layer3.1"]
    kept = emptied(second, "layer2.0", seed=3)
    smaller = narrowed(net, second, kept)
    assert verify(smaller, masked(net, second, kept), x) < 1e-10
    assert cost(trace(smaller, x)) == cost(second, kept)


def test_a_network_without_some_branches_can_be_copied():
    net, x = network(), images()
    graph = trace(net, x)
    narrow(net, graph, emptied(graph, "layer1.0", "layer2.1"))
    assert verify(copy.deepcopy(net), net, x) == 0


def test_a_network_without_some_branches_comes_back_from_its_file(tmp_path):
    torch.manual_seed(0)
    net, x = randomise(preresnet(20, width=2)), images().float()
    graph = trace(net, x)
    narrow(net, graph, emptied(graph, "layer1.0", "layer2.1"))
    save(net, tmp_path / "net.safetensors", ARCH)
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "net.safetensors")(x), net(x))


@pytest.mark.slow
def test_a_checkpoint_makes_the_network_it_is_loaded_into_drop_the_same_branches():
    net, x = network(), images()
    graph = trace(net, x)
    whole = nn.ModuleDict({"net": copy.deepcopy(net)})
    adopt_on_load(whole["net"])
    narrow(net, graph, emptied(graph, "layer1.0", "layer2.1"))
    for _ in range(2):  # the second time there is nothing left to drop
        whole.load_state_dict({f"net.{name}": tensor for name, tensor in net.state_dict().items()})
        assert verify(whole["net"], net, x) == 0


def test_a_state_that_merely_lacks_a_branch_is_refused():
    shallow, deep = network(11), network(20)
    adopt_on_load(deep)
    with pytest.raises(RuntimeError, match=r"Missing key.*layer1\.1\.bn1\.weight"):
        deep.load_state_dict(shallow.state_dict())  # all but the second blocks, whose shortcuts have no weights
    with pytest.raises(RuntimeError, match="Missing key"):
        deep.load_state_dict({})
    assert len(trace(deep, images()).branches) == 6


def test_moves_tell_what_has_gone_and_widen_refuses_to_bring_it_back():
    net = network()
    graph = trace(net, images())
    whole = dict(net.named_parameters())
    moves = narrow(net, graph, emptied(graph, "layer2.1"))
    gone = {name for name, move in moves.items() if isinstance(move, Removal)}
    assert {name for name in gone if name in whole} == whole.keys() - dict(net.named_parameters()).keys()
    assert all(name.startswith("layer2.1.") and moves[name].block == "layer2.1" for name in gone)
    assert all(moves[name].old is whole[name] for name in gone if name in whole)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match="has gone with its residual branch"):
        widen(net, moves)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


class Block(ResidualBranch):
    """Reads the stream directly, so that the stream can be cut; the branch is the first to write an entry's stream."""

    branch = ("first", "norm", "last")

    def __init__(self, width: int, wider: int, bias: bool = False, spy: bool = False) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(width, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.last = nn.Conv2d(5, wider, 1, bias=bias)
        self.shortcut = nn.Conv2d(width, wider, 1) if wider != width else nn.Identity()
        self.spy = nn.Conv2d(5, wider, 1) if spy else None

    def forward(self, x: Tensor) -> Tensor:
        if not self.has_branch:
            return self.shortcut(x)
        inner = F.relu(self.norm(self.first(x)))
        result = self.last(inner) + self.shortcut(x)
        return result if self.spy is None else result + self.spy(inner)


def chain(**options: bool) -> nn.Module:
    torch.manual_seed(0)
    blocks = Block(3, 8, **options), Block(8, 8, **options)
    net = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    return randomise(net).double()


@pytest.mark.parametrize("paths", [("0",), ("1",), ("0", "1")], ids="+".join)
def test_a_stream_is_cut_with_the_branch_that_gave_it_its_name(paths):
    net, x = chain(), images()
    graph = trace(net, x)
    assert graph["0.last"].writers == ("0.last", "0.shortcut", "1.last")
    for seed in range(3):
        kept = emptied(graph, *paths, seed=seed)
        smaller = narrowed(net, graph, kept)
        assert verify(smaller, masked(net, graph, kept), x) < 1e-10
        assert smaller[4].in_features == len(kept["0.last"])
        assert cost(trace(smaller, x)) == cost(graph, kept)


@pytest.mark.parametrize("option", ["bias", "spy"])
def test_a_branch_that_would_leave_something_behind_is_none(option):
    graph = trace(chain(**{option: True}), images())
    assert graph.branches == ()
    with pytest.raises(ValueError, match="no channel is kept"):
        narrow(chain(**{option: True}), graph, {"0.first": []})


def test_a_block_that_does_not_run_without_its_branch_is_refused_and_untouched():
    class Forgetful(Block):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(F.relu(self.norm(self.first(x)))) + self.shortcut(x)

    torch.manual_seed(0)
    net = nn.Sequential(Forgetful(3, 3), nn.Conv2d(3, 2, 1))
    graph = trace(net, torch.zeros(1, 3, 8, 8))
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match="does not run"):
        narrow(net, graph, {"0.first": []})
    assert net.state_dict().keys() == before.keys()


def test_a_block_that_is_used_twice_loses_its_branch_at_both_places():
    torch.manual_seed(0)
    block = Block(6, 6)
    net = randomise(nn.Sequential(nn.Conv2d(3, 6, 1), block, block, nn.Conv2d(6, 2, 1))).double()
    graph = trace(net, images())
    kept = {"1.first": [], "0": [0, 2, 5]}
    smaller = narrowed(net, graph, kept)
    assert verify(smaller, masked(net, graph, kept), images()) < 1e-10
    assert cost(trace(smaller, images())) == cost(graph, kept)
