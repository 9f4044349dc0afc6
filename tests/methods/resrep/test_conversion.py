"""A converted network is an ordinary, narrower one that computes what it did with compactors."""

import copy
import json
from collections.abc import Callable, Collection, Mapping
from typing import get_args

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pruning_lit.channels import (
    Cost,
    Placement,
    adopt,
    adopt_on_load,
    compactors,
    cost,
    insert_compactors,
    load,
    save,
    trace,
    verify,
)
from pruning_lit.channels.insertion.norm_inputs import own_norms
from pruning_lit.channels.modules.bn_folding import FoldedBatchNorm, fuse_conv_bn_compactor
from pruning_lit.methods.resrep.conversion import Conversion, FoldNorms
from pruning_lit.methods.resrep.placement import Policy
from pruning_lit.models import cifar_densenet, cifar_resnet, mobilenet_v1, preresnet, torchvision_model, vgg_bn
from tests.channels.chance import randomise
from tests.channels.test_random_networks import BLOCKS, Random
from tests.methods.resrep.resrep_golden import (
    GOLDEN,
    NETWORKS,
    Golden,
    half_dead,
    kept_by_length,
    placements_of,
    with_statistics,
)

POLICIES, NORMS = get_args(Policy), get_args(FoldNorms)
TENSORS = {"rtol": 0, "atol": 2e-6}
LOGITS = {"rtol": 0, "atol": 1e-5}


def converted(
    net: nn.Module, placements: Collection[Placement], kept: Mapping[str, list[int]], norms: FoldNorms, image: Tensor
) -> nn.Module:
    """A converted copy."""
    net = copy.deepcopy(net)
    Conversion(list(placements), kept, norms).convert(net, image)
    return net


def require_exact(
    net: nn.Module, policy: Policy, norms: FoldNorms, seed: int = 0, images: Tensor | None = None
) -> None:
    """Half of the rows of all compactors die: in float64 nothing changes, and the MACs are as foretold."""
    images = (torch.randn(2, 3, 6, 6) if images is None else images).double()
    net = randomise(net).double()
    placements = placements_of(net, images[:1], policy)
    wide, kept = half_dead(net, placements, seed=seed)
    narrow = converted(wide, placements, kept, norms, images[:1])
    assert verify(narrow, wide, images) < 1e-9
    assert cost(trace(narrow, images)).macs == cost(trace(net, images), kept).macs


# --- the release's networks ---


def golden_placements(golden: Golden) -> list[Placement]:
    policy: Policy = "coupled" if golden.name == "convert_residual_coupled" else "internal_only"
    return placements_of(golden.build(), golden.images[:1], policy)


@pytest.fixture(params=NETWORKS)
def golden(request) -> Golden:
    return Golden(request.param)


def test_compactors_go_where_the_release_has_them(golden):
    found = {tuple(placement.behind) for placement in golden_placements(golden)}
    # the stem of a bottleneck network is no part of a stream, and could be pruned; the release leaves it whole
    further = {("conv1.bn",)} if golden.name == "convert_residual_bottleneck" else set()
    assert found == {*golden.behind} | further


def test_the_same_network_has_compactors_on_its_streams_only_where_that_is_wanted():
    basic, coupled = Golden("convert_residual_basic"), Golden("convert_residual_coupled")
    assert {tuple(placement.behind) for placement in placements_of(coupled.build(), coupled.images[:1])} == {
        *basic.behind
    }
    streams = {*coupled.behind} - {*basic.behind}
    assert sorted(map(len, streams)) == [2, 3]


def test_with_compactors_it_computes_what_the_release_computed(golden):
    net = golden.with_compactors(golden_placements(golden)).double()
    torch.testing.assert_close(net(golden.images.double()), golden["logits_before"], **LOGITS)


def test_the_converted_network_has_the_tensors_and_logits_of_the_release(golden):
    placements = golden_placements(golden)
    net = golden.with_compactors(placements)
    Conversion(placements, kept_by_length(net, placements), "all").convert(net, golden.images[:1])
    state = {name: tensor for name, tensor in net.state_dict().items() if not name.endswith(".folded")}
    assert state.keys() == golden.after.keys()
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, golden.after[name].float(), **TENSORS)
    torch.testing.assert_close(net.double()(golden.images.double()), golden["logits_after"], **LOGITS)


