"""The network of a phase, read back from a checkpoint."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from omegaconf import OmegaConf
from torch import nn

from pruning_lit.callbacks.checkpoint_settings import CLASSES, KEY
from pruning_lit.callbacks.pruning import Pruning
from pruning_lit.channels import artefact
from pruning_lit.command_line.renamed import present_settings
from pruning_lit.command_line.targets import ROOMS
from pruning_lit.models.weights import fit_weights
from pruning_lit.runs.builder import constructor_call
from pruning_lit.runs.expected import always
from pruning_lit.runs.file_trust import Arch, trusted_dataset, trusted_task, user_built
from pruning_lit.runs.preprocessing import TrainingInputs
from pruning_lit.runs.settings import is_recipe
from pruning_lit.system.checksum import WrongChecksum, require_whole
from pruning_lit.system.one_line import in_one_line
from pruning_lit.system.plain_data import WantsToRunCode, read_plain
from pruning_lit.system.trusted import trusted
from pruning_lit.tasks.base import Task, View, like


class PhaseCheckpoint:
    """``last.ckpt`` or ``best.ckpt`` of a run's phase; how its network is built is said by the settings in it.

    Args:
        file: the checkpoint.
        allowed: packages, modules or full names of code of the user's own that it may name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint of this kind.
    """

    def __init__(self, file: Path, allowed: Sequence[str] = ()) -> None:
        if not file.is_file():
            raise FileNotFoundError(f"there is no file {str(file)!r}")
        self.file, self.allowed = file, allowed
        self.checkpoint = read_checkpoint(file)
        settings = self.checkpoint.get(KEY) if isinstance(self.checkpoint, dict) else None
        if not isinstance(settings, dict) or not all(isinstance(settings.get(k), dict) for k in ("arch", "dataset")):
            raise ValueError(f"{str(file)!r} was not written by a phase of a run; give the folder of a run, or a file")
        self.arch: Arch = settings["arch"]
        self._prunings = prunings_named(settings)
        self._dataset: dict[str, Any] = settings["dataset"]
        self._task = next((each["task"] for each in settings.values() if is_recipe(each) and each.get("task")), None)
        self.trained_on = _trained_on(self._dataset, self.checkpoint.get(CLASSES))

    def dataset(self) -> dict[str, Any]:
        """Config of the images that it was trained on."""
        return trusted_dataset(self._dataset, self.file, self.allowed)

    def task(self) -> dict[str, Any] | None:
        """Config of the task of its phase; None where it is not known."""
        return None if self._task is None else trusted_task(self._task, self.file, self.allowed)

    def network(self, builder: Arch | None, example: Any, num_classes: int | None, view: View = Task.view) -> nn.Module:
        """The network, see ``NetworkFile``, without what is masked or compacted in the checkpoint."""
        net = self.dense_network(builder, num_classes)
        self.fill(net, example, view)
        return net.eval()

    def dense_network(self, builder: Arch | None, num_classes: int | None) -> nn.Module:
        """The network before any cut, with weights that mean nothing; as for ``network``."""
        own = user_built({**self.arch, "num_classes": num_classes}, builder, self.file, self.allowed)
        if own is not None:
            return own
        call = constructor_call(OmegaConf.create(dict(self.arch)), num_classes)
        return artefact.build(call, self.file, self.checkpoint["state_dict"])

    def fill(self, net: nn.Module, example: Any, view: View = Task.view, new_heads: Collection[str] = ()) -> None:
        """Fill a network with the weights and widths in the checkpoint, in place, and make it final."""
        states = self.checkpoint["callbacks"]
        pruned = {key for key, state in states.items() if isinstance(state, dict) and state.get("cuts")}
        if unknown := pruned - {kind.__qualname__ for kind in self._prunings}:
            raise ValueError(
                f"{str(self.file)!r} was pruned by {', '.join(unknown)}, and no file runs code of your own by itself: "
                "take the network that the run has left, in pruned/model.safetensors"
            )
        load_network(net, self.checkpoint, self.file, example, self._prunings, view, new_heads)


def load_network(
    net: nn.Module,
    checkpoint: dict[str, Any],
    file: Path,
    example: Any,
    prunings: Iterable[type[Pruning]],
    view: View = Task.view,
    new_heads: Collection[str] = (),
) -> None:
    """Fill a network, in place, from a checkpoint of a phase, and make it final as the callbacks that pruned it do.

    Args:
        net: at least as wide as the one in the checkpoint.
        checkpoint: as read.
        file: where it was read, for errors.
        example: an input of the network.
        prunings: classes of callbacks, whose states may be in the checkpoint under their names.
        view: the part of a network that they prune.
        new_heads: as for ``load_weights``.
    """
    entries = checkpoint["state_dict"].items()
    weights = {key.removeprefix("net."): each for key, each in entries if key.startswith("net.")}
    fit_weights(net, weights, file, True, new_heads)
    for kind in prunings:
        if state := checkpoint["callbacks"].get(kind.__qualname__):  # Lightning's key
            kind.finish(view(net), like(example, next(net.parameters())), state)


def prunings_named(settings: Mapping[str, Any]) -> list[type[Pruning]]:
    """Classes of the callbacks that prune in phases with these settings; only those that a file may name."""
    recipes = [each for each in settings.values() if is_recipe(each)]
    callbacks = [each for recipe in recipes for each in (recipe.get("callbacks") or {}).values() if each]
    found = [trusted(str(each.get("_target_")), ROOMS, ROOMS) for each in callbacks]
    return [kind for kind in found if isinstance(kind, type) and issubclass(kind, Pruning)]


def read_checkpoint(path: Path, advice: str = "take another one, or a copy of it") -> dict[str, Any]:
    """A checkpoint as plain data, its settings under their present names.

    Args:
        path: the file.
        advice: what to do where it is damaged.

    Raises:
        FileNotFoundError: there is none.
        WantsToRunCode: it would run code.
        ValueError: it is damaged; with the advice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {str(path)!r}")
    try:
        checkpoint = read_plain(path, "no run has written it so: get it again from whom you trust, or delete it")
    except (WantsToRunCode, PermissionError):
        raise
    except Exception as error:  # torch raises whatever the damage leads to
        raise ValueError(f"the checkpoint {str(path)!r} is damaged ({type(error).__name__}); {advice}") from error
    try:
        require_whole(path)
    except (BadZipFile, OSError, RuntimeError) as error:
        raise WrongChecksum(f"the checkpoint {str(path)!r} is damaged ({in_one_line(error)}); {advice}") from error
    if isinstance(checkpoint, dict) and isinstance(settings := checkpoint.get(KEY), dict):
        checkpoint[KEY] = present_settings(settings)
    return checkpoint


def _trained_on(dataset: dict[str, Any], num_classes: int | None) -> TrainingInputs:
    """Inputs of the training as far as the config of a data set tells, without reading any.

    Args:
        dataset: its config.
        num_classes: as a checkpoint tells them; those of earlier versions do not.
    """
    shape, always_classes = always(str(dataset.get("_target_")))
    mean, size = dataset.get("mean"), dataset.get("size") or dataset.get("image_size")
    if shape is None and size and mean:
        shape = (len(mean), size, size)
    return TrainingInputs(mean, dataset.get("std"), shape, num_classes=num_classes or always_classes)
