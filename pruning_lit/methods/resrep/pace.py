"""Whether a run is long enough for its rows to be forgotten, and the pace that fits a run.

A compactor is the square matrix behind a convolution whose rows stand for its channels. A row that is masked feels
nothing but a pull of constant length along itself, so under SGD with momentum its norm, 1 at the start, falls by
``rate * pull / (1 - momentum)`` per step. It shoots past zero and rings there, within a width in proportion to
``rate * pull``, until the rate has come down. Three rules follow: masks end early, rows can travel far enough
afterwards, and the rate ends low.

Source: Ding et al. 2021 (ResRep) for the mechanism; the numbers of the rules are measured on rows simulated one by one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import torch
from torch import Tensor

LATEST_END = 0.4  # share of the run by which masking should have ended
PLANNED_END = 0.25  # the share that `fit` plans for: which rows go is only estimated before, so half as many more fit
LATEST_START = 0.05  # share of the run
TRAVEL = 2.0  # norms: one for the row to reach zero, one in reserve for longer rows and for the momentum to build up
SHORTEST_INTERVAL = 10  # steps; below it scores hardly change between two updates, so more rows at once are no worse
RING_DOWN = 0.7  # momenta, 1 / (1 - momentum) steps, by which a swing is e times smaller; measured
MOST_SAMPLES = 20_000  # of a learning rate given as a function: ten milliseconds


@dataclass(frozen=True)
class Pace:
    """How hard rows are pulled and how fast they are masked; all counts are optimizer steps.

    Args:
        pull: length of the pull on every row, the paper's lambda.
        start: steps before the masks begin to grow; the first update comes ``interval`` steps later.
        interval: steps between two updates of the masks.
        granularity: rows by which the masks grow at every update.
    """

    pull: float
    start: int
    interval: int
    granularity: int

    def __post_init__(self) -> None:
        if not 0 < self.pull < math.inf:
            raise ValueError(f"pull is the length of the pull on every row, a number above 0, got {self.pull!r}")
        if self.start < 0:
            raise ValueError(f"start is the number of steps before the masks, at least 0, got {self.start!r}")
        if self.interval < 1 or self.granularity < 1:
            raise ValueError(
                "interval (steps between two updates of the masks) and granularity (rows more at each) must be at "
                f"least 1, got {self.interval!r} and {self.granularity!r}"
            )

    def masking_ends(self, num_rows: int) -> int:
        """The step before which the masks have grown to that many rows, counted from 0."""
        return self.start + self.interval * math.ceil(num_rows / self.granularity)

    def overrides(self, steps_per_epoch: Fraction | int, phase: str = "gradient_reset") -> str:
        """The pace as settings for the command line, ``start`` in epochs."""
        masks = f"{phase}.callbacks.masks"
        return (
            f"{phase}.pull={self.pull:g} {masks}.start={float(self.start / steps_per_epoch):.6g} "
            f"{masks}.interval={self.interval} {masks}.granularity={self.granularity}"
        )


@dataclass(frozen=True, eq=False)
class Run:
    """What the movement of rows depends on besides the pace.

    Args:
        rates: learning rate of the compactors at evenly spaced steps from first to last, ``(samples,)``.
        momentum: of the compactors.
        threshold: norm below which a row counts as forgotten.
        spacing: steps from one sample to the next; 1 where there is a rate for every step.
    """

    rates: Tensor
    momentum: float
    threshold: float
    spacing: float = 1.0

    def __post_init__(self) -> None:
        if self.rates.ndim != 1 or not len(self.rates):
            raise ValueError(f"expected one learning rate per step, got a tensor of shape {tuple(self.rates.shape)}")
        if not bool(torch.isfinite(self.rates).all()) or float(self.rates.min()) < 0 or float(self.rates.max()) == 0:
            raise ValueError("learning rates must be finite, at least 0 and not 0 throughout the run")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"the momentum of the compactors must be at least 0 and below 1, got {self.momentum!r}")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is a norm between 0 and the 1 that rows start with, got {self.threshold!r}")
        object.__setattr__(self, "rates", self.rates.detach().to("cpu", torch.float64))

    @classmethod
    def of(cls, rate: Callable[[int], float], num_steps: int, momentum: float, threshold: float) -> "Run":
        """The run of a learning rate given as a function of the step; of a long run only samples are looked at."""
        if num_steps < 1:
            raise ValueError(f"a run has at least 1 optimizer step, got {num_steps!r}")
        samples = min(num_steps, MOST_SAMPLES)
        steps = [round(k * (num_steps - 1) / max(1, samples - 1)) for k in range(samples)]
        rates = torch.tensor([rate(step) for step in steps], dtype=torch.float64)
        return cls(rates, momentum, threshold, num_steps / samples)

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the run."""
        return round(len(self.rates) * self.spacing)

    def longer(self, factor: float) -> "Run":
        """The run with the same course of the rate, stretched."""
        return replace(self, spacing=self.spacing * factor)

    def reach(self, step: float) -> float:
        """How far a row masked at that step can travel until the end, in norms per unit of the pull."""
        rest = self.rates[math.ceil(step / self.spacing) :]
        return float(rest.sum()) * self.spacing / (1 - self.momentum)

    @property
    def swing(self) -> float:
        """How far rows swing about zero at worst while the rate is constant, in units of ``rate * pull``: 50 at 0.99.

        Measured on a thousand rows: 44 at a momentum of 0.99, 5.4 at 0.9, 1.6 at 0.5, 1 at 0.
        """
        return max(2.0, 0.5 / (1 - self.momentum))

    @cached_property
    def residue(self) -> float:
        """The largest norm at which rows end that have reached zero before, in norms per unit of the pull.

        A swing outlasts the rate that it came from: it fades at the speed of the momentum, and by no more than rows
        can travel. So the width at the end is the largest of what is left from every step.
        """
        fading = RING_DOWN * (1 - self.momentum) * self.spacing  # from one sample to the next, as an exponent
        recent = self.rates[-math.ceil(50 / fading) :]  # before that e^-50 is left, nothing at all
        faded = recent * torch.exp(torch.arange(len(recent) - 1, -1, -1, dtype=torch.float64) * -fading)
        later = self.rates.sum() - self.rates.cumsum(0)
        untravelled = self.rates - later * (self.spacing / (1 - self.momentum) / self.swing)
        return self.swing * max(float(faded.max()), float(untravelled.max()))

    def settling(self, pull: float) -> int:
        """Number of steps at the end during which rows at that pull swing by no more than the threshold."""
        narrow = (self.rates <= self.threshold / (self.swing * pull)).flip(0)
        samples = len(narrow) if bool(narrow.all()) else int(narrow.byte().argmin())
        return round(samples * self.spacing)


