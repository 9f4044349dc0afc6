"""Which parameters get which settings: by their kind of layer, in optimizers of any kind, and through a fit."""

from functools import partial
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, RMSprop
from torch.utils.data import DataLoader

from pruning_lit.models import cifar_resnet, mobilenet_v1, torchvision_model
from pruning_lit.phases import Constant, Cosine, MultiStep, ParameterGroups, Training
from pruning_lit.runs.experiment import build_task
from pruning_lit.runs.settings import phase_task
from pruning_lit.tasks import Classification
from tests.places import CONF

RESREP = {"bias_lr": 2.0, "decay_biases": False, "decay_norms": False, "decay_depthwise": False}
OPTIMIZERS = {
    "SGD": partial(SGD, lr=0.1, momentum=0.9, weight_decay=1e-4),
    "SGD, fused": partial(SGD, lr=0.1, weight_decay=1e-4, fused=True),
    "Adam": partial(Adam, lr=0.1, weight_decay=1e-4),
    "Adam, rate in a tensor": partial(Adam, lr=torch.tensor(0.1), weight_decay=1e-4),
    "AdamW": partial(AdamW, lr=0.1, weight_decay=1e-4),
    "NAdam": partial(NAdam, lr=0.1, weight_decay=1e-4),
    "RMSprop": partial(RMSprop, lr=0.1, weight_decay=1e-4),
    "Adagrad": partial(Adagrad, lr=0.1, weight_decay=1e-4),
}

every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


