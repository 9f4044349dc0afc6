"""Base of all callbacks that make a network smaller, and what they share."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from pytorch_lightning import Callback, Trainer
from torch import nn

from pruning_lit.channels import ChannelGraph, Cost, Kept, removed_positions
from pruning_lit.records.cut import CutRecord
from pruning_lit.sparsity.limits import Limits
from pruning_lit.tasks import Task, evaluate
from pruning_lit.tasks.base import like

NUM_VERIFIED = 8  # images on which every cut is verified


def record_cut(
    graph: ChannelGraph,
    kept: Kept,
    limits: Limits,
    *,
    epoch: int,
    cost: Cost,
    error: float,
    notes: Sequence[str],
    before: dict[str, float] | None = None,
    after: dict[str, float] | None = None,
    renewed: dict[str, float] | None = None,
    missed: str | None = None,
    **details: Any,
) -> CutRecord:
    """Record a cut.

    Args:
        graph: of the network before the cut.
        kept: positions that stay.
        limits: of widths, which say why a group stays whole.
        epoch: in front of which it was made.
        cost: of the network after the cut.
        error: see ``verify``.
        notes: sentences a reader has to know.
        before: metrics of the network before the cut.
        after: and after it.
        renewed: and with new statistics of its norms.
        missed: a sentence on the budget, where it is not met.
        **details: by section of the report.
    """
    groups = [
        {"name": group.name, "size": group.size * group.multiplicity, "protected": limits.why_whole(group)}
        for group in graph.groups
    ]
    gone = removed_positions(graph, kept)
    figures = cost.macs, cost.params, list(notes), error, before, after
    return CutRecord(epoch, kept, gone, groups, *figures, details, missed, renewed)


class Pruning(Callback):
    """Make the network smaller within, or at the end of, a phase, and record the cuts.

    Attributes:
        cuts: for the report, one record per cut; a part of the callback's state.
    """

    cuts: list[CutRecord]

    @staticmethod
    def finish(net: nn.Module, example: Any, state: Mapping[str, Any]) -> None:
        """Make a network final, in place, whose weights were loaded from a checkpoint; by default they are so already.

        Args:
            net: with the weights and widths in the checkpoint.
            example: an input, on the device of the network.
            state: of the callback, in the same checkpoint.
        """

    @property
    @abstractmethod
    def finished(self) -> bool:
        """True once the network has its final width."""

    @property
    def at_once(self) -> bool:
        """True where all is cut before the first step."""
        return False

    @property
    def masks(self) -> bool:
        """True where removed channels are there until the phase is over, masked, which averages do not follow."""
        return False

    def weights_renewed(self, module: Any) -> None:
        """Make removed channels zero again, after a phase has given its network fresh weights."""

    def check(self, net: nn.Module, graph: ChannelGraph, num_epochs: int) -> None:
        """ValueError, before any training, for what cannot work; some leave that to their phase."""


def test_metrics(trainer: Trainer, module: Any) -> dict[str, float] | None:
    """Metrics of a phase's network on the test part, by one rank; the others wait at the next exchange."""
    if not trainer.is_global_zero:
        return None
    return evaluate(module.net, trainer.datamodule, module.task)  # type: ignore[attr-defined]


def inputs_to_verify(data: Any, task: Task, net: nn.Module) -> Any:
    """A few training examples of a data module as the view of a network takes them, the same on all ranks."""
    inputs, _ = next(data.calibration(min(NUM_VERIFIED, data.num_training), seed=0, batch_size=NUM_VERIFIED))
    return like(task.view_inputs(net, inputs)[0], next(net.parameters()))
