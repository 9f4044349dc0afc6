"""Operations without data: the shapes that PyTorch finds, and what it would refuse is refused."""

import pytest
import torch
from torch import Tensor

from pruning_lit.channels.surgery.without_data import run_without_data

ATEN = torch.ops.aten


def of(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


@pytest.mark.parametrize(
    ("operation", "args"),
    [
        (ATEN.relu.default, (of(2, 8, 9),)),
        (ATEN.hardtanh_.default, (of(2, 8, 9), 0, 6)),
        (ATEN.add.Tensor, (of(2, 8, 9), of(2, 8, 9))),
        (ATEN.mul.Tensor, (of(2, 8, 9), of(2, 8, 1))),
        (ATEN.mul.Tensor, (of(2, 8, 1), of(2, 8, 9))),
        (ATEN.add.Tensor, (of(2, 8, 9).transpose(1, 2), of(2, 9, 8))),
        (ATEN.linear.default, (of(2, 8, 9), of(5, 9), of(5))),
        (ATEN.linear.default, (of(9), of(5, 9))),
        (ATEN.adaptive_avg_pool2d.default, (of(2, 8, 9, 7), [1, 2])),
        (ATEN.adaptive_avg_pool2d.default, (of(8, 9, 7), [3, 3])),
        (ATEN.mean.dim, (of(2, 8, 9, 7), [2, 3])),
        (ATEN.mean.dim, (of(2, 8, 9, 7), [-1], True)),
        (ATEN.mean.dim, (of(2, 8, 9, 7).transpose(1, 2), [1])),
        (ATEN.mean.default, (of(2, 8, 9, 7),)),
        (ATEN.batch_norm.default, (of(2, 8, 9), *[of(8)] * 4, False, 0.1, 1e-5, False)),
        (ATEN.conv1d.default, (of(2, 8, 9), of(5, 8, 3), None, [2], [1], [1], 1)),
        (ATEN.conv2d.default, (of(2, 8, 9, 7), of(6, 4, 3, 2), of(6), [2, 3], [1, 0], [2, 1], 2)),
        (ATEN.conv2d.default, (of(2, 8, 9, 7), of(6, 8, 1, 1))),
        (ATEN.conv2d.padding, (of(2, 8, 9, 7), of(6, 8, 3, 3), None, [1, 1], "same")),
        (ATEN.conv3d.default, (of(2, 8, 9, 7, 5), of(8, 1, 3, 3, 3), None, [1], [1], [1], 8)),
    ],
    ids=str,
)
def test_shapes_are_those_that_pytorch_finds(operation, args):
    ours, theirs = run_without_data(operation, args, {}), operation(*args)
    assert (ours.shape, ours.stride(), ours.dtype) == (theirs.shape, theirs.stride(), theirs.dtype)


@pytest.mark.parametrize(
    ("operation", "args"),
    [
        (ATEN.batch_norm.default, (of(2, 8, 9), *[of(7)] * 4, False, 0.1, 1e-5, False)),
        (ATEN.conv2d.default, (of(2, 8, 9, 7), of(6, 4, 3, 3), None)),
        (ATEN.conv2d.default, (of(2, 8, 2, 2), of(6, 8, 3, 3))),
        (ATEN.linear.default, (of(2, 8), of(5, 9))),
        (ATEN.mul_.Tensor, (of(2, 8, 1), of(2, 8, 9))),
        (ATEN.mean.dim, (of(2, 8), [1, 1])),
        (ATEN.mean.dim, (of(2, 8), [2])),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(operation, args):
    with pytest.raises((RuntimeError, IndexError)):
        run_without_data(operation, args, {})
