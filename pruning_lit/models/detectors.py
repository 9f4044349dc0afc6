"""torchvision's detectors with a ResNet-50 and a feature pyramid, of which the norms may be frozen."""

from collections.abc import Iterator
from typing import Any, Literal

from torch import nn

from pruning_lit.models.published import full_name
from pruning_lit.models.torchvision import torchvision_model
from pruning_lit.models.weights import load_weights

TRAINED_WITHOUT_EPS = ("fasterrcnn", "keypointrcnn", "maskrcnn", "retinanet")  # the first ones: <name>_resnet50_fpn


def torchvision_detector(
    name: str,
    num_classes: int = 91,
    weights: str | None = None,
    norm: Literal["batch", "frozen"] = "frozen",
    **options: Any,
) -> nn.Module:
    """Build a detector of torchvision, with batch norms in its backbone that are trained, or that stay as they are.

    Args:
        name: as in ``torchvision.models.list_models()``, for instance ``fasterrcnn_resnet50_fpn``.
        num_classes: number of classes, background included; 91 in the weights that are published.
        weights: those of this detector that torchvision publishes, ``COCO_V1``; downloaded once. None: fresh ones.
        norm: of the backbone. ``frozen``: statistics, scales and shifts stay as the weights have them, as torchvision
            fine-tunes with few images at a time. ``batch``: they are trained, which a start from scratch needs.
        options: further arguments of that detector's builder (``min_size``, ``weights_backbone``), passed on.

    Raises:
        ValueError: torchvision has no network or no weights of that name, or they have other classes; or there is no
            such norm.
        FileNotFoundError: the weights cannot be fetched.
    """
    if norm not in ("batch", "frozen"):
        raise ValueError(f"arch.norm must be 'batch' or 'frozen', got {norm!r}")
    net: Any = torchvision_model(name, num_classes, **options)
    _replace_norms(net.backbone, norm)
    if weights is not None:
        load_weights(net, full_name(name, weights))
        if weights == "COCO_V1" and name in [f"{each}_resnet50_fpn" for each in TRAINED_WITHOUT_EPS]:
            _take_eps_from_variances(net.backbone)
    return net


def _replace_norms(module: nn.Module, norm: Literal["batch", "frozen"]) -> None:
    from torchvision.ops import FrozenBatchNorm2d

    kind: Any = FrozenBatchNorm2d if norm == "frozen" else nn.BatchNorm2d
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d | FrozenBatchNorm2d) and not isinstance(child, kind):
                replacement = kind(len(child.weight), eps=child.eps)
                replacement.load_state_dict(child.state_dict(), strict=False)  # only batch norms count batches
                setattr(parent, name, replacement)


def _take_eps_from_variances(module: nn.Module) -> None:
    """Let norms do what they did in training, where nothing was added to variances, by taking off what is added now."""
    layers: Iterator[Any] = module.modules()
    for layer in layers:
        if hasattr(layer, "running_var"):
            layer.running_var -= layer.eps
