"""COCO's average precision, the same whichever process has seen which image."""

import importlib.util
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.detection import MeanAveragePrecision

BACKENDS = ("faster_coco_eval", "pycocotools")
FIGURES = {
    "ap": "map",
    "ap50": "map_50",
    "ap75": "map_75",
    "ap_small": "map_small",
    "ap_medium": "map_medium",
    "ap_large": "map_large",
}
NO_BACKEND = "average precision needs a further package: pip install 'pruning_lit[detection]'"


def names_of_figures(masks: bool) -> list[str]:
    """Names of the figures, those of masks first."""
    return [*(f"mask_{name}" for name in FIGURES if masks), *FIGURES]


class CocoPrecision(Metric):
    """Average precision (AP) of boxes, or of masks and boxes, over all images.

    torchmetrics' own is told here what each process has seen, gathered once: its own exchange waits for ever where
    processes have different numbers of images.

    Args:
        masks: count masks, too.
        over_ranks: over the images of all processes; else this one computes for itself.

    Raises:
        ValueError: there is no package that computes it.
    """

    full_state_update = False

    def __init__(self, masks: bool, over_ranks: bool) -> None:
        super().__init__(sync_on_compute=False)
        self.kinds = ("segm", "bbox") if masks else ("bbox",)
        self.over_ranks = over_ranks
        self.seen = self._fresh()
        self.image_ids: list[int] = []

    def update(self, outputs: list[dict[str, Tensor]], targets: list[dict[str, Tensor]]) -> None:
        """Count the detections in some images.

        Args:
            outputs: of each image ``boxes``, ``scores``, ``labels`` and, where they count, boolean ``masks``.
            targets: of each image the same, ``area``, ``iscrowd`` and ``image_id``.
        """
        kept = ("boxes", "scores", "labels", "masks", "area", "iscrowd")
        found, true = (
            [{key: value.detach().cpu() for key, value in each.items() if key in kept} for each in given]
            for given in (outputs, targets)
        )
        for each in true:
            if "masks" in each:
                each["masks"] = each["masks"].bool()
        self.seen.update(found, true)
        self.image_ids += [int(each["image_id"]) for each in targets]

    def compute(self) -> dict[str, Tensor]:
        """The figures by name; those of sizes that no object has are no numbers."""
        names, parts = [*self.seen._defaults], [(self.image_ids, _lists(self.seen))]
        if self.over_ranks and torch.distributed.is_available() and torch.distributed.is_initialized():
            parts = [parts[0]] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, (self.image_ids, _lists(self.seen)))
        ids = [number for numbers, _ in parts for number in numbers]
        order = sorted(range(len(ids)), key=ids.__getitem__)  # among equal scores the earlier image counts first
        whole = self._fresh()
        for name in names:
            values = [value for _, lists in parts for value in lists[name]]
            setattr(whole, name, [values[position] for position in order] if values else [])
        whole._update_count = 1
        figures = whole.compute()
        return {name: _number(figures[self._key(name)]) for name in names_of_figures("segm" in self.kinds)}

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self.seen.reset()
        self.image_ids = []

    def _key(self, name: str) -> str:
        """The name of a figure in torchmetrics."""
        key = FIGURES[name.removeprefix("mask_")]
        if len(self.kinds) == 1:
            return key
        return f"{'segm' if name.startswith('mask_') else 'bbox'}_{key}"

    def _fresh(self) -> MeanAveragePrecision:
        backend = next((each for each in BACKENDS if importlib.util.find_spec(each)), None)
        if backend is None:
            raise ValueError(NO_BACKEND)
        thresholds = {  # as COCO has them: torchmetrics' own are of single precision, where 0.1 is more than a tenth
            "iou_thresholds": np.linspace(0.5, 0.95, 10).tolist(),
            "rec_thresholds": np.linspace(0, 1, 101).tolist(),
        }
        metric = MeanAveragePrecision(iou_type=self.kinds, backend=backend, sync_on_compute=False, **thresholds)  # type: ignore[arg-type]
        metric.warn_on_many_detections = False
        return metric


def _lists(metric: MeanAveragePrecision) -> dict[str, list[Any]]:
    return {name: list(getattr(metric, name)) for name in metric._defaults}


def _number(value: Tensor) -> Tensor:
    """COCO writes -1 where there is nothing to count."""
    return value if float(value) >= 0 else torch.tensor(math.nan)
