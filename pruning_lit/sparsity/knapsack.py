"""Knapsack: widths that keep the largest sum of scores for what the network may cost."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Widths = Mapping[str, int]
Floats = NDArray[np.float64]
UNITS = 10_000  # of the cost, in which the packing counts
ROUNDS = 8  # in which the cost of a width is taken anew, as it depends on the widths of the other groups
POINTS = 33  # widths of a group whose cost is counted in a round; on the lines between them are those of the others


class Choice(NamedTuple):
    """The widths among which a group has one.

    Attributes:
        widths: ascending.
        values: of each, not falling.
        costs: of each, not falling.
    """

    widths: list[int]
    values: Floats
    costs: Floats


class Packing:
    """The widths of the largest value for every budget up to a largest one: one width of each group.

    Costs count in ten-thousandths of the room that the largest budget leaves above the smallest widths, rounded up, so
    that the widths found never cost more than a budget.

    Args:
        choices: of each group.
        budget: the largest one.

    Source: the multiple-choice knapsack problem, by dynamic programming; for channels Shen et al. 2022, "Structural
    Pruning via Latency-Saliency Knapsack" (HALP, arXiv 2210.06659), section 3.
    """

    def __init__(self, choices: Mapping[str, Choice], budget: float) -> None:
        self.choices = choices
        self.least = sum(float(each.costs[0]) for each in choices.values())
        self.unit = max(budget - self.least, 0.0) / UNITS
        self.units = {name: self._units(choice) for name, choice in choices.items()}
        best, self.chosen = np.zeros(UNITS + 1), dict[str, NDArray[np.intp]]()
        for name, choice in choices.items():
            best, self.chosen[name] = _with(best, choice.values, self.units[name])

    def _units(self, choice: Choice) -> list[int]:
        more = choice.costs - choice.costs[0]
        if self.unit == 0:
            return [0 if each <= 0 else UNITS + 1 for each in more]
        return [int(each) for each in np.ceil(more / self.unit * (1 - 1e-12))]

    def widths(self, units: int = UNITS) -> dict[str, int]:
        """Width of each group for a budget of so many units above the cost of the smallest widths."""
        widths = {}
        for name in reversed(list(self.choices)):
            place = int(self.chosen[name][units])
            widths[name] = self.choices[name].widths[place]
            units -= self.units[name][place]
        return {name: widths[name] for name in self.choices}


def _with(best: Floats, values: Floats, units: Sequence[int]) -> tuple[Floats, NDArray[np.intp]]:
    """The largest values with one more group, and the place of its width, for every number of units."""
    most, places = np.full(UNITS + 1, -np.inf), np.zeros(UNITS + 1, dtype=np.intp)
    for place, needed in enumerate(units):
        if needed > UNITS:
            break
        found = best[: UNITS + 1 - needed] + values[place]
        better = found >= most[needed:]  # of equal values the wider one, where the budget has room for it
        np.copyto(most[needed:], found, where=better)
        np.copyto(places[needed:], place, where=better)
    return most, places


class Knapsack:
    """Widths of one network by the sum of the scores that they keep, and by what they cost together.

    What a width costs depends on those of the groups around it, so the way to the target is gone in rounds. In each,
    costs are those of one group's width while all others stay as they are, and the largest packing is taken whose
    network truly costs no more than the round allows.

    Args:
        scores: of the channels of each group, not negative.
        allowed: widths that each group can have, ascending, the present one the last.
        cost: of a network of given widths.
    """

    def __init__(
        self, scores: Mapping[str, Sequence[float]], allowed: Mapping[str, list[int]], cost: Callable[[Widths], float]
    ) -> None:
        self.allowed, self.cost = allowed, cost
        self.values = {name: np.cumsum([0.0, *sorted(each, reverse=True)]) for name, each in scores.items()}

    @property
    def narrowest(self) -> dict[str, int]:
        """The smallest widths."""
        return {name: each[0] for name, each in self.allowed.items()}

    def within(self, present: Widths, target: float, late: Sequence[str], least: float) -> dict[str, int]:
        """The widths that keep most and cost no more than the target; the narrowest where it is out of reach.

        Args:
            present: widths of the network as it is.
            target: cost that is to be left at most.
            late: groups that lose channels only where all others together would be left with fewer than ``least``.
            least: that number of channels.
        """
        widths, cost = dict(present), self.cost(present)
        if cost <= target:
            return widths
        for step in range(ROUNDS):
            wanted = target + (cost - target) * (ROUNDS - 1 - step) / ROUNDS
            found = self.narrowed(widths, wanted, whole=late)
            if found is None or sum(width for name, width in found.items() if name not in late) < least:
                found = self.narrowed(widths, wanted) or self.narrowest
            widths = found
        if all(widths[name] == present[name] for name in late):  # rounds took whole channels, and so too many
            exchanged = self.narrowed(widths, target, whole=late, back=True) or widths
            widths = max(widths, exchanged, key=self.worth)
        return widths

    def worth(self, widths: Widths) -> float:
        """The sum of the scores that stay with these widths."""
        return sum(float(self.values[name][width]) for name, width in widths.items())

    def narrowed(
        self, widths: Widths, target: float, whole: Sequence[str] = (), back: bool = False
    ) -> dict[str, int] | None:
        """The widths, narrower ones among them, that keep most and cost no more than the target.

        Args:
            widths: present ones.
            target: cost that is to be left at most.
            whole: groups that stay as they are.
            back: groups may get wider, too.

        Returns:
            None where the target is out of reach.
        """
        choices = {name: self._choice(widths, name, back) for name in widths if name not in whole}
        fits = lambda found: self.cost({**widths, **found}) <= target  # noqa: E731
        if not fits({name: each.widths[0] for name, each in choices.items()}):
            return None
        packing = Packing(choices, sum(float(each.costs[-1]) for each in choices.values()))
        low, high = 0, UNITS + 1  # the network of so many units fits; that one is too large
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(packing.widths(middle)) else (low, middle)
        found = packing.widths(low)  # of widths of one cost the wider, which together may cost more after all
        return {**widths, **(found if low or fits(found) else {name: each.widths[0] for name, each in choices.items()})}

    def _choice(self, widths: Widths, name: str, back: bool) -> Choice:
        options = [each for each in self.allowed[name] if back or each <= widths[name]]
        places = np.unique(np.linspace(0, len(options) - 1, POINTS).round().astype(int))
        counted = [self.cost({**widths, name: options[place]}) for place in places]
        costs = np.interp(np.arange(len(options)), places, np.maximum.accumulate(counted))
        return Choice(options, self.values[name][options], costs)
