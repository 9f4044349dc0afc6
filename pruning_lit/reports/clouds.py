"""Section on point clouds: all metrics, latency with and without sampling, and test clouds with what networks say."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor, nn

from pruning_lit.measure.stopwatch import seconds_in_turns
from pruning_lit.models.sampling import Sampling
from pruning_lit.records.latency import Timing
from pruning_lit.records.primary import Primary
from pruning_lit.reports.section import Pair
from pruning_lit.reports.wording import amount, latency_change, literal, markdown_table, metric, metric_change
from pruning_lit.tasks import PartSegmentation, Task
from pruning_lit.tasks.base import like
from pruning_lit.tasks.category_parts import likeliest, membership

NUM_CLOUDS = 8  # in the picture
REPEATS = 20  # timed passes
COLUMNS = 4  # of the picture, for classes
SAMPLING = """\
Choosing centres and neighbours took {sampling} of either: farthest points one after the other, which no pruning
shortens. Without it: {without}."""


class SeenCloud(NamedTuple):
    """A test cloud, and what the data and each network say of it.

    Attributes:
        points: float ``(N, 3)``.
        told: by heading, the class ``()``, or the parts of the points ``(N,)``.
    """

    points: Tensor
    told: dict[str, Tensor]


@dataclass(frozen=True)
class CloudsSection:
    """All that a report tells of networks for point clouds beside the primary metric.

    Attributes:
        metrics: values before and after, by name; None before where there was no trained network.
        timings: of one cloud, before and after.
        sampling: of choosing centres and neighbours alone; None where a network chooses none.
        repeats: timed passes.
        classes: names by number.
        clouds: test clouds with what is said of them.
    """

    name: ClassVar[str] = "clouds"
    metrics: dict[str, tuple[float | None, float | None]]
    timings: tuple[Timing, Timing]
    sampling: Timing | None
    repeats: int
    classes: Sequence[str]
    clouds: list[SeenCloud] = field(default_factory=list)

    @classmethod
    def of(cls, task: Task, data: Any, nets: Pair, graphs: Pair, metrics: Pair, trained: bool) -> Self:
        """Look at networks before and after.

        Args:
            task: classification of clouds, or part segmentation.
            data: its data module.
            nets: the dense network and the pruned one, on one device.
            graphs: of them; not used.
            metrics: of both, by name.
            trained: whether the dense network is a trained one, so that there is something to see.
        """
        timed = [*nets, Sampling(nets[1])]
        seconds = seconds_in_turns(timed, like(data.example, next(nets[1].parameters())), REPEATS, 2, max_seconds=20)
        timings = [Timing.of(each) for each in seconds]
        before, after = ({} if each is None else each for each in metrics)
        values = {name: (before.get(name), after.get(name)) for name in task.metric_names()}
        sampling = timings[2] if Sampling.is_done_by(nets[1]) else None
        shown = {"before": nets[0], "after": nets[1]} if trained else {"after": nets[1]}
        clouds = seen_clouds(task, data, shown)
        return cls(values, (timings[0], timings[1]), sampling, len(seconds[0]), data.classes, clouds)

    @property
    def without_sampling(self) -> tuple[float, float] | None:
        """Median milliseconds before and after that sampling leaves."""
        if self.sampling is None:
            return None
        old, new = (max(0.0, each.median_ms - self.sampling.median_ms) for each in self.timings)
        return old, new

    def data(self) -> dict[str, Any]:
        """Metrics and latency as plain data."""
        latency = {"before": asdict(self.timings[0]), "after": asdict(self.timings[1])}
        rest = self.without_sampling
        return {
            "metrics": {name: {"before": old, "after": new} for name, (old, new) in self.metrics.items()},
            "one_cloud": latency | ({} if self.sampling is None else {"sampling": asdict(self.sampling)}),
            "without_sampling_ms": None if rest is None else {"before": rest[0], "after": rest[1]},
        }

    def markdown(self, picture: str | None) -> str:
        """The metrics, the latency, and the picture."""
        values = [
            [Primary(name).title, *(metric(Primary(name), each) for each in pair), metric_change(Primary(name), *pair)]
            for name, pair in self.metrics.items()
        ]
        old, new = self.timings
        whole = f"{amount(old.median_ms, 'ms')} before, {amount(new.median_ms, 'ms')} after"
        told = f"Latency of one cloud: {whole} ({latency_change(old, new, self.repeats)})."
        if self.sampling is not None and (rest := self.without_sampling) is not None:
            left = f"{amount(rest[0], 'ms')} before, {amount(rest[1], 'ms')} after"
            told += " " + SAMPLING.format(sampling=amount(self.sampling.median_ms, "ms"), without=left)
        texts = ["## Point clouds", "\n".join(markdown_table(["", "before", "after", "change"], values)), told]
        if picture:
            texts.append(f"![test clouds with what the data and each network say of them]({picture})")
        return "\n\n".join(texts)

    def figure(self) -> Figure | None:
        """Test clouds with their classes, or coloured by their parts; None without clouds."""
        if not self.clouds:
            return None
        return _of_classes(self) if next(iter(self.clouds[0].told.values())).ndim == 0 else _of_parts(self)


def _of_classes(section: CloudsSection) -> Figure:
    """Clouds in a grid, coloured by height; below each the class, and what networks took it for."""
    rows = -(-len(section.clouds) // COLUMNS)
    figure = Figure(figsize=(2.6 * COLUMNS, 3.0 * rows), dpi=100, layout="constrained")
    for place, cloud in enumerate(section.clouds, start=1):
        axes = figure.add_subplot(rows, COLUMNS, place, projection="3d")
        _draw(axes, cloud.points, np.asarray(colormaps["viridis"](_unit(cloud.points[:, 2].numpy()))))
        said = {heading: literal(section.classes[int(number)]) for heading, number in cloud.told.items()}
        right = len({*said.values()}) == 1
        lines = "\n".join(f"{heading}: {name}" for heading, name in said.items())
        axes.set_title(lines, fontsize=8, color="black" if right else "#D55E00")
    return figure


def _of_parts(section: CloudsSection) -> Figure:
    """A row for each cloud, a column for the data and for each network, coloured by part."""
    columns, rows = list(section.clouds[0].told), len(section.clouds)
    figure = Figure(figsize=(2.6 * len(columns), 2.3 * rows), dpi=100, layout="constrained")
    for row, cloud in enumerate(section.clouds):
        known = cloud.told["annotated"]
        first = int(known[known >= 0].min()) if (known >= 0).any() else 0  # neighbouring parts have other colours
        for column, heading in enumerate(columns):
            axes = figure.add_subplot(rows, len(columns), row * len(columns) + column + 1, projection="3d")
            parts = cloud.told[heading].numpy()
            palette = np.asarray(colormaps["tab10"](np.arange(10)))
            colours = np.where(parts[:, None] < 0, [0.8, 0.8, 0.8, 1.0], palette[(parts - first) % 10])
            _draw(axes, cloud.points, colours)
            if heading == "annotated":
                names = [literal(section.classes[number]) for number in np.unique(parts[parts >= 0])]
                axes.text2D(0.0, 0.0, ", ".join(names), transform=axes.transAxes, fontsize=6)
            if row == 0:
                axes.set_title(heading, fontsize=10)
    return figure


def _draw(axes: Any, points: Tensor, colours: np.ndarray) -> None:
    axes.scatter(*points.T.numpy(), c=colours, s=4, linewidths=0, depthshade=False)
    radius = float(points.abs().max()) * 0.75
    for limit in (axes.set_xlim, axes.set_ylim, axes.set_zlim):
        limit(-radius, radius)
    axes.set_box_aspect((1, 1, 1))
    axes.set_axis_off()


def _unit(values: np.ndarray) -> np.ndarray:
    span = values.max() - values.min()
    return (values - values.min()) / (span if span > 0 else 1)


@torch.no_grad()
def seen_clouds(task: Task, data: Any, nets: Mapping[str, nn.Module]) -> list[SeenCloud]:
    """Test clouds of as many classes or categories as there are places, and what the networks say of them.

    Args:
        task: classification of clouds, or part segmentation.
        data: its data module.
        nets: by heading.
    """
    clouds, seen = list[SeenCloud](), set[int]()
    own = None
    if isinstance(task, PartSegmentation):
        own = membership(list(task.categories.values()), task.num_classes)
    for net in nets.values():
        net.eval()
    for batch in data.test_batches():
        inputs, targets = data.on_after_batch_transfer(batch, 0)
        points, kinds = (inputs, targets) if own is None else inputs
        told = {"annotated": targets}
        new = [at for at, kind in enumerate(kinds.tolist()) if not (kind in seen or seen.add(kind))]  # type: ignore[func-returns-value]
        for heading, net in nets.items() if new else ():
            outputs = task.outputs(net, (like(inputs, next(net.parameters())), targets)).float().cpu()
            told[heading] = outputs.argmax(1) if own is None else likeliest(outputs, own[kinds])
        axes = [0, 1, 2] if data.vertical == 2 else [0, 2, 1]  # pictures have z upwards
        for at in new:
            clouds.append(SeenCloud(points[at][:, axes].cpu(), {name: each[at] for name, each in told.items()}))
            if len(clouds) == NUM_CLOUDS:
                return clouds
    return clouds
