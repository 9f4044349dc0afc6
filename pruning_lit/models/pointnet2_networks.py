"""The two networks of PointNet++: a classifier of clouds, and one of their points."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.models.feature_propagation import FeaturePropagation
from pruning_lit.models.set_abstraction import FirstCentre, GlobalAbstraction, SetAbstraction
from pruning_lit.models.start import batch_norm_scales


@dataclass(frozen=True)
class Level:
    """Sizes of a set abstraction.

    Attributes:
        radii: of the balls, one for each scale, in the unit of the coordinates.
        neighbours: points in a ball at most, for each scale.
        widths: channels of the layers, for each scale.
        num_centres: number of neighbourhoods.
    """

    radii: tuple[float, ...]
    neighbours: tuple[int, ...]
    widths: tuple[tuple[int, ...], ...]
    num_centres: int

    @property
    def outputs(self) -> int:
        """Channels that go out."""
        return sum(each[-1] for each in self.widths)

    def layer(self, inputs: int, first_centre: FirstCentre) -> SetAbstraction:
        """The set abstraction of these sizes."""
        return SetAbstraction(self.num_centres, self.radii, self.neighbours, inputs, self.widths, first_centre)


class PointNet2Classifier(nn.Module):
    """PointNet++ that classifies clouds: two set abstractions, a global one, and a classifier of three layers.

    Args:
        levels: sizes of the two set abstractions.
        whole: channels of the layers on all that is left of the cloud.
        hidden: channels of the classifier's two hidden layers.
        dropout: behind each of these.
        num_classes: width of the output.
        normals: whether clouds come with normals.
        norm_scale: where the scales of the batch norms start.
        first_centre: see ``SetAbstraction``.

    Shape: ``(B, N, 3)``, with normals ``(B, N, 6)``, to logits ``(B, num_classes)``.

    Source: Qi et al. 2017, "PointNet++: Deep Hierarchical Feature Learning on Point Sets in a Metric Space"; sizes and
    start are those of the public PyTorch version.
    """

    def __init__(
        self,
        levels: tuple[Level, Level],
        whole: Sequence[int],
        hidden: tuple[int, int],
        dropout: tuple[float, float],
        num_classes: int,
        normals: bool,
        norm_scale: float,
        first_centre: FirstCentre,
    ) -> None:
        super().__init__()
        self.normals, self.norm_scale = normals, norm_scale
        self.sa1 = levels[0].layer(3 if normals else 0, first_centre)
        self.sa2 = levels[1].layer(levels[0].outputs, first_centre)
        self.sa3 = GlobalAbstraction(levels[1].outputs, whole)
        self.head = classifier(whole[-1], hidden, dropout, num_classes)
        self.initialise()

    def initialise(self) -> None:
        """Set the scales of the batch norms back; all else starts as torch's layers do."""
        batch_norm_scales(self, self.norm_scale)

    def forward(self, cloud: Tensor) -> Tensor:
        """Logits of clouds.

        Raises:
            ValueError: the clouds have normals and the network takes none, or the other way round.
        """
        require_cloud(cloud, self.normals)
        points, normals = cloud[..., :3], cloud[..., 3:].mT if self.normals else None
        return self.head(self.sa3(*self.sa2(*self.sa1(points, normals))).flatten(1))


