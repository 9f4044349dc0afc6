"""Settings that decide the result of a run, or of one of its phases."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

NOT_PART_OF_THE_RESULT = (
    "trainer",
    "deterministic",
    "logger",
    "callbacks",
    "checkpoint",
    "name",
    "latency",
    "on_nonfinite",
    "shared",
    "objective",
    "allow_targets",
)
HOW_IMAGES_ARE_READ = ("num_workers", "cache")  # of the data set; they are the same images
BUILT = ("trainer", "latency", "checkpoint", "dataset", "task", "arch", "callbacks", "logger")
ONLY_READ_BY_RECIPES = (
    "criterion",
    "sparsity",
    "distillation",
)  # as interpolations, which are resolved in the recipe of the phase
#: Options of the trainer that make another training, by more than rounding; images per step are looked at apart.
OTHER_TRAINING = (
    "precision",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "limit_train_batches",
    "overfit_batches",
    "check_val_every_n_epoch",
    "val_check_interval",
)
#: Lightning's callbacks that do; of others nobody knows.
CHANGE_WEIGHTS = (
    "StochasticWeightAveraging",
    "WeightAveraging",
    "EMAWeightAveraging",
    "GradientAccumulationScheduler",
    "EarlyStopping",
)


def result_settings(config: DictConfig) -> dict[str, Any]:
    """Settings of an experiment that decide its result, as plain nested data."""
    settings = {
        key: value
        for key, value in plain_data(config).items()
        if key not in NOT_PART_OF_THE_RESULT and not is_of_no_phase(value)
    }
    task = settings.pop("task")
    for key, value in settings.items():
        if is_recipe(value):  # as if it stood in the recipe, where it was before there were other tasks
            own = phase_task(task, value)
            settings[key] = value | {"task": {**own, "_partial_": True}}
    images = {key: value for key, value in settings["dataset"].items() if key not in HOW_IMAGES_ARE_READ}
    return settings | {"dataset": images}


def job_settings(config: DictConfig) -> dict[str, Any]:
    """Settings by which a finished job of a sweep is known again: options of the trainer that decide, too."""
    accumulated = config.trainer.get("accumulate_grad_batches") or 1  # notes of 1 say nothing, as former ones
    batch = {"accumulate_grad_batches": accumulated} if accumulated != 1 else {}
    return result_settings(config) | of_the_fit(config) | batch


def asked_phases(config: DictConfig) -> list[str]:
    """Keys of the phases' recipes as ``phases`` names them: one, or a list."""
    return [config.phases] if isinstance(config.phases, str) else list(config.phases)


def phase_settings(config: DictConfig, keys: Sequence[str]) -> dict[str, Any]:
    """Settings that decide the result of the last of these phases: jobs in which they are equal can share it.

    Args:
        config: of the experiment.
        keys: of the phases' recipes, from the first phase to the one in question.
    """
    settings = result_settings(config)
    later = [key for key, value in settings.items() if is_recipe(value) and key not in keys]
    others = (*later, *ONLY_READ_BY_RECIPES, "passes")
    own = {key: value for key, value in settings.items() if key not in others}
    return own | {"phases": list(keys), **of_the_fit(config)}


def of_the_fit(config: DictConfig) -> dict[str, Any]:
    """Options of the trainer, and callbacks, that make another training."""
    trainer, callbacks = (plain_data(config[key]) if config.get(key) else {} for key in ("trainer", "callbacks"))
    return {
        # as text, for 1 is a batch and 1.0 all of them
        "trainer": {key: str(trainer[key]) for key in OTHER_TRAINING if trainer.get(key) is not None},
        "callbacks": {
            name: each for name, each in callbacks.items() if each["_target_"].rpartition(".")[2] in CHANGE_WEIGHTS
        },
    }


def exact_settings(config: DictConfig, keys: Sequence[str]) -> dict[str, Any]:
    """Settings of the phase, and what might matter to the last bit: devices, precision, callbacks."""
    settings = plain_data(config)
    return phase_settings(config, keys) | {key: settings.get(key) for key in ("trainer", "callbacks", "on_nonfinite")}


def decides_result(word: str, begun: Iterable[str] = ()) -> bool:
    """True if an override can change the result of a run; what is told to Hydra, and its options, cannot.

    Args:
        word: the override.
        begun: those that the run was begun with, by which a callback may be known as one that changes weights.
    """
    key = word.lstrip("+~").partition("=")[0]
    if word.startswith("-") or key in {f"dataset.{each}" for each in HOW_IMAGES_ARE_READ}:
        return False
    if key in {f"trainer.{each}" for each in OTHER_TRAINING}:
        return True
    if key.startswith("callbacks."):
        of_the_same = [other for other in begun if other.lstrip("+~").startswith(".".join(key.split(".")[:2]))]
        return any(re.search(rf"\b({'|'.join(CHANGE_WEIGHTS)})\b", each) for each in (word, *of_the_same))
    return re.split(r"[./@:]", key)[0] not in ("hydra", *NOT_PART_OF_THE_RESULT)


def require_seed(value: Any) -> None:
    """ValueError for what is no seed, by numpy's range."""
    if not isinstance(value, int) or not 0 <= value < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to {2**32 - 1}, got {value!r}")


def require_values(config: DictConfig, recipes: Iterable[str]) -> None:
    """ValueError for a value that is still to be given, ``???``, in what a run builds.

    Args:
        config: of the run; groups that nothing refers to may lack values.
        recipes: keys of the phases to be run.
    """
    for part in (*BUILT, *recipes):
        if isinstance(node := config.get(part), DictConfig) and (missing := sorted(OmegaConf.missing_keys(node))):
            raise ValueError(f"a value has to be given: {missing[0]}=…")


def is_recipe(value: Any) -> bool:
    """True if a part of the config describes a phase."""
    return isinstance(value, dict) and {"_target_", "epochs"} <= value.keys()


def is_of_no_phase(value: Any) -> bool:
    """True for epochs that ``length=`` or ``debug=quick`` sets for a phase that the method does not have."""
    return isinstance(value, dict) and "epochs" in value and "_target_" not in value


def comes_trained(config: DictConfig) -> bool:
    """True where the network begins with weights that were trained for its classes."""
    return config.weights is not None and not config.get("new_head")


def phase_task(task: Any, recipe: Any) -> DictConfig:
    """Settings of the task in one phase: those of the run, and what the recipe changes in them."""
    own = recipe.get("task") or {}
    changed = {key: value for key, value in own.items() if value is not None and key not in ("_target_", "_partial_")}
    return OmegaConf.create({**task, **changed})


def changed(settings: Mapping[str, Any], by: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with some of them set anew; what names another ``_target_`` is replaced as a whole."""
    own, given = dict(settings), dict(by)
    for key, value in given.items():
        nested = isinstance(value, Mapping) and "_target_" not in value and isinstance(own.get(key), Mapping)
        own[key] = changed(own[key], value) if nested else value
    return own


def plain_data(config: DictConfig) -> dict[str, Any]:
    """Whole config, resolved, as plain data."""
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}
