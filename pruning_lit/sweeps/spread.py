"""Jobs that differ in nothing but their seed, brought together: mean and sample standard deviation."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev

from pruning_lit.records.primary import Primary
from pruning_lit.sweeps.jobs import CHOICES, FINISHED, Row, settings_of

BUDGETS = tuple(f"sparsity.{each}" for each in ("reduction", "rate", "rates", "threshold"))
#: Of the result.
TELLS_NOTHING = ("name", "logger", "callbacks", "checkpoint", "latency", "shared", "objective", "allow_targets")


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of ``num`` values; one value has no deviation (None)."""

    mean: float
    deviation: float | None
    num: int


@dataclass(frozen=True)
class Combination:
    """Combination of choices and settings, with its jobs, as a rule one per seed.

    Attributes:
        key: the choices; the criterion is empty unless it tells combinations apart.
        settings: further overrides: those that tell combinations of one place apart, and the budget.
        rows: the jobs.
    """

    key: dict[str, str]
    settings: tuple[str, ...]
    rows: list[Row]

    @property
    def place(self) -> tuple[str, str]:
        """Network and data set; metrics of two places do not compare."""
        return self.key["arch"], self.key["dataset"]

    @property
    def primary(self) -> Primary:
        """The metric that stands for the task."""
        return self.rows[0]["metric"]

    @property
    def method(self) -> str:
        """The method, with its criterion where that tells combinations apart."""
        criterion = self.key["criterion"]
        return f"{self.key['method']} ({criterion})" if criterion else self.key["method"]

    @property
    def line(self) -> frozenset[str]:
        """The settings but those of the sparsity, which moves along a line of a picture."""
        return frozenset(each for each in self.settings if not each.startswith("sparsity."))

    @property
    def seeds(self) -> list[int]:
        """The seeds, ascending; a seed that was run twice is there twice."""
        return sorted(row["seed"] for row in self.rows)

    @property
    def noisy(self) -> bool:
        """True where a job has measured its latency, and it is too noisy to tell whether it has changed."""
        return any(row["latency_reduction"] is None and row["latency_ms"] is not None for row in self.rows)

    def spread(self, column: str) -> Spread | None:
        """Mean and deviation of a column over the seeds whose jobs know it; of a seed that was run twice the mean.

        Of the removed latency None where it is too noisy to tell in one of the jobs: a mean over the others, in which
        it happened to be large, would be too good.
        """
        if column == "latency_reduction" and self.noisy:
            return None
        values: dict[int, list[float]] = {}
        for row in self.rows:
            if row[column] is not None:
                values.setdefault(row["seed"], []).append(row[column])
        return spread(fmean(each) for each in values.values())


def spread(values: Iterable[float | None]) -> Spread | None:
    """Mean and sample standard deviation (divisor n - 1) of the values that are known; None when none is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(fmean(known), stdev(known) if len(known) > 1 else None, len(known))


def dense_spread(combinations: Iterable[Combination], column: str) -> Spread | None:
    """Mean and deviation of the dense networks; jobs share these, so what a seed has several times counts once.

    Args:
        combinations: of one place.
        column: one that ends in ``_before``.
    """
    runs = {(row["seed"], row[column]) for each in combinations for row in each.rows}
    return spread(value for _, value in runs)


def combine(rows: Iterable[Row]) -> list[Combination]:
    """The finished rows grouped by choices and settings; of what differs in its sparsity alone, the lightest cut first.

    Methods are sorted by name, their settings as they come.
    """
    groups: dict[tuple[tuple[str, ...], frozenset[str]], Combination] = {}
    for job in apart(rows):
        if job.rows[0]["status"] == FINISHED:
            same = (tuple(job.key.values()), frozenset(job.settings))
            groups.setdefault(same, Combination(job.key, job.settings, [])).rows.extend(job.rows)
    lines = {each.line: number for number, each in reversed(list(enumerate(groups.values())))}
    return sorted(groups.values(), key=lambda each: (_names(each), lines[each.line], _depth(each)))


def apart(rows: Iterable[Row]) -> list[Combination]:
    """Every job by itself, finished or not.

    What tells nothing apart is left out: settings that all jobs of a place share, and the only criterion of a method.
    """
    rows = list(rows)
    shared: dict[tuple[str, str], set[str]] = {}
    criteria: dict[str, set[str]] = {}
    for row in rows:
        words = set(settings_of(row))
        shared[_place(row)] = shared.get(_place(row), words) & words
        criteria.setdefault(row["method"], set()).add(row["criterion"])
    jobs = []
    for row in rows:
        named = row | ({} if len(criteria[row["method"]]) > 1 else {"criterion": ""})
        settings = tuple(word for word in settings_of(row) if _tells_apart(word, shared[_place(row)]))
        jobs.append(Combination({name: named[name] or "" for name in CHOICES}, settings, [row]))
    return jobs


def _place(row: Row) -> tuple[str, str]:
    return row["arch"], row["dataset"]


def _tells_apart(word: str, shared: set[str]) -> bool:
    """True for a setting that tells jobs apart; a budget always does, as it takes the place of the choice's."""
    name = word.split("=")[0]
    return name in BUDGETS or (word not in shared and name.split(".")[0] not in TELLS_NOTHING)


def _names(combination: Combination) -> tuple[str, ...]:
    return tuple(combination.key[name] for name in ("arch", "dataset", "method", "criterion"))


def _depth(combination: Combination) -> float:
    gone = combination.spread("macs_reduction")
    return gone.mean if gone else 0.0
