"""One straight line: config -> data, network -> phases -> a smaller network in a file, and a report."""

import copy
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_only
from torch import nn

from pruning_lit.callbacks import NonFinite, ScheduledPruning
from pruning_lit.channels import adopt_on_load, cost, insert_scatters, insert_selections, remove_scatters, trace
from pruning_lit.command_line.command_record import accept
from pruning_lit.command_line.trainer_options import require_trainer
from pruning_lit.data import CustomData, DataModule
from pruning_lit.measure.stopwatch import Stopwatch
from pruning_lit.models import start_afresh
from pruning_lit.phases import Training
from pruning_lit.phases.epoch_steps import EpochSteps
from pruning_lit.phases.sync_batch_norm import require_synchronisable
from pruning_lit.runs.builder import build
from pruning_lit.runs.callbacks import logged_figures, require_callbacks
from pruning_lit.runs.composed import alone, from_python, optimiser
from pruning_lit.runs.loggers import build_loggers
from pruning_lit.runs.lone_example import require_no_lone_example
from pruning_lit.runs.phase_runner import PhaseOutcome, PhaseRunner, on_gpu
from pruning_lit.runs.result import note_on_filled, write_results
from pruning_lit.runs.settings import asked_phases, comes_trained, is_recipe, phase_task, require_seed, require_values
from pruning_lit.runs.stored import fill
from pruning_lit.runs.teacher import make_teacher, require_teachers
from pruning_lit.runs.threads import settle_threads, stay_within_quota
from pruning_lit.sweeps.objective import require_objective
from pruning_lit.system.launcher import place
from pruning_lit.system.noise import without_noise
from pruning_lit.tasks import Task

log = logging.getLogger(__name__)
ORDER = ("train", "sparsify", "gradient_reset", "explore", "finetune")  # of the methods' phases; others come anywhere


@from_python
@alone
@without_noise()  # also outside of a command
def run(config: DictConfig, folder: Path) -> None:
    """Run an experiment in ``folder``, or continue the one that was begun there.

    Raises:
        ValueError, FileNotFoundError: one sentence on what a user can mend; all that can be told beforehand is checked
            before any training.
    """
    stay_within_quota()
    require_seed(config.seed)
    require_values(config, phase_names(config).values())
    require_trainer(config.trainer, config.checkpoint.every_n_steps)
    NonFinite(config.on_nonfinite, "")  # what it refuses is told before any data are read
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = open_data(config)
    task = build_task(config.task, data)
    net = build_network(config, data, task)
    dense = copy.deepcopy(net)
    task.require_precision(net, str(config.trainer.precision))
    phases = build_phases(config, net, data)
    check(phases, dense, data, epoch_steps(config, data))
    build_again = partial(fresh_network, config, data)
    require_teachers(config, phases, build_again, data, task)
    build_loggers(config, folder, "1", task.primary.name)  # what is missing is told before any training
    require_callbacks(config.callbacks, phases, data.has_validation)
    sweeper, directions = optimiser()
    logged = logged_figures([*phases.values()][-1], data.has_validation)
    require_objective(config.get("objective"), logged, task.primary, sweeper, directions)
    trainer, processes = config.trainer, num_processes(config.trainer)
    if processes is not None:
        one = task.view_example(dense, data.example)
        limits = trainer.limit_train_batches, trainer.sync_batchnorm
        require_no_lone_example(task.view(dense), data, processes, *limits, one)
    if trainer.sync_batchnorm:
        require_synchronisable(net)
    here = None if processes is None else processes // trainer.num_nodes
    trying = not config.deterministic and not on_gpu(trainer.accelerator)
    settle_threads(folder, task.view(dense), data.example, data.batch_size, trainer.get("threads"), here, trying)
    stopwatch: Stopwatch = instantiate(config.latency)
    outcomes: list[PhaseOutcome] = []
    names = phase_names(config)
    runners = [PhaseRunner(config, folder, number, names) for number in range(1, len(names) + 1)]
    for runner in runners:
        runner.look(data)
    accept(folder)
    for runner, module in zip(runners, phases.values(), strict=True):
        runner.first_step = sum(outcome.steps for outcome in outcomes)
        if module.distillation is not None:
            source = module.distillation.teacher
            made = partial(make_teacher, config, source, build_again, dense, data, task, [*outcomes])
            module.distillation.make_teacher = made
        outcomes.append(runner.run(module, data))
    if _rank() == 0:
        remarks = fill_shortcuts(task.view(net), data) if config.remove_scatters else []
        remarks += note_on_launcher(place()[1], config.trainer.num_nodes)
        write_results(config, folder, dense, net, data, task, outcomes, stopwatch, remarks)


