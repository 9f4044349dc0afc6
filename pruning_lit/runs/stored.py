"""A network as it lies on the disk: in a network file, or in a checkpoint of one of a run's phases."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from torch import nn

import pruning_lit.data
import pruning_lit.tasks
from pruning_lit.callbacks.checkpoint_settings import KEY
from pruning_lit.channels import adopt_on_load, artefact
from pruning_lit.command_line.renamed import present_settings
from pruning_lit.command_line.targets import permission
from pruning_lit.data import DataModule
from pruning_lit.data.expected import always
from pruning_lit.runs.builder import own_call, recipe
from pruning_lit.runs.network_file import network_file, user_built
from pruning_lit.runs.phase_runner import load_network, read_checkpoint
from pruning_lit.runs.preprocessing import TrainingInputs
from pruning_lit.runs.settings import is_recipe

Arch = Mapping[str, Any]


class NetworkFile:
    """A network written by ``channels.save``.

    Args:
        path: the file, or the folder of a run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no network file, or the folder is not that of a finished run.
    """

    def __init__(self, path: Path) -> None:
        self.file = network_file(path)
        header, _ = artefact.read(self.file)
        self.arch: Arch = header.get("arch") or {}
        self.trained_on = TrainingInputs.of_header(header)

    def dataset(self) -> dict[str, Any] | None:
        """Config of the pictures that the run was for; None: the file lies in no run's folder."""
        settings = self._settings()
        if settings.get("dataset") is None:
            return None
        dataset = OmegaConf.to_container(settings.dataset, resolve=True)
        return trusted_dataset(present_settings({"dataset": dataset})["dataset"], self.file)

    def task(self) -> dict[str, Any] | None:
        """Config of the task of the run; None where it is not known."""
        task = self._settings().get("task")
        return None if task is None else trusted_task(OmegaConf.to_container(task, resolve=True), self.file)

    def _settings(self) -> DictConfig:
        """The config of the run; empty where the file lies in no run's folder."""
        config = self.file.resolve().parent.parent / ".hydra" / "config.yaml"
        try:
            settings = OmegaConf.load(config) if config.is_file() else OmegaConf.create()
        except yaml.YAMLError as error:
            raise ValueError(f"'{config}' cannot be read ({type(error).__name__}): add dataset=…") from error
        return settings if isinstance(settings, DictConfig) else OmegaConf.create()

    def network(self, data: DataModule, builder: Arch | None) -> nn.Module:
        """The network, on the CPU, in eval mode.

        Args:
            data: pictures it is to look at.
            builder: ``_target_`` and arguments, where the user names them.

        Raises:
            ValueError: it cannot be built, or is another network than that in the file.
        """
        return artefact.load(self.file, user_built(self.arch, builder, self.file))


class PhaseCheckpoint:
    """``last.ckpt`` or ``best.ckpt`` of a run's phase; how its network is built is said by the settings in it.

    Args:
        file: the checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint of this kind.
    """

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise FileNotFoundError(f"there is no file {str(file)!r}")
        self.file = file
        self.checkpoint = read_checkpoint(file)
        settings = self.checkpoint.get(KEY) if isinstance(self.checkpoint, dict) else None
        if not isinstance(settings, dict) or not all(isinstance(settings.get(k), dict) for k in ("arch", "dataset")):
            raise ValueError(f"{str(file)!r} was not written by a phase of a run; give the folder of a run, or a file")
        self.arch: Arch = settings["arch"]
        self._dataset: dict[str, Any] = settings["dataset"]
        self._task = next((each["task"] for each in settings.values() if is_recipe(each) and each.get("task")), None)
        self.trained_on = _trained_on(self._dataset)

    def dataset(self) -> dict[str, Any]:
        """Config of the pictures that it was trained on."""
        return trusted_dataset(self._dataset, self.file)

    def task(self) -> dict[str, Any] | None:
        """Config of the task of its phase; None where it is not known."""
        return None if self._task is None else trusted_task(self._task, self.file)

    def network(self, data: DataModule, builder: Arch | None) -> nn.Module:
        """The network, see ``NetworkFile``, without what is masked or compacted there."""
        net = user_built({**self.arch, "num_classes": data.num_classes}, builder, self.file)
        if net is None:
            net = artefact.build(recipe(OmegaConf.create(dict(self.arch)), data.num_classes), self.file)
        adopt_on_load(net)
        try:
            load_network(net, self.checkpoint, data.example)
        except RuntimeError as error:  # torch's, on names and shapes
            told = " ".join(str(error).split()).partition(": ")[2]
            raise ValueError(
                f"{str(self.file)!r} does not fit its network for {data.num_classes} classes: {told}"
            ) from error
        return net.eval()


def open_stored(path: str) -> NetworkFile | PhaseCheckpoint:
    """What the user has named: a checkpoint by its ending, else a network file or the folder of a run."""
    return PhaseCheckpoint(Path(path)) if path.endswith(".ckpt") else NetworkFile(Path(path))


def needs_builder(arch: Arch) -> bool:
    """Whether only a user can say how the network is built: the file does not, or may not."""
    return "_target_" not in arch or bool(own_call(dict(arch)))


def trusted_dataset(config: Any, file: Path) -> dict[str, Any]:
    """The config of a data set as a file has it; ValueError where it names other code than the data sets in here."""
    settings = dict(config)
    package, _, name = str(settings.get("_target_")).rpartition(".")
    others = str({key: value for key, value in settings.items() if key != "_target_"})
    if package != pruning_lit.data.__name__ or name not in pruning_lit.data.__all__ or "_target_" in others:
        target = str(settings.get("_target_"))
        raise ValueError(
            f"{str(file)!r} wants its pictures to be read by {target}, and no file runs code of your own by itself: "
            f"add dataset=…, or dataset._target_=… with all its keys and {permission(target).strip()}"
        )
    if "${" in others:  # a file's config is resolved already; resolved once more, text can become a target
        raise ValueError(f"{str(file)!r} describes its pictures by interpolations, not by values: add dataset=…")
    return settings


def trusted_task(config: Any, file: Path) -> dict[str, Any]:
    """The config of a task as a file has it; ValueError where it names other code than the tasks in here."""
    settings = {key: value for key, value in dict(config).items() if key != "_partial_"}
    package, _, name = str(settings.get("_target_")).rpartition(".")
    others = str({key: value for key, value in settings.items() if key != "_target_"})
    if package != pruning_lit.tasks.__name__ or name not in pruning_lit.tasks.__all__ or "_target_" in others:
        target = str(settings.get("_target_"))
        raise ValueError(
            f"{str(file)!r} names the task {target}, and no file runs code of your own by itself: add "
            f"task._target_={target} with its keys and {permission(target).strip()}"
        )
    if "${" in others:
        raise ValueError(f"{str(file)!r} describes its task by interpolations, not by values: add task=…")
    return settings


def _trained_on(dataset: dict[str, Any]) -> TrainingInputs:
    """What a config tells of its pictures without reading any."""
    shape, num_classes = always(str(dataset.get("_target_")))
    mean, size = dataset.get("mean"), dataset.get("size") or dataset.get("image_size")
    if shape is None and size and mean:
        shape = (len(mean), size, size)
    return TrainingInputs(mean, dataset.get("std"), shape, num_classes=num_classes)
