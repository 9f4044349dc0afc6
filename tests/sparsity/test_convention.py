"""MACs counted truly and as ResRep's release counts them, against its networks; budgets by either count."""

import json
from fractions import Fraction

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from pruning_lit.channels import Cost, cost_of_widths, trace
from pruning_lit.sparsity import DenseCost, Macs, SimilarityMacs
from tests.places import CONF, VECTORS
from tests.sparsity.networks import noise, traced

#: Widths and counts of networks from the training log and by the formulas of the release of Ding et al. 2021 (ResRep);
#: parameters counted with batch norms.
GOLDEN = json.loads((VECTORS / "resrep" / "flops.json").read_text())


def convolutions(arch: str) -> list[str]:
    """In the release's order: a projection comes before the block beside it."""
    blocks, projection, each = {
        "resnet_50": ((3, 4, 6, 3), "downsample.0", ("conv1", "conv2", "conv3")),
        "resnet_56_option_b": ((9, 9, 9), "shortcut.conv", ("conv1", "conv2")),
    }[arch]
    names = ["conv1"]
    for stage, count in enumerate(blocks, start=1):
        if f"layer{stage}.0.{projection}.weight" in traced(arch).shapes:
            names.append(f"layer{stage}.0.{projection}")
        names += [f"layer{stage}.{block}.{conv}" for block in range(count) for conv in each]
    return names


def inner(arch: str) -> list[str]:
    """What the release prunes: all convolutions of a block but the last."""
    last = "conv3" if arch == "resnet_50" else "conv2"
    return [name for name in convolutions(arch) if ".conv" in name and not name.endswith(("shortcut.conv", last))]


def others(arch: str) -> list[str]:
    return [group.name for group in traced(arch).prunable if group.name not in inner(arch)]


def widths_of(arch: str, entry) -> dict[str, int]:
    widths = dict(zip(convolutions(arch), entry["widths"], strict=True))
    whole = {name: width for name, width in widths.items() if name not in inner(arch)}
    assert whole == {name: traced(arch).shapes[f"{name}.weight"][0] for name in whole}
    return {name: widths[name] for name in inner(arch)}


@pytest.mark.at_once(4)
@pytest.mark.parametrize("entry", GOLDEN["resnet50"], ids=lambda each: each["tag"])
def test_a_resnet50_has_the_counts_of_the_log(entry):
    counted = cost_of_widths(traced("resnet_50"), widths_of("resnet_50", entry))
    assert counted == Cost(entry["macs"], entry["params_with_bn"])
    assert counted.macs / GOLDEN["resnet50"][0]["macs"] == entry.get("macs_ratio", 1)


@pytest.mark.parametrize("entry", GOLDEN["resnet56_cifar"], ids=lambda each: each["tag"])
def test_a_resnet56_has_the_counts_of_both_conventions(entry):
    graph, whole = traced("resnet_56_option_b"), GOLDEN["resnet56_cifar"][0]
    widths = widths_of("resnet_56_option_b", entry)
    true, published = cost_of_widths(graph, widths), cost_of_widths(graph, widths, "published")
    assert true == Cost(entry["macs"], entry["params_with_bn"])
    assert published == Cost(entry["macs_official_2x2_projection"], entry["params_with_bn"])
    assert true.macs / whole["macs"] == entry["macs_ratio"]
    assert published.macs / whole["macs_official_2x2_projection"] == entry["macs_ratio_official"]


@pytest.mark.parametrize(
    ("arch", "layers", "rows"),
    [("resnet_50", 32, 7552), ("resnet_56_option_b", 27, 1008)],  # the release's numbers
)
def test_what_the_release_prunes_is_the_inside_of_blocks(arch, layers, rows):
    population = Macs(0.5, exclude=others(arch)).prunable_groups(traced(arch))
    assert [group.name for group in population] == inner(arch)
    assert (len(population), sum(group.size for group in population)) == (layers, rows)


@pytest.mark.parametrize(
    ("arch", "convention", "percent", "most"),
    [  # of one channel everywhere; true counts: recomputed from the release's networks by others
        ("resnet_50", "exact", 12.01, 0.879),
        ("resnet_56_option_b", "exact", 4.21, 0.957),
        ("resnet_56_option_b", "published", 4.81, 0.951),  # 786,432 MACs more on both sides
    ],
)
def test_the_least_that_can_stay_is_told_when_less_is_asked(arch, convention, percent, most):
    graph = traced(arch)
    least = cost_of_widths(graph, dict.fromkeys(inner(arch), 1), convention).macs
    assert round(100 * least / DenseCost.of(graph).counted(convention), 2) == percent
    Macs(most, macs_convention=convention, exclude=others(arch)).check(graph)
    with pytest.raises(ValueError, match="cannot be met") as refusal:
        Macs(0.99, macs_convention=convention, exclude=others(arch)).check(graph)
    assert f"{least:,} of {DenseCost.of(graph).counted(convention):,} MACs" in str(refusal.value)
    assert f"at most {most} can go" in str(refusal.value)


