"""Norm recalibration in a run: the same images and statistics whatever the processes, and both figures told."""

import pytest
import torch
from safetensors.torch import load_file

from pruning_lit.callbacks import Recalibration
from pruning_lit.data import CocoShapes, Digits
from pruning_lit.models import cifar_resnet, ssd_small
from pruning_lit.tasks import Classification, Detection
from tests.commands import TINY, run_command
from tests.conftest import read_report


class Limited(Digits):
    """Digits, of which so few are there to train on."""

    few = 640

    @property
    def num_training(self) -> int:
        return self.few


def test_the_images_are_as_many_as_asked_for_and_never_one_alone():
    data = Limited(batch_size=128, mean=[0.5] * 3, std=[0.5] * 3)
    data.setup()
    for few, step, sizes in (
        (640, 128, [128] * 5), (257, 128, [128] * 2), (130, 128, [128, 2]), (100, 128, [100]), (640, 64, [64] * 10),
    ):  # fmt: skip
        seen, data.batch_size = [], step  # no batch is larger than a training step's

        class Counting(Classification):
            def outputs(self, net, batch, seen=seen):
                seen.append(len(batch[0]))
                return super().outputs(net, batch)

        data.few = few
        assert Recalibration().renew(cifar_resnet(8), data, Counting(10))
        assert seen == sizes


def test_a_detector_is_run_on_whole_images():
    data = CocoShapes(batch_size=4, num_train=8, num_test=4)
    data.setup()
    net = ssd_small(5, width=4).train()
    before = {name: value.clone() for name, value in net.named_buffers() if "running" in name}
    assert Recalibration(batches=2, batch_size=4).renew(net, data, Detection(5))
    assert net.training
    assert before
    assert all(not torch.equal(value, before[name]) for name, value in net.named_buffers() if "running" in name)


@pytest.mark.parametrize("settings", [{"batches": 0}, {"batch_size": True}, {"batch_size": 1.5}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=r"recalibrate\.\w+ must be a whole number of at least 1"):
        Recalibration(**settings)


@pytest.mark.slow
def test_both_figures_are_told_and_two_processes_have_the_statistics_of_one(tmp_path):
    words = [*TINY, "phases=[finetune]", "sparsity=macs_30", "finetune.epochs=1", "finetune.optimizer.lr=1e-30"]
    words += ["finetune.schedule.warmup_epochs=0", "trainer.limit_train_batches=1", "dataset.val_fraction=0"]
    one, two = tmp_path / "one", tmp_path / "two"
    run_command(*words, "dataset.batch_size=16", f"hydra.run.dir={one}")
    run_command(*words, "trainer=ddp_fork", "dataset.batch_size=8", f"hydra.run.dir={two}")
    reports = [read_report(folder) for folder in (one, two)]
    for report in reports:
        assert report["metrics_after_cut"].keys() == report["metrics_recalibrated"].keys()
        assert report["metrics_after_cut"] != report["metrics_recalibrated"]
    assert reports[0]["metrics_recalibrated"] == pytest.approx(reports[1]["metrics_recalibrated"], rel=1e-6)
    assert "with the statistics of its batch norms renewed: " in (one / "report.md").read_text()
    run_command(*words, "prune@finetune.callbacks.prune=published", f"hydra.run.dir={tmp_path / 'published'}")
    published = read_report(tmp_path / "published")
    assert published["metrics_recalibrated"] is None
    assert published["metrics_after_cut"] == reports[0]["metrics_after_cut"]
    weights = [load_file(folder / "pruned" / "model.safetensors") for folder in (one, two)]
    assert weights[0].keys() == weights[1].keys()
