"""Labels of a sweep's combinations in tables and pictures, as brief as tells them apart."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pruning_lit.reports.wording import UNKNOWN
from pruning_lit.sweeps.spread import BUDGETS, Combination

LONGEST_VALUE = 32  # letters; of a longer path its last part is told


@dataclass(frozen=True)
class Label:
    """The name of one combination.

    Attributes:
        method: with its criterion where that tells combinations apart.
        sparsity: the choice, or the budget that takes its place, such as ``reduction=0.3``.
        settings: further overrides that tell combinations apart; empty where there are none.
    """

    method: str
    sparsity: str
    settings: str

    @property
    def series(self) -> str:
        """The line of a picture that the combination is on: all but its sparsity."""
        return ", ".join(filter(None, (self.method, self.settings)))

    def __str__(self) -> str:
        parts = (self.method, self.sparsity, self.settings)
        return ", ".join(part for part in parts if part not in ("", UNKNOWN)) or UNKNOWN


def by_place(combinations: Iterable[Combination]) -> dict[str, list[tuple[Label, Combination]]]:
    """Network and data set, in words, to what was tried there, each with its label."""
    places: dict[tuple[str, str], list[Combination]] = {}
    for each in combinations:
        places.setdefault(each.place, []).append(each)
    return {
        " on ".join(filter(None, place)) or UNKNOWN: list(zip(labels(members), members, strict=True))
        for place, members in places.items()
    }


def labels(combinations: Iterable[Combination]) -> list[Label]:
    """A label for each combination of one place; in full where the short ones would be the same."""
    combinations = list(combinations)
    short = [_label(each, short=True) for each in combinations]
    counted = Counter(short)
    return [
        label if counted[label] == 1 else _label(each, short=False)
        for label, each in zip(short, combinations, strict=True)
    ]


def _label(combination: Combination, short: bool) -> Label:
    own = [each for each in combination.settings if each.startswith("sparsity.")]
    choice = [] if short and any(each.split("=")[0] in BUDGETS for each in own) else [combination.key["sparsity"]]
    others = [_setting(each, short) for each in combination.settings if each not in own]
    sparsity = [*choice, *(_setting(each.removeprefix("sparsity."), short) for each in own)]
    return Label(combination.method or UNKNOWN, ", ".join(filter(None, sparsity)) or UNKNOWN, ", ".join(others))


def _setting(word: str, short: bool) -> str:
    name, _, value = word.partition("=")
    return f"{name}=…/{value.rsplit('/', 1)[1]}" if short and "/" in value and len(value) > LONGEST_VALUE else word
