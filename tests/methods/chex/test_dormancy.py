"""Pruned channels: the released training, what comes back, momenta, and both executions alike."""

import copy
import io
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from pruning_lit.channels import ChannelGraph, Kept, adopt, insert_scatters, mask, narrow, trace
from pruning_lit.methods.chex.dormancy import MaskState, NarrowState, PrunedState
from tests.methods.chex.chex_golden import COUNTER, Golden

EXAMPLE = torch.zeros(1, 3, 6, 6, dtype=torch.float64)
FIRST = {"stem.0": [0, 1, 2, 5, 7], "inner.0": [0, 2, 3], "shortcut.0": [1, 2, 3, 6]}
SECOND = {"stem.0": [0, 2, 3, 4, 7], "inner.0": [1, 2, 5], "shortcut.0": [0, 1, 3, 4, 5]}
THIRD = {"stem.0": [0, 1, 2, 3], "inner.0": [0, 1], "shortcut.0": [1, 2, 6]}
NUM_STEPS = 3  # in an interval

each_kind = pytest.mark.parametrize("kind", [NarrowState, MaskState])
OPTIMIZERS = {
    "sgd": lambda parameters: SGD(parameters, lr=0.05, momentum=0.875, weight_decay=1e-3),
    "nesterov": lambda parameters: SGD(parameters, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda parameters: Adam(parameters, lr=0.01, betas=(0.8, 0.97), weight_decay=1e-3),
    "amsgrad": lambda parameters: AdamW(parameters, lr=0.01, amsgrad=True),
}
each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)


class Net(nn.Module):
    """A stem, a branch of two convolutions beside a projection, a classifier; one convolution has a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.inner = nn.Sequential(nn.Conv2d(8, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6))
        self.outer = nn.Sequential(nn.Conv2d(6, 7, 3, padding=1, bias=False), nn.BatchNorm2d(7))
        self.shortcut = nn.Sequential(nn.Conv2d(8, 7, 1, stride=2, bias=False), nn.BatchNorm2d(7))
        self.fc = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (self.outer(self.inner(x).relu()) + self.shortcut(x)).relu()
        return self.fc(x.mean((2, 3)))


class Twins(nn.Module):
    """Two layers, with norms of their own, that have one kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.one = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6))
        self.two = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6))
        self.two[0].weight = self.one[0].weight
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.stem, self.one, self.two):
            x = layer(x).relu()
        return self.fc(x.mean((2, 3)))


def built(seed: int = 0, scatters: bool = True) -> nn.Module:
    torch.manual_seed(seed)
    net = Net().double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 0.9)
            nn.init.normal_(module.bias, std=0.2)
    assert not scatters or insert_scatters(net, EXAMPLE) == ["shortcut.1"]
    return net


class Fit:
    """A training in which channels are pruned; images depend on nothing but the number of the step."""

    def __init__(self, kind: type[PrunedState], optimizer: str = "sgd", net: nn.Module | None = None):
        self.net = built() if net is None else net
        self.graph = trace(self.net, EXAMPLE)
        self.pruned = kind(self.net, self.graph)
        self.make, self.step = optimizer, 0
        optimizers = [OPTIMIZERS[optimizer](self.net.parameters())]
        self.trainer = SimpleNamespace(optimizers=optimizers, callbacks=[], global_step=0)

    @property
    def optimizer(self) -> Optimizer:
        return self.trainer.optimizers[0]

    def train(self, steps: int = NUM_STEPS) -> "Fit":
        self.net.train()
        for _ in range(steps):
            self.step += 1
            self.trainer.global_step = self.step
            random = torch.Generator().manual_seed(self.step)
            images = torch.randn(8, 3, 6, 6, generator=random, dtype=torch.float64)
            self.optimizer.zero_grad()
            F.cross_entropy(self.net(images), torch.arange(8) % 4).backward()
            self.pruned.zero_masked_gradients(self.net)
            self.optimizer.step()
        return self

    def stage(self, active: Kept) -> "Fit":
        if self.pruned.active:
            self.pruned.restore(self.trainer, self.net)
        self.pruned.prune(self.trainer, self.net, active)
        return self

    def restore(self) -> "Fit":
        self.pruned.restore(self.trainer, self.net)
        return self

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """By parameter, by key: what the optimizer remembers in the shape of the parameter."""
        return {
            name: {
                key: value.clone()
                for key, value in self.optimizer.state[parameter].items()
                if isinstance(value, Tensor) and value.shape == parameter.shape
            }
            for name, parameter in self.net.named_parameters()
        }

    def narrowed(self) -> dict[str, Tensor]:
        """State of the network without what is dormant."""
        net = copy.deepcopy(self.net)
        if isinstance(self.pruned, MaskState):
            self.pruned.restore(SimpleNamespace(optimizers=[], callbacks=[], global_step=0), net)
            narrow(net, self.graph, self.pruned.active)
        return net.state_dict()


