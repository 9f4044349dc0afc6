"""Random windows of an image that leave every box whole enough, for SSD."""

import torch
from torch import Tensor
from torchvision.ops import box_iou

RULES = (None, -1.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # the image as it is; windows of any IoU; above 0.1, …


def draw_window(boxes: Tensor) -> tuple[Tensor, Tensor] | None:
    """Draw a window by torch's random state, until one is accepted; None stands for the whole image.

    Each try draws a rule first, so that the whole image is taken far more often than one time in seven.

    Args:
        boxes: shares of the image's sides, ``(n, 4)``.

    Returns:
        ``x1, y1, x2, y2`` in shares of the image's sides, ``(4,)``, and the boxes that it keeps, bool ``(n,)``.

    Source: Liu et al. 2016, "SSD: Single Shot MultiBox Detector", section 2.2, but with *every* box held against the
    least IoU where the paper asks for one: the rule of NVIDIA's DeepLearningExamples, and so of CHEX's release.
    """
    while (least := RULES[int(torch.randint(len(RULES), ()))]) is not None:
        sides = 0.3 + 0.7 * torch.rand(2)
        corner = torch.rand(2) * (1 - sides)
        window = torch.cat([corner, corner + sides])
        if 0.5 <= sides[0] / sides[1] <= 2 and (kept := inside(boxes, window, least)).any():
            return window, kept
    return None


def inside(boxes: Tensor, window: Tensor, least: float) -> Tensor:
    """Boxes that a window keeps, bool ``(n,)``: those with their centre inside; none where it is refused.

    Args:
        boxes: shares of the image's sides, ``(n, 4)``.
        window: likewise, ``(4,)``.
        least: above which the IoU of the window with every box has to be; below 0 any will do.
    """
    if not (box_iou(boxes, window[None]) > least).all():
        return torch.zeros(len(boxes), dtype=torch.bool)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centre > window[:2]) & (centre < window[2:])).all(1)


def cut_boxes(boxes: Tensor, window: Tensor) -> Tensor:
    """Boxes cut to a window, in shares of its sides.

    Args:
        boxes: shares of the image's sides, ``(n, 4)``.
        window: likewise, ``(4,)``.
    """
    corner, sides = window[:2].repeat(2), (window[2:] - window[:2]).repeat(2)
    return ((boxes - corner) / sides).clamp(0, 1)