class Mixed(nn.Module):
    """One layer of each kind; the names say nothing, or lie."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.Conv2d(3, 4, 3)
        self.bias = nn.Conv2d(4, 4, 3, groups=4)  # depthwise
        self.a = nn.BatchNorm2d(4)
        self.b = nn.GroupNorm(2, 4)
        self.c = nn.LayerNorm(4)
        self.d = nn.InstanceNorm2d(4, affine=True)
        self.e = nn.Conv2d(4, 8, 3, groups=2)  # grouped, not depthwise
        self.f = nn.Conv2d(1, 4, 3)  # one channel in one group
        self.depth = nn.Linear(8, 5)
        self.g = nn.MultiheadAttention(4, 2)
        self.h = nn.LSTM(4, 3)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(7, 2))
        self.i = nn.ConvTranspose2d(4, 4, 3, groups=4)  # depthwise


NORMS = {f"{layer}.weight" for layer in "abcd"}
SHIFTS = {f"{layer}.bias" for layer in "abcd"}
DEPTHWISE = {"bias.weight", "i.weight"}
BIASES = {f"{layer}.bias" for layer in ("bn", "bias", *"abcdefi", "depth", "g.out_proj")}
BIASES |= {"g.in_proj_bias", "h.bias_ih_l0", "h.bias_hh_l0"}


def named(net: nn.Module, group: dict) -> set[str]:
    names = {parameter: name for name, parameter in net.named_parameters()}
    return {names[parameter] for parameter in group["params"]}


def settings(group: dict) -> dict:
    return {key: value for key, value in group.items() if key != "params"}


def assert_partition(groups: list[dict], net: nn.Module) -> None:
    """Every parameter is in one group, once."""
    found = sorted(id(parameter) for group in groups for parameter in group["params"])
    assert found == sorted(id(parameter) for parameter in net.parameters())


def test_parameters_are_told_apart_by_their_kind_of_layer():
    net = Mixed()
    ordinary, *others = ParameterGroups(bias_lr=2.0, decay_norms=False).split(net)
    found = {tuple(settings(group).items()): named(net, group) for group in others}
    assert found == {(("lr_scale", 2.0),): BIASES, (("weight_decay", 0.0),): NORMS}
    assert settings(ordinary) == {}
    assert named(net, ordinary) == {name for name, _ in net.named_parameters()} - BIASES - NORMS
    assert named(net, ordinary) >= DEPTHWISE
    assert named(net, ordinary) >= {"relative_position_bias_table", "e.weight", "f.weight", "g.in_proj_weight"}


@pytest.mark.parametrize(
    ("switched_off", "without_decay"),
    [("decay_biases", BIASES), ("decay_norms", NORMS), ("decay_depthwise", DEPTHWISE), ("decay_norm_biases", SHIFTS)],
)
def test_every_kind_can_be_taken_out_of_the_decay(switched_off, without_decay):
    net = Mixed()
    _, group = ParameterGroups(**{switched_off: False}).split(net)
    assert settings(group) == {"weight_decay": 0.0}
    assert named(net, group) == without_decay


def test_biases_of_norms_can_be_treated_unlike_the_others_and_keep_the_rate_of_biases():
    net = Mixed()
    ordinary, norms = ParameterGroups(decay_norms=False, decay_norm_biases=False).split(net)
    assert (settings(ordinary), settings(norms)) == ({}, {"weight_decay": 0.0})
    assert named(net, norms) == NORMS | SHIFTS
    groups = ParameterGroups(bias_lr=2.0, decay_biases=False, decay_norm_biases=True).split(net)
    found = {tuple(settings(group).items()): named(net, group) for group in groups[1:]}
    assert found == {(("lr_scale", 2.0),): SHIFTS, (("lr_scale", 2.0), ("weight_decay", 0.0)): BIASES - SHIFTS}


def test_every_parameter_is_in_one_group_and_kinds_of_equal_settings_in_the_same():
    net = Mixed()
    groups = ParameterGroups(**RESREP).split(net)
    assert [settings(group) for group in groups] == [{}, {"lr_scale": 2.0, "weight_decay": 0.0}, {"weight_decay": 0.0}]
    assert named(net, groups[2]) == NORMS | DEPTHWISE
    assert_partition(groups, net)


def test_without_any_choice_all_parameters_are_in_one_group_in_their_order():
    net = torchvision_model("densenet121", num_classes=3)
    (group,) = ParameterGroups().split(net)
    assert [id(p) for p in group["params"]] == [id(p) for p in net.parameters()]
    assert settings(group) == {}


def test_groups_that_would_be_empty_are_left_out():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False))
    assert len(ParameterGroups(**RESREP).split(net)) == 1
    assert ParameterGroups(**RESREP).split(net, apart=net.parameters()) == []
    only_norms = ParameterGroups(**RESREP).split(nn.BatchNorm2d(3))
    assert [len(group["params"]) for group in only_norms] == [1, 1]


def test_a_parameter_that_modules_share_comes_once():
    net = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "norm": nn.LayerNorm(4), "head": nn.Linear(4, 5)})
    net["head"].weight = net["embedding"].weight
    net["norm"].bias = net["norm"].weight
    groups = ParameterGroups(**RESREP).split(net)
    assert_partition(groups, net)


def test_parameters_that_are_set_apart_are_in_no_group():
    net = Mixed()
    apart = [net.bn.weight, net.a.bias]
    found = set().union(*(named(net, group) for group in ParameterGroups(**RESREP).split(net, iter(apart))))
    assert found == {name for name, _ in net.named_parameters()} - {"bn.weight", "a.bias"}


def test_the_depthwise_kernels_of_mobilenet_are_found_and_nothing_else():
    net = mobilenet_v1(10)
    _, group = ParameterGroups(decay_depthwise=False).split(net)
    assert named(net, group) == {f"blocks.{number}.depthwise.weight" for number in range(13)}


@every_optimizer
def test_any_optimizer_takes_the_groups_and_a_schedule_keeps_their_ratio(make):
    net = cifar_resnet(8)
    optimizer = ParameterGroups(**RESREP).make(make, net)
    scheduler = MultiStep([0.5]).attach(optimizer, steps_per_epoch=1, num_epochs=2)
    found = [(float(group["lr"]), group["weight_decay"]) for group in optimizer.param_groups]
    assert found == [(pytest.approx(0.1), 1e-4), (pytest.approx(0.1), 0.0), (pytest.approx(0.2), 0.0)]
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    scheduler.step()
    assert [float(group["lr"]) for group in optimizer.param_groups] == pytest.approx([0.01, 0.01, 0.02])


@every_optimizer
def test_an_optimizer_without_any_choice_steps_as_one_of_all_parameters(make):
    nets = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    plain, grouped = make(nets[0].parameters()), ParameterGroups().make(make, nets[1])
    assert {**settings(plain.param_groups[0])} == {**settings(grouped.param_groups[0])}
    for net, optimizer in zip(nets, (plain, grouped), strict=True):
        for _ in range(2):
            optimizer.zero_grad()
            net(torch.arange(15.0).view(5, 3)).square().sum().backward()
            optimizer.step()
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_step_moves_biases_by_their_own_rate_and_decays_what_it_should():
    net = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(3.0)
            parameter.grad = torch.ones_like(parameter)
    ParameterGroups(**RESREP).make(partial(SGD, lr=0.1, weight_decay=0.5), net).step()
    after = {name: float(parameter.detach().flatten()[0]) for name, parameter in net.named_parameters()}
    ordinary, plain, bias = 3 - 0.1 * (1 + 0.5 * 3), 3 - 0.1, 3 - 0.2
    assert after == pytest.approx({"0.weight": ordinary, "0.bias": bias, "1.weight": plain, "1.bias": bias})


def test_a_special_group_keeps_its_own_settings_and_takes_its_parameters_out_of_the_others():
    net = Mixed()
    special = {"params": iter([net.bn.weight]), "weight_decay": 0.0, "momentum": 0.99, "lr_scale": 3.0}
    optimizer = ParameterGroups(**RESREP).make(OPTIMIZERS["SGD"], net, [special, {"params": [], "momentum": 0.5}])
    last = optimizer.param_groups[-1]
    assert named(net, last) == {"bn.weight"}
    assert (last["weight_decay"], last["momentum"], last["lr"]) == (0.0, 0.99, pytest.approx(0.3))
    assert [group["momentum"] for group in optimizer.param_groups[:-1]] == [0.9] * 3
    assert_partition(optimizer.param_groups, net)


def test_a_setting_that_the_optimizer_does_not_know_is_refused():
    net = Mixed()
    with pytest.raises(ValueError, match="Adam has no setting 'momentum', which some parameters of this phase need"):
        ParameterGroups().make(OPTIMIZERS["Adam"], net, [{"params": [net.bn.weight], "momentum": 0.99}])


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"bias_lr": -1.0}, r"parameters\.bias_lr is a multiple of the learning rate, at least 0, got -1\.0"),
        ({"bias_lr": float("nan")}, r"bias_lr .* got nan"),
        ({"bias_lr": float("inf")}, r"bias_lr .* got inf"),
        ({"bias_lr": "2"}, r"bias_lr .* got '2'"),
        ({"bias_lr": True}, r"bias_lr .* got True"),
        ({"decay_norms": "no"}, r"parameters\.decay_norms is true or false, got 'no'"),
        ({"decay_biases": 0}, r"parameters\.decay_biases is true or false, got 0"),
        ({"decay_norm_biases": 0}, r"parameters\.decay_norm_biases is true, false or null \(as decay_biases\), got 0"),
    ],
)
def test_a_choice_out_of_range_is_refused(choice, sentence):
    with pytest.raises(ValueError, match=sentence):
        ParameterGroups(**choice)


class Batches(pl.LightningDataModule):
    """Three batches of noise as one epoch."""

    def train_dataloader(self) -> DataLoader:
        random = torch.Generator().manual_seed(0)
        return DataLoader(
            [(torch.randn(4, 3, 8, 8, generator=random), torch.arange(4)) for _ in range(3)], batch_size=None
        )  # type: ignore[arg-type]


class Compacting(Training):
    """A kind of training with a group of its own."""

    def special_groups(self) -> list[dict]:
        return [{"params": [self.net.conv1.weight], "weight_decay": 0.0, "momentum": 0.99}]


def phase(kind: type[Training] = Training, schedule=None, **options) -> Training:
    torch.manual_seed(0)
    common = {"net": cifar_resnet(8), "task": Classification(10), "epochs": 1}
    common |= {"optimizer": OPTIMIZERS["SGD"], "schedule": schedule or Constant()}
    return kind(**common | options)


def fit(module: Training) -> Optimizer:
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=Batches())
    return trainer.optimizers[0]


def test_a_phase_without_groups_trains_as_one_with_a_single_group():
    def weights(**options) -> dict[str, Tensor]:
        module = phase(**options)
        (group,) = fit(module).param_groups
        assert [id(p) for p in group["params"]] == [id(p) for p in module.net.parameters()]
        return module.net.state_dict()

    plain, grouped = weights(), weights(parameters=ParameterGroups())
    assert all(torch.equal(plain[name], grouped[name]) for name in plain)


def test_a_fit_has_the_groups_and_the_schedule_scales_each():
    optimizer = fit(phase(schedule=Cosine(per="step"), parameters=ParameterGroups(**RESREP)))
    assert [group["initial_lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.1, 0.2])
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.0, 0.0, 0.0])  # behind its last step


@pytest.mark.parametrize("parameters", [None, ParameterGroups(**RESREP)], ids=["alike", "groups"])
def test_a_kind_of_training_can_add_a_group_of_its_own(parameters):
    module = phase(Compacting, parameters=parameters)
    *others, last = fit(module).param_groups
    assert named(module.net, last) == {"conv1.weight"}
    assert (last["momentum"], last["weight_decay"], last["lr"]) == (0.99, 0.0, 0.1)
    assert len(others) == (1 if parameters is None else 3)
    assert all("conv1.weight" not in named(module.net, group) for group in others)


def test_groups_that_an_optimizer_does_not_take_are_told_before_training():
    with pytest.raises(ValueError, match=r"finetune\.optimizer: LBFGS doesn't support per-parameter options"):
        phase(optimizer=torch.optim.LBFGS, parameters=ParameterGroups(**RESREP)).require_optimizer("finetune")
    with pytest.raises(ValueError, match=r"finetune\.optimizer: AdamW has no setting 'momentum'"):
        phase(Compacting, optimizer=OPTIMIZERS["AdamW"]).require_optimizer("finetune")
    phase(optimizer=torch.optim.LBFGS).require_optimizer("finetune")


def test_parameters_that_are_described_by_anything_else_are_refused():
    with pytest.raises(ValueError, match=r"parameters must be a pruning_lit\.phases\.ParameterGroups .*'bias_lr': 2"):
        phase(parameters={"bias_lr": 2})


def from_recipe(name: str, net: nn.Module) -> Training:
    """The phase of a recipe, with what the release of its paper trains."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[f"recipe@train={name}", "sparsity=channels_50", "name=any"])
    task = build_task(phase_task(config.task, config.train), SimpleNamespace(num_classes=10))
    return instantiate(config.train, _partial_=True)(net=net, task=task)


