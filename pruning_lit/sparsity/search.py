"""Search of widths: of the networks that meet a target of cost, one that is good right after the cut."""

import copy
import logging
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from random import Random
from typing import Any, Literal, Self, get_args

from pruning_lit.channels import ChannelGraph
from pruning_lit.criteria import Criterion, NeedsData
from pruning_lit.criteria.ranks import rank_and_world_size
from pruning_lit.sparsity.base import Scores, Sparsity
from pruning_lit.sparsity.cost_target import CostTarget
from pruning_lit.sparsity.dense import DenseCost
from pruning_lit.sparsity.global_budgets import CostBudget
from pruning_lit.sparsity.latency import Latency, LatencyTarget, Runtime
from pruning_lit.sparsity.macs_target import MacsTarget
from pruning_lit.sparsity.params_target import ParamsTarget, require_whole
from pruning_lit.sparsity.rates import parse_rate
from pruning_lit.sparsity.sensitivity import ROUNDS, Drops, Probe, Sensitivity, by_bisection
from pruning_lit.sparsity.trials import Trial, TrialMaker, Trials
from pruning_lit.system.durations import in_words

log = logging.getLogger(__name__)
Cost = Literal["macs", "params"]
STEPS = 16  # widths of a group that are looked at, evenly apart
CHILDREN = 4  # moves that are tried from the same network: as many processes can share them
POWERS = (1.0, 1.5, 2.0)  # of drops: these add up where little is lost; where much is, large ones weigh more than that
LEAST_GAIN = 1e-4  # of a step, where the sensitivity says none: rather wide than narrow


@dataclass(frozen=True)
class Effort:
    """Effort of a search.

    Attributes:
        moves: that are tried; 0: widths by sensitivity alone; None: half as many as there are groups of channels.
        num_examples: on which trial cuts are evaluated, see ``Trials``; half of them where one group is narrowed.
        seed: of the choice of examples, and of the moves.

    Raises:
        ValueError: a number is outside its range.
    """

    moves: int | None = None
    num_examples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("moves", 0), ("num_examples", 1)):
            value = getattr(self, name)
            if name == "moves" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"sparsity.{name} must be a whole number of at least {least}, got {value!r}")


class Searching(Sparsity):
    """Base of budgets that search for widths by trial cuts.

    Attributes:
        effort: of the search.
        trials: of the network that is to be cut; None: none can be made.
        criterion: to which it is bound; None: one whose scores are not comparable.
    """

    at_the_cut = True
    effort: Effort
    trials: Trials | None = None
    criterion: Criterion | None = None
    _found: str | None = None

    def bind(self, criterion: Criterion) -> Self:
        """Bind a copy to the criterion, which settles the widths that are found without a search."""
        bound = copy.copy(super().bind(criterion))
        bound.criterion = criterion
        return bound

    def with_trials(self, make: TrialMaker) -> Self:
        """This budget, with trial cuts of the network that is to be cut."""
        bound = copy.copy(self)
        bound.trials = make(self.effort.num_examples, self.effort.seed)
        return bound

    def searched(
        self, goal: CostTarget, graph: ChannelGraph, scores: Scores, dense: DenseCost, progress: Fraction
    ) -> dict[str, int]:
        """The widths found for a target; NeedsData where no trial cuts can be made."""
        if self.trials is None:
            raise NeedsData("widths are searched by trial cuts, which need images")
        space = Space(self, goal, self.effort, self.trials, graph, dense, progress)
        widths = space.search(self.unsearched(goal).budget_widths(graph, scores, dense, progress))
        self._found = space.note
        return widths

    def scope_notes(self) -> list[str]:
        """None: widths are searched."""
        return []

    def unsearched(self, goal: CostTarget) -> CostBudget:
        """The budget that meets the target by scores alone, within the same limits."""
        budget = CostBudget(**vars(self.limits))  # as its constructor takes them
        budget.goal = goal
        return budget if self.criterion is None else budget.bind(self.criterion)

    def notes(self, graph: ChannelGraph, kept: Mapping[str, Sequence[int]], dense: DenseCost) -> list[str]:
        """Sentence on what the search has found, and those of the budget."""
        return [*filter(None, [self._found]), *super().notes(graph, kept, dense)]


