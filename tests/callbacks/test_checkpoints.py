"""The best epoch counts only once the network has its final width; checkpoints are replaced whole."""

from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from pruning_lit.callbacks import AtomicCheckpointIO, BestCheckpoint, ScheduledPruning
from pruning_lit.criteria import Random
from pruning_lit.sparsity import Uniform
from pruning_lit.tasks import Primary
from tests.reports.cut import cut


@pytest.mark.parametrize(("cuts", "looked"), [(0, False), (1, False), (2, True)])
def test_an_epoch_before_the_last_cut_is_never_the_best(tmp_path, monkeypatch, cuts, looked):
    seen = []
    for hook in ("on_validation_end", "on_train_epoch_end"):
        monkeypatch.setattr(ModelCheckpoint, hook, lambda *_, hook=hook: seen.append(hook))
    pruning = ScheduledPruning(Random(), Uniform(0.5), epochs=[0, 3])
    pruning.cuts = [cut() for _ in range(cuts)]
    trainer, best = SimpleNamespace(callbacks=[pruning]), BestCheckpoint(tmp_path, Primary("accuracy"))
    best.on_validation_end(trainer, None)
    best.on_train_epoch_end(trainer, None)
    assert bool(seen) == looked


def test_a_checkpoint_that_could_not_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    io = AtomicCheckpointIO()
    io.save_checkpoint({"step": 1}, path)

    def killed_while_writing(content, draft):
        draft.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed_while_writing)
    with pytest.raises(KeyboardInterrupt):
        io.save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}


def test_the_last_checkpoint_has_the_one_before_beside_it_and_the_best_has_none(tmp_path):
    last, best = tmp_path / "last.ckpt", tmp_path / "best.ckpt"
    for step in (1, 2, 3):
        for path in (last, best):
            AtomicCheckpointIO().save_checkpoint({"step": step}, path)
    found = {path.name: torch.load(path, weights_only=True)["step"] for path in tmp_path.iterdir()}
    assert found == {"last.ckpt": 3, "previous.ckpt": 2, "best.ckpt": 3}


def test_a_worker_that_dies_while_a_checkpoint_is_written_is_not_taken_for_a_full_disk(tmp_path, monkeypatch):
    """Torch raises its death from a signal, in the middle of anything."""

    def interrupted(content, draft):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(RuntimeError, match="worker"):
        AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    assert [*tmp_path.iterdir()] == []


def test_the_best_so_far_is_that_of_the_checkpoint_that_is_there(tmp_path):
    """Not that of the state, which may be older: the run was killed between the two, or its folder was moved."""
    trainer = SimpleNamespace(strategy=SimpleNamespace(reduce_boolean_decision=lambda decision: decision))
    for so_far, better in ((None, True), (0.5, True), (0.7, False)):
        best = BestCheckpoint(tmp_path, Primary("accuracy"), so_far)
        best.best_k_models, best.kth_best_model_path = (
            {"elsewhere/best.ckpt": torch.tensor(0.99)},
            "elsewhere/best.ckpt",
        )
        best.on_train_start(trainer, None)
        assert best.check_monitor_top_k(trainer, torch.tensor(0.6)) == better
        assert [*best.best_k_models] == [str(tmp_path / "best.ckpt")] * (so_far is not None)
