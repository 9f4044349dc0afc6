"""Small PointNet++ (Qi et al. 2017), as they are mostly written: random centres, and float32 whatever comes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def pick(points: Tensor, index: Tensor) -> Tensor:
    """The points ``(B, N, C)`` at ``index``, shape ``(B, …)``: ``(B, …, C)``."""
    batch = torch.arange(len(points), device=points.device).view(-1, *[1] * (index.ndim - 1))
    return points[batch.expand_as(index), index, :]


def square_distances(ones: Tensor, others: Tensor) -> Tensor:
    product = -2 * torch.matmul(ones, others.permute(0, 2, 1))
    return product + (ones**2).sum(-1)[:, :, None] + (others**2).sum(-1)[:, None]


def farthest_points(cloud: Tensor, number: int) -> Tensor:
    """Each centre is the point that is farthest from those before; the first one is drawn at random."""
    batch, length, _ = cloud.shape
    centres = torch.zeros(batch, number, dtype=torch.long, device=cloud.device)
    nearest = torch.ones(batch, length, device=cloud.device) * 1e10
    last = torch.randint(0, length, (batch,), dtype=torch.long, device=cloud.device)
    for i in range(number):
        centres[:, i] = last
        distance = ((cloud - pick(cloud, last[:, None])) ** 2).sum(-1)
        closer = distance < nearest
        nearest[closer] = distance[closer]
        last = nearest.max(-1)[1]
    return centres


def ball(radius: float, size: int, cloud: Tensor, centres: Tensor) -> Tensor:
    """The first ``size`` points within the radius of each centre; the first one again where there are fewer."""
    length = cloud.shape[1]
    index = torch.arange(length, device=cloud.device).view(1, 1, -1).repeat(len(cloud), centres.shape[1], 1)
    index[square_distances(centres, cloud) > radius**2] = length
    index = index.sort(dim=-1)[0][:, :, :size]
    first = index[:, :, :1].repeat(1, 1, size)
    missing = index == length
    index[missing] = first[missing]
    return index


def stack(inputs: int, widths: tuple[int, ...], layer: type[nn.Module], norm: type[nn.Module]) -> nn.Sequential:
    sizes = zip((inputs, *widths), widths, strict=False)
    return nn.Sequential(*(nn.Sequential(layer(c, out, 1), norm(out), nn.ReLU()) for c, out in sizes))


class SetAbstraction(nn.Module):
    """Features of neighbourhoods, of a radius for each scale; of the whole cloud where ``centres`` is 0."""

    def __init__(self, centres: int, scales: list[tuple[float, int]], inputs: int, widths: list[tuple[int, ...]]):
        super().__init__()
        self.centres, self.scales = centres, scales
        self.stacks = nn.ModuleList(stack(inputs + 3, each, nn.Conv2d, nn.BatchNorm2d) for each in widths)

    def forward(self, cloud: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """``cloud``: (B, 3, N); ``features``: (B, C, N)."""
        cloud = cloud.permute(0, 2, 1)
        features = None if features is None else features.permute(0, 2, 1)
        if not self.centres:
            joined = cloud if features is None else torch.cat([cloud, features], -1)
            centres = torch.zeros(len(cloud), 1, 3, device=cloud.device)
            grouped = [joined[:, None]]
        else:
            centres = pick(cloud, farthest_points(cloud, self.centres))
            grouped = [self.group(cloud, features, centres, *scale) for scale in self.scales]
        maps = [net(each.permute(0, 3, 2, 1)).max(2)[0] for net, each in zip(self.stacks, grouped, strict=True)]
        return centres.permute(0, 2, 1), torch.cat(maps, 1)

    def group(self, cloud: Tensor, features: Tensor | None, centres: Tensor, radius: float, size: int) -> Tensor:
        index = ball(radius, size, cloud, centres)
        relative = pick(cloud, index) - centres[:, :, None]
        if features is None:
            return relative
        parts = [relative, pick(features, index)]
        return torch.cat(parts if len(self.scales) == 1 else parts[::-1], -1)


class FeaturePropagation(nn.Module):
    """From the three nearest coarse points to the fine ones."""

    def __init__(self, inputs: int, widths: tuple[int, ...]):
        super().__init__()
        self.stack = stack(inputs, widths, nn.Conv1d, nn.BatchNorm1d)

    def forward(self, fine: Tensor, coarse: Tensor, skip: Tensor, features: Tensor) -> Tensor:
        fine, coarse, features = (each.permute(0, 2, 1) for each in (fine, coarse, features))
        if coarse.shape[1] == 1:
            spread = features.repeat(1, fine.shape[1], 1)
        else:
            distances, index = square_distances(fine, coarse).sort(dim=-1)
            weights = 1.0 / (distances[:, :, :3] + 1e-8)
            weights = weights / weights.sum(2, keepdim=True)
            spread = (pick(features, index[:, :, :3]) * weights[..., None]).sum(2)
        return self.stack(torch.cat([skip.permute(0, 2, 1), spread], -1).permute(0, 2, 1))


SINGLE = [(0.5, 4)], [(0.8, 4)], [(4, 4, 6)], [(6, 6, 8)]
MULTI = [(0.3, 2), (0.5, 4), (0.8, 6)], [(0.4, 4), (0.6, 4), (0.9, 6)], [(4, 4, 6)] * 3, [(6, 6, 8)] * 3
MULTI_PARTS = MULTI[0], MULTI[1][1:], MULTI[2], MULTI[3][1:]


class Encoder(nn.Module):
    def __init__(self, inputs: int, scales, more_scales, widths, more_widths):
        super().__init__()
        self.one = SetAbstraction(12, scales, inputs, widths)
        self.wide = sum(each[-1] for each in widths), sum(each[-1] for each in more_widths), 12
        self.two = SetAbstraction(6, more_scales, self.wide[0], more_widths)
        self.three = SetAbstraction(0, [(0, 0)], self.wide[1], [(8, 10, 12)])


class Classifier(Encoder):
    """Log-probabilities, and the features of the whole cloud as a second output."""

    def __init__(self, *sizes):
        super().__init__(0, *sizes)
        self.fc1, self.fc2, self.fc3 = nn.Linear(12, 8), nn.Linear(8, 7), nn.Linear(7, 5)
        self.bn1, self.bn2, self.drop = nn.BatchNorm1d(8), nn.BatchNorm1d(7), nn.Dropout(0.4)

    def forward(self, cloud: Tensor) -> tuple[Tensor, Tensor]:
        whole = self.three(*self.two(*self.one(cloud, None)))[1]
        x = whole.view(len(cloud), 12)
        x = self.drop(F.relu(self.bn1(self.fc1(x))))
        x = self.drop(F.relu(self.bn2(self.fc2(x))))
        return F.log_softmax(self.fc3(x), -1), whole


class Parts(Encoder):
    """Part segmentation; the category of the cloud comes in as one-hot numbers."""

    def __init__(self, *sizes, last=(6, 6, 6)):
        super().__init__(3, *sizes)
        one, two, three = self.wide
        self.fp3, self.fp2 = FeaturePropagation(three + two, (8, 8)), FeaturePropagation(8 + one, (8, 6))
        self.fp1 = FeaturePropagation(6 + 4 + 6, last)
        self.conv1, self.bn1, self.drop = nn.Conv1d(last[-1], 6, 1), nn.BatchNorm1d(6), nn.Dropout(0.5)
        self.conv2 = nn.Conv1d(6, 7, 1)

    def forward(self, cloud: Tensor, category: Tensor) -> tuple[Tensor, Tensor]:
        one, features = self.one(cloud, cloud)
        two, more = self.two(one, features)
        three, whole = self.three(two, more)
        x = self.fp2(one, two, features, self.fp3(two, three, more, whole))
        which = category.view(len(cloud), 4, 1).repeat(1, 1, cloud.shape[2])
        x = self.fp1(cloud, one, torch.cat([which, cloud, cloud], 1), x)
        x = self.conv2(self.drop(F.relu(self.bn1(self.conv1(x)))))
        return F.log_softmax(x, 1).permute(0, 2, 1), whole


def networks() -> dict[str, tuple[nn.Module, int, int]]:
    """By name: the network, the number of its groups, and of those that can be pruned."""
    return {
        "classify, one scale": (Classifier(*SINGLE), 12, 10),
        "classify, three scales": (Classifier(*MULTI), 24, 22),
        "parts, one scale": (Parts(*SINGLE), 18, 16),
        "parts, three scales": (Parts(*MULTI_PARTS, last=(6, 6)), 26, 24),
    }


def example(net: nn.Module, number: int = 2) -> tuple[Tensor, ...]:
    """Clouds of 32 points on a sphere: of zeros all neighbourhoods would be one point."""
    clouds = F.normalize(torch.randn(number, 3, 32), dim=1)
    category = F.one_hot(torch.arange(number) % 4, 4).float()
    return (clouds, category) if isinstance(net, Parts) else (clouds,)