def test_the_converted_network_has_the_widths_of_the_release(golden):
    if "deps_after" not in golden.arrays:
        pytest.skip("not recorded")
    placements = golden_placements(golden)
    net = golden.with_compactors(placements)
    widths = {name: len(tensor) for name, tensor in golden.after.items() if name.endswith("conv.weight")}
    assert sorted(widths.values()) == sorted(golden["deps_after"].tolist())
    Conversion(placements, kept_by_length(net, placements)).convert(net, golden.images[:1])
    convs = {f"{name}.weight": each for name, each in net.named_modules() if isinstance(each, nn.Conv2d)}
    assert {name: conv.out_channels for name, conv in convs.items()} == widths


@pytest.mark.parametrize("norms", NORMS)
def test_whatever_becomes_of_the_norms_the_logits_are_those_of_the_release(golden, norms):
    placements = golden_placements(golden)
    net = golden.with_compactors(placements)
    Conversion(placements, kept_by_length(net, placements), norms).convert(net, golden.images[:1])
    torch.testing.assert_close(net.double()(golden.images.double()), golden["logits_after"], **LOGITS)


def test_behind_a_flattening_the_columns_of_a_channel_lie_side_by_side():
    golden = Golden("convert_flatten")
    placements = golden_placements(golden)
    net = golden.with_compactors(placements)
    kept = kept_by_length(net, placements)
    assert kept == {"conv1.conv": golden["kept"].tolist()}
    columns = net.fc.weight.detach().clone()
    Conversion(placements, kept).convert(net, golden.images[:1])
    assert torch.equal(net.fc.weight, columns[:, golden["kept_fc_columns"]])
    assert not torch.allclose(net.fc.weight, golden["official_wrong_fc_weight"], atol=1e-3)


def test_what_depthwise_layers_make_of_removed_channels_is_in_the_bias_of_the_next_layer():
    golden = Golden("convert_depthwise")
    placements = golden_placements(golden)
    net = golden.with_compactors(placements)
    kept = kept_by_length(net, placements)
    norm = net.dw1.bn
    constants = (norm.bias - norm.running_mean * norm.weight / (norm.running_var + norm.eps).sqrt()).relu().detach()
    removed = sorted({*range(6)} - {*kept["conv1.conv"]})
    assert constants[removed].max() > 0.1  # there is something to compensate
    pointwise = fuse_conv_bn_compactor(net.pw1.conv, net.pw1.bn, net.pw1.bn.compactor.weight).kernel.flatten(1).float()
    narrow = converted(net, placements, kept, "none", golden.images[:1])
    added = pointwise[kept["pw1.conv"]][:, removed] @ constants[removed]
    torch.testing.assert_close(narrow.pw1.conv.bias.detach(), added)
    logits = narrow.double()(golden.images.double())
    assert (logits - golden["official_wrong_logits"]).abs().max() > 1e-3  # without the means and the ReLU


# --- real networks ---


def of_torchvision(name: str, **options: object) -> Callable[[], nn.Module]:
    return lambda: torchvision_model(name, num_classes=10, **options)


QUICK: dict[str, tuple[Callable[[], nn.Module], int]] = {  # builder, side of the images
    "resnet8": (lambda: cifar_resnet(8, stem="tied", shortcut="option_b"), 32),
    "preresnet": (lambda: preresnet(11), 32),
    "cifar_densenet": (lambda: cifar_densenet(13, selections=False), 32),
    "mobilenet_v1": (lambda: mobilenet_v1(10), 64),
}
LONG = {
    "vgg11": (lambda: vgg_bn(11, classifier="mlp_plain", bias=False, pool="max"), 32),
    "googlenet": (of_torchvision("googlenet", aux_logits=False, init_weights=False), 32),
    "mobilenet_v3_small": (of_torchvision("mobilenet_v3_small"), 32),
}
NETS = QUICK | LONG
MARKED = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LONG)]


def build(name: str) -> tuple[nn.Module, Tensor]:
    """A network of which no batch norm is as it began, and an image."""
    torch.manual_seed(0)
    make, side = NETS[name]
    return with_statistics(make()), torch.randn(1, 3, side, side)


