"""One phase, from where it stands to its end: begun, continued, or already finished."""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import LearningRateMonitor, ProgressBar, Timer
from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import Tensor

from pruning_lit.callbacks import (
    AtomicCheckpointIO,
    BestCheckpoint,
    LastCheckpoint,
    LeaveOnSignal,
    MetricsFile,
    NonFinite,
    RunIdentity,
    StatelessRandomness,
    finish_execution,
    require_same_settings,
)
from pruning_lit.callbacks.checkpoints import previous
from pruning_lit.channels.conversion import Conversion
from pruning_lit.data import Pictures
from pruning_lit.phases.sync_batch_norm import GpuSyncBatchNorm, SyncBatchNorm
from pruning_lit.phases.training import Training

log = logging.getLogger(__name__)

NOT_PART_OF_THE_RESULT = ("trainer", "logger", "callbacks", "checkpoint", "name", "latency", "on_nonfinite")


def decisive_settings(config: DictConfig) -> dict[str, Any]:
    """The settings of an experiment that decide its result, as plain nested data."""
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items() if key not in NOT_PART_OF_THE_RESULT}


@dataclass(frozen=True)
class PhaseOutcome:
    """What a finished phase left in its folder.

    Attributes:
        name, epochs: of the phase.
        seconds: training time, over all sittings.
        last: the checkpoint of the last epoch.
        cuts: what the pruning callback recorded, cut by cut.
        best: the best checkpoint and its validation accuracy, where there is one.
    """

    name: str
    epochs: int
    seconds: float
    last: Path
    cuts: list[dict[str, Any]] = field(default_factory=list)
    best: tuple[Path, float] | None = None