class PointNet2PartSegmentation(nn.Module):
    """PointNet++ that tells the parts of clouds of a known category.

    Three feature propagations lead back from the features of the whole cloud to every point. Coordinates, and normals
    where there are some, are the first features of the points; the category joins them at the end.

    Args:
        levels: sizes of the two set abstractions.
        whole: channels of the layers on all that is left of the cloud.
        propagation: channels of the layers of the three propagations, the coarsest first.
        hidden: channels of the last hidden layer.
        num_parts: parts of all categories.
        num_categories: number of categories.
        normals: whether clouds come with normals.
        norm_scale: where the scales of the batch norms start.
        first_centre: see ``SetAbstraction``.

    Shape: ``(B, N, 3)``, with normals ``(B, N, 6)``, and categories ``(B,)`` to logits ``(B, num_parts, N)``.

    Source: as ``PointNet2Classifier``.
    """

    def __init__(
        self,
        levels: tuple[Level, Level],
        whole: Sequence[int],
        propagation: Sequence[Sequence[int]],
        hidden: int,
        num_parts: int,
        num_categories: int,
        normals: bool,
        norm_scale: float,
        first_centre: FirstCentre,
    ) -> None:
        super().__init__()
        self.normals, self.num_categories, self.norm_scale = normals, num_categories, norm_scale
        given = 6 if normals else 3
        coarse, middle, fine = propagation
        self.sa1 = levels[0].layer(given, first_centre)
        self.sa2 = levels[1].layer(levels[0].outputs, first_centre)
        self.sa3 = GlobalAbstraction(levels[1].outputs, whole)
        self.fp3 = FeaturePropagation(levels[1].outputs + whole[-1], coarse)
        self.fp2 = FeaturePropagation(levels[0].outputs + coarse[-1], middle)
        self.fp1 = FeaturePropagation(num_categories + 3 + given + middle[-1], fine)
        self.head = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv1d(fine[-1], hidden, 1),
                bn1=nn.BatchNorm1d(hidden),
                relu1=nn.ReLU(inplace=True),
                dropout1=nn.Dropout(0.5),
                conv2=nn.Conv1d(hidden, num_parts, 1),
            )
        )
        self.initialise()

    def initialise(self) -> None:
        """Draw the two-dimensional convolutions anew and set the scales of the batch norms back.

        Xavier's normal start, and biases at zero; one-dimensional convolutions keep torch's own start.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        batch_norm_scales(self, self.norm_scale)

    def forward(self, cloud: Tensor, category: Tensor) -> Tensor:
        """Logits of all parts, of every point.

        Args:
            cloud: shape ``(B, N, 3)``, or ``(B, N, 6)`` with normals.
            category: of each cloud, from 0, int64, shape ``(B,)``.

        Raises:
            ValueError: the clouds have normals and the network takes none, or the other way round.
        """
        require_cloud(cloud, self.normals)
        points, given = cloud[..., :3], cloud.mT
        points1, features1 = self.sa1(points, given)
        points2, features2 = self.sa2(points1, features1)
        whole = self.sa3(points2, features2)
        features2 = self.fp3(points2, points2[:, :1], features2, whole)
        features1 = self.fp2(points1, points2, features1, features2)
        known = F.one_hot(category, self.num_categories).to(cloud)[..., None].expand(-1, -1, cloud.shape[1])
        return self.head(self.fp1(points, points1, torch.cat([known, points.mT, given], 1), features1))


def classifier(inputs: int, hidden: tuple[int, int], dropout: tuple[float, float], num_classes: int) -> nn.Sequential:
    """Three linear layers, the first two with batch norm, ReLU and dropout."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (width, share) in enumerate(zip(hidden, dropout, strict=True), start=1):
        layers[f"fc{number}"] = nn.Linear(inputs, width)
        layers[f"bn{number}"] = nn.BatchNorm1d(width)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        layers[f"dropout{number}"] = nn.Dropout(share)
        inputs = width
    layers["fc3"] = nn.Linear(inputs, num_classes)
    return nn.Sequential(layers)


def require_cloud(cloud: Tensor, normals: bool) -> None:
    """ValueError where these are no clouds ``(B, N, 3)``, or ``(B, N, 6)`` with normals."""
    if cloud.ndim != 3 or cloud.shape[2] != (6 if normals else 3):
        expected = "(B, N, 6), coordinates and normals" if normals else "(B, N, 3), coordinates alone"
        raise ValueError(
            f"arch.normals={str(normals).lower()}: the network takes clouds {expected}; got {tuple(cloud.shape)}"
        )
