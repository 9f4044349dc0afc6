"""What a run leaves behind: the network in a file, and the report."""

import copy
import logging
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.console import Console
from torch import nn

from pruning_lit.channels import ChannelGraph, cost, save, trace
from pruning_lit.command_line.custom_network import as_typed
from pruning_lit.data import Pictures
from pruning_lit.measure.commits import commits
from pruning_lit.measure.latency import Latency
from pruning_lit.measure.machine import hardware, versions
from pruning_lit.measure.stopwatch import Stopwatch
from pruning_lit.reports.cuts import group_records, notes_on
from pruning_lit.reports.document import console_table, write_report
from pruning_lit.reports.plots import figure_to_image, widths_figure
from pruning_lit.reports.plots import save as save_figure
from pruning_lit.reports.published_counts import params_with_whole_norms
from pruning_lit.reports.record import Best, Figures, PhaseRecord, Report
from pruning_lit.reports.section import Section, sections_of
from pruning_lit.runs.batch import in_words
from pruning_lit.runs.builder import own_call, recipe
from pruning_lit.runs.composed import choices, overrides
from pruning_lit.runs.phase_runner import PhaseOutcome, load_network, on_gpu, read_checkpoint
from pruning_lit.runs.settings import plain_data
from pruning_lit.system.disk import naming
from pruning_lit.tasks import Task, evaluate

log = logging.getLogger(__name__)


