"""Table of measured layer times, and the latency of a whole network that it predicts."""

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from pruning_lit.channels import ChannelGraph
from pruning_lit.channels.surgery.cost import shapes_of_widths
from pruning_lit.system.atomic import write_text

Widths = Mapping[str, int]


@dataclass(frozen=True)
class LatencyTable:
    """Times of layers at a grid of widths, and of whole networks, on one machine; plain data.

    Args:
        machine: what they hold for, by name: device, threads, versions, batch size.
        groups: sizes of the groups of channels of the dense network.
        kinds: the kind of each layer.
        times: milliseconds of each kind, by output and input width, as ``{kind: {out: {in: ms}}}``.
        networks: milliseconds of whole networks, each ``{"widths": {group: width}, "ms": …}``, the first dense; None
            where passes were too far apart to tell.
        intercept, factor: what a whole network takes beside its layers, and by what their sum is to be multiplied.
    """

    machine: dict[str, Any]
    groups: dict[str, int]
    kinds: dict[str, str]
    times: dict[str, dict[int, dict[int, float]]]
    networks: list[dict[str, Any]] = field(default_factory=list)
    intercept: float = 0.0
    factor: float = 1.0

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a table; FileNotFoundError where there is none, ValueError where it is damaged."""
        if not file.is_file():
            raise FileNotFoundError(
                f"there is no table of layer times {str(file)!r}; without sparsity.table=… one is made"
            )
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            times = {
                kind: {int(out): {int(width): float(ms) for width, ms in row.items()} for out, row in rows.items()}
                for kind, rows in data["times"].items()
            }
            return cls(**data | {"times": times})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{str(file)!r} is no table of layer times ({type(error).__name__}); delete it") from error

    def write(self, file: Path) -> None:
        """Write the table as JSON."""
        write_text(file, json.dumps(asdict(self), indent=1) + "\n")

    def require(self, machine: Mapping[str, Any], groups: Widths, file: Path) -> None:
        """ValueError, which names the difference, where the times are of another machine, setting or network."""
        for name, value in machine.items():
            if self.machine.get(name) != value:
                raise ValueError(
                    f"the layer times in {str(file)!r} are of {name} {self.machine.get(name)}, here it is {value}: "
                    "measure anew, without sparsity.table"
                )
        if dict(groups) != self.groups:
            raise ValueError(
                f"the layer times in {str(file)!r} are of another network, of {len(self.groups)} groups of channels "
                f"with {sum(self.groups.values())} channels in all: measure anew, without sparsity.table"
            )

    @property
    def dense_ms(self) -> float:
        """Measured milliseconds of the dense network."""
        return float(self.networks[0]["ms"])

    def network(self, widths: Widths) -> dict[str, Any] | None:
        """Record of a network of these widths; None where it was not looked at."""
        return next((each for each in self.networks if each["widths"] == dict(widths)), None)

    def with_network(self, widths: Widths, milliseconds: float | None) -> "LatencyTable":
        """This table with a further measured network."""
        return replace(self, networks=[*self.networks, {"widths": dict(widths), "ms": milliseconds}])

    def layers_ms(self, graph: ChannelGraph, widths: Widths) -> float:
        """Sum of the layers' times at these widths of a graph of the network, interpolated between those measured."""
        shapes = shapes_of_widths(graph, widths)
        return sum(
            _at({out: _at(row, shapes[f"{layer}.weight"][1]) for out, row in self.times[kind].items()}, shape[0])
            for layer, kind in self.kinds.items()
            if (shape := shapes.get(f"{layer}.weight"))
        )

    def predicted_ms(self, graph: ChannelGraph, widths: Widths) -> float:
        """Milliseconds of a network of these widths: its layers, scaled, and what does not shrink with them."""
        return self.intercept + self.factor * self.layers_ms(graph, widths)

    def fitted(self, sums: Sequence[float]) -> "LatencyTable":
        """This table with intercept and factor by which its networks are met best, as shares of their times.

        Args:
            sums: ``layers_ms`` of each network.
        """
        measured = [float(each["ms"]) for each in self.networks]
        design = np.array([[1 / ms, total / ms] for ms, total in zip(measured, sums, strict=True)])
        intercept, factor = np.linalg.lstsq(design, np.ones(len(sums)), rcond=None)[0]
        if factor <= 0 or intercept < 0:  # noise: of networks that take longer the narrower they are
            intercept, factor = 0.0, float(np.mean(measured) / np.mean(sums))
        return replace(self, intercept=float(intercept), factor=float(factor))


def _at(points: Mapping[int, float], width: int) -> float:
    """Value at a width on the line through the two nearest points around it, or at that end; not below 0."""
    places = sorted(points)
    if len(places) == 1:
        return points[places[0]]
    after = min(max(bisect_right(places, width), 1), len(places) - 1)
    low, high = places[after - 1], places[after]
    slope = (points[high] - points[low]) / (high - low)
    return max(0.0, points[low] + slope * (width - low))
