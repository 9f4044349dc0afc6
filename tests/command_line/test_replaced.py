"""Another choice beside an experiment is that choice: neither barred nor changed by what the experiment set."""

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from pruning_lit.command_line.class_facts import annotations
from pruning_lit.command_line.configs import CONF, choices, compose
from pruning_lit.command_line.replaced import own_targets
from pruning_lit.command_line.setting_types import require_types

SHIPPED = [name for name in choices("experiment") if "/" in name]


def settings(values: object, path: str = "") -> set[str]:
    """Paths of all that a file sets."""
    if not isinstance(values, dict):
        return {path}
    return set().union(*(settings(value, f"{path}.{key}") for key, value in values.items()))


#: Experiments, of those that set the same one: their numbers do not matter here.
DIFFERENT = list(
    {
        frozenset(settings(yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text()))): name
        for name in SHIPPED
    }.values()
)


RESNET56 = "experiment=redundancy_graph/resnet56_cifar10_65"


def plain(config: DictConfig, place: str) -> dict:
    return OmegaConf.to_container(OmegaConf.select(config, place), resolve=False)


@pytest.mark.at_once(1)
@pytest.mark.parametrize("name", DIFFERENT)
def test_typed_choices_are_as_they_are_without_an_experiment(name):
    words = ("criterion=taylor", "sparsity=macs_30", "arch=resnet20", "dataset=digits")
    config, alone = compose(f"experiment={name}", *words), compose(*words)
    for group in ("criterion", "sparsity", "arch", "dataset"):
        assert plain(config, group) == plain(alone, group)
    require_types(config)


@pytest.mark.slow
def test_what_is_typed_and_what_a_length_says_stay():
    config = compose("experiment=redundancy_graph/resnet56_cifar10_65", "criterion=taylor", "criterion.num_images=7")
    assert config.criterion.num_images == 7
    config = compose("experiment=demo", "schedule@finetune.schedule=multistep", "length=demo")
    length = yaml.safe_load((CONF / "length" / "demo.yaml").read_text())
    assert config.finetune.schedule.warmup_epochs == length["finetune"]["schedule"]["warmup_epochs"]
    config = compose("arch=resnet20", "sparsity=layerwise", "sparsity.rates={layer1.0.conv1: 0.5}")
    assert plain(config, "sparsity.rates") == {"layer1.0.conv1": 0.5}


@pytest.mark.at_once(1)
@pytest.mark.parametrize("method", ["chip", "magnitude", "taylor"])
def test_another_method_beside_an_experiment_brings_its_own_criterion_and_budget(method):
    config, alone = compose(RESNET56, f"method={method}", "seed=2"), compose(f"method={method}")
    for group in ("criterion", "sparsity"):
        assert plain(config, group) == plain(alone, group)
    require_types(config)


def test_a_budget_that_both_methods_have_is_that_of_the_experiment():
    config = compose("experiment=resrep/resnet56_cifar10_53", "method=chip")
    assert plain(config, "sparsity") == plain(compose("experiment=resrep/resnet56_cifar10_53"), "sparsity")
    assert plain(config, "criterion") == plain(compose("method=chip"), "criterion")
    assert compose(RESNET56, "method=chip", "criterion=taylor", "criterion.num_images=7").criterion.num_images == 7


def test_another_logger_gets_nothing_that_was_set_for_the_one_before():
    config = compose("logger.tensorboard._target_=my.Logger", "+logger.tensorboard.colour=red")
    assert plain(config, "logger.tensorboard") == {"_target_": "my.Logger", "colour": "red"}


def test_a_task_of_ones_own_gets_its_own_settings_alone():
    assert plain(compose("task._target_=my.Task", "+task.margin=2"), "task") == {"_target_": "my.Task", "margin": 2}


