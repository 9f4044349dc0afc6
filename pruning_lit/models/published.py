"""Weights that torchvision publishes, by the names of its enums; fetched once and kept in torch's hub folder."""

import os

from torch import Tensor

#: Detectors that were trained with norms that added nothing to variances; torchvision's builders set their eps to 0.
WITHOUT_EPS = {
    f"{name}_ResNet50_FPN_Weights.COCO_V1" for name in ("FasterRCNN", "KeypointRCNN", "MaskRCNN", "RetinaNet")
}
EPS = 1e-5  # of the norms into which they are loaded


def full_name(network: str, weights: str) -> str:
    """The name that stands for some of a network's weights: ``resnet50``, ``V1`` to ``ResNet50_Weights.V1``.

    Raises:
        ValueError: torchvision publishes no weights of that name for the network.
    """
    from torchvision import models  # late, here and below, as for the networks

    enum = models.get_model_weights(network)
    if weights not in enum.__members__:
        there = ", ".join(enum.__members__) or "none"
        raise ValueError(f"torchvision publishes no weights {weights!r} for {network!r}; there are {there}")
    return f"{enum.__name__}.{weights}"


def published_weights(name: str) -> dict[str, Tensor]:
    """The state dict that a name stands for, from torch's hub folder or, the first time, from the network.

    Of weights that were trained with norms without an eps, it is taken off the variances to which ours add it.

    Args:
        name: in full, such as ``ResNet50_Weights.IMAGENET1K_V1``.

    Raises:
        ValueError: torchvision publishes no weights of that name.
        FileNotFoundError: they cannot be fetched.
    """
    from torchvision import models

    try:
        entry = models.get_weight(name)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"torchvision publishes no weights called {name!r}; a name is such as ResNet50_Weights.IMAGENET1K_V1"
        ) from error
    try:
        weights = entry.get_state_dict(check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: what arrived is not what was published
        raise FileNotFoundError(
            f"'{entry.url}' could not be downloaded ({error}): fetch {os.path.basename(entry.url)} elsewhere, then set "
            "weights=<its path> and leave arch.weights null"
        ) from error
    return without_eps(weights) if name in WITHOUT_EPS else weights


def without_eps(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict whose variances are smaller by the eps of norms, which had none in its training."""
    return {key: each - EPS if key.endswith("running_var") else each for key, each in weights.items()}


def is_published_without_eps(file: str) -> bool:
    """True for the name of a file in which torchvision publishes weights that were trained without an eps."""
    if not file.startswith(tuple(f"{name.partition('_')[0].lower()}_resnet50_fpn_coco-" for name in WITHOUT_EPS)):
        return False
    from torchvision import models

    return file in {os.path.basename(models.get_weight(name).url) for name in WITHOUT_EPS}