def test_a_refusal_by_the_published_count_tells_the_true_one_too():
    graph = traced("resnet_56_option_b")
    sparsity = Macs(0.99, macs_convention="published", exclude=others("resnet_56_option_b"))
    with pytest.raises(ValueError, match="cannot be met") as refusal:
        sparsity.check(graph)
    true = cost_of_widths(graph, dict.fromkeys(inner("resnet_56_option_b"), 1)).macs
    told = f"(strided 1x1 convolutions counted as 2x2; truly {true:,} of 125,747,840) remain"
    assert f"of 126,534,272 MACs {told}" in str(refusal.value)


def test_a_target_by_the_published_count_is_met_at_the_same_true_count():
    """0.471 of the release's count are 58,811,210 true MACs, a reduction of 53.23 %, for projections stay whole."""
    graph, limits = traced("resnet_56_option_b"), {"exclude": others("resnet_56_option_b")}
    true = Fraction("0.471") * 126_534_272 - 786_432
    assert int(true) == 58_811_210
    scores = noise(graph)
    published = Macs("0.529", "global", macs_convention="published", **limits).plan(graph, scores)
    assert published.kept == Macs(str(1 - true / 125_747_840), "global", **limits).plan(graph, scores).kept
    assert published.kept != Macs("0.529", "global", **limits).plan(graph, scores).kept
    channel = 2 * 9 * 16 * 32 * 32  # of any stage: its maps shrink as its widths grow
    assert true - channel < published.cost.macs <= true


def test_a_plan_tells_the_true_count_and_notes_the_published_one():
    graph, limits = traced("resnet_56_option_b"), {"exclude": others("resnet_56_option_b")}
    plan = Macs("0.529", macs_convention="published", **limits).plan(graph, noise(graph))
    assert plan.dense == Cost(125_747_840, 855_770)
    assert plan.cost == cost_of_widths(graph, plan.widths)
    stay = plan.cost.macs + 786_432
    told = f"{stay:,} of 126,534,272 MACs stay ({100 * (1 - stay / 126_534_272):.1f} % gone)."
    assert [note for note in plan.notes if "sparsity.macs_convention=published" in note and note.endswith(told)]
    assert not any("convention" in note for note in Macs("0.529", **limits).plan(graph, noise(graph)).notes)


def test_the_second_of_two_cuts_counts_the_dense_network_as_published():
    graph = traced("resnet_8_option_b")
    dense, scores = DenseCost.of(graph), noise(graph)
    sparsity = Macs(0.5, "global", macs_convention="published")
    halfway = sparsity.widths(graph, scores, dense, Fraction(1, 2))
    assert cost_of_widths(graph, halfway, "published").macs <= Fraction(3, 4) * dense.counted("published")
    assert dense.counted("published") - dense.macs == 786_432  # 3 x 2 x 131,072, whatever the depth


class Pointwise(nn.Sequential):
    """1x1 and other convolutions, 4 channels each, on 8x8 pixels."""

    def __init__(self, **options) -> None:
        super().__init__(nn.Conv2d(4, 4, bias=False, **options), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    ("options", "places", "factor"),
    [
        ({"kernel_size": 1, "stride": 2}, 16, 4),
        ({"kernel_size": 1, "stride": (1, 2)}, 32, 4),
        ({"kernel_size": 1}, 64, 1),
        ({"kernel_size": 1, "padding": 1}, 100, 1),
        ({"kernel_size": 2, "stride": 2}, 16, 1),
        ({"kernel_size": 3, "stride": 2, "padding": 1}, 16, 1),
    ],
)
def test_only_strided_1x1_convolutions_count_four_times(options, places, factor):
    graph = trace(Pointwise(**options), torch.zeros(1, 4, 8, 8))
    true = places * 16 * torch.Size([options["kernel_size"]] * 2).numel()
    assert cost_of_widths(graph, {}).macs == DenseCost.of(graph).macs == true
    assert cost_of_widths(graph, {}, "published").macs == DenseCost.of(graph).counted("published") == factor * true


@pytest.mark.parametrize("given", ["exact", "published"])
def test_the_conventions_are_known_by_their_names(given):
    assert Macs(0.5, macs_convention=given).macs_convention == given


def test_the_yaml_counts_truly_and_leaves_the_rest_to_the_criterion():
    config = OmegaConf.load(CONF / "sparsity" / "macs.yaml")
    assert (config.scope, config.normalise) == (None, None)
    assert instantiate(config).macs_convention == "exact"
    assert instantiate(config, macs_convention="published").macs_convention == "published"


@pytest.mark.parametrize("given", [True, "official", None, 1])
def test_an_unknown_convention_is_refused(given):
    with pytest.raises(ValueError, match=rf"sparsity.macs_convention must be 'exact' or 'published', got {given!r}"):
        Macs(0.5, macs_convention=given)


def test_other_budgets_count_truly():
    assert SimilarityMacs(0.5).goal.convention == "exact"