def state(net: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(net.state_dict())


def dormant(net: nn.Module, graph: ChannelGraph, active: Kept) -> dict[str, Tensor]:
    """Marks of the entries that are not in use: where ones would be masked; statistics go with the scales."""
    ones = copy.deepcopy(net)
    for parameter in ones.parameters():
        nn.init.ones_(parameter)
    mask(ones, graph, active)
    marks = {name: parameter == 0 for name, parameter in ones.named_parameters()}
    statistics = ("running_mean", "running_var")
    norms = [name for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)]
    return marks | {f"{name}.{each}": marks[f"{name}.weight"] for name in norms for each in statistics}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)] == []


# the release


@each_kind
def test_losses_logits_and_weights_are_those_of_the_released_training(kind):
    """Its variant ``clean``: what comes back has no momentum."""
    golden = Golden("trace")
    meta, net = golden.meta, golden.build("init").double()
    graph = golden.graph(net)
    groups = [
        {"params": [p for name, p in net.named_parameters() if ("bn" in name) is norm], "weight_decay": decay}
        for norm, decay in ((False, meta["weight_decay"]), (True, 0.0))
    ]
    optimizer = SGD(groups, lr=meta["lr"], momentum=meta["momentum"])
    trainer = SimpleNamespace(optimizers=[optimizer], callbacks=[], global_step=0)
    pruned, losses, actives = kind(net, graph), [], meta["active_clean"]
    for phase, active in enumerate(actives):
        if phase:
            pruned.restore(trainer, net)
        pruned.prune(trainer, net, active)
        for _ in range(meta["phases"][phase]):
            images, target = golden[f"x{len(losses)}"].double(), golden[f"y{len(losses)}"]
            loss = F.cross_entropy(net.train()(images), target)
            optimizer.zero_grad()
            loss.backward()
            pruned.zero_masked_gradients(net)
            optimizer.step()
            trainer.global_step += 1
            losses.append(loss.item())
    assert losses == pytest.approx(meta["loss_clean"], abs=1e-6)
    with torch.no_grad():
        logits = net.eval()(golden["x0"].double())
    torch.testing.assert_close(logits, golden["clean_eval_logits"], rtol=0, atol=1e-6)
    expected = golden.build("clean_final").double()
    narrow(expected, graph, actives[-1])
    if kind is MaskState:
        pruned.restore(SimpleNamespace(optimizers=[], callbacks=[], global_step=0), net)
        narrow(net, graph, actives[-1])
    without = {name for name in net.state_dict() if name.endswith(COUNTER)}
    found, expected = (
        {name: tensor for name, tensor in each.state_dict().items() if name not in without} for each in (net, expected)
    )
    assert_close(found, expected, 1e-6)


# what comes back


@each_kind
def test_what_was_never_active_comes_back_as_it_was_built_and_the_rest_as_it_was_trained(kind):
    fit = Fit(kind)
    start, marks = state(fit.net), dormant(fit.net, fit.graph, FIRST)
    fit.stage(FIRST).train()
    assert {name for name, each in marks.items() if each.any()} >= {
        "stem.0.weight", "stem.0.bias", "stem.1.running_var", "inner.0.weight", "inner.1.bias", "outer.0.weight",
        "shortcut.0.weight", "shortcut.1.weight",
    }  # fmt: skip
    last = fit.restore().net.state_dict()
    for name, away in marks.items():
        assert torch.equal(last[name][away], start[name][away]), name
        assert not torch.equal(last[name][~away], start[name][~away]), name
    assert last["shortcut.1.scatter.source"].tolist() == [*range(7)]


