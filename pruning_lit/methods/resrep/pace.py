"""Pace of masking: lasso strength and masks with which rows die within a run, by three rules.

A masked row feels nothing but a pull of constant length along itself, so under SGD with momentum its norm, 1 at the
start, falls by ``lr * lasso_strength / (1 - momentum)`` per step. It shoots past zero and oscillates there, within a
width in proportion to ``lr * lasso_strength``, until the learning rate has come down. So masking ends early, rows can
travel far enough afterwards, and the learning rate ends low.

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
RING_DOWN = 0.7  # momenta, 1 / (1 - momentum) steps, by which an oscillation is e times smaller; measured
MOST_SAMPLES = 20_000  # of a learning rate given as a function: ten milliseconds


@dataclass(frozen=True)
class MaskingPace:
    """Strength of the pull on rows, and speed at which they are masked; all counts are optimizer steps.

    Args:
        lasso_strength: length of the pull on every row, the paper's lambda.
        start: steps before the masks begin to grow; the first update comes ``interval`` steps later.
        interval: steps between two updates of the masks.
        granularity: rows by which the masks grow at every update.
    """

    lasso_strength: float
    start: int
    interval: int
    granularity: int

    def is_update(self, step: int) -> bool:
        """True where masks are updated when so many optimizer steps have been done."""
        return step > self.start and (step - self.start) % self.interval == 0

    def masking_ends(self, num_rows: int) -> int:
        """The step before which the masks have grown to that many rows, counted from 0."""
        return self.start + self.interval * math.ceil(num_rows / self.granularity)

    def require_end(self, num_rows: int, num_steps: int) -> None:
        """ValueError where so few optimizer steps end before so many rows are masked, and the target is never met."""
        if (end := self.masking_ends(num_rows)) >= num_steps:
            raise ValueError(
                f"masking would end at step {end}, but the run has {num_steps}, so the target is not met: shorten the "
                "interval, raise the granularity or train longer (method.auto_pace=true chooses a pace that fits)"
            )

    def overrides(self, steps_per_epoch: Fraction | int, phase: str = "gradient_reset") -> str:
        """The pace as settings for the command line, ``start`` in epochs."""
        masks = f"{phase}.callbacks.masks"
        return (
            f"{phase}.lasso_strength={self.lasso_strength:g} "
            f"{masks}.start={float(self.start / steps_per_epoch):.6g} "
            f"{masks}.interval={self.interval} {masks}.granularity={self.granularity}"
        )


@dataclass(frozen=True, eq=False)
class LrProfile:
    """Learning rate of a run, and what else the movement of rows depends on.

    Args:
        lrs: learning rate of the compactors at evenly spaced steps from first to last, ``(samples,)``.
        momentum: of the compactors.
        threshold: norm below which a row counts as dead.
        spacing: steps from one sample to the next; 1 where there is a learning rate for every step.
    """

    lrs: Tensor
    momentum: float
    threshold: float
    spacing: float = 1.0

    @classmethod
    def of(cls, lr: Callable[[int], float], num_steps: int, momentum: float, threshold: float) -> "LrProfile":
        """The profile of a learning rate given as a function of the step; of a long run only samples are looked at."""
        samples = min(num_steps, MOST_SAMPLES)
        steps = [round(k * (num_steps - 1) / max(1, samples - 1)) for k in range(samples)]
        lrs = torch.tensor([lr(step) for step in steps], dtype=torch.float64)
        return cls(lrs, momentum, threshold, num_steps / samples)

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the run."""
        return round(len(self.lrs) * self.spacing)

    def reach(self, step: float) -> float:
        """Norms that a row masked at that step can travel until the end, per unit of the lasso strength."""
        rest = self.lrs[math.ceil(step / self.spacing) :]
        return float(rest.sum()) * self.spacing / (1 - self.momentum)

    @property
    def oscillation(self) -> float:
        """Largest norm of rows about zero while the learning rate is constant, in units of ``lr * lasso_strength``.

        Measured on a thousand rows: 44 at a momentum of 0.99, 5.4 at 0.9, 1.6 at 0.5, 1 at 0.
        """
        return max(2.0, 0.5 / (1 - self.momentum))

    @cached_property
    def noise_floor(self) -> float:
        """Largest norm at which rows end that have reached zero before, per unit of the lasso strength.

        An oscillation outlasts the learning rate that it came from: it fades at the speed of the momentum, and by no
        more than rows can travel. So the width at the end is the largest of what is left from every step.
        """
        fading = RING_DOWN * (1 - self.momentum) * self.spacing  # from one sample to the next, as an exponent
        recent = self.lrs[-math.ceil(50 / fading) :]  # before that e^-50 is left, nothing at all
        faded = recent * torch.exp(torch.arange(len(recent) - 1, -1, -1, dtype=torch.float64) * -fading)
        later = self.lrs.sum() - self.lrs.cumsum(0)
        untravelled = self.lrs - later * (self.spacing / (1 - self.momentum) / self.oscillation)
        return self.oscillation * max(float(faded.max()), float(untravelled.max()))


