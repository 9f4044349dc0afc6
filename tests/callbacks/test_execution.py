"""Masked and narrowed execution give the same network, step by step."""

import copy
from functools import partial
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from pruning_lit.callbacks import finish_execution
from pruning_lit.callbacks.execution import Narrowing, by_execution
from pruning_lit.callbacks.masking import Masking
from pruning_lit.callbacks.scheduled_pruning import ScheduledPruning
from pruning_lit.channels import ChannelGraph, trace, verify
from pruning_lit.criteria import Random
from pruning_lit.models import cifar_densenet, cifar_resnet, preresnet
from pruning_lit.phases import Constant, Training
from pruning_lit.sparsity import Uniform
from pruning_lit.tasks import Classification
from tests.channels.chance import randomise
from tests.models.slimming_golden import Golden, group_of, norms_of

NETS = {
    "resnet": partial(cifar_resnet, 8),  # zero-padded shortcuts, whose sources are masked as well
    "preresnet": partial(preresnet, 11),
    "densenet": partial(cifar_densenet, 7),
}
MOMENTUM = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-3)
IMAGE = torch.zeros(1, 3, 16, 16, dtype=torch.float64)


class Recorder(pl.Trainer):
    """Enough of a trainer for a cut."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.own = [optimizer]
        self.callbacks = []

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        return self.own


def half(graph: ChannelGraph, seed: int) -> dict[str, list[int]]:
    random = torch.Generator().manual_seed(seed)
    return {
        group.name: torch.randperm(group.size, generator=random)[: (group.size + 1) // 2].sort().values.tolist()
        for group in graph.prunable
    }


def steps(net: nn.Module, how, optimizer: torch.optim.Optimizer, count: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    net.train()
    for _ in range(count):
        images = torch.randn(4, 3, 16, 16, generator=random, dtype=torch.float64)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), torch.arange(4)).backward()
        how.zero_masked_gradients(net)
        optimizer.step()


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    "make", [partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-3), torch.optim.AdamW]
)
@pytest.mark.parametrize("name", NETS)
def test_trained_between_two_cuts_and_after_them_both_are_the_same_network(name, make):
    torch.manual_seed(0)
    start = randomise(NETS[name]()).double()
    nets = {"narrow": copy.deepcopy(start), "mask": copy.deepcopy(start)}
    for kind, net in nets.items():
        how, optimizer = by_execution(kind, narrow=Narrowing, mask=Masking)(), make(net.parameters())
        trainer = Recorder(optimizer)
        steps(net, how, optimizer, 2, seed=1)  # momentum that has to be cut, too
        for cut in (1, 2):
            graph = trace(how.network_to_score(net, IMAGE), IMAGE)
            _, error = how.cut(trainer, net, graph, half(graph, seed=cut), torch.randn(2, 3, 16, 16).double())
            assert error < 1e-9
            steps(net, how, optimizer, 2, seed=10 + cut)
        finish_execution(net, how.state_dict(), IMAGE)
    expected, found = (nets[kind].state_dict() for kind in ("narrow", "mask"))
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in expected.items()}
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-7, atol=1e-9, msg=lambda text, key=key: f"{key}: {text}")


def test_what_is_masked_is_found_again_after_loading():
    net = randomise(cifar_resnet(8)).double()
    how, optimizer = Masking(), torch.optim.SGD(net.parameters(), lr=0.1)
    graph = trace(net, IMAGE)
    how.cut(Recorder(optimizer), net, graph, half(graph, 0), torch.randn(2, 3, 16, 16).double())
    again = Masking()
    again.load_state_dict(how.state_dict())
    again.resume(net, IMAGE)
    assert again.masks.keys() == how.masks.keys() != set()
    assert all(torch.equal(again.masks[name], flags) for name, flags in how.masks.items())
    first, second = how.network_to_score(net, IMAGE), again.network_to_score(net, IMAGE)
    assert verify(first, second, torch.randn(2, 3, 16, 16).double()) == 0


def test_a_network_in_channels_last_is_masked_alike():
    plain = randomise(cifar_resnet(8)).double()
    formatted = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    for net in (plain, formatted):
        graph = trace(net, IMAGE)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        Masking().cut(Recorder(optimizer), net, graph, half(graph, 0), torch.ones(2, 3, 16, 16).double())
    for name, tensor in plain.state_dict().items():
        assert torch.equal(formatted.state_dict()[name], tensor), name


def test_what_is_masked_is_masked_in_fresh_weights_too():
    net, start = (randomise(preresnet(11)).double() for _ in range(2))
    pruning = ScheduledPruning(Random(), Uniform(0.5), execution="mask")
    how, graph = pruning.execution, trace(net, IMAGE)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    how.cut(Recorder(optimizer), net, graph, half(graph, 0), torch.randn(2, 3, 16, 16).double())

    module = Training(net, Classification(10), 1, MOMENTUM, Constant(), init="scratch", callbacks={"prune": pruning})
    module.renew = lambda net: net.load_state_dict(start.state_dict())
    module.trainer = SimpleNamespace(global_step=0)
    module.on_train_epoch_start()
    images = torch.randn(2, 3, 16, 16).double()
    masked = net.eval()(images)
    finish_execution(net, how.state_dict(), IMAGE)
    torch.testing.assert_close(net(images), masked)


def test_masked_weights_stay_zero_whatever_the_gradient():
    net = randomise(preresnet(11)).double()
    how, optimizer = Masking(), torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    graph = trace(net, IMAGE)
    how.cut(Recorder(optimizer), net, graph, half(graph, 0), torch.randn(2, 3, 16, 16).double())
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    how.zero_masked_gradients(net)
    optimizer.step()
    parameters = dict(net.named_parameters())
    zeroed = {name: flags for name, flags in how.masks.items() if name in dict(net.named_parameters())}
    assert zeroed
    assert all(not parameters[name][flags == 0].any() for name, flags in zeroed.items())


def test_three_masked_and_three_narrow_steps_are_those_of_the_release():
    golden = Golden("masked_finetune_steps")
    meta, start = golden.meta, golden.build().double()
    names = dict(zip(meta["bn_order"], norms_of(start), strict=True))
    rest = [name for name, _ in start.named_modules() if name.startswith("features.conv")]
    kernels = [key for key, value in golden.under("w_masked").items() if value.ndim == 4]
    own = dict(zip([key.removesuffix(".weight") for key in kernels], rest, strict=True)) | names
    state = {}
    for key, value in golden.under("w_masked").items():
        layer, _, leaf = key.rpartition(".")
        state[f"{own.get(layer, layer)}.{leaf}"] = value.double()
    start.load_state_dict(state, strict=False)
    graph = trace(start, golden["x"][0][:1].double())
    kept = {group_of(graph, names[n]): flags.nonzero().flatten().tolist() for n, flags in golden.under("mask").items()}
    optimizer_of = partial(torch.optim.SGD, lr=meta["lr"], momentum=meta["momentum"], weight_decay=meta["weight_decay"])
    for kind in ("mask", "narrow"):
        net, how = copy.deepcopy(start).train(), by_execution(kind, narrow=Narrowing, mask=Masking)()
        optimizer = optimizer_of(net.parameters())
        how.cut(Recorder(optimizer), net, graph, kept, golden["x"][0].double())
        net.train()
        losses = []
        for images, target in zip(golden["x"].double(), golden["y"].long(), strict=True):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(images), target)
            loss.backward()
            how.zero_masked_gradients(net)
            optimizer.step()
            losses.append(loss.detach())
        torch.testing.assert_close(torch.stack(losses), golden["loss"].double(), rtol=0, atol=1e-9)
        with torch.no_grad():
            logits = net.eval()(golden["x"][0].double())
        torch.testing.assert_close(logits, golden["logits_final"].double(), rtol=0, atol=1e-9)
        if kind == "mask":
            for name, norm in names.items():
                for leaf in ("weight", "bias"):
                    found = getattr(net.get_submodule(norm), leaf).detach()
                    torch.testing.assert_close(found, golden[f"step3/{name}.{leaf}"].double(), rtol=0, atol=1e-9)
                    assert not found[~golden[f"mask/{name}"].bool()].any()


def test_an_unknown_execution_is_refused():
    with pytest.raises(ValueError, match=r"execution must be one of \['narrow', 'mask'\], got 'soft'"):
        ScheduledPruning(Random(), Uniform(0.5), execution="soft")


def test_a_network_with_several_inputs_is_masked():
    torch.manual_seed(0)
    net = TwoInputs()
    inputs = torch.randn(2, 3, 8, 8).double(), torch.randn(2, 3, 8, 8).double()
    graph = trace(net, inputs)
    how, kept = Masking(), {"a": [0, 2]}
    narrowed, error = how.cut(Recorder(torch.optim.SGD(net.parameters(), lr=0.1)), net, graph, kept, inputs)
    assert error < 1e-12
    torch.testing.assert_close(narrowed.eval()(*inputs), net.eval()(*inputs))


class TwoInputs(nn.Module):
    """Two images, of one network."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1, dtype=torch.float64), nn.Conv2d(4, 2, 1, dtype=torch.float64)

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(one + other).relu()).mean((2, 3))
