"""Scores that take their time, told."""

import logging
from types import SimpleNamespace

import pytest
import torch

from pruning_lit.channels import trace
from pruning_lit.criteria import Criterion, Magnitude, Scoring, timed_scores
from pruning_lit.models import cifar_resnet


class Slow(Criterion):
    """Looks at 64 images for as long as it is told to."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now = seconds, 0.0

    def scores(self, scoring):
        list(scoring.batches(64, seed=0, augment=False, batch_size=32))
        self.now += self.seconds
        return Magnitude().scores(scoring)


@pytest.fixture
def scoring():
    net = cifar_resnet(8)
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    data = SimpleNamespace(num_training=48, calibration=lambda *_: iter(()))
    return Scoring(net, graph, list(graph.prunable)[:5], data)


@pytest.mark.parametrize(("seconds", "told"), [(0.5, []), (12.3, ["scored 5 groups of channels in 12 s"])])
def test_long_scoring_is_told_before_and_after(scoring, caplog, seconds, told):
    caplog.set_level(logging.INFO, logger="pruning_lit")
    criterion = Slow(seconds)
    scores = timed_scores(criterion, scoring, clock=lambda: criterion.now)
    assert [record.message for record in caplog.records if record.levelno == logging.INFO] == [
        "scoring 5 groups of channels on 48 images",  # all there are
        *told,
    ]
    assert all(torch.equal(scores[name], value) for name, value in Magnitude().scores(scoring).items())
