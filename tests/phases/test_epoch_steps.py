"""Steps of an epoch are those that the order of the examples makes."""

import math
from types import SimpleNamespace

import pytest

from pruning_lit.data.sampler import EpochBatches
from pruning_lit.phases.epoch_steps import EpochSteps


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("num", [128, 129, 130, 131, 191, 200])
def test_steps_are_those_of_the_sampler(num, processes, drop_last):
    data = SimpleNamespace(batch_size=32, num_training=num, drop_last=drop_last)
    found = EpochSteps.of(data, processes)
    assert found.steps == len(EpochBatches(num, 32, world_size=processes, drop_last=drop_last))
    assert found.steps >= math.floor(found.exact)
    data.shares_epochs = False  # every process goes through all of them
    assert EpochSteps.of(data, processes) == EpochSteps.of(data, 1)
