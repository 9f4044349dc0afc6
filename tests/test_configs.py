"""Every config composes, every experiment can be built, and a wrong key is refused by what it was meant for."""

import json
import re
from fractions import Fraction
from functools import cache
from itertools import zip_longest
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from pruning_lit.callbacks import ScheduledPruning
from pruning_lit.callbacks.pruning import Pruning
from pruning_lit.channels import ChannelGraph, cost_of_widths, insert_scatters, trace
from pruning_lit.command_line.trainer_options import trainer_maker
from pruning_lit.criteria import Criterion, Magnitude
from pruning_lit.methods.chex import Exploration
from pruning_lit.methods.resrep import GradientReset
from pruning_lit.phases import Schedule, Training
from pruning_lit.phases.epoch_steps import EpochSteps
from pruning_lit.runs.builder import build
from pruning_lit.runs.experiment import build_phases, check
from pruning_lit.runs.settings import phase_task
from pruning_lit.sparsity import DenseCost, Sparsity
from tests.places import CONF, VECTORS

TABLES = json.loads((VECTORS / "chip" / "tables.json").read_text())
#: Steps and rates of the runs published with ResRep, recorded from its release.
SCHEDULES = json.loads((VECTORS / "resrep" / "schedule.json").read_text())
#: Images of ten classes, as far as a network is concerned.
TEN_CLASSES = SimpleNamespace(num_classes=10, example=torch.zeros(1, 3, 32, 32))
#: The tables' names of networks: those here, and the images they are counted on.
NETWORKS = {"resnet_56": ("resnet56", 10, 32), "resnet_110": ("resnet110", 10, 32), "vgg_16_bn": ("vgg16_bn", 10, 32)}
NETWORKS |= {"resnet_50": ("resnet50", 1000, 224)}
#: Where recipes, optimizers and schedules are chosen: within a phase.
PLACES = {
    "recipe": "recipe@finetune",
    "prune": "prune@finetune.callbacks.prune",
    "optimizer": "optimizer@finetune.optimizer",
    "schedule": "schedule@finetune.schedule",
    "latency": "+latency",
}


def names(group: str) -> list[str]:
    return sorted(path.relative_to(CONF / group).with_suffix("").as_posix() for path in (CONF / group).rglob("*.yaml"))


GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")
EXPERIMENTS = names("experiment")
CLASSIFIERS = [name for name in EXPERIMENTS if not re.search("_coco20|point", name)]  # others: test_*_experiments.py
CHEX = [name for name in EXPERIMENTS if re.match(r"chex/.*_imagenet_", name)]
CHIP = [name for name in CLASSIFIERS if name.startswith("chip/")]
BY_SIMILARITY = ("similarity", "similarity_macs")  # need that criterion
BESIDE = [group for group in GROUPS if group not in ("experiment", "method")]  # methods have phases of their own
CHOICES = [[f"method={name}"] for name in names("method")] + [
    [f"{PLACES.get(group, group)}={name}" for group, name in zip(BESIDE, row, strict=True) if name]
    for row in zip_longest(*(names(group) for group in BESIDE))
]  # of each group one at a time, until there is none that was not
MAY_BE_MISSING = {"dataset.root", "sparsity.rates"}  # the two that only the user can know


