"""ResRep's training: a group lasso on the rows of compactors, some of which learn nothing else."""

import logging
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import SGD

from pruning_lit.channels import ChannelGraph, Compactor, Placement, compactors, insert_compactors, trace
from pruning_lit.criteria import Criterion
from pruning_lit.methods.resrep.criterion import CompactorNorm
from pruning_lit.methods.resrep.pace import LrProfile, MaskingPace, broken_rule, fit
from pruning_lit.methods.resrep.row_masks import RowMasks
from pruning_lit.methods.resrep.section import CompactorSection
from pruning_lit.phases.epoch_steps import EpochSteps
from pruning_lit.phases.gradient_editing import GradientEditing
from pruning_lit.reports.section import Section
from pruning_lit.sparsity import DenseCost, Sparsity
from pruning_lit.tasks.base import like

log = logging.getLogger(__name__)


class GradientReset(GradientEditing):
    """Train a network with compactors, whose masked rows forget while all else remembers.

    Every row of every compactor is pulled towards zero with a constant force; of the rows that are masked the gradient
    of the task is deleted, so that they die. Both happen once per optimizer step, see ``GradientEditing``. Which rows
    are masked is decided by the callback ``RowMasks``, which also folds the compactors away in the end.

    Args:
        lasso_strength: length of the pull on every row, the paper's lambda.
        criterion, sparsity: how long rows are, and how many channels are to stay.
        compactor_momentum: of the compactors; they have no weight decay.
        auto_pace: choose lasso strength, start, interval and granularity so that rows have the time to die in the
            epochs there are, and log them.
        training: see ``Training``; one of the callbacks is a ``RowMasks``.

    Source: Ding et al. 2021, "ResRep: Lossless CNN Pruning via Decoupling Remembering and Forgetting", section 3.
    """

    sections: ClassVar[tuple[type[Section], ...]] = (CompactorSection,)

    def __init__(
        self,
        *,
        lasso_strength: float,
        criterion: Criterion,
        sparsity: Sparsity,
        compactor_momentum: float = 0.99,
        auto_pace: bool = False,
        **training: Any,
    ) -> None:
        super().__init__(**training)
        if not isinstance(lasso_strength, int | float) or not 0 < lasso_strength < float("inf"):
            raise ValueError(
                f"lasso_strength is the length of the pull on every row, a number above 0, got {lasso_strength!r}"
            )
        if not 0 <= compactor_momentum < 1:
            raise ValueError(f"compactor_momentum must be at least 0 and below 1, got {compactor_momentum!r}")
        if not isinstance(auto_pace, bool):  # "no" would be true
            raise ValueError(f"auto_pace is true or false, got {auto_pace!r}")
        if not isinstance(criterion, CompactorNorm):
            name = type(criterion).__name__
            raise ValueError(f"rows are forgotten by their lengths: choose criterion=compactor_norm, not {name}")
        if sparsity.at_the_cut:
            raise ValueError(
                f"rows are forgotten while the network is trained, and {type(sparsity).__name__} decides by trials of "
                "the network right before a cut: choose a budget that counts, such as sparsity=macs_50"
            )
        if sparsity.limits.on_empty == "remove":
            raise ValueError(
                "sparsity.on_empty=remove takes residual branches out, and rows are forgotten one by one: leave it out"
            )
        if self.init == "scratch":
            raise ValueError("init=scratch would throw the compactors' rows away; train from scratch in phase `train`")
        self.lasso_strength, self.compactor_momentum, self.auto_pace = lasso_strength, compactor_momentum, auto_pace
        self.criterion, self.sparsity = criterion, sparsity.bind(criterion)
        self.masks = self.only_callback(RowMasks)
        self.pace: MaskingPace | None = None
        self.placements: list[Placement] = []
        self.there: list[Compactor] = []
        self.informed: set[str] = set()

    def check(self, name: str, net: nn.Module, graph: ChannelGraph, steps: EpochSteps | None) -> None:
        """Also ValueError for an unreachable target, another optimizer than SGD, and rows that have no time to die."""
        super().check(name, net, graph, steps)
        graph = self.criterion.protect(net, graph)
        self.sparsity.check(graph)
        if steps is not None:
            self.pace = self._settle_pace(name, graph, steps)

    def require_optimizer(self, name: str) -> None:
        """Also ValueError for another one than SGD."""
        if not isinstance(optimizer := self.make_optimizer(self.net.parameters()), SGD):
            raise ValueError(
                f"{name}.optimizer must be torch.optim.SGD: a pull of constant length kills rows there, but "
                f"{type(optimizer).__name__} scales it anew for every weight"
            )
        super().require_optimizer(name)

    def setup(self, stage: str) -> None:
        """Put the compactors in, before optimizers are made and checkpoints loaded."""
        if stage == "fit":
            self.insert_compactors(self.trainer.datamodule.example)  # type: ignore[attr-defined]

    def insert_compactors(self, example: Tensor) -> None:
        """Put the compactors in, once.

        Args:
            example: an image, ``(1, C, H, W)``.
        """
        if self.there:
            return
        self.graph = self.criterion.protect(self.view, trace(self.view, like(example, next(self.net.parameters()))))
        self.placements = self.criterion.placements(self.view, self.graph, self.sparsity.prunable_groups(self.graph))
        self.there = list(insert_compactors(self.view, self.placements).values())

    def on_fit_start(self) -> None:
        """Set the pace, now that the number of steps is known for sure."""
        super().on_fit_start()
        trainer = self.trainer
        data, limit = trainer.datamodule, trainer.limit_train_batches  # type: ignore[attr-defined]
        steps = EpochSteps.of(data, trainer.world_size, limit, trainer.accumulate_grad_batches)
        self.pace = self._settle_pace("gradient_reset", self.graph, steps)
        if self.trainer.is_global_zero:
            rows = sum(len(rows) for placement in self.placements for rows in placement.rows.values())
            log.info("%d compactors with %d rows of channels that can be pruned", len(self.placements), rows)

    def _settle_pace(self, name: str, graph: ChannelGraph, epoch: EpochSteps) -> MaskingPace:
        """The pace that is asked for, or that fits the steps there are, held against what rows need to die."""
        num_rows, masks = self._rows_to_go(graph), self.masks
        lr = float(self.build_optimizer().defaults["lr"])
        profile = LrProfile.of(
            lambda step: lr * self.schedule.factor(step, epoch.steps, self.epochs),
            epoch.steps * self.epochs,
            self.compactor_momentum,
            masks.threshold,
        )
        start = int(Fraction(masks.start) * epoch.exact)
        pace = MaskingPace(self.lasso_strength, start, masks.interval, masks.granularity)
        try:
            if self.auto_pace:
                pace = fit(num_rows, profile, pace)
                self._inform(f"fitted to {self.epochs} epochs: {pace.overrides(epoch.exact, name)} (start in epochs)")
            pace.require_end(num_rows, profile.num_steps)
        except ValueError as error:
            raise ValueError(f"{name}.epochs={self.epochs}: {error}") from error
        end = pace.masking_ends(num_rows)
        self._inform(f"about {num_rows} rows are to go, all of them masked by step {end} of {profile.num_steps}")
        if (rule := broken_rule(pace, num_rows, profile)) is not None:
            self._inform(f"{name}: rows may not die, and stay: {rule}", logging.WARNING)
        return pace

    def _inform(self, text: str, level: int = logging.INFO) -> None:
        """Log, once."""
        if text not in self.informed:
            log.log(level, "%s", text)
        self.informed.add(text)

    def _rows_to_go(self, graph: ChannelGraph) -> int:
        """About how many channels the budget takes: those it takes where their order is chance."""
        random = torch.Generator().manual_seed(0)
        groups = self.sparsity.prunable_groups(graph)
        scores = {group.name: torch.rand(group.size, generator=random, dtype=torch.float64) for group in groups}
        widths = self.sparsity.widths(graph, scores, DenseCost.of(graph))
        return max(1, sum(group.size - widths[group.name] for group in groups))

    def special_groups(self) -> list[dict[str, Any]]:
        """The compactors, with their own momentum and without weight decay."""
        weights = [compactor.weight for compactor in compactors(self.net).values()]
        return [{"params": weights, "weight_decay": 0.0, "momentum": self.compactor_momentum}]

    def edit_gradients(self, loss_scale: float) -> None:
        """Pull all rows, and let the masked ones feel nothing else."""
        assert self.pace is not None
        reset_gradients(self.there, self.pace.lasso_strength * loss_scale)


@torch.no_grad()
def reset_gradients(there: Iterable[Compactor], strength: float) -> None:
    """Delete the gradients of masked rows, and add the pull of length ``strength`` to those of all rows, in place.

    The pull on a row is the gradient of ``strength`` times its length; on a row of zeros there is none. Rows of
    channels that have to stay are left alone.

    Args:
        there: the compactors; one without a gradient is left alone.
        strength: in the unit of the gradients.

    Source: Ding et al. 2021 (ResRep), equation 14; a group lasso whose groups are the rows.
    """
    for compactor in there:
        weight, gradient = compactor.weight, compactor.weight.grad
        if gradient is None:
            continue
        largest = weight.abs().amax(1, keepdim=True)  # squares of tiny numbers would be zero
        scaled = weight / torch.where(largest > 0, largest, 1.0)
        lengths = torch.linalg.vector_norm(scaled, dim=1, keepdim=True).clamp_min(1.0)
        gradient.masked_fill_(compactor.mask.view(-1, 1) == 0, 0.0)  # not a product: zero times infinity is no number
        gradient.add_(scaled / lengths * compactor.regularised.view(-1, 1), alpha=strength)