def test_another_optimizer_gets_nothing_that_was_set_for_the_one_before():
    config = compose("train.optimizer._target_=torch.optim.RMSprop", "train.optimizer.momentum=0.5")
    assert plain(config, "train.optimizer") == {
        "_target_": "torch.optim.RMSprop", "_partial_": True, "momentum": 0.5,
    }  # fmt: skip
    require_types(config)
    adamw = yaml.safe_load((CONF / "optimizer" / "adamw.yaml").read_text())
    assert plain(compose("optimizer@finetune.optimizer=adamw"), "finetune.optimizer") == adamw


@pytest.mark.parametrize("beside", ["experiment=demo", "method=network_slimming"])
def test_a_recipe_is_as_its_file_has_it_but_for_what_is_typed(beside):
    recipe = yaml.safe_load((CONF / "recipe" / "short.yaml").read_text())
    finetune = compose(beside, "recipe@finetune=short").finetune
    assert (finetune.epochs, finetune.optimizer.lr) == (recipe["epochs"], recipe["optimizer"]["lr"])
    assert "prune" in finetune.callbacks  # what the method adds
    words = ("optimizer@finetune.optimizer=adamw", "recipe@finetune=short", "finetune.epochs=3")
    finetune = compose(beside, *words).finetune
    assert (finetune.epochs, finetune.optimizer.lr) == (3, compose(words[0]).finetune.optimizer.lr)


@pytest.mark.parametrize("words", [("length=demo",), ("debug=quick", "length=demo")])
def test_lengths_hold_for_recipes_that_are_added(words):
    added = compose("method=chex", "+recipe@train=dense", "phases=[train,explore]", *words)
    assert added.train.epochs == compose(*words).train.epochs
    assert compose("method=chex", "+recipe@train=dense", "train.epochs=7", *words).train.epochs == 7


def test_a_setting_that_others_refer_to_stays():
    config = compose("method=network_slimming", "train.optimizer._target_=torch.optim.Adam")
    assert config.finetune.optimizer.lr == config.train.optimizer.lr
    assert set(config.train.optimizer) - {"_target_", "_partial_"} == {"lr"} <= set(annotations("torch.optim.Adam")[0])


def test_what_is_left_out_is_told_and_not_kept_on_record(cli, tmp_path):
    words = ("experiment=redundancy_graph/resnet56_cifar10_65", "criterion=magnitude", "dataset=digits", "seed=x")
    code, printed = cli(*words, f"hydra.run.dir={tmp_path}")
    assert code == 1
    told = " ".join(printed.split())
    assert "left out, as it was set for what has been replaced: criterion.statistics=batch" in told
    assert told.endswith("seed must be a whole number, got 'x'")
    kept = yaml.safe_load((tmp_path / ".hydra" / "config.yaml").read_text())
    assert set(kept["criterion"]) == {"_target_", "power"}


def test_a_setting_that_is_typed_for_a_choice_that_does_not_have_it_is_refused(cli):
    code, printed = cli(
        "experiment=redundancy_graph/resnet56_cifar10_65", "criterion=magnitude", "criterion.statistics=x"
    )
    assert code == 1
    assert "there is no setting criterion.statistics" in printed


@pytest.mark.at_once(1)
@pytest.mark.parametrize("beside", ["seed=1", "criterion=random", "experiment=redundancy_graph/resnet56_cifar10_65"])
def test_a_criterion_of_ones_own_gets_its_own_settings_alone(beside):
    own = {"_target_": "mine.Own", "power": 2}
    assert plain(compose(beside, "criterion._target_=mine.Own", "+criterion.power=2"), "criterion") == own
    assert plain(compose(beside, "++criterion={_target_: mine.Own, power: 2}"), "criterion") == own


def test_what_is_typed_in_the_place_of_a_choice_is_named():
    words = ["dataset._target_=mydata.Right", "criterion=random", "++criterion._target_=mine.First", "seed=3"]
    assert own_targets(words) == {"dataset": "mydata.Right", "criterion": "mine.First"}
    assert own_targets([*words, "criterion={_target_: mine.Own, power: 2}"])["criterion"] == "mine.Own"
    assert own_targets(["train.optimizer._target_=torch.optim.Adam", "criterion.num_images=3"]) == {}