class PhaseRunner:
    """Runs one phase of an experiment in its own folder, ``phases/<number>-<name>``.

    Args:
        config: of the whole experiment.
        folder: of the run.
        number: position of the phase, from 1.
        name: of the phase.
    """

    def __init__(self, config: DictConfig, folder: Path, number: int, name: str) -> None:
        self.config, self.folder, self.number, self.name = config, folder, number, name
        self.place = folder / "phases" / f"{number}-{name}"
        self.last = self.place / "last.ckpt"
        self.finished = self.place / "finished.json"

    def run(self, module: Training, data: Pictures) -> PhaseOutcome:
        """Train to the end of the phase, unless that has been done, and leave the result in ``module.net``.

        The result is always read back from the folder, so that it does not matter which process, when, has trained.
        """
        data.stream = self.number
        begun = self._begun()
        if begun is not None:
            require_same_settings(read_checkpoint(begun), decisive_settings(self.config), begun)
        if self.finished.is_file():
            log.info("phase %s is finished, going on with its result", self.name)
        else:
            self._fit(module, data, begun)
        return self._result(module, data)

    def _begun(self) -> Path | None:
        """The checkpoint to go on from: the last one that can be read, or None; ValueError where none can.

        It is put in the place of a damaged one, so that all who look there find the same.
        """
        before = previous(self.last)
        if not self.last.is_file() and not before.is_file():
            return None
        try:
            read_checkpoint(self.last)
        except (ValueError, FileNotFoundError) as damage:
            if not before.is_file():
                raise
            step = read_checkpoint(before)["global_step"]
            log.warning("%s; going on from the one before it, of optimizer step %d", damage, step)
            self.finished.unlink(missing_ok=True)
            return before
        return self.last

    def _fit(self, module: Training, data: Pictures, begun: Path | None) -> None:
        leave = LeaveOnSignal(self.last)
        trainer = self._trainer(module, data, leave)
        if trainer.is_global_zero:
            each, processes = data.batch_size, trainer.world_size
            log.info("phase %s: %d epochs, batches of %d x %d process(es)", self.name, module.epochs, each, processes)
        with leave.forwarded(trainer):
            trainer.fit(module, datamodule=data, ckpt_path=begun, weights_only=True)
            if trainer.interrupted:
                raise KeyboardInterrupt
        if trainer.is_global_zero:
            self.finished.write_text(json.dumps({"epochs": module.epochs}) + "\n")
        trainer.strategy.barrier()

    def _trainer(self, module: Training, data: Pictures, leave: LeaveOnSignal) -> pl.Trainer:
        logger = self._logger()
        callbacks = [
            *self._extras(with_logger=logger is not None),
            StatelessRandomness(self.config.seed, self.number),
            MetricsFile(self.folder / "metrics.csv", self.name),
            RunIdentity(decisive_settings(self.config)),
            NonFinite(self.config.on_nonfinite, self.name),
            Timer(),
        ]
        if data.has_validation:  # ahead of the others, which write down what it has found
            callbacks.append(BestCheckpoint(self.place))
        callbacks.append(LastCheckpoint(self.place))
        if self.config.checkpoint.every_n_steps:
            callbacks.append(LastCheckpoint(self.place, self.config.checkpoint.every_n_steps))
        callbacks.append(leave)
        options: dict[str, Any] = {
            "limit_val_batches": 1.0 if data.has_validation else 0,
            "use_distributed_sampler": False,
        }
        plugins: list[Any] = [AtomicCheckpointIO()]
        if self.config.trainer.sync_batchnorm:
            plugins.append(layer_sync(self.config.trainer.accelerator))
            options["sync_batchnorm"] = False  # said by the plugin; Lightning's own knows neither CPUs nor selections
        return instantiate(self.config.trainer, _partial_=True)(
            max_epochs=module.epochs,
            callbacks=callbacks,
            logger=logger or False,
            default_root_dir=self.folder,
            plugins=plugins,
            **options,
        )

    def _extras(self, with_logger: bool) -> list[pl.Callback]:
        """The callbacks of the config that can do something here: a bar needs to be wanted, a monitor a logger."""
        extras = [instantiate(item) for item in (self.config.callbacks or {}).values()]
        wanted = self.config.trainer.get("enable_progress_bar", True)
        extras = [extra for extra in extras if wanted or not isinstance(extra, ProgressBar)]
        return [extra for extra in extras if with_logger or not isinstance(extra, LearningRateMonitor)]

    def _logger(self) -> Any:
        if not self.config.logger:
            return None
        make = instantiate(self.config.logger, _partial_=True)
        return make(save_dir=self.folder, name="tensorboard", version=f"{self.number}-{self.name}")

    def _result(self, module: Training, data: Pictures) -> PhaseOutcome:
        checkpoint = read_checkpoint(self.last)
        module.net.float()  # as it is in another process, whatever the precision of the training
        load_network(module.net, checkpoint, data.example)
        states, pruning = checkpoint["callbacks"], pruning_state(checkpoint)
        best: dict[str, Any] = next((state for key, state in states.items() if key.startswith("BestCheckpoint")), {})
        path = self.place / "best.ckpt"
        return PhaseOutcome(
            name=self.name,
            epochs=module.epochs,
            seconds=float(states["Timer"]["time_elapsed"]["train"]),
            last=self.last,
            cuts=pruning.get("cuts", []),
            best=(path, float(best["best_model_score"])) if path.is_file() and best.get("best_model_score") else None,
        )


def on_gpu(accelerator: str) -> bool:
    """Whether Lightning's ``accelerator`` means a GPU on this machine."""
    return accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())


def layer_sync(accelerator: str) -> LayerSync:
    """What lets batch norms see the pictures of all processes, for Lightning's ``accelerator``."""
    return GpuSyncBatchNorm() if on_gpu(accelerator) else SyncBatchNorm()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint as plain data; ValueError if it cannot be read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the damage leads to
        raise ValueError(
            f"the checkpoint {str(path)!r} is damaged ({type(error).__name__}); delete it to begin the phase again"
        ) from error


def pruning_state(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What the callback that prunes has written into a checkpoint; empty where there was none."""
    states = checkpoint["callbacks"].values()
    return next((state for state in states if isinstance(state, dict) and "cuts" in state), {})


def load_network(net: torch.nn.Module, checkpoint: dict[str, Any], example: Tensor) -> None:
    """Fill ``net``, adopting the widths, from a checkpoint of a phase; what is masked or compacted there is removed.

    Args:
        net: at least as wide as the one in the checkpoint.
        checkpoint: as read.
        example: a picture, ``(1, C, H, W)``.
    """
    weights = {
        key.removeprefix("net."): value for key, value in checkpoint["state_dict"].items() if key.startswith("net.")
    }
    net.load_state_dict(weights)
    device = next(net.parameters()).device
    state = pruning_state(checkpoint)
    finish_execution(net, state.get("execution", {}), example.to(device))
    if state.get("conversion"):
        Conversion.from_state(state["conversion"]).convert(net, example.to(device))
