"""Every epoch's figures in one table for all phases."""

import csv
from pathlib import Path

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities import rank_zero_only

from pruning_lit.system.atomic import replacing


class MetricsFile(Checkpoint):
    """Append a line per epoch and figure to ``metrics.csv``: phase, epoch, step, name, value.

    Epochs that are trained again after a resume replace the lines they left before. To Lightning it is a checkpoint, as
    these are called when the module and all other callbacks, those of a phase included, have logged.

    Args:
        path: the file, shared by the phases of a run.
        phase: name of the phase.
    """

    HEADER = ("phase", "epoch", "step", "name", "value")

    def __init__(self, path: Path, phase: str) -> None:
        self.path, self.phase = path, phase

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs before the network is saved: an epoch that is not trained again has its lines."""
        lines = [
            line for line in _read(self.path) if not (line[0] == self.phase and int(line[1]) >= trainer.current_epoch)
        ]
        for name, value in sorted(trainer.callback_metrics.items()):
            lines.append([self.phase, str(trainer.current_epoch), str(trainer.global_step), name, repr(float(value))])
        _write(self.path, lines)


def lines_of(path: Path, phase: str) -> list[list[str]]:
    """Lines of ``metrics.csv`` that belong to one phase."""
    return [line for line in _read(path) if line[0] == phase]


def replace_lines(path: Path, phase: str, lines: list[list[str]]) -> None:
    """Put these lines in the place of what the table says of the phase."""
    _write(path, [*(line for line in _read(path) if line[0] != phase), *lines])


def _read(path: Path) -> list[list[str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def _write(path: Path, lines: list[list[str]]) -> None:
    with replacing(path) as draft, draft.open("w", newline="") as file:
        csv.writer(file).writerows([MetricsFile.HEADER, *lines])