@cache
def composed(*overrides: str) -> DictConfig:
    """The config of a command line; not to be changed, others get the same."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


@cache
def network(arch: str, num_classes: int = 10, size: int = 32) -> tuple[torch.nn.Module, ChannelGraph]:
    net = instantiate(composed(f"arch={arch}").arch, _partial_=True)(num_classes=num_classes)
    return net, trace(net, torch.zeros(1, 3, size, size))


def phases_of(config: DictConfig) -> tuple[torch.nn.Module, dict[str, Training]]:
    net = instantiate(config.arch, _partial_=True)(num_classes=10)
    return net, build_phases(config, net, TEN_CLASSES)


def test_all_groups_are_looked_at():
    assert {"arch", "criterion", "dataset", "experiment", "method", "optimizer", "sparsity", "trainer"} <= set(GROUPS)
    assert len(CHIP) >= 8
    assert len(CHEX) == 16  # the eight rows of the release's table, each twice


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes(name):
    config = composed(f"experiment={name}")
    assert {key for key in OmegaConf.missing_keys(config) if not key.startswith("hydra")} <= MAY_BE_MISSING


@pytest.mark.slow
@pytest.mark.parametrize("choices", CHOICES, ids=" ".join)
def test_every_choice_of_every_group_composes(choices):
    config = composed(*choices, "name=any")  # which is otherwise made of the choices on the command line
    assert {key for key in OmegaConf.missing_keys(config) if not key.startswith("hydra")} <= MAY_BE_MISSING


def to_build() -> list:
    """Of every method's experiments on a network that with the largest budget, deep networks marked slow."""
    last = {re.match(r"(\w+/[^_]+|\w+)", name)[0]: name for name in sorted(CLASSIFIERS)}
    slow = ("imagenet", "resnet110", "resnet164", "densenet")
    return [pytest.param(n, marks=pytest.mark.slow) if any(w in n for w in slow) else n for n in last.values()]


@pytest.mark.at_once(8)
@pytest.mark.parametrize("name", to_build())
def test_experiments_can_be_built_and_their_budgets_be_met(name):
    config = composed(f"experiment={name}")
    net, phases = phases_of(config)
    check(phases, net, TEN_CLASSES)
    names = [name for name in config.phases if config.weights is None or name != "train"]
    assert len(phases) == config.passes * len(names)
    assert list(phases)[: len(names)] == names
    for module in phases.values():
        optimizer = module.make_optimizer(net.parameters())
        module.schedule.attach(optimizer, steps_per_epoch=10, num_epochs=module.epochs)
        assert isinstance(module.schedule, Schedule)
    prunings = [
        callback if isinstance(callback, ScheduledPruning) else module  # of other callbacks the phase knows these
        for module in phases.values()
        for callback in module.callbacks.values()
        if isinstance(callback, Pruning)
    ]
    assert [isinstance(p.criterion, Criterion) and isinstance(p.sparsity, Sparsity) for p in prunings] == [
        True
    ] * config.passes


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_called_after_its_file(name):
    assert composed(f"experiment={name}").name == name


@pytest.mark.at_once(1)
@pytest.mark.parametrize("name", CHIP)
def test_an_experiment_of_chip_gives_the_counts_that_it_announces(name):
    config = composed(f"experiment={name}")
    rows = [row for row in TABLES["rows"] if row["sparsity"] == config.sparsity.rates]
    expected = {"macs": rows[0]["counts"]["macs"], "params": rows[0]["counts"]["params"]}
    _, graph = network(*NETWORKS[rows[0]["arch"]])
    counted = cost_of_widths(graph, instantiate(config.sparsity).widths(graph, {}, DenseCost.of(graph), 1))
    assert {"macs": counted.macs, "params": counted.params} == expected
    header = (CONF / "experiment" / f"{name}.yaml").read_text()
    assert f"{counted.macs:,} MACs and {counted.params:,} parameters" in header
    reduction = 1 - counted.macs / DenseCost.of(graph).macs
    assert round(100 * reduction) - int(name.rpartition("_")[2]) in (-1, 0, 1)  # the name says per cent


@pytest.mark.parametrize("name", CHIP)
def test_an_experiment_of_chip_fine_tunes_as_published(name):
    config = composed(f"experiment={name}")
    fine = config.finetune
    momentum, weight_decay, epochs, smoothing = (0.99, 1e-4, 180, 0.1) if "imagenet" in name else (0.9, 5e-3, 400, 0.0)
    assert (fine.optimizer.lr, fine.optimizer.momentum, fine.optimizer.weight_decay) == (0.01, momentum, weight_decay)
    assert (fine.epochs, fine.schedule.warmup_epochs, config.dataset.batch_size) == (epochs, 5, 256)
    assert phase_task(config.task, fine).label_smoothing == smoothing
    assert (config.criterion.num_images, config.criterion.augment) == (640, True)


#: Redundancy graphs: epochs, weight decay and the first epochs at a tenth and a hundredth of the rate, as published.
REDUNDANCY = {
    "redundancy": (90, 5e-4, 30, 60),
    "redundancy_imagenet": (65, 1e-4, 30, 60),
    "redundancy_journal": (70, 5e-4, 30, 60),
    "redundancy_journal_imagenet": (50, 1e-4, 20, 40),
}