def write_results(
    config: DictConfig,
    folder: Path,
    dense: nn.Module,
    net: nn.Module,
    data: Pictures,
    task: Task,
    outcomes: list[PhaseOutcome],
    stopwatch: Stopwatch,
    kinds: Sequence[type[Section]] = (),
    remarks: Sequence[str] = (),
) -> Report:
    """Write ``pruned/model.safetensors``, ``report.json``, ``report.md`` and the pictures, and print the table.

    The accuracy is that of the last epoch, on the test pictures, and so for every phase; the best epoch, where one
    could be chosen, stands beside it. ``kinds`` of sections are those that the phases name, ``remarks`` further notes.
    """
    graph, narrowed = trace(dense, data.example), trace(net, data.example)
    device = torch.device("cuda" if on_gpu(config.trainer.accelerator) else "cpu")
    dense, net = dense.to(device), net.to(device)
    cuts = [cut for outcome in outcomes for cut in outcome.cuts]
    accuracy = evaluate(net, data, task)[task.primary.name]
    accuracies = [*_on_the_way(dense, data, task, outcomes), accuracy]
    groups, sections = group_records(graph, cuts), sections_of(kinds, cuts)
    plain = torch.contiguous_format  # as `load` gives them; only the trained one may be in channels_last by now
    latency = stopwatch.compare(dense.to(memory_format=plain), net.to(memory_format=plain), data.example)
    arch = recipe(config.arch, data.num_classes)
    report = Report(
        experiment=config.name,
        seed=config.seed,
        before=_figures(graph, _baseline(config, dense, data, task, outcomes, accuracies), latency, "before"),
        after=_figures(narrowed, accuracy, latency, "after"),
        accuracy_after_cut=_primary(cuts[-1].metrics_after, task) if cuts else None,
        best=_best(dense, data, task, outcomes, folder),
        groups=groups,
        sections={section.name: section.data() for section in sections},
        latency=latency,
        cut_error=max((cut.error for cut in cuts), default=None),
        notes=[*notes_on(cuts), *_published_count(narrowed), *remarks],
        command=f"python -m pruning_lit {shlex.join(as_typed(overrides()))}",
        versions=versions(),
        commits=commits(),
        config=plain_data(config),
        hardware=hardware(device),
        phases=[_phase(each, accuracy, task) for each, accuracy in zip(outcomes, accuracies, strict=True)],
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
    pictures = {"widths": widths_figure(groups)}
    for section in sections:
        if picture := section.figure():
            pictures[section.name] = picture
    for name, picture in pictures.items():
        save_figure(picture, folder / f"{name}.png")
    write_report(report, folder, sections)
    _to_tensorboard(config, folder, report, pictures)
    Console().print(console_table(report))
    log.info("report and network in %s", folder)
    return report


def _on_the_way(dense: nn.Module, data: Pictures, task: Task, outcomes: list[PhaseOutcome]) -> list[float]:
    """The accuracy at the end of every phase but the last."""
    return [
        evaluate(_from_checkpoint(dense, read_checkpoint(each.last), data), data, task)[task.primary.name]
        for each in outcomes[:-1]
    ]


def _baseline(
    config: DictConfig,
    dense: nn.Module,
    data: Pictures,
    task: Task,
    outcomes: list[PhaseOutcome],
    accuracies: list[float],
) -> float | None:
    """The accuracy of the dense network: as given, as its own phase left it, or, without one, right before the cut.

    None where it was never trained.
    """
    first = next(iter(outcomes[0].cuts), None)
    if first is not None and (config.weights is None or first.epoch == 0):  # else what was given has been trained on
        return _primary(first.metrics_before, task)
    return accuracies[0] if config.weights is None else evaluate(dense, data, task)[task.primary.name]


def _phase(outcome: PhaseOutcome, accuracy: float, task: Task) -> PhaseRecord:
    return {
        "name": outcome.name,
        "epochs": outcome.epochs,
        "seconds": outcome.seconds,
        "accuracy_after_cut": _primary(outcome.cuts[-1].metrics_after, task) if outcome.cuts else None,
        "accuracy": accuracy,
        "batch": outcome.batch,
        "pictures_per_step": outcome.batch and in_words(outcome.batch),
        "taken_over_from": outcome.taken_over_from,
    }


def _primary(metrics: dict[str, float] | None, task: Task) -> float | None:
    return None if metrics is None else metrics[task.primary.name]


def _published_count(graph: ChannelGraph) -> list[str]:
    """A sentence where published tables count more parameters than there are."""
    whole = params_with_whole_norms(graph)
    if whole == cost(graph).params:
        return []
    return [
        f"Counted as in Network Slimming's tables (batch norms in front of selections whole): {whole:,} parameters."
    ]


def note_on_filled(layers: Sequence[str], narrow: int, filled: int) -> str:
    """A sentence on layers that have their full width again.

    Args:
        layers: their names.
        narrow: multiply-accumulates of the network with scatters behind them.
        filled: and without.
    """
    which = f"{layers[0]} has its" if len(layers) == 1 else f"{', '.join(layers)} have their"
    return (
        f"{which} full width again, with zeros where channels went (remove_scatters=true): the network costs "
        f"{filled:,} MACs, {filled - narrow:,} more than with narrow layers there; all that is told of groups counts "
        "these zeros as removed."
    )


def _figures(graph: ChannelGraph, accuracy: float | None, latency: list[Latency], which: str) -> Figures:
    counted = cost(graph)
    smallest, largest = (choose(latency, key=lambda each: each.batch_size) for choose in (min, max))
    median_ms, throughput = getattr(smallest, which).median_ms, largest.throughput(getattr(largest, which))
    return Figures(counted.params, counted.macs, accuracy, median_ms, throughput)


def _best(dense: nn.Module, data: Pictures, task: Task, outcomes: list[PhaseOutcome], folder: Path) -> Best | None:
    chosen = outcomes[-1].best
    if chosen is None:
        return None
    path, val_accuracy = chosen
    checkpoint = read_checkpoint(path)
    test_accuracy = evaluate(_from_checkpoint(dense, checkpoint, data), data, task)[task.primary.name]
    return {
        "epoch": checkpoint["epoch"],
        "val_accuracy": val_accuracy,
        "test_accuracy": test_accuracy,
        "path": Path(os.path.relpath(path, folder)).as_posix(),
    }


def _from_checkpoint(dense: nn.Module, checkpoint: dict[str, Any], data: Pictures) -> nn.Module:
    net = copy.deepcopy(dense)
    load_network(net, checkpoint, data.example)
    return net


def _choices(config: DictConfig) -> dict[str, str]:
    chosen = {"arch": config.arch._target_, **choices()}  # one's own network is no choice
    return {key: str(chosen[key]) for key in ("method", "criterion", "sparsity", "arch", "dataset") if key in chosen}


def _overrides() -> dict[str, str]:
    """What the command line set, by key, so that jobs of a sweep can be told apart."""
    words = (word.lstrip("+").partition("=") for word in overrides() if not word.startswith("~"))
    return {key: value for key, _, value in words}


def _to_tensorboard(config: DictConfig, folder: Path, report: Report, pictures: dict[str, Figure]) -> None:
    """The hyper-parameters with the final figures, and the pictures."""
    if not config.logger:
        return
    from torch.utils.tensorboard import SummaryWriter

    figures = {
        "accuracy": report.after.accuracy,
        "accuracy_after_cut": report.accuracy_after_cut,
        "macs": report.after.macs,
    }
    figures |= {"params": report.after.params, "latency_ms": report.after.latency_ms}
    settings = {**_overrides(), **report.choices, "seed": report.seed, "experiment": report.experiment}
    place = folder / "tensorboard" / "result"
    with naming(place), SummaryWriter(place) as writer:
        for name, picture in pictures.items():
            writer.add_image(name, figure_to_image(picture), dataformats="HWC")
        known = {f"result/{name}": value for name, value in figures.items() if value is not None}
        writer.add_hparams(settings, known, run_name=".")
