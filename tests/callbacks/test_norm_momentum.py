"""Momentum of batch-norm statistics that falls during training."""

from types import SimpleNamespace

import pytest
from torch import nn

from pruning_lit.callbacks import NormMomentum


def test_all_norms_have_the_momentum_of_the_epoch():
    net = nn.Sequential(nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4), nn.Sequential(nn.BatchNorm2d(4)))
    callback, found = NormMomentum([0.2, 0.4, 0.6], gamma=0.5, lowest=0.2), []
    for epoch in range(10):
        callback.on_train_epoch_start(SimpleNamespace(current_epoch=epoch, max_epochs=10), net)
        assert net[1].momentum == net[2][0].momentum
        found.append(net[1].momentum)
    assert found == pytest.approx([0.1] * 2 + [0.05] * 2 + [0.025] * 2 + [0.02] * 4)


def test_an_epoch_that_is_resumed_in_its_middle_has_its_momentum():
    net = nn.Sequential(nn.BatchNorm1d(4))
    NormMomentum([0.5]).on_train_start(SimpleNamespace(current_epoch=3, max_epochs=4), net)
    assert net[0].momentum == 0.05


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"milestones": [20]}, r"norm_momentum\.milestones are shares of the epochs, in \(0, 1\), got \[20\]"),
        ({"milestones": [0.5], "gamma": 0.0}, r"norm_momentum\.gamma must be above 0 and at most 1, got 0\.0"),
        ({"milestones": [0.5], "lowest": 2}, r"norm_momentum\.lowest must be above 0"),
    ],
)
def test_a_wrong_setting_is_refused_in_a_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        NormMomentum(**settings)
