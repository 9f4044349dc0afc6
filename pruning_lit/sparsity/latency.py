"""A target of milliseconds: widths by the latency that a table of measured layer times predicts."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

from pruning_lit.channels import ChannelGraph
from pruning_lit.criteria import NeedsData
from pruning_lit.measure.onnx_network import has_onnx
from pruning_lit.sparsity.base import Scores
from pruning_lit.sparsity.clock import Clock
from pruning_lit.sparsity.cost_target import CostTarget
from pruning_lit.sparsity.dense import DenseCost
from pruning_lit.sparsity.global_budgets import CostBudget, CostScope, Streams
from pruning_lit.sparsity.latency_table import LatencyTable
from pruning_lit.sparsity.rates import parse_rate

Runtime = Literal["eager", "onnx"]
CORRECTIONS = 2  # of the factor, by the measured time of the network that was chosen
APART = 0.1  # predicted and measured time, as a share; beyond that the prediction is corrected


@dataclass(frozen=True)
class LatencyTarget(CostTarget):
    """The share of the dense network's latency that goes.

    Attributes:
        reduction: that share.
        table: by which the latency of other widths is predicted.
        milliseconds: that were asked for, where no share was.
    """

    unit: ClassVar[str] = "ms"

    reduction: Fraction
    table: LatencyTable
    milliseconds: float | None = None

    @property
    def asked(self) -> str:
        """The setting that asked for it, as it is typed."""
        return super().asked if self.milliseconds is None else f"sparsity.milliseconds={self.milliseconds:g}"

    def counted(self, graph: ChannelGraph, widths: Mapping[str, int]) -> float:
        """Predicted milliseconds of a network of these widths."""
        return self.table.predicted_ms(graph, widths)

    def total(self, dense: DenseCost) -> float:
        """Measured milliseconds of the dense network."""
        return self.table.dense_ms

    def told(self, cost: float) -> str:
        """Milliseconds with three digits."""
        return f"{cost:.3g}"

    def scaled(self, factor: float) -> "LatencyTarget":
        """This target, with predictions multiplied by a factor."""
        table = replace(self.table, intercept=self.table.intercept * factor, factor=self.table.factor * factor)
        return replace(self, table=table)


class Latency(CostBudget):
    """Remove channels until the predicted latency of the network meets a target.

    Times of its layers at a grid of widths are measured in front of the first cut, in its runtime, and so are
    a few whole networks, on which intercept and factor of the prediction are fitted. The network that is chosen is
    measured, and where that is far from the prediction, this is corrected and the choice made once more, at most twice.
    All that is measured is kept in ``latency_table.json`` in the folder of the run, and a run that goes on reads it
    there: the choice does not depend on when it is made.

    Args:
        reduction: share of the dense network's latency removed, in [0, 1).
        milliseconds: that a pass may take; stands in the place of the share, where given.
        batch_size: examples in a pass.
        runtime: ``eager``: PyTorch on the device of the run; ``onnx``: ONNX Runtime on the CPU.
        table: a file ``latency_table.json`` of an earlier run of the same network on this machine; None: measured.
        scope, normalise, streams: as for ``CostBudget``.
        limits: as for ``CostBudget``; ``part`` is refused.

    Source: Yang et al. 2018, "NetAdapt" (arXiv 1804.03230), section 3.3, for a table of layers that is added up.
    """

    at_the_cut = True

    def __init__(
        self,
        reduction: float | str = 0.5,
        milliseconds: float | None = None,
        batch_size: int = 64,
        runtime: Runtime = "eager",
        table: str | None = None,
        scope: CostScope | None = None,
        normalise: bool | None = None,
        streams: Streams = "last",
        **limits: Any,
    ) -> None:
        super().__init__(scope, normalise, streams, **limits)
        self.reduction = parse_rate(reduction, "sparsity.reduction")
        if milliseconds is not None and not milliseconds > 0:
            raise ValueError(f"sparsity.milliseconds is {milliseconds}, but a pass takes more than 0")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"sparsity.batch_size must be a whole number of at least 1, got {batch_size!r}")
        if runtime not in get_args(Runtime):
            raise ValueError(f"sparsity.runtime must be 'eager' or 'onnx', got {runtime!r}")
        if self.limits.part:
            raise ValueError(
                f"a budget of milliseconds is of whole networks: leave out sparsity.part={self.limits.part}"
            )
        self.milliseconds, self.batch_size, self.runtime, self.file = milliseconds, batch_size, runtime, table
        self.clock: Clock | None = None

    def with_clock(self, clock: Clock) -> Self:
        """This budget, with a clock of the network that is to be cut."""
        timed = copy.copy(self)
        timed.clock = clock.of_onnx() if self.runtime == "onnx" else clock
        return timed

    def check(self, graph: ChannelGraph) -> None:
        """ValueError where nothing can be pruned, or the user's table is none; what can be met is measured later."""
        super(CostBudget, self).check(graph)
        if self.runtime == "onnx" and not has_onnx():
            raise ValueError("sparsity.runtime=onnx needs further packages: pip install 'pruning_lit[onnx]'")
        if self.file is not None:
            LatencyTable.read(Path(self.file))

    def budget_widths(
        self, graph: ChannelGraph, scores: Scores, dense: DenseCost, progress: Fraction
    ) -> dict[str, int]:
        """Widths after the fewest removals that meet the target, as predicted, and corrected by what was measured."""
        if self.clock is None:
            raise NeedsData(
                "a budget of milliseconds is met by the times of a network on the machine of a run, in front of its "
                "cut; look at another sparsity such as macs_50"
            )
        trial = copy.copy(self)
        trial.goal = self._target(self.clock.table(self.batch_size, self.limits.round_to, dense.sizes, self.file))
        for correction in range(CORRECTIONS + 1):
            trial.goal.require_reachable(trial, graph, dense)
            asked = self.asked_widths(trial.goal, graph, scores, dense, progress)
            widths = trial.allowed_widths(graph, dense, asked | trial.override_widths(graph, dense, progress))
            table = self.clock.timed(self.clock.table(self.batch_size, 1, dense.sizes, self.file), widths)
            measured, predicted = (table.network(widths) or {}).get("ms"), trial.goal.counted(graph, widths)
            if measured is None or abs(measured / predicted - 1) <= APART or correction == CORRECTIONS:
                break
            trial.goal = trial.goal.scaled(measured / predicted)
        self._told = self._sentence(table, trial.goal, predicted, measured, dense, progress)
        return asked

    def asked_widths(
        self, goal: LatencyTarget, graph: ChannelGraph, scores: Scores, dense: DenseCost, progress: Fraction
    ) -> dict[str, int]:
        """Widths after the fewest removals that meet a target."""
        trial = copy.copy(self)
        trial.goal = goal
        return super(Latency, trial).budget_widths(graph, scores, dense, progress)

    def _target(self, table: LatencyTable) -> LatencyTarget:
        if self.milliseconds is None:
            return LatencyTarget(self.reduction, table)
        reduction = max(Fraction(0), 1 - Fraction(self.milliseconds) / Fraction(table.dense_ms))
        return LatencyTarget(reduction, table, self.milliseconds)

    def _sentence(
        self,
        table: LatencyTable,
        goal: LatencyTarget,
        predicted: float,
        measured: float | None,
        dense: DenseCost,
        progress: Fraction,
    ) -> str:
        most = goal.total(dense) * float(1 - goal.reduction * progress)
        found = "too noisy to tell" if measured is None else f"{measured:.3g} ms ({measured / predicted - 1:+.1%})"
        met = self.milliseconds is not None and self.milliseconds >= table.dense_ms
        told = (
            f"Latency of a batch of {self.batch_size} in {table.machine['runtime']} on {table.machine['device']}: "
            f"dense {table.dense_ms:.3g} ms, "
            f"target {most:.3g} ms, predicted {predicted:.3g} ms, measured {found}."
        )
        if met:
            told += f" The dense network takes no more than the {self.milliseconds:g} ms asked for."
        if measured is not None and abs(measured / predicted - 1) > APART:
            told += (
                " Prediction and measurement are more than 10 % apart: other work on the machine, or jumps in speed."
            )
        return told

    def notes(self, graph: ChannelGraph, kept: Mapping[str, Sequence[int]], dense: DenseCost) -> list[str]:
        """Dense, target, predicted and measured latency, and the scope."""
        return [self._told, *self.scope_notes()]