@each_kind
def test_what_comes_back_has_every_bit_that_it_had_when_it_went(kind):
    fit = Fit(kind).stage(FIRST).train().restore()
    went, marks = state(fit.net), dormant(fit.net, fit.graph, SECOND)
    fit.pruned.prune(fit.trainer, fit.net, SECOND)
    fit.train()
    back = fit.restore().net.state_dict()
    for name, away in marks.items():
        assert torch.equal(back[name][away], went[name][away]), name
    assert all(not torch.equal(back[name][~away], went[name][~away]) for name, away in marks.items())
    assert_equal(fit.pruned.most_recent.state_dict(), back)


@each_kind
def test_an_entry_between_two_channels_has_the_value_from_when_both_were_last_active(kind):
    fit = Fit(kind).stage(FIRST).train().restore()
    both = fit.net.inner[0].weight[0, 1].clone()  # trained; from here on, either channel 1 or channel 0 is away
    fit.pruned.prune(fit.trainer, fit.net, SECOND | {"inner.0": [0, 2]})
    fit.train().stage(THIRD | {"stem.0": [1, 2], "inner.0": [2, 4]}).train().restore()
    assert torch.equal(fit.net.inner[0].weight[0, 1], both)


@each_kind
def test_others_values_can_come_back_instead(kind):
    fit = Fit(kind).stage(FIRST).train()
    other, marks = built(seed=5).state_dict(), dormant(built(), fit.graph, FIRST)
    fit.pruned.restore(fit.trainer, fit.net, other)
    for name, tensor in fit.net.state_dict().items():
        if name in marks:
            assert torch.equal(tensor[marks[name]], other[name][marks[name]]), name
            assert not torch.equal(tensor[~marks[name]], other[name][~marks[name]]), name


@each_kind
def test_the_copy_of_the_restored_network_is_zero_where_channels_were_pruned(kind):
    fit = Fit(kind).stage(FIRST).train()
    marks = dormant(built(), fit.graph, FIRST)
    masked = fit.pruned.restore(fit.trainer, fit.net).state_dict()
    for name, away in marks.items():
        if "running" not in name:
            assert not masked[name][away].any(), name
            assert torch.equal(masked[name][~away], fit.net.state_dict()[name][~away]), name


@each_kind
def test_names_shapes_and_order_are_those_of_the_whole_network_again(kind):
    fit = Fit(kind).stage(FIRST).train().stage(SECOND).train().restore()
    assert {name: tensor.shape for name, tensor in fit.net.state_dict().items()} == {
        name: tensor.shape for name, tensor in built().state_dict().items()
    }
    assert [id(p) for p in fit.optimizer.param_groups[0]["params"]] == [id(p) for p in fit.net.parameters()]


def test_a_narrowed_network_is_as_small_as_what_is_active():
    fit = Fit(NarrowState).stage(SECOND)
    layers = (fit.net.stem, fit.net.inner, fit.net.outer, fit.net.shortcut)
    assert [tuple(layer[0].weight.shape[:2]) for layer in layers] == [(5, 3), (3, 5), (7, 3), (5, 5)]


# momenta


@pytest.mark.at_once(4)
@each_optimizer
@each_kind
def test_what_comes_back_has_no_momentum(kind, optimizer):
    fit = Fit(kind, optimizer).stage(FIRST).train().stage(SECOND).train()
    marks = dormant(built(), fit.graph, SECOND)
    for name, moments in fit.restore().moments().items():
        assert len(moments) >= 1
        for key, moment in moments.items():
            assert not moment[marks[name]].any(), (name, key)
            assert moment[~marks[name]].any(), (name, key)


@pytest.mark.at_once(2)
@each_optimizer
def test_both_executions_train_alike(optimizer):
    fits = [Fit(kind, optimizer) for kind in (NarrowState, MaskState)]
    for fit in fits:
        fit.stage(FIRST).train().stage(SECOND).train().stage(THIRD).train()
    narrowed, masked = fits
    assert_close(narrowed.narrowed(), masked.narrowed(), 1e-9)
    moments, others = (fit.restore().moments() for fit in fits)
    for name, each in moments.items():
        assert_close(each, others[name], 1e-9)
    assert_close(narrowed.net.state_dict(), masked.net.state_dict(), 1e-9)
    assert_close(narrowed.pruned.most_recent.state_dict(), masked.pruned.most_recent.state_dict(), 1e-9)


