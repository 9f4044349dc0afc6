"""Results of a run: the network in a file, the report, and the pictures."""

import copy
import logging
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from pkgutil import resolve_name
from typing import overload

import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, cost, save, trace
from pruning_lit.command_line.custom_network import as_typed
from pruning_lit.command_line.replaced import own_targets
from pruning_lit.data import DataModule
from pruning_lit.measure.commits import commits
from pruning_lit.measure.machine import hardware, versions
from pruning_lit.measure.stopwatch import Stopwatch
from pruning_lit.records.latency import Latency
from pruning_lit.records.metrics_table import read_lines
from pruning_lit.reports.console import open_console, table_text
from pruning_lit.reports.curves import curves_figure
from pruning_lit.reports.cuts import group_records, notes_on
from pruning_lit.reports.document import console_table, write_report
from pruning_lit.reports.plots import figure_to_image, widths_figure
from pruning_lit.reports.plots import save as save_figure
from pruning_lit.reports.published_counts import params_with_whole_norms
from pruning_lit.reports.record import Best, Figures, Metrics, PhaseRecord, Report
from pruning_lit.reports.section import TaskSection, sections_of
from pruning_lit.runs.batch import in_words
from pruning_lit.runs.builder import constructor_call, own_call
from pruning_lit.runs.composed import choices, overrides
from pruning_lit.runs.loggers import has_event_files
from pruning_lit.runs.phase_checkpoint import load_network, read_checkpoint
from pruning_lit.runs.phase_runner import PhaseOutcome, on_gpu
from pruning_lit.runs.settings import comes_trained, plain_data
from pruning_lit.system.console_log import IN_FILE_ONLY
from pruning_lit.system.disk import naming
from pruning_lit.tasks import Task, evaluate

log = logging.getLogger(__name__)
QUICK = "debug=quick: every part once; the numbers mean nothing."


def write_results(
    config: DictConfig,
    folder: Path,
    dense: nn.Module,
    net: nn.Module,
    data: DataModule,
    task: Task,
    outcomes: list[PhaseOutcome],
    stopwatch: Stopwatch,
    remarks: Sequence[str] = (),
) -> Report:
    """Write the network, ``report.json``, ``report.md``, ``report.html`` and the pictures, and print the table.

    The metrics are those of the last epoch, on the test part, and so for every phase; the best epoch, where one could
    be chosen, stands beside it. ``remarks`` are further notes.
    """
    graph, narrowed = (trace(task.view(each), data.example) for each in (dense, net))
    device = torch.device("cuda" if on_gpu(config.trainer.accelerator) else "cpu")
    dense, net = dense.to(device), net.to(device)
    cuts = [cut for outcome in outcomes for cut in outcome.cuts]
    metrics = finite(evaluate(net, data, task))
    by_phase = [*(_at_end(*pair, metrics, dense, data, task) for pair in pairwise(outcomes)), metrics]
    groups = group_records(graph, cuts)
    sections = sections_of([kind for outcome in outcomes for kind in outcome.sections], cuts)
    baseline = _baseline(config, dense, data, task, outcomes, by_phase)
    if task.section is not None:
        whole = trained_dense(config, dense, data, task, outcomes)
        kind: type[TaskSection] = resolve_name(task.section)
        nets = (dense if whole is None else whole, net)
        sections.append(kind.of(task, data, nets, (graph, narrowed), (baseline, metrics), whole is not None))
    plain = torch.contiguous_format  # as `load` gives them; only the trained one may be in channels_last by now
    before, after = (task.view(each.to(memory_format=plain)) for each in (dense, net))
    latency = stopwatch.compare(before, after, data.example)
    arch = constructor_call(config.arch, data.num_classes)
    report = Report(
        experiment=config.name,
        seed=config.seed,
        before=_figures(graph, baseline, latency, "before"),
        after=_figures(narrowed, metrics, latency, "after"),
        primary=task.primary,
        items=task.items,
        metrics_after_cut=finite(cuts[-1].metrics_after) if cuts else None,
        metrics_recalibrated=finite(cuts[-1].metrics_recalibrated) if cuts else None,
        best=_best(dense, data, task, outcomes[-1], metrics, folder),
        groups=groups,
        sections={section.name: section.data() for section in sections},
        latency=latency,
        cut_error=max((cut.error for cut in cuts), default=None),
        notes=[
            *[QUICK] * (choices().get("debug") == "quick"),
            *notes_on(cuts),
            *_taught(outcomes),
            *_published_count(narrowed),
            *remarks,
        ],
        missed=[cut.missed for cut in cuts if cut.missed],
        command=f"python -m pruning_lit {shlex.join(as_typed(overrides()))}",
        versions=versions(),
        commits=commits(),
        config=plain_data(config),
        hardware=hardware(device),
        phases=[_phase(*each) for each in zip(outcomes, by_phase, strict=True)],
        choices=_choices(config),
        own_network=own_call(arch),
    )
    found_from = {} if task.threshold is None else {"threshold": task.threshold}
    notes = {"experiment": config.name, "metrics": metrics, "pictures": data.facts() | found_from}
    save(net, folder / "pruned" / "model.safetensors", arch, **notes)
    pictures = {"widths": widths_figure(groups)}
    if curves := curves_figure(read_lines(folder / "metrics.csv"), task.primary):
        pictures["curves"] = curves
    for section in sections:
        if picture := section.figure():
            pictures[section.name] = picture
    for name, picture in pictures.items():
        save_figure(picture, folder / f"{name}.png")
    write_report(report, folder, sections)
    _to_tensorboard(config, folder, report, pictures, step=sum(outcome.steps for outcome in outcomes))
    table = console_table(report)
    open_console().print(table)
    log.info("%s", table_text(table), extra=IN_FILE_ONLY)
    for each in report.missed:
        log.warning("%s", each)
    log.info("report and network in %s", folder)
    return report


