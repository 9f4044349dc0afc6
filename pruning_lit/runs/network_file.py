"""A network in a file of its own, and what the folder of its run knows about it."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from torch import nn

from pruning_lit.channels import artefact
from pruning_lit.command_line.renamed import present_settings
from pruning_lit.models.weights import fit_weights
from pruning_lit.runs.file_trust import Arch, trusted_dataset, trusted_task, user_built
from pruning_lit.runs.preprocessing import TrainingInputs
from pruning_lit.tasks.base import Task, View


class NetworkFile:
    """A network written by ``channels.save``.

    Args:
        path: the file, or the folder of a run.
        allowed: packages, modules or full names of code of the user's own that file and run may name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no network file, or the folder is not that of a finished run.
    """

    def __init__(self, path: Path, allowed: Sequence[str] = ()) -> None:
        self.file, self.allowed = network_file(path), allowed
        header, _ = artefact.read(self.file)
        self.arch: Arch = header.get("arch") or {}
        self.trained_on = TrainingInputs.of_header(header)

    def dataset(self) -> dict[str, Any] | None:
        """Config of the images that the run was for; None: the file lies in no run's folder."""
        settings = self._settings()
        if settings.get("dataset") is None:
            return None
        dataset = OmegaConf.to_container(settings.dataset, resolve=True)
        return trusted_dataset(present_settings({"dataset": dataset})["dataset"], self.file, self.allowed)

    def task(self) -> dict[str, Any] | None:
        """Config of the task of the run; None where it is not known."""
        task = self._settings().get("task")
        return (
            None if task is None else trusted_task(OmegaConf.to_container(task, resolve=True), self.file, self.allowed)
        )

    def _settings(self) -> DictConfig:
        """The config of the run; empty where the file lies in no run's folder."""
        config = self.file.resolve().parent.parent / ".hydra" / "config.yaml"
        try:
            settings = OmegaConf.load(config) if config.is_file() else OmegaConf.create()
        except yaml.YAMLError as error:
            raise ValueError(f"'{config}' cannot be read ({type(error).__name__}): add dataset=…") from error
        return settings if isinstance(settings, DictConfig) else OmegaConf.create()

    def network(self, builder: Arch | None, example: Any, num_classes: int | None, view: View = Task.view) -> nn.Module:
        """The network, on the CPU, in eval mode.

        Args:
            builder: ``_target_`` and arguments, where the user names them.
            example: an input of the network.
            num_classes: what there is to tell apart; the file knows its own.
            view: the part of a network that is pruned; the file knows its widths.

        Raises:
            ValueError: it cannot be built, or is another network than that in the file.
        """
        return artefact.load(self.file, user_built(self.arch, builder, self.file, self.allowed))

    def dense_network(self, builder: Arch | None, num_classes: int | None) -> nn.Module:
        """The network before any cut, for its widths and its speed: its weights mean nothing; as for ``network``."""
        own = user_built(self.arch, builder, self.file, self.allowed)
        return artefact.build(self.arch, self.file, artefact.read(self.file)[1]) if own is None else own

    def fill(self, net: nn.Module, example: Any, view: View = Task.view, new_heads: Collection[str] = ()) -> None:
        """Fill a network of one's own with the weights and widths in the file, in place; see ``load_weights``."""
        fit_weights(net, artefact.read(self.file)[1], self.file, True, new_heads)


def network_file(path: str | Path) -> Path:
    """The file itself, or the one in a run's folder.

    Raises:
        ValueError: it is a folder, but not that of a finished run.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    file = path / "pruned" / "model.safetensors"
    if not file.is_file():
        raise ValueError(f"{str(path)!r} is not the folder of a finished run: it has no pruned/model.safetensors")
    return file
