"""The line at the end of an epoch: figures, seconds, time left."""

import logging
from types import SimpleNamespace

import pytest
import torch

from pruning_lit.callbacks import EpochLines
from pruning_lit.tasks import Primary

SECONDS_OF_A_BATCH, BATCHES = 2.0, 10


class Fit:
    """A fit of ten batches an epoch, two seconds each, as a callback is called by it."""

    def __init__(self, epochs: int = 4, later_epochs: int = 0, primary: Primary | None = None, **trainer: object):
        self.now = 1000.0
        self.metrics: dict[str, torch.Tensor] = {}
        self.module = SimpleNamespace(
            task=SimpleNamespace(primary=primary or Primary("accuracy")), later_epochs=later_epochs
        )
        facts = {"is_global_zero": True, "progress_bar_callback": None, "sanity_checking": False} | trainer
        self.trainer = SimpleNamespace(
            max_epochs=epochs, num_training_batches=BATCHES, callback_metrics=self.metrics, **facts
        )
        self.lines = EpochLines(clock=lambda: self.now)
        self.lines.on_train_start(self.trainer, self.module)

    def epoch(self, number: int, first_batch: int = 0, **figures: float) -> None:
        """An epoch from a batch on, counted from 0; ``val_loss`` and the like say that it was validated."""
        self.trainer.current_epoch = number
        for batch in range(first_batch, BATCHES):
            self.lines.on_train_batch_start(self.trainer, self.module, None, batch)
            self.now += SECONDS_OF_A_BATCH
        self.metrics |= {name.replace("_", "/", 1): torch.tensor(value) for name, value in figures.items()}
        if any(name.startswith("val_") for name in figures):
            self.lines.on_validation_end(self.trainer, self.module)
        self.lines.on_train_epoch_end(self.trainer, self.module)


@pytest.fixture(autouse=True)
def told(caplog):
    caplog.set_level(logging.INFO, logger="pruning_lit")
    return caplog


def test_an_epoch_has_its_figures_its_seconds_and_what_is_left(told):
    fit = Fit(epochs=4, later_epochs=2)
    fit.epoch(0, train_loss=2.1719, train_accuracy=0.2, val_accuracy=0.3776, val_loss=1.9)
    fit.now += 4  # a checkpoint is written
    fit.epoch(1, train_loss=0.412, train_accuracy=0.9, val_accuracy=0.912, val_loss=0.5)
    assert told.messages == [
        "epoch 1/4: loss 2.17, validation accuracy 37.76 %, 20 s, 60 s left in this phase, "
        "100 s of training left in the run at this pace",
        "epoch 2/4: loss 0.412, validation accuracy 91.20 %, 24 s, 44 s left in this phase, "
        "88 s of training left in the run at this pace",
    ]


def test_the_last_epoch_of_the_last_phase_leaves_nothing(told):
    Fit(epochs=1).epoch(0, train_loss=0.5, val_accuracy=1.0)
    assert told.messages == ["epoch 1/1: loss 0.500, validation accuracy 100.00 %, 20 s"]


def test_an_epoch_resumed_halfway_counts_as_half_a_measure(told):
    fit = Fit(epochs=4)
    fit.epoch(2, first_batch=5, train_loss=1.0, val_accuracy=0.5)
    assert told.messages == ["epoch 3/4: loss 1.00, validation accuracy 50.00 %, 10 s, 20 s left in this phase"]


def test_the_time_before_the_first_batch_belongs_to_no_epoch(told):
    fit = Fit(epochs=2)
    fit.now += 500  # the network is scored and cut
    fit.epoch(0, train_loss=1.0, val_accuracy=0.5)
    assert "20 s, 20 s left in this phase" in told.text


def test_an_epoch_without_validation_tells_the_metric_of_its_training(told):
    fit = Fit(epochs=3)
    fit.epoch(0, train_loss=1.0, train_accuracy=0.25, val_accuracy=0.5)
    fit.epoch(1, train_loss=0.9, train_accuracy=0.375)  # Lightning still has the figures of the validation before
    assert "epoch 2/3: loss 0.900, training accuracy 37.50 %" in told.messages[1]


def test_an_end_of_an_epoch_without_a_batch_tells_no_times(told):
    fit = Fit(epochs=2)
    fit.epoch(0, first_batch=BATCHES, val_accuracy=0.5)  # resumed behind its last step
    fit.epoch(1, train_loss=1.0, val_accuracy=0.5)
    assert told.messages[0] == "epoch 1/2: validation accuracy 50.00 %"
    assert told.messages[1].endswith("50.00 %, 20 s")


def test_a_metric_is_told_by_its_name_and_in_its_unit(told):
    fit = Fit(epochs=1, primary=Primary("mean_iou", percent=False))
    fit.epoch(0, train_loss=0.00012345, val_mean_iou=0.51234)
    assert told.messages == ["epoch 1/1: loss 0.000123, validation mean IoU 0.5123, 20 s"]


@pytest.mark.parametrize("bar", [None, object()])
def test_beside_a_bar_the_line_is_for_the_file_alone(told, bar):
    Fit(epochs=1, progress_bar_callback=bar).epoch(0, train_loss=1.0)
    assert getattr(told.records[0], "in_file_only", False) is (bar is not None)


def test_other_ranks_say_nothing_but_ask_for_the_figures_which_are_computed_together(told):
    class Asked(dict):
        count = 0

        def get(self, *_):
            Asked.count += 1

    fit = Fit(epochs=1, is_global_zero=False)
    fit.trainer.callback_metrics = Asked()
    fit.epoch(0)
    assert Asked.count > 0
    assert told.messages == []
