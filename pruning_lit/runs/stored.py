"""Loading of networks: from a network file or a run's folder, from a checkpoint of a phase, or from plain weights."""

import json
import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from torch import nn

import pruning_lit.data
import pruning_lit.tasks
from pruning_lit.callbacks.checkpoint_settings import KEY
from pruning_lit.callbacks.execution import View, whole
from pruning_lit.callbacks.pruning import Pruning
from pruning_lit.channels import artefact
from pruning_lit.command_line.renamed import present_settings
from pruning_lit.command_line.targets import ROOMS, permission
from pruning_lit.data.expected import always
from pruning_lit.models.weights import fit_weights, load_weights
from pruning_lit.runs.builder import build, constructor_call, own_call
from pruning_lit.runs.preprocessing import TrainingInputs
from pruning_lit.runs.settings import is_recipe
from pruning_lit.system.plain_data import WantsToRunCode, read_plain
from pruning_lit.system.trusted import trusted
from pruning_lit.tasks.base import like

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
        """Config of the images that the run was for; None: the file lies in no run's folder."""
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

    def network(self, builder: Arch | None, example: Any, num_classes: int | None) -> nn.Module:
        """The network, on the CPU, in eval mode.

        Args:
            builder: ``_target_`` and arguments, where the user names them.
            example: an input of the network.
            num_classes: what there is to tell apart; the file knows its own.

        Raises:
            ValueError: it cannot be built, or is another network than that in the file.
        """
        return artefact.load(self.file, user_built(self.arch, builder, self.file))

    def fill(self, net: nn.Module, example: Any) -> None:
        """Fill a network of one's own with the weights and widths in the file, in place."""
        fit_weights(net, artefact.read(self.file)[1], self.file, narrower=True)


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
        self._prunings = prunings_named(settings)
        self._dataset: dict[str, Any] = settings["dataset"]
        self._task = next((each["task"] for each in settings.values() if is_recipe(each) and each.get("task")), None)
        self.trained_on = _trained_on(self._dataset)

    def dataset(self) -> dict[str, Any]:
        """Config of the images that it was trained on."""
        return trusted_dataset(self._dataset, self.file)

    def task(self) -> dict[str, Any] | None:
        """Config of the task of its phase; None where it is not known."""
        return None if self._task is None else trusted_task(self._task, self.file)

    def network(self, builder: Arch | None, example: Any, num_classes: int | None) -> nn.Module:
        """The network, see ``NetworkFile``, without what is masked or compacted in the checkpoint."""
        net = user_built({**self.arch, "num_classes": num_classes}, builder, self.file)
        if net is None:
            net = artefact.build(constructor_call(OmegaConf.create(dict(self.arch)), num_classes), self.file)
        self.fill(net, example)
        return net.eval()

    def fill(self, net: nn.Module, example: Any) -> None:
        """Fill a network with the weights and widths in the checkpoint, in place, and make it final."""
        states = self.checkpoint["callbacks"]
        pruned = {key for key, state in states.items() if isinstance(state, dict) and state.get("cuts")}
        if unknown := pruned - {kind.__qualname__ for kind in self._prunings}:
            raise ValueError(
                f"{str(self.file)!r} was pruned by {', '.join(unknown)}, and no file runs code of your own by itself: "
                "take the network that the run has left, in pruned/model.safetensors"
            )
        load_network(net, self.checkpoint, self.file, example, self._prunings)


def load_network(
    net: nn.Module,
    checkpoint: dict[str, Any],
    file: Path,
    example: Any,
    prunings: Iterable[type[Pruning]],
    view: View = whole,
) -> None:
    """Fill a network, in place, from a checkpoint of a phase, and make it final as the callbacks that pruned it do.

    Args:
        net: at least as wide as the one in the checkpoint.
        checkpoint: as read.
        file: where it was read, for errors.
        example: an input of the network.
        prunings: classes of callbacks, whose states may be in the checkpoint under their names.
        view: the part of a network that they prune.
    """
    entries = checkpoint["state_dict"].items()
    fit_weights(net, {key.removeprefix("net."): each for key, each in entries if key.startswith("net.")}, file, True)
    for kind in prunings:
        if state := checkpoint["callbacks"].get(kind.__qualname__):  # Lightning's key
            kind.finish(view(net), like(example, next(net.parameters())), state)