def note_on_launcher(processes: int, nodes: int) -> list[str]:
    """A sentence for those who want to repeat a run whose command was started several times."""
    if processes == 1:
        return []
    return [
        f"A launcher such as torchrun has started the command in {processes} processes on {nodes} node(s), with one "
        "folder for all (hydra.run.dir=…)."
    ]


def _rank() -> int:
    """Rank of this process; Lightning reads it from the environment, and launchers set it."""
    return getattr(rank_zero_only, "rank", 0)


def fill_shortcuts(net: nn.Module, data: DataModule) -> list[str]:
    """Give narrow shortcuts their full width back, in place; a note on what that costs, where there are any."""
    narrow = cost(trace(net, data.example)).macs
    layers = remove_scatters(net, data.example)
    if not layers:
        log.warning("remove_scatters=true: no layer of the network has a scatter that could be removed")
    return [note_on_filled(layers, narrow, cost(trace(net, data.example)).macs)] if layers else []


def open_data(config: DictConfig) -> DataModule:
    """The data, read; a data module of one's own is made to offer what is asked here."""
    data = instantiate(config.dataset)
    if not isinstance(data, DataModule):
        if not isinstance(data, LightningDataModule):
            raise ValueError(
                f"dataset._target_={config.dataset._target_} makes a {type(data).__name__}, not a "
                "LightningDataModule; data sets of torch's come by dataset=datasets"
            )
        data = CustomData(data, config.get("seed", 0))
    data.prepare_data()
    data.setup()
    return data


def build_task(settings: DictConfig, data: Any) -> Task:
    """The task that ``settings`` describe, for a data set; ValueError where it does not fit these or the data."""
    make = instantiate(settings, _partial_=True)
    facts = getattr(make.func, "facts", Task.facts)
    if missing := [name for name in facts if getattr(data, name, None) is None]:
        title = getattr(data, "title", type(data).__name__)
        told = ": dataset.num_classes=… tells" if missing == ["num_classes"] and hasattr(data, "asked_classes") else ""
        raise ValueError(f"task {settings._target_} asks the data set for {missing}; {title} has none{told}")
    try:
        task: Task = make(**{name: getattr(data, name) for name in facts})
    except TypeError as error:
        raise ValueError(f"task {settings._target_} does not take its settings and {list(facts)}: {error}") from error
    task.learn_from(data)
    return task


def build_network(config: DictConfig, data: DataModule, task: Task) -> nn.Module:
    """The dense network, with the weights the config names; it adopts the widths of what is loaded into it.

    From then on the example of ``data`` is as the view of the network takes it.
    """
    if config.new_head and config.weights is None:
        raise ValueError(
            "new_head=true takes a new head for trained weights, and there are none: name them by weights=…"
        )
    net = fresh_network(config, data)
    task.require_fit(net, data)
    data.example = task.view_example(net, data.example)
    if config.channel_selection:
        insert_selections(task.view(net), data.example)
    if config.channel_scatter:
        insert_scatters(task.view(net), data.example)
    if config.weights is not None:
        fill(net, config.weights, data.example, task.view, bool(config.new_head))
        log.info("weights from %s", config.weights)
    adopt_on_load(net)
    return net


def fresh_network(config: DictConfig, data: DataModule) -> nn.Module:
    """The network as it is built for this seed, the same every time and on all ranks."""
    torch.manual_seed(config.seed)
    return build(config.arch, getattr(data, "num_classes", None))


