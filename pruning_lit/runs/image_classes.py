"""Classes of images of one's own, told by a finished classifier."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from pruning_lit.data.augment import normalise
from pruning_lit.data.imagenet import ImageNet
from pruning_lit.data.on_disk import Preparation
from pruning_lit.runs.preprocessing import TrainingInputs
from pruning_lit.system.atomic import write_text

NUM_TOLD = 3  # classes of an image that are printed


def classify(
    net: nn.Module,
    images: Iterable[tuple[str, Image.Image]],
    trained_on: TrainingInputs,
    dataset: Mapping[str, Any] | None,
    target: Path,
    threshold: float | None = None,
) -> None:
    """Write the class of each image, and the probabilities of all, as a table; print the likeliest ones.

    Of a network for any number of classes these are all that are found, joined by semicolons, under ``classes``.

    Args:
        net: a classifier in eval mode, on its device.
        images: with the names that they get in the table.
        trained_on: by which sizes and normalisation images are prepared, and what classes are called.
        dataset: settings of the data set that the network was trained on, where they are known.
        target: a CSV file: ``file``, ``class``, ``probability``, and a column for every class.
        threshold: probability from which a class is found, in networks for any number of them; None: for just one.

    Raises:
        ValueError: nothing says how images are prepared, or the network is no classifier.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    for number, (name, probabilities) in enumerate(_probabilities(net, images, trained_on, dataset, threshold)):
        classes, columns = names_of(trained_on.classes, len(probabilities)), [f"{each:.6f}" for each in probabilities]
        order = probabilities.argsort(descending=True, stable=True).tolist()
        if threshold is None:
            head, told = ["class", "probability"], order[:NUM_TOLD]
            row = [classes[order[0]], columns[order[0]]]
        else:
            head, told = ["classes"], [each for each in order if probabilities[each] >= threshold]
            row = [";".join(classes[each] for each in told)]
        if number == 0:
            writer.writerow(["file", *head, *classes])
        writer.writerow([name, *row, *columns])
        print(f"{name}: {', '.join(f'{classes[each]} {probabilities[each]:.2f}' for each in told) or 'nothing'}")
    write_text(target, table.getvalue())


def names_of(classes: Sequence[str] | None, number: int) -> list[str]:
    """Names of the classes, or their numbers, where names are not known or not those of this network."""
    return [*classes] if classes is not None and len(classes) == number else [str(each) for each in range(number)]


@torch.no_grad()
def _probabilities(
    net: nn.Module,
    images: Iterable[tuple[str, Image.Image]],
    trained_on: TrainingInputs,
    dataset: Mapping[str, Any] | None,
    threshold: float | None,
) -> Iterator[tuple[str, Tensor]]:
    if trained_on.shape is None or trained_on.mean is None or trained_on.std is None:
        raise ValueError(
            "nothing says how the network's images were prepared (size, mean, std): name the folder of a run, or a "
            "network file that a run has written"
        )
    weights = next(net.parameters())
    mean, std = (torch.tensor([*values], device=weights.device) for values in (trained_on.mean, trained_on.std))
    for name, each in images:
        image = prepared(each, trained_on.shape, dataset or {})
        logits = net(normalise(image[None].to(weights.device), mean, std).to(weights))
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise ValueError(
                f"the network returns {found}: predict takes detectors, and classifiers, which return (N, C)"
            )
        exact = logits[0].double()
        yield name, (exact.softmax(0) if threshold is None else exact.sigmoid()).cpu()


def prepared(image: Image.Image, shape: Sequence[int], dataset: Mapping[str, Any]) -> Tensor:
    """The middle of an image, uint8 ``(C, H, W)``, as the data set prepares those that it evaluates.

    Args:
        image: of any size.
        shape: that of the network's inputs; with one channel, grey levels.
        dataset: its settings; empty: not known.
    """
    channels, height, width = shape
    if channels == 1:
        image = image.convert("L")
    if str(dataset.get("_target_", "")).endswith(f".{ImageNet.__name__}"):
        resized = dataset.get("resize_size") or round(height * 8 / 7)
        return Preparation(height, resized, scale=(1.0, 1.0), flip=False).for_evaluation(image)
    return F.pil_to_tensor(ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR))
