"""Experiments with point clouds: they can be built, and their rates are those of the public PyTorch version."""

from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate
from torch.nn import functional as F

from pruning_lit.phases.epoch_steps import EpochSteps
from pruning_lit.runs.experiment import build_phases, check
from tests.test_configs import EXPERIMENTS, composed

POINTS = [name for name in EXPERIMENTS if "point" in name]


def clouds_of(config) -> SimpleNamespace:
    """Few points on a sphere in the place of the data: what is counted in layers does not depend on their number."""
    parts = config.task._target_.endswith("PartSegmentation")
    points = F.normalize(torch.randn(1, 600, 3, generator=torch.Generator().manual_seed(0)), dim=2)
    points = points.repeat(1, 1, 2) if config.dataset.get("normals") else points
    category = torch.zeros(1, dtype=torch.int64)
    return SimpleNamespace(
        num_classes=24 if parts else 10,
        categories={"a": list(range(24))},
        example=(points, category) if parts else points,
    )


@pytest.mark.at_once(3)
@pytest.mark.parametrize("name", POINTS)
def test_a_network_of_every_experiment_can_be_built_and_its_budget_be_met(name):
    config = composed(f"experiment={name}")
    data = clouds_of(config)
    which = "num_parts" if isinstance(data.example, tuple) else "num_classes"
    net = instantiate(config.arch, _partial_=True)(**{which: data.num_classes})
    phases = build_phases(config, net, data)
    images = SimpleNamespace(batch_size=24, num_training=9_843, drop_last=True)
    check(phases, net, data, EpochSteps.of(images))
    assert list(phases) == list(config.phases)
    assert config.arch.normals == bool(config.dataset.get("normals"))
    if name.startswith("chex/"):
        assert config.arch.norm_scale == 0.5
        text = f"dense/{name.removeprefix('chex/').rsplit('_', 1)[0]}"
        assert text in POINTS


def rates(recipe):
    schedule = instantiate(recipe.schedule)
    return [schedule.base(epoch, recipe.epochs) * recipe.optimizer.lr for epoch in range(recipe.epochs)]


@pytest.mark.parametrize("name", ["dense/pointnet2_modelnet40", "chex/pointnet2_modelnet40_50"])
def test_classification_is_trained_at_the_rates_of_the_public_version(name):
    config = composed(f"experiment={name}")
    recipe = config.get("train") or config.explore
    # its scheduler is stepped before each epoch
    expected = [1e-3 * 0.7 ** ((epoch + 1) // 20) for epoch in range(200)]
    assert rates(recipe) == pytest.approx(expected)
    assert recipe.optimizer._target_ == "torch.optim.Adam"
    assert (recipe.optimizer.weight_decay, config.dataset.batch_size, config.dataset.drop_last) == (1e-4, 24, True)
    data = config.dataset
    assert (data.num_points, data.dropout, list(data.scale), data.shift) == (1024, 0.875, [0.8, 1.25], 0.1)


@pytest.mark.parametrize("name", ["dense/pointnet2_shapenetpart", "chex/pointnet2_shapenetpart_70"])
def test_parts_are_trained_at_the_rates_and_momenta_of_the_public_version(name):
    config = composed(f"experiment={name}")
    recipe = config.get("train") or config.explore
    assert rates(recipe) == pytest.approx([max(1e-3 * 0.5 ** (epoch // 20), 1e-5) for epoch in range(250)])
    momentum = instantiate(recipe.callbacks.norm_momentum)
    expected = [max(0.1 * 0.5 ** (epoch // 20), 0.01) for epoch in range(250)]
    assert [momentum.momentum(epoch, 250) for epoch in range(250)] == pytest.approx(expected)
    assert (config.dataset.batch_size, config.dataset.num_points, config.dataset.dropout) == (16, 2048, 0)


@pytest.mark.parametrize(("name", "share"), [("50", 0.2), ("70", 0.3)])
@pytest.mark.parametrize(("data", "last"), [("modelnet40", 144), ("shapenetpart", 180)])
def test_exploration_is_paced_as_on_imagenet(name, share, data, last):
    stages = composed(f"experiment=chex/pointnet2_{data}_{name}").explore.callbacks.stages
    assert (stages.init_regrow, stages.interval, stages.last_stage, stages.unit) == (share, 2, last, "epochs")
    assert stages.regrow_allocation == "per_layer"
