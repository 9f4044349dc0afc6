"""PointNet for the classification of point clouds."""

import torch
from torch import Tensor, nn

from pruning_lit.models.pointnet2_networks import classifier, require_cloud
from pruning_lit.models.set_abstraction import shared_layers
from pruning_lit.models.start import batch_norm_scales


class PointNet(nn.Module):
    """Layers on every point, the largest value of each channel over the cloud, and a classifier.

    A small network of the same kind turns the coordinates first, by a matrix of 3 x 3 that starts at the identity. The
    transform of features, which the paper adds with a term of the loss of its own, is left out.

    Args:
        num_classes: width of the output.
        normals: clouds are ``(B, N, 6)``, with normals, else ``(B, N, 3)``.
        width: channels of all layers, as a share of the paper's.
        norm_scale: where the scales of the batch norms start.

    Shape: ``(B, N, 3)``, with normals ``(B, N, 6)``, to logits ``(B, num_classes)``.

    Source: Qi et al. 2017, "PointNet: Deep Learning on Point Sets for 3D Classification and Segmentation", section 4
    and appendix C.
    """

    def __init__(self, num_classes: int, normals: bool, width: float, norm_scale: float) -> None:
        super().__init__()
        narrow, middle, wide, hidden1, hidden2 = (
            max(1, round(width * channels)) for channels in (64, 128, 1024, 512, 256)
        )
        inputs = 6 if normals else 3
        self.normals, self.norm_scale = normals, norm_scale
        self.transform = nn.Sequential(
            shared_layers(inputs, [narrow, middle, wide], dims=1),
            nn.AdaptiveMaxPool1d(1),
            nn.Flatten(),
            classifier(wide, (hidden1, hidden2), (0.0, 0.0), 9),
        )
        self.layers = shared_layers(inputs, [narrow, narrow, narrow, middle, wide], dims=1)
        self.head = classifier(wide, (hidden1, hidden2), (0.0, 0.3), num_classes)
        self.initialise()

    def initialise(self) -> None:
        """Let the transform start at the identity, and the scales of the batch norms where they are to."""
        *_, last = (module for module in self.transform.modules() if isinstance(module, nn.Linear))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        batch_norm_scales(self, self.norm_scale)

    def forward(self, cloud: Tensor) -> Tensor:
        """Logits of clouds.

        Raises:
            ValueError: the clouds have normals and the network takes none, or the other way round.
        """
        require_cloud(cloud, self.normals)
        turn = self.transform(cloud.mT).unflatten(1, (3, 3)) + torch.eye(3).to(cloud)
        parts = [cloud[..., :3] @ turn, cloud[..., 3:]] if self.normals else [cloud @ turn]
        return self.head(self.layers(torch.cat(parts, 2).mT).amax(2))


def pointnet(num_classes: int = 40, normals: bool = False, width: float = 1.0, norm_scale: float = 1.0) -> PointNet:
    """PointNet with its transform of the coordinates.

    Args:
        num_classes: width of the output.
        normals: clouds are ``(B, N, 6)``, with normals, else ``(B, N, 3)``.
        width: channels of all layers, as a share of the paper's.
        norm_scale: where the scales of the batch norms start.

    Raises:
        ValueError: the width is not above 0.

    Source: see ``PointNet``.
    """
    if not width > 0:
        raise ValueError(f"arch.width must be above 0, got {width}")
    return PointNet(num_classes, normals, width, norm_scale)
