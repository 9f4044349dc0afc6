"""Data set and task that go with given weights: those of their run, unless the user has chosen others."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf, open_dict

from pruning_lit.command_line.setting_types import require_types
from pruning_lit.data import DataModule, ImageData
from pruning_lit.runs.evaluation import Stored, normalisations
from pruning_lit.runs.file_trust import needs_builder
from pruning_lit.runs.preprocessing import TrainingInputs
from pruning_lit.runs.settings import changed

CLASSIFICATION = {"_target_": "pruning_lit.tasks.Classification"}


def settle_data(config: DictConfig, stored: Stored | None) -> bool:
    """Give a config its data set and task: the user's, else those of the run of the weights, else those of any run.

    Args:
        config: changed in place; a data set without ``_target_`` has the settings that the user changes in it.
        stored: the file of the weights; None where it is not one of ours.

    Returns:
        True where nothing said which data set it is.

    Raises:
        ValueError: a setting does not go with the data set, or the run names code that no file may.
    """
    if "_target_" in _given(config, "dataset"):
        return False
    dataset = stored.dataset() if stored is not None else None
    if stored is not None and dataset is not None:
        known: Mapping[str, Any] = {"dataset": dataset, "task": stored.task() or CLASSIFICATION}
    else:
        usual = hydra.compose("config")  # by the Hydra of the command, which knows the user's folders of configs
        known = {key: _given(usual, key) for key in ("dataset", "task")}
    for key, own in known.items():
        given = _given(config, key)
        with open_dict(config):
            config[key] = given if "_target_" in given else changed(own, given)
    require_types(config)  # what the user changes is held against the data set that has been found
    return dataset is None


def settle_arch(config: DictConfig, stored: Stored | None, typed: Sequence[str]) -> None:
    """Give a config the network of the weights, where the user has chosen none and their file tells a builder.

    Args:
        config: changed in place.
        stored: the file of the weights; None where it is not one of ours.
        typed: the overrides as they were typed.
    """
    chosen = any(re.match(r"[+~]*(arch|experiment)[.=]", word) for word in typed)
    if stored is not None and not chosen and not needs_builder(stored.arch):
        with open_dict(config):
            config.arch = OmegaConf.create(dict(stored.arch))


def _given(config: DictConfig, key: str) -> dict[str, Any]:
    settings = OmegaConf.to_container(config.get(key) or OmegaConf.create(), resolve=False)
    assert isinstance(settings, dict)
    return {str(name): value for name, value in settings.items()}


def fit_data(data: DataModule, weights: str, stored: Stored | None, normalisation: Any, assumed: bool) -> list[str]:
    """Normalise images as for the network of the weights, in place, as far as its file tells how.

    Args:
        data: to be looked at.
        weights: the file, as typed.
        stored: its content; None where it is not one of ours.
        normalisation: ``stored``, or ``dataset`` for that of the data set.
        assumed: nothing said that it is this data set.

    Returns:
        Sentences on what a user may not have expected.

    Raises:
        ValueError: the file tells of images of another size or of other classes.
    """
    known = [stored.trained_on] if stored is not None else []
    for each in known:
        if assumed and not _may_be_of(each, data, weights):
            raise ValueError(
                f"{weights!r} lies in no run's folder, and was trained on other images or classes than those of "
                f"{data.title}, so it has to be said on which: add dataset=…"
            )
        each.require_alike(data, weights)
    ways, notes = normalisations([weights for _ in known], known, data, normalisation)
    if isinstance(data, ImageData) and ways and ways[0] is not None:
        data.mean, data.std = ways[0]
    return notes


def _may_be_of(known: TrainingInputs, data: DataModule, weights: str) -> bool:
    """True unless what is known of the training tells of other images, or of other names of classes."""
    try:
        known.require_alike(data, weights)
    except ValueError:
        return False
    return known.note_on_names(data, weights) is None
