"""A job of a sweep in a process of its own.

Lightning starts the further processes of ``trainer=ddp`` by running the command of this one again: within a sweep that
command is the whole sweep. Started alone, a job has a command of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pruning_lit.command_line.quoting import quoted
from pruning_lit.reports.record import JSON_NAME
from pruning_lit.runs.shared_phases import shared_root
from pruning_lit.sweeps.failure import noted_failure
from pruning_lit.system.preemption import LEFT, PART, Preempted, asked, passing_on


def starts_processes_by_its_command(config: DictConfig) -> bool:
    """True if the trainer of this config would run the command again for every further process."""
    from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

    from pruning_lit.command_line.trainer_options import trainer_maker

    strategy = trainer_maker(config.trainer)(logger=False, enable_checkpointing=False).strategy
    launcher = strategy.launcher
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return False
    return launcher.num_processes > 1 and not launcher.cluster_environment.creates_processes_externally


def run_alone(config: DictConfig, folder: Path) -> None:
    """Run the job of a sweep as a command, and wait for its end.

    Args:
        config: of the job.
        folder: of the job.

    Raises:
        ValueError: it has failed; with its sentence.
        Preempted: it was asked to leave.
    """
    root = shared_root(config)
    hydra = HydraConfig.get()
    own = [each.path for each in hydra.runtime.config_sources if each.provider == "command-line"]
    words = [
        *(word for path in own for word in ("--config-dir", path)),
        *(word for word in hydra.overrides.hydra if word.lstrip("+").startswith("hydra.searchpath=")),
        *hydra.overrides.task,
        f"hydra.run.dir={quoted(folder)}",
        *([f"shared={quoted(root)}"] if root else []),
    ]
    with passing_on():  # the job saves its state, and ends
        process = subprocess.Popen([sys.executable, "-m", "pruning_lit", *words], env={**os.environ, PART: "1"})
        code = process.wait()
    if asked() or code == LEFT:
        raise Preempted
    if code != 0:
        raise ValueError(noted_failure(folder) or f"its process ended with exit code {code}")
    if not (folder / JSON_NAME).is_file():
        raise Preempted