class Search(Searching):
    """Search, by trial cuts, for widths that meet a target of MACs or parameters and keep most of what a network does.

    First the sensitivity of every group is measured: copies of the network in which it alone is narrowed. Taking drops,
    or powers of them, as additive, channels go where the drop per cost saved is smallest, until the target is met. From
    the best of these networks, and of that which the scores alone lead to, moves are tried, in which one or two groups
    get narrower and others wider, and the best of a few is kept wherever it is better.
    Residual streams are groups as any other. The same scores, examples and seed give the same widths, on any number of
    processes.

    Args:
        reduction: share of the dense network's cost that goes, in [0, 1).
        of: that cost: ``macs`` or ``params``; for milliseconds there is ``LatencySearch``.
        moves, num_examples, seed: see ``Effort``.
        limits: see ``Limits``.

    Raises:
        ValueError: a value is outside its range.

    Source: sensitivity of single layers, Li et al. 2017, "Pruning Filters for Efficient ConvNets" (arXiv 1608.08710),
    section 3.2; the rest is of our own.
    """

    def __init__(
        self,
        reduction: float | str,
        of: Cost = "macs",
        moves: int | None = None,
        num_examples: int = 1000,
        seed: int = 0,
        **limits: Any,
    ) -> None:
        super().__init__(**limits)
        self.reduction = parse_rate(reduction, "sparsity.reduction")
        if of not in get_args(Cost):
            raise ValueError(f"sparsity.of must be one of {list(get_args(Cost))}, got {of!r}")
        if of == "params":
            require_whole(self.limits.part)
        self.goal: CostTarget = (
            MacsTarget(self.reduction, part=self.limits.part) if of == "macs" else ParamsTarget(self.reduction)
        )
        self.effort = Effort(moves, num_examples, seed)

    def check(self, graph: ChannelGraph) -> None:
        """ValueError where even the narrowest network within the limits costs more than the target."""
        super().check(graph)
        self.goal.require_reachable(self, graph)

    def budget_widths(
        self, graph: ChannelGraph, scores: Scores, dense: DenseCost, progress: Fraction
    ) -> dict[str, int]:
        """The widths found; NeedsData where no trial cuts can be made."""
        return self.searched(self.goal, graph, scores, dense, progress)

    def notes(self, graph: ChannelGraph, kept: Mapping[str, Sequence[int]], dense: DenseCost) -> list[str]:
        """Sentences on what the search has found, and on the MACs that count, where these are not all."""
        of_goal = self.goal.notes(graph, kept, dense) if isinstance(self.goal, MacsTarget) else []
        return [*super().notes(graph, kept, dense), *of_goal]


class LatencySearch(Searching, Latency):
    """Search, by trial cuts, for widths whose predicted latency meets a target and that keep most, as ``Search`` does.

    Args:
        reduction, milliseconds, batch_size, runtime, table: see ``Latency``; so are the corrections by measurements.
        moves, num_examples, seed: see ``Effort``.
        limits: as for ``Latency``.

    Raises:
        ValueError: a value is outside its range.
    """

    def __init__(
        self,
        reduction: float | str = 0.5,
        milliseconds: float | None = None,
        batch_size: int = 64,
        runtime: Runtime = "eager",
        table: str | None = None,
        moves: int | None = None,
        num_examples: int = 1000,
        seed: int = 0,
        **limits: Any,
    ) -> None:
        super().__init__(reduction, milliseconds, batch_size, runtime, table, **limits)
        self.effort = Effort(moves, num_examples, seed)

    def asked_widths(
        self, goal: LatencyTarget, graph: ChannelGraph, scores: Scores, dense: DenseCost, progress: Fraction
    ) -> dict[str, int]:
        """The widths found; NeedsData where no trial cuts can be made."""
        return self.searched(goal, graph, scores, dense, progress)


