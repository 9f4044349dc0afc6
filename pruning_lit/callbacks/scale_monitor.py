"""What has become of the batch-norm scales, epoch by epoch, and what a cut would make of them now."""

from fractions import Fraction

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph
from pruning_lit.criteria import Calibration, Criterion
from pruning_lit.criteria.bn_scale import scale_names, scales_of
from pruning_lit.sparsity import Dense, Population, Sparsity
from pruning_lit.sparsity.emptied import emptied


class ScaleMonitor(Callback):
    """Logs, at the end of every epoch, whether sparsity training is strong enough for the cut to come.

    ``scales/l1`` is the sum of the absolute scales that can be pruned, ``scales/penalty`` what they add to the loss,
    ``scales/below_1e-2`` and ``scales/below_1e-3`` the shares that are smaller than these parts of the largest one,
    ``scales/threshold`` the largest score that would go, ``scales/emptied`` the number of groups that would lose all
    their channels. TensorBoard gets a histogram, too.

    Args:
        criterion, sparsity: of the cut to come.
    """

    def __init__(self, criterion: Criterion, sparsity: Sparsity) -> None:
        self.criterion, self.sparsity = criterion, sparsity
        self.population = Population(criterion, sparsity)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log."""
        net, data = pl_module.net, trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(net, nn.Module)
        graph = self.population.graph(net, data.example.to(pl_module.device))
        groups = self.sparsity.population(graph)
        scales = magnitudes(net, {piece.parameter for group in groups for piece in scales_of(group, scale_names(net))})
        figures = {
            "l1": float(scales.sum()),
            "penalty": float(getattr(pl_module, "pull", 0.0)) * float(scales.sum()),
            "below_1e-2": float((scales < 1e-2 * scales.max()).float().mean()),
            "below_1e-3": float((scales < 1e-3 * scales.max()).float().mean()),
        }
        figures |= self.outlook(net, graph, data)
        pl_module.log_dict({f"scales/{name}": value for name, value in figures.items()}, rank_zero_only=True)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                logger.experiment.add_histogram("scales", scales, trainer.global_step)

    def outlook(self, net: nn.Module, graph: ChannelGraph, data: Calibration) -> dict[str, float]:
        """Threshold, where there is one, and number of emptied groups of a cut made now; without a word on floors."""
        try:
            scores = self.criterion.scores(net, graph, self.sparsity.population(graph), data)
        except ValueError:  # the scales are still as they began
            return {}
        wanted = self.sparsity.wanted(graph, scores, Dense.of(graph), Fraction(1))
        threshold = self.sparsity.threshold(graph, scores, wanted)
        return {"emptied": float(len(emptied(wanted)))} | ({} if threshold is None else {"threshold": threshold})


def magnitudes(net: nn.Module, names: set[str]) -> Tensor:
    """The absolute values of these parameters, one after the other, shape ``(count,)``, on the CPU."""
    parameters = dict(net.named_parameters())
    return torch.cat([parameters[name].detach().float().abs().cpu() for name in sorted(names)])
