"""Sensitivity of the groups: what a network loses when one of them alone gets narrower."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from pruning_lit.channels import ChannelGroup
from pruning_lit.records.primary import Primary
from pruning_lit.sparsity.rates import width_after
from pruning_lit.sparsity.trials import Trial, Trials

ROUNDS = 2  # trials per group
TOLERATED = 0.05  # share of the metric
EMPTY = 1.0  # drop from the narrowest width that was tried to none at all; of a loss in nats, or of all of a metric


class Point(NamedTuple):
    """A network in which one group was narrowed.

    Attributes:
        width: positions that stay.
        trial: its outcome.
        drop: how much worse it is than the whole network, in the unit of ``Drops``; negative where it is better.
        lost: share of the whole network's metric that is lost; negative where it is better.
    """

    width: int
    trial: Trial
    drop: float
    lost: float


@dataclass(frozen=True)
class Sensitivity:
    """Sensitivity of one group.

    Attributes:
        size: positions of the group.
        points: outcomes, widths descending.
        power: to which drops are raised before they are added up with those of other groups; above 1 none loses much.
    """

    size: int
    points: Sequence[Point]
    power: float = 1.0

    @cached_property
    def hull(self) -> list[tuple[int, float]]:
        """Widths, descending from all to none, with drops that never fall on the way; the last one is assumed."""
        curve = [(self.size, 0.0)]
        for point in self.points:
            curve.append((point.width, max(point.drop, curve[-1][1])))
        return [(width, drop**self.power) for width, drop in [*curve, (0, curve[-1][1] + EMPTY)]]

    def drop(self, width: int) -> float:
        """Drop, raised, at a width from 0 to ``size``, on straight lines between the points."""
        lines = pairwise(self.hull)
        (wider, before), (narrower, after) = next(line for line in lines if width >= line[1][0])
        return before + (after - before) * (wider - width) / (wider - narrower)


class Drops:
    """Drop of networks below the whole one: of their loss, or, where there is none, of the primary metric.

    A loss tells networks apart that answer alike, so it is less a matter of chance on few examples.
    """

    def __init__(self, whole: Trial, primary: Primary) -> None:
        self.whole, self.sign = whole, 1 if primary.higher_is_better else -1

    def of(self, trial: Trial) -> float:
        """Drop of one network."""
        if trial.loss is not None and self.whole.loss is not None:
            return trial.loss - self.whole.loss
        return self.sign * (self.whole.metric - trial.metric)

    def lost(self, trial: Trial) -> float:
        """Share of the whole network's metric that is lost."""
        return self.sign * (self.whole.metric - trial.metric) / max(abs(self.whole.metric), 1e-12)


class Probe:
    """Trial cuts in which one group alone is narrowed.

    Args:
        trials: of the network.
        groups: those of which channels may go.
        allowed: widths within the limits of a budget, for widths asked for.
        drops: unit of the outcomes.
    """

    def __init__(
        self,
        trials: Trials,
        groups: Sequence[ChannelGroup],
        allowed: Callable[[Mapping[str, int]], Mapping[str, int]],
        drops: Drops,
    ) -> None:
        self.trials, self.groups, self.allowed, self.drops = trials, groups, allowed, drops
        self.points: dict[str, dict[int, Point]] = {group.name: {} for group in groups}

    def try_shares(self, shares: Mapping[str, Fraction]) -> dict[str, Point]:
        """Outcomes where these shares of groups go; groups whose width the limits keep have none."""
        widths = {
            group.name: self.allowed({group.name: width_after(group.size, shares[group.name])})[group.name]
            for group in self.groups
            if group.name in shares
        }
        narrower = {
            group.name: widths[group.name] for group in self.groups if widths.get(group.name, group.size) < group.size
        }
        outcomes = self.trials.of([self.allowed({name: width}) for name, width in narrower.items()])
        found = {
            name: Point(width, trial, self.drops.of(trial), self.drops.lost(trial))
            for (name, width), trial in zip(narrower.items(), outcomes, strict=True)
        }
        for name, point in found.items():
            self.points[name][point.width] = point
        return found

    @property
    def sensitivities(self) -> dict[str, Sensitivity]:
        """Sensitivities as found so far, by group."""
        ordered = {
            name: [points[width] for width in sorted(points, reverse=True)] for name, points in self.points.items()
        }
        return {group.name: Sensitivity(group.size, ordered[group.name]) for group in self.groups}


def at_shares(probe: Probe, shares: Sequence[Fraction], stop_at: float) -> dict[str, Sensitivity]:
    """Sensitivities at the same shares of all groups.

    Args:
        probe: makes the trials.
        shares: that go, ascending.
        stop_at: share of the metric that is lost, from which on a group is not narrowed further.
    """
    left = [group.name for group in probe.groups]
    for share in shares:
        found = probe.try_shares(dict.fromkeys(left, share))
        left = [name for name in left if name not in found or found[name].lost < stop_at]
    return probe.sensitivities


def by_bisection(probe: Probe, rounds: int = ROUNDS, tolerated: float = TOLERATED) -> dict[str, Sensitivity]:
    """Sensitivities around the width at which a tolerated share of the metric is lost, which is bisected.

    A budget's widths lie there for most groups, so few trials tell nearly as much as many.

    Args:
        probe: makes the trials.
        rounds: trials per group; the first removes half of it.
        tolerated: that share.
    """
    between = {group.name: (Fraction(0), Fraction(1)) for group in probe.groups}
    for _ in range(rounds):
        middle = {name: (least + most) / 2 for name, (least, most) in between.items()}
        found = probe.try_shares(middle)
        for name, (least, most) in between.items():
            kept = name not in found or found[name].lost <= tolerated
            between[name] = (middle[name], most) if kept else (least, middle[name])
    return probe.sensitivities
