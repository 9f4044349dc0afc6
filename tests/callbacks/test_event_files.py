"""TensorBoard shows one curve over all phases, whichever of them begin again."""

import itertools
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from pruning_lit.callbacks.event_files import EventFiles

FIRST_STEPS = {"train": 0, "finetune": 10, "finetune-2": 20}


def log(folder, phase: str, value: float, begun_step: int = 0) -> None:
    """Log steps 1 to 10 of a phase, as from one sitting."""
    files = EventFiles(
        save_dir=folder, name="", version="tensorboard", first_step=FIRST_STEPS[phase], begun_step=begun_step
    )
    for step in range(begun_step + 1, 11):
        files.log_metrics({"train/loss": value}, step)
    files.finalize("success")


def curve(folder) -> list[tuple[int, float]]:
    shown = EventAccumulator(str(folder / "tensorboard")).Reload().Scalars("loss/train")
    return [(each.step, each.value) for each in shown]


@pytest.mark.parametrize("begun_step", [0, 4])
def test_a_phase_that_begins_again_leaves_the_curves_of_later_ones(tmp_path, monkeypatch, begun_step):
    seconds = itertools.count(1_700_000_000)
    monkeypatch.setattr(event_file_writer, "time", SimpleNamespace(time=lambda: next(seconds)))
    for value, phase in enumerate(FIRST_STEPS, start=1):
        log(tmp_path, phase, value)
    log(tmp_path, "train", 4, begun_step)
    log(tmp_path, "finetune", 5)
    values = begun_step * [1] + (10 - begun_step) * [4] + 10 * [5] + 10 * [3]
    assert curve(tmp_path) == [*enumerate(values, start=1)]


@pytest.mark.parametrize(
    ("primary", "title"),
    [("accuracy", "Accuracy"), ("ap", "AP"), ("mean_iou", "Mean IoU"), ("mask_ap", "Mask AP")],
)
def test_the_primary_metric_has_its_title_with_a_capital(tmp_path, primary, title):
    files = EventFiles(save_dir=tmp_path, name="", version="tensorboard", primary=primary)
    files.log_metrics({f"val/{primary}": 0.5, "val/loss": 1.0}, 1)
    files.finalize("success")
    events = EventAccumulator(files.log_dir)
    events.Reload()
    assert {f"{title}/val", "loss/val"} <= set(events.Tags()["scalars"])
