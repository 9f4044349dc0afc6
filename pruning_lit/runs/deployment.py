"""Export of a network, and what comes of it where it runs: dense and pruned, in PyTorch, compiled, in ONNX Runtime."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from pruning_lit.channels import ChannelGraph, Cost, cost, cost_of_widths, narrow, trace
from pruning_lit.measure.machine import hardware, versions
from pruning_lit.measure.onnx_network import OnnxNetwork, traced_program
from pruning_lit.measure.program_network import NotCompiledError, ProgramNetwork, compiled
from pruning_lit.measure.stopwatch import Stopwatch, seconds_in_turns
from pruning_lit.records.latency import Timing
from pruning_lit.reports.console import open_console
from pruning_lit.reports.deployment import Deployed, Deployment, deployment_table
from pruning_lit.runs.export import (
    BATCHES,
    FORMATS,
    Arguments,
    Exportable,
    require_formats,
    require_packages,
    write_onnx,
)
from pruning_lit.runs.threads import stay_within_quota
from pruning_lit.sparsity.multiples import in_multiples

INT8 = ("onnx_int8", "pt2_int8")
TOLD = 6  # widths in a sentence
MULTIPLE = 8  # channels that a blocked kernel of ONNX Runtime works on at a time, or a fraction of them


def export_and_measure(config: DictConfig, path: str, allowed: Sequence[str]) -> None:
    """Write the formats that the config names, measure, and print what came of it; see ``conf/export.yaml``.

    Raises:
        ValueError, FileNotFoundError: one sentence on what a user can mend.
    """
    stay_within_quota()
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    formats = [config.format] if isinstance(config.format, str) else list(config.format)
    require_formats(formats, [*FORMATS, *INT8])
    stopwatch: Stopwatch = instantiate(config.latency)
    net = Exportable(path, plain["input_shape"], plain.get("arch"), allowed)
    require_packages(formats)
    for form in formats:
        if form in INT8:
            net.require_judged(form)
    for form in formats:
        if form in INT8:
            continue
        difference, file = net.write(form), net.file(form)
        sizes = " and ".join(map(str, BATCHES))
        print(f"{file}: {_kilobytes(file)} kB, differs by {difference:.1e} of the largest output (batches of {sizes})")
    quantized = []
    for form in formats:
        if form not in INT8:
            continue
        from pruning_lit.runs.int8 import export_int8  # late: needs all that reads data

        quantized.append(export_int8(net, form, config))
        print(f"{quantized[-1].file}: {_kilobytes(quantized[-1].file)} kB, {quantized[-1]}")
    dense = net.dense()
    odd = odd_widths(dense, net.net)
    runtimes = [*["compiled"] * ("pt2_int8" in formats), *["onnx"] * any(form.startswith("onnx") for form in formats)]
    measured = config.measure and runtimes
    if not odd and not measured:
        return
    graph, pruned = (trace(each, _inputs(net.arguments)) for each in (dense, net.net))
    rounded = rounded_widths(graph, pruned) if odd else None
    notes = [advice(odd, pruned, graph, rounded)] if odd else []
    if measured:
        metrics = quantized[0].before if quantized else None
        columns = [Column("network", net.net, cost(pruned), metrics=metrics)]
        if _widths(dense) != _widths(net.net):
            columns = [Column("dense", dense, cost(graph)), columns[0]._replace(name="pruned")]
        if rounded is not None:
            copy, kept = net.dense(), {name: list(range(width)) for name, width in rounded.items()}
            narrow(copy, trace(copy, _inputs(net.arguments)), kept, rehearse=False)
            columns.append(Column(f"in multiples of {MULTIPLE}", copy, cost_of_widths(graph, rounded)))
        columns += [Column(each.form, None, cost(pruned), each.file, each.after) for each in quantized]
        primary = quantized[0].primary if quantized else None
        deployment = replace(measure(net, columns, stopwatch, notes, ["eager", *runtimes]), primary=primary)
        open_console().print(deployment_table(deployment))
        print(f"written: {deployment.write(net.stored.file.parent)}")
    for note in notes:
        print(f"Note: {note}")


def odd_widths(dense: nn.Module, pruned: nn.Module) -> dict[str, int]:
    """Output channels of the layers that were cut to what is no multiple of :data:`MULTIPLE`."""
    before = _widths(dense)
    return {
        name: width for name, width in _widths(pruned).items() if width % MULTIPLE and width < before.get(name, width)
    }


def rounded_widths(dense: ChannelGraph, pruned: ChannelGraph) -> dict[str, int] | None:
    """Widths in multiples at no more multiply-accumulates than the pruned network has, see ``in_multiples``.

    None where the groups of the two networks are not the same ones, or where their widths cost more in any case.
    """
    sizes = {group.name: group.size for group in pruned.groups}
    if sizes.keys() != {group.name for group in dense.groups}:
        return None
    widths = {group.name: sizes[group.name] for group in dense.prunable}
    rounded = in_multiples(dense, widths, MULTIPLE)
    return rounded if cost_of_widths(dense, rounded).macs <= cost(pruned).macs else None


def advice(odd: Mapping[str, int], pruned: ChannelGraph, dense: ChannelGraph, rounded: Mapping[str, int] | None) -> str:
    """A sentence on widths that runtimes do not like, and on what rounding them would bring."""
    found = ", ".join(map(str, sorted(set(odd.values()))[:TOLD])) + ", …" * (len(set(odd.values())) > TOLD)
    told = (
        f"{len(odd)} layers have widths that are no multiples of {MULTIPLE} ({found}), with which ONNX Runtime gains "
        f"less than the MACs say, or nothing: prune with sparsity.round_to={MULTIPLE}"
    )
    if rounded is None:
        return f"{told}."
    widths = ", ".join(map(str, sorted(set(rounded.values()))))
    now, then = cost(pruned).macs, cost_of_widths(dense, rounded).macs
    return f"{told}, for example with widths of {widths}, which cost {then:,} MACs instead of {now:,}."


class Column(NamedTuple):
    """One network of the table: its view in float32 on the CPU, or a file in int8 that one runtime runs."""

    name: str
    net: nn.Module | None
    cost: Cost
    file: Path | None = None
    metrics: Mapping[str, float] | None = None


def measure(
    net: Exportable, columns: Sequence[Column], stopwatch: Stopwatch, notes: list[str], runtimes: Sequence[str]
) -> Deployment:
    """Time networks in several runtimes, those of one runtime in turns.

    Args:
        net: what is exported.
        columns: the networks.
        stopwatch: says how large batches are and how often they are timed.
        notes: for the record; one is added where ``torch.compile`` fails, which is not timed then.
        runtimes: ``eager``, ``compiled`` (by ``torch.compile``, anew for each size of batches) and ``onnx``.
    """
    onnx_bytes: dict[str, int] = {}
    timings: dict[str, dict[str, list[Timing]]] = {column.name: {} for column in columns}
    repeats: dict[str, list[int]] = {}
    for runtime in runtimes:
        running = _compiled(net, columns) if runtime == "compiled" else _in_any_batch(net, columns, runtime, onnx_bytes)
        try:
            measured = [_timed(running(size), _batch(net.arguments, size), stopwatch) for size in stopwatch.batch_sizes]
        except NotCompiledError as error:
            notes.append(f"{error}: not timed there.")
            continue
        repeats[runtime] = [len(next(iter(each.values()))) for each in measured]
        for name in measured[0]:
            timings[name][runtime] = [Timing.of(each[name]) for each in measured]
    deployed = [
        Deployed(
            column.name,
            column.cost.macs,
            column.cost.params,
            timings[column.name],
            onnx_bytes.get(column.name),
            None if column.metrics is None else dict(column.metrics),
        )
        for column in columns
    ]
    threads = torch.get_num_threads()
    return Deployment(deployed, stopwatch.batch_sizes, repeats, threads, hardware(), versions(), notes)


Running = Callable[[int], dict[str, nn.Module]]  # networks by their columns' names, for batches of a size


def _in_any_batch(net: Exportable, columns: Sequence[Column], runtime: str, onnx_bytes: dict[str, int]) -> Running:
    """Networks in PyTorch or in ONNX Runtime, the sizes of whose files are taken down."""
    if runtime == "eager":
        nets = {column.name: column.net for column in columns if column.net is not None}
    else:
        nets = {}
        with TemporaryDirectory() as folder:
            for place, column in enumerate(columns):
                if column.net is not None:
                    file = Path(folder) / f"{place}.onnx"
                    nets[column.name] = write_onnx(traced_program(column.net, net.arguments), net.signature, file)
                elif column.file is not None and column.file.suffix == ".onnx":
                    file = column.file
                    nets[column.name] = OnnxNetwork(file)
                else:
                    continue
                onnx_bytes[column.name] = file.stat().st_size
    return lambda size: nets


def _compiled(net: Exportable, columns: Sequence[Column]) -> Running:
    """Networks as ``torch.compile`` runs them."""
    nets = {column.name: column.net for column in columns if column.net is not None}
    for column in columns:
        if column.file is not None and column.file.suffix == ".pt2":
            nets[column.name] = ProgramNetwork(torch.export.load(column.file).module())
    return lambda size: {name: compiled(each, _batch(net.arguments, size)) for name, each in nets.items()}


def _timed(nets: Mapping[str, nn.Module], batch: Arguments, stopwatch: Stopwatch) -> dict[str, list[float]]:
    """Seconds of the passes of each network."""
    limits = (stopwatch.repeats, stopwatch.warmup, stopwatch.max_seconds)
    return dict(zip(nets, seconds_in_turns([*nets.values()], batch, *limits), strict=True))


def _widths(net: nn.Module) -> dict[str, int]:
    """Output channels of every convolution and linear layer."""
    return {
        name: len(module.weight) for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    }


def _inputs(arguments: Arguments) -> Any:
    return arguments if len(arguments) > 1 else arguments[0]


def _batch(arguments: Arguments, size: int) -> Arguments:
    return tuple(torch.cat([each] * size) for each in arguments)


def _kilobytes(file: Path) -> int:
    return file.stat().st_size // 1000