def _baseline(
    config: DictConfig,
    dense: nn.Module,
    data: DataModule,
    task: Task,
    outcomes: list[PhaseOutcome],
    by_phase: Sequence[Metrics | None],
) -> Metrics | None:
    """Metrics of the dense network: as given, as its own phase left it, or, without one, right before the cut.

    None where it was never trained.
    """
    first = next(iter(outcomes[0].cuts), None)
    if first is not None and (not comes_trained(config) or first.epoch == 0):  # else what was given has been trained on
        return finite(first.metrics_before)
    return finite(evaluate(dense, data, task)) if comes_trained(config) else by_phase[0]


def trained_dense(
    config: DictConfig, dense: nn.Module, data: DataModule, task: Task, outcomes: list[PhaseOutcome]
) -> nn.Module | None:
    """The dense network as it was given, or as its own phase left it; None where it was never trained."""
    if comes_trained(config):
        return dense
    first = outcomes[0]
    return None if first.cuts else _network_at(first.last, first, dense, data, task)


def _phase(outcome: PhaseOutcome, metrics: Metrics | None) -> PhaseRecord:
    return {
        "name": outcome.name,
        "epochs": outcome.epochs,
        "seconds": outcome.seconds,
        "metrics_after_cut": finite(outcome.cuts[-1].metrics_after) if outcome.cuts else None,
        "metrics": metrics,
        "batch": outcome.batch,
        "pictures_per_step": outcome.batch and in_words(outcome.batch),
        "taken_over_from": outcome.taken_over_from,
    }


@overload
def finite(metrics: Mapping[str, float]) -> Metrics: ...


@overload
def finite(metrics: None) -> None: ...


def finite(metrics: Mapping[str, float] | None) -> Metrics | None:
    """Metrics for a report: None in the place of values that JSON has no words for."""
    if metrics is None:
        return None
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _taught(outcomes: Sequence[PhaseOutcome]) -> list[str]:
    """A sentence on each phase that learned from a teacher."""
    return [
        f"Phase {each.name} was trained with {each.distillation}; the papers' results had none."
        for each in outcomes
        if each.distillation is not None
    ]


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


