"""Learning-rate schedules: the factor on the base rate as a pure function of epoch and step."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class Schedule(ABC):
    """A factor on the base rate, set before every step, with linear warm-up over the first epochs.

    Args:
        warmup_epochs: epochs over which the rate rises from 0; 0 for none.
        warmup: ``step``: it rises with every optimizer step. ``epoch``: after every epoch, constant within each.
        warmup_steps: optimizer steps over which it rises, in the place of epochs, as detectors are trained.
        warmup_from: the factor of the first of these steps, in [0, 1].
    """

    def __init__(
        self,
        warmup_epochs: int = 0,
        warmup: Literal["step", "epoch"] = "step",
        warmup_steps: int = 0,
        warmup_from: float = 0.0,
    ) -> None:
        for name, length in (("warmup_epochs", warmup_epochs), ("warmup_steps", warmup_steps)):
            if length < 0:
                raise ValueError(f"{name} must not be negative, got {length}")
        if warmup not in ("step", "epoch"):
            raise ValueError(f"a warm-up rises per 'step' or per 'epoch', got {warmup!r}")
        if warmup_epochs and warmup_steps:
            raise ValueError(
                f"schedule.warmup_epochs={warmup_epochs} and warmup_steps={warmup_steps} both say how long the warm-up "
                "is: set one of them to 0"
            )
        if not 0 <= warmup_from <= 1:
            raise ValueError(f"schedule.warmup_from is a factor on the rate, 0 to 1, got {warmup_from}")
        self.warmup_epochs, self.warmup = warmup_epochs, warmup
        self.warmup_steps, self.warmup_from = warmup_steps, warmup_from

    @abstractmethod
    def base(self, epoch: int, num_epochs: int) -> float:
        """The factor in an epoch, counted from 0, without warm-up."""

    def check(self, num_epochs: int, phase: str) -> None:
        """ValueError where the phase of that name would end before its warm-up."""
        if self.warmup_epochs > num_epochs:
            raise ValueError(
                f"{phase}.schedule.warmup_epochs is {self.warmup_epochs}, but {phase}.epochs is {num_epochs}: "
                "make the warm-up shorter or the phase longer"
            )

    def warnings(self, num_steps: int) -> list[str]:
        """Sentences on what a phase of so many optimizer steps does not come to."""
        if self.warmup_steps <= num_steps:
            return []
        return [f"it has {num_steps:,} optimizer steps, and ends within the {self.warmup_steps:,} of its warm-up"]

    def factor(self, step: int, steps_per_epoch: int, num_epochs: int) -> float:
        """The factor for optimizer step ``step``, counted from 0 over the whole phase.

        During warm-up it is multiplied by ``(1 + step) / (warmup_epochs * steps_per_epoch)``, or per epoch by
        ``(1 + epoch) / warmup_epochs``; over ``warmup_steps`` by ``warmup_from + (1 - warmup_from) step /
        warmup_steps``.

        Source: per step Sui et al. 2021 (CHIP), per epoch and over steps (detectors) Hou et al. 2022 (CHEX), all as
        released.
        """
        base = self.base_at(step, steps_per_epoch, num_epochs)
        if step < self.warmup_steps:
            return base * (self.warmup_from + (1 - self.warmup_from) * step / self.warmup_steps)
        past, end = step, self.warmup_epochs * steps_per_epoch
        if self.warmup == "epoch":
            past, end = step // steps_per_epoch, self.warmup_epochs
        return base * (1 + past) / end if past < end else base

    def base_at(self, step: int, steps_per_epoch: int, num_epochs: int) -> float:
        """The factor at an optimizer step, without warm-up: that of its epoch."""
        return self.base(step // steps_per_epoch, num_epochs)

    def attach(self, optimizer: Optimizer, steps_per_epoch: int, num_epochs: int) -> LambdaLR:
        """The schedule as a scheduler to be stepped once per optimizer step."""
        return LambdaLR(optimizer, lambda step: self.factor(step, steps_per_epoch, num_epochs))


class Constant(Schedule):
    """The base rate throughout."""

    def base(self, epoch: int, num_epochs: int) -> float:
        """1."""
        return 1.0


class Cosine(Schedule):
    """Half a cosine from the end of the warm-up to the end of the phase.

    Args:
        warmup_epochs, warmup, warmup_steps, warmup_from: see ``Schedule``.
        per: ``epoch``: constant within an epoch, so that the last one has a rate above 0. ``step``: it falls with every
            optimizer step of the phase, and the warm-up rises to the full rate.

    Source: Loshchilov and Hutter 2017 (SGDR) without restarts; per epoch as in the release of CHIP, and of CHEX where
    the warm-up is per epoch, too; per step as in that of ResRep. With CHIP's warm-up, per step, the argument of the
    cosine per epoch is negative in the warm-up epochs: a difference of at most 0.2 % at 5 of 200 epochs, kept where the
    phase is at least ten times as long as its warm-up. In shorter ones it would spoil the warm-up.
    """

    def __init__(
        self,
        warmup_epochs: int = 0,
        per: Literal["epoch", "step"] = "epoch",
        warmup: Literal["step", "epoch"] = "step",
        warmup_steps: int = 0,
        warmup_from: float = 0.0,
    ) -> None:
        super().__init__(warmup_epochs, warmup, warmup_steps, warmup_from)
        if per not in ("epoch", "step"):
            raise ValueError(f"a cosine falls per 'epoch' or per 'step', got {per!r}")
        self.per = per

    def base(self, epoch: int, num_epochs: int) -> float:
        """``(1 + cos(pi (epoch - warmup) / (num_epochs - warmup))) / 2``; in the warm-up see the class."""
        past = epoch - self.warmup_epochs
        if self.warmup == "epoch" or num_epochs < 10 * self.warmup_epochs:
            past = max(0, past)
        return _half_cosine(past, num_epochs - self.warmup_epochs)

    def base_at(self, step: int, steps_per_epoch: int, num_epochs: int) -> float:
        """Cosine factor of the epoch; or, per step, falling with every step and 1 throughout the warm-up."""
        if self.per == "epoch":
            return super().base_at(step, steps_per_epoch, num_epochs)
        warmup_steps = self.warmup_epochs * steps_per_epoch
        return _half_cosine(max(0, step - warmup_steps), num_epochs * steps_per_epoch - warmup_steps)


def _half_cosine(past: int, span: int) -> float:
    """From 1 where nothing is past to 0 where the whole span is."""
    return 0.5 * (1 + math.cos(math.pi * past / max(1, span)))


class MultiStep(Schedule):
    """Multiply the rate at milestones.

    Args:
        milestones: shares of the phase's epochs, in (0, 1), so that they hold for a run of any length; or numbers of
            optimizer steps, 1 and more.
        gamma: the factor at each.
        lowest: the factor on the base rate does not fall below this.
        warmup_epochs, warmup, warmup_steps, warmup_from: see ``Schedule``.
    """

    def __init__(
        self,
        milestones: Sequence[float] = (0.5, 0.75),
        gamma: float = 0.1,
        lowest: float = 0.0,
        warmup_epochs: int = 0,
        warmup: Literal["step", "epoch"] = "step",
        warmup_steps: int = 0,
        warmup_from: float = 0.0,
    ) -> None:
        super().__init__(warmup_epochs, warmup, warmup_steps, warmup_from)
        in_steps = all(isinstance(milestone, int) and milestone >= 1 for milestone in milestones)
        if not in_steps and any(not 0 < milestone < 1 for milestone in milestones):
            raise ValueError(
                "milestones are shares of the epochs, in (0, 1), or whole numbers of optimizer steps, got "
                f"{list(milestones)}"
            )
        self.steps = [int(step) for step in milestones] if in_steps else []
        shares = [] if in_steps else milestones
        self.milestones = [Fraction(str(share)) for share in shares]  # as floats 0.55 of 100 epochs is above 55
        self.gamma = require_factor(gamma)
        if not 0 <= lowest <= 1:
            raise ValueError(f"schedule.lowest is a factor on the rate, 0 to 1, got {lowest}")
        self.lowest = lowest

    def warnings(self, num_steps: int) -> list[str]:
        """Also where the rate does not fall."""
        found = super().warnings(num_steps)
        if self.steps and min(self.steps) >= num_steps:
            steps = ", ".join(map(str, self.steps))
            found.append(
                f"it has {num_steps:,} optimizer steps, and its rate is to fall at {steps}: schedule.milestones may be "
                "shares of the epochs, such as [0.5, 0.75]"
            )
        return found

    def base(self, epoch: int, num_epochs: int) -> float:
        """``gamma`` to the number of milestones reached, each at the whole epoch below its share: 49 and 74 of 99."""
        reached = [max(1, math.floor(milestone * num_epochs)) for milestone in self.milestones]
        return max(self.lowest, self.gamma ** sum(epoch >= first for first in reached))

    def base_at(self, step: int, steps_per_epoch: int, num_epochs: int) -> float:
        """Factor at an optimizer step, without warm-up: milestones in steps are reached within an epoch, too."""
        reached = sum(step >= first for first in self.steps)
        return max(self.lowest, self.gamma**reached * super().base_at(step, steps_per_epoch, num_epochs))


def require_factor(gamma: float) -> float:
    """``gamma``; ValueError where it would turn the rate negative, or to nothing."""
    if not gamma > 0:
        raise ValueError(f"schedule.gamma is the factor on the rate, above 0, got {gamma}")
    return gamma


class Exponential(Schedule):
    """Multiply the rate after every epoch.

    Args:
        gamma: the factor.
        warmup_epochs, warmup, warmup_steps, warmup_from: see ``Schedule``.
    """

    def __init__(
        self,
        gamma: float = 0.96,
        warmup_epochs: int = 0,
        warmup: Literal["step", "epoch"] = "step",
        warmup_steps: int = 0,
        warmup_from: float = 0.0,
    ) -> None:
        super().__init__(warmup_epochs, warmup, warmup_steps, warmup_from)
        self.gamma = require_factor(gamma)

    def base(self, epoch: int, num_epochs: int) -> float:
        """``gamma ** epoch``."""
        return self.gamma**epoch
