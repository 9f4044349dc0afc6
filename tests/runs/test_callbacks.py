"""Callbacks that could not work are refused before any training."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from pruning_lit.callbacks import ScheduledPruning
from pruning_lit.command_line.configs import compose
from pruning_lit.criteria import Magnitude
from pruning_lit.records.cut import CutRecord
from pruning_lit.runs.callbacks import require_callbacks
from pruning_lit.runs.experiment import build_phases, open_data
from pruning_lit.runs.phase_runner import PhaseRunner
from pruning_lit.runs.settings import require_values
from pruning_lit.sparsity import Uniform

LIGHTNING = "pytorch_lightning.callbacks"


@pytest.fixture(scope="module")
def phases() -> dict:
    from pruning_lit.models import cifar_resnet

    config = compose("dataset=digits", "arch=resnet8", "method=magnitude", "phases=[train]")
    return build_phases(config, cifar_resnet(8), open_data(config))


def callbacks(target: str, **settings: object):
    return OmegaConf.create({"mine": {"_target_": target, **settings}})


@pytest.mark.parametrize("monitor", ["val/loss", "val/accuracy", "train/loss"])
def test_an_early_stop_by_a_figure_that_is_logged_is_taken(phases, monitor):
    require_callbacks(callbacks(f"{LIGHTNING}.EarlyStopping", monitor=monitor), phases, has_validation=True)


@pytest.mark.parametrize("kind", ["EarlyStopping", "ModelCheckpoint"])
def test_a_figure_that_nobody_logs_is_told_with_those_that_are(phases, kind):
    with pytest.raises(ValueError, match=r"^callbacks.mine.monitor=val_loss: nothing .* there are train/loss"):
        require_callbacks(callbacks(f"{LIGHTNING}.{kind}", monitor="val_loss"), phases, has_validation=True)
    with pytest.raises(ValueError, match=r"monitor=val/loss: there are no validation images .*val_fraction=0.1"):
        require_callbacks(callbacks(f"{LIGHTNING}.{kind}", monitor="val/loss"), phases, has_validation=False)


@pytest.mark.parametrize("kind", ["LearningRateFinder", "BatchSizeFinder", "Timer"])
def test_a_callback_that_has_no_place_in_a_phase_is_refused(phases, kind):
    with pytest.raises(ValueError, match=rf"^callbacks.mine: {kind} has no place in a run of phases: "):
        require_callbacks(callbacks(f"{LIGHTNING}.{kind}"), phases, has_validation=True)


def test_what_is_no_callback_is_refused(phases):
    with pytest.raises(ValueError, match=r"callbacks.mine makes a Identity, expected a callback"):
        require_callbacks(callbacks("torch.nn.Identity"), phases, has_validation=True)


def test_a_value_that_is_still_to_be_given_is_told_by_its_key():
    config = compose("dataset=digits", "arch=resnet8", "method=magnitude", "sparsity=layerwise")
    require_values(config, ["train"])  # which refers to no budget
    with pytest.raises(ValueError, match=r"^a value has to be given: sparsity.rates=…$"):
        require_values(config, ["train", "finetune"])
    config.trainer.accelerator = "???"
    with pytest.raises(ValueError, match=r"^a value has to be given: trainer.accelerator=…$"):
        require_values(config, ["train"])


def test_an_early_stop_goes_with_phases_that_are_pruned_before_their_first_step():
    from pruning_lit.models import cifar_resnet

    stop = callbacks(f"{LIGHTNING}.EarlyStopping", monitor="train/loss")
    for words in (["method=magnitude", "phases=[finetune]"], ["method=dense"]):
        config = compose("dataset=digits", "arch=resnet8", *words)
        require_callbacks(stop, build_phases(config, cifar_resnet(8), open_data(config)), True)
    later = ["method=magnitude", "phases=[finetune]", "finetune.callbacks.prune.epochs=[0,2]"]
    for words in (later, ["method=chex"], ["method=resrep"]):
        config = compose("dataset=digits", "arch=resnet8", *words)
        phases = build_phases(config, cifar_resnet(8), open_data(config))
        with pytest.raises(ValueError, match="EarlyStopping could end a phase before it has pruned the network"):
            require_callbacks(stop, phases, True)


def test_averages_of_masked_weights_are_refused_before_any_training():
    from pruning_lit.models import cifar_resnet

    averages = callbacks(f"{LIGHTNING}.EMAWeightAveraging")
    masks = ["finetune.callbacks.prune.execution=mask"], ["explore.callbacks.stages.execution=mask"], []
    for method, with_masks in zip(("magnitude", "chex", "resrep"), masks, strict=True):
        for words in [with_masks, *([[]] if with_masks else [])]:
            config = compose("dataset=digits", "arch=resnet8", f"method={method}", *words)
            phases = build_phases(config, cifar_resnet(8), open_data(config))
            refused = pytest.raises(ValueError, match="averaged weights do not follow masks")
            with refused if words == with_masks else nullcontext():
                require_callbacks(averages, phases, True)


@pytest.mark.parametrize(
    ("epochs", "ended", "made", "refused"),
    [([0], 1, 1, False), ([0, 2], 2, 1, True), ([0, 1], 2, 2, False), ([0, 2], 3, 2, False)],
)
def test_a_phase_that_something_else_has_ended_before_its_cuts_is_no_result(epochs, ended, made, refused):
    pruning = ScheduledPruning(Magnitude(), Uniform(0.5), epochs=epochs)
    module = SimpleNamespace(epochs=3, callbacks={"prune": pruning})
    state = CutRecord(0, {}, {}, [], 1, 1, [], 0.0).state()
    checkpoint = {"epoch": ended - 1, "callbacks": {"ScheduledPruning": {"cuts": [state] * made}}}
    with pytest.raises(ValueError, match="phase finetune was ended after epoch 2 of 3") if refused else nullcontext():
        PhaseRunner._require_final(SimpleNamespace(name="finetune"), module, checkpoint)
