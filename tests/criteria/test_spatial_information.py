"""Spatial information: the released numbers, hand-made maps, and half precision."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pruning_lit.channels import trace
from pruning_lit.criteria.gather import mean_scores
from pruning_lit.criteria.spatial_information import spatial_information

CASE = np.load(Path(__file__).parents[1] / "golden" / "chex" / "si.npz")
BATCHES = [torch.from_numpy(CASE[f"batch{number}"]) for number in (0, 1)]


@pytest.mark.parametrize("number", [0, 1])
def test_every_map_has_the_score_of_the_release(number):
    scores = spatial_information(BATCHES[number])
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores.float(), torch.from_numpy(CASE[f"si{number}"]), atol=1e-5, rtol=0)


def test_means_of_batches_added_give_the_order_of_the_release():
    total = sum(spatial_information(batch).mean(0) for batch in BATCHES)
    torch.testing.assert_close(total.float(), torch.from_numpy(CASE["score"]), atol=1e-5, rtol=0)
    assert total.argsort(descending=True).tolist() == CASE["order_desc"].tolist()


def test_kernels_are_the_released_one_and_its_transpose():
    kernel = torch.from_numpy(CASE["kernel"])
    maps = torch.randn(3, 1, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    answers = torch.conv2d(maps, torch.stack([kernel, kernel.T])[:, None], padding=1)
    expected = answers.norm(dim=1).flatten(1).std(dim=1, correction=0)
    torch.testing.assert_close(spatial_information(maps)[:, 0], expected)


def test_a_blank_map_scores_nothing_and_doubling_a_map_doubles_its_score():
    assert spatial_information(torch.zeros(2, 3, 5, 5)).tolist() == [[0, 0, 0], [0, 0, 0]]
    torch.testing.assert_close(spatial_information(2 * BATCHES[0]), 2 * spatial_information(BATCHES[0]))


def test_the_mean_over_pictures_is_what_a_pass_over_them_gathers():
    net = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Conv2d(4, 2, 1))
    nn.init.dirac_(net[0].weight)  # the maps are the pictures
    graph = trace(net, BATCHES[0][:1])
    (scores,) = mean_scores(net, list(graph.prunable), BATCHES, spatial_information).values()
    torch.testing.assert_close(scores.float(), torch.from_numpy(CASE["score"]) / 2, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype):
    maps = (60_000 * BATCHES[0] / BATCHES[0].abs().max()).to(
        dtype
    )  # answers of the kernels above 65,504, the largest number of float16
    assert bool(maps.isfinite().all())
    torch.testing.assert_close(spatial_information(maps), spatial_information(maps.double()), rtol=1e-5, atol=0)


@pytest.mark.parametrize("maps", [torch.zeros(2, 3, 4), torch.zeros(1, 2, 3, 4, dtype=torch.int64)])
def test_other_tensors_are_refused(maps):
    with pytest.raises(ValueError, match=r"expected floating maps \(N, C, H, W\), got"):
        spatial_information(maps)
