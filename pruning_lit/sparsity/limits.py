"""Limits of every budget: names that stay whole, rates of single groups, floors, multiples, and groups emptied."""

import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Literal, get_args

from pruning_lit.channels import ChannelGraph, ChannelGroup
from pruning_lit.sparsity.dense import DenseCost
from pruning_lit.sparsity.rates import parse_rate, parse_share

EXCLUDED = "excluded by sparsity.exclude"
OnEmpty = Literal["floor", "error", "remove"]


class Limits:
    """Limits of pruning: the groups that may be narrowed, how far, and to which widths.

    Where several output channels of a layer can only leave together (``ChannelGroup.multiplicity``), all numbers here
    are of output channels, while the methods take and give widths as the graph counts them.

    Args:
        min_channels: channels that stay in every group; a group that has fewer stays whole.
        min_share: share of its dense width, in [0, 1), that stays in every group; a part of a channel counts as one.
        round_to: widths become multiples of this. They are rounded up, so that rounding never takes a channel away;
            where the next multiple is more than the group has, the group keeps all its channels, and the plan says so.
        exclude: patterns (``layer3.*``) of group names that are left whole.
        part: path of a module, as the ``backbone`` of a detector: channels that are made in it go, all others stay, and
            a budget of multiply-accumulates counts those in it alone.
        overrides: a pattern of group names to the share of the dense width that is removed there, in [0, 1), instead
            of what the budget says. Of several patterns that match a group the last counts. Floors and multiples hold
            for these groups, too, and what is excluded stays whole. A budget for the network as a whole is met by the
            whole: the other groups give what these do not.
        on_empty: what happens where the budget would take all channels of a group. ``floor``: its floors hold, as
            everywhere. ``error``: nothing is cut, and all such groups are named. ``remove``: where that makes a whole
            residual branch zero, the branch is taken out; elsewhere as ``floor``.

    Raises:
        ValueError: a value is outside its range.
    """

    def __init__(
        self,
        min_channels: int = 1,
        min_share: float | str = 0,
        round_to: int = 1,
        exclude: Sequence[str] = (),
        overrides: Mapping[str, float | str] | None = None,
        on_empty: OnEmpty = "floor",
        part: str | None = None,
    ) -> None:
        self.min_channels, self.round_to = _count(min_channels, "min_channels"), _count(round_to, "round_to")
        self.min_share = parse_share(min_share, "sparsity.min_share", "the share of its dense width that stays")
        if isinstance(exclude, str):
            raise ValueError(f"sparsity.exclude must be a list of patterns such as [layer3.*], got {exclude!r}")
        if not isinstance(overrides, Mapping | None):
            raise ValueError(
                f"sparsity.overrides must map patterns to rates such as {{layer1.*: 0.2}}, got {overrides!r}"
            )
        if on_empty not in get_args(OnEmpty):
            raise ValueError(f"sparsity.on_empty must be one of {list(get_args(OnEmpty))}, got {on_empty!r}")
        if not isinstance(part, str | None):
            raise ValueError(f"sparsity.part must be the path of a module such as backbone, got {part!r}")
        self.on_empty, self.part = on_empty, part
        self.exclude = [str(pattern) for pattern in exclude]
        self.overrides = {
            str(pattern): parse_rate(rate, f"sparsity.overrides: the rate of {str(pattern)!r},")
            for pattern, rate in (overrides or {}).items()
        }

    def __str__(self) -> str:
        """Limits that are set, as on a command line."""
        parts = [f"min_channels={self.min_channels}"]
        if self.min_share:
            parts.append(f"min_share={float(self.min_share):g}")
        if self.round_to > 1:
            parts.append(f"round_to={self.round_to}")
        if self.exclude:
            parts.append(f"exclude=[{', '.join(self.exclude)}]")
        if self.part:
            parts.append(f"part={self.part}")
        if self.overrides:
            rates = ", ".join(f"{pattern}: {float(rate):g}" for pattern, rate in self.overrides.items())
            parts.append(f"overrides={{{rates}}}")
        return ", ".join(parts)

    def eligible(self, graph: ChannelGraph) -> list[ChannelGroup]:
        """The groups that are neither protected nor excluded; ValueError where a pattern matches none."""
        _require_known("exclude", self.exclude, graph)
        return [group for group in graph.groups if self.why_whole(group) is None]

    def why_whole(self, group: ChannelGroup) -> str | None:
        """Why no channel of the group may go, in words; None where some may."""
        outside = self.part is not None and not f"{group.name.partition('#')[0]}.".startswith(f"{self.part}.")
        reason = f"it is outside of sparsity.part={self.part}" if outside else None
        return group.protected or (EXCLUDED if _matching(group.name, self.exclude) else reason)

    def rates(self, graph: ChannelGraph) -> dict[str, Fraction]:
        """The rates of the groups that have one of their own.

        Raises:
            ValueError: a pattern matches no group, or only groups that are protected or excluded.
        """
        _require_known("overrides", self.overrides, graph)
        rates = {}
        for group in self.eligible(graph):
            if patterns := _matching(group.name, self.overrides):
                rates[group.name] = self.overrides[patterns[-1]]
        for pattern in self.overrides:
            if not any(_matching(name, [pattern]) for name in rates):
                whole = {g.name: self.why_whole(g) for g in graph.groups if _matching(g.name, [pattern])}
                raise ValueError(f"sparsity.overrides: what {pattern!r} matches has to stay whole: {whole}")
        return rates

    def floored(self, group: ChannelGroup, dense: DenseCost, width: int) -> int:
        """``width``, or what the floors allow where that is more."""
        least = math.ceil(Fraction(self.min_channels, group.multiplicity))
        return min(group.size, max(width, least, math.ceil(self.min_share * dense.sizes[group.name])))

    def fit(self, group: ChannelGroup, dense: DenseCost, width: int) -> int:
        """The width that the group gets when ``width`` is asked for: not below the floors, a multiple if possible."""
        step = self.round_to // math.gcd(self.round_to, group.multiplicity)
        return min(group.size, math.ceil(Fraction(self.floored(group, dense, width), step)) * step)

    def why_floored(self, group: ChannelGroup, dense: DenseCost, width: int) -> str | None:
        """The floor that allows no less than it does, where that is more than ``width``; else None."""
        if self.floored(group, dense, width) <= width:
            return None
        if self.min_channels >= self.min_share * dense.sizes[group.name] * group.multiplicity:
            return f"min_channels={self.min_channels}"
        return f"min_share={float(self.min_share):g}"

    def why_unrounded(self, group: ChannelGroup, dense: DenseCost, width: int) -> str | None:
        """Why the group's width is no multiple, in words; None where it is one."""
        if self.fit(group, dense, width) * group.multiplicity % self.round_to == 0:
            return None
        size, least = (each * group.multiplicity for each in (group.size, self.floored(group, dense, width)))
        return f"has {size} channels, of which at least {least} were to stay"


