"""The table of every epoch's figures."""

import csv
from types import SimpleNamespace

import pytest
import torch

from pruning_lit.callbacks import MetricsFile


def end_of_epoch(path, phase: str, epoch: int, **figures: float) -> None:
    metrics = {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}
    trainer = SimpleNamespace(
        is_global_zero=True, current_epoch=epoch, global_step=10 * (epoch + 1), callback_metrics=metrics
    )
    MetricsFile(path, phase).on_train_epoch_end(trainer, None)


def read(path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.csv"


def test_a_line_per_epoch_and_figure(path):
    end_of_epoch(path, "train", 0, loss=0.1, accuracy=1 / 3)
    end_of_epoch(path, "train", 1, loss=0.05, accuracy=0.5)
    assert read(path) == [
        ["phase", "epoch", "step", "name", "value"],
        ["train", "0", "10", "accuracy", repr(1 / 3)],
        ["train", "0", "10", "loss", "0.1"],
        ["train", "1", "20", "accuracy", "0.5"],
        ["train", "1", "20", "loss", "0.05"],
    ]


def test_epochs_trained_again_replace_what_they_left_before(path):
    for epoch in range(4):
        end_of_epoch(path, "train", epoch, loss=float(epoch))
    end_of_epoch(path, "train", 2, loss=-2.0)  # resumed from the checkpoint of epoch 1
    assert [(line[1], line[4]) for line in read(path)[1:]] == [("0", "0.0"), ("1", "1.0"), ("2", "-2.0")]
    end_of_epoch(path, "train", 3, loss=-3.0)
    assert [line[4] for line in read(path)[1:]] == ["0.0", "1.0", "-2.0", "-3.0"]


def test_other_phases_keep_their_lines(path):
    end_of_epoch(path, "train", 0, loss=1.0)
    end_of_epoch(path, "train", 1, loss=2.0)
    end_of_epoch(path, "finetune", 0, loss=3.0)
    end_of_epoch(path, "finetune", 0, loss=4.0)
    assert [(line[0], line[4]) for line in read(path)[1:]] == [("train", "1.0"), ("train", "2.0"), ("finetune", "4.0")]


def test_a_figure_that_is_not_a_number_is_written_as_it_is(path):
    end_of_epoch(path, "train", 0, loss=float("nan"))
    assert read(path)[1][4] == "nan"


def test_a_write_that_fails_leaves_the_old_lines(path, monkeypatch):
    end_of_epoch(path, "train", 0, loss=1.0)
    before = path.read_text()
    with monkeypatch.context() as broken:
        broken.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space left"):
            end_of_epoch(path, "train", 1, loss=2.0)
    assert path.read_text() == before
    end_of_epoch(path, "train", 1, loss=2.0)
    assert len(read(path)) == 3