def test_the_recipe_of_resreps_dense_networks_has_the_published_settings():
    module = from_recipe("resrep_dense", cifar_resnet(20, shortcut="option_b"))
    optimizer = module.build_optimizer()
    found = {
        (group["lr"], group["weight_decay"], group["momentum"]): named(module.net, group)
        for group in optimizer.param_groups
    }
    biases = {name for name, _ in module.net.named_parameters() if name.endswith("bias")}
    scales = {name for name, _ in module.net.named_parameters() if "bn" in name} - biases
    kernels = {name for name, _ in module.net.named_parameters()} - biases - scales
    assert found == {(0.1, 1e-4, 0.9): kernels, (0.2, 0.0, 0.9): biases, (0.1, 0.0, 0.9): scales}
    factors = [module.schedule.base(epoch, module.epochs) for epoch in range(module.epochs)]
    assert factors == pytest.approx([1] * 120 + [0.1] * 60 + [0.01] * 60)


@pytest.mark.slow
def test_the_recipe_of_chex_on_imagenet_has_the_published_settings():
    module = from_recipe("chex_imagenet", torchvision_model("resnet18", num_classes=10))
    assert (module.epochs, module.task.label_smoothing, module.task.mixup) == (250, 0.1, 0.2)
    rates = [1.024 * module.schedule.factor(epoch * 1251, 1251, 250) for epoch in range(250)]
    assert rates[:8] == pytest.approx([0.128, 0.256, 0.384, 0.512, 0.64, 0.768, 0.896, 1.024])
    assert (rates[8], rates[129]) == pytest.approx((1.024, 0.512))  # half a cosine of 242 epochs
    optimizer = module.build_optimizer()
    assert not any(group["nesterov"] for group in optimizer.param_groups)
    found = {(g["lr"], g["momentum"], g["weight_decay"]): named(module.net, g) for g in optimizer.param_groups}
    names = {name for name, _ in module.net.named_parameters()}
    norms = {name for name in names if "bn" in name or "downsample.1." in name}
    assert found == {(1.024, 0.875, 2**-15): names - norms, (1.024, 0.875, 0.0): norms}
    assert "fc.bias" in names - norms