@pytest.mark.at_once(1)
@pytest.mark.parametrize("recipe", REDUNDANCY)
def test_redundancy_graphs_fine_tune_as_published(recipe):
    fine = composed("method=redundancy_graph", f"recipe@finetune={recipe}").finetune
    epochs, weight_decay, tenth, hundredth = REDUNDANCY[recipe]
    assert (fine.optimizer.lr, fine.optimizer.momentum, fine.optimizer.weight_decay) == (0.01, 0.9, weight_decay)
    factors = [instantiate(fine.schedule).base(epoch, fine.epochs) for epoch in range(fine.epochs)]
    assert factors == pytest.approx([1] * tenth + [0.1] * (hundredth - tenth) + [0.01] * (epochs - hundredth))


@pytest.mark.slow
def test_the_dense_networks_of_redundancy_graphs_are_trained_as_published():
    train = composed("method=redundancy_graph").train
    factors = [instantiate(train.schedule).base(epoch, train.epochs) for epoch in range(train.epochs)]
    assert factors == pytest.approx([1] * 50 + [0.1] * 50 + [0.01] * 50 + [0.001] * 50)
    assert (train.optimizer.lr, train.optimizer.momentum, train.optimizer.weight_decay) == (0.1, 0.9, 5e-4)


@pytest.mark.at_once(3)
@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name.startswith("redundancy_graph/")])
def test_an_experiment_of_redundancy_graphs_judges_as_published_on_the_published_network(name):
    config = composed(f"experiment={name}")
    assert (config.criterion.statistics, config.criterion.augment, config.criterion.num_images) == ("batch", True, 100)
    assert round(100 * config.sparsity.threshold) == int(name.rpartition("_")[2])
    assert config.dataset.batch_size == 256
    net = instantiate(config.arch, _partial_=True)(num_classes=1000 if "imagenet" in name else 10)
    params = {"vgg16": 14_991_946, "resnet56": 876_250, "resnet110": 1_751_194, "densenet40": 1_059_298}
    expected = params.get(name.split("/")[1].split("_")[0], 25_557_032)  # measured in the original's networks
    assert sum(parameter.numel() for parameter in net.parameters()) == expected


#: ResRep: an experiment to the run of the release that it is, by its name in the recorded schedules.
RESREP = {"resrep/resnet56_cifar10_53": "src56", "resrep/resnet50_imagenet_54": "resnet50"}


def released(name: str) -> tuple[SimpleNamespace, EpochSteps]:
    """What the release's schedule of an experiment is, and the length of an epoch of its images."""
    schedule = SimpleNamespace(**SCHEDULES[RESREP[name]])
    config = composed(f"experiment={name}")
    images = SimpleNamespace(
        batch_size=config.dataset.batch_size, num_training=schedule.train_examples, drop_last=config.dataset.drop_last
    )
    return schedule, EpochSteps.of(images)


def gradient_reset(name: str) -> tuple[torch.nn.Module, GradientReset]:
    net, phases = phases_of(composed(f"experiment={name}"))
    module = phases["gradient_reset"]
    assert isinstance(module, GradientReset)
    return net, module


@pytest.mark.at_once(1)
@pytest.mark.parametrize("name", [n if "resnet18" in n else pytest.param(n, marks=pytest.mark.slow) for n in CHEX])
def test_an_experiment_of_chex_ends_at_the_operations_that_it_announces(name):
    text, config = (CONF / "experiment" / f"{name}.yaml").read_text(), composed(f"experiment={name}")
    published, gone = re.search(r"at ([\d.]+) G operations, (\d+) % less", text).groups()
    net = instantiate(config.arch, _partial_=True)(num_classes=1000)
    insert_scatters(net, torch.zeros(1, 3, 224, 224))
    graph = trace(net, torch.zeros(1, 3, 224, 224))
    graph, sparsity, _ = Exploration.preview(
        net, graph, instantiate(config.criterion), instantiate(config.sparsity), config.explore
    )
    scores = {group.name: torch.ones(group.size) for group in graph.prunable}
    found = sparsity.bind(Magnitude()).plan(graph, scores)
    if "_macs_" in name:
        assert name.endswith(f"_{gone}")
        assert found.cost.macs / 1e9 == pytest.approx(float(published), rel=0.01)
    else:
        told = re.search(r"By the share of channels.*: ([\d.]+) G at even widths. By the .* operations: (.*)", text)
        assert found.cost.macs / 1e9 == pytest.approx(float(told[1]), abs=0.005)
        other = (CONF / "experiment" / f"{told[2]}.yaml").read_text()
        assert f"at {published} G operations, {gone} % less" in other
        assert f"By the share: {name}\n" in other