def build_phases(config: DictConfig, net: nn.Module, data: DataModule) -> dict[str, Training]:
    """The phases in order, all around the same network; see ``phase_names``.

    The first one begins with the network as it is: there is nothing to be renewed, unless it begins with a cut.
    """
    phases: dict[str, Training] = {}
    for name, key in phase_names(config).items():
        module = build_phase(name, config[key], config.task, net, data, partial(renew, config=config, data=data))
        if not phases and not any(isinstance(each, ScheduledPruning) for each in module.callbacks.values()):
            if config.weights is not None and module.init == "scratch":
                log.info("phase %s goes on with the weights that are given, whatever its init says", name)
            module.init = "inherited"
        for earlier in phases.values():
            earlier.later_epochs += module.epochs
        phases[name] = module
    return phases


def phase_names(config: DictConfig) -> dict[str, str]:
    """The name of every phase, in order, to the key of its recipe; in further passes ``finetune-2`` and so on.

    A network with given weights, head included, is not trained first, and in no pass but the first.
    """
    if not isinstance(config.passes, int) or config.passes < 1:
        raise ValueError(f"passes must be a whole number of at least 1, got {config.passes!r}")
    asked = asked_phases(config)
    names = [name for name in asked if name != "train" or not comes_trained(config)]
    nodes = OmegaConf.to_container(config, resolve=False)
    assert isinstance(nodes, dict)
    described = [key for key, node in nodes.items() if is_recipe(node)]
    if unknown := [name for name in names if name not in described]:
        raise ValueError(f"phases={asked}: this method does not describe a phase called {unknown}, but {described}")
    if asked and not names:
        raise ValueError("weights are given, so the phase train is left out, and there is no other: choose a method")
    if not names or len({*names}) < len(names):
        raise ValueError(f"phases={asked} must name phases of this method, {described}, each once")
    if (known := [name for name in names if name in ORDER]) != sorted(known, key=ORDER.index):
        raise ValueError(f"phases={asked} cannot come in this order: {', '.join(sorted(known, key=ORDER.index))}")
    again = [name for name in names if name != "train"]
    if config.passes > 1 and not again:
        raise ValueError(f"passes={config.passes}: the phase train is gone through once, and there is no other")
    later = {f"{name}-{number}": name for number in range(2, config.passes + 1) for name in again}
    return {name: name for name in names} | later


def build_phase(
    name: str,
    recipe: DictConfig,
    task: DictConfig,
    net: nn.Module,
    data: DataModule,
    renew: Callable[[nn.Module], None],
) -> Training:
    """One phase as its recipe describes it; ValueError, with its name, for settings that it refuses."""
    make = instantiate(recipe, _partial_=True)
    try:
        return make(net=net, task=build_task(phase_task(task, recipe), data), renew=renew)
    except TypeError as error:  # a recipe of another kind of phase, say
        raise ValueError(f"{recipe._target_} cannot be built from its recipe: {error}") from error
    except ValueError as error:
        raise ValueError(f"phase {name}: {error}") from error


def renew(net: nn.Module, config: DictConfig, data: DataModule) -> None:
    """Give ``net`` fresh weights, in place, at the widths it has: those with which a run of this seed begins."""
    with torch.random.fork_rng():
        start_afresh(net, fresh_network(config, data))


def check(phases: dict[str, Training], dense: nn.Module, data: DataModule, steps: EpochSteps | None = None) -> None:
    """Refuse, before hours are spent, what cannot work."""
    (first, *_) = phases.values()
    graph = trace(first.task.view(dense), data.example)
    if graph.not_followed:
        log.warning("%s", graph.not_followed)
    for name, module in phases.items():
        module.check(name, dense, graph, steps)


def epoch_steps(config: DictConfig, data: DataModule) -> EpochSteps | None:
    """Length of an epoch; None where only Lightning knows how many processes there will be."""
    trainer = config.trainer
    if (processes := num_processes(trainer)) is None:
        return None
    return EpochSteps.of(data, processes, trainer.limit_train_batches, trainer.accumulate_grad_batches)


def num_processes(trainer: DictConfig) -> int | None:
    """Number of processes that will train; None where only Lightning knows."""
    devices = len(trainer.devices) if isinstance(trainer.devices, ListConfig) else trainer.devices
    if devices == "auto" and not on_gpu(trainer.accelerator):
        devices = 1  # the processor is one device
    return devices * trainer.num_nodes if isinstance(devices, int) and devices >= 1 else None
