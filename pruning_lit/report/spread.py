"""Jobs that differ in nothing but their seed, brought together: mean and sample standard deviation."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev

from pruning_lit.report.jobs import CHOICES, FINISHED, Row

KEY = (*CHOICES, "settings")


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of ``num`` values; one value has no deviation (None)."""

    mean: float
    deviation: float | None
    num: int


@dataclass(frozen=True)
class Combination:
    """What was asked for (``key``: the choices and settings), and its finished jobs, one per seed."""

    key: dict[str, str]
    rows: list[Row]

    @property
    def method(self) -> str:
        """The method, with its criterion where that tells combinations apart."""
        criterion = self.key["criterion"]
        return f"{self.key['method']} ({criterion})" if criterion else self.key["method"]

    @property
    def seeds(self) -> list[int]:
        """The seeds, ascending; a seed that was run twice is there twice."""
        return sorted(row["seed"] for row in self.rows)

    def spread(self, column: str) -> Spread | None:
        """Mean and deviation of a column over the jobs that know it."""
        return spread(row[column] for row in self.rows)


def spread(values: Iterable[float | None]) -> Spread | None:
    """Mean and sample standard deviation (divisor n - 1) of the values that are known; None when none is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(fmean(known), stdev(known) if len(known) > 1 else None, len(known))


def combine(rows: Iterable[Row]) -> list[Combination]:
    """The finished rows grouped by choices and settings; of a method, the lightest cut first.

    What tells nothing apart is left out of the keys: settings that all jobs share, the only criterion of a method.
    """
    finished = [row for row in rows if row["status"] == FINISHED]
    shared = set.intersection(*(set(row["settings"].split()) for row in finished)) if finished else set()
    criteria: dict[str, set[str]] = {}
    for row in finished:
        criteria.setdefault(row["method"], set()).add(row["criterion"])
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in finished:
        settings = " ".join(each for each in row["settings"].split() if each not in shared)
        named = row | {"settings": settings} | ({} if len(criteria[row["method"]]) > 1 else {"criterion": ""})
        groups.setdefault(tuple(named[name] or "" for name in KEY), []).append(row)
    found = [Combination(dict(zip(KEY, values, strict=True)), members) for values, members in groups.items()]
    return sorted(found, key=_rank)


def _rank(combination: Combination) -> tuple[tuple[str, ...], float]:
    gone = combination.spread("macs_reduction")
    names = tuple(combination.key[name] for name in ("arch", "dataset", "method", "criterion"))
    return names, gone.mean if gone else 0.0