def test_every_experiment_of_resrep_is_looked_at():
    assert [name for name in EXPERIMENTS if name.startswith("resrep/")] == sorted(RESREP)


@pytest.mark.slow
@pytest.mark.at_once(1)
@pytest.mark.parametrize("name", RESREP)
def test_an_experiment_of_resrep_has_time_to_forget_and_masks_rows_when_the_release_did(name, caplog):
    schedule, steps = released(name)
    net, module = gradient_reset(name)
    check({"gradient_reset": module}, net, TEN_CLASSES, steps)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    assert (steps.steps, steps.steps * module.epochs) == (schedule.iters_per_epoch, schedule.total_iters)
    assert module.pace.start == schedule.before_mask_iters
    assert module.masks.interval == schedule.mask_interval
    first, *_, last = (step for step in range(schedule.total_iters) if module.pace.is_update(step))
    assert (first, last) == (schedule.first_mask_updates[0], schedule.last_mask_update)
    published = (
        module.lasso_strength,
        module.masks.granularity,
        module.masks.threshold,
        module.sparsity.limits.min_channels,
    )
    assert published == (1e-4, 4, 1e-5, 1)  # section 6 of the method


@pytest.mark.slow
@pytest.mark.at_once(1)
@pytest.mark.parametrize("name", RESREP)
def test_an_experiment_of_resrep_trains_with_the_rates_of_the_release(name):
    schedule, steps = released(name)
    _, module = gradient_reset(name)
    module.insert_compactors(TEN_CLASSES.example)
    groups = {(g["lr"], g["weight_decay"], g["momentum"]) for g in module.build_optimizer().param_groups}
    assert groups == {(0.01, 1e-4, 0.9), (0.01, 0.0, 0.9), (0.02, 0.0, 0.9), (0.01, 0.0, 0.99)}  # the last: compactors
    for step, rates in schedule.lr_at.items():
        factor = module.schedule.factor(int(step), steps.steps, module.epochs)
        assert [0.01 * factor, 0.02 * factor] == pytest.approx(rates, rel=1e-12, abs=0)


def test_the_dense_network_of_resrep_is_trained_with_the_rates_of_the_release():
    schedule, steps = SCHEDULES["src56_base_training"], 781
    _, phases = phases_of(composed("experiment=resrep/resnet56_cifar10_53"))
    module = phases["train"]
    assert steps * module.epochs == schedule["total_iters"]
    first, second = schedule["milestone_iters"]
    for part, step in enumerate((first - 1, first, second)):
        factor = module.schedule.factor(step, steps, module.epochs)
        rates = {group["lr"] * factor for group in module.build_optimizer().param_groups}
        assert sorted(rates) == pytest.approx([schedule["lr"][part], schedule["bias_lr"][part]])
    assert module.schedule.factor(second - 1, steps, module.epochs) == pytest.approx(0.1)


def test_an_experiment_of_resrep_stops_at_the_operations_of_the_release():
    """Its 0.471 of 126,534,272 operations, with projections counted as 2x2, are 0.4677 of the true ones."""
    config = composed("experiment=resrep/resnet56_cifar10_53")
    net = instantiate(config.arch, _partial_=True)(num_classes=10)
    graph = trace(net, TEN_CLASSES.example)
    dense = DenseCost.of(graph)
    assert (dense.macs, dense.counted("published")) == (125_747_840, 126_534_272)
    sparsity = instantiate(config.sparsity)
    assert float(dense.counted("published") * (1 - sparsity.reduction)) == pytest.approx(59_597_642.1, abs=0.1)
    assert sparsity.macs_convention == "published"


