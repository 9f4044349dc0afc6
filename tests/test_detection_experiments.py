"""Experiments with detectors: they can be built, their counts are those announced, their rates those of the release."""

import re
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate

from pruning_lit.channels import cost_of_widths, insert_scatters, trace
from pruning_lit.criteria import Magnitude
from pruning_lit.methods.chex import Exploration
from pruning_lit.models.detector_views import detector_view, view_size
from pruning_lit.phases.epoch_steps import EpochSteps
from pruning_lit.runs.experiment import build_phases, check
from tests.models.detection_golden import golden
from tests.places import CONF
from tests.test_configs import EXPERIMENTS, composed

DETECTORS = [name for name in EXPERIMENTS if "_coco20" in name]
SSD = [name for name in DETECTORS if "/ssd300_" in name]


def config_of(name: str, *more: str):
    """Settings of an experiment, without a download."""
    fresh = ["arch.weights_backbone=null"] if "ssd300_resnet50" in name else []
    return composed(f"experiment={name}", *fresh, *more)


def test_all_of_them_are_looked_at():
    methods = {name.partition("/")[0] for name in DETECTORS}
    assert methods == {"chex", "chip", "magnitude", "network_slimming", "redundancy_graph"}
    assert len(SSD) == 4


@pytest.mark.at_once(1)
@pytest.mark.parametrize("debug", [[], ["debug=coco_tiny"]], ids=["published", "tiny"])
@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_of_every_experiment_can_be_built_and_its_budget_be_met(name, debug):
    config = config_of(name, *(debug or ["+image_sides=[96,128]"]))
    net = instantiate(config.arch, _partial_=True)(num_classes=7)
    data = SimpleNamespace(num_classes=7, example=torch.zeros(1, 3, *view_size(net)))
    phases = build_phases(config, net, data)
    images = SimpleNamespace(batch_size=32, num_training=117_266, drop_last=False)
    check(phases, net, data, EpochSteps.of(images))
    names = [each for each in config.phases if config.weights is None or each != "train"]
    assert list(phases) == names
    masks = {"task": config.task._target_.endswith("InstanceSegmentation"), "data": config.dataset.masks}
    assert masks == dict.fromkeys(masks, "maskrcnn" in name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SSD)
def test_an_experiment_leaves_the_operations_that_it_announces(name):
    config = config_of(name)
    net = instantiate(config.arch, _partial_=True)(num_classes=91 if config.dataset.labels == "category_ids" else 81)
    view = detector_view(net)
    example = torch.zeros(1, 3, *view_size(view))
    if config.channel_scatter:
        insert_scatters(view, example)
    whole, sparsity = trace(view, example), instantiate(config.sparsity)
    graph = whole
    if "explore" in config.phases:
        graph, sparsity, _ = Exploration.preview(net, whole, instantiate(config.criterion), sparsity, config.explore)
    plan = sparsity.bind(Magnitude()).plan(graph, {group.name: torch.ones(group.size) for group in graph.prunable})
    widths = {group: len(kept) for group, kept in plan.kept.items()}
    part = whole.within(config.sparsity.part)
    counted = [cost_of_widths(graph, each).macs for graph in (part, whole) for each in (widths, {})]
    text = (CONF / "experiment" / f"{name}.yaml").read_text()
    amounts = r"([\d.]+) of ([\d.]+) G"
    told = re.search(rf"Counted.*: {amounts} operations in the backbone.*, {amounts} in the whole detector", text)
    assert told
    assert [round(macs / 1e9, 2) for macs in counted] == [float(each) for each in told.groups()]


def rates(recipe: str, steps_per_epoch: int):
    """A recipe of exploration, and its rate at a step."""
    explore = composed("method=chex", f"recipe@explore={recipe}").explore
    schedule = instantiate(explore.schedule)
    return explore, lambda step: explore.optimizer.lr * schedule.factor(step, steps_per_epoch, explore.epochs)


def test_an_ssd_is_trained_with_the_rates_of_the_release_but_for_its_slip():
    """Whose warm-up stays at 299 of 300 parts to the end."""
    (case,) = golden("ssd")["learning_rate"]
    explore, rate = rates("chex_ssd", case["iterations_per_epoch"])
    assert explore.epochs == case["epochs"]
    for step, _, expected in case["iteration_epoch_lr"]:
        slip = 1 if step < 300 else 300 / 299
        assert rate(step) == pytest.approx(expected * slip, rel=1e-12, abs=0)


def test_a_mask_r_cnn_is_trained_with_the_rates_of_the_release():
    case = golden("networks")["maskrcnn_learning_rate"]
    explore, rate = rates("chex_maskrcnn", -(-117_266 // 32))
    assert explore.epochs == 74  # 270,000 steps are 73.7
    for step, expected in case["iteration_lr"]:
        assert rate(step) == pytest.approx(expected, rel=1e-5, abs=0)
    groups = explore.parameters
    assert (groups.bias_lr, groups.decay_norms, groups.decay_biases) == (2, True, False)
