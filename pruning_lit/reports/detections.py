"""Section on a detector: average precision, costs by part, the whole detector's latency, and test images with boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.channels import ChannelGraph, cost
from pruning_lit.measure.stopwatch import seconds_in_turns
from pruning_lit.records.latency import Timing
from pruning_lit.records.primary import Primary
from pruning_lit.reports.section import Pair
from pruning_lit.reports.wording import amount, change, latency_change, literal, markdown_table, metric, metric_change
from pruning_lit.tasks import Task
from pruning_lit.tasks.base import like

NUM_IMAGES = 6  # on the page
LEAST_SCORE = 0.5  # of detections that are drawn
REPEATS = 10  # timed passes of a whole detector
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")  # Okabe and Ito's palette
BEYOND = """\
The whole detector resizes an image, finds boxes in it and sorts out what overlaps, all of it on one test image; the
latency in the table above is that of its convolutions and linear layers alone."""


class Part(NamedTuple):
    """A part of the network in numbers, before and after."""

    name: str
    macs: tuple[int, int]
    params: tuple[int, int]


class Page(NamedTuple):
    """A test image, and what is there by the annotations and by each network.

    Attributes:
        image: ``(3, H, W)``, 0 to 1, at its original size.
        objects: by heading, boxes, labels, and scores and masks where there are any.
    """

    image: Tensor
    objects: dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class DetectionsSection:
    """All that a report tells of a detector beside the primary metric.

    Attributes:
        metrics: values before and after, by name; None before where there was no trained network.
        parts: MACs and parameters by the first two names of the layers' paths.
        timings: of the whole detector on one image, before and after.
        repeats: timed passes.
        classes: names by label.
        pages: test images with what was found in them.
    """

    name: ClassVar[str] = "detections"
    metrics: dict[str, tuple[float | None, float | None]]
    parts: list[Part]
    timings: tuple[Timing, Timing]
    repeats: int
    classes: Sequence[str]
    pages: list[Page] = field(default_factory=list)

    @classmethod
    def of(cls, task: Task, data: Any, nets: Pair, graphs: Pair, metrics: Pair, trained: bool) -> Self:
        """Look at a detector before and after.

        Args:
            task: detection or instance segmentation.
            data: its data module.
            nets: the dense network and the pruned one, on one device.
            graphs: of their views.
            metrics: of both, by name.
            trained: whether the dense network is a trained one, so that there is something to see.
        """
        shown = {"before": nets[0], "after": nets[1]} if trained else {"after": nets[1]}
        pages = pages_of(task, data, shown)
        image = like(pages[0].image, next(nets[1].parameters()))
        seconds = seconds_in_turns(list(nets), ([image],), REPEATS, 1, max_seconds=20)
        before, after = ({} if each is None else each for each in metrics)
        values = {name: (before.get(name), after.get(name)) for name in task.metric_names()}
        timings = Timing.of(seconds[0]), Timing.of(seconds[1])
        return cls(values, parts_of(*graphs), timings, len(seconds[0]), data.classes, pages)

    def data(self) -> dict[str, Any]:
        """Metrics, parts and latency as plain data."""
        return {
            "metrics": {name: {"before": old, "after": new} for name, (old, new) in self.metrics.items()},
            "parts": [each._asdict() for each in self.parts],
            "whole_detector": {"before": asdict(self.timings[0]), "after": asdict(self.timings[1])},
        }

    def markdown(self, picture: str | None) -> str:
        """Two tables, the latency, and the page of images."""
        values = [[Primary(name).title, *_compared(Primary(name), *pair)] for name, pair in self.metrics.items()]
        costs = [
            [f"`{part.name}`", *(amount(each) for each in part.macs), change(*part.macs), change(*part.params)]
            for part in self.parts
        ]
        old, new = self.timings
        whole = f"{amount(old.median_ms, 'ms')} before, {amount(new.median_ms, 'ms')} after"
        texts = [
            "## Detections",
            "\n".join(markdown_table(["", "before", "after", "change"], values)),
            "\n".join(markdown_table(["part", "MACs before", "after", "change", "of parameters"], costs)),
            f"Latency of the whole detector: {whole} ({latency_change(old, new, self.repeats)}). {BEYOND}",
        ]
        if picture:
            texts.append(f"![test images with the objects by the annotations and by each network]({picture})")
        return "\n\n".join(texts)

    def figure(self) -> Figure | None:
        """Test images with boxes and masks: by the annotations, and found before and after; None without images."""
        if not self.pages:
            return None
        columns = list(self.pages[0].objects)
        figure = Figure(figsize=(3.2 * len(columns), 2.9 * len(self.pages)), dpi=100, layout="constrained")
        grid = figure.subplots(len(self.pages), len(columns), squeeze=False)
        for row, page in zip(grid, self.pages, strict=True):
            for axes, heading in zip(row, columns, strict=True):
                draw(axes, page.image, page.objects[heading], self.classes)
        for axes, heading in zip(grid[0], columns, strict=True):
            axes.set_title(heading, fontsize=10)
        return figure


def _compared(primary: Primary, old: float | None, new: float | None) -> list[str]:
    return [metric(primary, old), metric(primary, new), metric_change(primary, old, new)]


def parts_of(before: ChannelGraph, after: ChannelGraph) -> list[Part]:
    """MACs and parameters of both networks by the first two names of the layers' paths, such as ``backbone.fpn``."""
    names = dict.fromkeys(".".join(call.weight.split(".")[:-1][:2]) for call in before.calls)
    parts = []
    for name in names:
        old, new = cost(before.within(name)), cost(after.within(name))
        parts.append(Part(name, (old.macs, new.macs), (old.params, new.params)))
    return parts