@pytest.mark.at_once(1)
@pytest.mark.parametrize("arch", names("arch"))
def test_every_network_takes_the_number_of_classes_and_the_numbers_in_its_header(arch):
    config = composed(f"arch={arch}").arch
    header = (CONF / "arch" / f"{arch}.yaml").read_text().splitlines()[0]
    num_classes = int(re.search(r"\((\d+) (classes|parts)\)", header)[1])
    net = build(config, num_classes)
    assert f"{sum(p.numel() for p in net.parameters()):,} parameters" in header


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    ("method", "sparsity"),
    [(name, "macs_50") for name in names("method") if name != "chex"]
    + [("chex", name) for name in ("uniform", "global", "channels_40", "channels_70")]
    + [("chip", name) for name in names("sparsity") if name not in ("macs_50", "layerwise", *BY_SIMILARITY)]
    + [("redundancy_graph", name) for name in BY_SIMILARITY],
)
def test_methods_and_budgets_go_together(method, sparsity):
    net, phases = phases_of(composed("arch=resnet8", f"method={method}", f"sparsity={sparsity}"))
    check(phases, net, TEN_CLASSES)
    assert len(phases) >= 1


@pytest.mark.slow
@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    ("method", "criterion"), [("chip", "ChannelIndependence"), ("magnitude", "Magnitude"), ("random", "Random")]
)
def test_a_method_brings_its_criterion_and_another_can_be_set_beside_it(method, criterion):
    assert composed(f"method={method}").criterion._target_.endswith(f".{criterion}")
    assert composed(f"method={method}", "criterion=magnitude").criterion._target_.endswith(".Magnitude")


def test_the_quick_setting_shortens_every_phase():
    config = composed("experiment=demo", "debug=quick")
    assert [config[name].epochs for name in config.phases] == [1, 1]


@pytest.mark.at_once(1)
@pytest.mark.parametrize(("method", "images"), [("chip", 64), ("magnitude", None), ("random", None)])
def test_the_quick_setting_goes_with_every_method(method, images):
    criterion = instantiate(composed(f"method={method}", "debug=quick").criterion)
    assert getattr(criterion, "num_images", None) == images
    assert getattr(instantiate(composed(f"method={method}").criterion), "num_images", None) == (images and 640)


@pytest.mark.at_once(1)
@pytest.mark.parametrize("method", ["resrep", *(name for name in names("method") if name != "resrep")])
def test_every_method_has_room_in_the_quick_setting(method):
    net, phases = phases_of(composed("arch=resnet8", f"method={method}", "debug=quick"))
    check(phases, net, TEN_CLASSES, EpochSteps(3, Fraction(3)))
    assert max(module.epochs for module in phases.values()) <= 2


@pytest.mark.at_once(1)
@pytest.mark.parametrize("length", names("length"))
@pytest.mark.parametrize("method", names("method"))
def test_every_length_goes_with_every_method_and_shortens_all_its_phases(method, length):
    budget = ["sparsity=channels_50" if method == "chex" else "sparsity=macs_50"]
    asked = [] if length == "paper" else [f"length={length}"]
    published, config = (composed("arch=resnet8", f"method={method}", *budget, *more) for more in ((), tuple(asked)))
    net, phases = phases_of(config)
    steps = EpochSteps(21, Fraction(1294, 64))  # of the digits
    check(phases, net, TEN_CLASSES, steps)
    assert all((module.epochs < published[name].epochs) == bool(asked) for name, module in phases.items())


@pytest.mark.parametrize(
    ("name", "mended"),
    [
        ("macs_60", "any share has a setting: sparsity=macs sparsity.reduction=0.6"),
        ("channels_5", "any share has a setting: sparsity=global sparsity.rule=slimming sparsity.rate=0.05"),
        ("macs_100", "there are channels_40, channels_50"),
    ],
)
def test_a_budget_of_any_size_is_answered_with_its_setting(cli, name, mended):
    code, printed = cli(f"sparsity={name}")
    assert code == 1
    assert f"there is no sparsity called '{name}'; {mended}" in printed