@pytest.mark.slow
@pytest.mark.at_once(2)
@pytest.mark.parametrize("policy", ["internal_only", pytest.param("coupled", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", MARKED)
def test_a_converted_network_computes_what_it_did_with_compactors(name, policy):
    net, image = build(name)
    placements = placements_of(net, image, policy)
    wide, kept = half_dead(net, placements)
    images = torch.randn(2, *image.shape[1:])
    assert verify(wide, net, images) > 1e-3  # the compactors do something
    foretold = cost(trace(net, image), kept)
    for norms in NORMS:
        narrow = converted(wide, placements, kept, norms, image)
        assert verify(narrow, wide, images) <= 1e-5
        assert cost(trace(narrow, image)).macs == foretold.macs
        assert not compactors(narrow)


@pytest.fixture(scope="module")
def resnet8() -> tuple[nn.Module, nn.Module, list[Placement], dict[str, list[int]]]:
    """With ordinary statistics: without compactors, with them, their placements, and what lives."""
    torch.manual_seed(0)
    net = with_statistics(cifar_resnet(8, stem="tied", shortcut="option_b"))
    placements = placements_of(net, torch.zeros(1, 3, 32, 32), "coupled")
    wide, kept = half_dead(net, placements)
    return net, wide, placements, kept


IMAGE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
RESNET8 = {"_target_": "pruning_lit.models.cifar_resnet", "depth": 8, "stem": "tied", "shortcut": "option_b"}


def fresh() -> nn.Module:
    return cifar_resnet(8, stem="tied", shortcut="option_b").eval()


def test_kept_norms_leave_the_network_the_layers_that_it_had(resnet8):
    net, wide, placements, kept = resnet8
    narrow = converted(wide, placements, kept, "none", IMAGE)
    assert list(narrow.state_dict()) == list(net.state_dict())
    assert cost(trace(narrow, IMAGE)) == cost(trace(net, IMAGE), kept)


def test_folded_norms_are_those_in_front_of_compactors(resnet8):
    net, wide, _, _ = resnet8
    placements = placements_of(net, IMAGE)  # internal_only
    narrow = converted(wide, placements, {}, "compacted", IMAGE)
    gone = {name for name, module in narrow.named_modules() if isinstance(module, FoldedBatchNorm)}
    assert gone == {site for placement in placements for site in placement.behind}


def test_no_norm_behind_a_convolution_is_left_where_all_are_folded(resnet8):
    _, wide, placements, kept = resnet8
    narrow = converted(wide, placements, kept, "all", IMAGE)
    assert own_norms(narrow, IMAGE) == {}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in narrow.modules())
    assert all(module.bias is not None for module in narrow.modules() if isinstance(module, nn.Conv2d))


def test_a_group_that_is_not_named_stays_whole(resnet8):
    net, wide, placements, kept = resnet8
    (name,) = placements[0].rows
    narrow = converted(wide, placements, {name: kept[name]}, "compacted", IMAGE)
    assert verify(narrow, wide, IMAGES) <= 1e-5
    assert cost(trace(narrow, IMAGE)).macs == cost(trace(net, IMAGE), {name: kept[name]}).macs


def test_living_rows_that_are_not_kept_are_missing_afterwards(resnet8):
    net, _, placements, kept = resnet8
    wide, dead = copy.deepcopy(net), copy.deepcopy(net)
    insert_compactors(wide, placements)
    for placement in placements:
        compactor = insert_compactors(dead, [placement])[placement.behind[0]]
        gone = [row for name, rows in placement.rows.items() for at, row in enumerate(rows) if at not in kept[name]]
        compactor.weight.data[gone] = 0
    narrow = converted(wide, placements, kept, "compacted", IMAGE)
    assert verify(narrow, wide, IMAGES) > 1e-2
    assert verify(narrow, dead, IMAGES) <= 1e-5


def test_a_double_network_is_converted_to_rounding(resnet8):
    _, wide, placements, kept = resnet8
    wide = copy.deepcopy(wide).double()
    for norms in NORMS:
        narrow = converted(wide, placements, kept, norms, IMAGE)  # an example is of float32, whatever the network is of
        assert verify(narrow, wide, IMAGES.double()) < 1e-13


def test_a_converted_network_trains(resnet8):
    _, wide, placements, kept = resnet8
    for norms in NORMS:
        narrow = converted(wide, placements, kept, norms, IMAGE).train()
        narrow(IMAGES).square().sum().backward()
        assert all(bool(p.grad.isfinite().all()) and bool(p.grad.abs().sum() > 0) for p in narrow.parameters())


def test_a_network_in_training_mode_stays_in_it(resnet8):
    _, wide, placements, kept = resnet8
    narrow = converted(copy.deepcopy(wide).train(), placements, kept, "compacted", IMAGE)
    assert all(module.training for module in narrow.modules())
    assert verify(narrow, wide, IMAGES) <= 1e-5


def test_a_conversion_is_plain_data_and_back(resnet8, tmp_path):
    _, wide, placements, kept = resnet8
    torch.save(Conversion(placements, kept, "none").state_dict(), tmp_path / "conversion.pt")
    conversion = Conversion.from_state(torch.load(tmp_path / "conversion.pt", weights_only=True))
    assert conversion.fold_norms == "none"
    narrow = copy.deepcopy(wide)
    conversion.convert(narrow, IMAGE)
    expected = converted(wide, placements, kept, "none", IMAGE).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in narrow.state_dict().items())


def test_another_word_for_norms_is_refused(resnet8):
    _, _, placements, kept = resnet8
    with pytest.raises(ValueError, match=r"fold_norms must be one of \['compacted', 'none', 'all'\], got 'merge'"):
        Conversion(placements, kept, "merge")


@pytest.mark.parametrize("norms", NORMS)
def test_channels_that_leave_something_where_zeros_are_padded_stay_rather_than_being_removed_wrongly(norms):
    """The placements are made by hand here: the criterion has none for such a layer."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1, groups=4), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)
    ).eval()
    net[2].bias.data.fill_(1.0)  # what the last layer reads in the place of a removed channel, but not in its border
    placements, kept = [Placement(("0",), ("1",), 4, {"0": range(4)})], {"0": [1, 2]}
    wide = copy.deepcopy(net)
    insert_compactors(wide, placements)["1"].weight.data[[0, 3]] = 0
    image = torch.randn(1, 3, 6, 6)
    narrow = copy.deepcopy(wide)
    really = Conversion(placements, kept, norms).convert(narrow, image)
    assert verify(narrow, wide, image) < 1e-6
    assert really == {"0": [0, 1, 2, 3]}


class Backwards(nn.Module):
    """A stream whose layers are not written down in the order in which they run."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.norm2, self.conv2 = nn.Conv2d(8, 2, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1)
        self.norm1, self.conv1 = nn.BatchNorm2d(8), nn.Conv2d(3, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.conv1(x)).relu()
        return self.head((x + self.norm2(self.conv2(x))).relu())


@pytest.mark.parametrize("norms", NORMS)
def test_layers_of_a_stream_may_be_registered_in_any_order(norms):
    require_exact(Backwards(), "coupled", norms)


def layers_around(*inner: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), *inner, nn.ReLU(), nn.Conv2d(8, 2, 1))


