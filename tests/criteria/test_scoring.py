"""Batches that criteria look at, from whatever gives them."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from pruning_lit.channels import trace
from pruning_lit.criteria import ChannelIndependence, Scoring, Taylor
from pruning_lit.models import cifar_resnet
from pruning_lit.tasks import Classification

IMAGES = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(12) % 10
PAIRS = DataLoader(TensorDataset(IMAGES, TARGETS), batch_size=5)


def scoring(data, task=None) -> Scoring:
    torch.manual_seed(0)
    net = cifar_resnet(8)
    graph = trace(net, IMAGES[:1])
    return Scoring(net, graph, list(graph.prunable), data, task)


@pytest.mark.parametrize(
    "batches",
    [
        PAIRS,
        DataLoader(IMAGES, batch_size=4),
        DataLoader(TensorDataset(IMAGES), batch_size=7),
        [IMAGES],
        ((images, None) for images in IMAGES.split(2)),
        [(IMAGES, TARGETS, torch.zeros(12))],
    ],
    ids=["loader", "loader of images", "loader of images in lists", "list", "generator", "more than pairs"],
)
def test_scores_are_those_of_the_first_images_whatever_gives_them(batches, caplog):
    criterion = ChannelIndependence(num_images=9)
    expected = criterion.scores(scoring([(IMAGES[:9], TARGETS[:9])]))
    found = criterion.scores(scoring(batches))
    assert caplog.text == ""
    for name, scores in expected.items():
        torch.testing.assert_close(found[name], scores, rtol=1e-5, atol=0)  # float32 maps, by batches


def test_fewer_images_than_asked_for_are_told(caplog):
    ChannelIndependence(num_images=20).scores(scoring(PAIRS))
    assert "the scores look at all 12 training images, not at 20" in caplog.text


def test_scores_by_the_loss_take_a_loader_too():
    scores = Taylor(num_images=10, batch_size=5).scores(scoring(PAIRS, Classification(10)))
    assert all(bool(each.isfinite().all()) and each.sum() > 0 for each in scores.values())


def test_batches_without_an_end_are_not_read_to_their_end():
    def endless():
        while True:
            yield IMAGES

    assert len(ChannelIndependence(num_images=15).scores(scoring(endless()))) > 0