def emptied(target: Mapping[str, int]) -> list[str]:
    """Names of the groups of which nothing is to stay."""
    return [name for name, width in target.items() if width == 0]


def removed_branches(graph: ChannelGraph, target: Mapping[str, int], on_empty: OnEmpty) -> dict[str, list[str]]:
    """The residual branches that are to be taken out: their paths to the names of their groups.

    Of a branch whose last convolution reads nothing any more only zeros are left to be added; all its groups go, so all
    must be among those that may.
    """
    if on_empty != "remove":
        return {}
    ended = [branch for branch in graph.branches if target.get(branch.end) == 0 and target.keys() >= {*branch.groups}]
    return {branch.path: list(branch.groups) for branch in ended}


def _count(value: int, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"sparsity.{name} must be a whole number of at least 1, got {value!r}")
    return value


def _matching(name: str, patterns: Iterable[str]) -> list[str]:
    return [pattern for pattern in patterns if fnmatchcase(name, pattern)]


def _require_known(option: str, patterns: Iterable[str], graph: ChannelGraph) -> None:
    names = [group.name for group in graph.groups]
    for pattern in patterns:
        if not any(_matching(name, [pattern]) for name in names):
            raise ValueError(f"sparsity.{option}: no group is called {pattern!r}; the groups are {names}")