class Space:
    """The networks among which a budget searches: their widths, what they cost, and how good they are.

    Args:
        budget: has the limits.
        goal: the target.
        effort: of the search.
        trials: of the network.
        graph: the network as it is now.
        dense: the network before the first cut.
        progress: share of the way to the target.
    """

    def __init__(
        self,
        budget: Sparsity,
        goal: CostTarget,
        effort: Effort,
        trials: Trials,
        graph: ChannelGraph,
        dense: DenseCost,
        progress: Fraction,
    ) -> None:
        self.budget, self.goal, self.effort, self.trials = budget, goal, effort, trials
        self.graph, self.dense, self.progress = graph, dense, progress
        self.overridden = budget.override_widths(graph, dense, progress)
        self.groups = [each for each in budget.prunable_groups(graph) if each.name not in self.overridden]
        self.sizes = {group.name: group.size for group in self.groups}
        self.steps = {name: max(1, size // STEPS) for name, size in self.sizes.items()}
        self.random = Random(effort.seed)

    def allowed(self, widths: Mapping[str, int]) -> dict[str, int]:
        """Widths within the limits; those of groups with a rate of their own are added."""
        return self.budget.allowed_widths(self.graph, self.dense, {**widths, **self.overridden})

    def cost(self, widths: Mapping[str, int]) -> float:
        """Cost of a network of these widths."""
        return self.goal.counted(self.graph, self.allowed(widths))

    def met(self, widths: Mapping[str, int]) -> bool:
        """True where the target is met."""
        return self.goal.met(self.graph, self.allowed(widths), self.dense, self.progress)

    def search(self, unsearched: Mapping[str, int]) -> dict[str, int]:
        """Widths of the best network that was tried.

        Args:
            unsearched: widths that meet the target as well, by scores alone.
        """
        began = time.monotonic()
        self.whole = self.trials.of([self.overridden])[0]
        self._tell(time.monotonic() - began)
        drops = Drops(self.whole, self.trials.task.primary)
        sensitivities = self.sensitivities()
        raised = [{name: replace(each, power=power) for name, each in sensitivities.items()} for power in POWERS]
        starts = [self.regrown(self.narrowed(found), found) for found in raised]
        starts, raised = [*starts, {name: unsearched[name] for name in self.sizes}], [*raised, sensitivities]
        outcomes = self.trials.of([self.allowed(each) for each in starts])
        # a way may end where no single group saves anything, as milliseconds can; that by scores is the budget's own
        meeting = [at for at, each in enumerate(starts) if at == len(POWERS) or self.met(each)]
        fittest = min(meeting, key=lambda at: drops.of(outcomes[at]))
        self.by_scores = fittest == len(POWERS)
        self.first = self.best = outcomes[fittest]
        best, found = starts[fittest], raised[fittest]
        for tried in range(0, self.num_moves, CHILDREN):
            children = [self.moved(best, found) for _ in range(min(CHILDREN, self.num_moves - tried))]
            children = [each for each in children if self.met(each)]  # milliseconds may rise with fewer channels
            if not children:
                continue
            outcomes = self.trials.of([self.allowed(each) for each in children])
            fittest = min(range(len(children)), key=lambda at: drops.of(outcomes[at]))
            if drops.of(outcomes[fittest]) < drops.of(self.best):
                self.best, best = outcomes[fittest], children[fittest]
        return best

    def sensitivities(self) -> dict[str, Sensitivity]:
        """Sensitivity of every group; half of the examples are enough to tell where it is much and where little."""
        drops = Drops(self.trials.rough.of([self.overridden])[0], self.trials.task.primary)
        return by_bisection(Probe(self.trials.rough, self.groups, self.allowed, drops))

    def _tell(self, seconds: float) -> None:
        most = 2 + ROUNDS * len(self.groups) + len(POWERS) + 1 + self.num_moves
        if rank_and_world_size()[0] == 0:
            made = f", {self.num_made} of which are made" if self.num_made > 1 else ""
            log.info("searching widths by at most %d trial cuts%s; the first took %s", most, made, in_words(seconds))

    @property
    def num_made(self) -> int:
        """Number of trial cuts made so far."""
        return len(self.trials.known) + len(self.trials.rough.known)

    @property
    def num_moves(self) -> int:
        """Moves that are tried."""
        return len(self.groups) // 2 if self.effort.moves is None else self.effort.moves

    @property
    def note(self) -> str:
        """Result of the search, in a sentence."""
        primary = self.trials.task.primary

        def told(trial: Trial) -> str:
            return primary.format(trial.metric) + (f" (loss {trial.loss:.3g})" if trial.loss is not None else "")

        begun = "the scores alone" if self.by_scores else "the sensitivity of each group alone"
        return (
            f"Widths were searched by {self.num_made} trial cuts with recalibrated norms, on "
            f"{self.trials.num_examples:,} {self.trials.part} examples: {primary.title} {told(self.whole)} before "
            f"the cut, {told(self.first)} with the widths that follow from {begun}, "
            f"{told(self.best)} with those found from there."
        )

    def narrowed(self, found: Mapping[str, Sensitivity]) -> dict[str, int]:
        """Widths that meet the target, channels going where the drop per cost saved is smallest.

        A step is the first of a way down to where the sensitivity was measured: how steep it is, that way says.
        """
        widths = dict(self.sizes)
        while not self.met(widths):
            cost, slopes = self.cost(widths), dict[str, float]()
            for name, width in widths.items():
                for narrower in (max(1, each) for each, _ in found[name].hull if each < width):
                    saved = cost - self.cost({**widths, name: narrower})
                    if saved > 0:  # the limits may keep a width as it is
                        slope = (found[name].drop(narrower) - found[name].drop(width)) / saved
                        slopes[name] = min(slope, slopes.get(name, slope))
            if not slopes:
                return widths
            cheapest = min(slopes, key=lambda name: slopes[name])
            widths[cheapest] = max(1, widths[cheapest] - self.steps[cheapest])
        return widths

    def regrown(
        self,
        widths: Mapping[str, int],
        found: Mapping[str, Sensitivity],
        but: Collection[str] = (),
        weights: Mapping[str, float] | None = None,
    ) -> dict[str, int]:
        """Widths with all steps back that the target allows, those first that win most per cost.

        Args:
            widths: where to begin.
            found: what a step wins.
            but: groups that do not grow.
            weights: factors of what a step wins, by group; None: 1.
        """
        widths = dict(widths)
        while True:
            cost, gains = self.cost(widths), {}
            for name, width in widths.items():
                wider = min(self.sizes[name], width + self.steps[name])
                if name not in but and wider > width and self.met({**widths, name: wider}):
                    more = self.cost({**widths, name: wider}) - cost
                    gain = found[name].drop(width) - found[name].drop(wider) + LEAST_GAIN
                    gains[name] = gain * (weights[name] if weights else 1) / more if more > 0 else math.inf
            if not gains:
                return widths
            best = max(gains, key=lambda name: gains[name])
            widths[best] = min(self.sizes[best], widths[best] + self.steps[best])

    def moved(self, widths: Mapping[str, int], found: Mapping[str, Sensitivity]) -> dict[str, int]:
        """Widths beside others: one or two groups a step or two narrower, and others wider instead."""
        random = self.random
        weights = {name: math.exp(random.gauss(0, 1)) for name in widths}
        some = [name for name in widths if widths[name] > self.steps[name]]
        chosen = random.sample(some, min(len(some), random.choice((1, 1, 2))))
        moved = dict(widths)
        for name in chosen:
            steps = random.choice((1, 2))
            moved[name] = max(moved[name] - steps * self.steps[name], self.steps[name])
        return self.regrown(moved, found, chosen, weights)
