"""Any network of torchvision, by its name there."""

import inspect
from difflib import get_close_matches
from typing import Any

from torch import nn
from torchvision import models


def torchvision_model(name: str, num_classes: int = 1000, **options: Any) -> nn.Module:
    """Build a torchvision network with fresh weights; nothing is downloaded.

    Args:
        name: as in ``torchvision.models.list_models()``, for instance ``resnet50``.
        num_classes: width of the output.
        options: further arguments of that network's builder, passed on as they are.

    Returns:
        The network; input and output are as torchvision documents them.

    Raises:
        ValueError: torchvision has no network of that name.
    """
    if name not in models.list_models():
        close = get_close_matches(name, models.list_models()) or ["see torchvision.models.list_models()"]
        raise ValueError(f"torchvision has no network {name!r}; closest names: {', '.join(close)}")
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        options.setdefault("weights_backbone", None)  # detectors would otherwise download their backbone
    return models.get_model(name, weights=None, num_classes=num_classes, **options)