@pytest.mark.at_once(6)
@pytest.mark.parametrize("norms", NORMS)
@pytest.mark.parametrize(
    "special",
    [
        lambda: nn.ConvTranspose2d(8, 8, 2, stride=2),
        lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3)),
        lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 8, 3)),
        lambda: nn.Conv2d(8, 8, 3, groups=4),
    ],
    ids=["transposed", "weight norm", "spectral norm", "grouped"],
)
def test_norms_behind_special_convolutions_are_folded_exactly_or_left_alone(special, norms):
    torch.manual_seed(0)
    require_exact(layers_around(special(), nn.BatchNorm2d(8)), "internal_only", norms)


@pytest.mark.parametrize("norms", NORMS)
@pytest.mark.parametrize(
    ("conv", "norm", "dims"), [(nn.Conv1d, nn.BatchNorm1d, 1), (nn.Conv3d, nn.BatchNorm3d, 3)], ids=["1-d", "3-d"]
)
def test_networks_of_any_dimension_are_converted(conv, norm, dims, norms):
    torch.manual_seed(0)
    net = nn.Sequential(conv(3, 8, 3, padding=1), norm(8), nn.ReLU(), conv(8, 8, 3), norm(8), nn.ReLU(), conv(8, 2, 1))
    require_exact(net, "internal_only", norms, images=torch.randn(2, 3, *[6] * dims))