def test_momentum_is_zero_with_any_other_optimizer(monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "rms", lambda parameters: RMSprop(parameters, momentum=0.9))
    fits = [Fit(kind, "rms").stage(FIRST).train().stage(SECOND).train() for kind in (NarrowState, MaskState)]
    assert_close(*(fit.narrowed() for fit in fits), 1e-9)


# checkpoints


@pytest.mark.at_once(2)
@each_optimizer
@each_kind
def test_what_is_loaded_in_the_middle_of_an_interval_goes_on_to_the_last_bit(kind, optimizer):
    fit = Fit(kind, optimizer).stage(FIRST).train().stage(SECOND).train(2)
    file = io.BytesIO()
    torch.save([fit.net.state_dict(), fit.pruned.state_dict(), fit.optimizer.state_dict()], file)
    file.seek(0)
    weights, sleeping, remembered = torch.load(file, weights_only=True)
    other = Fit(kind, optimizer, net=built(seed=9))
    other.step = fit.step
    adopt(other.net, weights)
    other.net.load_state_dict(weights)
    other.trainer.optimizers = [OPTIMIZERS[optimizer](other.net.parameters())]
    other.optimizer.load_state_dict(remembered)
    other.pruned.load_state_dict(sleeping)
    other.pruned.resume(other.trainer, other.net)
    for each in (fit, other):
        each.train(1).stage(THIRD).train().restore()
    assert_equal(other.net.state_dict(), fit.net.state_dict())
    assert_equal(other.pruned.most_recent.state_dict(), fit.pruned.most_recent.state_dict())
    for name, each in fit.moments().items():
        assert_equal(other.moments()[name], each)


def test_momentum_that_a_former_version_has_left_where_zeros_are_moves_nothing():
    """It wrote the zeros anew after every step, and kept the momentum from before."""
    fit = Fit(MaskState).stage(FIRST).train().stage(SECOND).train(2)
    for parameter in fit.net.parameters():
        fit.optimizer.state[parameter]["momentum_buffer"].add_(1.0)
    marks = dormant(built(), fit.graph, SECOND)
    fit.pruned.resume(fit.trainer, fit.net)
    fit.train()
    for name, parameter in fit.net.named_parameters():
        assert not parameter[marks[name]].any(), name


@each_kind
def test_a_checkpoint_is_not_touched_by_further_training(kind):
    fit = Fit(kind).stage(FIRST).train().stage(SECOND)
    sleeping = fit.pruned.state_dict()
    before = copy.deepcopy(sleeping)
    fit.train()
    assert sleeping["active"] == before["active"]
    assert_equal(sleeping["store"], before["store"])


# networks of other kinds


def test_networks_without_scatters_are_explored_within_their_branches():
    active = [{name: each[name] for name in ("stem.0", "inner.0")} for each in (FIRST, SECOND, THIRD)]
    fits = [Fit(kind, net=built(scatters=False)) for kind in (NarrowState, MaskState)]
    for fit in fits:
        for each in active:
            fit.stage(each).train()
    assert fits[0].net.shortcut[0].weight.shape == (7, 4, 1, 1)
    assert_close(*(fit.narrowed() for fit in fits), 1e-9)


@each_kind
def test_a_kernel_of_two_layers_stays_that_of_both(kind):
    torch.manual_seed(0)
    fit = Fit(kind, net=Twins().double())
    (name,) = {group.name for group in fit.graph.prunable}
    start, first = state(fit.net), {name: [0, 2, 3]}
    marks = dormant(fit.net, fit.graph, first)
    fit.stage(first).train().restore()
    assert fit.net.one[0].weight is fit.net.two[0].weight
    assert any(parameter is fit.net.one[0].weight for parameter in fit.optimizer.param_groups[0]["params"])
    for each, away in marks.items():
        assert torch.equal(fit.net.state_dict()[each][away], start[each][away]), each
        if "running" not in each:
            assert not fit.moments()[each]["momentum_buffer"][away].any(), each


def test_both_executions_train_a_shared_kernel_alike():
    fits = []
    for kind in (NarrowState, MaskState):
        torch.manual_seed(0)
        fits.append(Fit(kind, net=Twins().double()))
        (name,) = {group.name for group in fits[-1].graph.prunable}
        for kept in ([0, 2, 3], [1, 2, 5], [0, 1]):
            fits[-1].stage({name: kept}).train()
    assert_close(*(fit.narrowed() for fit in fits), 1e-9)
