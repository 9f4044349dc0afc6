"""``python -m pruning_lit.inspect``: look before you prune."""

import inspect
import re
import sys

import pytest
import torch
from hydra import compose, initialize_config_dir

from pruning_lit.channels import cost, cost_of_widths, insert_scatters, narrow, trace
from pruning_lit.command_line.configs import CONF
from pruning_lit.criteria import Magnitude, Scoring
from pruning_lit.data import Digits
from pruning_lit.models import cifar_resnet
from pruning_lit.runs.expected import always, expected_input
from pruning_lit.sparsity import Macs


@pytest.fixture
def look(monkeypatch, capfd, tmp_path):
    """Run the command in this process, in an empty folder; its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*overrides):
        from pruning_lit.inspect import main

        monkeypatch.setattr(sys, "argv", ["inspect", *overrides])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        printed = "".join(capfd.readouterr())
        return (1, printed + code) if isinstance(code, str) else (code, printed)

    return call


def config_of(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("inspect", overrides=["name=any", *overrides])


def test_the_standard_library_keeps_its_name():
    import pruning_lit.inspect

    assert inspect.signature is not None
    assert pruning_lit.inspect is not inspect


def test_groups_are_shown_with_their_layers_costs_and_reasons(look, tmp_path):
    code, printed = look("arch=resnet8")
    assert code == 0
    graph = trace(cifar_resnet(8), torch.zeros(1, 3, 32, 32))
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    for group in graph.groups:
        fewer = cost_of_widths(graph, {group.name: group.size - 1})
        assert any(f"{group.name} {group.size} {cost(graph).macs - fewer.macs:,} " in line for line in lines)
        wires = [group.name, *group.writers, *group.readers, *(group.protected or "").split()]
        assert " ".join(wires) in lines
    assert "Predicted" not in printed
    assert "\x1b" not in printed
    (image,) = tmp_path.glob("outputs/inspect/*/widths.png")
    assert f"widths: {image}" in printed


def test_a_phase_alone_is_previewed_as_in_a_list(look):
    words = ("arch=resnet8", "dataset=digits", "method=chex", "sparsity=channels_50")
    alone, listed = (
        look(*words, phases)[1].partition("widths:")[0] for phases in ("phases=explore", "phases=[explore]")
    )
    assert alone == listed
    assert "Predicted" in alone or "predicted" in alone


def test_with_a_sparsity_the_prediction_is_what_the_cut_will_give(look):
    code, printed = look("arch=resnet8", "sparsity=macs_50", "criterion=magnitude", "seed=3")
    assert code == 0
    torch.manual_seed(3)
    net, example = cifar_resnet(8, num_classes=10), torch.zeros(1, 3, 32, 32)
    graph = trace(net, example)
    kept = Macs(reduction=0.5).kept(graph, Magnitude().scores(Scoring(net, graph, list(graph.prunable))))
    narrow(net, graph, kept)
    cut = cost(trace(net, example))
    text = " ".join(printed.split())
    assert f"12,239,488 {cut.macs:,}" in text
    assert f"75,290 {cut.params:,}" in text
    assert "Scores: Magnitude" in text
    for name, positions in kept.items():
        assert f" {name} {graph[name].size} {len(positions)} " in text


@pytest.mark.slow
@pytest.mark.at_once(1)
@pytest.mark.parametrize("sparsity", ["channels_50", "macs_50"])
def test_an_exploration_is_predicted_with_what_it_leaves_whole_and_all_layers_alike(look, sparsity):
    code, printed = look("method=chex", "arch=resnet8", "arch.shortcut=option_b", f"sparsity={sparsity}")
    assert code == 0, printed
    assert "several layers make its channels" in " ".join(printed.split())
    assert "All layers lose the same share here; which lose more is found out in training." in printed
    after = int(re.search(r"MACs +([\d,]+) +([\d,]+)", printed).group(2).replace(",", ""))
    net = cifar_resnet(8, shortcut="option_b")
    insert_scatters(net, torch.zeros(1, 3, 32, 32))
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    explored = ["conv1", *(f"layer{n}.0.conv1" for n in (1, 2, 3)), "layer2.0.shortcut.conv", "layer3.0.shortcut.conv"]
    halved = cost_of_widths(graph, {name: graph[name].size // 2 for name in explored}).macs
    assert after == halved if sparsity == "channels_50" else after <= cost(graph).macs / 2


@pytest.mark.slow
def test_a_criterion_that_needs_images_is_replaced_and_that_is_said(look):
    code, printed = look("experiment=chip/resnet56_cifar10_47")
    assert code == 0
    assert "485,413" in printed  # the counts that the experiment's file announces
    assert "65,168,128" in printed
    assert "Scores: magnitude (sum of absolute weights), since ChannelIndependence needs images" in printed


@pytest.mark.slow
@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (["sparsity=macs_50", "sparsity.min_share=0.9"], "sparsity.reduction=0.5 cannot be met"),
        (["sparsity=uniform", "sparsity.rate=0.5", "sparsity.round_to=256"], "nothing can be pruned with"),
        (["sparsity=macs_50", "sparsity.exclude=['*']"], "and 4 others: excluded by sparsity.exclude"),
        (["sparsity=macs_50", "sparsity.exclude=[conv9]"], "no group is called 'conv9'"),
    ],
)
def test_what_cannot_be_met_is_told_after_the_tables_that_help_to_mend_it(look, limits, told):
    code, printed = look("arch=resnet8", *limits)
    assert code == 1
    assert "Traceback" not in printed
    assert "layer3.0.conv2" in printed.partition(told)[0]
    assert "Predicted" not in printed
    assert told in printed


@pytest.mark.slow
def test_the_title_names_the_network_as_it_was_typed(look, tmp_path):
    assert "\nresnet8 for images of" in "\n" + look("arch=resnet8")[1]
    (tmp_path / "mine.py").write_text("from pruning_lit.models.cifar_resnet import cifar_resnet as Net\n")
    assert (
        "\nmine.Net for images of"
        in "\n" + look("arch._target_=mine.Net", "allow_targets=[mine]", "arch.depth=8", "input_shape=[3,32,32]")[1]
    )


@pytest.mark.slow
def test_excluded_groups_are_shown_with_their_reason(look):
    code, printed = look("arch=resnet8", "sparsity=macs_30", "sparsity.exclude=[conv1]")
    assert code == 0
    assert any(" conv1 " in line and "excluded by sparsity.exclude" in line for line in printed.splitlines())


@pytest.mark.at_once(2)
@pytest.mark.parametrize(
    ("overrides", "named", "shape", "classes"),
    [
        ([], False, (3, 32, 32), 10),
        (["arch=resnet50"], False, (3, 224, 224), None),
        (["arch=resnet50", "dataset=cifar100"], True, (3, 32, 32), 100),
        (["arch=resnet50", "input_shape=[3,64,96]"], False, (3, 64, 96), None),
        (["arch=resnet50", "num_classes=7"], False, (3, 224, 224), 7),
        (["arch=resnet20", "dataset=image_folder", "dataset.size=48"], True, (3, 48, 48), None),
        (["arch=resnet50", "dataset=image_folder"], True, (3, 224, 224), None),
        (
            ["arch=resnet50", "dataset=imagenet", "dataset.image_size=160", "dataset.root=/nowhere"],
            True,
            (3, 160, 160),
            1000,
        ),
    ],
)
def test_the_input_is_that_of_the_data_named_or_else_of_the_network(overrides, named, shape, classes):
    expected = expected_input(config_of(*overrides), named)
    assert (expected.shape, expected.num_classes) == (shape, classes)


def test_the_classes_of_a_folder_are_its_folders(tmp_path):
    for label in ("cat", "dog", "emu"):
        (tmp_path / "train" / label).mkdir(parents=True)
    config = config_of("dataset=image_folder", f"dataset.root={tmp_path}", "dataset.size=32")
    assert expected_input(config, True).num_classes == 3


def test_what_is_known_of_a_data_set_is_what_it_has():
    data = Digits(batch_size=8, mean=[0.5] * 3, std=[0.5] * 3)
    data.setup()
    assert always("pruning_lit.data.Digits") == (data.shape, data.num_classes)


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["arch=resnet9"], "there is no arch called 'resnet9'"),
        (["arch._target_=nowhere.Net", "allow_targets=[nowhere]"], "arch._target_=nowhere.Net cannot be imported"),
        (["input_shape=32"], "input_shape must be null or a list, each a whole number, got 32"),
        (["input_shape=[1,32,32]"], "does not take images of shape (1, 32, 32)"),
        (["dataset=image_folder"], "give it as input_shape=[3,H,W]"),
        (["sparsity=uniform", "sparsity.rate=2"], "lies outside [0, 1)"),
        (["criterion=redundancy_graph", "sparsity=similarity"], "what this sparsity keeps depends on images"),
        (["sparsity=similarity"], "goes by the similarities of criterion=redundancy_graph"),
        (
            ["arch=densenet40", "criterion=redundancy_graph", "sparsity=macs_50"],
            "build the network without (arch.selec",
        ),
        (["weights=nowhere.pt"], "there is no weight file 'nowhere.pt'"),
        (["resume=outputs"], "resume= goes with python -m pruning_lit"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(look, overrides, told):
    arch = [] if any(word.startswith("arch") for word in overrides) else ["arch=resnet8"]
    code, printed = look(*arch, *overrides)
    assert code == 1
    assert told in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("words", [["arch=ssd_small"], ["arch=ssd_small", "dataset=coco_shapes"]])
def test_a_detector_is_looked_at_as_it_is_pruned(look, words):
    code, told = look(*words, "arch.width=4")
    assert code == 0, told
    assert "ssd_small for images of 3×64×64" in told
    assert "backbone.stages" in told
    assert "Not followed" not in told


def test_a_network_for_parts_of_clouds_is_looked_at_with_their_category(look):
    code, told = look(
        "dataset=shapes10_parts", "dataset.num_points=64", "arch=pointnet2_part_small", "arch.centres=[16,8]"
    )
    assert code == 0, told
    assert "pointnet2_part_small for clouds of 64×3" in told
    assert "fp1.layers" in told
