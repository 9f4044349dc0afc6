"""Shape of the images and number of classes as far as a config tells them, without reading any image."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from pruning_lit.command_line.class_facts import constant

#: Builders by the beginning of their names, and the images they are documented for.
NETWORKS = {
    "pruning_lit.models.torchvision_model": (3, 224, 224),
    "torchvision.models.": (3, 224, 224),
    # detectors resize images themselves
    "pruning_lit.models.torchvision_detector": (3, 300, 300),
    "pruning_lit.models.ssd": (3, 300, 300),
    "pruning_lit.models.maskrcnn": (3, 300, 300),
}


@dataclass(frozen=True)
class Input:
    """Input shape and number of classes of a network.

    Attributes:
        shape: of one image, (C, H, W), or of a cloud, (points, 3 or 6).
        num_classes: what there is to tell apart; None: as many as the network has by default.
        source: where the shape comes from, in words.
    """

    shape: tuple[int, ...]
    num_classes: int | None
    source: str


def expected_input(config: DictConfig, dataset_named: bool) -> Input:
    """Input shape and number of classes that the network of ``config`` will be given.

    Args:
        config: with ``arch``, ``dataset``, ``input_shape`` and ``num_classes``.
        dataset_named: whether the user has chosen the data set; otherwise the network's own size goes first.

    Raises:
        ValueError: the shape is not known, or is none; or there are fewer than two classes.
    """
    if config.num_classes is not None and config.num_classes < 2:
        raise ValueError(f"num_classes is {config.num_classes}, but at least 2 are told apart")
    own = next((shape for name, shape in NETWORKS.items() if str(config.arch._target_).startswith(name)), None)
    shape, num_classes = _of_dataset(config.dataset)
    source = f"those of {config.dataset._target_.rpartition('.')[2]}"
    if own is not None and (shape is None or not dataset_named):
        shape, source = own, "the size this network is made for"
    if own is not None and not dataset_named:
        num_classes = None
    if config.input_shape is not None:
        shape, source = _given(config.input_shape), "input_shape"
    if shape is None:
        raise ValueError("the size of the images is known only once they are read: give it as input_shape=[3,H,W]")
    return Input(shape, config.num_classes or num_classes, source)


def always(target: str) -> tuple[tuple[int, ...] | None, int | None]:
    """Shape of the inputs and number of classes of a data set in here, where these are always the same."""
    known = target.startswith("pruning_lit.data.")
    return (constant(target, "always_shape"), constant(target, "always_classes")) if known else (None, None)


def _of_dataset(dataset: DictConfig) -> tuple[tuple[int, ...] | None, int | None]:
    """Shape and number of classes, as far as the config and the names of the folders tell them."""
    shape, num_classes = always(str(dataset._target_))
    if shape is not None:
        return shape, num_classes
    if num_points := dataset.get("num_points"):
        return (num_points, 6 if dataset.get("normals") else 3), num_classes
    size = dataset.get("image_size") or dataset.get("size") or constant(str(dataset._target_), "example_size")
    sides = [size, size] if isinstance(size, int) else size
    shape = (len(dataset.get("mean") or "RGB"), *sides) if sides else None
    train = None if "root" not in dataset else Path(dataset.root) / "train"  # `in` is false where root is ???
    classes = sum(each.is_dir() for each in train.iterdir()) if train is not None and train.is_dir() else 0
    return shape, classes or num_classes


def _given(shape: object) -> tuple[int, ...]:
    numbers: tuple[int, ...] = tuple(shape) if isinstance(shape, ListConfig) else ()
    if not numbers or any(not isinstance(each, int) or each < 1 for each in numbers):
        raise ValueError(f"input_shape is {shape}, expected positive whole numbers such as [3,224,224]")
    return numbers
