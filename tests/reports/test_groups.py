from io import StringIO

import pytest
import torch
from rich.console import Console
from torch import nn

from pruning_lit.channels import Cost, cost, trace
from pruning_lit.models import torchvision_model
from pruning_lit.reports.console import open_console
from pruning_lit.reports.groups import (
    cost_table,
    group_costs,
    layers_table,
    leave_together,
    planned_groups,
    prediction_table,
)


@pytest.fixture(scope="module")
def graph():
    """A convolution of 4 channels and one of 3 on 5x5 pixels: 3 to 4, 4 to 3, 1x1 kernels without biases."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, 3, 1, bias=False))
    return trace(net, torch.zeros(1, 3, 5, 5))


@pytest.fixture(scope="module")
def runs():
    """A convolution of 12 channels, normalised in 3 runs of 4: four channels can only leave at once."""
    layers = nn.Conv2d(3, 12, 1), nn.GroupNorm(3, 12), nn.Conv2d(12, 3, 1)
    return trace(nn.Sequential(*layers), torch.zeros(1, 3, 5, 5))


def printed(*tables, width=200):
    console = Console(width=width, file=StringIO(), record=True)
    for table in tables:
        console.print(table)
    return console.export_text()


def test_costs_are_what_the_counted_network_loses(graph):
    # by hand: a channel of layer 0 has 3 weights in it and 3 in layer 2, each used at 25 pixels; 24 weights in all
    costs = group_costs(graph)
    assert (costs["0"].macs, costs["0"].params) == (150, 6)
    assert costs["0"].most == pytest.approx(18 / 24)
    for group in graph.prunable:
        fewer = cost(graph, {group.name: range(group.size - 1)})
        assert costs[group.name].macs == cost(graph).macs - fewer.macs


def test_every_group_has_its_row_with_layers_and_the_whole_reason(graph):
    text = printed(cost_table(graph), layers_table(graph))
    for group in graph.groups:
        assert group.name in text
        assert (group.protected or "") in text
    assert "stay" not in text
    assert "150" in text


def test_widths_that_stay_are_shown_where_there_is_a_plan(graph):
    row = next(line for line in printed(cost_table(graph, {"0": 2})).splitlines() if line.strip().startswith("0 "))
    assert row.split()[:3] == ["0", "4", "2"]


def test_narrow_tables_keep_every_letter_of_a_reason(graph):
    reason = next(group.protected for group in graph.groups if group.protected)
    letters = "".join(printed(layers_table(graph), width=40).split())
    assert all(word in letters for word in reason.split())


def test_the_prediction_says_what_is_gone():
    assert "-75.0 %" in printed(prediction_table(Cost(macs=100, params=50), Cost(macs=25, params=40)))


def test_groups_that_are_not_planned_for_stay_whole(graph):
    assert [(each.name, each.kept) for each in planned_groups(graph, {"0": [1, 3]})] == [("0", 2), ("2", 3)]


def test_what_is_not_a_terminal_gets_neither_colours_nor_folded_lines(capsys):
    open_console().print("[red]" + "x" * 300, style="bold red")
    assert capsys.readouterr().out == "[red]" + "x" * 300 + "\n"


def test_what_is_no_terminal_gets_no_blanks_at_the_ends_of_lines(graph, capsys):
    open_console().print(layers_table(graph))
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("  0 ") for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_channels_that_leave_at_once_are_counted_one_by_one(runs, graph):
    assert leave_together(runs)
    assert not leave_together(graph)
    row = next(line for line in printed(cost_table(runs, {"0": 2})).splitlines() if line.strip().startswith("0 "))
    assert row.split()[:4] == ["0", "12", "8", "4"]
    assert "at once" not in printed(cost_table(graph))
    record = planned_groups(runs, {"0": [0, 2]})[0]
    assert (record.size, record.kept, record.positions) == (12, 8, [0, 2])


def test_reasons_for_staying_whole_may_come_from_elsewhere(graph):
    reasons = {"0": "excluded by sparsity.exclude", "2": graph["2"].protected}
    assert "excluded by sparsity.exclude" in printed(layers_table(graph, reasons))
    assert [each.protected for each in planned_groups(graph, {}, reasons)] == list(reasons.values())


def test_names_are_whole_in_eighty_columns():
    graph = trace(torchvision_model("resnet50"), torch.zeros(1, 3, 32, 32))
    lines = printed(layers_table(graph, width=80), width=80).splitlines()
    names = {name for group in graph.groups for name in (group.name, *group.writers, *group.readers)}
    assert max(map(len, lines)) <= 80
    assert names <= {word for line in lines for word in line.split()}
