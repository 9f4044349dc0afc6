"""``python -m pruning_lit.evaluate path=…``: finished networks on any images, one of them or several side by side."""

from pruning_lit.system.preemption import begun_as, leave_when_asked

if begun_as(__name__):
    leave_when_asked("pruning_lit.evaluate")

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from pruning_lit.command_line.command import command
from pruning_lit.command_line.paths import as_list
from pruning_lit.system.loading import loading


def _run(config: DictConfig, folder: Path, typed: Sequence[str]) -> None:
    with loading():  # late: --help and refusals do without torch
        from pruning_lit.runs.evaluation import evaluate_stored
    evaluate_stored(config, folder, typed)


def in_hydras_words(words: list[str]) -> list[str]:
    """Turn the command's own shorthands into overrides.

    ``path=a,b`` is one evaluation of two networks, no sweep over them; ``dataset.root=…`` without ``dataset=…`` changes
    what is not known yet, the data set of the run.
    """
    chosen = any(word.startswith(("dataset=", "+dataset=")) for word in words)
    return [f"++{word}" if word.startswith("dataset.") and not chosen else as_list(word) for word in words]


def main() -> None:
    """Entry point of the command line."""
    typed = sys.argv[1:]
    command("evaluate", lambda config, folder: _run(config, folder, typed), in_hydras_words)


if __name__ == "__main__":
    main()