@torch.no_grad()
def pages_of(task: Task, data: Any, nets: Mapping[str, nn.Module]) -> list[Page]:
    """The first test images with objects, and what the networks find in them."""
    pages: list[Page] = []
    for net in nets.values():
        net.eval()
    for batch in data.test_batches():
        images, targets = data.on_after_batch_transfer(batch, 0)
        for image, target in zip(images, targets, strict=True):
            if not len(target["boxes"]):
                continue
            objects = {"annotated": target}
            for heading, net in nets.items():
                (found,) = task.outputs(net, (like([image], next(net.parameters())), [target]))
                sure = found["scores"] >= LEAST_SCORE
                objects[heading] = {key: value[sure].float().cpu() for key, value in found.items()}
            pages.append(Page(_at_original_size(image.cpu(), target), objects))
            if len(pages) == NUM_IMAGES:
                return pages
    return pages


def _at_original_size(image: Tensor, target: Mapping[str, Tensor]) -> Tensor:
    size = target["size"].tolist() if "size" in target else image.shape[-2:]
    return F.interpolate(image[None], size=tuple(size), mode="bilinear", antialias=True)[0]


def draw(axes: Axes, image: Tensor, objects: Mapping[str, Tensor], classes: Sequence[str]) -> None:
    """Draw an image with the boxes, names and masks of objects.

    Args:
        axes: where to.
        image: ``(3, H, W)``, 0 to 1.
        objects: ``boxes``, ``labels``, perhaps ``scores`` and ``masks``.
        classes: names by label.
    """
    shown = image.clone()
    labels = objects["labels"].long().tolist()
    for label, mask in zip(labels, objects.get("masks", ()), strict=False):
        colour = torch.tensor([int(_colour(label)[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        shown = torch.where(mask.bool().cpu(), (shown + colour[:, None, None]) / 2, shown)
    axes.imshow(shown.permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
    scores = objects["scores"].tolist() if "scores" in objects else [None] * len(labels)
    for (left, top, right, bottom), label, score in zip(objects["boxes"].tolist(), labels, scores, strict=True):
        colour_of_class = _colour(label)
        axes.add_patch(
            Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, ec=colour_of_class, lw=1.2)
        )
        name = literal(classes[label]) if label < len(classes) else str(label)
        told = name if score is None else f"{name} {score:.2f}"
        axes.text(
            left,
            top,
            told,
            fontsize=6,
            color="white",
            va="bottom",
            bbox={"fc": colour_of_class, "ec": "none", "pad": 0.8},
        )
    axes.set_axis_off()


def _colour(label: int) -> str:
    return COLOURS[(label - 1) % len(COLOURS)]
