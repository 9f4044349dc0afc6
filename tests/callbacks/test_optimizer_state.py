"""Optimizers follow their parameters through surgery."""

import copy
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pruning_lit.callbacks.optimizer_state import (
    rebuild_ddp,
    require_same_on_all_ranks,
)
from pruning_lit.channels import Moves, carry_average, migrate_optimizers, narrow, trace, verify
from pruning_lit.models import preresnet
from pruning_lit.phases import MultiStep, ParameterGroups, Training
from pruning_lit.tasks import Classification

EXAMPLE = torch.zeros(1, 3, 8, 8)
KEPT = {"0": [0, 2, 5], "3": [1, 2]}
OPTIMIZERS = {
    "plain SGD": partial(torch.optim.SGD, lr=0.1, weight_decay=0.01),
    "SGD with momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Adam": partial(torch.optim.Adam, lr=0.1),
    "AdamW, amsgrad": partial(torch.optim.AdamW, lr=0.1, amsgrad=True),
    "RMSprop": partial(torch.optim.RMSprop, lr=0.1, momentum=0.5),
}

every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    )


def gradients(net: nn.Module, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(p.shape, generator=generator) for name, p in net.named_parameters()}


def step(net: nn.Module, optimizer: torch.optim.Optimizer, grads: dict[str, Tensor]) -> None:
    for name, parameter in net.named_parameters():
        parameter.grad = grads[name].clone()
    optimizer.step()


def narrowed(net: nn.Module, optimizer: torch.optim.Optimizer):
    moves = narrow(net, trace(net, torch.zeros(1, 3, 8, 8)), KEPT)
    migrate_optimizers([optimizer], moves)
    return moves


def trained(make) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A network whose optimizer has a memory of three steps."""
    net = network()
    optimizer = make(net.parameters())
    for seed in range(3):
        step(net, optimizer, gradients(net, seed))
    return net, optimizer


@every_optimizer
def test_steps_after_a_cut_are_those_the_channels_would_have_made_without_it(make):
    net, optimizer = trained(make)
    uncut = copy.deepcopy(net)
    uncut_optimizer = make(uncut.parameters())
    uncut_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    moves = narrowed(net, optimizer)
    for seed in (7, 8):
        grads = gradients(uncut, seed)
        step(uncut, uncut_optimizer, grads)
        step(net, optimizer, {n: moves[n].gather(g) if n in moves else g for n, g in grads.items()})
    for name, parameter in uncut.named_parameters():
        expected = moves[name].gather(parameter.detach()) if name in moves else parameter.detach()
        torch.testing.assert_close(net.get_parameter(name).detach(), expected, rtol=1e-6, atol=1e-7)


@every_optimizer
def test_the_optimizer_holds_the_parameters_of_the_network_and_no_others(make):
    net, optimizer = trained(make)
    before = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    narrowed(net, optimizer)
    (group,) = optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in net.parameters()]
    assert {id(p) for p in optimizer.state} <= {id(p) for p in net.parameters()}
    assert {key: value for key, value in group.items() if key != "params"} == before


@every_optimizer
def test_every_parameter_learns_after_a_cut(make):
    net, optimizer = trained(make)
    narrowed(net, optimizer)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer.zero_grad()
    net(torch.randn(5, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    still = [name for name, parameter in net.named_parameters() if torch.equal(before[name], parameter)]
    assert still == []


def test_momentum_keeps_what_belongs_to_the_channels_that_stay():
    net, optimizer = trained(OPTIMIZERS["SGD with momentum"])
    before = {name: optimizer.state[p]["momentum_buffer"].clone() for name, p in net.named_parameters()}
    narrowed(net, optimizer)
    after = {name: optimizer.state[p]["momentum_buffer"] for name, p in net.named_parameters()}
    assert torch.equal(after["0.weight"], before["0.weight"][[0, 2, 5]])
    assert torch.equal(after["1.bias"], before["1.bias"][[0, 2, 5]])
    assert torch.equal(after["3.weight"], before["3.weight"][[1, 2]][:, [0, 2, 5]])
    assert torch.equal(after["6.weight"], before["6.weight"][:, 16:48])  # 4x4 pixels of each of the channels 1 and 2
    assert torch.equal(after["6.bias"], before["6.bias"])  # not touched by the cut


def test_the_number_of_steps_is_carried_with_the_moments():
    net, optimizer = trained(OPTIMIZERS["Adam"])
    narrowed(net, optimizer)
    for parameter in net.parameters():
        state = optimizer.state[parameter]
        assert float(state["step"]) == 3
        assert state["exp_avg"].shape == state["exp_avg_sq"].shape == parameter.shape


def test_parameter_groups_keep_their_members_and_settings():
    net = network()
    weights = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD([{"params": weights, "weight_decay": 0.1}, {"params": others}], lr=0.1, momentum=0.9)
    narrowed(net, optimizer)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0]
    for group, wanted in zip(optimizer.param_groups, (True, False), strict=True):
        assert [id(p) for p in group["params"]] == [id(p) for p in net.parameters() if (p.ndim > 1) is wanted]


@every_optimizer
def test_a_cut_leaves_every_parameter_in_the_group_of_its_kind_of_layer(make):
    net, groups = network(), ParameterGroups(bias_lr=2.0, decay_biases=False, decay_norms=False)
    optimizer = groups.make(make, net)
    step(net, optimizer, gradients(net, 0))
    before = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    narrowed(net, optimizer)
    after = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    assert after == before
    assert [float(group["lr"]) for group in after] == pytest.approx([0.1, 0.2, 0.1])
    wanted = [[id(p) for p in group["params"]] for group in groups.split(net)]  # of the narrowed network
    assert [[id(p) for p in group["params"]] for group in optimizer.param_groups] == wanted


def test_an_optimizer_that_has_not_stepped_gets_the_new_parameters():
    net = network()
    optimizer = OPTIMIZERS["Adam"](net.parameters())
    narrowed(net, optimizer)
    assert len(optimizer.state) == 0
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in net.parameters()]


def test_the_carried_state_can_be_saved_and_loaded(tmp_path):
    net, optimizer = trained(OPTIMIZERS["Adam"])
    narrowed(net, optimizer)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    other = OPTIMIZERS["Adam"](copy.deepcopy(net).parameters())
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for mine, theirs in zip(optimizer.state.values(), other.state.values(), strict=True):
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def residual(make) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A network with residual branches, whose optimizer has a memory of three steps."""
    torch.manual_seed(0)
    net = preresnet(11, width=2)
    optimizer = make(net.named_parameters())
    for seed in range(3):
        step(net, optimizer, gradients(net, seed))
    return net, optimizer


