"""Loss and metrics of semantic segmentation."""

from pathlib import Path

import pytest
import torch

from pruning_lit.tasks import SemanticSegmentation
from tests.commands import in_own_process

TARGETS = torch.tensor([[[0, 1], [1, 255]], [[2, 2], [0, 0]]])
PREDICTED = torch.tensor([[[0, 1], [0, 2]], [[2, 1], [0, 0]]])  # the pixel of no class does not count


def logits(predicted: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(predicted, 3).permute(0, 3, 1, 2).float()


def test_intersections_over_unions_are_counted_over_all_pixels_that_have_a_class():
    task = SemanticSegmentation(3)
    metrics = task.metrics()
    for image in (slice(0, 1), slice(1, 2)):
        task.update(metrics, logits(PREDICTED[image]), TARGETS[image])
    found = {name: float(value) for name, value in metrics.compute().items()}
    # class 0: 3 of 4; class 1: 1 of 3; class 2: 1 of 2
    assert found == pytest.approx({"mean_iou": (3 / 4 + 1 / 3 + 1 / 2) / 3, "pixel_accuracy": 5 / 7})


def test_the_loss_is_the_mean_over_pixels_that_have_a_class():
    (loss,) = SemanticSegmentation(3).losses(logits(PREDICTED), TARGETS, training=True).values()
    shares = logits(PREDICTED).double().log_softmax(1)
    surprise = [-shares[n, TARGETS[n, y, x], y, x] for n, y, x in (TARGETS != 255).nonzero().tolist()]
    assert float(loss) == pytest.approx(float(sum(surprise)) / 7)


def test_a_batch_in_which_no_pixel_counts_has_no_loss():
    outputs = logits(PREDICTED).requires_grad_()
    (loss,) = SemanticSegmentation(3).losses(outputs, torch.full_like(TARGETS, 255), training=True).values()
    loss.backward()
    assert float(loss) == 0
    assert not outputs.grad.any()


def of_one_rank(rank: int, folder: Path) -> None:
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2, store=store)
    outputs = logits(PREDICTED)[[rank]].requires_grad_()
    (loss,) = SemanticSegmentation(3).losses(outputs, TARGETS[[rank]], training=True).values()
    loss.backward()
    torch.save([loss.detach(), outputs.grad], folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@in_own_process
def test_two_processes_with_other_numbers_of_pixels_find_the_gradient_of_one(tmp_path):
    torch.multiprocessing.start_processes(of_one_rank, (tmp_path,), nprocs=2, start_method="fork")
    losses, gradients = zip(*(torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)), strict=True)
    outputs = logits(PREDICTED).requires_grad_()
    (loss,) = SemanticSegmentation(3).losses(outputs, TARGETS, training=True).values()
    loss.backward()
    torch.testing.assert_close(sum(losses) / 2, loss.detach())
    torch.testing.assert_close(torch.cat(gradients) / 2, outputs.grad)  # processes take the mean of their gradients


def test_an_image_has_changed_where_one_of_its_pixels_has():
    other = PREDICTED.clone()
    other[0] = 1 - other[0].clamp_max(1)
    assert SemanticSegmentation(3).changed(logits(PREDICTED), logits(other)) == 1


def test_outputs_that_are_no_map_of_every_class_are_refused():
    task, images = SemanticSegmentation(3), torch.zeros(2, 3, 8, 8)
    task.require_outputs(torch.zeros(2, 3, 8, 8), images)
    for outputs in (torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 8, 8), torch.zeros(2, 3), None):
        with pytest.raises(ValueError, match=r"needs one tensor of shape \(2, 3, 8, 8\)"):
            task.require_outputs(outputs, images)
