"""Any network of torchvision, by its name there."""

import inspect
from difflib import get_close_matches
from typing import Any

from torch import nn

from pruning_lit.models.published import full_name
from pruning_lit.models.start import batch_norm_scales
from pruning_lit.models.weights import load_weights
from pruning_lit.system.loading import loading


def torchvision_model(
    name: str, num_classes: int = 1000, weights: str | None = None, norm_scale: float = 1.0, **options: Any
) -> nn.Module:
    """Build a torchvision network, with fresh weights unless told otherwise.

    Args:
        name: as in ``torchvision.models.list_models()``, for instance ``resnet50``.
        num_classes: width of the output.
        weights: those of this network that torchvision publishes, for instance ``IMAGENET1K_V1``, for as many classes
            as they were trained with; they are downloaded once. None: nothing is downloaded.
        norm_scale: where the scales of the batch norms start, unless weights are given; 1: where torchvision's do.
        options: further arguments of that network's builder, passed on as they are.

    Returns:
        The network; input and output are as torchvision documents them.

    Raises:
        ValueError: torchvision has no network or no weights of that name, or they have other classes; or
            ``zero_init_residual`` lets some scales start at 0 against ``norm_scale``.
        FileNotFoundError: the weights cannot be fetched.
    """
    with loading():  # late: it takes as long as torch, and few networks are torchvision's
        from torchvision import models
    if name not in models.list_models():
        close = get_close_matches(name, models.list_models()) or ["see torchvision.models.list_models()"]
        raise ValueError(f"torchvision has no network {name!r}; closest names: {', '.join(close)}")
    if norm_scale != 1 and options.get("zero_init_residual"):
        raise ValueError(
            f"norm_scale={norm_scale} lets the scales of all batch norms start there, zero_init_residual=true those at "
            "the ends of blocks at 0: leave one of them out"
        )
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        options.setdefault("weights_backbone", None)  # detectors would otherwise download their backbone
    net: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **options)
    if norm_scale != 1:
        batch_norm_scales(net, norm_scale)
    if weights is not None:
        load_weights(net, full_name(name, weights))
    return net