def test_criterion_and_data_share_the_seed_of_the_run():
    config = composed("seed=7", "criterion=random")
    assert config.criterion.seed == config.dataset.seed == 7


@pytest.mark.at_once(2)
@pytest.mark.parametrize("trainer", names("trainer"))
def test_every_trainer_names_options_that_there_are(trainer):
    config = composed(f"trainer={trainer}").trainer
    assert config._target_ == "pytorch_lightning.Trainer"
    here = {"accelerator": "cpu", "strategy": "auto", "devices": 1, "precision": "32-true", "logger": False}
    make = trainer_maker(config)
    assert isinstance(make(**here, enable_progress_bar=False, enable_checkpointing=False), pl.Trainer)
    assert config.keys() - make.keywords.keys() == {"_target_", "threads"}


@pytest.mark.parametrize("callbacks", names("callbacks"))
def test_every_callback_can_be_built(callbacks):
    for item in composed(f"callbacks={callbacks}").callbacks.values():
        assert isinstance(instantiate(item), pl.Callback)


@pytest.mark.at_once(1)
@pytest.mark.parametrize("group", ["dataset", "arch", "criterion", "sparsity", "trainer"])
def test_an_unknown_key_of_a_group_is_refused(group):
    with pytest.raises(ConfigCompositionException, match="nonsense"):
        composed(f"{group}.nonsense=1")  # without a plus it is taken for a slip of the pen
    config = composed(f"+{group}.nonsense=1")
    arguments = {"num_classes": 10} if group == "arch" else {}
    with pytest.raises((InstantiationException, TypeError), match="nonsense"):
        trainer_maker(config.trainer)() if group == "trainer" else instantiate(config[group], **arguments)


@pytest.mark.at_once(1)
@pytest.mark.parametrize("key", ["train", "finetune", "finetune.schedule", "train.task", "finetune.callbacks.prune"])
def test_an_unknown_key_of_a_phase_is_refused(key):
    config = composed("arch=resnet8", f"+{key}.nonsense=1")
    with pytest.raises((InstantiationException, ValueError), match="nonsense"):
        phases_of(config)


def test_an_option_that_an_optimizer_does_not_have_is_refused_before_any_training():
    net, phases = phases_of(composed("arch=resnet8", "+finetune.optimizer.nonsense=1"))
    with pytest.raises(ValueError, match=r"finetune\.optimizer: .*unexpected keyword argument 'nonsense'"):
        check(phases, net, TEN_CLASSES)


def test_an_option_out_of_range_is_refused_before_any_training():
    net, phases = phases_of(composed("arch=resnet8", "finetune.optimizer.lr=-1"))
    with pytest.raises(ValueError, match=r"finetune\.optimizer: Invalid learning rate: -1"):
        check(phases, net, TEN_CLASSES)


def test_another_optimizer_can_be_chosen_for_a_phase():
    net, phases = phases_of(composed("arch=resnet8", "optimizer@train.optimizer=adamw"))
    assert isinstance(phases["train"].make_optimizer(net.parameters()), torch.optim.AdamW)


def test_a_phase_that_the_method_does_not_describe_is_refused_by_name():
    with pytest.raises(ValueError, match=r"phases=\['train', 'polish'\].*'polish'"):
        phases_of(composed("arch=resnet8", "phases=[train,polish]"))


def test_nothing_typed_is_the_demo_and_the_first_line_says_so(cli, monkeypatch, tmp_path):
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pruning_lit.runs.experiment.run", lambda config, folder: asked.append(config.name))
    code, printed = cli()
    assert (code, asked) == (0, ["demo"])
    assert printed.splitlines()[0].startswith("Nothing was asked for: this is the demo, experiment=demo")
    code, printed = cli("name=mine")
    assert (code, asked) == (0, ["demo", "mine"])
    assert "this is the demo" not in printed


@pytest.mark.slow
def test_help_tells_how_to_resume_and_which_commands_there_are(cli):
    code, printed = cli("--help")
    assert code == 0
    for word in ("resume=", ".inspect", ".evaluate", ".export", ".report", "-sc install=bash"):
        assert word in printed
