"""Trainer settings that would be refused late, in words of others, or not at all."""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig
from pytorch_lightning.strategies import StrategyRegistry

from pruning_lit.command_line.setting_types import TRAINER_ALSO

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
STARTED_BY = ("WORLD_SIZE", "SLURM_NTASKS", "MASTER_ADDR")  # torchrun, srun, or by hand on every node
#: What the phases and the group callbacks say themselves.
SAID_ELSEWHERE = {
    "max_epochs": "the phases have epochs of their own, such as train.epochs",
    "min_epochs": "the phases have epochs of their own, such as train.epochs",
    "max_steps": "the phases have epochs, such as train.epochs; trainer.limit_train_batches makes them shorter",
    "min_steps": "the phases have epochs, such as train.epochs",
    "max_time": "a phase cut short would be taken for finished; `timeout <seconds> python -m pruning_lit …` asks a run "
    "to leave, and resume=<folder> goes on",
    "fast_dev_run": "debug=quick does every part of a run once",
    "enable_checkpointing": "a run goes by its checkpoints, and so does the report",
    "barebones": "a run goes by its checkpoints and logs; callbacks=quiet logger=none makes it as bare as can be",
    "limit_test_batches": "the test part is looked at as a whole, by the report",
    "limit_predict_batches": "nothing is predicted",
    "callbacks": "the group callbacks has them, as in +callbacks.mine._target_=…",
    "logger": "the group logger has it: logger=tensorboard, csv, wandb, mlflow, several in brackets, or none",
    "plugins": "the run has its own, which write the checkpoints",
    "default_root_dir": "hydra.run.dir=… says where a run goes",
    "use_distributed_sampler": "the data are shared among processes by the data module",
    "limit_val_batches": "all validation images are looked at, for the best epoch is chosen by them",
}


def trainer_maker(trainer: DictConfig) -> partial[Any]:
    """Lightning's trainer with the settings of the group that are its own."""
    make = instantiate(trainer, _partial_=True)
    return partial(make.func, **{key: value for key, value in make.keywords.items() if key not in TRAINER_ALSO})


def require_trainer(
    trainer: DictConfig, every_n_steps: Any = None, environment: Mapping[str, str] = os.environ
) -> None:
    """Refuse trainer settings, before the data are read, that no training can go by.

    Args:
        trainer: the group ``trainer``, of the right kinds.
        every_n_steps: optimizer steps between two checkpoints within an epoch; None: none.
        environment: in which a launcher says that it has started this process.

    Raises:
        ValueError: a number is out of its range, or something is said here that is said elsewhere.
    """
    for key, reason in SAID_ELSEWHERE.items():
        if key in trainer:
            raise ValueError(f"trainer.{key} has no effect here: {reason}")
    if trainer.get("num_nodes", 1) > 1 and not any(name in environment for name in STARTED_BY):
        raise ValueError(
            f"trainer.num_nodes={trainer.num_nodes}: start the command on every node by torchrun or srun, as "
            "docs/many_runs.md shows; alone it would wait for the others for ever"
        )
    for key in ("num_nodes", "accumulate_grad_batches", "threads"):
        if trainer.get(key) is not None and trainer[key] < 1:
            raise ValueError(f"trainer.{key} must be at least 1, got {trainer[key]}")
    for key in ("gradient_clip_val", "log_every_n_steps"):
        if trainer.get(key) is not None and trainer[key] < 0:
            raise ValueError(f"trainer.{key} must not be negative, got {trainer[key]}")
    limit = trainer.get("limit_train_batches")
    if limit is not None and not (limit >= 1 if isinstance(limit, int) else 0 < limit <= 1):
        raise ValueError(
            f"trainer.limit_train_batches is a number of batches from 1, or a share in (0, 1], got {limit}"
        )
    if trainer.get("deterministic") not in (True, False, None, "warn"):
        raise ValueError(f"trainer.deterministic is true, false or warn, got {trainer.deterministic!r}")
    if isinstance(name := trainer.get("accelerator"), str) and name not in ACCELERATORS:
        raise ValueError(f"trainer.accelerator is one of {', '.join(ACCELERATORS)}, got {name!r}")
    apples = name == "gpu" and torch.backends.mps.is_available()
    if name in ("gpu", "cuda") and not (torch.cuda.is_available() or apples):
        raise ValueError(
            f"trainer.accelerator={name}, but PyTorch finds no GPU here: leave it out, or choose trainer=cpu"
        )
    strategies = [*StrategyRegistry.available_strategies(), "auto"]
    if isinstance(name := trainer.get("strategy"), str) and name not in strategies:
        raise ValueError(f"trainer.strategy is auto, ddp, ddp_fork or another of Lightning's, got {name!r}")
    _require_devices(trainer.get("devices"), trainer.get("accelerator", "auto"))
    if every_n_steps is not None and every_n_steps < 1:
        raise ValueError(f"checkpoint.every_n_steps must be at least 1, or null for none, got {every_n_steps}")


def _on_gpu(accelerator: Any) -> bool:
    return accelerator in ("gpu", "cuda", "mps", "tpu") or (accelerator == "auto" and torch.cuda.is_available())


def _require_devices(devices: Any, accelerator: Any) -> None:
    if isinstance(devices, list | ListConfig) and devices and not _on_gpu(accelerator):
        raise ValueError(
            f"trainer.devices={list(devices)} lists GPUs by their numbers, and this run has none (trainer.accelerator="
            f"{accelerator}): trainer.devices={len(devices)} is a number of processes"
        )
    if isinstance(devices, str) and (devices == "auto" or all(each.strip().isdigit() for each in devices.split(","))):
        return
    if isinstance(devices, str) or devices in (0, []) or (isinstance(devices, int) and devices < -1):
        raise ValueError(f"trainer.devices is a number from 1, a list of their numbers, -1 or auto, got {devices!r}")
