"""The bar of an epoch."""

from types import SimpleNamespace

import pytest

from pruning_lit.callbacks import EpochBar


@pytest.fixture
def bar():
    logger = SimpleNamespace(version="1-train")
    trainer = SimpleNamespace(loggers=[logger], progress_bar_metrics={"train/loss": 0.5}, max_epochs=20)
    made = EpochBar()
    made._trainer = trainer
    return made


def test_beside_the_bar_stands_what_is_logged_for_it_and_no_number_of_a_version(bar):
    assert bar.get_metrics(bar.trainer, None) == {"train/loss": 0.5}


def test_epochs_are_counted_as_in_the_log(bar):
    assert bar._get_train_description(2) == "epoch 3/20"
