"""Two processes choose the same channels as one, at every cut, and train to the same weights."""

import pytest
import torch
from safetensors.torch import load_file

from tests.commands import TINY, run_command
from tests.conftest import read_report

# pruned twice, so that the second choice depends on what was trained after the first
SAME = (*TINY, "finetune.callbacks.prune.epochs=[0,1]", "phases=[finetune]", "finetune.optimizer.lr=0.001")


@pytest.mark.timeout(280)
def test_two_processes_end_like_one_with_the_same_global_batch(tmp_path):
    run_command(*SAME, "dataset.batch_size=16", f"hydra.run.dir={tmp_path / 'one'}")
    run_command(*SAME, "trainer=ddp_fork", "dataset.batch_size=8", f"hydra.run.dir={tmp_path / 'two'}")
    checkpoints = [torch.load(tmp_path / n / "phases/1-finetune/last.ckpt", weights_only=True) for n in ("one", "two")]
    kept_by_one, kept_by_two = (
        [cut["kept"] for cut in c["callbacks"]["ScheduledPruning"]["cuts"]] for c in checkpoints
    )
    assert len(kept_by_one) == 2
    assert kept_by_two == kept_by_one
    one, two = (load_file(tmp_path / name / "pruned/model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(
            two[name], tensor, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert read_report(tmp_path / "one")["groups"] == read_report(tmp_path / "two")["groups"]
