"""Tables of the channel groups of a network: what they cost, and which layers they join."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table

from pruning_lit.channels import ChannelGraph, ChannelGroup, Cost, cost, cost_of_widths
from pruning_lit.reports.console import UNBOUNDED, column_widths
from pruning_lit.reports.record import GroupRecord
from pruning_lit.reports.wording import amount, change, percent

CONVENTION = """\
Each: what goes with one channel of the group while everything else stays.
At most: the share of the whole network's MACs that goes when one channel of the group is left.
MACs: multiply-accumulates of convolutions and linear layers for one image."""
TOGETHER = "At once: so many channels of the group can only leave together, and count as one in the columns beside it."

FRAME = 2 + 3 * 2  # blanks at the edges of such a table of four columns, and between them


@dataclass(frozen=True)
class GroupCost:
    """Savings by removing channels of one group from the otherwise whole network.

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


def rewritten_numbers(graph: ChannelGraph) -> str:
    """A sentence on the widths that modules keep as numbers, for people; empty where none do."""
    names = dict.fromkeys(f"{number.module}.{number.name}".lstrip(".") for number in graph.numbers)
    return f"Numbers of modules that are rewritten with their widths: {', '.join(names)}." if names else ""


def cost_table(graph: ChannelGraph, widths: Mapping[str, int] | None = None) -> Table:
    """One row per group: channels, what stays of them where ``widths`` are given, and what they cost.

    Args:
        graph: of the network.
        widths: positions that stay, by group, as in ``Plan.widths``; groups that are not named stay whole.
    """
    table = Table(title="Channel groups", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("group", no_wrap=True, overflow="fold")
    stays = [] if widths is None else ["stay"]
    several = ["at once"] if leave_together(graph) else []
    for heading in ("channels", *stays, *several, "MACs each", "parameters each", "MACs at most"):
        table.add_column(heading, justify="right", overflow="fold")
    for (name, each), group in zip(group_costs(graph).items(), graph.groups, strict=True):
        multiplicity = group.multiplicity
        stay = [str(widths.get(name, group.size) * multiplicity)] if widths is not None else []
        together = [str(multiplicity)] if several else []
        costs = (amount(each.macs), amount(each.params), percent(each.most, 1))
        table.add_row(name, str(group.size * multiplicity), *stay, *together, *costs)
    return table


def leave_together(graph: ChannelGraph) -> bool:
    """Return true where in some group several output channels of a layer can only leave together."""
    return any(group.multiplicity > 1 for group in graph.groups)


def layers_table(graph: ChannelGraph, reasons: Mapping[str, str | None] | None = None, width: int = UNBOUNDED) -> Table:
    """One row per group: the layers that write its channels, those that read them, and why it stays whole.

    Args:
        graph: of the network.
        reasons: why groups stay whole, by name; ``None``: as the graph has it.
        width: columns of the console; names are broken only where they cannot be fitted in whole.
    """
    table = Table(title="Who writes and who reads them", title_justify="left", box=SIMPLE_HEAD)
    whole = {group.name: group.protected for group in graph.groups} if reasons is None else reasons
    headings = ["group", "written by", "read by", "protected, because"]
    rows = [
        [group.name, " ".join(group.writers), " ".join(group.readers), whole.get(group.name) or ""]
        for group in graph.groups
    ]
    for heading, room in zip(headings, column_widths([headings, *rows], width - FRAME), strict=True):
        table.add_column(heading, overflow="fold", max_width=room)
    for row in rows:
        table.add_row(*row)
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


def planned_groups(
    graph: ChannelGraph, kept: Mapping[str, list[int]], reasons: Mapping[str, str | None] | None = None
) -> list[GroupRecord]:
    """Records of every group after a planned cut, to be drawn; ``reasons`` as for ``layers_table``."""
    whole = {group.name: group.protected for group in graph.groups} if reasons is None else reasons
    return [
        group_record(group, kept.get(group.name, list(range(group.size))), whole.get(group.name))
        for group in graph.groups
    ]


def group_record(group: ChannelGroup, positions: list[int], protected: str | None) -> GroupRecord:
    """Record of a group of which ``positions`` stay, counted in output channels of the layer it is named after.

    Args:
        group: before any cut.
        positions: ascending.
        protected: why it stays whole, if it must.
    """
    size, kept = (each * group.multiplicity for each in (group.size, len(positions)))
    return GroupRecord(group.name, size, kept, protected, positions)
