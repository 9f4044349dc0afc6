"""Section on classes: all metrics of classification, and which classes are taken for which."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pruning_lit.records.primary import Primary
from pruning_lit.reports.heat_map import SHARES
from pruning_lit.reports.section import Pair
from pruning_lit.reports.wording import UNKNOWN, literal, markdown_table, metric, metric_change, percent, points
from pruning_lit.tasks import Task
from pruning_lit.tasks.evaluation import confusion_matrix

MOST_CLASSES = 100  # of which a matrix can be read
MOST_ROWS = 10  # of the table
MOST_NAMED = 30  # classes that have their names beside the picture


@dataclass(frozen=True)
class ClassesSection:
    """Metrics of classifiers before and after, and their confusion matrices.

    Attributes:
        metrics: values before and after, by name; None before where there was no trained network.
        classes: their names.
        before, after: counts of test images, int64 ``(classes, classes)``, by true and by predicted class; None where
            there are too many classes, or there was no trained network.
    """

    name: ClassVar[str] = "classes"
    metrics: dict[str, tuple[float | None, float | None]]
    classes: Sequence[str]
    before: Tensor | None
    after: Tensor | None

    @classmethod
    def of(cls, task: Task, data: Any, nets: Pair, graphs: Pair, metrics: Pair, trained: bool) -> Self:
        """Look at networks before and after.

        Args:
            task: classification.
            data: its data module.
            nets: the dense network and the pruned one, on one device.
            graphs: of them; not used.
            metrics: of both, by name.
            trained: whether the dense network is a trained one.
        """
        old, new = ({} if each is None else each for each in metrics)
        values = {name: (old.get(name), new.get(name)) for name in task.metric_names()}
        number = data.num_classes
        classes = data.classes if len(data.classes or ()) == number else [str(each) for each in range(number)]
        few = number <= MOST_CLASSES
        before, after = (
            confusion_matrix(net, data, task, number) if wanted else None
            for net, wanted in zip(nets, (few and trained, few), strict=True)
        )
        return cls(values, classes, before, after)

    def data(self) -> dict[str, Any]:
        """Metrics and matrices as plain data."""
        matrices = {"before": self.before, "after": self.after}
        return {
            "metrics": {name: {"before": old, "after": new} for name, (old, new) in self.metrics.items()},
            "classes": list(self.classes),
            "confusion": {name: None if each is None else each.tolist() for name, each in matrices.items()},
        }

    def markdown(self, picture: str | None) -> str:
        """The metrics, the classes that are right least often, and the picture."""
        values = [
            [Primary(name).title, *(metric(Primary(name), each) for each in pair), metric_change(Primary(name), *pair)]
            for name, pair in self.metrics.items()
        ]
        texts = ["## Classes", "\n".join(markdown_table(["", "before", "after", "change"], values))]
        if self.after is not None:
            rows = self._rows(self.after)
            if len(rows) < len(self.classes):
                texts.append(f"The {len(rows)} of {len(self.classes)} classes that are right least often:")
            heading = ["class", "test images", "right before", "right after", "change", "else taken for"]
            texts.append("\n".join(markdown_table(heading, rows)))
        if picture:
            texts.append(f"![share of the test images of each class that is taken for each class]({picture})")
        return "\n\n".join(texts)

    def _rows(self, after: Tensor) -> list[list[str]]:
        """A row for every class with a test image, those that are right least often first."""
        right, old = recalls(after), None if self.before is None else recalls(self.before)
        wrong = after - torch.diag(after.diagonal())
        there = [number for number in right.argsort(stable=True).tolist() if not right[number].isnan()]
        return [
            [
                self.classes[number],
                f"{int(after[number].sum()):,}",
                UNKNOWN if old is None else percent(float(old[number])),
                percent(float(right[number])),
                UNKNOWN if old is None else points(float(right[number] - old[number])),
                self.classes[int(wrong[number].argmax())] if wrong[number].any() else UNKNOWN,
            ]
            for number in there[:MOST_ROWS]
        ]

    def figure(self) -> Figure | None:
        """The matrices side by side; None where there are too many classes."""
        matrices = {name: each for name, each in (("before", self.before), ("after", self.after)) if each is not None}
        if not matrices:
            return None
        side = min(9.0, max(3.0, 0.32 * len(self.classes)))  # inches
        figure = Figure(figsize=(1.5 + side * len(matrices), 1.2 + side), dpi=100, layout="constrained")
        panels = figure.subplots(1, len(matrices), sharey=True, squeeze=False)[0]
        for axes, (name, matrix) in zip(panels, matrices.items(), strict=True):
            self._draw(axes, name, matrix)
        panels[0].set_ylabel("class")
        return figure

    def _draw(self, axes: Axes, name: str, matrix: Tensor) -> None:
        shares = (matrix / matrix.sum(1, keepdim=True).clamp(min=1)).numpy()
        axes.imshow(shares, cmap=SHARES, vmin=0, vmax=1)
        axes.set(title=f"{name}: % of a class taken for …", xlabel="predicted class")
        named = len(self.classes) <= MOST_NAMED
        names = [literal(each) for each in self.classes] if named else []
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        for (row, column), share in np.ndenumerate(shares) if named else ():
            if share >= 0.005:
                colour = "white" if share > 0.5 else "black"
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6, color=colour)


def recalls(matrix: Tensor) -> Tensor:
    """Share of the images of each class that is right, float64; not a number for a class without any."""
    return matrix.diagonal().double() / matrix.sum(1)
