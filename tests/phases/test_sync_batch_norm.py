"""Batch norms switched over to statistics of all processes, and back, go on reading through their selections."""

import copy
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn

from pruning_lit.channels import insert_selections, narrow, trace
from pruning_lit.phases.sync_batch_norm import GpuSyncBatchNorm, SyncBatchNorm, require_synchronisable
from pruning_lit.runs.phase_runner import layer_sync
from tests.commands import in_own_process


class Stream(nn.Module):
    """One norm that reads a stream, and one behind a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.reader = nn.BatchNorm2d(6)
        self.inner = nn.Conv2d(6, 6, 1)
        self.behind = nn.BatchNorm2d(6)
        self.outer = nn.Conv2d(6, 6, 1)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.outer(self.behind(self.inner(self.reader(x).relu())).relu()))


def narrowed() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    net, images = Stream().eval(), torch.randn(2, 3, 4, 4)
    assert insert_selections(net, images) == ["reader"]
    narrow(net, trace(net, images), {"reader.select": [1, 2, 5]})
    return net, images


@pytest.mark.parametrize("plugin", [SyncBatchNorm(), GpuSyncBatchNorm()], ids=lambda plugin: type(plugin).__name__)
def test_selections_stay_in_front_when_norms_are_switched_over_and_back(plugin):
    net, images = narrowed()
    expected, names = net(images), list(net.state_dict())
    switched = plugin.apply(copy.deepcopy(net))
    assert torch.equal(switched.eval()(images), expected)
    assert list(switched.state_dict()) == names
    back = plugin.revert(switched)
    assert torch.equal(back.eval()(images), expected)
    assert list(back.state_dict()) == names
    assert not any("Sync" in type(module).__name__ for module in back.modules())


IMAGES, TARGETS = (torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))


def step(norm: nn.Module, part: slice) -> dict[str, Tensor]:
    """What becomes of these images, the statistics, and gradients of a loss that is a sum over images."""
    images = IMAGES[part].clone().requires_grad_()
    made = norm(images)
    (made.tanh() * TARGETS[part]).sum().backward()
    gradients = {"images": images.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
    return {"made": made.detach(), "mean": norm.running_mean, "variance": norm.running_var, **gradients}


def of_one_rank(rank: int, folder: Path) -> None:
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2, store=store)
    norm = SyncBatchNorm().apply(nn.BatchNorm2d(3))
    torch.save(step(norm, [slice(0, 2), slice(2, 6)][rank]), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@in_own_process
def test_two_processes_normalise_and_learn_as_one_with_all_images(tmp_path):
    torch.multiprocessing.start_processes(of_one_rank, (tmp_path,), nprocs=2, start_method="fork")
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    joins = {"made": torch.cat, "images": torch.cat, "weight": sum, "bias": sum}
    for name, expected in step(nn.BatchNorm2d(3), slice(6)).items():
        found = [joins[name]([rank[name] for rank in ranks])] if name in joins else [rank[name] for rank in ranks]
        for each in found:
            torch.testing.assert_close(each, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture
def alone():
    """A group of one process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class ActivatedNorm(nn.BatchNorm2d):
    """A batch norm with an activation of its own, as timm has them."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def test_a_norm_that_does_more_is_refused_by_name():
    require_synchronisable(nn.Sequential(nn.BatchNorm2d(3), nn.SyncBatchNorm(3)))
    with pytest.raises(ValueError, match="'1', of type ActivatedNorm, does more than normalise"):
        require_synchronisable(nn.Sequential(nn.BatchNorm2d(3), ActivatedNorm(3)))


def test_a_trace_takes_norms_over_all_ranks_for_ordinary_ones(alone):
    net, example = Stream(), torch.zeros(1, 3, 4, 4)
    groups = [str(group.protected) for group in trace(net, example).groups]
    SyncBatchNorm().apply(net)
    assert [str(group.protected) for group in trace(net, example).groups] == groups
    assert "None" in groups


def test_norms_on_gpus_are_torchs_own_with_one_selection_each():
    net, _ = narrowed()
    switched = GpuSyncBatchNorm().apply(net)
    for norm, hooks in ((switched.reader, 1), (switched.behind, 0)):
        assert isinstance(norm, nn.SyncBatchNorm)
        assert len(norm._forward_pre_hooks) == hooks


def test_each_accelerator_has_its_own_way():
    assert isinstance(layer_sync("gpu"), GpuSyncBatchNorm)
    assert isinstance(layer_sync("cuda"), GpuSyncBatchNorm)
    assert isinstance(layer_sync("cpu"), SyncBatchNorm)


@pytest.mark.parametrize("plugin", [SyncBatchNorm(), GpuSyncBatchNorm()], ids=lambda plugin: type(plugin).__name__)
def test_lightning_hands_the_plugin_to_its_strategy(plugin):
    trainer = pl.Trainer(
        accelerator="cpu", strategy="ddp_fork", devices=2, logger=False, plugins=[plugin], enable_checkpointing=False
    )
    assert trainer.strategy._layer_sync is plugin
