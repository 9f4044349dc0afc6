"""Ordinary training and fine-tuning."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from pruning_lit.callbacks import Freezing, Pruning
from pruning_lit.channels import ChannelGraph
from pruning_lit.criteria import Criterion
from pruning_lit.phases.distillation import Distillation
from pruning_lit.phases.epoch_steps import EpochSteps
from pruning_lit.phases.parameter_groups import ParameterGroups
from pruning_lit.phases.schedules import Schedule
from pruning_lit.phases.train_figures import MeanLosses, TrainFigures
from pruning_lit.reports.redundancy import RedundancySection
from pruning_lit.reports.scores import ScoresSection
from pruning_lit.reports.section import Section
from pruning_lit.sparsity import Sparsity
from pruning_lit.tasks import Task
from pruning_lit.tasks.base import Batch, forward, total

log = logging.getLogger(__name__)
FIGURES, TEACHER = "train_figures", "teacher"  # in a checkpoint
Kind = TypeVar("Kind", bound=Callback)
Term = Callable[[nn.Module, Batch, "Training"], Tensor]  # of the loss


class Training(LightningModule):
    """Train a network on a task.

    Args:
        net: the network; callbacks may narrow it on the way.
        task: loss, metrics, and what a batch is.
        epochs: length of the phase.
        optimizer: parameters to optimizer.
        parameters: which of them get settings of their own; None: all are alike.
        schedule: of the learning rate.
        channels_last: keep inputs and weights in the memory format that is faster on most machines.
        callbacks: what happens when within this phase, by a name of one's own.
        init: ``inherited``: go on with the weights that the phase before has left; ``scratch``: with fresh ones, at the
            same widths. In a phase that begins with a cut they come after it.
        renew: gives a network fresh weights, in place, at the widths it has; equal ones on all ranks.
        distillation: what the network learns from a teacher beside; None: nothing. Logged as ``train/distillation``
            and ``train/agreement``.
        terms: further terms of the training loss, by a name of one's own: network, batch and this module to a scalar;
            ``module.outputs`` are those of the network for the batch. Each is logged as ``train/<name>``.
        freeze: ``layers`` that do not learn, and in how many ``epochs``, see ``callbacks.Freezing``; None: all learn.

    Attributes:
        sections: of the report, for what the cuts of such a phase may tell.
        later_epochs: of all phases that come after this one in the run, for the time left.
    """

    sections: ClassVar[tuple[type[Section], ...]] = (ScoresSection, RedundancySection)

    def __init__(
        self,
        net: nn.Module,
        task: Task,
        epochs: int,
        optimizer: Callable[..., Optimizer],
        schedule: Schedule,
        channels_last: bool = False,
        callbacks: Mapping[str, Callback] | None = None,
        init: Literal["inherited", "scratch"] = "inherited",
        renew: Callable[[nn.Module], None] | None = None,
        parameters: ParameterGroups | None = None,
        terms: Mapping[str, Term] | None = None,
        distillation: Distillation | None = None,
        freeze: Mapping[str, Sequence[str] | int | None] | None = None,
    ) -> None:
        super().__init__()
        if epochs < 1:
            raise ValueError(f"a phase needs at least 1 epoch, got {epochs}")
        if init not in ("inherited", "scratch"):
            raise ValueError(f"init must be 'inherited' or 'scratch', got {init!r}")
        if not isinstance(parameters, ParameterGroups | None):
            raise ValueError(f"parameters must be a pruning_lit.phases.ParameterGroups or nothing, got {parameters!r}")
        if not isinstance(distillation, Distillation | None):
            raise ValueError(
                f"distillation must be one of pruning_lit.phases.distillation or nothing, got {distillation!r}: "
                "choose one, such as distillation=logits, and set its settings beside it"
            )
        self.net = net
        self.task = task
        self.epochs = epochs
        self.make_optimizer = optimizer
        self.parameter_groups = parameters or ParameterGroups()
        self.schedule = schedule
        self.memory_format = torch.channels_last if channels_last else torch.preserve_format
        self.callbacks = dict(callbacks or {})
        if freeze is not None:
            self.callbacks["freeze"] = frozen_by(freeze)
        self.init, self.renew = init, renew
        self.distillation = distillation
        self.terms = dict(terms or {})
        self.renewed = False  # by fresh weights
        self.later_epochs = 0
        self.outputs: Any = None  # of the network, in the step under way; for terms
        self.step_left_out = False  # of the optimizer, the one that is about to be done
        self.train_metrics = self.task.train_metrics("train/")
        self.figures, self.val_losses = TrainFigures(self.train_metrics), MeanLosses()
        self.figures_so_far: list[Any] = []  # of an epoch that is resumed
        self.within_epoch = False  # between its first batch and its end
        self.val_metrics = self.task.metrics("val/")

    def check(self, name: str, net: nn.Module, graph: ChannelGraph, steps: EpochSteps | None) -> None:
        """ValueError, before any training, for what cannot work.

        Args:
            name: of the phase.
            net: the dense network.
            graph: of it.
            steps: length of an epoch; None where the number of processes is not known yet.
        """
        self.require_optimizer(name)
        self.schedule.check(self.epochs, name)
        for warning in self.schedule.warnings(self.epochs * steps.steps) if steps is not None else ():
            log.warning("phase %s: %s", name, warning)
        if self.distillation is not None:
            self.distillation.check(name, self.task)
        for part in (self, *self.callbacks.values()):
            if isinstance(criterion := getattr(part, "criterion", None), Criterion):
                criterion.require_task(self.task)
        for callback in self.callbacks.values():
            if isinstance(callback, Pruning):
                callback.check(self.task.view(net), graph, self.epochs)
            if isinstance(callback, Freezing):
                callback.check(net)

    @classmethod
    def preview(
        cls,
        net: nn.Module,
        graph: ChannelGraph,
        criterion: Criterion,
        sparsity: Sparsity | None,
        recipe: Mapping[str, Any],
    ) -> tuple[ChannelGraph, Sparsity | None, list[str]]:
        """Predict what such a phase prunes, as far as that is known before any training.

        Args:
            net: the dense network.
            graph: of it, in which what the criterion does not support is protected.
            criterion: of the experiment.
            sparsity: its budget, where one is asked for.
            recipe: settings of the phase.

        Returns:
            The graph in which all is protected that the phase leaves whole, the budget to predict by, and notes.
        """
        return graph, sparsity, []

    def only_callback(self, kind: type[Kind]) -> Kind:
        """The one callback of that kind without which the phase is none; ValueError where there is not just one."""
        found = [callback for callback in self.callbacks.values() if isinstance(callback, kind)]
        if len(found) != 1:
            room = kind.__module__.rpartition(".")[0]  # which offers it
            raise ValueError(f"the phase needs one callback {room}.{kind.__name__}, got {len(found)}")
        return found[0]

    def require_optimizer(self, name: str) -> None:
        """ValueError where the optimizer refuses its settings or groups; it is built for good once the phase begins."""
        try:
            optimizer = self.build_optimizer()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}.optimizer: {error}") from error
        for group in optimizer.param_groups:
            if group.get("momentum", 0) >= 1:
                raise ValueError(f"{name}.optimizer: momentum must be below 1, got {group['momentum']}")

    @property
    def view(self) -> nn.Module:
        """The part of the network that can be pruned, see ``Task.view``."""
        return self.task.view(self.net)

    def forward(self, inputs: Any) -> Any:
        """Outputs of the network."""
        return forward(self.net, self.formatted(inputs))

    def formatted(self, nested: Any) -> Any:
        """Inputs in the memory format of the phase, as far as they are maps ``(N, C, H, W)``."""
        if self.memory_format is not torch.channels_last:
            return nested
        return apply_to_collection(
            nested, Tensor, lambda each: each.contiguous(memory_format=torch.channels_last) if each.ndim == 4 else each
        )

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Lightning calls this once in front of every optimizer step, also without clipping.

        A step that is left out has no gradients: optimizers then change neither parameters nor their own state.
        """
        if self.step_left_out:
            optimizer.zero_grad(set_to_none=True)
        else:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
            self.after_clipping(optimizer)

    def after_clipping(self, optimizer: Optimizer) -> None:
        """Called in front of every optimizer step that is done, when gradients are exchanged, unscaled and clipped."""

    def on_fit_start(self) -> None:
        """Put the weights into the memory format, and go on from the figures of an epoch that is under way."""
        self.format_memory()
        self.figures.load(self.figures_so_far, self.global_rank, self.trainer.world_size, self.device)
        self.figures_so_far = []
        if self.distillation is not None:
            weights = next(self.net.parameters())
            self.distillation.begin(self.device, self.memory_format, weights.dtype)
            if self.distillation.cache:
                data = self.trainer.datamodule  # type: ignore[attr-defined]
                with self.trainer.precision_plugin.forward_context():
                    self.distillation.ask(self.examples(data), data.num_training, self.task)

    def examples(self, data: Any) -> Iterator[tuple[Tensor, Batch]]:
        """All training examples once over all ranks, as the network would get them; of each batch their positions."""
        for positions, batch in data.training_in_order(self.global_rank, self.trainer.world_size):
            inputs, targets = self.trainer.strategy.batch_to_device(batch)  # and made ready there
            yield positions, (self.formatted(inputs), targets)

    def on_fit_end(self) -> None:
        """Let go of the teacher."""
        if self.distillation is not None:
            self.distillation.end()

    def on_train_epoch_start(self) -> None:
        """Begin with fresh weights, if so asked; callbacks have cut the network by now."""
        self.begin_afresh()

    def begin_afresh(self) -> None:
        """Give the network fresh weights, if so asked, once; for callbacks that begin with a look at them, too."""
        if self.init == "scratch" and self.renew is not None and self.trainer.global_step == 0 and not self.renewed:
            self.renewed = True
            log.info("the phase begins with fresh weights, at the present widths")
            self.renew(self.net)
            for callback in self.callbacks.values():
                if isinstance(callback, Pruning):
                    callback.weights_renewed(self)

    def format_memory(self) -> None:
        """To be called again whenever the network has got new parameters."""
        if self.memory_format is torch.channels_last:
            self.net.to(memory_format=torch.channels_last)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch, the terms of the phase included."""
        inputs, targets = self.task.prepare(batch)
        batch = self.formatted(inputs), targets
        if self.distillation is None:
            self.outputs = self.task.outputs(self.net, batch)
            losses, figures = self.task.losses(self.outputs, targets, training=True), {}
        else:
            loader = self.trainer.train_dataloader
            positions = loader.sampler.positions(batch_idx) if loader and self.distillation.cache else None
            self.outputs, losses, agreement = self.distillation.step(self.net, batch, self.task, positions)
            figures = {"agreement": agreement}
        terms = {name: term(self.net, batch, self) for name, term in self.terms.items()}
        if losses.keys() & terms.keys():
            raise ValueError(f"terms: the loss of the task has {list(losses)} already; choose other names")
        losses |= terms
        loss = total(losses)
        self.within_epoch = True
        self.figures.add({"loss": loss} | (losses if len(losses) > 1 else {}) | figures, self.task.size(batch))
        self.task.update(self.train_metrics, self.outputs, targets)
        self.outputs = None
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the figures of the whole epoch, whichever sitting its batches were trained in."""
        self.within_epoch = False
        for name, figure in self.figures.by_name().items():
            options: dict[str, Any] = {"prog_bar": name == "train/loss", "metric_attribute": name}
            self.log(name, figure, on_step=False, on_epoch=True, **options)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the figures of an epoch that is under way, and by what the teacher is known again."""
        if self.distillation is not None:
            checkpoint[TEACHER] = self.distillation.digest
        if self.within_epoch:
            checkpoint[FIGURES] = self.figures.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the figures of an epoch that is under way, and by what the teacher is known."""
        if self.distillation is not None:
            self.distillation.digest = checkpoint.get(TEACHER)
        self.figures_so_far = checkpoint.get(FIGURES, [])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and metrics of one batch of the part that epochs are chosen by."""
        inputs, targets = batch
        outputs = self.task.outputs(self.net, (self.formatted(inputs), targets))
        losses = self.task.losses(outputs, targets, training=False)
        if losses:
            own = {"loss": total(losses)} | (losses if len(losses) > 1 else {})
            self.val_losses.add(own, self.task.size(batch))
        self.task.update(self.val_metrics, outputs, targets)

    def on_validation_epoch_end(self) -> None:
        """Log loss and metrics of the part that epochs are chosen by."""
        for name, loss in self.val_losses.take(self.device).items():
            self.log(f"val/{name}", loss, prog_bar=name == "loss")
        self.log_dict(self.val_metrics.compute())
        self.val_metrics.reset()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, and its schedule stepped once per optimizer step."""
        optimizer = self.build_optimizer()
        scheduler = self.schedule.attach(optimizer, self.steps_per_epoch(), self.epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def build_optimizer(self) -> Optimizer:
        """The optimizer of the network as it is; also built, and dropped, before any training to see that it can be.

        Raises:
            TypeError, ValueError: it does not take its settings, or not for groups of parameters.
        """
        return self.parameter_groups.make(self.make_optimizer, self.net, self.special_groups())

    def special_groups(self) -> list[dict[str, Any]]:
        """Parameters that this kind of training treats in a way of its own, whatever ``parameters`` says; none here.

        Returns:
            Groups as optimizers take them, such as ``{"params": […], "weight_decay": 0.0, "momentum": 0.99}``.
        """
        return []

    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch.

        Counted here because ``Trainer.estimated_stepping_batches`` opens the loaders before a resumed fit has told them
        their place, so that batches would come twice.
        """
        batches, limit = len(self.trainer.datamodule.train_dataloader()), self.trainer.limit_train_batches  # type: ignore[attr-defined]
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        return max(1, math.ceil(batches / self.trainer.accumulate_grad_batches))

    def configure_callbacks(self) -> list[Callback]:
        """The callbacks of this phase."""
        return list(self.callbacks.values())


def frozen_by(freeze: Any) -> Freezing:
    """The callback of a phase's setting ``freeze``; ValueError where it is none."""
    if not isinstance(freeze, Mapping) or not {*freeze} <= {"layers", "epochs"} or "layers" not in freeze:
        raise ValueError(
            f"freeze has layers, and epochs where not all, as {{layers: [conv1], epochs: 5}}; got {freeze}"
        )
    return Freezing(**freeze)
