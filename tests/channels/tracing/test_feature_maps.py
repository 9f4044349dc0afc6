"""A feature map is the one that the next consumer sees, caught before anything overwrites it."""

import torch
from torch import nn

from pruning_lit.channels import observe, trace
from pruning_lit.models import cifar_resnet, vgg_bn


def caught(net: nn.Module, images: torch.Tensor, name: str, size: int = 32) -> list[torch.Tensor]:
    graph = trace(net, torch.zeros(1, 3, size, size))
    maps: dict[int, torch.Tensor] = {}
    observe(
        net,
        (images,),
        {t.operation: lambda m, t=t: maps.update({t.operation: m.clone()}) for t in graph[name].feature_maps},
    )
    return [maps[operation] for operation in sorted(maps)]


def test_the_map_is_behind_normalisation_in_place_activation_and_pooling():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    net = nn.Sequential(conv, norm, nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 2, 3)).eval()
    images = torch.randn(5, 3, 32, 32)  # not the batch size it was traced with
    (found,) = caught(net, images, "0")
    torch.testing.assert_close(found, nn.functional.max_pool2d(norm(conv(images)).relu(), 2))


def test_an_activation_overwritten_later_is_caught_as_it_was():
    torch.manual_seed(0)

    class Overwriting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            x = self.first(x).relu_()
            y = self.second(x)
            return y + x.mul_(0.0)

    net, images = Overwriting().eval(), torch.randn(2, 3, 32, 32)
    found = caught(net, images, "first")
    assert any(torch.equal(maps, net.first(images).relu()) for maps in found)


def test_a_stream_has_one_map_per_block_the_block_s_output():
    torch.manual_seed(0)
    net, images = cifar_resnet(20).eval(), torch.randn(2, 3, 32, 32)
    outputs = []
    for block in net.layer2:
        block.register_forward_hook(lambda _module, _args, output: outputs.append(output.clone()))
    net(images)
    expected = list(outputs)
    for found, output in zip(caught(net, images, "layer2.0.conv2"), expected, strict=True):
        torch.testing.assert_close(found, output)


def test_global_pooling_is_not_walked_through():
    net = vgg_bn(16).eval()
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    shapes = {}
    listeners = {
        feature_map.operation: lambda maps, name=group.name: shapes.update({name: tuple(maps.shape[1:])})
        for group in graph.groups
        for feature_map in group.feature_maps
    }
    observe(net, (torch.zeros(1, 3, 32, 32),), listeners)
    assert shapes["features.conv1"] == (64, 32, 32)
    assert shapes["features.conv2"] == (64, 16, 16)  # pooled
    assert shapes["features.conv10"] == (512, 2, 2)  # pooled
    assert shapes["features.conv13"] == (512, 2, 2)  # the average over it is global