def prunings_named(settings: Mapping[str, Any]) -> list[type[Pruning]]:
    """Classes of the callbacks that prune in phases with these settings; only those that a file may name."""
    recipes = [each for each in settings.values() if is_recipe(each)]
    callbacks = [each for recipe in recipes for each in (recipe.get("callbacks") or {}).values() if each]
    found = [trusted(str(each.get("_target_")), ROOMS, ROOMS) for each in callbacks]
    return [kind for kind in found if isinstance(kind, type) and issubclass(kind, Pruning)]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint as plain data, its settings under their present names.

    Raises:
        WantsToRunCode: it would run code.
        ValueError: it cannot be read.
    """
    try:
        checkpoint = read_plain(path, "no run has written it so: get it again from whom you trust, or delete it")
    except WantsToRunCode:
        raise
    except Exception as error:  # torch raises whatever the damage leads to
        raise ValueError(
            f"the checkpoint {str(path)!r} is damaged ({type(error).__name__}); delete it to begin the phase again"
        ) from error
    if isinstance(checkpoint, dict) and isinstance(settings := checkpoint.get(KEY), dict):
        checkpoint[KEY] = present_settings(settings)
    return checkpoint


def fill(net: nn.Module, source: str, example: Any) -> None:
    """Fill a network, in place, from whatever ``weights=`` may name.

    Args:
        net: at least as wide as the network in the file.
        source: a network file or a run's folder, a checkpoint of a phase, or what ``load_weights`` takes.
        example: an input of the network.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: it cannot be read, or does not fit.
    """
    path = Path(source)
    stored: NetworkFile | PhaseCheckpoint | None = NetworkFile(path) if path.is_dir() else None
    if path.suffix in (".safetensors", ".ckpt") and path.is_file():
        with suppress(ValueError):  # other weights, or damaged ones: told below
            stored = open_stored(source)
    if stored is None:
        load_weights(net, source)
    else:
        stored.fill(net, example)


def open_stored(path: str) -> NetworkFile | PhaseCheckpoint:
    """Open what the user has named: a checkpoint by its ending, else a network file or the folder of a run."""
    return PhaseCheckpoint(Path(path)) if path.endswith(".ckpt") else NetworkFile(Path(path))


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


def user_built(stated: Mapping[str, Any], given: Mapping[str, Any] | None, file: Path) -> nn.Module | None:
    """The dense network to be filled, by the builder the user has named; None: the file names one that it may.

    Args:
        stated: what the file says of its builder; of an untrusted one nothing but the number of classes is used.
        given: what the user says.
        file: for the error.

    Raises:
        ValueError: there is no builder, it does not fit, or the file names one that only a user may.
    """
    if given is not None:
        if not isinstance(given, Mapping) or "_target_" not in given:
            raise ValueError(
                "arch._target_=… has to name the builder of the network, such as "
                "arch._target_=mynet.Net allow_targets=[mynet]"
            )
        num_classes = None if "num_classes" in given else stated.get("num_classes")
        return build(OmegaConf.create(dict(given)), num_classes if isinstance(num_classes, int) else None)
    if "_target_" not in stated:
        raise ValueError(
            f"{str(file)!r} does not say how to build its network: add arch._target_=my.module.Net allow_targets=[my]"
        )
    if own_call(dict(stated)):
        values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in stated.items()}
        options = shlex.join(f"arch.{key}={value}" for key, value in values.items())
        raise ValueError(
            f"{str(file)!r} wants to be built by {stated['_target_']}, and no file runs code of your own by itself: "
            f"add {options}{permission(str(stated['_target_']))}"
        )
    return None


def needs_builder(arch: Arch) -> bool:
    """Return true where only a user can say how the network is built: the file does not, or may not."""
    return "_target_" not in arch or bool(own_call(dict(arch)))


def trusted_dataset(config: Any, file: Path) -> dict[str, Any]:
    """The config of a data set as a file has it; ValueError where it names other code than the data sets in here."""
    settings = dict(config)
    package, _, name = str(settings.get("_target_")).rpartition(".")
    others = str({key: value for key, value in settings.items() if key != "_target_"})
    if package != pruning_lit.data.__name__ or name not in pruning_lit.data.__all__ or "_target_" in others:
        target = str(settings.get("_target_"))
        raise ValueError(
            f"{str(file)!r} wants its images to be read by {target}, and no file runs code of your own by itself: "
            f"add dataset=…, or dataset._target_=… with all its keys and {permission(target).strip()}"
        )
    if "${" in others:  # a file's config is resolved already; resolved once more, text can become a target
        raise ValueError(f"{str(file)!r} describes its images by interpolations, not by values: add dataset=…")
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
    """Inputs of the training as far as the config of a data set tells, without reading any."""
    shape, num_classes = always(str(dataset.get("_target_")))
    mean, size = dataset.get("mean"), dataset.get("size") or dataset.get("image_size")
    if shape is None and size and mean:
        shape = (len(mean), size, size)
    return TrainingInputs(mean, dataset.get("std"), shape, num_classes=num_classes)