@dataclass(frozen=True)
class Forecast:
    """What becomes of the rows of a run.

    Attributes:
        num_steps: optimizer steps of the run.
        masking_ends: step before which the last rows are masked.
        travel: how far these can move until the end, in units of the norm 1 that rows start with.
        settling: steps at the end during which rows swing about zero by no more than the threshold.
        residue: the largest norm at which rows end that have reached zero; the threshold is to be above it.
        refusals: one sentence for every rule without which rows certainly stay.
        warnings: one sentence for every other rule that is broken: some rows may stay.
    """

    num_steps: int
    masking_ends: int
    travel: float
    settling: int
    residue: float
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def share(self) -> float:
        """The part of the run after which masking ends; 1 and more where it never does."""
        return self.masking_ends / self.num_steps

    def __str__(self) -> str:
        return (
            f"masking ends at step {self.masking_ends} of {self.num_steps} ({self.share:.0%}), a row masked last can "
            f"travel {self.travel:.3g} times its norm, the last {self.settling} steps settle, rows end below "
            f"{self.residue:.1e}"
        )


def forecast(pace: Pace, num_rows: int, run: Run) -> Forecast:
    """Hold a pace against the three rules.

    Args:
        pace: the pull and the masks.
        num_rows: how many rows will be masked when the target is met.
        run: learning rates, momentum and threshold.

    Raises:
        ValueError: there are no rows to mask.
    """
    if num_rows < 1:
        raise ValueError(f"num_rows is the number of rows to be masked, at least 1, got {num_rows!r}")
    end = pace.masking_ends(num_rows)
    travel, settling, residue = pace.pull * run.reach(end), run.settling(pace.pull), pace.pull * run.residue
    rules = [_masking_rule(end, run.num_steps), _travel_rule(travel), _settling_rule(settling, residue, pace, run)]
    refusals, warnings = (tuple(rule[kind] for rule in rules if rule[kind]) for kind in (0, 1))
    return Forecast(run.num_steps, end, travel, settling, residue, refusals, warnings)


def _masking_rule(end: int, num_steps: int) -> tuple[str, str]:
    """A refusal and a warning, empty where there is none to tell, like those below."""
    mend = "shorten the interval, raise the granularity or train longer"
    if end >= num_steps:
        return f"masking would end at step {end}, but the run has {num_steps}, so the target is not met: {mend}", ""
    if end > LATEST_END * num_steps:
        share = f"{end / num_steps:.0%} of the run, later than {LATEST_END:.0%}"
        return "", f"masking ends after {share}, so rows masked last may not be forgotten: {mend}"
    return "", ""


