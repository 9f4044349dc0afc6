"""Raw views of detectors: images to what the heads say, without anything that looks at predictions."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

#: Regions of interest (RoIs) in every image: left, top, right, bottom as shares of the image.
REGIONS = ((0.0, 0.0, 1.0, 1.0), (0.25, 0.25, 0.75, 1.0))
HEADS = ("box", "mask", "keypoint")  # of regions, in torchvision's names


def detector_view(net: nn.Module) -> nn.Module:
    """The raw view of a detector: the same network, with another forward.

    It shares the detector's ``__dict__``: modules, parameters, buffers, hooks and the mode are the same objects under
    the same names, and what is done to the one is done to the other. Its forward takes normalised images
    ``(N, 3, H, W)`` and returns what the heads say as plain tensors, without default boxes or anchors,
    non-maximum suppression, or anything that looks at predictions: what can be traced, counted, compared and exported.

    Args:
        net: torchvision's ``SSD``, ``RetinaNet``, ``FCOS``, ``FasterRCNN``, ``MaskRCNN`` or ``KeypointRCNN``, or of a
            class that is derived from one; or any network with a method ``raw_outputs(images)``, which is then the
            forward of its view.

    Returns:
        The view. Where heads are applied to regions of the image, its ``regions`` says to how many; see
        ``channels.ChannelGraph.with_regions``.

    Raises:
        ValueError: the network is no such detector.
    """
    if (kind := _view_class(net)) is None:
        raise ValueError(
            f"a detector must be torchvision's SSD, RetinaNet, FCOS, Faster R-CNN or Mask R-CNN, or have a method "
            f"raw_outputs(images), to be pruned; got {type(net).__name__}"
        )
    view: nn.Module = object.__new__(kind)
    object.__setattr__(view, "__dict__", net.__dict__)  # not a copy of it
    return view


def view_size(net: nn.Module) -> tuple[int, int]:
    """Height and width in pixels at which a detector of torchvision is traced and counted.

    The size to which it resizes all images, where it does; else that of an image whose sides are the smallest and the
    largest that it allows, padded as it pads them (800 and 1333: 800 x 1344).
    """
    transform: Any = net.transform
    if transform.fixed_size is not None:
        width, height = transform.fixed_size
        return height, width
    multiple = transform.size_divisible
    height, width = (-(-side // multiple) * multiple for side in (transform.min_size[-1], transform.max_size))
    return height, width


class DenseView(nn.Module):
    """Raw view of a detector that predicts everywhere: SSD, RetinaNet, FCOS."""

    backbone: nn.Module
    head: nn.Module

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Predictions of the heads, by name: scores ``(N, boxes, classes)`` and codes ``(N, boxes, 4)`` of all maps."""
        return self.head(list(_by_name(self.backbone(images)).values()))


class RegionView(nn.Module):
    """Raw view of a detector in two stages: Faster, Mask and Keypoint R-CNN.

    The heads of regions get a fixed grid of them, the same in every image.
    """

    backbone: nn.Module
    rpn: Any
    roi_heads: Any

    def forward(self, images: Tensor) -> dict[str, list[Tensor]]:
        """Maps of proposals per level, and what the heads say of regions, by name.

        Returns:
            ``proposals``: objectness ``(N, anchors, h, w)`` of all levels, then codes ``(N, 4 * anchors, h, w)`` of
            all; ``box``: logits and codes, ``(R, classes)`` and ``(R, 4 * classes)``; ``mask`` and ``keypoint``, where
            there are such heads: maps ``(R, classes, h, w)``. The R regions are those of the first image,
            of the second, and so on.
        """
        maps = _by_name(self.backbone(images))
        objectness, codes = self.rpn.head(list(maps.values()))
        said = {"proposals": [*objectness, *codes]}
        for part, head in self._heads().items():
            outputs = head["predictor"](head["head"](_pooled(maps, head["roi_pool"])))
            said[part] = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        return said

    @property
    def regions(self) -> dict[str, int]:
        """Regions for each image, by path of the heads' modules: as many as the detector looks at, at most, in eval."""
        boxes, detections = self.rpn._post_nms_top_n["testing"], self.roi_heads.detections_per_img
        return {
            f"roi_heads.{part}_{piece}": boxes if part == "box" else detections
            for part, head in self._heads().items()
            for piece in ("head", "predictor")
            if any(True for _ in head[piece].parameters())
        }

    def _heads(self) -> dict[str, dict[str, nn.Module]]:
        """Pooling, head and predictor of every kind of head that there is."""
        return {
            part: {piece: getattr(self.roi_heads, f"{part}_{piece}") for piece in ("roi_pool", "head", "predictor")}
            for part in HEADS
            if getattr(self.roi_heads, f"{part}_head", None) is not None
        }


def _by_name(maps: Tensor | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return {"0": maps} if isinstance(maps, Tensor) else maps


def _pooled(maps: Mapping[str, Tensor], pool: Any) -> Tensor:
    """The fixed regions, pooled from all levels of the pyramid and averaged, shape ``(R, C, *output_size)``.

    A detector takes each region from one level, which it chooses by size; an average has all levels in it, and holds
    their channels together without a choice.
    """
    from torchvision.ops import roi_align

    levels = [level for name, level in maps.items() if name in pool.featmap_names]
    pooled = []
    for level in levels:
        grid = level.new_tensor(REGIONS) * level.new_tensor([level.shape[-1], level.shape[-2]] * 2)
        image = torch.arange(level.shape[0], device=level.device, dtype=level.dtype).repeat_interleave(len(REGIONS))
        regions = torch.cat(
            [image[:, None], grid.repeat(level.shape[0], 1)], 1
        )  # as many operations for any batch, and it can be exported
        pooled.append(roi_align(level, regions, pool.output_size, 1.0, pool.sampling_ratio))
    return sum(pooled[1:], pooled[0]) / len(pooled)


def is_detector(net: nn.Module) -> bool:
    """True for networks that have a raw view, see ``detector_view``."""
    return _view_class(net) is not None


def rounds_anchors(net: nn.Module) -> bool:
    """True for detectors that make anchors in the precision of their maps: torchvision's own."""
    return any(type(module).__module__.startswith("torchvision.models.detection.anchor") for module in net.modules())


def _view_class(net: nn.Module) -> type[nn.Module] | None:
    detection = sys.modules.get("torchvision.models.detection")  # of which none is where it was not loaded
    if detection is not None:
        if isinstance(net, detection.FasterRCNN):
            return RegionView
        if isinstance(net, detection.RetinaNet | detection.FCOS | detection.ssd.SSD):
            return DenseView
    own: Callable[..., Any] | None = getattr(type(net), "raw_outputs", None)
    return None if own is None else type(type(net).__name__, (type(net),), {"forward": own})