def test_the_release_of_chex_decays_the_norms_of_shortcuts_too_which_a_pattern_says():
    """It goes by "bn" in names, which torchvision's shortcuts have not."""
    net = torchvision_model("resnet18", num_classes=10)
    kept, norms = ParameterGroups(decay_norms=False, decay_norm_biases=False, exempt=["*.downsample.1.*"]).split(net)
    assert named(net, norms) == {name for name, _ in net.named_parameters() if "bn" in name}
    assert "weight_decay" not in kept


def test_patterns_that_match_no_parameter_are_refused():
    net = cifar_resnet(8, shortcut="option_b")
    with pytest.raises(ValueError, match=r"exempt: no parameter is called 'downsample\*'; some are \['conv1.weight'"):
        ParameterGroups(exempt=["downsample*"]).split(net)
    with pytest.raises(ValueError, match=r"parameters\.exempt is a list of patterns"):
        ParameterGroups(exempt="fc.*")


def test_the_recipe_of_chex_on_cifar_decays_the_same_parameters_and_has_no_mixup():
    module = from_recipe("chex", cifar_resnet(8, shortcut="option_b"))
    assert (module.epochs, module.task.label_smoothing, module.task.mixup) == (200, 0.0, 0.0)
    kept, norms = module.build_optimizer().param_groups
    assert (kept["lr"], kept["momentum"], kept["weight_decay"], norms["weight_decay"]) == (0.1, 0.9, 5e-4, 0.0)
    assert named(module.net, norms) == {name for name, _ in module.net.named_parameters() if "bn" in name}
    assert [module.schedule.factor(epoch, 1, 200) for epoch in range(6)] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