def _travel_rule(travel: float) -> tuple[str, str]:
    if travel >= TRAVEL:
        return "", ""
    text = (
        f"a row masked last can travel only {math.floor(100 * travel) / 100:g} times its norm until the end, "
        f"{TRAVEL:g} are wanted: raise the pull, mask faster or train longer"
    )
    return (text, "") if travel < 1 else ("", text)


def _settling_rule(settling: int, residue: float, pace: Pace, run: Run) -> tuple[str, str]:
    if not settling:
        low = run.threshold / run.swing / pace.pull
        return (
            f"rows swing about zero by up to {residue:.1e} at the end, above the threshold {run.threshold:g}: let the "
            f"learning rate fall from {float(run.rates[-1]):.2g} to below {low:.1g} by the end, or lower the pull"
        ), ""
    if residue > run.threshold:
        return "", (
            f"only the last {settling} steps have a low enough learning rate, so rows may end at up to {residue:.1e}, "
            f"above the threshold {run.threshold:g}: lower the pull or train longer"
        )
    return "", ""


def fit(num_rows: int, run: Run, preferred: Pace) -> Pace:
    """The gentlest pace at which all rows are forgotten by the end of the run.

    Args:
        num_rows: how many rows will be masked when the target is met.
        run: learning rates, momentum and threshold.
        preferred: the published pace; kept where the run is long enough for it.

    Returns:
        The smallest pull on the grid 1, 2, 5, 10, …, not below the preferred one, with which rows masked at 40 % of
        the run travel far enough; and masks that end after a quarter of the run, or earlier where the preferred
        ones do, so half as many rows more could be masked.

    Raises:
        ValueError: the run is too short, or its rate does not come down.
    """
    if not _fits(run, preferred.pull):
        raise ValueError(_too_short(run, preferred.pull))
    pace = _masks(num_rows, run.num_steps, replace(preferred, pull=_pull(run, preferred.pull)))
    found = forecast(pace, num_rows, run)
    if broken := found.refusals + found.warnings:  # a handful of steps, at enormous rates
        raise ValueError(broken[0])
    return pace


def _pull(run: Run, least: float) -> float:
    """The smallest pull that moves rows far enough; infinite where none does."""
    reach = run.reach(LATEST_END * run.num_steps)
    needed = TRAVEL / reach if reach else math.inf
    if needed <= least or math.isinf(needed):
        return max(least, needed)
    decade = math.floor(math.log10(needed))
    return next(pull for digit in (1, 2, 5, 10) if (pull := float(f"{digit}e{decade}")) >= needed)


def _fits(run: Run, least: float) -> bool:
    """Whether rows that are moved far enough come to rest as well."""
    return _pull(run, least) * run.residue <= run.threshold


def _masks(num_rows: int, num_steps: int, preferred: Pace) -> Pace:
    """The preferred masks, sped up where they would end after a quarter of the run: intervals first, then rows."""
    start = min(preferred.start, int(LATEST_START * num_steps))
    room = int(PLANNED_END * num_steps) - start
    shortest = min(SHORTEST_INTERVAL, preferred.interval)
    most_updates = max(1, room // shortest)
    granularity = max(preferred.granularity, math.ceil(num_rows / most_updates))
    interval = room // math.ceil(num_rows / granularity)
    return replace(preferred, start=start, interval=max(1, min(preferred.interval, interval)), granularity=granularity)


def _too_short(run: Run, least: float) -> str:
    """Why no pull will do, in one sentence."""
    needed = _steps_needed(run, least)
    if needed is None:
        return (
            f"{run.num_steps} optimizer steps with a learning rate that ends at {float(run.rates[-1]):.2g} forget no "
            "rows, nor would more of them: let the rate be high at first and fall to near 0 at the end, as a cosine "
            "per step does"
        )
    return (
        f"{run.num_steps} optimizer steps are too few for rows to be forgotten, about {needed} are needed at least "
        "with these learning rates: train for more epochs or use a smaller batch"
    )


def _steps_needed(run: Run, least: float) -> int | None:
    """The smallest number of steps, rounded up to two digits, with which a pull would do; None where none helps."""
    longest = next((2.0**k for k in range(1, 31) if _fits(run.longer(2.0**k), least)), None)
    if longest is None:
        return None
    low, high = longest / 2, longest
    while high / low > 1.001:  # a longer run never needs more, so halving finds the shortest
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _fits(run.longer(middle), least) else (middle, high)
    unit = 10 ** max(0, math.floor(math.log10(high * run.num_steps)) - 1)
    return math.ceil(high * run.num_steps / unit) * unit