def _figures(graph: ChannelGraph, metrics: Metrics | None, latency: list[Latency], which: str) -> Figures:
    counted = cost(graph)
    smallest, largest = (choose(latency, key=lambda each: each.batch_size) for choose in (min, max))
    median_ms, throughput = getattr(smallest, which).median_ms, largest.throughput(getattr(largest, which))
    return Figures(counted.params, counted.macs, metrics, median_ms, throughput)


def _at_end(
    outcome: PhaseOutcome, following: PhaseOutcome, known: Metrics, dense: nn.Module, data: DataModule, task: Task
) -> Metrics:
    """Metrics of the network that a phase has left.

    The test part may be large, so that it is not looked at where the next phase has measured all that is ``known`` of
    other networks, before it did anything else.
    """
    first = next(iter(following.cuts), None)
    if first and first.epoch == 0 and first.metrics_before and first.metrics_before.keys() == known.keys():
        return finite(first.metrics_before)
    return finite(evaluate(_network_at(outcome.last, outcome, dense, data, task), data, task))


def _best(
    dense: nn.Module, data: DataModule, task: Task, outcome: PhaseOutcome, last: Metrics, folder: Path
) -> Best | None:
    """The best epoch of the last phase; with the metrics of the ``last`` one where it is that, weight by weight."""
    if outcome.best is None:
        return None
    path, validation = outcome.best
    best, end = read_checkpoint(path), read_checkpoint(outcome.last)
    same = best["epoch"] == end["epoch"] and equal_states(best["state_dict"], end["state_dict"])
    return {
        "epoch": best["epoch"],
        "validation": validation,
        "metrics": last if same else finite(evaluate(_network_at(path, outcome, dense, data, task), data, task)),
        "path": Path(os.path.relpath(path, folder)).as_posix(),
    }


def equal_states(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """True if two state dicts hold the same tensors, to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _network_at(path: Path, outcome: PhaseOutcome, dense: nn.Module, data: DataModule, task: Task) -> nn.Module:
    """A copy of the dense network as a checkpoint of a phase has it."""
    net = copy.deepcopy(dense)
    load_network(net, read_checkpoint(path), path, data.example, outcome.prunings, task.view)
    return net


def _choices(config: DictConfig) -> dict[str, str]:
    """Name of what is used in each group: that of the choice, or of the constructor in its place."""
    known = choices()
    chosen = known | {"arch": known.get("arch") or config.arch._target_} | own_targets(overrides())
    return {key: str(chosen[key]) for key in ("method", "criterion", "sparsity", "arch", "dataset") if chosen.get(key)}


def _overrides() -> dict[str, str]:
    """Overrides of the command line, by key, so that jobs of a sweep can be told apart."""
    words = (word.lstrip("+").partition("=") for word in overrides() if not word.startswith("~"))
    return {key: value for key, _, value in words}


def _to_tensorboard(config: DictConfig, folder: Path, report: Report, pictures: dict[str, Figure], step: int) -> None:
    """Write the hyper-parameters with the final figures, and the pictures, behind the curves of the phases."""
    if not has_event_files(config):
        return
    from torch.utils.tensorboard import SummaryWriter

    figures = {
        report.primary.name: report.value(report.after.metrics),
        f"{report.primary.name}_after_cut": report.value(report.metrics_after_cut),
        "macs": report.after.macs,
    }
    figures |= {"params": report.after.params, "latency_ms": report.after.latency_ms}
    settings = {**_overrides(), **report.choices, "seed": report.seed, "experiment": report.experiment}
    place = folder / "tensorboard"
    with naming(place), SummaryWriter(place) as writer:
        for name, picture in pictures.items():
            writer.add_image(name, figure_to_image(picture), step, dataformats="HWC")
        known = {f"result/{name}": value for name, value in figures.items() if value is not None}
        writer.add_hparams(settings, known, run_name=".", global_step=step)
