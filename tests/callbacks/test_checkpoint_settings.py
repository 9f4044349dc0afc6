"""A checkpoint is continued only by the experiment that wrote it."""

import pytest

from pruning_lit.callbacks import CheckpointSettings, require_same_settings

SETTINGS = {
    "seed": 1,
    "arch": {"_target_": "pruning_lit.models.cifar_resnet", "depth": 20},
    "finetune": {"epochs": 4, "optimizer": {"lr": 0.02}, "callbacks": {"prune": {"epochs": [0, 1]}}},
    "weights": None,
}


ONE = {"pictures": 16, "per_process": 16, "processes": 1, "accumulated": 1}


def written_by(settings: dict) -> dict:
    checkpoint = {"epoch": 3}
    CheckpointSettings(settings, ONE).on_save_checkpoint(None, None, checkpoint)
    return checkpoint


def test_the_experiment_that_wrote_a_checkpoint_continues_it():
    checkpoint = written_by(SETTINGS)
    assert checkpoint["epoch"] == 3
    require_same_settings(checkpoint, SETTINGS, "last.ckpt")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 2}, "seed was 1 and is 2"),
        ({"arch": {**SETTINGS["arch"], "depth": 56}}, "arch.depth was 20 and is 56"),
        ({"finetune": {**SETTINGS["finetune"], "optimizer": {"lr": 0.1}}}, "finetune.optimizer.lr was 0.02 and is 0.1"),
        ({"weights": "dense.pt"}, "weights was None and is 'dense.pt'"),
        ({"arch": {"_target_": "pruning_lit.models.cifar_resnet"}}, "arch.depth was 20 and is None"),
        ({"sparsity": {"rate": 0.5}}, "sparsity.rate was None and is 0.5"),
        (
            {"finetune": {**SETTINGS["finetune"], "callbacks": {"prune": {"epochs": [0]}}}},
            r"finetune.callbacks.prune.epochs was \[0, 1\] and is \[0\]",
        ),
    ],
)
def test_another_experiment_is_told_what_differs(changes, told):
    with pytest.raises(ValueError, match=rf"^'run/last.ckpt' belongs to a different experiment: {told}$"):
        require_same_settings(written_by(SETTINGS), SETTINGS | changes, "run/last.ckpt")


def test_of_many_differences_the_first_three_are_named_and_the_others_counted():
    now = {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}
    with pytest.raises(ValueError, match=r"a was 0 and is 1, b was 0 and is 1, c was 0 and is 1 \(and 2 more\)$"):
        require_same_settings(written_by(dict.fromkeys(now, 0)), now, "last.ckpt")


def test_what_earlier_versions_wrote_though_it_decides_nothing_is_not_compared():
    now = {"dataset": {"root": "pictures"}}
    then = {"dataset": {"root": "pictures", "num_workers": 8, "cache": None}, "sparsity": {"rate": 0.5}}
    require_same_settings(written_by(then), now, "last.ckpt")


def test_what_earlier_versions_did_not_write_is_not_compared():
    now = SETTINGS | {"trainer": {"precision": "bf16-mixed"}, "callbacks": {"stop": {"patience": 3}}}
    require_same_settings(written_by(SETTINGS), now, "last.ckpt")


def test_a_foreign_checkpoint_is_refused():
    with pytest.raises(ValueError, match=r"'foreign.ckpt' was not written by an experiment of this kind"):
        require_same_settings({"state_dict": {}}, SETTINGS, "foreign.ckpt")
