"""Teacher of a phase with distillation: the dense network of the run, or one from a file."""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence

from omegaconf import DictConfig
from torch import nn

from pruning_lit.callbacks import Pruning
from pruning_lit.command_line.targets import allowed
from pruning_lit.data import DataModule, ImageData
from pruning_lit.phases import Training
from pruning_lit.phases.distillation.base import DENSE
from pruning_lit.phases.distillation.cache import require_rows
from pruning_lit.runs.composed import overrides
from pruning_lit.runs.file_trust import needs_builder
from pruning_lit.runs.phase_runner import PhaseOutcome
from pruning_lit.runs.result import trained_dense
from pruning_lit.runs.settings import comes_trained
from pruning_lit.runs.stored import fill, open_if_ours
from pruning_lit.tasks import Task
from pruning_lit.tasks.base import forward_once

log = logging.getLogger(__name__)
Build = Callable[[], nn.Module]  # of the network of the run, as wide as it was


def require_teachers(
    config: DictConfig, phases: Mapping[str, Training], build: Build, data: DataModule, task: Task
) -> None:
    """Refuse teachers that there will not be, or that are none for this data set: ValueError, before any training.

    Args:
        config: of the experiment.
        phases: by name, in order.
        build: makes the network of the run.
        data: its data module.
        task: what is learned.
    """
    if config.distillation is not None and not any(phase.distillation for phase in phases.values()):
        raise ValueError(
            f"distillation is asked for, but phase {' and '.join(phases)} learns from no teacher: run a phase that "
            "comes after the dense network, or let train learn from a file: train.distillation='${distillation}' "
            "distillation.teacher=…"
        )
    (first, *_) = phases.values()
    cut_at_once = any(isinstance(each, Pruning) for each in first.callbacks.values())
    for name, phase in phases.items():
        if phase.distillation is None:
            continue
        if phase.distillation.cache:
            require_cacheable(f"{name}.distillation.cache=true", build(), data, task)
        source = phase.distillation.teacher
        if source != DENSE:
            stored_teacher(config, source, build, data, task)
        elif not comes_trained(config) and (phase is first or cut_at_once):
            raise ValueError(
                f"{name}.distillation.teacher={DENSE}: no phase before {name} trains the dense network, so give it, "
                f"weights=…, or the file of a teacher, distillation.teacher=…; or let {name} learn without one, "
                f"{name}.distillation=null"
            )


def require_cacheable(asked: str, net: nn.Module, data: DataModule, task: Task) -> None:
    """ValueError where outputs cannot be kept: training examples change, or outputs are no tensor with a row for each.

    Args:
        asked: the setting.
        net: the network of the run.
        data: its data module.
        task: what is learned.
    """
    changes = ["the data set augments them"] * data.augments + ["the task blends them"] * task.changes_batches
    if changes:
        raise ValueError(
            f"{asked} asks the teacher once for every training example, but {' and '.join(changes)} anew in every "
            "epoch: switch that off, or leave the cache out"
        )
    require_rows(forward_once(net, data.example), 1)


def make_teacher(
    config: DictConfig,
    source: str,
    build: Build,
    dense: nn.Module,
    data: DataModule,
    task: Task,
    outcomes: Sequence[PhaseOutcome],
) -> nn.Module:
    """The teacher that a phase names.

    Args:
        config: of the experiment.
        source: ``dense``, or whatever holds a network.
        build: makes the network of the run.
        dense: the dense network, as it was before any training.
        data: the data module.
        task: what is learned.
        outcomes: of the phases before this one.
    """
    if source != DENSE:
        return stored_teacher(config, source, build, data, task)
    net = copy.deepcopy(dense) if comes_trained(config) else trained_dense(config, dense, data, task, [*outcomes])
    assert net is not None, "see require_teachers"
    return net


def stored_teacher(config: DictConfig, source: str, build: Build, data: DataModule, task: Task) -> nn.Module:
    """A network for this data set and task, from what a run has written, or from weights of the network of the run.

    Raises:
        FileNotFoundError, ValueError: it cannot be read, or does not fit.
    """
    try:
        stored = open_if_ours(source, allowed(config, overrides()))
        if stored is None:
            net = build()
            fill(net, source, data.example, task.view)
        else:
            stored.trained_on.require_alike(data, source)
            if stored.trained_on.note_on_names(data, source):
                raise ValueError(
                    "its classes are called otherwise than those of the data set; a teacher tells the same ones apart"
                )
            builder = config.arch if needs_builder(stored.arch) else None
            net = stored.network(builder, data.example, data.num_classes, task.view).float()
            if isinstance(data, ImageData) and (otherwise := stored.trained_on.normalised_otherwise(data)):
                log.warning(
                    "distillation.teacher: it gets images as the network does; in its training they were normalised %s",
                    otherwise,
                )
        task.require_fit(net, data)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"distillation.teacher={source}: {error}") from error
    return net