def broken_rule(pace: MaskingPace, num_rows: int, profile: LrProfile) -> str | None:
    """The first rule, in words, that a pace breaks, so that rows may not be dead in the end; None: it keeps them all.

    Args:
        pace: lasso strength and masks.
        num_rows: how many rows will be masked when the target is met, at least 1.
        profile: learning rates, momentum and threshold.
    """
    end, total = pace.masking_ends(num_rows), profile.num_steps
    if end > LATEST_END * total:
        late = f"masking ends after {end / total:.0%} of the run, later than {LATEST_END:.0%}"
        return f"{late}: shorten the interval, raise the granularity or train longer"
    if (travel := pace.lasso_strength * profile.reach(end)) < TRAVEL:
        return (
            f"a row masked last can travel only {math.floor(100 * travel) / 100:g} times its norm until the end, "
            f"{TRAVEL:g} are wanted: raise the lasso strength, mask faster or train longer"
        )
    if (floor := pace.lasso_strength * profile.noise_floor) > profile.threshold:
        return (
            f"rows oscillate about zero by up to {floor:.1e} at the end, above the threshold {profile.threshold:g}: "
            "let the learning rate fall to near 0 earlier, lower the lasso strength or train longer"
        )
    return None


def fit(num_rows: int, profile: LrProfile, preferred: MaskingPace) -> MaskingPace:
    """The gentlest pace at which all rows are dead by the end of the run.

    Args:
        num_rows: how many rows will be masked when the target is met, at least 1.
        profile: learning rates, momentum and threshold.
        preferred: the published pace; kept where the run is long enough for it.

    Returns:
        The smallest lasso strength on the grid 1, 2, 5, 10, …, not below the preferred one, with which rows masked at
        40 % of the run travel far enough; and masks that end after a quarter of the run, or earlier where the preferred
        ones do, so half as many rows more could be masked.

    Raises:
        ValueError: the run is too short, or its learning rate does not come down.
    """
    total, reach = profile.num_steps, profile.reach(LATEST_END * profile.num_steps)
    strength, needed = preferred.lasso_strength, TRAVEL / reach if reach else math.inf
    if strength < needed < math.inf:
        decade = math.floor(math.log10(needed))
        strength = next(each for digit in (1, 2, 5, 10) if (each := float(f"{digit}e{decade}")) >= needed)
    start = min(preferred.start, int(LATEST_START * total))
    room = int(PLANNED_END * total) - start
    most_updates = max(1, room // min(SHORTEST_INTERVAL, preferred.interval))  # intervals shrink first, then rows grow
    granularity = max(preferred.granularity, math.ceil(num_rows / most_updates))
    interval = max(1, min(preferred.interval, room // math.ceil(num_rows / granularity)))
    pace = replace(preferred, lasso_strength=strength, start=start, interval=interval, granularity=granularity)
    if broken_rule(pace, num_rows, profile) is not None:
        raise ValueError(
            f"no pace lets rows die in {total} optimizer steps with a learning rate that ends at "
            f"{float(profile.lrs[-1]):.2g}: train for more epochs or use a smaller batch (about 3,000 steps are the "
            "least at the published settings), and let the learning rate fall to near 0, as a cosine per step does"
        )
    return pace
