"""Training images of a network, as far as its file tells, against those of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pruning_lit.data import DataModule, ImageData

Normalisation = tuple[Tensor, Tensor]  # mean and standard deviation of each channel on the scale 0 … 1, (C,)


@dataclass(frozen=True)
class TrainingInputs:
    """Facts of a network's training images; None: not known.

    Args:
        mean, std: by which they were normalised, of each channel on the scale 0 … 1.
        shape: of one image, (C, H, W).
        classes: their names, in the order of the network's outputs.
        num_classes: how many there are, where their names are not known.
        category_ids: the number of each class in annotations of boxes.
        threshold: probability from which a class is found, of a network for any number of classes.
    """

    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    shape: Sequence[int] | None = None
    classes: Sequence[str] | None = None
    num_classes: int | None = None
    category_ids: Sequence[int] | None = None
    threshold: float | None = None

    @classmethod
    def of_header(cls, header: dict[str, Any]) -> Self:
        """Read the ``images`` in the header of a network file; unknown keys are ignored."""
        images = header.get("pictures") or {}
        return cls(**{key: images.get(key) for key in ("mean", "std", "shape", "classes", "category_ids", "threshold")})

    def require_alike(self, data: "DataModule", path: str) -> None:
        """Refuse images of another size or other classes than the network of ``path`` was made for: ValueError."""
        if self.shape is not None and tuple(self.shape) != tuple(data.shape):
            raise ValueError(
                f"{path!r} was trained on images of {_size(self.shape)}, those of the data set are "
                f"{_size(data.shape)}: bring them to that size, as dataset=image_folder does by dataset.size=…"
            )
        num_classes = self.num_classes if self.classes is None else len(self.classes)
        if num_classes is not None and num_classes != data.num_classes:
            raise ValueError(
                f"{path!r} tells {num_classes} classes apart{_listed(self.classes)}, the data set has "
                f"{data.num_classes}{_listed(data.classes)}: choose images of the classes it was trained on"
            )

    def note_on_names(self, data: "DataModule", path: str) -> str | None:
        """Note on classes of other names, where there are as many: which output means which is then anybody's guess."""
        if self.classes is None or data.classes is None or list(self.classes) == data.classes:
            return None
        return (
            f"The classes of {path!r} are called otherwise{_listed(self.classes)} than those of the data set"
            f"{_listed(data.classes)}; they are taken for each other in this order."
        )

    def normalisation(self, data: "ImageData", path: str) -> tuple[Normalisation, str | None]:
        """Normalisation of the network's training, or that of ``data`` where it is not known.

        Returns:
            Also a sentence, unless it is the same.

        Raises:
            ValueError: what is known is no mean and standard deviation for these images.
        """
        own = data.mean, data.std
        if self.mean is None or self.std is None:
            note = "does not say how its images were normalised: it was done by dataset.mean and dataset.std."
            return own, f"{path!r} {note}"
        stored = _vector(self.mean), _vector(self.std)
        if any(values.shape != data.mean.shape for values in stored) or not (stored[1] > 0).all():
            raise ValueError(
                f"{path!r} says that its images were normalised by mean {self.mean} and std {self.std}, expected "
                f"{len(data.mean)} numbers each, the latter above 0: normalisation=dataset takes those of the data set"
            )
        otherwise = self.normalised_otherwise(data)
        return stored, otherwise and f"Images for {path!r} were normalised as in its training, {otherwise}."

    def normalised_otherwise(self, data: "ImageData") -> str | None:
        """Words on the normalisation of the network's training; None where it is that of ``data``, or not known."""
        if self.mean is None or self.std is None:
            return None
        stored, own = (_vector(self.mean), _vector(self.std)), (data.mean, data.std)
        if all(one.shape == other.shape and torch.allclose(one, other) for one, other in zip(stored, own, strict=True)):
            return None
        (mean, std), (own_mean, own_std) = (map(_numbers, way) for way in (stored, own))
        return f"by mean {mean} and std {std}, not by the data set's {own_mean} and {own_std}"


def _vector(values: Sequence[float]) -> Tensor:
    """Vector of any length; empty for what are no numbers."""
    try:
        return torch.tensor(list(values), dtype=torch.float32)
    except (TypeError, ValueError):
        return torch.empty(0)


def _numbers(values: Tensor) -> str:
    return f"[{', '.join(f'{value:.4g}' for value in values.tolist())}]"


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _listed(classes: Sequence[str] | None, most: int = 3) -> str:
    """Names of classes in brackets, `` (cat, dog, …)``, or nothing."""
    if not classes:
        return ""
    return f" ({', '.join([*map(str, classes[:most]), *['…'] * (len(classes) > most)])})"
