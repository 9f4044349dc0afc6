"""Callbacks of a config, looked at before any training: what cannot work here is refused."""

from collections.abc import Mapping

from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    EarlyStopping,
    LearningRateFinder,
    ModelPruning,
    StochasticWeightAveraging,
    Timer,
    WeightAveraging,
)

from pruning_lit.callbacks import Pruning
from pruning_lit.phases import Training

#: Lightning's callbacks that a phase has already, or that change what it is, and what to do instead.
REFUSED: dict[type[Callback], str] = {
    LearningRateFinder: "a schedule starts from the rate of the recipe; try several, -m train.optimizer.lr=0.01,0.1",
    BackboneFinetuning: "the network has no part of its own that is called backbone",
    ModelPruning: "the run prunes by its criterion and its sparsity",
    Timer: "the run has one of its own",
    BatchSizeFinder: "the images per optimizer step are a part of the recipe; set dataset.batch_size",
}


def require_callbacks(settings: DictConfig | None, phases: Mapping[str, Training], has_validation: bool) -> None:
    """Refuse callbacks that would fail or do nothing.

    Args:
        settings: the group ``callbacks``.
        phases: by name.
        has_validation: there are images that epochs are chosen by.

    Raises:
        ValueError: one is no callback, or none for these phases, or waits for a figure that nobody logs.
    """
    for name, item in (settings or {}).items():
        callback = instantiate(item)
        if not isinstance(callback, Callback):
            raise ValueError(f"callbacks.{name!s} makes a {type(callback).__name__}, expected a callback")
        for phase in phases.values():
            _require(f"callbacks.{name!s}", callback, phase, has_validation)
    for phase_name, phase in phases.items():
        for name, callback in phase.callbacks.items():
            _require(f"{phase_name}.callbacks.{name}", callback, phase, has_validation)


def _require(place: str, callback: Callback, phase: Training, has_validation: bool) -> None:
    for kind, instead in REFUSED.items():
        if isinstance(callback, kind):
            raise ValueError(f"{place}: {kind.__name__} has no place in a run of phases: {instead}")
    prunings = [each for each in phase.callbacks.values() if isinstance(each, Pruning)]
    if isinstance(callback, WeightAveraging | StochasticWeightAveraging) and any(each.masks for each in prunings):
        raise ValueError(
            f"{place}: averaged weights do not follow masks: prune with execution=narrow where there is a choice, or "
            "give averages alone to a phase without masks (+finetune.callbacks.averages._target_=…)"
        )
    if isinstance(callback, EarlyStopping) and not all(each.at_once for each in prunings):
        raise ValueError(
            f"{place}: EarlyStopping could end a phase before it has pruned the network; give it alone to a phase that "
            "begins with its cut, or has none (+finetune.callbacks.stop._target_=…)"
        )
    monitor, known = getattr(callback, "monitor", None), logged_figures(phase, has_validation)
    ours = all(type(each).__module__.startswith("pruning_lit.") for each in (phase, phase.task)) and not phase.terms
    if not isinstance(monitor, str) or monitor in known or not ours:  # others may log what they like
        return
    if monitor.startswith("val/") and not has_validation:
        raise ValueError(
            f"{place}.monitor={monitor}: there are no validation images to measure it on; dataset.val_fraction=0.1 "
            "holds some out"
        )
    if not monitor.startswith("stage/"):  # of CHEX
        raise ValueError(f"{place}.monitor={monitor}: nothing of that name is logged; there are {', '.join(known)}")


def logged_figures(phase: Training, has_validation: bool) -> list[str]:
    """Names of the figures that a phase logs at the end of its epochs."""
    names = ["train/loss", *phase.train_metrics.keys()]
    names += [f"train/{term}" for term in phase.terms]
    names += ["train/distillation", "train/agreement"] * (phase.distillation is not None)
    validation = [*["loss"] * phase.task.loss_in_evaluation, *phase.task.metric_names()]
    return [*names, *(f"val/{name}" for name in validation if has_validation)]  # type: ignore[list-item]
