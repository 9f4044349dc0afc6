"""``python -m pruning_lit``: run an experiment composed on the command line; without any argument the demo."""

from pruning_lit.system.preemption import begun_as, leave_when_asked

if begun_as(__name__, "pruning-lit"):
    leave_when_asked()  # from the first moment on: what is imported below takes a second

import logging
import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pruning_lit.command_line.command import command
from pruning_lit.command_line.renamed import present_settings
from pruning_lit.command_line.resume import with_resume
from pruning_lit.runs.job_process import run_alone, starts_processes_by_its_command
from pruning_lit.runs.settings import decides_result, job_settings, of_the_fit
from pruning_lit.sweeps.finished import finished_with, is_finished, note_finished
from pruning_lit.sweeps.objective import returned
from pruning_lit.system.launcher import place
from pruning_lit.system.loading import loading

DEMO = "experiment=demo"
log = logging.getLogger("pruning_lit")


def _run(config: DictConfig, folder: Path) -> float | list[float] | None:
    """Run the experiment; a job of a sweep only unless it has been finished, as when the sweep is continued.

    What it returns is for sweepers that optimise.
    """
    hydra = HydraConfig.get()
    finished_before = hydra.mode == RunMode.MULTIRUN and finished_with(folder) is not None
    noted = lambda settings: of_the_fit(config) | present_settings(settings)  # noqa: E731 (older versions had none)
    if finished_before and is_finished(folder, job_settings(config), noted):
        log.info("job %s is finished, not run again", hydra.job.num)
        return returned(config.objective, folder)
    if place()[0] == 0 and os.environ.get("LOCAL_RANK", "0") == "0":
        log.info("folder of this run: %s", folder)
    if hydra.mode == RunMode.MULTIRUN and starts_processes_by_its_command(config):
        run_alone(config, folder)
    else:
        with loading():  # late: torch and Lightning take seconds, and --help and refusals do without
            from pruning_lit.runs.experiment import run
        run(config, folder)
    note_finished(folder, job_settings(config), hydra.overrides.task)
    return returned(config.objective, folder) if hydra.mode == RunMode.MULTIRUN else None


def _demo_or_resumed(words: list[str]) -> list[str]:
    """Overrides as typed, ``resume=`` replaced by what it stands for; those of the demo where nothing is typed."""
    if not words:
        print(f"Nothing was asked for: this is the demo, {DEMO} (--help tells what there is).", flush=True)
        return [DEMO]
    return with_resume(words, decides_result)


def main() -> None:
    """Entry point of the command line: what a user can mend ends in one sentence and exit code 1."""
    command("config", _run, _demo_or_resumed)


if __name__ == "__main__":
    main()
