"""Clock of a network that is to be cut: times of its layers and of narrower copies, each measured once."""

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, macs_by_layer, narrow, trace
from pruning_lit.channels.inputs import first_tensor
from pruning_lit.criteria.ranks import rank_and_world_size
from pruning_lit.measure.layer_times import layer_kinds
from pruning_lit.measure.machine import hardware, versions
from pruning_lit.measure.onnx_network import in_onnx
from pruning_lit.measure.stopwatch import seconds_in_turns
from pruning_lit.records.latency import Timing
from pruning_lit.sparsity.latency_table import LatencyTable, Widths

log = logging.getLogger(__name__)
FILE = "latency_table.json"
UNIFORM = (1.0, 0.75, 0.5, 0.25)  # widths of the whole networks that intercept and factor are fitted on
REPEATS, WARMUP = 15, 3  # of whole networks
APART = 0.15  # of the median: quartiles further apart than that mean that others use the machine
ROUNDS = 4  # tries to find it quiet


class Clock:
    """Times of a network on the machine of a run, kept in a file; the first process measures, all have its times.

    Args:
        net: the network as it is now, on the device of the run.
        graph: of it.
        example: an input of one example.
        file: where the table is kept.
        onnx: ONNX Runtime runs the network, on the CPU, and not PyTorch.
    """

    def __init__(self, net: nn.Module, graph: ChannelGraph, example: Any, file: Path, onnx: bool = False) -> None:
        self.net, self.graph, self.example, self.file, self.onnx = net, graph, example, file, onnx

    def of_onnx(self) -> "Clock":
        """This clock, of ONNX Runtime."""
        return Clock(self.net, self.graph, self.example, self.file, onnx=True)

    def table(self, batch_size: int, multiple: int, dense: Widths, given: str | None) -> LatencyTable:
        """The table of this run, from its file; where there is none, that of the user, or one that is measured.

        Args:
            batch_size: examples in a pass.
            multiple: of the widths that are measured.
            dense: sizes of the groups before the first cut.
            given: a file of the user's.

        Raises:
            FileNotFoundError, ValueError: the user's table is not there, or is not of this machine and network; or the
                machine is busy.
        """
        return self._by_first(lambda: self._table(batch_size, multiple, dense, given))

    def timed(self, table: LatencyTable, widths: Widths) -> LatencyTable:
        """The table with the time of the network at these widths; None where it cannot be told."""
        if table.network(widths) is not None:
            return table
        return self._by_first(lambda: self._timed(table, widths))

    def _by_first(self, work: Callable[[], LatencyTable]) -> LatencyTable:
        """Table that the first process has made, or its error."""
        rank, processes = rank_and_world_size()
        if processes == 1:
            return work()
        made: list[Any] = [None]
        if rank == 0:
            try:
                made = [work()]
            except (ValueError, FileNotFoundError) as error:
                made = [error]
        dist.broadcast_object_list(made)
        if isinstance(made[0], Exception):
            raise made[0]
        return made[0]

    def _table(self, batch_size: int, multiple: int, dense: Widths, given: str | None) -> LatencyTable:
        asked = self._machine(batch_size)
        if self.file.is_file() and (kept := LatencyTable.read(self.file)).groups == dict(dense):
            if all(kept.machine.get(name) == asked[name] for name in ("batch size", "runtime")):
                return kept
            log.info("the layer times in %s are of other batches or another runtime: they are measured anew", self.file)
        if given is not None:
            table = LatencyTable.read(Path(given))
            table.require(asked, dense, Path(given))
        elif {group.name: group.size for group in self.graph.groups} != dict(dense):
            raise ValueError(f"{str(self.file)!r} is gone, with the times of the network before the first cut")
        else:
            table = self._measured(batch_size, multiple)
        table.write(self.file)
        return table

    def _measured(self, batch_size: int, multiple: int) -> LatencyTable:
        names = list(macs_by_layer(self.graph))
        layers = layer_kinds(self.net, self.example, names)
        kinds = {kind.name: kind for kind in layers.values()}
        if not kinds:
            raise ValueError("the network has no convolution or linear layer whose time could be measured by itself")
        log.info("measuring %d kinds of layers at batches of %d", len(kinds), batch_size)
        groups = {group.name: group.size for group in self.graph.groups}
        times: dict[str, dict[int, dict[int, float]]] = {name: {} for name in kinds}
        for name, kind in kinds.items():
            for out, width in kind.widths(multiple):
                row = times[name].setdefault(out, {})
                row[width] = kind.milliseconds(out, width, batch_size, self._device, self.onnx)
        table = LatencyTable(
            self._machine(batch_size), groups, {name: each.name for name, each in layers.items()}, times
        )
        for share in UNIFORM:
            widths = {group.name: max(1, round(share * group.size)) for group in self.graph.prunable}
            if table.network(widths) is None:
                timing = self._quiet(table, widths)
                if is_noisy(timing):
                    raise ValueError(
                        f"the machine is busy: passes of one network take {timing.lower_ms:.3g} to "
                        f"{timing.upper_ms:.3g} ms (quartiles), more than {APART:.0%} apart, so that times of layers "
                        "would mean little; end what else runs on it and resume, or give a table that was measured "
                        "before (sparsity.table=…)"
                    )
                table = table.with_network(widths, timing.median_ms)
        return table.fitted([table.layers_ms(self.graph, each["widths"]) for each in table.networks])

    def _timed(self, table: LatencyTable, widths: Widths) -> LatencyTable:
        table.require(self._machine(table.machine["batch size"]), table.groups, self.file)
        timing = self._quiet(table, widths)
        table = table.with_network(widths, None if is_noisy(timing) else timing.median_ms)
        table.write(self.file)
        return table

    def _quiet(self, table: LatencyTable, widths: Widths) -> Timing:
        """Timing of the network at these widths while nothing else runs; where that is never so, the last of a few."""
        present = next((each["ms"] for each in table.networks if each["ms"] and self._has(each["widths"])), None)
        narrower = copy.deepcopy(self.net)
        if not self._has(widths):
            kept = {name: list(range(width)) for name, width in widths.items()}
            narrow(narrower, trace(narrower, self.example), kept, rehearse=False)
        nets = [self.net, narrower]
        if self.onnx:
            nets = [in_onnx(copy.deepcopy(each), self.example) for each in nets]
        for _ in range(ROUNDS):
            if not is_noisy(timing := self._time(widths, nets, table.machine["batch size"], present)):
                break
        return timing

    def _time(self, widths: Widths, nets: list[nn.Module], batch_size: int, present: float | None) -> Timing:
        """Timing of a copy of these widths in turns with the network as it is, whose time is known if ``present``.

        Work beside it that slows both alike is so left out.
        """
        batch = apply_to_collection(self.example, Tensor, lambda each: torch.cat([each[:1]] * batch_size))
        here, there = seconds_in_turns(nets, batch, REPEATS, WARMUP)
        scale = 1.0 if present is None else present / Timing.of(here).median_ms
        return Timing.of([scale * each for each in there])

    def _has(self, widths: Widths) -> bool:
        """True where the network has these widths as it is."""
        return all(self.graph[name].size == width for name, width in widths.items())

    @property
    def _device(self) -> torch.device:
        return torch.device("cpu") if self.onnx else next(self.net.parameters()).device

    def _machine(self, batch_size: int) -> dict[str, Any]:
        shape = "×".join(map(str, first_tensor(self.example).shape[1:]))
        return machine(self._device, batch_size, shape, self.onnx)


def machine(device: torch.device, batch_size: int, shape: str, onnx: bool = False) -> dict[str, Any]:
    """Device and setting that times hold for, by name, as a table keeps it; ``shape`` of one example in words."""
    return {
        "device": hardware(device),
        "runtime": "ONNX Runtime" if onnx else "PyTorch",
        "threads": torch.get_num_threads(),
        "torch": versions()["torch"],
        "batch size": batch_size,
        "input": shape,
    }


def is_noisy(timing: Timing) -> bool:
    """True where the quartiles are too far apart for the median to mean much."""
    return timing.upper_ms - timing.lower_ms > APART * timing.median_ms
