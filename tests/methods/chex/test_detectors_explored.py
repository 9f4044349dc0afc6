"""Exploration of detectors, with batch norm and with group norm: narrow as masked, and whole groups of norms."""

import copy
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import SGD

from pruning_lit.callbacks import finish_execution
from pruning_lit.channels import adopt_on_load, insert_scatters
from pruning_lit.criteria import ColumnSubset, SpatialInformation
from pruning_lit.data import CocoShapes
from pruning_lit.methods.chex import Exploration, ExplorationStages
from pruning_lit.models import maskrcnn_small, ssd_small, start_afresh
from pruning_lit.models.detector_views import detector_view, view_size
from pruning_lit.phases import Constant
from pruning_lit.sparsity import Global, Sparsity, Uniform
from pruning_lit.tasks import Detection, InstanceSegmentation
from tests.methods.chex.test_phase import assert_close

STAGES = {"init_regrow": 0.5, "interval": 1, "last_stage": 2}  # all that goes in the end comes back at first


def explored(masks: bool, execution: str, sparsity: Sparsity, **options) -> Exploration:
    """Three epochs of two steps on drawn shapes, with stages at the start of the second and the third."""
    pl.seed_everything(0, verbose=False)
    net = (maskrcnn_small(width=8, image_size=64) if masks else ssd_small(width=6)).double()
    insert_scatters(detector_view(net), example(net))
    adopt_on_load(net)
    data = CocoShapes(batch_size=4, num_train=8, num_test=8, masks=masks)
    data.setup()
    kind = InstanceSegmentation if masks else Detection
    module = Exploration(
        net=net, sparsity=sparsity, task=kind(5), epochs=3, schedule=Constant(),
        optimizer=partial(SGD, lr=0.01, momentum=0.9), renew=lambda net: start_afresh(net, net),
        callbacks={"stages": ExplorationStages(execution=execution, **STAGES)},  # type: ignore[arg-type]
        **({"criterion": ColumnSubset()} | options),
    )  # fmt: skip
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", precision="64-true", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, use_distributed_sampler=False, limit_val_batches=0,
        num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return module


def state_of(module: Exploration) -> dict[str, Tensor]:
    """State of the network that is left in the end, whatever the execution was."""
    view = detector_view(copy.deepcopy(module.net))
    finish_execution(view, module.stages.state_dict()["execution"], example(view))
    return view.state_dict()


def example(net: nn.Module) -> Tensor:
    return torch.zeros(1, 3, *view_size(net), dtype=torch.float64)


def assert_alike(masks: bool, sparsity: Sparsity, **options) -> Exploration:
    """Both executions end in the same channels and weights; the narrowed one."""
    narrowed, masked = (explored(masks, execution, sparsity, **options) for execution in ("narrow", "mask"))
    records = [module.stages.stages for module in (narrowed, masked)]
    assert [each["widths"] for each in records[0]] == [each["widths"] for each in records[1]]
    assert [each["num_grown"] > 0 for each in records[0]] == [False, True, False]
    assert narrowed.stages.cuts[0].kept == masked.stages.cuts[0].kept
    assert max(module.stages.cuts[0].error for module in (narrowed, masked)) < 1e-6
    assert_close(state_of(narrowed), state_of(masked), 1e-6)
    return narrowed


@pytest.mark.at_once(1)
@pytest.mark.parametrize("maps", ["none", "running", "batch"])
def test_a_detector_with_batch_norm_is_explored_alike_by_both_executions(maps):
    """By the leverage of filters, or by maps under the statistics of batch norms or of each batch."""
    options = {} if maps == "none" else {"criterion": SpatialInformation(8, 4, statistics=maps)}
    assert_alike(False, Global(0.5, rule="slimming"), **options)


@pytest.mark.slow
def test_a_detector_with_group_norm_is_explored_alike_by_both_executions_in_whole_groups():
    """Behind shortcuts the norm stays whole: zeros for channels that have gone stand in front of it."""
    body = assert_alike(True, Uniform(0.5, part="backbone.body", exclude=["*.body.conv1"])).net.backbone.body
    assert isinstance(body, nn.Module)
    for stage, width in enumerate((8, 16, 32, 64), start=1):
        blocks = body.get_submodule(f"layer{stage}")
        norms = {(norm.num_groups, norm.num_channels) for block in blocks for norm in (block.bn1, block.bn2)}
        assert norms == {(2, width // 2)}  # of four groups, each as large as before
        convolution, norm = blocks[0].downsample[:2]
        assert (convolution.out_channels, norm.num_groups, norm.num_channels) == (2 * width, 4, 4 * width)
