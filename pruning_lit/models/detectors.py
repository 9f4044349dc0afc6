"""torchvision's detectors with a ResNet-50 and a feature pyramid, of which the norms may be frozen."""

from typing import Any, Literal

from torch import nn

from pruning_lit.models.published import full_name
from pruning_lit.models.torchvision import torchvision_model
from pruning_lit.models.weights import load_weights


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
            fine-tunes with few images at a time; without weights, residual branches are scaled down, so that they do
            not add up beyond bounds. ``batch``: they are trained, as a start from scratch should.
        options: further arguments of that detector's builder (``min_size``, ``weights_backbone``), passed on.

    Raises:
        ValueError: torchvision has no network or no weights of that name, or they have other classes; or there is no
            such norm.
        FileNotFoundError: the weights cannot be fetched.

    Source: of that scale De and Smith 2020, "Batch Normalization Biases Residual Blocks Towards the Identity Function
    in Deep Networks", section 3.
    """
    if norm not in ("batch", "frozen"):
        raise ValueError(f"arch.norm must be 'batch' or 'frozen', got {norm!r}")
    net: Any = torchvision_model(name, num_classes, **options)
    if _replace_norms(net.backbone, norm) and norm == "frozen":
        _scale_branches(net.backbone)
    if weights is not None:
        load_weights(net, full_name(name, weights))
    return net


def _replace_norms(module: nn.Module, norm: Literal["batch", "frozen"]) -> bool:
    """Make all norms of one kind, in place; False where they were."""
    from torchvision.ops import FrozenBatchNorm2d

    kind: Any = FrozenBatchNorm2d if norm == "frozen" else nn.BatchNorm2d
    replaced = False
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d | FrozenBatchNorm2d) and not isinstance(child, kind):
                replacement = kind(len(child.weight), eps=child.eps)
                replacement.load_state_dict(child.state_dict(), strict=False)  # only batch norms count batches
                setattr(parent, name, replacement)
                replaced = True
    return replaced


def _scale_branches(module: nn.Module) -> None:
    """Let the branches of all residual blocks together add as much to their stream as is in it, in place."""
    from torchvision.models.resnet import Bottleneck

    blocks = [each for each in module.modules() if isinstance(each, Bottleneck)]
    for block in blocks:
        nn.init.constant_(block.bn3.weight, len(blocks) ** -0.5)
