"""Tables of the channel groups of a network: what they cost, and which layers they join."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table

from pruning_lit.channels import ChannelGraph, Cost, cost, cost_of_widths
from pruning_lit.report.record import GroupRecord
from pruning_lit.report.wording import amount, change, percent

CONVENTION = """\
Each: what goes with one channel of the group while everything else stays.
At most: the share of the whole network's MACs that goes when one channel of the group is left.
MACs: multiply-accumulates of convolutions and linear layers for one picture."""


@dataclass(frozen=True)
class GroupCost:
    """What removing channels of one group saves in the otherwise whole network.

    Attributes:
        macs, params: with one channel.
        most: share of the network's multiply-accumulates that goes when one channel is left, 0 to 1.
    """

    macs: int
    params: int
    most: float


def group_costs(graph: ChannelGraph) -> dict[str, GroupCost]:
    """The cost of every group by its name; of protected groups, too: what it would be worth to free them."""
    whole = cost(graph)
    costs = {}
    for group in graph.groups:
        less, least = (cost_of_widths(graph, {group.name: width}) for width in (group.size - 1, 1))
        most = 1 - least.macs / whole.macs if whole.macs else 0.0
        costs[group.name] = GroupCost(whole.macs - less.macs, whole.params - less.params, most)
    return costs


def cost_table(graph: ChannelGraph, widths: Mapping[str, int] | None = None) -> Table:
    """One row per group: channels, what stays of them where ``widths`` are given, and what they cost."""
    table = Table(title="Channel groups", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("group", no_wrap=True, overflow="fold")
    stays = [] if widths is None else ["stay"]
    for heading in ("channels", *stays, "MACs each", "parameters each", "MACs at most"):
        table.add_column(heading, justify="right", overflow="fold")
    for (name, each), group in zip(group_costs(graph).items(), graph.groups, strict=True):
        stay = [] if widths is None else [str(widths.get(name, group.size))]
        table.add_row(name, str(group.size), *stay, amount(each.macs), amount(each.params), percent(each.most, 1))
    return table


def layers_table(graph: ChannelGraph) -> Table:
    """One row per group: the layers that write its channels, those that read them, and why it is protected."""
    table = Table(title="Who writes and who reads them", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("group", "written by", "read by", "protected, because"):
        table.add_column(heading, overflow="fold")
    for group in graph.groups:
        table.add_row(group.name, " ".join(group.writers), " ".join(group.readers), group.protected or "")
    return table


def prediction_table(dense: Cost, pruned: Cost) -> Table:
    """Parameters and MACs before and after a cut that has not been made."""
    table = Table("", title="Predicted", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right")
    for label, before, after in (
        ("parameters", dense.params, pruned.params),
        ("MACs", dense.macs, pruned.macs),
    ):
        table.add_row(label, amount(before), amount(after), change(before, after))
    return table


def planned_groups(graph: ChannelGraph, kept: Mapping[str, list[int]]) -> list[GroupRecord]:
    """What will become of every group, for the picture of the widths."""
    records = []
    for group in graph.groups:
        positions = kept.get(group.name, list(range(group.size)))
        records.append(GroupRecord(group.name, group.size, len(positions), group.protected, positions))
    return records
