"""The metric of a task that stands for all."""

from dataclasses import dataclass, field
from typing import Literal

FORMER_METRIC = "accuracy"  # the only one that earlier versions recorded


@dataclass(frozen=True)
class Primary:
    """The metric that epochs are chosen by, and that tables and images show.

    Attributes:
        name: among the metrics of the task.
        higher_is_better: the direction.
        percent: a share, 0 to 1, shown in per cent.
        meaning: a few words for the report on what it measures.
    """

    name: str
    higher_is_better: bool = True
    percent: bool = True
    meaning: str = field(default="", compare=False)

    @property
    def title(self) -> str:
        """The name in words, such as ``mean IoU``."""
        words = {"iou": "IoU", "miou": "mIoU", "ap": "AP", "ap50": "AP50", "ap75": "AP75", "f1": "F1"}
        return " ".join(words.get(word, word) for word in self.name.split("_"))

    @property
    def mode(self) -> Literal["max", "min"]:
        """The direction, as Lightning's callbacks call it."""
        return "max" if self.higher_is_better else "min"

    def better(self, a: float, b: float) -> bool:
        """Compare two values: true where ``a`` is better than ``b``."""
        return a > b if self.higher_is_better else a < b

    def format(self, value: float) -> str:
        """Format a value with its unit, such as ``97.49 %``."""
        return f"{100 * value:.2f} %" if self.percent else f"{value:.4g}"
