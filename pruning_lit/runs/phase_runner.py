"""One phase, from where it stands to its end: begun, continued, or already finished."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.callbacks import LearningRateMonitor, ProgressBar, Timer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.layer_sync import LayerSync

from pruning_lit.callbacks import (
    AtomicCheckpointIO,
    BestCheckpoint,
    CheckpointSettings,
    LastCheckpoint,
    LeaveOnSignal,
    MetricsFile,
    MissedEpochEnd,
    NonFinite,
    StatelessRandomness,
    require_same_settings,
)
from pruning_lit.callbacks.checkpoint_settings import BATCH
from pruning_lit.callbacks.checkpoints import LAST
from pruning_lit.callbacks.pruning import Pruning
from pruning_lit.command_line.trainer_options import trainer_maker
from pruning_lit.data import DataModule
from pruning_lit.phases.sync_batch_norm import GpuSyncBatchNorm, SyncBatchNorm
from pruning_lit.phases.training import Training
from pruning_lit.records.cut import CutRecord
from pruning_lit.reports.section import Section
from pruning_lit.runs.batch import Batch, in_words, require_same_size
from pruning_lit.runs.composed import side_by_side
from pruning_lit.runs.loggers import build_loggers
from pruning_lit.runs.phase_checkpoint import load_network, read_checkpoint
from pruning_lit.runs.progress import Progress, best_score, progress
from pruning_lit.runs.settings import exact_settings, phase_settings
from pruning_lit.runs.shared_phases import SharedPhase, shared_root
from pruning_lit.system.atomic import write_text
from pruning_lit.system.console_log import can_show_bars
from pruning_lit.system.deaths import LostProcess
from pruning_lit.system.processes import ending_together
from pruning_lit.system.resume_hint import how_to_resume, resuming

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PhaseOutcome:
    """Outcome of a finished phase, as it lies in its folder.

    Attributes:
        name, epochs: of the phase.
        steps: optimizer steps.
        seconds: training time, over all sittings.
        last: the checkpoint of the last epoch.
        sections: of the report, which the phase names.
        prunings: classes of the callbacks that prune in it.
        cuts: what they recorded, cut by cut.
        best: the best checkpoint and its primary metric on the validation part, where there is one.
        batch: images per optimizer step, and what makes them up; None where an earlier version has trained.
        taken_over_from: the run that has trained it, where that was another one.
        distillation: the teacher of the phase and what was learned from it, in words; None: there was none.
    """

    name: str
    epochs: int
    steps: int
    seconds: float
    last: Path
    sections: tuple[type[Section], ...] = ()
    prunings: tuple[type[Pruning], ...] = ()
    cuts: list[CutRecord] = field(default_factory=list)
    best: tuple[Path, float] | None = None
    batch: Batch | None = None
    taken_over_from: str | None = None
    distillation: str | None = None


class PhaseRunner:
    """Runs one phase of an experiment in its own folder, ``phases/<number>-<name>``.

    Args:
        config: of the whole experiment.
        folder: of the run.
        number: position of the phase, from 1.
        phases: name of every phase of the experiment, in order, to the key of its recipe.

    Attributes:
        first_step: optimizer steps of the phases before.
        begun: where the phase stands on the disk, once it was looked at and until it is run; None: nowhere.
    """

    def __init__(self, config: DictConfig, folder: Path, number: int, phases: Mapping[str, str]) -> None:
        self.config, self.folder, self.number, self.first_step = config, folder, number, 0
        self.name, keys = list(phases)[number - 1], list(phases.values())[:number]
        self.place = folder / "phases" / f"{number}-{self.name}"
        self.last, self.best = self.place / LAST, self.place / "best.ckpt"
        self.finished = self.place / "finished.json"
        self.metrics = folder / "metrics.csv"
        self.settings = phase_settings(config, keys)
        root = shared_root(config) if number < len(phases) else None  # what the last one leads to is the run's alone
        self.shared = SharedPhase(root, self.name, exact_settings(config, keys)) if root else None
        self.begun: Progress | None = None

    def look(self, data: DataModule) -> None:
        """Look where the phase stands, before any training.

        Raises:
            ValueError: it was begun with other settings, or cannot be read.
        """
        self.begun = begun = progress(self.place)
        if begun is None and self.finished.is_file():
            log.warning("phase %s was finished, but its checkpoint is not there any more: it begins again", self.name)
        if begun is not None:
            require_same_settings(begun.checkpoint, self.settings, begun.path)
            require_same_size(begun.checkpoint.get(BATCH), self._batch(data), self.name)

    def run(self, module: Training, data: DataModule) -> PhaseOutcome:
        """Train to the end of the phase from where it was seen to stand, and leave the result in ``module.net``.

        The result is always read back from the folder, so that it does not matter which process, when, has trained.
        """
        data.stream = self.number
        batch = self._batch(data)
        begun, self.begun = self.begun, None
        if begun is None or begun.path != self.last:
            self.finished.unlink(missing_ok=True)
        if self.finished.is_file():
            log.info("phase %s is finished, going on with its result", self.name)
        elif self.shared is None:
            self._fit(module, data, begun, batch)
        else:
            self._fit_or_take_over(self.shared, module, data, begun, batch)
        return self._result(module, data)

    def _fit_or_take_over(
        self, shared: SharedPhase, module: Training, data: DataModule, begun: Progress | None, batch: Batch
    ) -> None:
        with shared.reserved():
            if not shared.take_over(self.place, self.metrics):
                self._fit(module, data, begun, batch)
                shared.publish(self.place, self.metrics, self.folder)

    def _fit(self, module: Training, data: DataModule, begun: Progress | None, batch: Batch) -> None:
        if begun is None:
            self.best.unlink(missing_ok=True)  # of a phase that was begun before
        elif begun.path != self.last:
            self.last.unlink(missing_ok=True)  # damaged; else it would become the one before the next
        leave = LeaveOnSignal(self.last)
        trainer = self._trainer(module, data, leave, self._loggers(module, begun), batch)
        if trainer.is_global_zero:
            epochs = f"{module.epochs} epoch{'s' * (module.epochs != 1)}"
            log.info("phase %s: %s, %s per step: %s", self.name, epochs, module.task.items, in_words(batch))
            if begun is not None:
                at = begun.checkpoint
                told = self.name, at["global_step"], at["epoch"] + 1, module.epochs
                log.info("phase %s goes on behind optimizer step %d (epoch %d/%d)", *told)
        with leave.until_left(trainer), ending_together(trainer.strategy.launcher, self._tell):
            trainer.fit(module, datamodule=data, ckpt_path=begun and begun.path, weights_only=True)
        self._require_final(module, read_checkpoint(self.last))
        if trainer.is_global_zero:
            write_text(self.finished, json.dumps({"epochs": module.epochs, "batch": batch}) + "\n")
        trainer.strategy.barrier()

    def _require_final(self, module: Training, checkpoint: dict[str, Any]) -> None:
        """ValueError where a callback has ended the phase before the network had its final width."""
        num_epochs = checkpoint["epoch"] + 1
        final = True
        for each in _prunings(module):  # by the checkpoint, as processes that are forked train in memory of their own
            each.cuts = _cuts(checkpoint, type(each))
            final = final and each.finished
        if num_epochs < module.epochs and not final:
            raise ValueError(
                f"phase {self.name} was ended after epoch {num_epochs} of {module.epochs}, and has not pruned the "
                "network by then: leave out the callback that ends it, or give it to a later phase alone "
                "(+finetune.callbacks.…)"
            )

    def _tell(self, loss: LostProcess) -> None:
        log.error("%s%s", loss, how_to_resume(loss, self.folder, resuming(self.folder)))

    def _batch(self, data: DataModule) -> Batch:
        """Images per optimizer step with the processes that there are; the learning rate stays, however many."""
        return batch_of(trainer_maker(self.config.trainer)(logger=False), data)

    def _trainer(
        self, module: Training, data: DataModule, leave: LeaveOnSignal, loggers: list[Logger], batch: Batch
    ) -> pl.Trainer:
        extras = self._extras(with_logger=bool(loggers))
        callbacks = [
            *extras,
            StatelessRandomness(self.config.seed, self.number),
            MetricsFile(self.metrics, self.name),
            CheckpointSettings(self.settings, batch, data.num_classes),
            NonFinite(self.config.on_nonfinite, self.name),
            Timer(),
        ]
        if data.has_validation:  # ahead of the others, which write down what it has found
            callbacks.append(BestCheckpoint(self.place, module.task.primary, best_score(self.best)))
        callbacks.append(LastCheckpoint(self.place))
        if self.config.checkpoint.every_n_steps:
            callbacks.append(LastCheckpoint(self.place, self.config.checkpoint.every_n_steps))
        callbacks += [leave, MissedEpochEnd()]
        options: dict[str, Any] = {
            "limit_val_batches": 1.0 if data.has_validation else 0,
            "enable_progress_bar": any(isinstance(each, ProgressBar) for each in extras),  # else Lightning adds its own
            "use_distributed_sampler": False,
        }
        plugins: list[Any] = [AtomicCheckpointIO()]
        if self.config.trainer.sync_batchnorm:
            plugins.append(layer_sync(self.config.trainer.accelerator))
            options["sync_batchnorm"] = False  # said by the plugin; Lightning's own knows neither CPUs nor selections
        return trainer_maker(self.config.trainer)(
            max_epochs=module.epochs,
            callbacks=callbacks,
            logger=loggers or False,
            default_root_dir=self.folder,
            plugins=plugins,
            **options,
        )

    def _extras(self, with_logger: bool) -> list[pl.Callback]:
        """The callbacks of the config that can do something here: a bar needs a place to itself, a monitor a logger."""
        extras = [instantiate(item) for item in (self.config.callbacks or {}).values()]
        bar = self.config.trainer.get("enable_progress_bar", True) and can_show_bars() and not side_by_side()
        extras = [extra for extra in extras if bar or not isinstance(extra, ProgressBar)]
        return [extra for extra in extras if with_logger or not isinstance(extra, LearningRateMonitor)]

    def _loggers(self, module: Training, begun: Progress | None) -> list[Logger]:
        begun_step = begun.checkpoint["global_step"] if begun else 0
        phase, primary = f"{self.number}-{self.name}", module.task.primary.name
        return build_loggers(self.config, self.folder, phase, primary, self.first_step, begun_step)

    def _result(self, module: Training, data: DataModule) -> PhaseOutcome:
        checkpoint = read_checkpoint(self.last)
        module.net.float()  # as it is in another process, whatever the precision of the training
        prunings = tuple(type(each) for each in _prunings(module))
        load_network(module.net, checkpoint, self.last, data.example, prunings, module.task.view)
        cuts = [each for kind in prunings for each in _cuts(checkpoint, kind)]
        score = best_score(self.best)
        noted = json.loads(self.finished.read_text())
        return PhaseOutcome(
            name=self.name,
            epochs=module.epochs,
            steps=checkpoint["global_step"],
            seconds=float(checkpoint["callbacks"]["Timer"]["time_elapsed"]["train"]),
            last=self.last,
            sections=module.sections,
            prunings=prunings,
            cuts=cuts,
            best=None if score is None else (self.best, score),
            batch=noted.get("batch"),
            taken_over_from=noted.get("run"),
            distillation=None if module.distillation is None else str(module.distillation),
        )


def _prunings(module: Training) -> list[Pruning]:
    return [each for each in module.callbacks.values() if isinstance(each, Pruning)]


def _cuts(checkpoint: dict[str, Any], kind: type[Pruning]) -> list[CutRecord]:
    """The cuts that a callback of this class has made by the time of a checkpoint."""
    state = checkpoint["callbacks"].get(kind.__qualname__, {})
    return [CutRecord.of_state(each) for each in state.get("cuts", [])]


def batch_of(trainer: pl.Trainer, data: DataModule) -> Batch:
    """Batch of an optimizer step over all processes; the data have that of one, and the learning rate stays."""
    each, processes, accumulated = data.batch_size, trainer.world_size, trainer.accumulate_grad_batches
    images = each * processes * accumulated
    return Batch(pictures=images, per_process=each, processes=processes, accumulated=accumulated)


def on_gpu(accelerator: str) -> bool:
    """Return true where Lightning's ``accelerator`` means a GPU on this machine."""
    return accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())


def layer_sync(accelerator: str) -> LayerSync:
    """Plugin by which batch norms see the batches of all processes, for Lightning's ``accelerator``."""
    return GpuSyncBatchNorm() if on_gpu(accelerator) else SyncBatchNorm()
