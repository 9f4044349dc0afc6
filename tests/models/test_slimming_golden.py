"""Network Slimming's networks, masked, narrowed and counted, against the numbers of the authors' release."""

import copy
import json

import numpy as np
import pytest
import torch

from pruning_lit.channels import cost, cost_of_widths, mask, narrow, trace
from pruning_lit.criteria import BatchNormScale, Scoring
from pruning_lit.models import cifar_densenet, load_weights, preresnet, vgg_bn
from pruning_lit.reports.published_counts import params_with_whole_norms
from pruning_lit.sparsity import Global
from tests.models.slimming_golden import COMPLETE, EMPTIED, GOLDEN, TOLERANCE, Golden, group_of, norms_of

FULL = {  # as the cases of counts_full.npz are called
    "vgg16_c10": lambda: vgg_bn(16, 10, classifier="linear", bias=False),
    "vgg19_c100": lambda: vgg_bn(19, 100, classifier="linear", bias=False),
    "resnet164_c10": lambda: preresnet(164, 10),
    "densenet40_c10": lambda: cifar_densenet(40, 10),
}
COUNTS = {case["name"]: case for case in json.loads(str(np.load(GOLDEN / "counts_full.npz")["meta"]))["cases"]}
# the case, which of its masks, the logits of the masked and of the narrowed network, the counts
CUTS = [(name, "mask", "logits_masked", "logits_pruned", "counts_pruned") for name in COMPLETE]
CUTS += [(name, "mask_floor1", "logits_floor1_masked", "logits_floor1_pruned", "counts_floor1") for name in EMPTIED]


def loaded(golden, tmp_path):
    net = golden.build()
    torch.save({"state_dict": golden.under("w")}, tmp_path / "dense.pth.tar")
    load_weights(net, tmp_path / "dense.pth.tar")
    return net


def test_all_golden_networks_are_looked_at():
    others = {"counts_full", "threshold_cases", "sparsity_steps", "masked_finetune_steps"}
    assert {path.stem for path in GOLDEN.glob("*.npz")} == {*COMPLETE, *EMPTIED, *others}
    assert COUNTS.keys() == FULL.keys()


@pytest.mark.parametrize("name", [*COMPLETE, *EMPTIED])
def test_the_dense_network_computes_what_the_release_computes(name, tmp_path):
    golden = Golden(name)
    with torch.no_grad():
        torch.testing.assert_close(loaded(golden, tmp_path)(golden.images), golden["logits_full"], **TOLERANCE)


@pytest.mark.parametrize(("name", "masks", "masked", "pruned", "counts"), CUTS)
def test_masked_and_narrowed_networks_compute_what_the_releases_do(name, masks, masked, pruned, counts, tmp_path):
    golden = Golden(name)
    net = loaded(golden, tmp_path)
    graph = trace(net, golden.images[:1])
    kept = golden.kept(net, graph, masks)
    narrowed = copy.deepcopy(net)
    narrow(narrowed, graph, kept)
    mask(net, graph, kept)
    with torch.no_grad():
        torch.testing.assert_close(net(golden.images), golden[masked], **TOLERANCE)
        torch.testing.assert_close(narrowed(golden.images), golden[pruned], **TOLERANCE)


@pytest.mark.parametrize(("name", "masks", "masked", "pruned", "counts"), CUTS)
def test_counts_of_small_networks_are_the_releases(name, masks, masked, pruned, counts):
    golden = Golden(name)
    net = golden.build()
    graph = trace(net, golden.images[:1])
    kept, expected = golden.kept(net, graph, masks), golden.meta[counts]
    counted = cost(graph, kept)
    assert (counted.params, counted.macs) == (expected["params_gather_first"], expected["macs_conv_fc"])
    widths = {group: len(positions) for group, positions in kept.items()}
    assert params_with_whole_norms(graph, widths) == expected["params_no_indexes"]
    assert params_with_whole_norms(graph, widths, count_selections=True) == expected["params_with_indexes"]
    narrow(net, graph, kept)  # a narrower selection still knows the stream it takes from
    again = trace(net, golden.images[:1])
    assert params_with_whole_norms(again) == expected["params_no_indexes"]
    assert params_with_whole_norms(again, count_selections=True) == expected["params_with_indexes"]


@pytest.mark.parametrize("name", FULL)
def test_counts_of_full_size_networks_are_the_releases(name):
    net = FULL[name]()
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    groups = [group_of(graph, norm) for norm in norms_of(net)]
    kept = [width for width in COUNTS[name]["kept_per_bn"] if width != "M"]
    for widths, case in ((dict(zip(groups, kept, strict=True)), "counts"), ({}, "counts_unpruned")):
        counted, expected = cost_of_widths(graph, widths), COUNTS[name][case]
        assert (counted.params, counted.macs) == (expected["params_gather_first"], expected["macs_conv_fc"])
        assert params_with_whole_norms(graph, widths) == expected["params_no_indexes"]
        assert params_with_whole_norms(graph, widths, count_selections=True) == expected["params_with_indexes"]


@pytest.mark.parametrize(
    ("net", "with_vectors"),
    [(preresnet(11), 16 + 64 + 128 + 256), (vgg_bn(11), 0)],
    ids=["preresnet", "vgg without selections"],
)
def test_whole_norms_and_vectors_add_nothing_but_themselves_to_a_dense_network(net, with_vectors):
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    assert params_with_whole_norms(graph) == cost(graph).params
    assert params_with_whole_norms(graph, count_selections=True) == cost(graph).params + with_vectors


@pytest.mark.parametrize("name", [*COMPLETE, *EMPTIED])
def test_criterion_and_threshold_choose_the_channels_of_the_release(name, tmp_path):
    golden = Golden(name)
    net = loaded(golden, tmp_path)
    criterion, sparsity = BatchNormScale(), Global(golden.meta["percent"], rule="slimming")
    graph = criterion.protect(net, trace(net, golden.images[:1]))
    scores = criterion.scores(Scoring(net, graph, sparsity.prunable_groups(graph)))
    plan = sparsity.plan(graph, scores)
    assert plan.threshold == float(golden["threshold"])
    assert plan.kept == golden.kept(net, graph, "mask" if name in COMPLETE else "mask_floor1")
    emptied = [group_of(graph, _named(golden, net)[norm]) for norm in golden.meta["empty_bns"]]
    assert all(any(f"`{group}`" in note for note in plan.notes) for group in emptied)
    assert bool(emptied) == (name in EMPTIED)


def _named(golden, net):
    return dict(zip(golden.meta["bn_order"], norms_of(net), strict=True))
