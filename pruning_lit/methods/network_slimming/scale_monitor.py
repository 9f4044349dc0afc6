"""Monitor of the batch-norm scales: their sizes, epoch by epoch, and what a cut would make of them now."""

from fractions import Fraction

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from pruning_lit.channels import ChannelGroup, trace
from pruning_lit.criteria import Criterion, Scoring
from pruning_lit.criteria.bn_scale import scale_names, scales_of
from pruning_lit.sparsity import DenseCost, Sparsity
from pruning_lit.sparsity.limits import emptied
from pruning_lit.tasks.base import like


class ScaleMonitor(Callback):
    """Log, at the end of every epoch, whether sparsity training is strong enough for the cut to come.

    ``scales/l1`` is the sum of the absolute scales that can be pruned, ``scales/penalty`` what the phase adds
    to the loss, ``scales/below_1e-2`` and ``scales/below_1e-3`` the shares that are smaller than these parts of
    the largest one, ``scales/threshold`` the largest score that would go, ``scales/emptied`` the number of groups that
    would lose all their channels. TensorBoard gets a histogram of the absolute scales, too.

    Args:
        criterion, sparsity: of the cut to come.
    """

    def __init__(self, criterion: Criterion, sparsity: Sparsity) -> None:
        self.criterion, self.sparsity = criterion, sparsity.bind(criterion)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log; on all ranks alike, for a criterion may need them all."""
        net, data = pl_module.net, trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(net, nn.Module)
        view: nn.Module = pl_module.view  # type: ignore[assignment]
        graph = self.criterion.protect(view, trace(view, like(data.example, next(net.parameters()))))
        groups = self.sparsity.prunable_groups(graph)
        scales = magnitudes(view, groups)
        scoring = Scoring(net, graph, groups, data, pl_module.task)  # type: ignore[arg-type]
        figures = summary(scales) | {"penalty": penalty(pl_module)} | self.outlook(scoring)
        pl_module.log_dict({f"scales/{name}": value for name, value in figures.items()}, rank_zero_only=True)
        for logger in trainer.loggers if len(scales) else ():
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                logger.experiment.add_histogram("scales", scales, trainer.global_step)

    def outlook(self, scoring: Scoring) -> dict[str, float]:
        """Emptied groups, and the threshold where there is one, of a cut made now; nothing where it cannot be made."""
        graph = scoring.graph
        try:
            scores = self.criterion.scores(scoring)
            dense = DenseCost.of(graph)
            ranking = self.sparsity.ranking(graph, scores, dense, Fraction(1))
            target = self.sparsity.target_widths(graph, ranking.scores, dense, Fraction(1))
        except ValueError:  # scales that are all as they began, or not finite; the cut itself will say so
            return {}
        threshold = self.sparsity.threshold(graph, scores, target)
        return {"emptied": float(len(emptied(target)))} | ({} if threshold is None else {"threshold": threshold})


def magnitudes(net: nn.Module, groups: list[ChannelGroup]) -> Tensor:
    """The absolute scales of the groups' channels, one after the other, float32, shape ``(count,)``, on the CPU."""
    names, parameters = scale_names(net), dict(net.named_parameters())
    pieces = [piece for group in groups for piece in scales_of(group, names)]
    scales = [parameters[piece.parameter].detach().cpu()[piece.positions.flatten()] for piece in pieces]
    return torch.cat([torch.empty(0), *(scale.float().abs() for scale in scales)])


def summary(scales: Tensor) -> dict[str, float]:
    """The sum of absolute scales, and the shares below 1e-2 and 1e-3 of the largest; empty without scales."""
    if not len(scales):
        return {}
    shares = {f"below_{part}": (scales < float(part) * scales.max()).float().mean() for part in ("1e-2", "1e-3")}
    return {"l1": float(scales.sum())} | {name: float(share) for name, share in shares.items()}


def penalty(module: LightningModule) -> float:
    """``l1_strength * sum of |scale|`` over what the phase penalises; 0 where that is nothing."""
    penalised = [
        scale.detach().abs() * (1 if flags is None else flags) for scale, flags in getattr(module, "scales", [])
    ]
    return float(getattr(module, "l1_strength", 0.0)) * sum(float(scale.sum()) for scale in penalised)
