"""The small fully convolutional network: shapes, counts, and what can be pruned."""

import pytest
import torch

from pruning_lit.channels import cost, cost_of_widths, narrow, trace
from pruning_lit.models import small_fcn


def test_every_pixel_gets_a_logit_for_every_class():
    assert small_fcn(7, width=4)(torch.zeros(2, 3, 16, 24)).shape == (2, 7, 16, 24)


def test_channels_that_skip_connections_join_leave_together():
    net = small_fcn()
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    assert cost(graph).params == sum(parameter.numel() for parameter in net.parameters()) == 85_723
    groups = {group.name: group for group in graph.prunable}
    assert groups["laterals.2.0"].writers == ("laterals.2.0", "laterals.1.0", "laterals.0.0")
    kept = {name: list(range(group.size // 2)) for name, group in groups.items()}
    narrow(net, graph, kept)
    counted = cost_of_widths(graph, {name: len(each) for name, each in kept.items()})
    assert cost(trace(net, torch.zeros(1, 3, 32, 32))) == counted


def test_a_network_without_channels_is_refused():
    with pytest.raises(ValueError, match=r"arch\.width must be at least 1, got 0"):
        small_fcn(width=0)