def test_a_norm_without_scale_and_shift_carries_the_bias_in_its_mean():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False), nn.ReLU(), nn.Conv2d(8, 2, 1))
    for norms in NORMS:
        require_exact(net, "internal_only", norms)


# --- in files, and from one network into another ---


@pytest.mark.parametrize("norms", NORMS)
def test_a_converted_network_comes_back_from_its_file_alone(resnet8, norms, tmp_path):
    _, wide, placements, kept = resnet8
    narrow = converted(wide, placements, kept, norms, IMAGE)
    save(narrow, tmp_path / "net.safetensors", RESNET8)
    back = load(tmp_path / "net.safetensors")
    assert torch.equal(back(IMAGES), narrow(IMAGES))
    assert repr(back) == repr(narrow)


@pytest.mark.slow
def test_biases_that_took_up_constants_come_back_from_a_file(tmp_path):
    torch.manual_seed(0)
    net, image = with_statistics(mobilenet_v1(10)), torch.randn(1, 3, 64, 64)
    placements = placements_of(net, image)
    wide, kept = half_dead(net, placements)
    narrow = converted(wide, placements, kept, "none", image)
    assert any(module.bias is not None for module in narrow.modules() if isinstance(module, nn.Conv2d))
    arch = {"_target_": "pruning_lit.models.mobilenet_v1", "num_classes": 10}
    save(narrow, tmp_path / "net.safetensors", arch)
    assert torch.equal(load(tmp_path / "net.safetensors")(image), narrow(image))


@pytest.mark.parametrize("which", ["internal_only", "coupled"])
def test_a_network_with_compactors_comes_back_from_its_file_alone(resnet8, which, tmp_path):
    net, _, _, _ = resnet8
    wide, _ = half_dead(net, placements_of(net, IMAGE, which))
    save(wide, tmp_path / "net.safetensors", RESNET8)
    assert torch.equal(load(tmp_path / "net.safetensors")(IMAGES), wide(IMAGES))


def test_a_file_in_which_a_norm_is_missing_without_the_mark_is_refused(resnet8, tmp_path):
    _, wide, placements, kept = resnet8
    save(converted(wide, placements, kept, "compacted", IMAGE), tmp_path / "net.safetensors", RESNET8)
    with safe_open(tmp_path / "net.safetensors", framework="pt") as file:
        header, names = {"pruning_lit": file.metadata()["pruning_lit"]}, list(file.keys())  # without the checksum
        tensors = {name: file.get_tensor(name) for name in names if name != "layer1.0.bn1.folded"}
    assert len(tensors) == len(names) - 1
    save_file(tensors, tmp_path / "damaged.safetensors", metadata=header)
    with pytest.raises(ValueError, match=r"does not fit the network: .*layer1\.0\.bn1"):
        load(tmp_path / "damaged.safetensors")


def test_a_fresh_network_adopts_compactors(resnet8):
    _, wide, _, _ = resnet8
    other = fresh()
    adopt(other, wide.state_dict())
    other.load_state_dict(wide.state_dict())
    assert torch.equal(other(IMAGES), wide(IMAGES))


def test_adopted_compactors_of_a_stream_can_be_converted(resnet8):
    _, wide, placements, kept = resnet8
    other = fresh()
    adopt(other, wide.state_dict())
    other.load_state_dict(wide.state_dict())
    expected = converted(wide, placements, kept, "compacted", IMAGE)
    assert torch.equal(converted(other, placements, kept, "compacted", IMAGE)(IMAGES), expected(IMAGES))


@pytest.mark.parametrize("norms", NORMS)
def test_a_fresh_network_adopts_what_was_converted(resnet8, norms):
    _, wide, placements, kept = resnet8
    narrow, other = converted(wide, placements, kept, norms, IMAGE), fresh()
    adopt(other, narrow.state_dict())
    other.load_state_dict(narrow.state_dict())
    assert torch.equal(other(IMAGES), narrow(IMAGES))


