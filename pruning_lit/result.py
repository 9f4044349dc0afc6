"""What a run leaves behind: the network in a file, and the report."""

import copy
import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from torch import nn

from pruning_lit.builder import own_call, recipe
from pruning_lit.channels import ChannelGraph, cost, save, trace
from pruning_lit.data import Pictures
from pruning_lit.own_network import as_typed
from pruning_lit.phases.runner import PhaseOutcome, load_network, on_gpu, read_checkpoint
from pruning_lit.report import (
    Best,
    Figures,
    GroupRecord,
    Latency,
    Report,
    Stopwatch,
    console_table,
    figure_to_image,
    group_record,
    hardware,
    versions,
    widths_figure,
)
from pruning_lit.report import (
    save as save_figure,
)
from pruning_lit.tasks import Classification, evaluate

log = logging.getLogger(__name__)


def leave_behind(
    config: DictConfig,
    folder: Path,
    dense: nn.Module,
    net: nn.Module,
    data: Pictures,
    outcomes: list[PhaseOutcome],
    stopwatch: Stopwatch,
) -> Report:
    """Write ``pruned/model.safetensors``, ``report.json``, ``report.md`` and ``widths.png``, and print the table.

    The accuracy is that of the last epoch, on the test pictures; the best epoch, where one could be chosen, stands
    beside it.
    """
    graph, narrowed = trace(dense, data.example), trace(net, data.example)
    device = torch.device("cuda" if on_gpu(config.trainer.accelerator) else "cpu")
    dense, net = dense.to(device), net.to(device)
    cuts = [cut for outcome in outcomes for cut in outcome.cuts]
    task = Classification(data.num_classes)
    accuracy = evaluate(net, data, task)["accuracy"]
    groups = group_records(graph, cuts)
    plain = torch.contiguous_format  # as `load` gives them; only the trained one may be in channels_last by now
    latency = stopwatch.compare(dense.to(memory_format=plain), net.to(memory_format=plain), data.example)
    arch = recipe(config.arch, data.num_classes)
    report = Report(
        experiment=config.name,
        seed=config.seed,
        before=_figures(graph, cuts[0]["accuracy_before"] if cuts else accuracy, latency, "before"),
        after=_figures(narrowed, accuracy, latency, "after"),
        accuracy_after_cut=cuts[-1]["accuracy_after"] if cuts else None,
        best=_best(dense, data, task, outcomes, folder),
        groups=groups,
        latency=latency,
        cut_error=max((cut["error"] for cut in cuts), default=None),
        notes=cuts[-1]["notes"] if cuts else [],
        command=f"python -m pruning_lit {shlex.join(as_typed(sys.argv[1:]))}",
        versions=versions(),
        hardware=hardware(device),
        phases=[{"name": o.name, "epochs": o.epochs, "seconds": o.seconds} for o in outcomes],
        choices=_choices(config),
        own_network=own_call(arch),
    )
    preparation = {
        "shape": list(data.shape),
        "mean": data.mean.tolist(),
        "std": data.std.tolist(),
        "classes": data.classes,
    }
    notes = {"experiment": config.name, "accuracy": accuracy, "pictures": preparation}
    save(net, folder / "pruned" / "model.safetensors", arch, **notes)
    picture = widths_figure(groups)
    save_figure(picture, folder / "widths.png")
    report.write(folder)
    _to_tensorboard(config, folder, report, figure_to_image(picture))
    Console().print(console_table(report))
    log.info("report and network in %s", folder)
    return report


def group_records(graph: ChannelGraph, cuts: list[dict[str, Any]]) -> list[GroupRecord]:
    """What became of every group of the dense network over all cuts, in its own numbering.

    Why a group stays whole is said by the first cut, which knows what was excluded; without cuts, by the graph.
    """
    reasons = {group.name: group.protected for group in graph.groups}
    reasons |= {record["name"]: record["protected"] for record in (cuts[0]["groups"] if cuts else [])}
    alive = {group.name: list(range(group.size)) for group in graph.groups}
    for cut in cuts:
        for name, kept in cut["kept"].items():
            alive[name] = [alive[name][position] for position in kept]
    return [group_record(group, alive[group.name], reasons[group.name]) for group in graph.groups]


def _figures(graph: ChannelGraph, accuracy: float, latency: list[Latency], which: str) -> Figures:
    counted = cost(graph)
    smallest, largest = (choose(latency, key=lambda each: each.batch_size) for choose in (min, max))
    median_ms, throughput = getattr(smallest, which).median_ms, largest.throughput(getattr(largest, which))
    return Figures(counted.params, counted.macs, accuracy, median_ms, throughput)


def _best(
    dense: nn.Module, data: Pictures, task: Classification, outcomes: list[PhaseOutcome], folder: Path
) -> Best | None:
    chosen = outcomes[-1].best
    if chosen is None:
        return None
    path, val_accuracy = chosen
    checkpoint = read_checkpoint(path)
    best = copy.deepcopy(dense)
    load_network(best, checkpoint, data.example)
    test_accuracy = evaluate(best, data, task)["accuracy"]
    return {
        "epoch": checkpoint["epoch"],
        "val_accuracy": val_accuracy,
        "test_accuracy": test_accuracy,
        "path": Path(os.path.relpath(path, folder)).as_posix(),
    }


def _choices(config: DictConfig) -> dict[str, str]:
    chosen = {"arch": config.arch._target_, **HydraConfig.get().runtime.choices}  # one's own network is no choice
    return {key: str(chosen[key]) for key in ("method", "criterion", "sparsity", "arch", "dataset") if key in chosen}


def _to_tensorboard(config: DictConfig, folder: Path, report: Report, widths: Any) -> None:
    """The hyper-parameters with the final figures, and the widths before and after as a picture."""
    if not config.logger:
        return
    from torch.utils.tensorboard import SummaryWriter

    figures = {
        "accuracy": report.after.accuracy,
        "accuracy_after_cut": report.accuracy_after_cut,
        "macs": report.after.macs,
    }
    figures |= {"params": report.after.params, "latency_ms": report.after.latency_ms}
    settings = {**report.choices, "seed": report.seed, "experiment": report.experiment}
    with SummaryWriter(folder / "tensorboard" / "result") as writer:
        writer.add_image("widths", widths, dataformats="HWC")
        known = {f"result/{name}": value for name, value in figures.items() if value is not None}
        writer.add_hparams(settings, known, run_name=".")
