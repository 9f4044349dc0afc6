"""One straight line: config -> data, network -> phases -> a smaller network in a file, and a report."""

import copy
import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

from pruning_lit.builder import build
from pruning_lit.callbacks import ScheduledPruning
from pruning_lit.channels import adopt_on_load, trace
from pruning_lit.channels.stream import evaluating
from pruning_lit.data import Pictures
from pruning_lit.errors import described
from pruning_lit.models import load_weights
from pruning_lit.phases import Training
from pruning_lit.phases.runner import PhaseOutcome, PhaseRunner
from pruning_lit.report import Stopwatch
from pruning_lit.result import leave_behind
from pruning_lit.tasks import require_logits

log = logging.getLogger(__name__)


def run(config: DictConfig, folder: Path) -> None:
    """Run an experiment in ``folder``, or continue the one that was begun there.

    Raises:
        ValueError, FileNotFoundError: one sentence on what a user can mend; all that can be told beforehand is checked
            before any training.
    """
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = open_data(config)
    net = build_network(config, data)
    dense = copy.deepcopy(net)
    phases = build_phases(config, net, data)
    check(phases, dense, data)
    stopwatch: Stopwatch = instantiate(config.latency)
    outcomes: list[PhaseOutcome] = []
    for number, (name, module) in enumerate(phases.items(), start=1):
        outcomes.append(PhaseRunner(config, folder, number, name).run(module, data))
    if _rank() == 0:
        leave_behind(config, folder, dense, net, data, outcomes, stopwatch)


def _rank() -> int:
    """Of this process; Lightning reads it from the environment, and launchers set it."""
    return getattr(rank_zero_only, "rank", 0)


def open_data(config: DictConfig) -> Pictures:
    """The pictures, read."""
    data: Pictures = instantiate(config.dataset)
    data.prepare_data()
    data.setup()
    return data


def build_network(config: DictConfig, data: Pictures) -> nn.Module:
    """The dense network, with the weights the config names; it adopts the widths of what is loaded into it."""
    net = build(config.arch, data.num_classes)
    if config.weights is not None:
        load_weights(net, config.weights)
        log.info("weights from %s", config.weights)
    require_fit(net, data)
    adopt_on_load(net)
    return net


def require_fit(net: nn.Module, data: Pictures) -> None:
    """ValueError where the network does not take the pictures, or does not answer with a value for every class."""
    require_logits(forward_once(net, data.example), len(data.example), data.num_classes)


def forward_once(net: nn.Module, example: Tensor) -> Any:
    """The output for ``example``; ValueError where the network does not take pictures of that shape."""
    try:
        with torch.no_grad(), evaluating(net):
            return net(example)
    except Exception as error:  # whatever somebody's forward raises
        shape = tuple(example.shape[1:])
        raise ValueError(f"the network does not take pictures of shape {shape}: {described(error)}") from error


def build_phases(config: DictConfig, net: nn.Module, data: Pictures) -> dict[str, Training]:
    """The phases in order, all around the same network; a network with given weights is not trained first."""
    names = [name for name in config.phases if config.weights is None or name != "train"]
    unknown = [name for name in names if name not in config]
    if unknown or not names:
        raise ValueError(
            f"phases={list(config.phases)}: this method does not describe a phase called {unknown or 'anything'}"
        )
    return {name: build_phase(config[name], net, data) for name in names}


def build_phase(recipe: DictConfig, net: nn.Module, data: Pictures) -> Training:
    """One phase as its recipe describes it."""
    return instantiate(recipe, _partial_=True)(net=net, num_classes=data.num_classes)


def check(phases: dict[str, Training], dense: nn.Module, data: Pictures) -> None:
    """Refuse, before hours are spent, what cannot work."""
    graph = trace(dense, data.example)
    for name, module in phases.items():
        require_optimizer(name, module)
        module.schedule.check(module.epochs, name)
        for callback in module.callbacks.values():
            if isinstance(callback, ScheduledPruning):
                callback.check(graph, module.epochs)


def require_optimizer(name: str, module: Training) -> None:
    """ValueError where an optimizer does not take its settings; it is built for good once the phase begins."""
    try:
        module.make_optimizer(module.net.parameters())
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}.optimizer: {error}") from error