def test_a_network_with_compactors_adopts_its_own_state(resnet8):
    _, wide, _, _ = resnet8
    other = copy.deepcopy(wide)
    adopt(other, wide.state_dict())
    other.load_state_dict(wide.state_dict())
    assert torch.equal(other(IMAGES), wide(IMAGES))
    assert len(compactors(other)) == len(compactors(wide))


def test_a_network_inside_a_larger_module_adopts_both(resnet8):
    _, wide, placements, kept = resnet8
    for net in (wide, converted(wide, placements, kept, "compacted", IMAGE)):
        holder = nn.ModuleDict({"net": fresh()})
        adopt_on_load(holder["net"])
        holder.load_state_dict({f"net.{name}": tensor for name, tensor in net.state_dict().items()})
        assert torch.equal(holder["net"](IMAGES), net(IMAGES))


# --- the counts of the release ---


def counted(net: nn.Module, side: int) -> Cost:
    """Parameters by their sizes, MACs by torch's own counter (two operations each), without one multiplication."""
    net, counter = copy.deepcopy(net).to("meta").eval(), FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        net(torch.zeros(1, 3, side, side, device="meta"))
    return Cost(counter.get_total_flops() // 2, sum(parameter.numel() for parameter in net.parameters()))


@pytest.fixture(scope="module")
def resnet56() -> tuple[nn.Module, list[Placement]]:
    net = with_statistics(cifar_resnet(56, stem="tied", shortcut="option_b"))
    return net, placements_of(net, IMAGE)


@pytest.fixture(scope="module")
def resnet50() -> tuple[nn.Module, list[Placement]]:
    """Its stem stays whole, as in the release."""
    net = with_statistics(torchvision_model("resnet50"))
    return net, placements_of(net, torch.zeros(1, 3, 64, 64), without=["conv1"])


def test_resnet56_with_compactors_has_the_counts_of_the_release(resnet56):
    net, placements = resnet56
    assert counted(net, 32) == Cost(macs=125_747_840, params=855_770)
    wide, _ = half_dead(net, placements)
    assert len(compactors(wide)) == 27
    assert counted(wide, 32) == Cost(macs=132_825_728, params=904_154)


@pytest.mark.slow
def test_resnet50_with_compactors_has_the_counts_of_the_release(resnet50):
    net, placements = resnet50
    assert counted(net, 224) == Cost(macs=4_089_184_256, params=25_557_032)
    wide, _ = half_dead(net, placements)
    assert len(compactors(wide)) == 32
    assert counted(wide, 224) == Cost(macs=4_615_831_552, params=28_071_976)
    # beside the parameters the masks (7,552), means and variances (53,120) and counters of batches (53), as printed in
    # the training log
    assert sum(tensor.numel() for tensor in wide.state_dict().values()) == 28_132_701


@pytest.mark.at_once(1)
@pytest.mark.parametrize(("name", "side", "params"), [("resnet56", 32, 853_642), ("resnet50", 224, 25_530_472)])
def test_without_its_norms_and_with_all_channels_it_has_the_counts_of_the_release(name, side, params, request):
    net, placements = request.getfixturevalue(name)
    wide = copy.deepcopy(net)
    insert_compactors(wide, placements)
    image = torch.randn(1, 3, min(side, 64), min(side, 64))
    narrow = converted(wide, placements, {}, "all", image)
    assert counted(narrow, side) == Cost(counted(net, side).macs, params)
    assert verify(narrow, net, image) <= 1e-5


RECORDED = json.loads((GOLDEN / "flops.json").read_text())


@pytest.mark.slow
@pytest.mark.at_once(1)
@pytest.mark.parametrize("entry", RECORDED["resnet56_cifar"], ids=lambda entry: entry["tag"])
def test_a_converted_resnet56_has_the_counts_of_its_widths(entry, resnet56):
    net, placements = resnet56
    # in the order in which the release builds layers: a projection before the block beside it
    convs = ["conv1"]
    for stage in (1, 2, 3):
        convs += [f"layer{stage}.0.shortcut.conv"] if stage > 1 else []
        convs += [f"layer{stage}.{block}.conv{number}" for block in range(9) for number in (1, 2)]
    widths = dict(zip(convs, entry["widths"], strict=True))
    narrow = pruned_to(widths, net, placements, "none", IMAGE)
    assert counted(narrow, 32) == Cost(entry["macs"], entry["params_with_bn"])
    assert {name: narrow.get_submodule(name).out_channels for name in convs} == widths


@pytest.mark.slow
@pytest.mark.parametrize(("norms", "params"), [("none", 16_557_403), ("all", 16_534_085)])
def test_resnet50_pruned_to_the_widths_of_the_log_has_its_counts(norms, params, resnet50):
    net, placements = resnet50
    (entry,) = (each for each in RECORDED["resnet50"] if "released" in each["tag"])
    convs = ["conv1"]
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        convs += [f"layer{stage}.0.downsample.0"]
        convs += [f"layer{stage}.{block}.conv{number}" for block in range(blocks) for number in (1, 2, 3)]
    widths = dict(zip(convs, entry["widths"], strict=True))
    narrow = pruned_to(widths, net, placements, norms, torch.randn(1, 3, 64, 64))
    assert {name: narrow.get_submodule(name).out_channels for name in convs} == widths
    assert counted(narrow, 224) == Cost(macs=1_858_866_887, params=params)


def pruned_to(
    widths: Mapping[str, int], net: nn.Module, placements: list[Placement], norms: FoldNorms, image: Tensor
) -> nn.Module:
    """Converted, and verified, with so many living rows in every compactor."""
    wide, kept = half_dead(net, placements, widths)
    narrow = converted(wide, placements, kept, norms, image)
    assert verify(narrow, wide, torch.randn(2, *image.shape[1:])) <= 1e-5
    return narrow


# --- networks nobody thought of ---


choices = st.sampled_from(POLICIES), st.sampled_from(NORMS), st.integers(0, 9)
quietly = {"deadline": None, "derandomize": True, "suppress_health_check": [HealthCheck.too_slow]}


@settings(max_examples=5, **quietly)
@given(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4), st.integers(2, 6), *choices)
def test_whatever_gets_compactors_is_converted_exactly(kinds, width, policy, norms, seed):
    torch.manual_seed(0)
    require_exact(Random(kinds, width), policy, norms, seed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=25, **quietly)
