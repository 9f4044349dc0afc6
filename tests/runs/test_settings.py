"""Which settings make two phases the same one."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from pruning_lit.callbacks.checkpoint_settings import KEY, require_same_settings
from pruning_lit.command_line.configs import CONF
from pruning_lit.command_line.renamed import present_settings
from pruning_lit.runs.settings import changed, exact_settings, job_settings, phase_settings, result_settings


def composed(*overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=["name=try", *overrides])
    return config


def same_training(*overrides, before=()):
    keys = ["train"]
    return exact_settings(composed(*before), keys) == exact_settings(composed(*before, *overrides), keys)


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    "override",
    ["sparsity=macs_30", "criterion=random", "method=random", "finetune.epochs=3", "passes=2", "latency.repeats=5",
     "checkpoint.every_n_steps=5", "logger=none", "name=other", "phases=[train]"],
)  # fmt: skip
def test_dense_training_does_not_depend_on(override):
    assert same_training(override)


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    "override",
    ["seed=2", "arch=resnet56", "dataset=cifar10", "dataset.batch_size=7", "train.epochs=3", "train.optimizer.lr=0.3",
     "channel_selection=true", "channel_scatter=true", "trainer.precision=bf16-mixed", "trainer.devices=2",
     "trainer.limit_train_batches=3", "deterministic=true", "weights=some.pt", "on_nonfinite=skip", "+more=1"],
)  # fmt: skip
def test_dense_training_depends_on(override):
    assert not same_training(override)


@pytest.mark.at_once(2)
@pytest.mark.parametrize("override", ["length=short", "length=demo", "debug=quick"])
@pytest.mark.parametrize("method", ["chip", "resrep"])
def test_what_a_run_has_written_is_read_back_as_it_was(method, override):
    settings = result_settings(composed(f"method={method}", override))
    assert present_settings(settings) == settings
    assert ("gradient_reset" in settings) == (method == "resrep")


def test_epochs_of_phases_that_a_method_does_not_have_decide_nothing():
    settings = phase_settings(composed("length=short"), ["train"])
    require_same_settings({KEY: settings | {"gradient_reset": {"epochs": 60}}}, settings, "last.ckpt")
    assert same_training("train.epochs=20", before=["length=short"])


@pytest.mark.slow
def test_how_images_are_read_decides_nothing():
    words = ("dataset=imagenet", "dataset.root=somewhere")
    assert same_training("dataset.num_workers=0", before=words)
    assert not same_training("dataset.batch_size=7", before=words)


@pytest.mark.slow
def test_a_pruning_phase_depends_on_criterion_and_sparsity():
    settings = [phase_settings(composed(*words), ["train", "finetune"]) for words in ([], ["sparsity=macs_30"])]
    assert settings[0] != settings[1]
    settings = [
        phase_settings(composed("method=magnitude", *words), ["train", "finetune"])
        for words in ([], ["criterion=random"])
    ]
    assert settings[0] != settings[1]


@pytest.mark.slow
def test_the_penalised_scales_depend_on_the_sparsity_and_so_does_sparsity_training():
    words = ("method=network_slimming", "sparsity=global")
    keys = ["train", "sparsify"]
    first, second = (exact_settings(composed(*words, f"sparsity.rate={rate}"), keys) for rate in (0.4, 0.6))
    assert first != second
    assert exact_settings(composed(*words), ["train"]) == exact_settings(
        composed(*words, "sparsity.rate=0.9"), ["train"]
    )


AVERAGED = "+callbacks.mean._target_=pytorch_lightning.callbacks.StochasticWeightAveraging"


@pytest.mark.at_once(2)
@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("trainer=gpu", "trainer.precision was '32-true' and is 'bf16-mixed'"),
        ("trainer.limit_train_batches=1", r"trainer.limit_train_batches was '1.0' and is '1'"),
        (AVERAGED, "callbacks.mean._target_ was None and is '.*StochasticWeightAveraging'"),
        ("trainer.gradient_clip_val=1", "trainer.gradient_clip_val was None and is '1'"),
        ("trainer=ddp_fork", None),
        ("callbacks=quiet", None),
        ("+trainer.profiler=simple", None),
    ],
)
def test_a_phase_goes_on_with_what_alters_its_numbers_by_more_than_rounding(override, told):
    then, now = (phase_settings(composed(*words), ["train"]) for words in ((), (override,)))
    if told is None:
        require_same_settings({KEY: then}, now, "last.ckpt")
    else:
        with pytest.raises(ValueError, match=told):
            require_same_settings({KEY: then}, now, "last.ckpt")


def test_settings_of_the_machine_do_not_belong_to_the_result():
    assert result_settings(composed()) == result_settings(composed("trainer=ddp_fork", "deterministic=true"))


@pytest.mark.parametrize(
    "override", ["trainer.limit_train_batches=3", "trainer.precision=bf16-mixed", "trainer.accumulate_grad_batches=2"]
)
def test_a_job_with_another_training_is_not_the_finished_one(override):
    assert job_settings(composed()) != job_settings(composed(override))
    assert job_settings(composed()) == job_settings(composed("trainer=ddp_fork", "latency.repeats=3"))


def test_a_nested_setting_is_changed_alone_and_another_target_replaces_all():
    settings = {"test": {"_target_": "mydata.test", "root": "a", "size": 8}, "batch_size": 4}
    assert changed(settings, {"test": {"root": "b"}}) == {
        "test": {"_target_": "mydata.test", "root": "b", "size": 8},
        "batch_size": 4,
    }
    assert changed(settings, {"test": {"_target_": "other.test"}})["test"] == {"_target_": "other.test"}
    assert settings["test"]["root"] == "a"
