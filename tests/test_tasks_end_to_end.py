"""Other tasks than classification, from the command line: trained, pruned, reported, in two processes as in one."""

import pytest
import torch
from safetensors.torch import load_file

from tests.commands import TINY, run_command
from tests.conftest import read_report

TASKS = {
    "average_precision": ("dataset=digits_multi_label", "arch=resnet8"),
    "mean_iou": ("dataset=digits_segmentation", "arch=small_fcn", "arch.width=4"),
}


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("primary", list(TASKS))
def test_a_task_is_pruned_by_two_processes_as_by_one(tmp_path, primary):
    words = (*TINY[1:], *TASKS[primary], "phases=[finetune]", "finetune.optimizer.lr=0.001")
    words = (*words, "dataset.num_train=96", "dataset.num_test=20", "dataset.val_fraction=0.2")
    run_command(*words, "dataset.batch_size=16", f"hydra.run.dir={tmp_path / 'one'}")
    run_command(*words, "trainer=ddp_fork", "dataset.batch_size=8", f"hydra.run.dir={tmp_path / 'two'}")
    checkpoints = [torch.load(tmp_path / n / "phases/1-finetune/last.ckpt", weights_only=True) for n in ("one", "two")]
    states = [each["callbacks"] for each in checkpoints]
    one, two = (each["ScheduledPruning"]["cuts"][0]["kept"] for each in states)
    assert one == two
    one, two = (next(each for name, each in state.items() if name.startswith("BestCheckpoint")) for state in states)
    assert one["monitor"] == two["monitor"] == f"val/{primary}"
    assert float(one["best_model_score"]) == pytest.approx(float(two["best_model_score"]), abs=0.01)
    one, two = (load_file(tmp_path / name / "pruned/model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5)
    assert read_report(tmp_path / "one")["groups"] == read_report(tmp_path / "two")["groups"]
    assert (tmp_path / "one/phases/1-finetune/best.ckpt").is_file()