@given(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=6), st.integers(2, 9), *choices)
def test_whatever_gets_compactors_is_converted_exactly_also_in_deeper_networks(kinds, width, policy, norms, seed):
    torch.manual_seed(0)
    require_exact(Random(kinds, width), policy, norms, seed)


def test_a_conversion_that_an_earlier_layout_wrote_is_read():
    placement = Placement(("conv",), ("norm",), 4, {"conv": [0, 1, 2, 3]})
    rows = {"conv": [0, 1, 2, 3]}
    seat = {"layers": ["conv"], "sites": ["norm"], "width": 4, "rows": rows}
    former = {"seats": [seat], "kept": {"conv": [1]}, "norms": "fold"}
    assert Conversion.from_state(former) == Conversion(
        [Placement(["conv"], ["norm"], 4, rows)], {"conv": [1]}, "compacted"
    )
    assert Conversion.from_state(former).state_dict() == Conversion([placement], {"conv": [1]}).state_dict()


class TwoInputs(nn.Module):
    """An image and a number for each."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1)

    def forward(self, image: Tensor, number: Tensor) -> Tensor:
        return self.b(self.norm(self.a(image)).relu()).mean((2, 3)) * number[:, None]


@pytest.mark.parametrize("norms", NORMS)
def test_a_network_with_several_inputs_is_converted(norms):
    torch.manual_seed(0)
    net, example = randomise(TwoInputs()).double(), (torch.randn(1, 3, 4, 4).double(), torch.tensor([3]))
    placements = placements_of(net, example, "coupled")
    assert placements
    wide, kept = half_dead(net, placements)
    before = wide.eval()(*example)
    narrow = converted(wide, placements, kept, norms, example)
    assert narrow.a.out_channels == 3
    torch.testing.assert_close(narrow.eval()(*example), before)