def without_branch(net: nn.Module, path: str = "layer2.0") -> Moves:
    graph = trace(net, torch.zeros(1, 3, 8, 8))
    (branch,) = (branch for branch in graph.branches if branch.path == path)
    return narrow(net, graph, {"layer1.0.conv1": [1], **{name: [] for name in branch.groups}})


@every_optimizer
def test_an_optimizer_forgets_the_parameters_of_a_branch_that_has_gone(make):
    net, optimizer = residual(make)
    moves = without_branch(net)
    migrate_optimizers([optimizer], moves)
    (group,) = optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in net.parameters()]
    assert group["param_names"] == [name for name, _ in net.named_parameters()]
    assert {id(p) for p in optimizer.state} <= {id(p) for p in net.parameters()}


@every_optimizer
def test_the_parameters_beside_a_branch_that_has_gone_step_on_as_they_would_have(make):
    net, optimizer = residual(make)
    uncut = copy.deepcopy(net)
    uncut_optimizer = make(uncut.named_parameters())
    uncut_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    moves = without_branch(net)
    migrate_optimizers([optimizer], moves)
    for seed in (7, 8):
        grads = gradients(uncut, seed)
        step(uncut, uncut_optimizer, grads)
        step(net, optimizer, {n: moves[n].gather(g) if n in moves else g for n, g in grads.items()})
    for name, parameter in net.named_parameters():
        other = uncut.get_parameter(name).detach()
        expected = moves[name].gather(other) if name in moves else other
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-6, atol=1e-7)


def test_every_parameter_learns_after_a_branch_has_gone():
    net, optimizer = residual(OPTIMIZERS["SGD with momentum"])
    migrate_optimizers([optimizer], without_branch(net))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer.zero_grad()
    net.train()(torch.randn(5, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    assert [name for name, parameter in net.named_parameters() if torch.equal(before[name], parameter)] == []


def test_the_state_without_a_branch_can_be_loaded_again():
    net, optimizer = residual(OPTIMIZERS["Adam"])
    migrate_optimizers([optimizer], without_branch(net))
    other = OPTIMIZERS["Adam"](copy.deepcopy(net).named_parameters())
    other.load_state_dict(optimizer.state_dict())
    assert len(other.state) == len(list(net.parameters()))


def test_an_average_loses_the_branch_with_the_network():
    net, _ = residual(OPTIMIZERS["plain SGD"])
    average = torch.optim.swa_utils.AveragedModel(net)
    carry_average(average.module, without_branch(net))
    assert repr(average.module) == repr(net)
    assert average.module.state_dict().keys() == net.state_dict().keys()
    assert verify(average.module, net, torch.randn(2, 3, 8, 8)) == 0
    average.update_parameters(net)


class Batches(pl.LightningDataModule):
    """Two batches of noise as one epoch."""

    def train_dataloader(self) -> DataLoader:
        return DataLoader([(torch.randn(4, 3, 8, 8), torch.arange(4) % 2)] * 2, batch_size=None)  # type: ignore[arg-type]


class CutAtTheSecondEpoch(pl.Callback):
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            migrate_optimizers(trainer.optimizers, narrow(pl_module.net, trace(pl_module.net, EXAMPLE), KEPT))


def test_a_cut_within_a_phase_keeps_groups_and_the_schedule_of_each():
    groups = ParameterGroups(bias_lr=2.0, decay_biases=False, decay_norms=False)
    net = network()
    module = Training(
        net, task=Classification(2), epochs=2, optimizer=OPTIMIZERS["SGD with momentum"],
        schedule=MultiStep([0.5]), parameters=groups, callbacks={"cut": CutAtTheSecondEpoch()},
    )  # fmt: skip
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=Batches())
    assert net[0].out_channels == 3
    (optimizer,) = trainer.optimizers
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.02, 0.01])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0, 0.0]
    wanted = [[id(p) for p in group["params"]] for group in groups.split(net)]
    assert [[id(p) for p in group["params"]] for group in optimizer.param_groups] == wanted


def of_one_rank(rank: int, folder: Path) -> None:
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2, store=store)
    trainer = SimpleNamespace(world_size=2)
    require_same_on_all_ranks(trainer, KEPT)
    with pytest.raises(AssertionError, match="ranks chose different channels"):
        require_same_on_all_ranks(trainer, KEPT | {"3": [1, 2 + rank]})
    (folder / str(rank)).touch()
    torch.distributed.destroy_process_group()


def test_ranks_that_choose_different_channels_go_no_further(tmp_path):
    torch.multiprocessing.start_processes(of_one_rank, (tmp_path,), nprocs=2, start_method="fork")
    assert {"0", "1"} <= {path.name for path in tmp_path.iterdir()}


def test_one_process_has_nothing_to_rewrap():
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    model = trainer.strategy.model
    rebuild_ddp(trainer)
    assert trainer.strategy.model is model
