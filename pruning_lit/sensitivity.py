"""``python -m pruning_lit.sensitivity weights=…``: what is lost when a group of channels gets narrower.

Nothing is trained. The command line is that of a run, so that ``.sensitivity`` can be put into it.
"""

from pruning_lit.system.preemption import begun_as, leave_when_asked

if begun_as(__name__):
    leave_when_asked("pruning_lit.sensitivity")

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pruning_lit.command_line.command import command
from pruning_lit.command_line.resume import with_resume
from pruning_lit.runs.settings import decides_result
from pruning_lit.system.loading import loading

NO_DATASET = "~dataset"
CHOOSING = ("dataset=", "dataset._target_=", "experiment=")


def _run(config: DictConfig, folder: Path) -> None:
    with loading():  # late: --help and refusals do without torch
        from pruning_lit.runs.sensitivity import measure
    measure(config, folder, HydraConfig.get().overrides.task)


def in_hydras_words(words: list[str]) -> list[str]:
    """Turn the command's own shorthands into overrides.

    ``resume=<folder>`` stands for what was typed for that folder. Where no data set is chosen, nor an experiment, which
    brings one, it is that of the weights' run, which is not known yet: it is none for Hydra, and ``dataset.root=…`` or
    ``task.…=…`` change what will be found.
    """
    words = [word for word in with_resume(words, decides_result, "pruning_lit.sensitivity") if word != NO_DATASET]
    if any(word.lstrip("+").startswith(CHOOSING) for word in words):
        return words
    found_later = {"dataset.": "++", "task.": "++", "task=": "+"}
    return [
        NO_DATASET,
        *(next((sign for start, sign in found_later.items() if word.startswith(start)), "") + word for word in words),
    ]


def main() -> None:
    """Entry point of the command line."""
    command("sensitivity", _run, in_hydras_words)


if __name__ == "__main__":
    main()
