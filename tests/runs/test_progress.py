"""Where a phase stands: by its checkpoints that can be read, whatever has become of the others."""

import logging
import re
from pathlib import Path

import pytest
import torch

from pruning_lit.runs.batch import Batch, require_same_size
from pruning_lit.runs.phase_checkpoint import read_checkpoint
from pruning_lit.runs.progress import best_score, progress


def write(path: Path, step: int, score: float = 0.5) -> Path:
    torch.manual_seed(step)
    best = {"BestCheckpoint{'monitor': 'val/accuracy'}": {"best_model_score": torch.tensor(score)}}
    content = {"global_step": step, "weights": torch.randn(40), "callbacks": best}
    torch.save(content, path)
    return path


def flip(path: Path, byte: int) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 4
    path.write_bytes(content)


def test_a_flipped_bit_is_noticed_or_alters_nothing(tmp_path):
    path = write(tmp_path / "last.ckpt", 3)
    whole, expected = path.read_bytes(), read_checkpoint(path)
    noticed = 0
    for byte in range(0, len(whole), 7):
        path.write_bytes(whole)
        flip(path, byte)
        try:
            found = read_checkpoint(path)
        except ValueError:
            noticed += 1
        else:
            assert torch.equal(found["weights"], expected["weights"])
            assert found["global_step"] == 3
    assert noticed > 100
    path.write_bytes(whole)
    flip(path, whole.index(expected["weights"].numpy().tobytes()) + 80)
    with pytest.raises(ValueError, match=r"last.ckpt' is damaged \(.*the checksum of .* differs\)"):
        read_checkpoint(path)


def test_of_a_damaged_checkpoint_the_one_before_is_gone_on_from(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    last, before = write(tmp_path / "last.ckpt", 4), write(tmp_path / "previous.ckpt", 3)
    assert progress(tmp_path).path == last
    assert caplog.messages == []
    flip(last, last.stat().st_size // 2)
    assert progress(tmp_path).path == before
    assert re.search("last.ckpt' is damaged .*; going on from the one before it, of optimizer step 3", caplog.text)
    caplog.clear()
    last.unlink()
    assert progress(tmp_path).path == before
    assert caplog.messages == [f"there is no '{last}' any more; going on from the one before it, of optimizer step 3"]


def test_where_none_can_be_read_the_advice_begins_the_phase_again(tmp_path):
    for path in (write(tmp_path / "last.ckpt", 4), write(tmp_path / "previous.ckpt", 3)):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"; delete 'last.ckpt' and 'previous.ckpt' there to begin the phase again"):
        progress(tmp_path)
    (tmp_path / "previous.ckpt").unlink()
    with pytest.raises(ValueError, match=r"; delete 'last.ckpt' there to begin the phase again"):
        progress(tmp_path)
    (tmp_path / "last.ckpt").unlink()
    assert progress(tmp_path) is None


def test_the_best_epoch_is_what_its_own_checkpoint_says(tmp_path, caplog):
    assert best_score(tmp_path / "best.ckpt") is None
    best = write(tmp_path / "best.ckpt", 4, score=0.75)
    assert best_score(best) == 0.75
    best.write_bytes(best.read_bytes()[:500])
    assert best_score(best) is None
    assert "best.ckpt' is damaged" in caplog.text


def test_what_is_not_there_is_never_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "last.ckpt")


def batch(each: int, processes: int = 1, accumulated: int = 1) -> Batch:
    return Batch(
        pictures=each * processes * accumulated, per_process=each, processes=processes, accumulated=accumulated
    )


@pytest.mark.parametrize("now", [batch(16), batch(8, 2), batch(4, 2, 2), batch(2, accumulated=8)])
def test_as_many_images_per_step_are_the_same_training(now):
    require_same_size(batch(8, 2), now, "train")
    require_same_size(None, now, "train")  # an earlier version has noted nothing


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        (batch(8, 2), batch(8), "16 (8 in each of 2 processes) images per step, and would go on with 8, .*: give "
         "dataset.batch_size=16, or as many processes as before (2)"),
        (batch(16), batch(16, 2), "16 images per step, .* 32 .*: give dataset.batch_size=8, or"),
        (batch(16), batch(16, accumulated=2), ": give dataset.batch_size=8, or .* trainer.accumulate_grad_batches=1"),
        (batch(16), batch(16, 3), ": give a number of processes that divides 16, or"),
    ],
)  # fmt: skip
def test_other_images_per_step_are_refused_with_what_makes_them_the_same(then, now, told):
    pattern = ".*".join(map(re.escape, told.split(".*")))
    with pytest.raises(ValueError, match=pattern):
        require_same_size(then, now, "train")
